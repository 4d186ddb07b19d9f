//! A store on raw flash or on an SD card that survives power cuts: no heap, no directories, no `unsafe`.
//!
//! | block | content | becomes |
//! |---|---|---|
//! | free | anything | journal, data: it is erased right before its first use |
//! | an anchor: 0 and 1, in turn | where the journal begins | |
//! | journal | records, one after the other: a file, staged bytes, a removal | free, when the valid records have been copied to a new journal |
//! | data | a piece of a file or of a stage, and a reference to the previous piece | free, when the record that ends its file is durable |
//!
//! A commit is one record of the journal: until it is complete, the old file exists, and then the new one. It refers to
//! the last block of the new file, and to the version that it replaces. A block that a record on the medium still needs
//! is not overwritten until a later, durable record has ended that record.
//!
//! **After a start, the store never programs the unused rest of an existing block.** An operation that a power cut
//! interrupts can leave cells that read differently each time, and places that only look erased. So the first change
//! after a start begins a new journal block, writes the last record again, and records in the new block where the old
//! one ends; interrupted stages continue in a new block; and every block is erased before use, even if it looks erased.
//!
//! Every byte of a file is verified by the checksum of its block: reading a damaged file fails with `io`.
//!
//! In memory, the store has a number and a position for each file, a bit for each block, and a page for each file that
//! is being written. With names of 64 bytes and pages of 256 bytes on a Cortex-M3, it takes 12 bytes per file, 408 per
//! stage, 1 per 8 blocks, and 832 for the rest. Mounting reads the journal, and the beginning of each block in use.
//!
//! ```
//! use skiff_device::flash::{Flash, FlashMemory, FlashStore, MountError, map_len};
//!
//! // 64 files, 4 of them being written at a time, names of 64 bytes, pages of 256 bytes, 512 blocks.
//! type Memory = FlashMemory<64, 4, 64, 256, { map_len(512) }>;
//!
//! # fn run<F: Flash>(memory: &mut Memory, chip: F) -> Result<(), MountError> {
//! let mut store = FlashStore::mount(memory, chip)?; // a blank medium is formatted, a foreign one refused
//! loop {
//!     // server.poll(now, &mut device, &mut store), which also makes the bytes of lost connections durable
//!     # _ = &mut store;
//!     # break;
//! }
//! # Ok(())
//! # }
//! ```

mod anchor;
mod card;
mod chain;
mod file;
mod index;
mod journal;
mod layout;
mod map;
mod medium;
mod mount;
#[cfg(feature = "embedded-storage")]
mod nor;
#[cfg(feature = "embedded-storage-async")]
mod polled;
mod room;
mod stage;
mod store;

use core::cell::Cell;

pub use card::{Card, CardFlash, SECTOR};
pub use file::FlashFile;
pub use map::map_len;
pub use medium::{Flash, FlashError, Geometry};
pub use mount::MountError;
#[cfg(feature = "embedded-storage")]
pub use nor::NorFlashMedium;
#[cfg(feature = "embedded-storage-async")]
pub use polled::PolledNorFlash;
pub use stage::FlashStage;

use anchor::Anchors;
use index::Entry;
use journal::{Journal, Kept};
use layout::Layout;
use map::Map;
use stage::Slot;

/// The memory of a [`FlashStore`]: for `FILES` files (interrupted writes included) with names of up to `NAME` bytes,
/// `STAGES` of them being written at a time, and a medium of up to 8 x `MAP` blocks ([`map_len`]). It can be a
/// `static`.
///
/// `PAGE` bytes are programmed at a time while a file is being received. It is a multiple of the medium's unit, divides
/// its blocks, and is at least 44 + `NAME`. 256 suits most flash chips; an SD card needs 512.
#[derive(Debug)]
pub struct FlashMemory<const FILES: usize, const STAGES: usize, const NAME: usize, const PAGE: usize, const MAP: usize>
{
    entries: [Entry; FILES],
    slots: [Slot<NAME, PAGE>; STAGES],
    handles: [Handle; STAGES],
    map: [u8; MAP],
    page: [u8; PAGE],
}

impl<const FILES: usize, const STAGES: usize, const NAME: usize, const PAGE: usize, const MAP: usize>
    FlashMemory<FILES, STAGES, NAME, PAGE, MAP>
{
    /// Empty memory.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(FILES > 0 && STAGES > 0 && NAME > 0 && NAME <= skiff_proto::name::MAX_NAME) };
        Self {
            entries: [Entry::FREE; FILES],
            slots: [const { Slot::FREE }; STAGES],
            handles: [const { Handle::new() }; STAGES],
            map: [0; MAP],
            page: [0; PAGE],
        }
    }
}

impl<const FILES: usize, const STAGES: usize, const NAME: usize, const PAGE: usize, const MAP: usize> Default
    for FlashMemory<FILES, STAGES, NAME, PAGE, MAP>
{
    fn default() -> Self {
        Self::new()
    }
}

/// A flat store on a medium, in the caller's memory. Dropping it makes the bytes of lost connections durable.
#[derive(Debug)]
pub struct FlashStore<'m, F: Flash, const NAME: usize, const PAGE: usize> {
    flash: F,
    layout: Layout,
    volume: u32,
    entries: &'m mut [Entry],
    slots: &'m mut [Slot<NAME, PAGE>],
    handles: &'m [Handle],
    map: Map<'m>,
    /// Scratch memory for reading and composing.
    page: &'m mut [u8; PAGE],
    kept: Kept<NAME>,
    anchors: Anchors,
    journal: Journal,
    /// The number of the next version.
    ids: u32,
    /// The number of the last handle.
    versions: u32,
    checkpoint: u32,
}

/// State that a stage's writer shares with the store, so that the store notices when it is dropped.
#[derive(Debug)]
struct Handle {
    /// The number of this use of the slot.
    version: Cell<u32>,
    writer: Cell<bool>,
}

impl Handle {
    const fn new() -> Self {
        Self { version: Cell::new(0), writer: Cell::new(false) }
    }
}

/// The default interval of checkpoints, in bytes of a write.
const CHECKPOINT: u32 = 32 * 1024;

impl<F: Flash, const NAME: usize, const PAGE: usize> FlashStore<'_, F, NAME, PAGE> {
    /// Makes a write durable at this interval, as soon as a block is full. This limits the bytes that a power cut can
    /// cost. Each checkpoint costs a record of the journal. Default: 32 KiB.
    pub const fn set_checkpoint(&mut self, bytes: u32) {
        self.checkpoint = bytes;
    }

    /// The medium.
    pub const fn flash(&self) -> &F {
        &self.flash
    }
}

impl<F: Flash, const NAME: usize, const PAGE: usize> Drop for FlashStore<'_, F, NAME, PAGE> {
    fn drop(&mut self) {
        self.settle_dropped();
    }
}
