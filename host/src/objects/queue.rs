//! The changes of one connection whose results have not been reported to the peer. They run concurrently, unless one
//! could see the effect of another.

use core::mem;
use std::collections::VecDeque;

use skiff_proto::ErrorCode;
use skiff_proto::store::{Result, Stat, StoreError};

use super::pending::Pending;
use super::{BYTES_IN_FLIGHT, IN_FLIGHT};
use crate::server::audit;
use crate::server::who::Who;
use crate::server::work::Done;

/// Changes, in the order of their commands.
#[derive(Debug, Default)]
pub(super) struct Queue {
    changes: VecDeque<InFlight>,
    /// Bytes of the files in the queue.
    bytes: usize,
    /// Failed changes that are not counted in the metrics yet.
    failures: u64,
}

/// A change that is being executed.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) names: [Option<String>; 2],
    pub(super) bytes: usize,
    pub(super) verb: &'static str,
    pub(super) size: Option<u64>,
    pub(super) done: Pending<Done>,
}

impl InFlight {
    /// True if one of the names is `name`, a parent directory of it, or a path below it.
    fn touches(&self, name: &str) -> bool {
        let is_below =
            |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.names.iter().flatten().any(|other| is_below(other, name) || is_below(name, other))
    }
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// True if another change can be queued now.
    pub(super) fn has_room(&self) -> bool {
        self.changes.len() < IN_FLIGHT && (self.bytes < BYTES_IN_FLIGHT || self.changes.is_empty())
    }

    /// True if a change of `name` has to wait for a change in the queue.
    pub(super) fn touches(&self, name: &str) -> bool {
        self.changes.iter().any(|change| change.touches(name))
    }

    pub(super) fn push(&mut self, change: InFlight) {
        self.bytes += change.bytes;
        self.changes.push_back(change);
    }

    /// True if all changes have been executed.
    pub(super) fn is_over(&self) -> bool {
        self.changes.iter().all(|change| change.done.is_over())
    }

    /// Removes the first change and returns its result; `NotYet` while it is being executed.
    pub(super) fn next_result(&mut self, peer: Who) -> Result<Option<Stat>> {
        let Some(first) = self.changes.front_mut() else { return Err(StoreError::NotYet) };
        let Some(done) = first.done.take() else { return Err(StoreError::NotYet) };
        let done = done.unwrap_or(Err(ErrorCode::Io.into()));
        self.failures += u64::from(done.is_err());
        if let Some(InFlight { names: [name, to], bytes, verb, size, .. }) = self.changes.pop_front() {
            self.bytes -= bytes;
            audit::change(peer, verb, name.as_deref().unwrap_or_default(), to.as_deref(), size, &done);
        }
        Ok(done?)
    }

    /// The number of changes that have failed since the last call.
    pub(super) fn take_failures(&mut self) -> u64 {
        mem::take(&mut self.failures)
    }
}
