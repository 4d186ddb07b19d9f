//! Moves payload between a session and a store: the parts of [`step`](super::Responder::step),
//! [`transmit`](super::Responder::transmit) and [`receive`](super::Responder::receive).

use super::list_room;
use crate::body::Payload;
use crate::cipher::Cipher;
use crate::error::ErrorCode;
use crate::message::{HEADER_LEN, SendError};
use crate::reply::list_line;
use crate::server::ServerSession;
use crate::store::{Entry, Result, Store, StoreError, read_some};

/// The result of an attempt to send payload.
pub(super) enum Sent {
    /// That many bytes of the room are used; 0 if only the state has changed.
    Bytes(usize),
    /// The room is too small.
    Wait,
    /// All of it has been sent.
    End,
}

pub(super) fn append<S: Store>(store: &mut S, stage: &mut S::Stage, bytes: &[u8]) -> Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match store.append(stage, rest)? {
            0 => return Err(ErrorCode::Io.into()),
            n => rest = &rest[n.min(rest.len())..],
        }
    }
    Ok(())
}

/// Payload of a `read`.
pub(super) fn read<S: Store, const BUF: usize, C: Cipher>(
    session: &mut ServerSession<BUF, C>,
    store: &mut S,
    file: &mut S::File,
    offset: &mut u64,
    room: &mut [u8],
) -> Result<Sent> {
    if session.left() == Some(0) {
        return Ok(Sent::End);
    }
    let sent = session.send(room, |room| {
        let n = read_some(store, file, *offset, room)?;
        *offset += n as u64;
        Ok(n)
    });
    sent.map(|n| if n > 0 { Sent::Bytes(n) } else { Sent::Wait }).map_err(error)
}

/// One data message of a `list`: as many lines as go into the room.
pub(super) fn list<S: Store, const BUF: usize, C: Cipher>(
    session: &mut ServerSession<BUF, C>,
    store: &mut S,
    cursor: &mut S::Cursor,
    room: &mut [u8],
) -> Result<Sent> {
    let name_max = session.limits().name_max;
    let longest = list_room(name_max) - HEADER_LEN;
    let mut more = true;
    let sent = session.send(room, |lines| {
        let mut len = 0;
        while more && lines.len() - len >= longest {
            let mut write = |entry: Entry<'_>| {
                if entry.fits(name_max) {
                    len += list_line(&entry, &mut lines[len..]).unwrap_or(0);
                }
            };
            match store.next_entry(cursor, &mut write) {
                // The lines so far go out meanwhile.
                Err(StoreError::NotYet) if S::WAITS && len > 0 => break,
                next => more = next?,
            }
        }
        Ok(len)
    });
    match sent.map_err(error)? {
        0 if more => Ok(Sent::Wait),
        0 => Ok(Sent::End),
        n => {
            if !more {
                session.finish().map_err(|_| StoreError::from(ErrorCode::Io))?;
            }
            Ok(Sent::Bytes(n))
        }
    }
}

/// One name of a classic `ls`. If the store has changed since the names were counted, names that no longer fit are
/// omitted, and line ends fill the gap (PROTOCOL §3).
pub(super) fn ls<S: Store, const BUF: usize, C: Cipher>(
    session: &mut ServerSession<BUF, C>,
    store: &mut S,
    cursor: &mut S::Cursor,
    room: &mut [u8],
) -> Result<Sent> {
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
                let Some(name) = entry.classic_name(name_max) else { return };
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
    match sent.map_err(error)? {
        0 if ended => Ok(Sent::End),
        0 => Ok(Sent::Wait),
        n => Ok(Sent::Bytes(n)),
    }
}

fn error(error: SendError<StoreError>) -> StoreError {
    match error {
        SendError::Fill(error) => error,
        SendError::InvalidState => ErrorCode::Io.into(),
    }
}
