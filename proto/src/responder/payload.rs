//! Payload between a session and a store: the pieces that [`step`](super::Responder::step),
//! [`transmit`](super::Responder::transmit) and [`receive`](super::Responder::receive) are made of.

use super::list_room;
use crate::body::Payload;
use crate::crc::Crc32c;
use crate::error::{ErrorCode, Refusal};
use crate::message::{Cipher, HEADER_LEN, SendError};
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
            let left = Payload { remaining: self.end - self.at };
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
pub(super) fn read<S: Store, const BUF: usize, C: Cipher>(
    session: &mut ServerSession<BUF, C>,
    store: &mut S,
    file: &mut S::File,
    offset: &mut u64,
    room: &mut [u8],
) -> Result<Sent, ErrorCode> {
    if session.left() == Some(0) {
        return Ok(Sent::End);
    }
    let sent = session.send(room, |room| {
        let n = read_some(store, file, *offset, room)?;
        *offset += n as u64;
        Ok(n)
    });
    sent.map(|n| if n > 0 { Sent::Bytes(n) } else { Sent::Wait }).map_err(code)
}

/// One data message of a `list`: as many lines as go into the room.
pub(super) fn list<S: Store, const BUF: usize, C: Cipher>(
    session: &mut ServerSession<BUF, C>,
    store: &mut S,
    cursor: &mut S::Cursor,
    room: &mut [u8],
) -> Result<Sent, ErrorCode> {
    let name_max = session.limits().name_max;
    let longest = list_room(name_max) - HEADER_LEN;
    let mut more = true;
    let sent = session.send(room, |lines| {
        let mut len = 0;
        while more && lines.len() - len >= longest {
            let mut write = |entry: Entry<'_>| {
                if fits(entry.name, name_max) {
                    len += list_line(&entry, &mut lines[len..]).unwrap_or(0);
                }
            };
            more = store.next_entry(cursor, &mut write)?;
        }
        Ok(len)
    });
    match sent.map_err(code)? {
        0 if more => Ok(Sent::Wait),
        0 => Ok(Sent::End),
        n => {
            if !more {
                session.finish().map_err(|_| ErrorCode::Io)?;
            }
            Ok(Sent::Bytes(n))
        }
    }
}

/// One name of a classic `ls`. If the store has changed since the names were counted, those that no longer fit are left
/// out, and what is missing is filled up with line ends (PROTOCOL §3).
pub(super) fn ls<S: Store, const BUF: usize, C: Cipher>(
    session: &mut ServerSession<BUF, C>,
    store: &mut S,
    cursor: &mut S::Cursor,
    room: &mut [u8],
) -> Result<Sent, ErrorCode> {
    let name_max = session.limits().name_max;
    let left = Payload { remaining: session.left().unwrap_or(0) }.clamp(usize::MAX);
    let mut ended = false;
    let sent = session.send(room, |room| {
        if room.len() < left.min(usize::from(name_max) + 1) {
            return Ok(0);
        }
        let mut n = 0;
        while n == 0 && !ended {
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
            ended = !store.next_entry(cursor, &mut write)? || full;
        }
        Ok(n)
    });
    match sent.map_err(code)? {
        0 if ended => Ok(Sent::End),
        0 => Ok(Sent::Wait),
        n => Ok(Sent::Bytes(n)),
    }
}

fn code(error: SendError<Refusal>) -> ErrorCode {
    match error {
        SendError::Fill(refusal) => refusal.code,
        SendError::InvalidState => ErrorCode::Io,
    }
}
