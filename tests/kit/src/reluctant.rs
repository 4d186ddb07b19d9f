//! A store that queues changes, or that answers "not yet" and queues at random. Code that works with it works with
//! every store that waits.

use std::collections::VecDeque;

use skiff_proto::Name;
use skiff_proto::command::Verbs;
use skiff_proto::identity::StageOwner;
use skiff_proto::name::MAX_NAME;
use skiff_proto::reply::Tag;
use skiff_proto::store::{Entry, Result, Space, Stat, Store, StoreError, Sum};

use crate::flash::Rng;

/// Maximum number of queued changes in random mode.
const MOST: usize = 5;

/// When changes are made and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changes {
    /// One by one.
    AtOnce,
    /// In batches (PROTOCOL §7): when no input is waiting, or before something that could observe them.
    Batched,
    /// Randomly one way or the other, and often "not yet", with this seed.
    Random(u64),
}

/// Another store, made reluctant.
pub struct Reluctant<S: Store> {
    inner: S,
    changes: Changes,
    rng: Rng,
    /// Whether the current call has already been deferred.
    has_put_off: bool,
    /// None of these is visible before the queue is flushed.
    queue: VecDeque<Change<S::Stage>>,
    results: VecDeque<Result<Option<Stat>>>,
}

enum Change<T> {
    Commit { stage: T, name: String, size: u64, crc: Option<u32> },
    Remove(String),
    Rename(String, String),
    Mkdir(String),
    Rmdir(String),
}

fn name(text: &str) -> Name<'_> {
    Name::parse(text.as_bytes(), MAX_NAME).expect("it was a name")
}

impl<S: Store> Reluctant<S> {
    /// A store that makes changes in this way.
    #[must_use]
    pub fn new(inner: S, changes: Changes) -> Self {
        let rng = Rng::new(if let Changes::Random(seed) = changes { seed } else { 1 });
        Self { inner, changes, rng, has_put_off: false, queue: VecDeque::new(), results: VecDeque::new() }
    }

    /// Sometimes returns "not yet".
    fn hesitate(&mut self) -> Result<()> {
        let is_random = matches!(self.changes, Changes::Random(_));
        // Not for ever, and often not at all.
        if is_random && self.rng.below(if self.has_put_off { 4 } else { 2 }) == 1 {
            self.has_put_off = true;
            return Err(StoreError::NotYet);
        }
        self.has_put_off = false;
        Ok(())
    }

    /// True if the requested change is queued.
    fn queues(&mut self) -> Result<bool> {
        self.hesitate()?;
        match self.changes {
            Changes::AtOnce => Ok(false),
            Changes::Batched => Ok(true),
            Changes::Random(_) if self.queue.len() + self.results.len() >= MOST => {
                self.flush();
                Err(StoreError::NotYet)
            }
            // What is made at once comes behind what is queued.
            Changes::Random(_) => Ok(!self.queue.is_empty() || !self.results.is_empty() || self.rng.below(2) == 0),
        }
    }

    fn change(&mut self, change: Change<S::Stage>) -> Result<()> {
        if self.queues()? {
            self.queue.push_back(change);
            return Err(StoreError::Queued);
        }
        self.make(change).map(|_| ())
    }

    fn make(&mut self, change: Change<S::Stage>) -> Result<Option<Stat>> {
        match change {
            Change::Commit { mut stage, size, crc, .. } => loop {
                match self.inner.commit(&mut stage, crc) {
                    Err(StoreError::NotYet) => {}
                    Ok(()) => return Ok(Some(Stat { size, mtime: None, crc })),
                    Err(error) => {
                        self.inner.discard(stage);
                        return Err(error);
                    }
                }
            },
            Change::Remove(gone) => self.inner.remove(name(&gone)).map(|()| None),
            Change::Rename(from, to) => self.inner.rename(name(&from), name(&to)).map(|()| None),
            Change::Mkdir(new) => self.inner.mkdir(name(&new)).map(|()| None),
            Change::Rmdir(gone) => self.inner.rmdir(name(&gone)).map(|()| None),
        }
    }

    /// Makes the queued changes that a `write` could observe: of its name, of its parents, and of names below it.
    fn make_observed(&mut self, write: Name<'_>) {
        let is_inside = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
        let write = write.as_str();
        let observes = |change: &Change<S::Stage>| match change {
            Change::Commit { name, .. } => name == write || is_inside(name, write) || is_inside(write, name),
            _ => true,
        };
        if self.queue.iter().any(observes) {
            self.flush();
        }
    }
}

/// A version that is being written: its name, if it has one, and its size. The stage is gone once its change is queued.
pub struct ReluctantStage<S: Store> {
    stage: Option<S::Stage>,
    name: String,
    size: u64,
}

impl<S: Store> ReluctantStage<S> {
    fn open(&mut self) -> &mut S::Stage {
        self.stage.as_mut().expect("it is open")
    }
}

impl<S: Store> Store for Reluctant<S> {
    type File = S::File;
    type Stage = ReluctantStage<S>;
    type Cursor = S::Cursor;

    const VERBS: Verbs = S::VERBS;

    fn open(&mut self, name: Name<'_>) -> Result<(S::File, Stat)> {
        self.hesitate()?;
        self.inner.open(name)
    }

    fn tag(&mut self, file: &S::File) -> Tag {
        self.inner.tag(file)
    }

    fn read_at(&mut self, file: &mut S::File, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.hesitate()?;
        self.inner.read_at(file, offset, buffer)
    }

    fn sum(&mut self, file: &mut S::File, sum: &mut Sum) -> Result<bool> {
        self.hesitate()?;
        self.inner.sum(file, sum)
    }

    fn note_crc(&mut self, file: &S::File, crc: u32) {
        self.inner.note_crc(file, crc);
    }

    fn stat(&mut self, name: Name<'_>) -> Result<Stat> {
        self.hesitate()?;
        self.inner.stat(name)
    }

    fn staged(&mut self, name: Name<'_>, owner: StageOwner, size: u64) -> Result<(u64, u32)> {
        self.hesitate()?;
        self.inner.staged(name, owner, size)
    }

    fn stage(
        &mut self,
        name: Name<'_>,
        owner: StageOwner,
        offset: u64,
        size: u64,
        mtime: Option<u64>,
    ) -> Result<(Self::Stage, u32)> {
        self.hesitate()?;
        self.make_observed(name);
        let (stage, crc) = self.inner.stage(name, owner, offset, size, mtime)?;
        Ok((ReluctantStage { stage: Some(stage), name: name.as_str().into(), size }, crc))
    }

    fn stage_new(&mut self, name: Name<'_>, size: u64) -> Result<Self::Stage> {
        self.hesitate()?;
        Ok(ReluctantStage { stage: Some(self.inner.stage_new(name, size)?), name: name.as_str().into(), size })
    }

    fn ready(&mut self, stage: &mut Self::Stage) -> Result<()> {
        self.hesitate()?;
        self.inner.ready(stage.open())
    }

    fn append(&mut self, stage: &mut Self::Stage, bytes: &[u8]) -> Result<usize> {
        self.inner.append(stage.open(), bytes)
    }

    fn discard(&mut self, mut stage: Self::Stage) {
        if let Some(stage) = stage.stage.take() {
            self.inner.discard(stage);
        }
    }

    fn commit(&mut self, stage: &mut Self::Stage, crc: Option<u32>) -> Result<()> {
        if !self.queues()? {
            return self.inner.commit(stage.open(), crc);
        }
        if let Some(open) = stage.stage.take() {
            self.queue.push_back(Change::Commit { stage: open, name: stage.name.clone(), size: stage.size, crc });
        }
        Err(StoreError::Queued)
    }

    fn commit_new(&mut self, stage: &mut Self::Stage, name: Name<'_>) -> Result<()> {
        self.hesitate()?;
        self.inner.commit_new(stage.open(), name)
    }

    fn remove(&mut self, name: Name<'_>) -> Result<()> {
        self.change(Change::Remove(name.as_str().into()))
    }

    fn rename(&mut self, from: Name<'_>, to: Name<'_>) -> Result<()> {
        self.change(Change::Rename(from.as_str().into(), to.as_str().into()))
    }

    fn mkdir(&mut self, name: Name<'_>) -> Result<()> {
        self.change(Change::Mkdir(name.as_str().into()))
    }

    fn rmdir(&mut self, name: Name<'_>) -> Result<()> {
        self.change(Change::Rmdir(name.as_str().into()))
    }

    fn flush(&mut self) {
        while let Some(change) = self.queue.pop_front() {
            let result = self.make(change);
            self.results.push_back(result);
        }
    }

    fn next_result(&mut self) -> Result<Option<Stat>> {
        self.hesitate()?;
        self.results.pop_front().ok_or(StoreError::NotYet)?
    }

    fn list(&mut self, dir: Option<Name<'_>>) -> Result<S::Cursor> {
        self.hesitate()?;
        self.inner.list(dir)
    }

    fn omitted(&mut self, cursor: &mut S::Cursor) -> Result<u64> {
        self.hesitate()?;
        self.inner.omitted(cursor)
    }

    fn next_entry(&mut self, cursor: &mut S::Cursor, show: &mut dyn FnMut(Entry<'_>)) -> Result<bool> {
        self.hesitate()?;
        self.inner.next_entry(cursor, show)
    }

    fn settle(&mut self) {
        self.inner.settle();
    }

    fn space(&mut self) -> Result<Space> {
        self.hesitate()?;
        self.inner.space()
    }
}
