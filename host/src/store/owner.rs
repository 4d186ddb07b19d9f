//! The writer of each name, and how another one takes over its stage. [`takeover`](skiff_proto::takeover) decides when
//! that happens.
//!
//! An owner is idle, writing or evicted. Only an idle one can be evicted, in one atomic step, and only one that
//! is not evicted can begin to write: so after a takeover the old writer has no write to the file in progress and
//! can't begin one.

use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};
use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skiff_proto::takeover::Silence;
use skiff_proto::{ErrorCode, Instant, Refusal};

use super::slot::StageId;

const IDLE: u8 = 0;
const WRITING: u8 = 1;
const EVICTED: u8 = 2;

/// Who is writing a stage.
pub struct Owner {
    state: AtomicU8,
    since: std::time::Instant,
    silence: Mutex<Silence>,
    wake: Mutex<Option<Wake>>,
}

type Wake = Box<dyn Fn() + Send + Sync>;

/// A length and the CRC-32C of that many bytes.
pub(super) type Sum = (u64, u32);

impl Owner {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU8::new(IDLE),
            since: std::time::Instant::now(),
            silence: Mutex::new(Silence::from(Instant::ZERO)),
            wake: Mutex::new(None),
        })
    }

    /// Sets a function that is called once, when this writer is evicted. It runs on the thread of the writer that takes
    /// over, so it must be brief. Called at once if this writer was evicted before.
    pub fn on_evict(&self, wake: impl Fn() + Send + Sync + 'static) {
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(wake));
        if self.is_evicted() {
            self.wake();
        }
    }

    /// Takes the stage from its writer: from now on the writer appends and commits nothing, and dropping its stage does
    /// not touch the file. False if the writer is appending or committing right now, or was evicted before.
    pub fn evict(&self) -> bool {
        let evicted = self.state.compare_exchange(IDLE, EVICTED, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if evicted {
            self.wake();
        }
        evicted
    }

    /// True if another writer has taken over.
    #[must_use]
    pub fn is_evicted(&self) -> bool {
        self.state.load(Ordering::Acquire) == EVICTED
    }

    /// How long its driver has waited for bytes without receiving any; zero during an append or a commit.
    ///
    /// Time in which the process is stopped does not count (PROTOCOL §7).
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        if self.state.load(Ordering::Acquire) == WRITING { Duration::ZERO } else { self.silence().at(self.now()) }
    }

    /// Records that the driver is about to check for bytes. The driver calls this every second while it waits for some
    /// ([`Silence::INTERVAL`]).
    pub fn look(&self) {
        self.silence().wait(self.now());
    }

    fn silence(&self) -> MutexGuard<'_, Silence> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time after `since`.
    fn now(&self) -> Instant {
        Instant::ZERO.after(self.since.elapsed())
    }

    /// Begins to write: until [`Owner::finish`] no other writer takes over.
    pub(super) fn begin(&self) -> Result<(), Refusal> {
        match self.state.compare_exchange(IDLE, WRITING, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(_) => Err(ErrorCode::Busy.into()),
        }
    }

    pub(super) fn finish(&self) {
        *self.silence() = Silence::from(self.now());
        self.state.store(IDLE, Ordering::Release);
    }

    fn wake(&self) {
        let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(wake) = wake {
            wake();
        }
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").field("evicted", &self.is_evicted()).finish_non_exhaustive()
    }
}

/// The open stages of a store that have a name.
#[derive(Debug, Default)]
pub(super) struct Owners(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    owners: HashMap<StageId, Arc<Owner>>,
    /// The number of writers that have entered, and the names of the last ones.
    entered: u64,
    latest: VecDeque<StageId>,
    /// Length and CRC of stages that were summed and have not been written since, latest last.
    sums: VecDeque<(StageId, u64, u32)>,
}

/// The number of sums that are kept, from each `resume` to the `write` that follows.
const SUMS: usize = 32;

/// The number of writers that are remembered. If more enter while a stage is summed, it is summed again.
const LATEST: usize = 4096;

impl Owners {
    /// Makes `owner` the writer of `id`. Returns length and CRC of the staged bytes, if they are known.
    pub(super) fn enter(&self, id: StageId, owner: &Arc<Owner>) -> Result<Option<Sum>, Refusal> {
        let mut open = self.lock();
        open.check_idle(id)?;
        open.owners.insert(id, owner.clone());
        open.entered += 1;
        if open.latest.len() >= LATEST {
            open.latest.pop_front();
        }
        open.latest.push_back(id);
        let known = open.sums.iter().position(|(summed, ..)| *summed == id);
        Ok(known.and_then(|at| open.sums.remove(at)).map(|(_, len, crc)| (len, crc)))
    }

    /// `busy` while `id` has a writer.
    pub(super) fn check_idle(&self, id: StageId) -> Result<(), Refusal> {
        self.lock().check_idle(id)
    }

    /// Takes `id` from its writer if that has been silent for `patience`. True if it has no writer now.
    pub(super) fn take_over(&self, id: StageId, patience: Duration) -> bool {
        let silent = match self.lock().owners.get(&id) {
            Some(owner) if owner.silent_for() >= patience => Arc::clone(owner),
            Some(owner) => return owner.is_evicted(),
            None => return true,
        };
        // Outside the lock: it calls foreign code.
        silent.evict();
        if silent.is_evicted() {
            self.leave(id, &silent, || {});
        }
        silent.is_evicted()
    }

    /// For [`Owners::note_sum`], before the stage is opened.
    pub(super) fn entered(&self) -> u64 {
        self.lock().entered
    }

    /// Remembers length and CRC of a stage, unless it may have been written since.
    pub(super) fn note_sum(&self, id: StageId, entered: u64, (len, crc): Sum) {
        let mut open = self.lock();
        let since = usize::try_from(open.entered - entered).unwrap_or(usize::MAX);
        if since > open.latest.len() || open.latest.iter().rev().take(since).any(|writer| *writer == id) {
            return;
        }
        open.sums.retain(|(summed, ..)| *summed != id);
        if open.sums.len() >= SUMS {
            open.sums.pop_front();
        }
        open.sums.push_back((id, len, crc));
    }

    /// Forgets all sums, including those in progress.
    pub(super) fn forget_sums(&self) {
        let mut open = self.lock();
        open.sums.clear();
        // The stage that is being summed is older than all that is remembered.
        open.entered += 1;
        open.latest.clear();
    }

    /// Ends `owner`. Unless it was evicted, calls `last` first, while no other can become the writer.
    pub(super) fn leave(&self, id: StageId, owner: &Arc<Owner>, last: impl FnOnce()) {
        let mut open = self.lock();
        if open.owners.get(&id).is_some_and(|current| Arc::ptr_eq(current, owner)) {
            if !owner.is_evicted() {
                last();
            }
            open.owners.remove(&id);
        }
    }

    /// Whether `id` has no writer.
    pub(super) fn is_idle(&self, id: StageId) -> bool {
        !self.lock().owners.contains_key(&id)
    }

    /// Calls `then` if `id` has no writer; none can enter meanwhile.
    pub(super) fn if_idle<T>(&self, id: StageId, then: impl FnOnce() -> T) -> Option<T> {
        let open = self.lock();
        (!open.owners.contains_key(&id)).then(then)
    }

    pub(super) fn silent_for(&self, id: StageId) -> Option<Duration> {
        self.lock().owners.get(&id).filter(|owner| !owner.is_evicted()).map(|owner| owner.silent_for())
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// `busy` while `id` has a writer. An evicted writer does not count.
    fn check_idle(&self, id: StageId) -> Result<(), Refusal> {
        if self.owners.get(&id).is_some_and(|owner| !owner.is_evicted()) { Err(ErrorCode::Busy.into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU32;

    #[test]
    fn a_writer_gives_way_only_while_it_is_idle() {
        let owner = Owner::new();
        owner.begin().unwrap();
        assert!(!owner.evict());
        assert_eq!(owner.silent_for(), Duration::ZERO);
        owner.finish();
        assert!(owner.evict());
        assert!(!owner.evict());
        assert_eq!(owner.begin().unwrap_err().code, ErrorCode::Busy);
    }

    #[test]
    fn a_writer_hears_once_that_it_has_to_give_way_even_if_it_asks_late() {
        let calls = Arc::new(AtomicU32::new(0));
        let count = |owner: &Owner| {
            let calls = calls.clone();
            owner.on_evict(move || _ = calls.fetch_add(1, Ordering::Relaxed));
        };
        let early = Owner::new();
        count(&early);
        assert!(early.evict());
        early.evict();
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        let late = Owner::new();
        late.evict();
        count(&late);
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_next_writer_waits_for_its_time_and_the_old_one_does_not_disturb_it() {
        let owners = Owners::default();
        let id = StageId::of("a");
        let (first, second) = (Owner::new(), Owner::new());
        owners.enter(id, &first).unwrap();
        assert_eq!(owners.enter(id, &second).unwrap_err().code, ErrorCode::Busy);
        assert!(!owners.take_over(id, Duration::MAX) && !first.is_evicted());
        assert_eq!(owners.check_idle(id).unwrap_err().code, ErrorCode::Busy);
        assert!(owners.take_over(id, Duration::ZERO));
        owners.enter(id, &second).unwrap();
        assert!(first.is_evicted() && !second.is_evicted());
        owners.leave(id, &first, || panic!("the file is the second writer's"));
        assert!(owners.silent_for(id).is_some());
        let mut left = false;
        owners.leave(id, &second, || left = true);
        assert!(left && owners.silent_for(id).is_none());
    }

    #[test]
    fn a_sum_is_known_to_the_next_writer_only_and_not_if_somebody_wrote_meanwhile() {
        let owners = Owners::default();
        let (id, other) = (StageId::of("a"), StageId::of("b"));
        let writer = Owner::new();
        owners.note_sum(id, owners.entered(), (3, 7));
        owners.note_sum(other, owners.entered(), (4, 8));
        assert_eq!(owners.enter(id, &writer).unwrap(), Some((3, 7)));
        owners.leave(id, &writer, || {});
        assert_eq!(owners.enter(id, &writer).unwrap(), None);
        let before = owners.entered();
        owners.leave(id, &writer, || {});
        owners.enter(id, &writer).unwrap();
        owners.leave(id, &writer, || {});
        owners.note_sum(id, before, (5, 9));
        assert_eq!(owners.enter(id, &writer).unwrap(), None);
        owners.leave(id, &writer, || {});
        // Writers of other names change nothing.
        let before = owners.entered();
        owners.enter(StageId::of("c"), &writer).unwrap();
        owners.note_sum(id, before, (5, 9));
        assert_eq!(owners.enter(id, &writer).unwrap(), Some((5, 9)));
        let before = owners.entered();
        owners.forget_sums();
        owners.note_sum(other, before, (6, 1));
        assert_eq!(owners.enter(other, &writer).unwrap(), None);
        for n in 0..100 {
            owners.note_sum(StageId::of(&n.to_string()), owners.entered(), (n, 0));
        }
        assert_eq!(owners.lock().sums.len(), SUMS);
    }
}
