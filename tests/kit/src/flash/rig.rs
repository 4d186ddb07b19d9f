//! Stores on simulated media, for thousands of mounts.

use core::fmt::Debug;

use skiff_device::flash::{CardFlash, FlashMemory, FlashStore, MountError, map_len};
use skiff_proto::Refusal;
use skiff_proto::store::Store;

use super::{CardModel, Model, NorModel, Sim};

/// Longest name of every rig's store, in bytes.
pub const NAME: usize = 32;
/// Files of every rig's store, stages included.
pub const FILES: usize = 24;
/// Stages of every rig's store.
pub const STAGES: usize = 3;

/// A kind of medium with a store made for it.
pub trait Rig: 'static {
    /// The behavior of the medium.
    type Model: Model + 'static;
    /// The memory that the store borrows.
    type Memory: Default;
    /// The store.
    type Store<'m>: Store<Stage: Debug>;

    /// Its name, for messages.
    const NAME: &'static str;
    /// Bytes of a file in a block of the medium.
    const PAYLOAD: usize;
    /// The number of ways to tear an operation that a test tries.
    const WAYS: u64;

    /// A new medium.
    fn medium(seed: u64) -> Sim<Self::Model>;

    /// Opens the store on it.
    ///
    /// # Errors
    /// The store can't be opened.
    fn mount<'m>(
        memory: &'m mut Self::Memory,
        medium: &Sim<Self::Model>,
        checkpoint: u32,
    ) -> Result<Self::Store<'m>, MountError>;

    /// [`FlashStore::count_start`]
    ///
    /// # Errors
    /// Those of the store.
    fn count_start(store: &mut Self::Store<'_>) -> Result<u64, Refusal>;
}

macro_rules! nor_rig {
    ($(#[$doc:meta])* $rig:ident, $name:literal, $blocks:literal x $block:literal, unit $unit:literal, page $page:literal) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $rig {}

        impl Rig for $rig {
            type Model = NorModel;
            type Memory = FlashMemory<FILES, STAGES, NAME, $page, { map_len($blocks) }>;
            type Store<'m> = FlashStore<'m, Sim<NorModel>, NAME, $page>;

            const NAME: &'static str = $name;
            const PAYLOAD: usize = $block - 24;
            const WAYS: u64 = 1;

            fn medium(seed: u64) -> Sim<NorModel> {
                Sim::<NorModel>::new($blocks, $block, $unit, seed)
            }

            fn mount<'m>(
                memory: &'m mut Self::Memory,
                medium: &Sim<NorModel>,
                checkpoint: u32,
            ) -> Result<Self::Store<'m>, MountError> {
                let mut store = FlashStore::mount(memory, medium.clone())?;
                store.set_checkpoint(checkpoint);
                Ok(store)
            }

            fn count_start(store: &mut Self::Store<'_>) -> Result<u64, Refusal> {
                store.count_start()
            }
        }
    };
}

nor_rig!(
    /// 64 KiB in blocks of 1 KiB, programmed in units of 4 bytes.
    SmallNor, "64 x 1024, unit 4", 64 x 1024, unit 4, page 128
);
nor_rig!(
    /// 48 KiB in blocks of 512 bytes, programmed byte by byte, so that the journal has many blocks.
    TinyNor, "96 x 512, unit 1", 96 x 512, unit 1, page 128
);
nor_rig!(
    /// 128 KiB in blocks of 4 KiB, programmed in units of 32 bytes.
    WordNor, "32 x 4096, unit 32", 32 x 4096, unit 32, page 256
);

/// 256 KiB in blocks of 4 KiB.
#[derive(Debug)]
pub enum SmallCard {}

impl Rig for SmallCard {
    type Model = CardModel;
    type Memory = FlashMemory<FILES, STAGES, NAME, 512, { map_len(64) }>;
    type Store<'m> = FlashStore<'m, CardFlash<Sim<CardModel>, 4096>, NAME, 512>;

    const NAME: &'static str = "card of 512 sectors, blocks of 4096";
    const PAYLOAD: usize = 4096 - 24;
    const WAYS: u64 = 4;

    fn medium(seed: u64) -> Sim<CardModel> {
        Sim::<CardModel>::new(512, if seed.is_multiple_of(2) { 0 } else { 0xff }, seed)
    }

    fn mount<'m>(
        memory: &'m mut Self::Memory,
        medium: &Sim<CardModel>,
        checkpoint: u32,
    ) -> Result<Self::Store<'m>, MountError> {
        let mut store = FlashStore::mount(memory, CardFlash::new(medium.clone()))?;
        store.set_checkpoint(checkpoint);
        Ok(store)
    }

    fn count_start(store: &mut Self::Store<'_>) -> Result<u64, Refusal> {
        store.count_start()
    }
}
