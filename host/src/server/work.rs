//! What must not be done on the spot, since it waits for the disk: it runs on the blocking pool, and the session gets its
//! answer when it is done.

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use skiff_proto::command::Request;
use skiff_proto::crc::Crc32c;
use skiff_proto::name::{MAX_NAME, Name};
use skiff_proto::server::Answer;
use skiff_proto::{ErrorCode, Refusal};

use super::data::Purpose;
use super::ports::Claim;
use crate::store::{self, DirStore, File, Stage};

/// Bytes read at a time for a checksum.
const PIECE: usize = 256 * 1024;

/// What a piece of work has come to.
#[derive(Debug)]
pub(super) enum Done {
    /// The answer to the request that was asked last.
    Answer(Result<Answer, Refusal>),
    /// A stage for the `write` that was asked last, and the CRC of what it holds already.
    Staged(Result<(Stage, u32), Refusal>, Box<str>),
    /// How many bytes the names of a classic `ls` have.
    Names(Result<u64, Refusal>),
    /// A port for the `get` or `put` that was asked last, or none in time.
    Claimed(Option<Claim>, Purpose),
}

/// A change to the names of the store.
#[derive(Debug)]
pub(super) enum Change {
    Remove(String),
    Rename(String, String),
    Mkdir(String),
    Rmdir(String),
}

impl Change {
    /// The change that a request asks for, if it asks for one.
    pub(super) fn of(request: &Request<'_>) -> Option<Self> {
        let owned = |name: &Name<'_>| name.as_str().to_owned();
        Some(match request {
            Request::Remove { name } => Self::Remove(owned(name)),
            Request::Rename { from, to } => Self::Rename(owned(from), owned(to)),
            Request::Mkdir { name } => Self::Mkdir(owned(name)),
            Request::Rmdir { name } => Self::Rmdir(owned(name)),
            _ => return None,
        })
    }

    /// The change as the store has it.
    fn parse(&self) -> Result<store::Change<'_>, Refusal> {
        Ok(match self {
            Self::Remove(name) => store::Change::Remove(parse(name)?),
            Self::Rename(from, to) => store::Change::Rename(parse(from)?, parse(to)?),
            Self::Mkdir(name) => store::Change::Mkdir(parse(name)?),
            Self::Rmdir(name) => store::Change::Rmdir(parse(name)?),
        })
    }
}

/// Carries changes out, durably and in order.
pub(super) fn change(store: &DirStore, changes: &[Change]) -> Vec<Result<Answer, Refusal>> {
    let parsed: Result<Vec<_>, _> = changes.iter().map(Change::parse).collect();
    match parsed {
        Ok(parsed) => store.change_batch(&parsed).into_iter().map(|done| done.map(|()| Answer::Done)).collect(),
        Err(refusal) => vec![Err(refusal); changes.len()],
    }
}

/// A `write` that has to wait before it can begin.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) mtime: Option<u64>,
    pub(super) name: String,
}

impl Write {
    /// Opens its stage.
    pub(super) fn stage(&self, store: &DirStore) -> Result<(Stage, u32), Refusal> {
        store.stage(parse(&self.name)?, self.offset, self.size, self.mtime)
    }
}

/// Says how a `write` can begin; reads what is staged.
pub(super) fn resume(store: &DirStore, name: &str, size: u64) -> Done {
    let staged = parse(name).and_then(|name| store.staged(name, size));
    Done::Answer(staged.map(|(offset, crc)| Answer::Resume { offset, crc }))
}

/// The checksum of `length` bytes from `offset` on. Stops when `stop` is set: nobody waits for it any more.
pub(super) fn sum(store: &DirStore, file: &File, offset: u64, length: u64, stop: &AtomicBool) -> Done {
    let mut crc = Crc32c::new();
    let mut piece = vec![0; usize::try_from(length).map_or(PIECE, |length| length.min(PIECE))];
    let mut done = 0;
    while done < length && !stop.load(Ordering::Relaxed) {
        let want = usize::try_from(length - done).map_or(PIECE, |left| left.min(PIECE));
        match store.read_at(file, offset + done, &mut piece[..want]) {
            // It has become shorter since the range was checked.
            Ok(0) => return Done::Answer(Err(ErrorCode::Changed.into())),
            Ok(n) => {
                crc.update(&piece[..n]);
                done += n as u64;
            }
            Err(refusal) => return Done::Answer(Err(refusal)),
        }
    }
    if offset == 0 && length == file.stat().size {
        store.remember_crc(file, crc.value());
    }
    Done::Answer(Ok(Answer::Sum { length, crc: crc.value() }))
}

/// Tells work on the blocking pool that nobody waits for it any more, when it is dropped.
#[derive(Debug, Default)]
pub(super) struct StopOnDrop(pub(super) Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A name that a session has checked before.
pub(super) fn parse(name: &str) -> Result<Name<'_>, Refusal> {
    Name::parse(name.as_bytes(), MAX_NAME).map_err(|_| ErrorCode::BadName.into())
}
