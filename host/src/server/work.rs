//! Work that must not run in the connection's task because it waits for the disk. It runs on the threads of the
//! [`pool`](super::pool), and the session gets its answer when it is done.

use core::task::Poll;

use skiff_proto::command::Request;
use skiff_proto::crc::Crc32c;
use skiff_proto::name::{MAX_NAME, Name};
use skiff_proto::server::Answer;
use skiff_proto::{ErrorCode, Refusal};

use super::data::Purpose;
use super::input::Scratch;
use super::names::Names;
use super::pool::Turn;
use super::ports::Claim;
use crate::store::{self, Cursor, DirStore, File, Stage, Staged};

/// What a piece of work has come to.
#[derive(Debug)]
pub(super) enum Done {
    /// The answer to the request that was asked last.
    Answer(Result<Answer, Refusal>),
    /// A stage for the `write` that was asked last, and the CRC of what it holds already.
    Staged(Result<(Stage, u32), Refusal>, Box<str>),
    /// What a `list` leaves out, and its cursor.
    Listed(u64, Cursor),
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
#[derive(Debug, Clone)]
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

    fn begin(&self, store: &DirStore) -> Done {
        Done::Staged(self.stage(store), self.name.as_str().into())
    }
}

/// Work that only reads. It runs in turns on threads of the pool.
#[derive(Debug)]
pub(super) enum Reading {
    /// A `sum`.
    Sum(Sum),
    /// A `resume` of this size and name, before anything is read.
    Resume(u64, Box<str>),
    /// The same, while staged bytes are read.
    Resuming(Staged),
    /// A `write` that continues an interrupted one, before anything is read.
    Write(Write),
    /// The same, while staged bytes are read.
    Writing(Write, Staged),
    /// What a `list` leaves out, with what was counted so far.
    Omitted(Cursor, u64),
    /// The count of a classic `ls`, before it begins.
    Ls,
    /// The same, with the bytes counted so far.
    Counting(Names, u64),
}

impl Reading {
    /// One turn.
    pub(super) fn turn(&mut self, store: &DirStore, turn: &Turn<'_>) -> Poll<Done> {
        loop {
            *self = match self {
                Self::Sum(sum) => return sum.turn(store, turn).map(Done::Answer),
                Self::Resume(size, name) => match parse(name).and_then(|name| store.begin_staged(name, *size)) {
                    Ok(staged) => Self::Resuming(staged),
                    Err(refusal) => return Poll::Ready(Done::Answer(Err(refusal))),
                },
                Self::Resuming(staged) => {
                    let summed = store.sum_staged(staged, &mut || turn.is_over());
                    return summed
                        .map(|summed| Done::Answer(summed.map(|(offset, crc)| Answer::Resume { offset, crc })));
                }
                Self::Write(write) => {
                    // Staged bytes are read as for a `resume`, so that the store then knows their checksum. Errors of
                    // the `write` itself are found when its stage is opened.
                    match parse(&write.name).and_then(|name| store.begin_staged(name, write.size)) {
                        Ok(staged) if staged.len() == write.offset => Self::Writing(write.clone(), staged),
                        _ => return Poll::Ready(write.begin(store)),
                    }
                }
                Self::Writing(write, staged) => {
                    let summed = store.sum_staged(staged, &mut || turn.is_over());
                    return summed.map(|_| write.begin(store));
                }
                Self::Omitted(cursor, omitted) => {
                    match store.count_omitted(cursor, omitted, &mut || turn.is_over()) {
                        Ok(false) => return Poll::Pending,
                        Ok(true) => {
                            // The work ends with this: the cursor is the answer's.
                            let Self::Omitted(cursor, omitted) = core::mem::replace(self, Self::Ls) else {
                                return Poll::Ready(Done::Answer(Err(ErrorCode::Io.into())));
                            };
                            return Poll::Ready(Done::Listed(omitted, cursor));
                        }
                        Err(refusal) => return Poll::Ready(Done::Answer(Err(refusal))),
                    }
                }
                Self::Ls => match store.list(None) {
                    Ok(cursor) => Self::Counting(Names::new(cursor), 0),
                    Err(refusal) => return Poll::Ready(Done::Names(Err(refusal))),
                },
                Self::Counting(names, length) => {
                    while !turn.is_over() {
                        match names.next(store, u64::MAX) {
                            Ok(true) => *length += names.take().len() as u64,
                            Ok(false) => return Poll::Ready(Done::Names(Ok(*length))),
                            Err(refusal) => return Poll::Ready(Done::Names(Err(refusal))),
                        }
                    }
                    return Poll::Pending;
                }
            };
        }
    }
}

/// A range of a file whose checksum is being computed.
#[derive(Debug)]
pub(super) struct Sum {
    file: File,
    offset: u64,
    length: u64,
    crc: Crc32c,
    done: u64,
}

impl Sum {
    pub(super) const fn new(file: File, offset: u64, length: u64) -> Self {
        Self { file, offset, length, crc: Crc32c::new(), done: 0 }
    }

    /// The checksum, all at once.
    pub(super) fn whole(mut self, store: &DirStore) -> Result<Answer, Refusal> {
        while self.done < self.length {
            self.piece(store)?;
        }
        Ok(self.answer(store))
    }

    fn turn(&mut self, store: &DirStore, turn: &Turn<'_>) -> Poll<Result<Answer, Refusal>> {
        while self.done < self.length {
            self.piece(store)?;
            if turn.is_over() {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(self.answer(store)))
    }

    /// Reads the next piece.
    fn piece(&mut self, store: &DirStore) -> Result<(), Refusal> {
        let mut piece = Scratch::take();
        let want = usize::try_from(self.length - self.done).map_or(piece.len(), |left| left.min(piece.len()));
        match store.read_at(&self.file, self.offset + self.done, &mut piece[..want])? {
            // It has become shorter since the range was checked.
            0 => Err(ErrorCode::Changed.into()),
            n => {
                self.crc.update(&piece[..n]);
                self.done += n as u64;
                Ok(())
            }
        }
    }

    fn answer(&self, store: &DirStore) -> Answer {
        let crc = self.crc.value();
        if self.offset == 0 && self.length == self.file.stat().size {
            store.remember_crc(&self.file, crc);
        }
        Answer::Sum { length: self.length, crc }
    }
}

/// The names that a request is about.
pub(super) const fn names<'a>(request: &Request<'a>) -> [Option<Name<'a>>; 2] {
    match *request {
        Request::Stat { name }
        | Request::Read { name, .. }
        | Request::Sum { name, .. }
        | Request::Resume { name, .. }
        | Request::Write { name, .. }
        | Request::Get { name }
        | Request::Put { name }
        | Request::Remove { name }
        | Request::Mkdir { name }
        | Request::Rmdir { name } => [Some(name), None],
        Request::Rename { from, to } => [Some(from), Some(to)],
        Request::List { dir } => [dir, None],
        Request::Ls | Request::Space => [None, None],
    }
}

/// A name that a session has checked before.
pub(super) fn parse(name: &str) -> Result<Name<'_>, Refusal> {
    Name::parse(name.as_bytes(), MAX_NAME).map_err(|_| ErrorCode::BadName.into())
}
