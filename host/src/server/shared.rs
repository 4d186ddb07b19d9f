//! The state that all connections of a server share.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::Arc;

use skiff_proto::Instant;
use tokio::sync::{Notify, watch};

use super::metrics::Metrics;
use super::options::Options;
use super::pool::Pool;
use super::ports::Ports;
use super::strangers::Strangers;

/// The state of a server; [`Server::run`](super::Server::run) sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It accepts and serves.
    Serving,
    /// Connections end as soon as nothing is in progress.
    Closing,
}

/// What all connections of a server share.
#[derive(Debug)]
pub(super) struct Shared<B> {
    pub(super) options: Options,
    pub(super) store: B,
    pub(super) pool: Arc<Pool>,
    pub(super) ports: Ports,
    pub(super) metrics: Metrics,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) start: std::time::Instant,
    pub(super) control: AtomicUsize,
    pub(super) strangers: Arc<Strangers>,
    /// The number of control and data connections.
    pub(super) tasks: AtomicUsize,
    /// Notified whenever a task ends.
    pub(super) ended: Notify,
}

impl<B> Shared<B> {
    /// The current time on the sessions' clock.
    pub(super) fn now(&self) -> Instant {
        self.time(std::time::Instant::now())
    }

    /// A moment on the sessions' clock.
    pub(super) fn time(&self, at: std::time::Instant) -> Instant {
        let since = at.saturating_duration_since(self.start).as_millis();
        Instant::from_millis(u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1))
    }

    /// Converts a moment from the sessions' clock to tokio's.
    pub(super) fn deadline(&self, at: Instant) -> tokio::time::Instant {
        let after_start = Duration::from_millis(at.as_millis().min(u64::from(u32::MAX) * 1000));
        tokio::time::Instant::from_std(self.start + after_start)
    }
}

/// Counts a task during its life.
#[derive(Debug)]
pub(super) struct Running<B>(pub(super) Arc<Shared<B>>);

impl<B> Running<B> {
    pub(super) fn new(shared: &Arc<Shared<B>>) -> Self {
        shared.tasks.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl<B> Drop for Running<B> {
    fn drop(&mut self) {
        self.0.tasks.fetch_sub(1, Ordering::Relaxed);
        self.0.ended.notify_waiters();
    }
}
