//! Payload between a session and a store: the pieces that [`step`](super::Responder::step),
//! [`fill`](super::Responder::fill) and [`drain`](super::Responder::drain) are made of.

use super::list_room;
use crate::body::Payload;
use crate::crc::Crc32c;
use crate::error::{ErrorCode, Refusal};
use crate::frame::HEADER_LEN;
use crate::name::Name;
use crate::reply::list_line;
use crate::server::{Answer, ServerSession};
use crate::store::{Entry, EntryKind, Store};

/// The bytes of the piece of stack through which a `sum` reads.
const PIECE: usize = 256;
/// Pieces that a `sum` reads in one step.
const PIECES: u64 = 16;
/// Entries that an `ls` counts in one step.
const ENTRIES: usize = 16;

/// A `sum` that is under way.
pub(super) struct Sum<F> {
    file: F,
    at: u64,
    end: u64,
    length: u64,
    crc: Crc32c,
}

impl<F> Sum<F> {
    /// Over `length` bytes at `offset`, which are there.
    pub(super) const fn new(file: F, offset: u64, length: u64) -> Self {
        Self { file, at: offset, end: offset + length, length, crc: Crc32c::new() }
    }

    /// Reads on; the answer at the end.
    pub(super) fn step<S: Store<File = F>>(&mut self, store: &mut S) -> Result<Option<Answer>, Refusal> {
        let mut piece = [0; PIECE];
        for _ in 0..PIECES {
            let left = Payload::Send { remaining: self.end - self.at };
            let n = left.clamp(PIECE);
            if n == 0 {
                return Ok(Some(Answer::Sum { length: self.length, crc: self.crc.value() }));
            }
            let n = read_some(store, &mut self.file, self.at, &mut piece[..n])?;
            self.crc.update(&piece[..n]);
            self.at += n as u64;
        }
        Ok(None)
    }
}

/// What came of an attempt to send payload.
pub(super) enum Sent {
    /// That many bytes of the room are used; 0 if only the state has changed.
    Bytes(usize),
    /// The room is too small.
    Wait,
    /// There is no more of it.
    End,
}

/// At least one byte at `offset`.
fn read_some<S: Store>(store: &mut S, file: &mut S::File, offset: u64, buffer: &mut [u8]) -> Result<usize, Refusal> {
    match store.read_at(file, offset, buffer)? {
        // The bytes were there when the file was opened.
        0 => Err(ErrorCode::Changed.into()),
        n => Ok(n.min(buffer.len())),
    }
}

pub(super) fn append<S: Store>(store: &mut S, stage: &mut S::Stage, bytes: &[u8]) -> Result<(), Refusal> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match store.append(stage, rest)? {
            0 => return Err(ErrorCode::Io.into()),
            n => rest = &rest[n.min(rest.len())..],
        }
    }
    Ok(())
}

/// What a classic `ls` shows of an entry.
fn shown<'a>(entry: &Entry<'a>, name_max: u16) -> Option<&'a [u8]> {
    let name = entry.name;
    let shown = matches!(entry.kind, EntryKind::File(_)) && name.is_classic() && fits(name, name_max);
    shown.then_some(name.as_str().as_bytes())
}

/// A longer name can't be used in any command, so it is not shown either (PROTOCOL, reading 18).
fn fits(name: Name<'_>, name_max: u16) -> bool {
    name.as_str().len() <= name_max.into()
}

/// Adds up names and line ends; true at the end of the listing.
pub(super) fn count<S: Store>(
    store: &mut S,
    cursor: &mut S::Cursor,
    length: &mut u64,
    name_max: u16,
) -> Result<bool, Refusal> {
    for _ in 0..ENTRIES {
        let mut add = |entry: Entry<'_>| *length += shown(&entry, name_max).map_or(0, |name| name.len() as u64 + 1);
        if !store.next_entry(cursor, &mut add)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Payload of a `read`.
pub(super) fn read<S: Store, const BUF: usize>(
    session: &mut ServerSession<BUF>,
    store: &mut S,
    file: &mut S::File,
    offset: &mut u64,
    chunk: u32,
    room: &mut [u8],
) -> Result<Sent, ErrorCode> {
    let Some(payload) = session.payload() else {
        let left = session.unannounced().unwrap_or(0);
        if left == 0 {
            return Ok(Sent::End);
        }
        session.start_data(left.min(chunk.into())).map_err(|_| ErrorCode::Io)?;
        return Ok(Sent::Bytes(0));
    };
    let n = payload.clamp(room.len());
    let n = read_some(store, file, *offset, &mut room[..n]).map_err(|refusal| refusal.code)?;
    session.filter(&mut room[..n]);
    session.advance(n as u64).map_err(|_| ErrorCode::Io)?;
    *offset += n as u64;
    Ok(Sent::Bytes(n))
}

/// One data message of a `list`: as many lines as go into the room.
pub(super) fn list<S: Store, const BUF: usize>(
    session: &mut ServerSession<BUF>,
    store: &mut S,
    cursor: &mut S::Cursor,
    room: &mut [u8],
) -> Result<Sent, ErrorCode> {
    let name_max = session.limits().name_max;
    if room.len() < list_room(name_max) {
        return Ok(Sent::Wait);
    }
    let longest = list_room(name_max) - HEADER_LEN;
    let (head, lines) = room.split_at_mut(HEADER_LEN);
    let mut len = 0;
    let mut more = true;
    while more && lines.len() - len >= longest {
        let mut write = |entry: Entry<'_>| {
            if fits(entry.name, name_max) {
                len += list_line(&entry, &mut lines[len..]).unwrap_or(0);
            }
        };
        more = store.next_entry(cursor, &mut write).map_err(|refusal| refusal.code)?;
    }
    if len == 0 {
        return Ok(Sent::End);
    }
    session.start_data(len as u64).map_err(|_| ErrorCode::Io)?;
    let mut written = session.poll_transmit(head);
    session.filter(&mut lines[..len]);
    session.advance(len as u64).map_err(|_| ErrorCode::Io)?;
    written += len;
    if !more {
        session.finish().map_err(|_| ErrorCode::Io)?;
    }
    Ok(Sent::Bytes(written))
}

/// One name of a classic `ls`. If the store has changed since the names were counted, those that no longer fit are left
/// out, and what is missing is filled up with line ends (PROTOCOL §3).
pub(super) fn ls<S: Store, const BUF: usize>(
    session: &mut ServerSession<BUF>,
    store: &mut S,
    cursor: &mut S::Cursor,
    room: &mut [u8],
) -> Result<Sent, ErrorCode> {
    let name_max = session.limits().name_max;
    let left = session.payload().map_or(0, |payload| payload.clamp(usize::MAX));
    if room.len() < left.min(usize::from(name_max) + 1) {
        return Ok(Sent::Wait);
    }
    let mut n = 0;
    let mut full = false;
    let mut write = |entry: Entry<'_>| {
        let Some(name) = shown(&entry, name_max) else { return };
        full = name.len() > left;
        if full {
            return;
        }
        room[..name.len()].copy_from_slice(name);
        n = name.len();
        if n < left {
            room[n] = b'\n';
            n += 1;
        }
    };
    let more = store.next_entry(cursor, &mut write).map_err(|refusal| refusal.code)?;
    if full || !more {
        return Ok(Sent::End);
    }
    session.advance(n as u64).map_err(|_| ErrorCode::Io)?;
    Ok(Sent::Bytes(n))
}
