//! Work that must not run in the connection's task because it waits for the disk. It runs on the threads of the
//! [`pool`](super::pool).

use core::task::{Poll, ready};
use std::sync::Arc;

use skiff_proto::identity::StageOwner;
use skiff_proto::name::{MAX_NAME, Name, NameBuf};
use skiff_proto::store::{Staging, Stat, Sum};
use skiff_proto::{ErrorCode, Refusal};

use super::pool::Turn;
use super::scratch::Scratch;
use crate::store::{Cursor, DirStore, File, Stage, Staged};

/// A name that outlives the command it came with.
pub(crate) type KeptName = Box<NameBuf<MAX_NAME>>;

/// Keeps a name.
pub(crate) fn keep(name: Name<'_>) -> Result<KeptName, Refusal> {
    Ok(Box::new(name.try_into()?))
}

/// A change to the names of the store, to be made later.
pub(crate) type Change = crate::store::Change<KeptName>;

/// The result of a change; for a file, its stat.
pub(crate) type Done = Result<Option<Stat>, Refusal>;

/// Executes changes, durably and in order.
pub(super) fn change(store: &DirStore, changes: &[Change]) -> Vec<Done> {
    let changes: Vec<_> = changes.iter().map(|change| change.map(|name| name.as_name())).collect();
    store.change_batch(&changes).into_iter().map(|done| done.map(|()| None)).collect()
}

/// A `write` that continues an interrupted one.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) mtime: Option<u64>,
    pub(super) owner: StageOwner,
    pub(super) name: KeptName,
}

impl Write {
    /// Keeps what a `write` announces.
    pub(super) fn keep(staging: Staging<'_>) -> Result<Self, Refusal> {
        let Staging { name, offset, size, mtime, owner } = staging;
        Ok(Self { offset, size, mtime, owner, name: keep(name)? })
    }

    /// Opens its stage.
    fn stage(&self, store: &DirStore) -> Outcome {
        let &Self { offset, size, mtime, owner, ref name } = self;
        let staged = store.stage(Staging { name: name.as_name(), offset, size, mtime, owner });
        Outcome::Stage(staged.map(|(stage, crc)| (Box::new(stage), crc)))
    }
}

/// The result of work for a [`PolledStore`](super::PolledStore).
#[derive(Debug)]
pub(super) enum Outcome {
    /// A stage that was to get a name, and whether it got it.
    Committed(Box<Stage>, Result<(), Refusal>),
    /// A stage, and whether a file was copied to it.
    Copied(Box<Stage>, Result<(), Refusal>),
    /// The checksum of a range.
    Sum(Result<Sum, Refusal>),
    /// The number of staged bytes and their CRC.
    Staged(Result<(u64, u32), Refusal>),
    /// A stage, and the CRC of its bytes so far.
    Stage(Result<(Box<Stage>, u32), Refusal>),
    /// The number of entries that a `list` omits, and its cursor.
    Omitted(Result<(u64, Box<Cursor>), Refusal>),
    /// The length of the names of a classic `ls`, with a line end after each.
    Names(Result<u64, Refusal>),
}

/// Work that reads, or copies. It runs in turns on threads of the pool.
#[derive(Debug)]
pub(super) enum Reading {
    /// A `sum`.
    Sum(Arc<File>, Sum),
    /// A `copy` of a file to a stage.
    Copy(Arc<File>, Option<Box<Stage>>),
    /// A `resume` with this size, owner and name, before anything is read.
    Resume(u64, StageOwner, KeptName),
    /// The same, while staged bytes are read.
    Resuming(Staged),
    /// A `write` that continues an interrupted one, before anything is read.
    Write(Write),
    /// The same, while staged bytes are read.
    Writing(Write, Staged),
    /// The entries that a `list` omits, with the count so far.
    Omitted(Option<Box<Cursor>>, u64),
    /// The count of a classic `ls`, before it begins, with the maximum length of names that are shown.
    Ls(u16),
    /// The same, with the bytes counted so far.
    Counting(u16, Box<Cursor>, u64),
}

impl Reading {
    /// One turn.
    pub(super) fn turn(&mut self, store: &DirStore, turn: &Turn<'_>) -> Poll<Outcome> {
        let mut pause = || turn.is_over();
        loop {
            *self = match self {
                Self::Sum(file, sum) => return read_sum(store, file, sum, &mut pause).map(Outcome::Sum),
                Self::Copy(file, place) => {
                    let Some(stage) = place else { return Poll::Pending };
                    let copied = ready!(store.copy(file, stage, &mut pause));
                    return match place.take() {
                        Some(stage) => Poll::Ready(Outcome::Copied(stage, copied)),
                        None => Poll::Pending,
                    };
                }
                Self::Resume(size, owner, name) => match store.begin_staged(name.as_name(), *owner, *size) {
                    Ok(staged) => Self::Resuming(staged),
                    Err(refusal) => return Poll::Ready(Outcome::Staged(Err(refusal))),
                },
                Self::Resuming(staged) => return store.sum_staged(staged, &mut pause).map(Outcome::Staged),
                Self::Write(write) => {
                    // Staged bytes are read as for a `resume`, so that the store then knows their checksum. Errors of
                    // the `write` itself are found when its stage is opened.
                    match store.begin_staged(write.name.as_name(), write.owner, write.size) {
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
                            Poll::Ready(Outcome::Omitted(done.ok_or(ErrorCode::Io.into())))
                        }
                        Err(refusal) => Poll::Ready(Outcome::Omitted(Err(refusal))),
                    };
                }
                Self::Ls(name_max) => match store.list(None) {
                    Ok(cursor) => Self::Counting(*name_max, Box::new(cursor), 0),
                    Err(refusal) => return Poll::Ready(Outcome::Names(Err(refusal))),
                },
                Self::Counting(name_max, cursor, length) => {
                    while !pause() {
                        let more = store.next_entry(cursor, &mut |entry| {
                            *length += entry.classic_name(*name_max).map_or(0, |name| name.len() as u64 + 1);
                        });
                        match more {
                            Ok(true) => {}
                            Ok(false) => return Poll::Ready(Outcome::Names(Ok(*length))),
                            Err(refusal) => return Poll::Ready(Outcome::Names(Err(refusal))),
                        }
                    }
                    return Poll::Pending;
                }
            };
        }
    }
}

/// Continues the checksum of a range until `pause` is true.
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
