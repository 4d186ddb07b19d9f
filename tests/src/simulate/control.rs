//! The state that all tasks of a run share in addition to the world: remaining work, counts, and active faults.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::poll_fn;
use core::task::Poll;
use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use skiff_proto::Instant;
use skiff_proto::drive::Timer as _;

use super::plan::Plan;
use super::truth::Truth;
use super::watched::Failures;
use crate::sim::{Shared, Timer};

/// The counts of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub commands: u64,
    pub replies: u64,
    pub refusals: u64,
    pub transfers: u64,
    pub connections: u64,
    pub lost: u64,
    pub changes: u64,
    pub power_cuts: u64,
    pub store_failures: u64,
    pub partitions: u64,
    pub client_crashes: u64,
    pub clock_jumps: u64,
    pub stalls: u64,
    pub sealed: u64,
    pub forgeries: u64,
}

impl Counts {
    /// Adds those of another run.
    pub const fn add(&mut self, other: &Self) {
        self.commands += other.commands;
        self.replies += other.replies;
        self.refusals += other.refusals;
        self.transfers += other.transfers;
        self.connections += other.connections;
        self.lost += other.lost;
        self.changes += other.changes;
        self.power_cuts += other.power_cuts;
        self.store_failures += other.store_failures;
        self.partitions += other.partitions;
        self.client_crashes += other.client_crashes;
        self.clock_jumps += other.clock_jumps;
        self.stalls += other.stalls;
        self.sealed += other.sealed;
        self.forgeries += other.forgeries;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} commands ({} answered, {} of them refused), {} classic transfers, {} changes, {} connections ({} lost, {} sealed), \
             {} power cuts, {} client crashes, {} partitions, {} stalls, {} clock jumps, {} failures of the store, \
             {} forgeries",
            self.commands,
            self.replies,
            self.refusals,
            self.transfers,
            self.changes,
            self.connections,
            self.lost,
            self.sealed,
            self.power_cuts,
            self.client_crashes,
            self.partitions,
            self.stalls,
            self.clock_jumps,
            self.store_failures,
            self.forgeries,
        )
    }
}

/// See the module documentation.
pub struct Control {
    /// The plan of the seed.
    pub plan: Plan,
    /// The world.
    pub world: Shared,
    /// The truth.
    pub truth: RefCell<Truth>,
    /// The injected failures of the store.
    pub failures: Failures,
    /// Commands that are left.
    pub left: Cell<u64>,
    /// The faults have ended.
    pub is_over: Cell<bool>,
    counts: Cell<Counts>,
    contents: Cell<u64>,
    connections: Cell<u64>,
    /// The nonces of all hellos.
    nonces: RefCell<BTreeSet<[u8; 32]>>,
    /// The time of the last line.
    time: Cell<u64>,
    trace: Option<RefCell<VecDeque<String>>>,
}

/// Lines of a trace.
const LINES: usize = 2000;

impl Control {
    /// The initial state.
    #[must_use]
    pub fn new(plan: Plan, world: &Shared, truth: Truth, is_traced: bool) -> Rc<Self> {
        let left = Cell::new(plan.steps);
        Rc::new(Self {
            plan,
            world: Rc::clone(world),
            truth: RefCell::new(truth),
            failures: Failures::default(),
            left,
            is_over: Cell::new(false),
            counts: Cell::default(),
            contents: Cell::new(0),
            connections: Cell::new(0),
            nonces: RefCell::default(),
            time: Cell::new(0),
            trace: is_traced.then(RefCell::default),
        })
    }

    /// Counts something.
    pub fn count(&self, count: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        count(&mut counts);
        self.counts.set(counts);
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts.get();
        counts.changes = self.truth.borrow().changes;
        counts.store_failures = self.failures.count.get();
        counts
    }

    /// Takes one of the remaining commands; false if there is none.
    pub fn take_step(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }

    /// A new number for content.
    pub fn next_content(&self) -> u64 {
        self.contents.set(self.contents.get() + 1);
        self.contents.get()
    }

    /// A new number for a connection.
    pub fn next_connection(&self) -> u64 {
        self.connections.set(self.connections.get() + 1);
        self.connections.get()
    }

    /// Records the nonce in the hello of a new connection.
    ///
    /// # Panics
    /// If the nonce was used before (PROTOCOL §8).
    pub fn note_nonce(&self, nonce: [u8; 32]) {
        let is_new = self.nonces.borrow_mut().insert(nonce);
        assert!(is_new, "a second connection has the nonce {}", nonce.escape_ascii());
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.world.borrow().now()
    }

    /// Waits.
    pub async fn sleep(&self, time: Duration) {
        let at = self.now().after(time);
        Timer::new(&self.world).wait_until(at).await;
    }

    /// The result of `future`, if it completes within `time`.
    pub async fn within<T>(&self, time: Duration, future: impl Future<Output = T>) -> Option<T> {
        let end = self.now().after(time);
        let mut future = core::pin::pin!(future);
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            if self.now() >= end {
                return Poll::Ready(None);
            }
            self.world.borrow_mut().wake_at(end);
            Poll::Pending
        })
        .await
    }

    /// Writes a line of the trace, if there is one.
    pub fn trace(&self, line: impl FnOnce() -> String) {
        let Some(trace) = &self.trace else { return };
        // While the device has its turn, the world is its.
        let time = self.world.try_borrow().map_or(self.time.get(), |world| world.now().as_millis());
        self.time.set(time);
        let mut trace = trace.borrow_mut();
        if trace.len() >= LINES {
            trace.pop_front();
        }
        trace.push_back(format!("{time:>9} ms  {}", line()));
    }

    /// The last lines of the trace.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.trace.as_ref().map(|trace| trace.borrow().iter().cloned().collect()).unwrap_or_default()
    }
}
