//! Space accounting, and eviction of interrupted writes.

use skiff_proto::{ErrorCode, Refusal};

use super::layout::{ANCHORS, Record};
use super::{Flash, FlashStore};

/// The needs of a new version.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    pub(super) blocks: u32,
    /// The interrupted write that is resumed, which must not be dropped.
    pub(super) keep: Option<u32>,
}

impl<F: Flash, const NAME: usize, const PAGE: usize> FlashStore<'_, F, NAME, PAGE> {
    /// Valid records, including future ones: every open stage ends in one.
    pub(super) fn records(&self) -> u32 {
        u32::try_from(self.listed() + self.unlisted()).unwrap_or(u32::MAX)
    }

    /// Stages that are open and have no record yet.
    fn unlisted(&self) -> usize {
        self.slots.iter().filter(|slot| slot.id != 0 && !slot.listed).count()
    }

    /// Blocks that are free for data and not promised to a writer, given `more` records. `None` if there is not even
    /// room for the journal, which an empty file needs, too.
    fn unpromised(&self, more: u32) -> Option<u32> {
        // With the next one, those that the journal has.
        let journal = self.layout.journal_room(self.records() + more, self.journal.blocks) - (self.journal.blocks + 1);
        let promised: u32 = self.slots.iter().map(|slot| slot.reserved.saturating_sub(slot.blocks)).sum();
        self.map.free().checked_sub(journal + promised)
    }

    fn is_open(&self, id: u32) -> bool {
        self.slots.iter().any(|slot| slot.id == id)
    }

    /// The interrupted write that is dropped first: the oldest one.
    fn next_to_go(&self, keep: Option<u32>) -> Option<usize> {
        let ids = |&at: &usize| {
            let entry = &self.entries[at];
            entry.id != 0 && entry.is_stage && keep != Some(entry.id) && !self.is_open(entry.id)
        };
        (0..self.entries.len()).filter(ids).min_by_key(|&at| self.entries[at].id)
    }

    /// A new version needs a place in the table, unless it resumes a stage that has one.
    fn has_entry(&self, keep: Option<u32>) -> bool {
        keep.is_some() || self.listed() + self.unlisted() < self.entries.len()
    }

    /// Blocks that a new version can have if all interrupted writes are dropped; `None` if it can't be stored at all.
    pub(super) fn room(&mut self, keep: Option<u32>) -> Result<Option<u32>, Refusal> {
        let mut others = 0;
        for at in 0..self.entries.len() {
            let entry = self.entries[at];
            if entry.id != 0 && entry.is_stage && keep != Some(entry.id) && !self.is_open(entry.id) {
                let (record, _) = self.load(entry.place)?;
                others += self.layout.blocks_for(record.size);
            }
        }
        let more = u32::from(keep.is_none());
        // A dropped one needs no record any more.
        let room = self.unpromised(more).or_else(|| self.unpromised(0).filter(|_| others > 0));
        Ok(room.filter(|_| self.has_entry(keep) || others > 0).map(|room| room + others))
    }

    /// # Errors
    /// `no-space` if there is no room even without interrupted writes; `io` if nothing can be written. Nothing has
    /// changed.
    pub(super) fn check_room(&mut self, need: Need) -> Result<(), Refusal> {
        if self.journal.dead {
            return Err(ErrorCode::Io.into());
        }
        let room = self.room(need.keep)?;
        if room.is_some_and(|room| need.blocks <= room) { Ok(()) } else { Err(ErrorCode::NoSpace.into()) }
    }

    /// Drops interrupted writes until there is room.
    pub(super) fn make_room(&mut self, need: Need) -> Result<(), Refusal> {
        let more = u32::from(need.keep.is_none());
        while !self.has_entry(need.keep) || self.unpromised(more).is_none_or(|room| room < need.blocks) {
            let at = self.next_to_go(need.keep).ok_or(ErrorCode::NoSpace)?;
            self.end_version(at)?;
        }
        Ok(())
    }

    /// Ends the version of an entry: durably, and then its blocks are free.
    pub(super) fn end_version(&mut self, at: usize) -> Result<(), Refusal> {
        let (record, _) = self.load(self.entries[at].place)?;
        self.append(Record::drop(record.id), &[])?;
        self.give_version(&record);
        // Superfluous journal blocks are freed now; if that fails, the next change does it.
        _ = self.clean();
        Ok(())
    }

    /// Frees the blocks of a version that has ended.
    pub(super) fn give_version(&mut self, record: &Record) {
        self.give_chain(record.id, record.last, self.layout.blocks_for(record.size));
    }

    /// The number of blocks for files on an empty medium.
    pub(super) fn total(&self) -> u32 {
        self.layout.blocks - ANCHORS - self.layout.journal_room(1, 0)
    }
}
