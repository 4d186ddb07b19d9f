//! Entries of a RAM store and their blocks: allocated, chained, freed.

use heapless::Vec;
use skiff_proto::identity::{NOBODY, StageOwner};
use skiff_proto::store::Stat;
use skiff_proto::{ErrorCode, Name, Refusal};

use super::{Handle, RamStore};

/// No block, no entry.
pub(super) const NONE: u16 = u16::MAX;

/// The table of a store's files and stages.
#[derive(Debug)]
pub struct Entries<const FILES: usize, const NAME: usize> {
    entries: [Entry<NAME>; FILES],
    handles: [Handle; FILES],
}

impl<const FILES: usize, const NAME: usize> Entries<FILES, NAME> {
    /// An empty table.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: [const { Entry::FREE }; FILES], handles: [const { Handle::new() }; FILES] }
    }

    pub(super) fn parts(&mut self) -> (&mut [Entry<NAME>], &[Handle]) {
        (&mut self.entries, &self.handles)
    }
}

impl<const FILES: usize, const NAME: usize> Default for Entries<FILES, NAME> {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Free,
    /// To be put in place under its name or, without one, under a new name.
    Stage,
    File,
    Passed,
}

#[derive(Debug, Clone)]
pub(super) struct Entry<const NAME: usize> {
    pub(super) kind: Kind,
    name: Vec<u8, NAME, u8>,
    pub(super) first: u16,
    end: u16,
    /// Blocks in the chain, and those that are reserved for it while it has a writer.
    blocks: u16,
    reserved: u16,
    pub(super) len: u32,
    pub(super) crc: Option<u32>,
    pub(super) mtime: Option<u64>,
    /// The owner of a stage.
    pub(super) owner: StageOwner,
}

impl<const NAME: usize> Entry<NAME> {
    pub(super) const FREE: Self = Self {
        kind: Kind::Free,
        name: Vec::new(),
        first: NONE,
        end: NONE,
        blocks: 0,
        reserved: 0,
        len: 0,
        crc: None,
        mtime: None,
        owner: NOBODY,
    };

    pub(super) fn stat(&self) -> Stat {
        Stat { size: self.len.into(), mtime: self.mtime, crc: self.crc }
    }

    /// The name; `None` if there is none.
    pub(super) fn name(&self) -> Option<Name<'_>> {
        Name::parse(&self.name, NAME).ok()
    }

    pub(super) fn set_name(&mut self, name: Name<'_>) {
        self.name.clear();
        _ = self.name.extend_from_slice(name.as_str().as_bytes());
    }
}

/// A version of a file that is open for reading.
#[derive(Debug)]
pub struct RamFile<'m> {
    pub(super) handle: &'m Handle,
    pub(super) version: u32,
    pub(super) entry: usize,
    /// The block that was read last, and its number in the chain.
    pub(super) block: u16,
    pub(super) index: u32,
}

impl Drop for RamFile<'_> {
    fn drop(&mut self) {
        if self.handle.version.get() == self.version {
            self.handle.readers.set(self.handle.readers.get().saturating_sub(1));
        }
    }
}

/// A version of a file that is being written.
#[derive(Debug)]
pub struct RamStage<'m> {
    pub(super) handle: &'m Handle,
    pub(super) version: u32,
    pub(super) entry: usize,
}

impl Drop for RamStage<'_> {
    fn drop(&mut self) {
        if self.handle.version.get() == self.version {
            self.handle.writer.set(false);
        }
    }
}

impl<'m, const NAME: usize, const BLOCK: usize> RamStore<'m, NAME, BLOCK> {
    pub(super) fn find(&self, kind: Kind, name: Name<'_>) -> Option<usize> {
        let name = name.as_str().as_bytes();
        self.entries.iter().position(|entry| entry.kind == kind && entry.name == name)
    }

    pub(super) fn is_open(&self, entry: usize) -> bool {
        self.handles[entry].writer.get()
    }

    /// Frees entries without a handle: unfinished puts, old versions without readers.
    pub(super) fn sweep(&mut self) {
        for at in 0..self.entries.len() {
            let handle = &self.handles[at];
            let gone = match self.entries[at].kind {
                Kind::Stage => self.entries[at].name.is_empty() && !handle.writer.get(),
                Kind::Passed => handle.readers.get() == 0,
                Kind::Free | Kind::File => false,
            };
            if gone {
                self.release(at);
            }
        }
    }

    /// Makes an entry free, even if a handle refers to it.
    pub(super) fn release(&mut self, at: usize) {
        self.truncate(at);
        self.entries[at] = Entry::FREE;
        // Handles of another version have no effect any more.
        self.handles[at].version.set(0);
    }

    /// Frees the blocks of an entry.
    pub(super) fn truncate(&mut self, at: usize) {
        let entry = &mut self.entries[at];
        if entry.end != NONE {
            self.chain[usize::from(entry.end)] = self.free;
            self.free = entry.first;
            self.free_count += entry.blocks;
        }
        (entry.first, entry.end, entry.blocks, entry.len) = (NONE, NONE, 0, 0);
    }

    /// Makes an entry an old version, which stays as long as it has a reader.
    pub(super) fn pass(&mut self, at: usize) {
        if self.handles[at].readers.get() == 0 {
            self.release(at);
        } else {
            self.entries[at].kind = Kind::Passed;
        }
    }

    pub(super) fn blocks_for(size: u64) -> u64 {
        size.div_ceil(BLOCK as u64)
    }

    pub(super) fn blocks_of(&self, at: usize) -> u64 {
        self.entries[at].blocks.into()
    }

    /// Blocks that are free and that no writer but `but` has reserved.
    fn unreserved(&self, but: Option<usize>) -> u64 {
        let reserved: u64 = (self.entries.iter().zip(self.handles).enumerate())
            .filter(|(at, (entry, handle))| entry.kind == Kind::Stage && handle.writer.get() && but != Some(*at))
            .map(|(_, (entry, _))| u64::from(entry.reserved.saturating_sub(entry.blocks)))
            .sum();
        u64::from(self.free_count).saturating_sub(reserved)
    }

    /// The kinds of entries that may be dropped for new files.
    fn is_droppable(&self, at: usize, but: Option<usize>) -> bool {
        but != Some(at)
            && match self.entries[at].kind {
                Kind::Passed => true,
                Kind::Stage => !self.is_open(at),
                Kind::Free | Kind::File => false,
            }
    }

    /// Blocks that are available, including droppable ones.
    pub(super) fn room(&self, but: Option<usize>) -> u64 {
        let droppable = (0..self.entries.len()).filter(|&at| self.is_droppable(at, but)).map(|at| self.blocks_of(at));
        self.unreserved(but) + droppable.sum::<u64>()
    }

    /// # Errors
    /// `no-space` if that many blocks, and an entry if one is needed, are not available; nothing has changed.
    pub(super) fn check_room(&self, blocks: u64, entry: Option<usize>) -> Result<(), Refusal> {
        let has_entry = entry.is_some()
            || (0..self.entries.len()).any(|at| self.entries[at].kind == Kind::Free || self.is_droppable(at, None));
        if !has_entry {
            return Err(Refusal::new(ErrorCode::NoSpace, "there are as many files as this store can hold"));
        }
        if blocks <= self.room(entry) { Ok(()) } else { Err(ErrorCode::NoSpace.into()) }
    }

    /// The entry to drop first: old versions, then interrupted writes, the oldest of each.
    fn next_droppable(&self, but: Option<usize>) -> Option<usize> {
        let droppable = (0..self.entries.len()).filter(|&at| self.is_droppable(at, but));
        droppable.min_by_key(|&at| (self.entries[at].kind != Kind::Passed, self.handles[at].version.get()))
    }

    /// Drops entries until `blocks` unreserved blocks are free.
    pub(super) fn make_room(&mut self, blocks: u64, but: Option<usize>) -> Result<(), Refusal> {
        while self.unreserved(but) < blocks {
            let droppable = self.next_droppable(but).ok_or(ErrorCode::NoSpace)?;
            self.release(droppable);
        }
        Ok(())
    }

    /// Takes an entry for a stage.
    pub(super) fn take_entry(&mut self) -> Result<usize, Refusal> {
        let free = self.entries.iter().position(|entry| entry.kind == Kind::Free);
        let at = free.or_else(|| self.next_droppable(None)).ok_or(ErrorCode::NoSpace)?;
        self.release(at);
        self.entries[at].kind = Kind::Stage;
        Ok(at)
    }

    /// Gives an entry to a writer and reserves a number of blocks for it.
    pub(super) fn open_stage(&mut self, at: usize, blocks: u64) -> RamStage<'m> {
        self.entries[at].reserved = u16::try_from(blocks).unwrap_or(NONE);
        let handles: &'m [Handle] = self.handles;
        let handle = &handles[at];
        // Each writer has a version of its own, so the file it stores has a new tag.
        self.last = self.last.wrapping_add(1).max(1);
        handle.version.set(self.last);
        handle.readers.set(0);
        handle.writer.set(true);
        RamStage { handle, version: self.last, entry: at }
    }

    /// Lends a file to a reader.
    pub(super) fn open_file(&self, at: usize) -> RamFile<'m> {
        let handles: &'m [Handle] = self.handles;
        let handle = &handles[at];
        handle.readers.set(handle.readers.get().saturating_add(1));
        RamFile { handle, version: handle.version.get(), entry: at, block: self.entries[at].first, index: 0 }
    }

    /// The unfilled part of the last block of entry `at`; a new block if there is none.
    pub(super) fn tail(&mut self, at: usize) -> Result<&mut [u8], Refusal> {
        let used = self.entries[at].len as usize % BLOCK;
        if used > 0 {
            return Ok(&mut self.blocks[usize::from(self.entries[at].end)][used..]);
        }
        if self.entries[at].blocks >= self.entries[at].reserved {
            self.make_room(1, Some(at))?;
        }
        let block = self.free;
        let link = self.chain.get_mut(usize::from(block)).ok_or(ErrorCode::NoSpace)?;
        self.free = core::mem::replace(link, NONE);
        self.free_count -= 1;
        let entry = &mut self.entries[at];
        match entry.end {
            NONE => entry.first = block,
            end => self.chain[usize::from(end)] = block,
        }
        entry.end = block;
        entry.blocks += 1;
        Ok(&mut self.blocks[usize::from(block)])
    }

    /// The next block of a file, or of a stage.
    pub(super) fn after(&self, block: u16) -> u16 {
        self.chain.get(usize::from(block)).copied().unwrap_or(NONE)
    }

    /// The bytes of an entry, block by block.
    pub(super) fn pieces(&self, at: usize) -> impl Iterator<Item = &[u8]> {
        let entry = &self.entries[at];
        let mut left = entry.len as usize;
        core::iter::successors(Some(entry.first), |&block| Some(self.after(block))).map_while(move |block| {
            let n = left.min(BLOCK);
            left -= n;
            if n == 0 { None } else { self.blocks.get(usize::from(block)).map(|bytes| &bytes[..n]) }
        })
    }
}
