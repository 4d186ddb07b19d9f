//! The kinds of stores that are simulated.

use core::cell::Cell;
use core::marker::PhantomData;
use std::rc::Rc;

use skiff_device::flash::MountError;
use skiff_device::ram::{RamMemory, RamStore};
use skiff_device::server::Nonces;
use skiff_proto::Refusal;
use skiff_proto::store::Store;

use super::truth::Capacity;
use crate::flash::rig::{self, Rig};
use crate::flash::{Model, Sim, Tear};

/// The medium of a store, which remains without power.
pub trait Medium: Clone {
    /// False after a cut.
    fn is_on(&self) -> bool;

    /// A call of the store begins.
    fn tick(&self);

    /// Cuts power after this many operations.
    fn cut_after(&self, operations: u64, tear: Tear);

    /// Restores power, or cancels the cut.
    fn power_on(&self);
}

impl<M: Model> Medium for Sim<M> {
    fn is_on(&self) -> bool {
        Self::is_on(self)
    }

    fn tick(&self) {}

    fn cut_after(&self, operations: u64, tear: Tear) {
        Self::cut_after(self, operations, tear);
    }

    fn power_on(&self) {
        Self::power_on(self);
    }
}

/// A kind of store.
pub trait Kind {
    /// Its medium.
    type Medium: Medium + 'static;
    /// The memory that a store borrows.
    type Memory: Default;
    /// The store.
    type Store<'m>: Store;

    /// Its name, for messages.
    const NAME: &'static str;
    /// Its longest name in bytes.
    const NAME_MAX: u16;

    /// A new medium.
    fn medium(seed: u64) -> Self::Medium;

    /// Opens the store; `start` counts.
    ///
    /// # Errors
    /// The store can't be opened.
    fn mount<'m>(
        memory: &'m mut Self::Memory,
        medium: &Self::Medium,
        start: u64,
        checkpoint: u32,
    ) -> Result<Self::Store<'m>, MountError>;

    /// The source of nonces after this start. Call it once.
    ///
    /// # Errors
    /// The medium fails.
    fn nonces(store: &mut Self::Store<'_>) -> Result<Nonces, Refusal>;

    /// Its capacity, if `total` bytes are free at the start.
    fn capacity(total: u64) -> Capacity;
}

/// A store on flash or on a card.
#[derive(Debug)]
pub struct OnFlash<R>(PhantomData<R>);

impl<R: Rig> Kind for OnFlash<R> {
    type Medium = Sim<R::Model>;
    type Memory = R::Memory;
    type Store<'m> = R::Store<'m>;

    const NAME: &'static str = R::NAME;
    const NAME_MAX: u16 = 32;

    fn medium(seed: u64) -> Self::Medium {
        R::medium(seed)
    }

    fn mount<'m>(
        memory: &'m mut Self::Memory,
        medium: &Self::Medium,
        _start: u64,
        checkpoint: u32,
    ) -> Result<R::Store<'m>, MountError> {
        R::mount(memory, medium, checkpoint)
    }

    fn nonces(store: &mut R::Store<'_>) -> Result<Nonces, Refusal> {
        R::count_start(store).map(|start| Nonces::Counted { start })
    }

    fn capacity(total: u64) -> Capacity {
        let payload = R::PAYLOAD as u64;
        Capacity {
            blocks: total / payload,
            payload,
            files: rig::FILES,
            stages: rig::STAGES,
            name: rig::NAME,
            is_volatile: false,
        }
    }
}

/// A store in RAM, which loses everything without power.
#[derive(Debug)]
pub enum InRam {}

/// Operations until the power cut, and whether there is power.
#[derive(Debug, Clone)]
pub struct RamPower(Rc<Cell<(Option<u64>, bool)>>);

impl Medium for RamPower {
    fn is_on(&self) -> bool {
        self.0.get().1
    }

    fn tick(&self) {
        let (left, on) = self.0.get();
        let on = on && left != Some(0);
        self.0.set((left.map(|left| left.saturating_sub(1)), on));
    }

    fn cut_after(&self, operations: u64, _tear: Tear) {
        self.0.set((Some(operations), self.is_on()));
    }

    fn power_on(&self) {
        self.0.set((None, true));
    }
}

const FILES: usize = 24;
const BLOCKS: usize = 256;
const BLOCK: usize = 256;

impl Kind for InRam {
    type Medium = RamPower;
    type Memory = RamMemory<FILES, 64, BLOCKS, BLOCK>;
    type Store<'m> = RamStore<'m, 64, BLOCK>;

    const NAME: &'static str = "RAM";
    const NAME_MAX: u16 = 64;

    fn medium(_seed: u64) -> RamPower {
        RamPower(Rc::new(Cell::new((None, true))))
    }

    fn mount<'m>(
        memory: &'m mut Self::Memory,
        _medium: &RamPower,
        start: u64,
        _checkpoint: u32,
    ) -> Result<Self::Store<'m>, MountError> {
        Ok(RamStore::new(memory, start))
    }

    /// There is no durable place for a count.
    fn nonces(_store: &mut Self::Store<'_>) -> Result<Nonces, Refusal> {
        Ok(Nonces::Random)
    }

    fn capacity(total: u64) -> Capacity {
        let payload = BLOCK as u64;
        Capacity { blocks: total / payload, payload, files: FILES, stages: FILES, name: 64, is_volatile: true }
    }
}
