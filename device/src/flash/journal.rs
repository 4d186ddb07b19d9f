//! The journal: records in a ring of blocks, the newest at its head, the oldest at its tail.
//!
//! | the journal is | what it needs | left by |
//! |---|---|---|
//! | sealed: after a start or a failure, nobody knows whether the place behind the last record is good | a new head, in which the last record stands again | the first change |
//! | open | | a failed program |
//! | dead: a flush failed, and nobody knows what is durable | to be mounted again | |
//!
//! The tail is cleaned when the journal has more blocks than it may have: what still counts is copied to the head, an anchor
//! says where the tail is now, and then the block is free. A record that ends a version needs no copy: all records of that
//! version are older, so they have gone before it or go with it.

use skiff_proto::{ErrorCode, Refusal};

use super::layout::{HEAD, Head, Kind, RECORD, Record};
use super::{Flash, FlashError, FlashStore};

/// What is known of the journal.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Journal {
    pub(super) tail: u32,
    pub(super) tail_seq: u32,
    pub(super) head: u32,
    /// Of the head.
    pub(super) seq: u32,
    /// The block that comes after the head.
    pub(super) next: u32,
    /// Where the next record goes.
    pub(super) offset: u32,
    /// Blocks from tail to head.
    pub(super) blocks: u32,
    pub(super) sealed: bool,
    pub(super) dead: bool,
    /// The newest record.
    pub(super) last: Option<u32>,
}

/// The newest record, as it was read when the medium was mounted. Power may have gone while it was written: then it may
/// read otherwise the next time.
#[derive(Debug)]
pub(super) struct Kept<const NAME: usize> {
    place: Option<u32>,
    len: usize,
    fixed: [u8; RECORD],
    name: [u8; NAME],
}

impl<const NAME: usize> Kept<NAME> {
    pub(super) const NONE: Self = Self { place: None, len: 0, fixed: [0; RECORD], name: [0; NAME] };

    /// Keeps the record that stands in `page`.
    pub(super) fn keep(&mut self, place: u32, len: usize, page: &[u8]) {
        self.place = Some(place);
        self.len = len;
        self.fixed.copy_from_slice(&page[..RECORD]);
        self.name[..len - RECORD].copy_from_slice(&page[RECORD..len]);
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
        let mut bytes = [0; HEAD];
        self.flash.read(block, 0, &mut bytes)?;
        Ok(Head::decode(&bytes, self.volume))
    }

    /// Reads what stands at `offset` of a journal block into `page`; `None` if it is no record of block `seq`.
    pub(super) fn read_record(
        &mut self,
        block: u32,
        offset: u32,
        seq: u32,
    ) -> Result<Option<(Record, usize)>, FlashError> {
        let n = self.layout.longest.min(self.layout.block - offset) as usize;
        self.flash.read(block, offset, &mut self.page[..n])?;
        let found = Record::decode(&self.page[..n], self.volume);
        Ok(found.filter(|(_, _, found)| *found == seq).map(|(record, len, _)| (record, len)))
    }

    /// Reads the record at `place` into `page`: the record, and its length.
    pub(super) fn load(&mut self, place: u32) -> Result<(Record, usize), Refusal> {
        let (block, offset) = self.layout.block_at(place);
        if self.kept.place == Some(place) {
            self.kept.show(self.page);
        } else {
            let n = self.layout.longest.min(self.layout.block - offset) as usize;
            self.flash.read(block, offset, &mut self.page[..n])?;
        }
        let found = Record::decode(&self.page[..], self.volume);
        Ok(found.map(|(record, len, _)| (record, len)).ok_or(ErrorCode::Io)?)
    }

    /// Writes a record, durably, and heeds it.
    pub(super) fn append(&mut self, record: Record, name: &[u8]) -> Result<(), Refusal> {
        self.make_way(RECORD + name.len())?;
        let len = record.encode(name, self.page);
        self.append_page(record, len)
    }

    /// The same, of a stage: under the name that its slot has, or under `name` if that has none.
    pub(super) fn append_stage(&mut self, record: Record, slot: usize, name: Option<&[u8]>) -> Result<(), Refusal> {
        let len = name.map_or(self.slots[slot].name.len(), <[u8]>::len);
        self.make_way(RECORD + len)?;
        let len = record.encode(name.unwrap_or(&self.slots[slot].name), self.page);
        self.append_page(record, len)
    }

    fn append_page(&mut self, record: Record, len: usize) -> Result<(), Refusal> {
        let place = self.write(len)?;
        self.flush()?;
        self.heed(record, len, place)
    }

    /// Makes sure that a record of `len` bytes can be written.
    fn make_way(&mut self, len: usize) -> Result<(), Refusal> {
        self.heal()?;
        // Cleaning ends (see `Layout::journal_rest`); a bound costs nothing.
        for _ in 0..self.layout.blocks {
            if self.has_room(len) {
                return Ok(());
            }
            self.new_head(self.journal.offset)?;
            self.clean()?;
        }
        Err(ErrorCode::Io.into())
    }

    fn has_room(&self, len: usize) -> bool {
        self.journal.offset as usize + self.layout.padded(len) <= self.layout.block as usize
    }

    /// Opens the journal. Before that nothing may be erased: a record of before, which could not be read, may count
    /// again the next time, and only the new head says that it does not.
    pub(super) fn heal(&mut self) -> Result<(), Refusal> {
        if self.journal.dead {
            return Err(ErrorCode::Io.into());
        }
        if !self.journal.sealed {
            return Ok(());
        }
        let last = self.journal.last;
        if let Some(place) = last.filter(|&place| self.kept.place != Some(place)) {
            let (_, len) = self.load(place)?;
            self.kept.keep(place, len, self.page);
        }
        let in_head = last.map(|place| self.layout.block_at(place)).filter(|&(block, _)| block == self.journal.head);
        self.new_head(in_head.map_or(self.journal.offset, |(_, offset)| offset))?;
        let Some(last) = last else {
            let len = Record::NOTHING.encode(&[], self.page);
            self.write(len)?;
            return self.unseal();
        };
        let len = self.kept.len;
        self.kept.show(self.page);
        let place = self.write(len)?;
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id != 0 && entry.place == last) {
            entry.place = place;
        }
        self.unseal()
    }

    fn unseal(&mut self) -> Result<(), Refusal> {
        self.flush()?;
        self.anchor(true)?;
        self.kept.place = None;
        self.journal.sealed = false;
        self.clean()
    }

    /// Begins the next block of the journal. The records of the one before count up to `end`.
    pub(super) fn new_head(&mut self, end: u32) -> Result<(), Refusal> {
        let block = self.journal.next;
        let next = self.map.take_next().ok_or(ErrorCode::NoSpace)?;
        let seq = self.journal.seq + 1;
        let head = Head { seq, next, end, ids: self.ids }.encode(self.volume);
        let len = self.layout.padded(HEAD);
        self.page[..len].fill(0xff);
        self.page[..HEAD].copy_from_slice(&head);
        let begun = self.flash.erase(block).and_then(|()| self.flash.program(block, 0, &self.page[..len]));
        if begun.is_err() {
            self.map.give(next);
            self.journal.sealed = true;
        }
        begun?;
        let offset = self.layout.first_record();
        let blocks = self.journal.blocks + 1;
        self.journal = Journal { head: block, seq, next, offset, blocks, ..self.journal };
        Ok(())
    }

    /// Writes the record that stands in `page`; says where.
    fn write(&mut self, len: usize) -> Result<u32, Refusal> {
        let Self { journal, layout, page, .. } = self;
        Record::seal(&mut page[..len], self.volume, journal.seq);
        let padded = layout.padded(len);
        page[len..padded].fill(0xff);
        let written = self.flash.program(journal.head, journal.offset, &page[..padded]);
        if written.is_err() {
            journal.sealed = true;
        }
        written?;
        let place = layout.place(journal.head, journal.offset);
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

    /// Gives blocks of the journal back as long as it has more than it may have.
    pub(super) fn clean(&mut self) -> Result<(), Refusal> {
        if self.journal.sealed || self.journal.dead {
            // Whoever opens it cleans it.
            return Ok(());
        }
        for _ in 0..self.layout.blocks {
            if self.journal.blocks <= self.layout.journal_rest(self.records()) || self.journal.tail == self.journal.head {
                return Ok(());
            }
            self.clean_tail()?;
        }
        Err(ErrorCode::Io.into())
    }

    fn clean_tail(&mut self) -> Result<(), Refusal> {
        let (tail, seq) = (self.journal.tail, self.journal.tail_seq);
        let next = self.read_head(tail)?.ok_or(ErrorCode::Io)?.next;
        let end = self.read_head(next)?.ok_or(ErrorCode::Io)?.end;
        let mut offset = self.layout.first_record();
        while offset < end {
            let (record, len) = self.read_record(tail, offset, seq)?.ok_or(ErrorCode::Io)?;
            let place = self.layout.place(tail, offset);
            let counts = matches!(record.kind, Kind::File | Kind::Stage);
            let entry = self.entry_of(record.id).filter(|&at| counts && self.entries[at].place == place);
            if let Some(entry) = entry {
                if !self.has_room(len) {
                    self.new_head(self.journal.offset)?;
                    self.load(place)?;
                }
                self.entries[entry].place = self.write(len)?;
            }
            offset += u32::try_from(self.layout.padded(len)).unwrap_or(u32::MAX);
        }
        self.flush()?;
        let before = self.journal;
        (self.journal.tail, self.journal.tail_seq) = (next, seq + 1);
        if let Err(refusal) = self.anchor(false) {
            (self.journal.tail, self.journal.tail_seq) = (before.tail, before.tail_seq);
            self.journal.sealed = true;
            return Err(refusal);
        }
        self.journal.blocks -= 1;
        self.map.give(tail);
        Ok(())
    }
}
