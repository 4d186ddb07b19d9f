//! The store of one connection: a [`Store`] over the directory that all connections share.
//!
//! Cheap calls return at once. Calls that wait for the disk run on the threads of the [`pool`](super::pool); until they
//! are done, the answer is "not yet", and [`PolledStore::ready`] waits for them. Changes are queued, to make several of
//! them durable together ([`batch`](super::batch)). Calls on a file system mounted below the root return "not yet"
//! until the connection runs on a thread that may block on it.

use core::future::poll_fn;
use core::mem;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::Arc;

use skiff_proto::command::Verbs;
use skiff_proto::identity::{KeyId, StageOwner};
use skiff_proto::name::{MAX_NAME, Name};
use skiff_proto::reply::Tag;
use skiff_proto::store::{Entry, Result, Space, Staging, Stat, Store, StoreError, Sum};
use skiff_proto::transfer::{NUMBERS, commit_numbered, numbered};
use skiff_proto::{ErrorCode, Refusal};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::audit;
use super::backend::{Backend, Session};
use super::batch::Batch;
use super::pool::{self, Lane, Pool, Work};
use super::who::Who;
use super::work::{Change, KeptName, Outcome, Reading, Write, keep, read_sum};
use crate::store::{Cursor, DirStore, ELSEWHERE, File, Owner, Stage};

/// Up to this many entries of a directory are counted without another thread.
const SMALL_LIST: u32 = 1000;

/// Up to this many bytes of a `sum` are read without another thread.
const SMALL_SUM: u64 = 256 * 1024;

/// The refusal of a request for a file system that does not respond.
const SILENT: Refusal = Refusal::new(ErrorCode::Io, "the file system does not respond");

/// The store of one connection. See the module documentation.
#[derive(Debug)]
pub struct PolledStore {
    store: DirStore,
    pool: Arc<Pool>,
    peer: Who,
    batch: Batch,
    job: Option<Job>,
    /// The peer may be gone: its work gets the lowest priority.
    doubtful: bool,
    /// The next call touches a file system mounted beneath the root, which this thread must not wait for.
    leaving: bool,
    /// No thread for other file systems is available: the next call is refused.
    stranded: bool,
    /// Notified when another connection takes over the name that this one writes.
    evicted: Option<Arc<Notify>>,
    /// Queued changes that have failed and are not counted yet.
    failures: u64,
    /// The `write` that was refused last, for the audit trail.
    refused: Option<Box<(String, ErrorCode)>>,
}

/// The work for the call that was answered "not yet".
#[derive(Debug)]
enum Job {
    Running(Work<Outcome>),
    /// `None` if no thread could do it.
    Done(Option<Outcome>),
}

/// A file that is being written.
#[derive(Debug)]
pub struct Upload {
    /// `None` once it is committed or discarded.
    stage: Option<Box<Stage>>,
    peer: Who,
    /// Why an append failed.
    failed: Option<ErrorCode>,
}

impl Upload {
    const fn new(stage: Box<Stage>, peer: Who) -> Self {
        Self { stage: Some(stage), peer, failed: None }
    }

    /// Who is writing it.
    fn owner(&self) -> Option<&Arc<Owner>> {
        self.stage.as_ref().map(|stage| stage.owner())
    }

    /// Ends it, and logs the outcome.
    fn end(&mut self, outcome: &str) -> Option<Box<Stage>> {
        let stage = self.stage.take()?;
        // An unnamed one is logged with its data connection.
        if let (Some(name), None) = (stage.name(), self.failed) {
            audit::upload(self.peer, "write", name.as_str(), Some(stage.size()), outcome);
        }
        Some(stage)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.end("interrupted");
    }
}

/// A directory that is being listed. `None` while another thread counts its entries.
#[derive(Debug)]
pub struct Listing(Option<Box<Cursor>>);

impl PolledStore {
    /// The store of one connection, with its own threads.
    #[must_use]
    pub fn new(store: DirStore, peer: SocketAddr) -> Self {
        Self::with_pool(store, Arc::new(Pool::new()), Who::new(peer))
    }

    pub(super) fn with_pool(store: DirStore, pool: Arc<Pool>, peer: Who) -> Self {
        Self {
            store,
            pool,
            peer,
            batch: Batch::default(),
            job: None,
            doubtful: false,
            leaving: false,
            stranded: false,
            evicted: None,
            failures: 0,
            refused: None,
        }
    }

    /// Waits until a call that was answered "not yet" should be repeated, or results of queued changes are available.
    /// Forever if none of them is in progress.
    pub async fn ready(&mut self) {
        poll_fn(|context| self.poll_ready(context)).await;
    }

    /// See [`PolledStore::ready`].
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let done = match &mut self.job {
            Some(Job::Running(work)) => Pin::new(work).poll(context).map(Job::Done),
            _ => Poll::Pending,
        };
        let committed = self.batch.poll_committed(context);
        if let Poll::Ready(done) = done {
            self.job = Some(done);
            return Poll::Ready(());
        }
        committed
    }

    /// "Not yet" if `name` leads to a file system that this thread may not wait for.
    fn enter(&mut self, name: Name<'_>) -> Result<()> {
        if self.store.is_elsewhere(name) { self.leave() } else { Ok(()) }
    }

    fn leave(&mut self) -> Result<()> {
        if pool::is_elsewhere() {
            return Ok(());
        }
        if mem::take(&mut self.stranded) {
            warn!(peer = %self.peer, "{}", SILENT.text);
            return Err(SILENT.into());
        }
        self.leaving = true;
        Err(StoreError::NotYet)
    }

    /// The outcome of the work that an earlier call began. Begins it if there is none.
    fn poll_work(&mut self, begin: impl FnOnce(&Self) -> Result<Work<Outcome>>) -> Result<Outcome> {
        match self.job.take() {
            Some(Job::Done(outcome)) => return outcome.ok_or(ErrorCode::Io.into()),
            None => {
                let work = begin(self)?;
                if self.doubtful {
                    work.doubt();
                }
                self.job = Some(Job::Running(work));
            }
            running => self.job = running,
        }
        Err(StoreError::NotYet)
    }

    /// [`PolledStore::poll_work`] for a reading.
    fn read(&mut self, reading: impl FnOnce() -> Result<Reading, Refusal>) -> Result<Outcome> {
        self.poll_work(|this| {
            let (store, mut reading) = (this.store.clone(), reading()?);
            Ok(this.pool.read(this.peer.ip(), move |turn| reading.turn(&store, turn)))
        })
    }

    /// True if an earlier call began a reading.
    const fn has_begun(&self) -> bool {
        self.job.is_some()
    }

    /// Queues a change, once the preceding writes are durable.
    fn change(&mut self, change: Change) -> Result<()> {
        match &change {
            Change::Rename(from, to) => self.enter(from.as_name()).and_then(|()| self.enter(to.as_name()))?,
            Change::Remove(name) | Change::Mkdir(name) | Change::Rmdir(name) => self.enter(name.as_name())?,
        }
        if !self.batch.takes_changes() || self.batch.is_full() {
            self.flush();
            return Err(StoreError::NotYet);
        }
        let audit = audit::Entry::change(self.peer, &change);
        self.batch.push_change(change, audit);
        self.flush_if_due();
        Err(StoreError::Queued)
    }

    /// Wraps `stage` so that another connection can take over its name from this one.
    fn upload(&mut self, stage: Box<Stage>) -> Upload {
        let evicted = Arc::clone(self.evicted.get_or_insert_default());
        stage.owner().on_evict(move || evicted.notify_one());
        Upload::new(stage, self.peer)
    }
}

impl Backend for DirStore {
    type Session = PolledStore;

    fn session(&self, pool: &Arc<Pool>, peer: Who) -> PolledStore {
        PolledStore::with_pool(self.clone(), Arc::clone(pool), peer)
    }

    fn take_over(&self, name: Name<'_>, patience: Duration) -> bool {
        Self::take_over(self, name, patience)
    }

    fn staged_bytes(&self) -> u64 {
        Self::staged_bytes(self)
    }
}

impl Session for PolledStore {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        Self::poll_ready(self, context)
    }

    fn is_idle(&self) -> bool {
        self.batch.is_empty() && self.job.is_none()
    }

    fn is_working(&self) -> bool {
        matches!(self.job, Some(Job::Running(_)))
    }

    async fn finish(&mut self) {
        self.batch.finish(&self.store, &self.pool, self.peer.ip()).await;
    }

    fn evicted_by(&self) -> Option<Arc<Notify>> {
        self.evicted.clone()
    }

    fn is_evicted(upload: &Upload) -> bool {
        upload.owner().is_some_and(|owner| owner.is_evicted())
    }

    fn look(upload: &Upload) {
        if let Some(owner) = upload.owner() {
            owner.look();
        }
    }

    fn os_file(file: &Arc<File>) -> Option<&File> {
        Some(file)
    }

    async fn commit_put(&mut self, mut upload: Upload, name: KeptName) -> Result<String, Refusal> {
        let Some(mut stage) = upload.stage.take() else { return Err(ErrorCode::Io.into()) };
        let mut store = self.store.clone();
        let stored = self.pool.run(Lane::Commit, self.peer.ip(), move || {
            let (name, mut number) = (name.as_name(), 0);
            commit_numbered(&mut store, &mut stage, name, &mut number, NUMBERS).map_err(StoreError::refusal)?;
            Ok(numbered(name, number, &mut [0; MAX_NAME])?.as_str().to_owned())
        });
        stored.await.unwrap_or(Err(ErrorCode::Io.into()))
    }

    fn set_key(&mut self, key: KeyId) {
        self.peer.key = Some(key);
    }

    fn doubt(&mut self) {
        self.doubtful = true;
        if let Some(Job::Running(work)) = &self.job {
            work.doubt();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.batch.deadline()
    }

    fn flush_if_due(&mut self) {
        if self.batch.is_due() {
            self.flush();
        }
    }

    fn is_leaving(&mut self) -> bool {
        mem::replace(&mut self.leaving, false)
    }

    fn strand(&mut self) {
        self.stranded = true;
    }

    fn take_failures(&mut self) -> u64 {
        mem::take(&mut self.failures)
    }

    fn log_refused(&mut self) {
        if let Some(refused) = self.refused.take() {
            let (name, code) = *refused;
            audit::upload(self.peer, "write", &name, None, code.as_str());
        }
    }
}

/// A result that does not belong to the call, which never happens.
const fn mixed_up<T>() -> Result<T> {
    Err(StoreError::Refused(Refusal::new(ErrorCode::Io, "internal error: the server mixed up two requests")))
}

impl Store for PolledStore {
    type File = Arc<File>;
    type Stage = Upload;
    type Cursor = Listing;

    const VERBS: Verbs = Verbs::ALL;

    fn open(&mut self, name: Name<'_>) -> Result<(Arc<File>, Stat)> {
        self.enter(name)?;
        debug!(peer = %self.peer, name = ?name.as_str(), "open");
        let (file, stat) = self.store.open(name)?;
        Ok((Arc::new(file), stat))
    }

    fn tag(&mut self, file: &Arc<File>) -> Tag {
        self.store.tag(file)
    }

    fn read_at(&mut self, file: &mut Arc<File>, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let read = self.store.read_at(file, offset, buffer);
        Ok(read.inspect_err(|refusal| warn!(peer = %self.peer, code = %refusal.code, "read aborted"))?)
    }

    fn sum(&mut self, file: &mut Arc<File>, sum: &mut Sum) -> Result<bool> {
        let stat = file.stat();
        if let Some(crc) = stat.crc.filter(|_| sum.length() == stat.size) {
            sum.finish(crc);
            return Ok(true);
        }
        let summed = if sum.length() <= SMALL_SUM && !self.has_begun() {
            match read_sum(&self.store, file, sum, &mut || false) {
                Poll::Ready(summed) => summed,
                Poll::Pending => return Ok(false),
            }
        } else {
            match self.read(|| Ok(Reading::Sum(Arc::clone(file), *sum)))? {
                Outcome::Sum(summed) => summed,
                _ => return mixed_up(),
            }
        };
        *sum = summed?;
        Ok(true)
    }

    fn note_crc(&mut self, file: &Arc<File>, crc: u32) {
        self.store.remember_crc(file, crc);
    }

    fn stat(&mut self, name: Name<'_>) -> Result<Stat> {
        self.enter(name)?;
        Ok(self.store.stat(name)?)
    }

    fn staged(&mut self, name: Name<'_>, owner: StageOwner, size: u64) -> Result<(u64, u32)> {
        self.enter(name)?;
        match self.read(|| Ok(Reading::Resume(size, owner, keep(name)?)))? {
            Outcome::Staged(staged) => Ok(staged?),
            _ => mixed_up(),
        }
    }

    fn stage(&mut self, staging: Staging<'_>) -> Result<(Upload, u32)> {
        let name = staging.name;
        self.enter(name)?;
        self.refused = None;
        if self.batch.touches(name) {
            self.flush();
            return Err(StoreError::NotYet);
        }
        let staged = if staging.offset == 0 {
            self.store.stage(staging).map(|(stage, crc)| (Box::new(stage), crc))
        } else {
            // Staged bytes have to be read for their checksum.
            match self.read(|| Ok(Reading::Write(Write::keep(staging)?)))? {
                Outcome::Stage(staged) => staged,
                _ => return mixed_up(),
            }
        };
        match staged {
            Ok((stage, crc)) => Ok((self.upload(stage), crc)),
            Err(refusal) => {
                self.refused = Some(Box::new((name.as_str().to_owned(), refusal.code)));
                Err(refusal.into())
            }
        }
    }

    fn stage_new(&mut self, name: Name<'_>, size: u64) -> Result<Upload> {
        self.enter(name)?;
        match self.store.check_put(name).and_then(|()| self.store.stage_unnamed(size)) {
            Ok(stage) => Ok(Upload::new(Box::new(stage), self.peer)),
            Err(refusal) => {
                audit::upload(self.peer, "put", name.as_str(), None, refusal.code.as_str());
                Err(refusal.into())
            }
        }
    }

    fn append(&mut self, upload: &mut Upload, bytes: &[u8]) -> Result<usize> {
        let Some(stage) = &mut upload.stage else { return mixed_up() };
        match self.store.append(stage, bytes) {
            Ok(n) => Ok(n),
            Err(refusal) => {
                if let Some(name) = stage.name() {
                    audit::upload(self.peer, "write", name.as_str(), Some(stage.size()), refusal.code.as_str());
                }
                upload.failed = Some(refusal.code);
                Err(refusal.into())
            }
        }
    }

    fn copy(&mut self, file: &mut Arc<File>, upload: &mut Upload, sum: &mut Sum) -> Result<bool> {
        let copied = self.read(|| match upload.stage.take() {
            Some(stage) => Ok(Reading::Copy(Arc::clone(file), Some(stage))),
            None => Err(ErrorCode::Io.into()),
        });
        match copied? {
            Outcome::Copied(stage, copied) => {
                upload.stage = Some(stage);
                copied?;
                file.settle_sum(sum);
                Ok(true)
            }
            _ => mixed_up(),
        }
    }

    fn discard(&mut self, mut upload: Upload) {
        // There may be room for the rest later: the staged bytes stay, and are dropped first if others need room (PROTOCOL §7).
        let keeps = upload.failed == Some(ErrorCode::NoSpace);
        if let Some(stage) = upload.end("discarded").filter(|_| !keeps) {
            self.store.discard(*stage);
        }
    }

    fn commit(&mut self, upload: &mut Upload, crc: Option<u32>) -> Result<()> {
        if self.batch.is_full() {
            return Err(StoreError::NotYet);
        }
        let Some(stage) = upload.stage.take() else { return mixed_up() };
        let audit = audit::Entry::write(self.peer, &stage);
        self.batch.push(*stage, crc, audit);
        self.flush_if_due();
        Err(StoreError::Queued)
    }

    fn commit_new(&mut self, upload: &mut Upload, name: Name<'_>) -> Result<()> {
        let outcome = self.poll_work(|this| {
            let Some(mut stage) = upload.stage.take() else { return mixed_up() };
            let (store, name) = (this.store.clone(), keep(name)?);
            Ok(this.pool.run(Lane::Commit, this.peer.ip(), move || {
                let stored = store.commit_new(&mut stage, name.as_name());
                Outcome::Committed(stage, stored.map(drop))
            }))
        });
        match outcome? {
            Outcome::Committed(stage, stored) => {
                upload.stage = Some(stage);
                Ok(stored?)
            }
            _ => mixed_up(),
        }
    }

    fn remove(&mut self, name: Name<'_>) -> Result<()> {
        self.change(Change::Remove(keep(name)?))
    }

    fn rename(&mut self, from: Name<'_>, to: Name<'_>) -> Result<()> {
        self.change(Change::Rename(keep(from)?, keep(to)?))
    }

    fn mkdir(&mut self, name: Name<'_>) -> Result<()> {
        self.change(Change::Mkdir(keep(name)?))
    }

    fn rmdir(&mut self, name: Name<'_>) -> Result<()> {
        self.change(Change::Rmdir(keep(name)?))
    }

    fn flush(&mut self) {
        self.batch.close(&self.store, &self.pool, self.peer.ip());
    }

    fn next_result(&mut self) -> Result<Option<Stat>> {
        let result = self.batch.pop().ok_or(StoreError::NotYet)?;
        self.failures += u64::from(result.is_err());
        Ok(result?)
    }

    fn list(&mut self, dir: Option<Name<'_>>) -> Result<Listing> {
        dir.map_or(Ok(()), |dir| self.enter(dir))?;
        Ok(Listing(Some(Box::new(self.store.list(dir)?))))
    }

    fn tree(&mut self, dir: Option<Name<'_>>) -> Result<Listing> {
        // File systems mounted below the directory are part of the tree.
        if self.store.has_mounts() {
            self.leave()?;
        }
        Ok(Listing(Some(Box::new(self.store.tree(dir)?))))
    }

    fn omitted(&mut self, listing: &mut Listing) -> Result<u64> {
        let mut omitted = 0;
        if !self.has_begun() {
            let Some(cursor) = &mut listing.0 else { return mixed_up() };
            let mut left = SMALL_LIST;
            // A large directory is read to its end in turns, so that no other client waits.
            let mut pause = || {
                left -= 1;
                left == 0
            };
            if self.store.count_omitted(cursor, &mut omitted, &mut pause)? {
                return Ok(omitted);
            }
        }
        match self.read(|| Ok(Reading::Omitted(listing.0.take(), omitted)))? {
            Outcome::Omitted(counted) => {
                let (omitted, cursor) = counted?;
                listing.0 = Some(cursor);
                Ok(omitted)
            }
            _ => mixed_up(),
        }
    }

    fn next_entry(&mut self, listing: &mut Listing, show: &mut dyn FnMut(Entry<'_>)) -> Result<bool> {
        let Some(cursor) = &mut listing.0 else { return mixed_up() };
        if pool::is_elsewhere() {
            return Ok(self.store.next_entry(cursor, show)?);
        }
        match self.store.next_entry_here(cursor, show) {
            Err(ELSEWHERE) => {
                self.leave()?;
                Err(StoreError::NotYet)
            }
            next => Ok(next?),
        }
    }

    fn count_names(&mut self, _: &mut Listing, name_max: u16, length: &mut u64) -> Result<bool> {
        if self.store.has_mounts() {
            self.leave()?;
        }
        match self.read(|| Ok(Reading::Ls(name_max)))? {
            Outcome::Names(counted) => {
                *length = counted?;
                Ok(true)
            }
            _ => mixed_up(),
        }
    }

    fn space(&mut self) -> Result<Space> {
        Ok(self.store.space()?)
    }
}
