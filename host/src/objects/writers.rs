//! The writers of this instance, by name.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skiff_proto::Instant;
use skiff_proto::takeover::Silence;
use tokio::sync::Notify;

/// One writer of a name.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) token: String,
    since: tokio::time::Instant,
    silence: Mutex<Silence>,
    /// Number of running requests for it. While there are any, it does not count as silent.
    pub(super) busy: AtomicUsize,
    evicted: AtomicBool,
    bytes: AtomicU64,
    /// True if it receives no more bytes, because they are being committed or saved.
    ending: AtomicBool,
    wake: Option<Arc<Notify>>,
}

impl Writer {
    pub(super) fn new(token: String, wake: Option<Arc<Notify>>) -> Arc<Self> {
        Arc::new(Self {
            token,
            since: tokio::time::Instant::now(),
            silence: Mutex::new(Silence::from(Instant::ZERO)),
            busy: AtomicUsize::new(0),
            evicted: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            ending: AtomicBool::new(false),
            wake,
        })
    }

    fn now(&self) -> Instant {
        Instant::ZERO.after(self.since.elapsed())
    }

    fn silence(&self) -> MutexGuard<'_, Silence> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the length of its file so far.
    pub(super) fn set_len(&self, len: u64) {
        self.bytes.store(len, Ordering::Relaxed);
    }

    /// Restarts its silence timer: bytes have arrived, or a request for it has finished.
    pub(super) fn moved(&self) {
        *self.silence() = Silence::from(self.now());
    }

    /// The driver is about to check for bytes.
    pub(super) fn look(&self) {
        self.silence().wait(self.now());
    }

    fn silent_for(&self) -> Duration {
        if self.busy.load(Ordering::Acquire) > 0 { Duration::ZERO } else { self.silence().at(self.now()) }
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Acquire)
    }

    /// Marks it as replaced by another writer.
    pub(super) fn evict(&self) {
        self.evicted.store(true, Ordering::Release);
        if let Some(wake) = &self.wake {
            wake.notify_one();
        }
    }

    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Release);
    }
}

/// The state of a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// No writer.
    Free,
    /// A writer receives bytes.
    Busy,
    /// The bytes of a writer are being committed or saved; the name will soon be free.
    Ending,
}

/// All writers of this instance.
#[derive(Debug, Default)]
pub(super) struct Writers {
    open: Mutex<HashMap<String, Arc<Writer>>>,
    /// Notified when a writer leaves.
    left: Notify,
}

impl Writers {
    fn open(&self) -> MutexGuard<'_, HashMap<String, Arc<Writer>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn presence(&self, name: &str) -> Presence {
        match self.open().get(name) {
            None => Presence::Free,
            Some(writer) if writer.is_evicted() || writer.ending.load(Ordering::Acquire) => Presence::Ending,
            Some(_) => Presence::Busy,
        }
    }

    /// Makes `writer` the writer of `name`, unless there is one.
    pub(super) fn enter(&self, name: &str, writer: &Arc<Writer>) -> Presence {
        let mut open = self.open();
        match open.get(name) {
            None => {
                open.insert(name.to_owned(), Arc::clone(writer));
                Presence::Free
            }
            Some(_) => {
                drop(open);
                self.presence(name)
            }
        }
    }

    pub(super) fn leave(&self, name: &str, token: &str) {
        let mut open = self.open();
        if open.get(name).is_some_and(|writer| writer.token == token) {
            open.remove(name);
        }
        drop(open);
        self.left.notify_waiters();
    }

    pub(super) fn holds(&self, name: &str, token: &str) -> bool {
        self.open().get(name).is_some_and(|writer| writer.token == token)
    }

    /// Evicts the writer of `name` if it has been silent for `patience`. True if the writer has been evicted, so that
    /// `name` will soon be free.
    pub(super) fn take_over(&self, name: &str, patience: Duration) -> bool {
        let Some(writer) = self.open().get(name).cloned() else { return false };
        if !writer.is_evicted() && writer.silent_for() >= patience {
            writer.evict();
        }
        writer.is_evicted()
    }

    /// Waits until `name` has no writer that is finishing.
    pub(super) async fn wait(&self, name: &str) {
        loop {
            let left = self.left.notified();
            if self.presence(name) != Presence::Ending {
                return;
            }
            left.await;
        }
    }

    /// Waits until there are no writers.
    pub(super) async fn drain(&self) {
        loop {
            let left = self.left.notified();
            if self.open().is_empty() {
                return;
            }
            left.await;
        }
    }

    /// Bytes that all writers have received.
    pub(super) fn bytes(&self) -> u64 {
        self.open().values().map(|writer| writer.bytes.load(Ordering::Relaxed)).sum()
    }
}
