//! The journal: records in a chain of blocks, from the tail, which an anchor refers to, to the head.
//!
//! | state | needs | left by |
//! |---|---|---|
//! | sealed: after a start or a failure, the space after the last record may be damaged | an anchor and a new head with a copy of the last record | the first change |
//! | open | | a failed program |
//! | dead: a flush or a rewrite of the journal failed, and the valid state is unknown | to be mounted again | |
//!
//! When the journal has its maximum number of blocks, it is rewritten: the valid records are copied to new blocks, an
//! anchor makes them the beginning, and the old blocks are free. Until the anchor is written, the copies are not valid,
//! and after a power cut their blocks are used again, so repeated cuts use up no space.

use skiff_proto::{ErrorCode, Refusal};

use super::layout::{HEAD, Head, RECORD, Record};
use super::{Flash, FlashError, FlashStore};

/// The state of the journal.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Journal {
    pub(super) tail: u32,
    /// The number of the tail, recorded in all blocks.
    pub(super) epoch: u32,
    pub(super) head: u32,
    /// The number of the head, and its sum.
    pub(super) seq: u32,
    pub(super) owner: u32,
    /// The highest number of any block so far.
    pub(super) used: u32,
    /// The number of the newest block that certainly reads the same each time.
    pub(super) sure: u32,
    /// The block that will follow the head.
    pub(super) next: u32,
    /// The position of the next record.
    pub(super) offset: u32,
    /// Blocks from tail to head.
    pub(super) blocks: u32,
    pub(super) sealed: bool,
    pub(super) dead: bool,
    /// The newest record.
    pub(super) last: Option<u32>,
}

/// The newest record, as it was read when the medium was mounted. If power failed while it was written, it may read
/// differently the next time.
#[derive(Debug)]
pub(super) struct Kept<const NAME: usize> {
    place: Option<u32>,
    len: usize,
    fixed: [u8; RECORD],
    name: [u8; NAME],
}

impl<const NAME: usize> Kept<NAME> {
    pub(super) const NONE: Self = Self { place: None, len: 0, fixed: [0; RECORD], name: [0; NAME] };

    /// Keeps the record in `page`.
    pub(super) fn keep(&mut self, place: u32, len: usize, page: &[u8]) {
        self.place = Some(place);
        self.len = len;
        self.fixed.copy_from_slice(&page[..RECORD]);
        self.name[..len - RECORD].copy_from_slice(&page[RECORD..len]);
    }

    /// Copies the record to `page` if it is the one at `place`; returns its length.
    pub(super) fn show_at(&self, place: u32, page: &mut [u8]) -> Option<usize> {
        if self.place != Some(place) {
            return None;
        }
        self.show(page);
        Some(self.len)
    }

    fn show(&self, page: &mut [u8]) {
        page[..RECORD].copy_from_slice(&self.fixed);
        page[RECORD..self.len].copy_from_slice(&self.name[..self.len - RECORD]);
    }
}

impl<F: Flash, const NAME: usize, const PAGE: usize> FlashStore<'_, F, NAME, PAGE> {
    pub(super) fn read_head(&mut self, block: u32) -> Result<Option<Head>, FlashError> {
        if block >= self.layout.blocks {
            return Ok(None);
        }
        let mut bytes = [0; HEAD as usize];
        self.flash.read(block, 0, &mut bytes)?;
        Ok(Head::decode(&bytes, self.volume))
    }

    /// Reads the record at `offset` of a journal block into `page`; `None` if it is not a record of that block, whose
    /// sum is `owner`.
    pub(super) fn read_record(
        &mut self,
        block: u32,
        offset: u32,
        owner: u32,
    ) -> Result<Option<(Record, usize)>, FlashError> {
        let n = self.layout.longest.min(self.layout.block - offset) as usize;
        self.flash.read(block, offset, &mut self.page[..n])?;
        let found = Record::decode(&self.page[..n], self.volume);
        Ok(found.filter(|(_, _, found)| *found == owner).map(|(record, len, _)| (record, len)))
    }

    /// Reads the record at `place` into `page`: the record, and its length.
    pub(super) fn load(&mut self, place: u32) -> Result<(Record, usize), Refusal> {
        let (block, offset) = self.layout.block_at(place);
        if self.kept.show_at(place, &mut self.page[..]).is_none() {
            let n = self.layout.longest.min(self.layout.block - offset) as usize;
            self.flash.read(block, offset, &mut self.page[..n])?;
        }
        let found = Record::decode(&self.page[..], self.volume);
        Ok(found.map(|(record, len, _)| (record, len)).ok_or(ErrorCode::Io)?)
    }

    /// Writes a record durably, and applies it.
    pub(super) fn append(&mut self, record: Record, name: &[u8]) -> Result<(), Refusal> {
        self.make_way(RECORD + name.len())?;
        let len = record.encode(name, self.page);
        self.append_page(record, len)
    }

    /// The same for a stage: under the name of its slot, or under `name` if that has none.
    pub(super) fn append_stage(&mut self, record: Record, slot: usize, name: Option<&[u8]>) -> Result<(), Refusal> {
        let len = name.map_or(self.slots[slot].name.len(), <[u8]>::len);
        self.make_way(RECORD + len)?;
        let len = record.encode(name.unwrap_or(&self.slots[slot].name), self.page);
        self.append_page(record, len)
    }

    fn append_page(&mut self, record: Record, len: usize) -> Result<(), Refusal> {
        let is_first = self.journal.offset == self.layout.first_record();
        let place = self.write(len)?;
        self.flush()?;
        self.heed(record, len, place)?;
        if is_first && self.anchor(false).is_err() {
            // The record is there all the same.
            self.journal.sealed = true;
        }
        Ok(())
    }

    /// Makes sure that a record of `len` bytes can be written.
    fn make_way(&mut self, len: usize) -> Result<(), Refusal> {
        self.heal()?;
        if !self.has_room(len) && self.is_long() {
            self.rewrite()?;
        }
        if !self.has_room(len) {
            self.new_head(self.journal.offset, self.journal.epoch)?;
        }
        Ok(())
    }

    fn has_room(&self, len: usize) -> bool {
        self.journal.offset as usize + self.layout.padded(len) <= self.layout.block as usize
    }

    /// True if it has its maximum number of blocks.
    fn is_long(&self) -> bool {
        self.journal.blocks >= self.layout.journal_most(self.records())
    }

    /// Opens the journal. Before that, nothing may be erased that was readable at the start or may become readable: an
    /// anchor or a record that could not be read may be readable the next time, and vice versa.
    pub(super) fn heal(&mut self) -> Result<(), Refusal> {
        if self.journal.dead {
            return Err(ErrorCode::Io.into());
        }
        if !self.journal.sealed {
            return Ok(());
        }
        self.renew_anchor()?;
        if self.is_long() {
            return self.rewrite();
        }
        let last = self.journal.last;
        if let Some(place) = last.filter(|&place| self.kept.place != Some(place)) {
            let (_, len) = self.load(place)?;
            self.kept.keep(place, len, self.page);
        }
        let in_head = last.map(|place| self.layout.block_at(place)).filter(|&(block, _)| block == self.journal.head);
        self.new_head(in_head.map_or(self.journal.offset, |(_, offset)| offset), self.journal.epoch)?;
        let len = if last.is_some() {
            self.kept.show(self.page);
            self.kept.len
        } else {
            Record::NOTHING.encode(&[], self.page)
        };
        let place = self.write(len)?;
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id != 0 && Some(entry.place) == last) {
            entry.place = place;
        }
        self.flush()?;
        // So that a damaged head is missed.
        self.anchor(false)?;
        self.kept.place = None;
        self.journal.sealed = false;
        Ok(())
    }

    /// Begins the next block of the journal. The records of the previous block count up to `end`.
    fn new_head(&mut self, end: u32, epoch: u32) -> Result<(), Refusal> {
        let block = self.journal.next;
        let next = self.map.take_next().ok_or(ErrorCode::NoSpace)?;
        let seq = self.journal.used + 1;
        // The first one has its own number.
        let epoch = if epoch == 0 { seq } else { epoch };
        let mut head = Head { seq, epoch, next, end, ids: self.ids, sum: 0 };
        let bytes = head.encode(self.volume);
        // On a card, sectors become durable in any order. The new head must be durable after the records that it refers to
        // and before its own: when the block is begun again, its number must be readable, to choose another.
        self.flush()?;
        self.journal.used = seq;
        let len = self.layout.padded(HEAD as usize);
        self.page[..len].fill(0xff);
        self.page[..HEAD as usize].copy_from_slice(&bytes);
        let begun = self.flash.erase(block).and_then(|()| self.flash.program(block, 0, &self.page[..len]));
        if begun.is_err() {
            self.map.give(next);
            self.journal.sealed = true;
        }
        begun?;
        self.flush()?;
        let offset = self.layout.first_record();
        let blocks = self.journal.blocks + 1;
        self.journal = Journal { head: block, seq, owner: head.sum, next, offset, blocks, ..self.journal };
        Ok(())
    }

    /// Rewrites the journal in new blocks.
    fn rewrite(&mut self) -> Result<(), Refusal> {
        let old = self.journal;
        let rewritten = self.copy_records();
        // Which of the two counts is found out when the medium is mounted.
        self.journal.dead |= rewritten.is_err();
        rewritten?;
        let mut block = old.tail;
        for _ in 0..old.blocks {
            let head = self.read_head(block);
            self.map.give(block);
            // The rest is freed when the medium is mounted again.
            let Ok(Some(head)) = head else { break };
            block = head.next;
        }
        Ok(())
    }

    fn copy_records(&mut self) -> Result<(), Refusal> {
        self.new_head(self.journal.offset, 0)?;
        let (tail, epoch) = (self.journal.head, self.journal.seq);
        let mut blocks = 1;
        if self.listed() == 0 {
            let len = Record::NOTHING.encode(&[], self.page);
            self.write(len)?;
        }
        for at in 0..self.entries.len() {
            if self.entries[at].id == 0 {
                continue;
            }
            let place = self.entries[at].place;
            let (_, len) = self.load(place)?;
            if !self.has_room(len) {
                self.new_head(self.journal.offset, epoch)?;
                blocks += 1;
                self.load(place)?;
            }
            Record::end_nothing(&mut self.page[..len]);
            self.entries[at].place = self.write(len)?;
        }
        self.flush()?;
        (self.journal.tail, self.journal.epoch) = (tail, epoch);
        self.anchor(false)?;
        // Twice: if one is damaged, the one before it refers to blocks that are already free.
        self.anchor(false)?;
        self.kept.place = None;
        self.journal.blocks = blocks;
        self.journal.sealed = false;
        Ok(())
    }

    /// Writes the record in `page` and returns its place.
    fn write(&mut self, len: usize) -> Result<u32, Refusal> {
        let Self { journal, layout, page, .. } = self;
        Record::seal(&mut page[..len], self.volume, journal.owner);
        let padded = layout.padded(len);
        page[len..padded].fill(0xff);
        let written = self.flash.program(journal.head, journal.offset, &page[..padded]);
        if written.is_err() {
            journal.sealed = true;
        }
        written?;
        let place = layout.place(journal.head, journal.offset);
        journal.sure = journal.seq;
        journal.offset += u32::try_from(padded).unwrap_or(0);
        journal.last = Some(place);
        Ok(place)
    }

    /// Makes everything durable.
    pub(super) fn flush(&mut self) -> Result<(), Refusal> {
        let flushed = self.flash.sync();
        self.journal.dead |= flushed.is_err();
        Ok(flushed?)
    }

    /// Frees blocks that the journal no longer needs.
    pub(super) fn clean(&mut self) -> Result<(), Refusal> {
        let too_long = self.journal.blocks > self.layout.journal_most(self.records());
        if too_long && !self.journal.sealed && !self.journal.dead { self.rewrite() } else { Ok(()) }
    }
}
