//! Makes several writes durable together (PROTOCOL §7): one sync for a hundred files is a hundred times as fast as one
//! each.
//!
//! Files with complete bodies, and changes to names, wait here until the batch is closed: when no further input is
//! waiting, at a limit, after 100 ms, or before a command that could see the difference. While one batch becomes
//! durable, the next one fills.

use core::mem;
use core::net::IpAddr;
use core::pin::Pin;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::{HashSet, VecDeque};
use std::sync::OnceLock;

use rustix::process::{Resource, getrlimit};
use skiff_proto::ErrorCode;
use skiff_proto::name::Name;
use tokio::time::Instant;

use super::audit;
use super::pool::{Lane, Pool, Work};
use super::work::{self, Change, Done};
use crate::store::{DirStore, Stage};

/// Maximum number of files in a batch: each holds a descriptor, and waiting for the disk takes nearly as long for one
/// as for many.
const MOST_FILES: usize = 512;

/// Number of files that a batch may have even if descriptors are scarce.
const FEW_FILES: usize = 128;

/// Files in all batches of this process.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// Maximum number of changes to names in a batch.
const MOST_CHANGES: usize = 1024;

/// Maximum number of bytes in a batch, which wait in the page cache for one sync.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// Maximum time that the first file of a batch waits.
const LONGEST: Duration = Duration::from_millis(100);

/// A connection's writes that are complete but not durable yet, or its changes to names. Never both: a change waits
/// until the preceding writes are durable, and vice versa.
///
/// Most of the time it is empty, and then takes no memory.
#[derive(Debug, Default)]
pub(super) struct Batch(Option<Box<Pending>>);

/// The content of a batch.
#[derive(Debug, Default)]
struct Pending {
    files: Vec<(Stage, Option<u32>)>,
    held: Held,
    bytes: u64,
    names: Names,
    changes: Vec<Change>,
    /// The log entries of everything that is not durable yet, in order.
    audit: VecDeque<audit::Pending>,
    closes: Option<Instant>,
    committing: Option<Committing>,
    /// Results to be returned, in order.
    results: VecDeque<Done>,
}

/// A batch that is being made durable.
#[derive(Debug)]
struct Committing {
    work: Work<Vec<Done>>,
    /// The names of the files in it.
    names: Names,
    /// The number of results that it will produce.
    count: usize,
    changes: bool,
}

/// A share in [`HELD`], returned when it is dropped.
#[derive(Debug, Default)]
struct Held(usize);

impl Held {
    fn add(&mut self) {
        HELD.fetch_add(1, Ordering::Relaxed);
        self.0 += 1;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// The number of files in all batches above which each batch is limited to [`FEW_FILES`]: a quarter of the descriptors.
fn budget() -> usize {
    static BUDGET: OnceLock<usize> = OnceLock::new();
    *BUDGET.get_or_init(|| {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        usize::try_from(limit / 4).unwrap_or(usize::MAX)
    })
}

/// True if a batch with `files` files accepts no more, given the number `held` by all batches.
const fn has_most_files(files: usize, held: usize, budget: usize) -> bool {
    files >= MOST_FILES || (files >= FEW_FILES && held >= budget)
}

/// The names that a batch will put in place, and their directories.
#[derive(Debug, Default)]
struct Names {
    files: HashSet<Box<str>>,
    parents: HashSet<Box<str>>,
}

impl Names {
    fn insert(&mut self, name: Name<'_>) {
        self.files.insert(name.as_str().into());
        let mut parent = name.parent();
        while let Some(dir) = parent {
            if !self.parents.insert(dir.as_str().into()) {
                break;
            }
            parent = dir.parent();
        }
    }

    /// True if a write to `name` could see the difference: the same name, a file where it needs a directory, or vice
    /// versa.
    fn touches(&self, name: Name<'_>) -> bool {
        if self.files.is_empty() {
            return false;
        }
        core::iter::successors(Some(name), |name| name.parent()).any(|name| self.files.contains(name.as_str()))
            || self.parents.contains(name.as_str())
    }
}

impl Batch {
    /// Adds a file whose body is complete.
    pub(super) fn push(&mut self, stage: Stage, crc: Option<u32>, audit: audit::Pending) {
        let pending = self.0.get_or_insert_default();
        if let Some(name) = stage.name() {
            pending.names.insert(name);
        }
        pending.bytes += stage.size();
        pending.files.push((stage, crc));
        pending.audit.push_back(audit);
        pending.held.add();
        pending.closes.get_or_insert_with(|| Instant::now() + LONGEST);
    }

    /// Adds a change. Only if [`Batch::takes_changes`].
    pub(super) fn push_change(&mut self, change: Change, audit: audit::Pending) {
        let pending = self.0.get_or_insert_default();
        pending.audit.push_back(audit);
        pending.changes.push(change);
        pending.closes.get_or_insert_with(|| Instant::now() + LONGEST);
    }

    /// True if a change does not have to wait: changes are executed in the same order, but writes are not.
    pub(super) fn takes_changes(&self) -> bool {
        self.0.as_ref().is_none_or(|pending| {
            pending.files.is_empty() && pending.committing.as_ref().is_none_or(|committing| committing.changes)
        })
    }

    /// True if a write to `name` has to wait until the batch is durable.
    pub(super) fn touches(&self, name: Name<'_>) -> bool {
        let conflicts = |committing: &Committing| committing.changes || committing.names.touches(name);
        self.0.as_ref().is_some_and(|pending| {
            !pending.changes.is_empty()
                || pending.names.touches(name)
                || pending.committing.as_ref().is_some_and(conflicts)
        })
    }

    /// True if nothing is pending or in progress.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// True if it must be closed in any case.
    pub(super) fn is_due(&self) -> bool {
        let over = |closes| closes <= Instant::now();
        self.0.as_ref().is_some_and(|pending| pending.has_most() || pending.closes.is_some_and(over))
    }

    /// True if it accepts nothing more until the batch in progress is durable.
    pub(super) fn is_full(&self) -> bool {
        self.0.as_ref().is_some_and(|pending| pending.committing.is_some() && pending.has_most())
    }

    /// When it must be closed; `None` while the previous batch is still in progress.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let pending = self.0.as_ref()?;
        if pending.committing.is_some() { None } else { pending.closes }
    }

    /// Begins to make the batch durable, unless one is in progress or it is empty. True if one is in progress now.
    pub(super) fn close(&mut self, store: &DirStore, pool: &Pool, client: IpAddr) -> bool {
        self.0.as_mut().is_some_and(|pending| pending.close(store, pool, client))
    }

    /// Ready when the batch in progress is durable.
    pub(super) fn poll_committed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().map_or(Poll::Pending, |pending| pending.poll_committed(context))
    }

    /// The next result.
    pub(super) fn pop(&mut self) -> Option<Done> {
        let pending = self.0.as_mut()?;
        let result = pending.results.pop_front();
        if pending.is_empty() {
            self.0 = None;
        }
        result
    }

    /// Makes the rest durable: the client requested it, and it does not matter whether it is still connected.
    pub(super) async fn finish(&mut self, store: &DirStore, pool: &Pool, client: IpAddr) {
        while self.close(store, pool, client) {
            core::future::poll_fn(|context| self.poll_committed(context)).await;
        }
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.files.is_empty() && self.changes.is_empty() && self.committing.is_none() && self.results.is_empty()
    }

    fn has_most(&self) -> bool {
        has_most_files(self.files.len(), HELD.load(Ordering::Relaxed), budget())
            || self.bytes >= MOST_BYTES
            || self.changes.len() >= MOST_CHANGES
    }

    fn close(&mut self, store: &DirStore, pool: &Pool, client: IpAddr) -> bool {
        if self.committing.is_some() || (self.files.is_empty() && self.changes.is_empty()) {
            return self.committing.is_some();
        }
        let store = store.clone();
        let names = mem::take(&mut self.names);
        let files = mem::take(&mut self.files);
        let held = mem::take(&mut self.held);
        let changes = mem::take(&mut self.changes);
        self.bytes = 0;
        self.closes = None;
        self.committing = Some(if files.is_empty() {
            let count = changes.len();
            let work = pool.run(Lane::Commit, client, move || work::change(&store, &changes));
            Committing { work, names, count, changes: true }
        } else {
            let count = files.len();
            let work = pool.run(Lane::Commit, client, move || {
                let results = store.commit_batch(files).into_iter().map(|result| result.map(Some)).collect();
                drop(held);
                results
            });
            Committing { work, names, count, changes: false }
        });
        true
    }

    fn poll_committed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(committing) = &mut self.committing else { return Poll::Pending };
        let Poll::Ready(results) = Pin::new(&mut committing.work).poll(context) else { return Poll::Pending };
        let results = results.unwrap_or_else(|| {
            tracing::error!("commit failed: no thread to run it");
            vec![Err(ErrorCode::Io.into()); committing.count]
        });
        self.committing = None;
        for result in &results {
            if let Some(entry) = self.audit.pop_front().flatten() {
                entry.end(result);
            }
        }
        self.results.extend(results);
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_small_where_descriptors_are_scarce() {
        assert!(!has_most_files(511, 511, 1000) && has_most_files(512, 512, 1000));
        assert!(!has_most_files(127, 2000, 1000) && has_most_files(128, 1000, 1000));
        // More than the batches of other tests ever hold: each file of theirs has a descriptor.
        let mut held = Held::default();
        (0..1_000_000).for_each(|_| held.add());
        assert!(HELD.load(Ordering::Relaxed) >= 1_000_000);
        drop(held);
        assert!(HELD.load(Ordering::Relaxed) < 1_000_000);
    }

    #[test]
    fn a_write_waits_for_names_it_could_see() {
        let name = |text: &'static str| Name::parse(text.as_bytes(), 255).unwrap();
        let mut names = Names::default();
        assert!(!names.touches(name("a")));
        names.insert(name("d/e/f"));
        for (other, touches) in
            [("d/e/f", true), ("d/e", true), ("d", true), ("d/e/f/g", true), ("d/x", false), ("d/e/g", false)]
        {
            assert_eq!(names.touches(name(other)), touches, "{other}");
        }
    }
}
