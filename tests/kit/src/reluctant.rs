//! A store that often answers "not yet", and that queues some of its changes, at random: what works with it works with
//! every store that waits.

use std::collections::VecDeque;

use skiff_proto::Name;
use skiff_proto::command::Verbs;
use skiff_proto::reply::Tag;
use skiff_proto::store::{Entry, Result, Space, Stat, Store, StoreError, Sum};

use crate::flash::Rng;
use crate::memory::MemoryStore;

/// Changes that the queue holds at most.
const MOST: usize = 5;

/// Another store, made reluctant.
pub struct Reluctant<S> {
    inner: S,
    rng: Rng,
    /// The call at hand has been put off already.
    has_put_off: bool,
    queue: VecDeque<Result<Option<Stat>>>,
    /// Results that may be given: the queue was flushed when it had so many.
    durable: usize,
}

impl<S: Store> Reluctant<S> {
    /// The same `seed`, the same answers.
    #[must_use]
    pub fn new(inner: S, seed: u64) -> Self {
        Self { inner, rng: Rng::new(seed), has_put_off: false, queue: VecDeque::new(), durable: 0 }
    }

    /// "Not yet" now and then.
    fn hesitate(&mut self) -> Result<()> {
        // Not for ever, and often not at all.
        if self.rng.below(if self.has_put_off { 4 } else { 2 }) == 1 {
            self.has_put_off = true;
            return Err(StoreError::NotYet);
        }
        self.has_put_off = false;
        Ok(())
    }

    fn change(&mut self, size: Option<(u64, Option<u32>)>, change: impl FnOnce(&mut S) -> Result<()>) -> Result<()> {
        self.hesitate()?;
        if self.queue.len() >= MOST {
            self.flush();
            return Err(StoreError::NotYet);
        }
        let done = change(&mut self.inner);
        if matches!(done, Err(StoreError::NotYet)) || self.rng.below(2) == 0 {
            return done;
        }
        self.queue.push_back(done.map(|()| size.map(|(size, crc)| Stat { size, mtime: None, crc })));
        Err(StoreError::Queued)
    }
}

impl From<MemoryStore> for Reluctant<MemoryStore> {
    fn from(store: MemoryStore) -> Self {
        Self::new(store, 1)
    }
}

/// A version that is being written, and its size. `None` once it is of no more use.
pub struct ReluctantStage<T>(Option<T>, u64);

impl<S: Store> Store for Reluctant<S> {
    type File = S::File;
    type Stage = ReluctantStage<S::Stage>;
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

    fn staged(&mut self, name: Name<'_>, size: u64) -> Result<(u64, u32)> {
        self.hesitate()?;
        self.inner.staged(name, size)
    }

    fn stage(&mut self, name: Name<'_>, offset: u64, size: u64, mtime: Option<u64>) -> Result<(Self::Stage, u32)> {
        self.hesitate()?;
        let (stage, crc) = self.inner.stage(name, offset, size, mtime)?;
        Ok((ReluctantStage(Some(stage), size), crc))
    }

    fn stage_new(&mut self, name: Name<'_>, size: u64) -> Result<Self::Stage> {
        self.hesitate()?;
        Ok(ReluctantStage(Some(self.inner.stage_new(name, size)?), size))
    }

    fn ready(&mut self, stage: &mut Self::Stage) -> Result<()> {
        self.hesitate()?;
        self.inner.ready(stage.0.as_mut().expect("it is open"))
    }

    fn append(&mut self, stage: &mut Self::Stage, bytes: &[u8]) -> Result<usize> {
        self.inner.append(stage.0.as_mut().expect("it is open"), bytes)
    }

    fn discard(&mut self, mut stage: Self::Stage) {
        if let Some(stage) = stage.0.take() {
            self.inner.discard(stage);
        }
    }

    fn commit(&mut self, stage: &mut Self::Stage, crc: Option<u32>) -> Result<()> {
        let ReluctantStage(stage, size) = stage;
        let done = self.change(Some((*size, crc)), |store| store.commit(stage.as_mut().expect("it is open"), crc));
        if done == Err(StoreError::Queued) {
            let refused = matches!(self.queue.back(), Some(Err(_)));
            // The server takes it for queued, and drops the stage.
            if let Some(stage) = stage.take().filter(|_| refused) {
                self.inner.discard(stage);
            }
        }
        done
    }

    fn commit_new(&mut self, stage: &mut Self::Stage, name: Name<'_>) -> Result<()> {
        self.hesitate()?;
        self.inner.commit_new(stage.0.as_mut().expect("it is open"), name)
    }

    fn remove(&mut self, name: Name<'_>) -> Result<()> {
        self.change(None, |store| store.remove(name))
    }

    fn rename(&mut self, from: Name<'_>, to: Name<'_>) -> Result<()> {
        self.change(None, |store| store.rename(from, to))
    }

    fn mkdir(&mut self, name: Name<'_>) -> Result<()> {
        self.change(None, |store| store.mkdir(name))
    }

    fn rmdir(&mut self, name: Name<'_>) -> Result<()> {
        self.change(None, |store| store.rmdir(name))
    }

    fn flush(&mut self) {
        self.durable = self.queue.len();
    }

    fn next_result(&mut self) -> Result<Option<Stat>> {
        self.hesitate()?;
        self.durable = self.durable.checked_sub(1).ok_or(StoreError::NotYet)?;
        self.queue.pop_front().expect("as many as were flushed")
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
