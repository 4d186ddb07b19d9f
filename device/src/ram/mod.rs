//! A store in memory: a fixed number of files and of blocks, no heap, no directories.
//!
//! | entry | meaning | becomes |
//! |---|---|---|
//! | free | | a stage |
//! | a stage | bytes of a write, or of one that was interrupted | a file, free |
//! | a file | | passed |
//! | passed | a file that was replaced or removed while it is being read | free, when its readers are done or the room is needed |
//!
//! A file is a chain of blocks, so nothing is ever moved and several files can grow at a time. A commit changes the
//! kind of two entries and copies nothing: a reader sees the complete old file or the complete new one. Replacing a
//! file takes the space of both until it is done.
//!
//! A `write` reserves all the blocks that it needs when it begins:
//! either it is refused then, like the `resume` before it, or its space is guaranteed. If it needs more, passed files
//! are dropped first (their readers then get `changed`), then interrupted writes, oldest first.
//!
//! Everything is lost when the power is cut.

mod entry;
mod store;

use core::cell::Cell;

pub use entry::{Entries, RamFile, RamStage};

use entry::{Entry, NONE};

/// The memory of a [`RamStore`]: `FILES` entries (stages included) with names of up to `NAME` bytes, and `BLOCKS`
/// blocks of `BLOCK` bytes, at most 65,535. It can be a `static`.
#[derive(Debug)]
pub struct RamMemory<const FILES: usize, const NAME: usize, const BLOCKS: usize, const BLOCK: usize> {
    entries: Entries<FILES, NAME>,
    chain: [u16; BLOCKS],
    blocks: [[u8; BLOCK]; BLOCKS],
}

impl<const FILES: usize, const NAME: usize, const BLOCKS: usize, const BLOCK: usize>
    RamMemory<FILES, NAME, BLOCKS, BLOCK>
{
    /// Empty memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Entries::new(), chain: [0; BLOCKS], blocks: [[0; BLOCK]; BLOCKS] }
    }
}

impl<const FILES: usize, const NAME: usize, const BLOCKS: usize, const BLOCK: usize> Default
    for RamMemory<FILES, NAME, BLOCKS, BLOCK>
{
    fn default() -> Self {
        Self::new()
    }
}

/// A flat store in the caller's memory.
#[derive(Debug)]
pub struct RamStore<'m, const NAME: usize, const BLOCK: usize> {
    entries: &'m mut [Entry<NAME>],
    handles: &'m [Handle],
    chain: &'m mut [u16],
    blocks: &'m mut [[u8; BLOCK]],
    free: u16,
    free_count: u16,
    last: u32,
    boot: u64,
}

/// State that an entry's readers and writer share with the store, so that the store notices when they are dropped.
#[derive(Debug)]
struct Handle {
    /// The number of this use of the entry.
    version: Cell<u32>,
    readers: Cell<u16>,
    writer: Cell<bool>,
}

impl Handle {
    const fn new() -> Self {
        Self { version: Cell::new(0), readers: Cell::new(0), writer: Cell::new(false) }
    }
}

impl<'m, const NAME: usize, const BLOCK: usize> RamStore<'m, NAME, BLOCK> {
    /// An empty store. `boot` is a number that no earlier start of the device had (random, or a count): tags are
    /// derived from it, so that a version of a file is never mistaken for one from before the restart.
    #[must_use]
    pub fn new<const FILES: usize, const BLOCKS: usize>(
        memory: &'m mut RamMemory<FILES, NAME, BLOCKS, BLOCK>,
        boot: u64,
    ) -> Self {
        Self::from_parts(&mut memory.entries, &mut memory.chain, &mut memory.blocks, boot)
    }

    /// The same with a variable number of blocks: the length of `chain` or `blocks`, whichever is shorter, but at most
    /// 65,535.
    #[must_use]
    pub fn from_parts<const FILES: usize>(
        entries: &'m mut Entries<FILES, NAME>,
        chain: &'m mut [u16],
        blocks: &'m mut [[u8; BLOCK]],
        boot: u64,
    ) -> Self {
        const { assert!(BLOCK > 0 && NAME > 0 && NAME <= skiff_proto::name::MAX_NAME && FILES < NONE as usize) };
        let (entries, handles) = entries.parts();
        let count = blocks.len().min(chain.len()).min(NONE.into());
        let (chain, blocks) = (&mut chain[..count], &mut blocks[..count]);
        entries.fill(Entry::FREE);
        for handle in handles {
            handle.version.set(0);
        }
        let count = u16::try_from(count).unwrap_or(NONE);
        for (next, link) in (1..).zip(chain.iter_mut()) {
            *link = if next < count { next } else { NONE };
        }
        let free = if count > 0 { 0 } else { NONE };
        Self { entries, handles, chain, blocks, free, free_count: count, last: 0, boot }
    }
}
