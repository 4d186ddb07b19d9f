//! What a driver keeps between one session and the store.

use core::task::Poll;
use std::collections::{BTreeMap, VecDeque};

use skiff_proto::command::Request;
use skiff_proto::crc::Crc32c;
use skiff_proto::name::MAX_NAME;
use skiff_proto::server::Answer;
use skiff_proto::store::{Entry, EntryKind, Store, StoreError, clamp_range};
use skiff_proto::{ErrorCode, Name, Payload, Refusal};

use super::Changes;
use crate::memory::{MemoryCursor, MemoryFile, MemoryStage, MemoryStore};

/// What the session is told after a request.
pub(super) enum Step {
    Answer(Answer),
    Refuse(Refusal),
    Defer,
    /// The store needs another call.
    Wait,
    Nothing,
}

impl From<Result<Answer, Refusal>> for Step {
    fn from(outcome: Result<Answer, Refusal>) -> Self {
        outcome.map_or_else(Self::Refuse, Self::Answer)
    }
}

/// Between session and store: what a driver keeps for one connection.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) store: MemoryStore,
    /// The body of a `write` that comes in.
    stage: Option<(MemoryStage, String)>,
    commit: Option<Change>,
    sending: Option<Sending>,
    batch: Vec<Change>,
    /// What became of a batch that has been carried out.
    pub(super) owed: VecDeque<Result<Answer, Refusal>>,
    pub(super) ports: BTreeMap<u16, Promise>,
    last_port: u16,
}

/// A change that becomes durable, now or in a batch.
#[derive(Debug)]
pub(super) enum Change {
    Commit { stage: MemoryStage, name: String, size: u64, crc: Option<u32> },
    Remove(String),
    Rename(String, String),
    Mkdir(String),
    Rmdir(String),
}

/// What a body that goes out is made of.
#[derive(Debug)]
pub(super) enum Sending {
    File {
        file: MemoryFile,
        offset: u64,
    },
    List {
        cursor: MemoryCursor,
        line: Vec<u8>,
        ended: bool,
    },
    /// The names of `ls`; they are listed again when they are sent.
    Ls {
        length: usize,
        text: Option<VecDeque<u8>>,
    },
}

/// What a PORT is good for.
#[derive(Debug)]
pub(super) enum Promise {
    Get { file: MemoryFile, size: u64 },
    Put { name: String },
}

/// This store is always ready.
pub(super) fn refused<T>(result: Result<T, StoreError>) -> Result<T, Refusal> {
    result.map_err(StoreError::refusal)
}

pub(super) fn name(text: &str) -> Name<'_> {
    Name::parse(text.as_bytes(), MAX_NAME).expect("the session has checked it")
}

impl Desk {
    pub(super) fn new(store: MemoryStore) -> Self {
        Self {
            store,
            stage: None,
            commit: None,
            sending: None,
            batch: Vec::new(),
            owed: VecDeque::new(),
            ports: BTreeMap::new(),
            last_port: 49_999,
        }
    }

    pub(super) fn request(&mut self, request: &Request<'_>, changes: Changes) -> Step {
        match *request {
            Request::Get { name } => self.get(name).into(),
            Request::Put { name } => self.put(name).into(),
            Request::Ls => self.ls_text(usize::MAX).map(|text| self.start_ls(text.len())).into(),
            Request::List { dir } => self.list(dir).into(),
            Request::Stat { name } => refused(self.store.stat(name)).map(Answer::Stat).into(),
            Request::Read { offset, length, name } => self.read(offset, length, name).into(),
            Request::Sum { offset, length, name } => self.sum(offset, length, name).into(),
            Request::Resume { size, name } => {
                refused(self.store.staged(name, size)).map(|(offset, crc)| Answer::Resume { offset, crc }).into()
            }
            Request::Write { offset, size, mtime, name } => self.write(offset, size, mtime, name).into(),
            Request::Remove { name } => self.change(Change::Remove(name.as_str().into()), changes),
            Request::Rename { from, to } => {
                self.change(Change::Rename(from.as_str().into(), to.as_str().into()), changes)
            }
            Request::Mkdir { name } => self.change(Change::Mkdir(name.as_str().into()), changes),
            Request::Rmdir { name } => self.change(Change::Rmdir(name.as_str().into()), changes),
            Request::Space => refused(self.store.space()).map(Answer::Space).into(),
        }
    }

    fn get(&mut self, name: Name<'_>) -> Result<Answer, Refusal> {
        let (file, stat) = refused(self.store.open(name))?;
        Ok(self.announce(Promise::Get { file, size: stat.size }))
    }

    fn put(&mut self, name: Name<'_>) -> Result<Answer, Refusal> {
        drop(refused(self.store.stage_new(name, 0))?);
        Ok(self.announce(Promise::Put { name: name.as_str().into() }))
    }

    fn announce(&mut self, promise: Promise) -> Answer {
        self.last_port += 1;
        self.ports.insert(self.last_port, promise);
        Answer::Port(self.last_port)
    }

    /// The names that a classic listing shows, as many as fit in `max` bytes.
    fn ls_text(&mut self, max: usize) -> Result<Vec<u8>, Refusal> {
        let mut cursor = refused(self.store.list(None))?;
        let mut text = Vec::new();
        let mut show = |entry: Entry<'_>| {
            let bytes = entry.name.as_str().as_bytes();
            let between = usize::from(!text.is_empty());
            if matches!(entry.kind, EntryKind::File(_))
                && entry.name.is_classic()
                && text.len() + between + bytes.len() <= max
            {
                text.extend(&b"\n"[..between]);
                text.extend(bytes);
            }
        };
        while refused(self.store.next_entry(&mut cursor, &mut show))? {}
        Ok(text)
    }

    fn start_ls(&mut self, length: usize) -> Answer {
        self.sending = Some(Sending::Ls { length, text: None });
        Answer::Ls { length: length as u64 }
    }

    fn list(&mut self, dir: Option<Name<'_>>) -> Result<Answer, Refusal> {
        let mut cursor = refused(self.store.list(dir))?;
        let omitted = refused(self.store.omitted(&mut cursor))?;
        self.sending = Some(Sending::List { cursor, line: Vec::new(), ended: false });
        Ok(Answer::List { omitted })
    }

    fn read(&mut self, offset: u64, length: Option<u64>, name: Name<'_>) -> Result<Answer, Refusal> {
        let (file, stat) = refused(self.store.open(name))?;
        let length = clamp_range(offset, length, stat.size)?;
        let tag = self.store.tag(&file);
        self.sending = Some(Sending::File { file, offset });
        Ok(Answer::Read { length, size: stat.size, tag })
    }

    fn sum(&mut self, offset: u64, length: Option<u64>, name: Name<'_>) -> Result<Answer, Refusal> {
        let (mut file, stat) = refused(self.store.open(name))?;
        let length = clamp_range(offset, length, stat.size)?;
        let mut crc = Crc32c::new();
        let mut buffer = [0; 512];
        let mut at = offset;
        while at < offset + length {
            let n = Payload { remaining: offset + length - at }.clamp(buffer.len());
            let n = refused(self.store.read_at(&mut file, at, &mut buffer[..n]))?;
            if n == 0 {
                return Err(ErrorCode::Changed.into());
            }
            crc.update(&buffer[..n]);
            at += n as u64;
        }
        Ok(Answer::Sum { length, crc: crc.value() })
    }

    fn write(&mut self, offset: u64, size: u64, mtime: Option<u64>, name: Name<'_>) -> Result<Answer, Refusal> {
        // A file may make the directories that it lies in, and one may be where this one needs a directory.
        let is_inside = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
        let observes = |change: &Change| match change {
            Change::Commit { name: batched, .. } => {
                batched == name.as_str() || is_inside(batched, name.as_str()) || is_inside(name.as_str(), batched)
            }
            _ => true,
        };
        if self.batch.iter().any(observes) {
            self.carry_out_batch();
        }
        let (stage, crc) = refused(self.store.stage(name, offset, size, mtime))?;
        self.stage = Some((stage, name.as_str().into()));
        Ok(Answer::Write { crc })
    }

    /// Stores bytes of the body; a failure drops what is staged.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let (stage, _) = self.stage.as_mut().expect("a write was accepted");
        let mut rest = bytes;
        while !rest.is_empty() {
            match refused(self.store.append(stage, rest)) {
                Ok(n) => rest = &rest[n..],
                Err(refusal) => {
                    self.discard();
                    return Err(refusal);
                }
            }
        }
        Ok(())
    }

    pub(super) fn discard(&mut self) {
        if let Some((stage, _)) = self.stage.take() {
            self.store.discard(stage);
        }
    }

    pub(super) fn commit(&mut self, size: u64, crc: Option<u32>, changes: Changes) -> Step {
        let (stage, name) = self.stage.take().expect("a write was accepted");
        self.change(Change::Commit { stage, name, size, crc }, changes)
    }

    fn change(&mut self, change: Change, changes: Changes) -> Step {
        match changes {
            Changes::AtOnce => {
                self.commit = Some(change);
                self.poll_commit()
            }
            Changes::Batched => {
                self.batch.push(change);
                Step::Defer
            }
        }
    }

    pub(super) fn poll_commit(&mut self) -> Step {
        let Some(mut change) = self.commit.take() else {
            return Step::Nothing;
        };
        match self.poll_change(&mut change) {
            Poll::Ready(outcome) => outcome.into(),
            Poll::Pending => {
                self.commit = Some(change);
                Step::Wait
            }
        }
    }

    fn poll_change(&mut self, change: &mut Change) -> Poll<Result<Answer, Refusal>> {
        Poll::Ready(match change {
            Change::Commit { stage, size, crc, .. } => match self.store.commit(stage, *crc) {
                Err(StoreError::NotYet) => return Poll::Pending,
                outcome => refused(outcome).map(|()| Answer::Stored { size: *size, crc: *crc }),
            },
            Change::Remove(gone) => refused(self.store.remove(name(gone))).map(|()| Answer::Done),
            Change::Rename(from, to) => refused(self.store.rename(name(from), name(to))).map(|()| Answer::Done),
            Change::Mkdir(new) => refused(self.store.mkdir(name(new))).map(|()| Answer::Done),
            Change::Rmdir(gone) => refused(self.store.rmdir(name(gone))).map(|()| Answer::Done),
        })
    }

    /// Makes what has been put off durable, in order. True if there was anything.
    pub(super) fn carry_out_batch(&mut self) -> bool {
        let batch = core::mem::take(&mut self.batch);
        let any = !batch.is_empty();
        for mut change in batch {
            let outcome = loop {
                if let Poll::Ready(outcome) = self.poll_change(&mut change) {
                    break outcome;
                }
            };
            self.owed.push_back(outcome);
        }
        any
    }

    /// The next bytes of the body that goes out; 0 at its end.
    pub(super) fn payload(&mut self, room: &mut [u8]) -> Result<usize, Refusal> {
        if let Some(Sending::Ls { length, text: text @ None }) = &mut self.sending {
            let length = *length;
            *text = Some(VecDeque::new());
            let listed = self.ls_text(length)?;
            if let Some(Sending::Ls { text, .. }) = &mut self.sending {
                *text = Some(listed.into());
            }
        }
        let bytes: Vec<u8> = match self.sending.as_mut().expect("a body was begun") {
            Sending::File { file, offset } => {
                let n = refused(self.store.read_at(file, *offset, room))?;
                if n == 0 {
                    return Err(ErrorCode::Changed.into());
                }
                *offset += n as u64;
                return Ok(n);
            }
            Sending::List { cursor, line, ended } => {
                if line.is_empty() {
                    *ended =
                        !refused(self.store.next_entry(cursor, &mut |entry| *line = list_line(entry).into_bytes()))?;
                }
                line.drain(..room.len().min(line.len())).collect()
            }
            Sending::Ls { text, .. } => {
                let text = text.as_mut().expect("listed above");
                text.drain(..room.len().min(text.len())).collect()
            }
        };
        room[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    /// True if there is no more of a listing, or of names.
    pub(super) fn is_sent(&self) -> bool {
        match &self.sending {
            Some(Sending::List { line, ended, .. }) => line.is_empty() && *ended,
            Some(Sending::Ls { text, .. }) => text.as_ref().is_some_and(VecDeque::is_empty),
            Some(Sending::File { .. }) | None => false,
        }
    }

    /// The connection has ended: what is staged stays, and what was asked for is carried out.
    pub(super) fn hang_up(&mut self) {
        self.carry_out_batch();
        self.stage = None;
        self.sending = None;
    }
}

/// A line of `list`: `SIZE SP MTIME SP CRC SP NAME LF`.
fn list_line(entry: Entry<'_>) -> String {
    let number = |value: Option<u64>| value.map_or_else(|| "-".into(), |value| value.to_string());
    match entry.kind {
        EntryKind::File(stat) => {
            let crc = stat.crc.map_or_else(|| "-".into(), |crc| format!("{crc:08x}"));
            format!("{} {} {crc} {}\n", stat.size, number(stat.mtime), entry.name)
        }
        EntryKind::Directory { mtime } => format!("0 {} - {}/\n", number(mtime), entry.name),
    }
}
