//! A medium with a power switch.

use core::cell::{Ref, RefCell};
use core::fmt;
use std::rc::Rc;

use skiff_device::flash::FlashError;

use super::Rng;

/// An operation that changes a medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Bytes are programmed, or sectors written, at this address.
    Program {
        /// The address, from the beginning of the medium.
        at: usize,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// A block is erased.
    Erase {
        /// The block.
        block: usize,
    },
    /// Everything written becomes durable.
    Sync,
}

/// How a power cut tears an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tear {
    /// It did not begin.
    Before,
    /// It was done in part.
    Half,
    /// It was done in part, and unfinished cells read differently each time until they are erased.
    Unstable,
}

impl Tear {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Before, Self::Half, Self::Unstable];
}

/// How a kind of medium behaves.
pub trait Model: Clone {
    /// Does an operation.
    ///
    /// # Panics
    /// If the medium does not allow it, which is a bug of the caller.
    fn apply(&mut self, operation: Operation<'_>);

    /// Loses power during an operation, and comes back.
    fn lose_power(&mut self, operation: Operation<'_>, tear: Tear, rng: &mut Rng);

    /// Does an operation in part.
    fn fail(&mut self, operation: Operation<'_>, rng: &mut Rng);

    /// True if the medium refuses an operation, which the caller could not foresee, and stays unchanged.
    fn refuses(&self, _operation: Operation<'_>) -> bool {
        false
    }

    /// Reads at an address.
    fn read(&mut self, at: usize, bytes: &mut [u8], rng: &mut Rng);

    /// True if a power cut at this operation has a distinct result.
    fn is_moment(&self, operation: Operation<'_>) -> bool;
}

/// Counts of the operations on a medium.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Read calls; the next field counts their bytes.
    pub reads: u64,
    /// See [`Counters::reads`].
    pub read_bytes: u64,
    /// Programs of flash or writes of a card; the next field counts their bytes.
    pub programs: u64,
    /// See [`Counters::programs`].
    pub program_bytes: u64,
    /// Erased blocks.
    pub erases: u64,
    /// Flushes.
    pub syncs: u64,
    /// Refused programs of places that were torn and looked blank.
    pub refused: u64,
}

impl core::ops::Sub for Counters {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            reads: self.reads - before.reads,
            read_bytes: self.read_bytes - before.read_bytes,
            programs: self.programs - before.programs,
            program_bytes: self.program_bytes - before.program_bytes,
            erases: self.erases - before.erases,
            syncs: self.syncs - before.syncs,
            refused: self.refused - before.refused,
        }
    }
}

/// A moment at which power could fail.
#[derive(Debug)]
pub struct Moment<'a, M> {
    /// Its number, from 0.
    pub number: u64,
    /// The next operation.
    pub operation: Operation<'a>,
    model: &'a M,
    seed: u64,
}

impl<M: Model> Moment<'_, M> {
    /// The medium as it is after a power cut at this moment, torn in the given way.
    #[must_use]
    pub fn cut(&self, tear: Tear, way: u64) -> Sim<M> {
        let mut rng =
            Rng::new(self.seed ^ (self.number << 16 | way << 2 | tear as u64).wrapping_mul(0x2545_f491_4f6c_dd1d));
        let mut model = self.model.clone();
        model.lose_power(self.operation, tear, &mut rng);
        Sim::of(model, rng.next())
    }
}

type Watcher<M> = Box<dyn FnMut(&Moment<'_, M>)>;

struct State<M> {
    model: M,
    rng: Rng,
    seed: u64,
    counters: Counters,
    /// Operations so far.
    moments: u64,
    /// Operations until the power cut, and how it tears.
    left: Option<(u64, Tear)>,
    /// Operations until one fails without a power cut.
    failing: Option<u64>,
    on: bool,
    watcher: Option<Watcher<M>>,
}

/// A simulated medium: see the module documentation.
pub struct Sim<M>(Rc<RefCell<State<M>>>);

impl<M> Clone for Sim<M> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<M> fmt::Debug for Sim<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim").field("moments", &self.0.borrow().moments).finish_non_exhaustive()
    }
}

impl<M: Model> Sim<M> {
    pub(super) fn of(model: M, seed: u64) -> Self {
        Self(Rc::new(RefCell::new(State {
            model,
            rng: Rng::new(seed),
            seed,
            counters: Counters::default(),
            moments: 0,
            left: None,
            failing: None,
            on: true,
            watcher: None,
        })))
    }

    /// A separate medium with the same content. It has no watcher, and its counters are 0.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.0.borrow();
        Self::of(state.model.clone(), state.seed)
    }

    /// Lets `operations` more succeed; the next one is torn.
    pub fn cut_after(&self, operations: u64, tear: Tear) {
        self.0.borrow_mut().left = Some((operations, tear));
    }

    /// Lets `operations` more succeed; the next one is done in part and fails, and then everything continues.
    pub fn fail_after(&self, operations: u64) {
        self.0.borrow_mut().failing = Some(operations);
    }

    /// Restores power, or cancels [`Sim::cut_after`] and [`Sim::fail_after`].
    pub fn power_on(&self) {
        let mut state = self.0.borrow_mut();
        state.on = true;
        (state.left, state.failing) = (None, None);
    }

    /// False after the cut.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.borrow().on
    }

    /// Calls `watcher` at each moment at which power could fail, before the operation is done.
    pub fn watch(&self, watcher: impl FnMut(&Moment<'_, M>) + 'static) {
        self.0.borrow_mut().watcher = Some(Box::new(watcher));
    }

    /// Ends [`Sim::watch`].
    pub fn unwatch(&self) {
        self.0.borrow_mut().watcher = None;
    }

    /// The counts so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.borrow().counters
    }

    /// The number of operations so far at which power could have failed.
    #[must_use]
    pub fn moments(&self) -> u64 {
        self.0.borrow().moments
    }

    /// The medium itself.
    #[must_use]
    pub fn model(&self) -> Ref<'_, M> {
        Ref::map(self.0.borrow(), |state| &state.model)
    }

    /// Changes the medium behind the store's back.
    pub fn change<T>(&self, change: impl FnOnce(&mut M) -> T) -> T {
        change(&mut self.0.borrow_mut().model)
    }

    pub(super) fn read_at(&self, at: usize, bytes: &mut [u8]) -> Result<(), FlashError> {
        let State { model, rng, counters, on, .. } = &mut *self.0.borrow_mut();
        if !*on {
            return Err(FlashError);
        }
        counters.reads += 1;
        counters.read_bytes += bytes.len() as u64;
        model.read(at, bytes, rng);
        Ok(())
    }

    pub(super) fn operate(&self, operation: Operation<'_>) -> Result<(), FlashError> {
        let mut state = self.0.borrow_mut();
        if !state.on {
            return Err(FlashError);
        }
        if state.model.is_moment(operation) {
            if let Some(mut watcher) = state.watcher.take() {
                // The watcher may ask for counters.
                drop(state);
                {
                    let state = self.0.borrow();
                    watcher(&Moment { number: state.moments, operation, model: &state.model, seed: state.seed });
                }
                state = self.0.borrow_mut();
                state.watcher = Some(watcher);
            }
            state.moments += 1;
            match &mut state.left {
                Some((0, tear)) => {
                    let tear = *tear;
                    let State { model, rng, .. } = &mut *state;
                    model.lose_power(operation, tear, rng);
                    state.on = false;
                    return Err(FlashError);
                }
                Some((left, _)) => *left -= 1,
                None => {}
            }
            match state.failing {
                Some(0) => {
                    let State { model, rng, failing, .. } = &mut *state;
                    model.fail(operation, rng);
                    *failing = None;
                    return Err(FlashError);
                }
                left => state.failing = left.map(|left| left - 1),
            }
        }
        if state.model.refuses(operation) {
            state.counters.refused += 1;
            return Err(FlashError);
        }
        match operation {
            Operation::Program { bytes, .. } => {
                state.counters.programs += 1;
                state.counters.program_bytes += bytes.len() as u64;
            }
            Operation::Erase { .. } => state.counters.erases += 1,
            Operation::Sync => state.counters.syncs += 1,
        }
        state.model.apply(operation);
        Ok(())
    }
}
