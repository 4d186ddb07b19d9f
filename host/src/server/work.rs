//! Work that must not run in the connection's task because it waits for the disk. It runs on the threads of the
//! [`pool`](super::pool).

use core::task::Poll;
use std::sync::Arc;

use skiff_proto::identity::StageOwner;
use skiff_proto::name::{MAX_NAME, Name};
use skiff_proto::store::{Stat, Sum};
use skiff_proto::{ErrorCode, Refusal};

use super::pool::Turn;
use super::scratch::Scratch;
use crate::store::{self, Cursor, DirStore, File, Stage, Staged};

/// A change to the names of the store.
#[derive(Debug)]
pub(super) enum Change {
    Remove(String),
    Rename(String, String),
    Mkdir(String),
    Rmdir(String),
}

impl Change {
    /// The change as the store has it.
    pub(super) fn parse(&self) -> Result<store::Change<'_>, Refusal> {
        Ok(match self {
            Self::Remove(name) => store::Change::Remove(parse(name)?),
            Self::Rename(from, to) => store::Change::Rename(parse(from)?, parse(to)?),
            Self::Mkdir(name) => store::Change::Mkdir(parse(name)?),
            Self::Rmdir(name) => store::Change::Rmdir(parse(name)?),
        })
    }
}

/// The result of a change; of a file, what is known of it.
pub(super) type Done = Result<Option<Stat>, Refusal>;

/// Carries changes out, durably and in order.
pub(super) fn change(store: &DirStore, changes: &[Change]) -> Vec<Done> {
    let parsed: Result<Vec<_>, _> = changes.iter().map(Change::parse).collect();
    match parsed {
        Ok(parsed) => store.change_batch(&parsed).into_iter().map(|done| done.map(|()| None)).collect(),
        Err(refusal) => vec![Err(refusal); changes.len()],
    }
}

/// A `write` that continues an interrupted one.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) mtime: Option<u64>,
    pub(super) owner: StageOwner,
    pub(super) name: Box<str>,
}

impl Write {
    /// Opens its stage.
    fn stage(&self, store: &DirStore) -> Read {
        let staged =
            parse(&self.name).and_then(|name| store.stage(name, self.owner, self.offset, self.size, self.mtime));
        Read::Stage(staged.map(|(stage, crc)| (Box::new(stage), crc)))
    }
}

/// What a [`Reading`] has come to.
#[derive(Debug)]
pub(super) enum Read {
    /// The checksum of a range.
    Sum(Result<Sum, Refusal>),
    /// What is staged: bytes and their CRC.
    Staged(Result<(u64, u32), Refusal>),
    /// A stage, and the CRC of what it holds already.
    Stage(Result<(Box<Stage>, u32), Refusal>),
    /// What a `list` leaves out, and its cursor.
    Omitted(Result<(u64, Box<Cursor>), Refusal>),
    /// How many bytes the names of a classic `ls` have, with a line end behind each.
    Names(Result<u64, Refusal>),
}

/// Work that only reads. It runs in turns on threads of the pool.
#[derive(Debug)]
pub(super) enum Reading {
    /// A `sum`.
    Sum(Arc<File>, Sum),
    /// A `resume` of this size, by this owner and of this name, before anything is read.
    Resume(u64, StageOwner, Box<str>),
    /// The same, while staged bytes are read.
    Resuming(Staged),
    /// A `write` that continues an interrupted one, before anything is read.
    Write(Write),
    /// The same, while staged bytes are read.
    Writing(Write, Staged),
    /// What a `list` leaves out, with what was counted so far.
    Omitted(Option<Box<Cursor>>, u64),
    /// The count of a classic `ls`, before it begins; with the longest name that is shown.
    Ls(u16),
    /// The same, with the bytes counted so far.
    Counting(u16, Box<Cursor>, u64),
}

impl Reading {
    /// One turn.
    pub(super) fn turn(&mut self, store: &DirStore, turn: &Turn<'_>) -> Poll<Read> {
        let mut pause = || turn.is_over();
        loop {
            *self = match self {
                Self::Sum(file, sum) => return read_sum(store, file, sum, &mut pause).map(Read::Sum),
                Self::Resume(size, owner, name) => {
                    match parse(name).and_then(|name| store.begin_staged(name, *owner, *size)) {
                        Ok(staged) => Self::Resuming(staged),
                        Err(refusal) => return Poll::Ready(Read::Staged(Err(refusal))),
                    }
                }
                Self::Resuming(staged) => return store.sum_staged(staged, &mut pause).map(Read::Staged),
                Self::Write(write) => {
                    // Staged bytes are read as for a `resume`, so that the store then knows their checksum. Errors of
                    // the `write` itself are found when its stage is opened.
                    match parse(&write.name).and_then(|name| store.begin_staged(name, write.owner, write.size)) {
                        Ok(staged) if staged.len() == write.offset => Self::Writing(write.clone(), staged),
                        _ => return Poll::Ready(write.stage(store)),
                    }
                }
                Self::Writing(write, staged) => {
                    return store.sum_staged(staged, &mut pause).map(|_| write.stage(store));
                }
                Self::Omitted(place, omitted) => {
                    let Some(cursor) = place else { return Poll::Pending };
                    return match store.count_omitted(cursor, omitted, &mut pause) {
                        Ok(false) => Poll::Pending,
                        Ok(true) => {
                            let done = place.take().map(|cursor| (*omitted, cursor));
                            Poll::Ready(Read::Omitted(done.ok_or(ErrorCode::Io.into())))
                        }
                        Err(refusal) => Poll::Ready(Read::Omitted(Err(refusal))),
                    };
                }
                Self::Ls(name_max) => match store.list(None) {
                    Ok(cursor) => Self::Counting(*name_max, Box::new(cursor), 0),
                    Err(refusal) => return Poll::Ready(Read::Names(Err(refusal))),
                },
                Self::Counting(name_max, cursor, length) => {
                    while !pause() {
                        let more = store.next_entry(cursor, &mut |entry| {
                            *length += entry.classic_name(*name_max).map_or(0, |name| name.len() as u64 + 1);
                        });
                        match more {
                            Ok(true) => {}
                            Ok(false) => return Poll::Ready(Read::Names(Ok(*length))),
                            Err(refusal) => return Poll::Ready(Read::Names(Err(refusal))),
                        }
                    }
                    return Poll::Pending;
                }
            };
        }
    }
}

/// Goes on with the checksum of a range until `pause` is true.
pub(super) fn read_sum(
    store: &DirStore,
    file: &File,
    sum: &mut Sum,
    pause: &mut dyn FnMut() -> bool,
) -> Poll<Result<Sum, Refusal>> {
    let whole = sum.length() == file.stat().size;
    let mut piece = Scratch::take();
    loop {
        let want = sum.wanted(piece.len());
        if want == 0 {
            if whole {
                store.remember_crc(file, sum.crc());
            }
            return Poll::Ready(Ok(*sum));
        }
        match store.read_at(file, sum.offset(), &mut piece[..want])? {
            // It has become shorter since the range was checked.
            0 => return Poll::Ready(Err(ErrorCode::Changed.into())),
            n => sum.update(&piece[..n]),
        }
        if pause() {
            return Poll::Pending;
        }
    }
}

/// A name that a session has checked before.
pub(super) fn parse(name: &str) -> Result<Name<'_>, Refusal> {
    Name::parse(name.as_bytes(), MAX_NAME).map_err(|_| ErrorCode::BadName.into())
}
