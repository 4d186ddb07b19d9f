//! The names that a classic `ls` shows, joined by LF: counted first, since their length goes out before them (PROTOCOL §3).

use core::mem;

use skiff_proto::Refusal;
use skiff_proto::name::Name;
use skiff_proto::store::EntryKind;

use crate::store::{Cursor, DirStore};

/// Bytes of names in a piece, a little more with the last one.
const PIECE: usize = 32 * 1024;

/// The names that a classic `ls` shows, a piece at a time: a directory of any size needs no memory of its size.
#[derive(Debug)]
pub(super) struct Names {
    cursor: Cursor,
    /// The next piece: names, each but the first of all with the LF before it.
    piece: Vec<u8>,
    begun: bool,
}

impl Names {
    pub(super) const fn new(cursor: Cursor) -> Self {
        Self { cursor, piece: Vec::new(), begun: false }
    }

    /// Composes the next piece of at most `room` bytes; false if there is no further name that fits.
    pub(super) fn next(&mut self, store: &DirStore, room: u64) -> Result<bool, Refusal> {
        let (piece, begun) = (&mut self.piece, &mut self.begun);
        let mut full = false;
        while !full
            && piece.len() < PIECE
            && store.next_entry(&mut self.cursor, &mut |entry| {
                if !matches!(entry.kind, EntryKind::File(_)) || !Name::is_classic(entry.name) {
                    return;
                }
                let name = entry.name.as_str().as_bytes();
                full = (piece.len() + usize::from(*begun) + name.len()) as u64 > room;
                if !full {
                    if mem::replace(begun, true) {
                        piece.push(b'\n');
                    }
                    piece.extend_from_slice(name);
                }
            })?
        {}
        Ok(!self.piece.is_empty())
    }

    /// The piece, which leaves.
    pub(super) fn take(&mut self) -> Vec<u8> {
        mem::take(&mut self.piece)
    }
}
