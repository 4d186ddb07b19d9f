//! Mounting and formatting a medium.

use core::fmt;

use super::anchor::Anchors;
use super::index::Entry;
use super::journal::{Journal, Kept};
use super::layout::{ANCHOR, Anchor, FIRST, HEAD, Head, Layout, Record};
use super::map::Map;
use super::stage::Slot;
use super::{CHECKPOINT, Flash, FlashError, FlashMemory, FlashStore};

/// Why a medium can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum MountError {
    /// The medium failed.
    Medium,
    /// The size of the medium, or of its blocks and units, does not match the store's memory.
    Geometry,
    /// It has other content, which is left alone. [`FlashStore::format`] replaces it.
    Foreign,
    /// It was formatted by another version, for other sizes, or for longer names.
    Other,
    /// There is a store on it, but its journal is damaged.
    Damaged,
    /// It has more files than the memory can hold.
    TooManyFiles,
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Medium => "the medium failed",
            Self::Geometry => "the medium is too small or too large for this store",
            Self::Foreign => "there is something else on the medium",
            Self::Other => "the medium was formatted with different parameters",
            Self::Damaged => "what is on the medium is damaged",
            Self::TooManyFiles => "there are more files on the medium than this store can hold",
        })
    }
}

impl core::error::Error for MountError {}

impl From<FlashError> for MountError {
    fn from(_: FlashError) -> Self {
        Self::Medium
    }
}

impl From<FlashError> for skiff_proto::Refusal {
    fn from(_: FlashError) -> Self {
        skiff_proto::ErrorCode::Io.into()
    }
}

/// Bytes at the beginning and at the end of a medium that have to be blank for it to be formatted automatically.
const BLANK: u32 = 2 * 1024 * 1024;

impl<'m, F: Flash, const NAME: usize, const PAGE: usize> FlashStore<'m, F, NAME, PAGE> {
    /// Opens the store on a medium. A blank one (all bytes 0xff, or all 0) is formatted.
    ///
    /// # Errors
    /// See [`MountError`]; in this case nothing has been written.
    pub fn mount<const FILES: usize, const STAGES: usize, const MAP: usize>(
        memory: &'m mut FlashMemory<FILES, STAGES, NAME, PAGE, MAP>,
        flash: F,
    ) -> Result<Self, MountError> {
        let mut store = Self::bare(memory, flash)?;
        let anchor = match store.find_anchor()? {
            Some((_, false)) => return Err(MountError::Other),
            Some((anchor, true)) => anchor,
            None => {
                let place = store.blank_place()?.ok_or(MountError::Foreign)?;
                store.begin_format(place)?
            }
        };
        store.find_out(anchor)?;
        Ok(store)
    }

    /// Formats a medium, whatever its content. A power cut leaves the old content, or an empty store, or, where
    /// there was no store, one that is refused as foreign.
    ///
    /// # Errors
    /// The medium fails or does not match this store.
    pub fn format<const FILES: usize, const STAGES: usize, const MAP: usize>(
        memory: &'m mut FlashMemory<FILES, STAGES, NAME, PAGE, MAP>,
        flash: F,
    ) -> Result<Self, MountError> {
        let mut store = Self::bare(memory, flash)?;
        let anchor = match store.find_anchor()? {
            Some((newest, _)) => {
                // In the other block: the newest one counts until this one is whole.
                let mut place = store.anchors;
                (place.block, place.offset, place.seq) = (1 - place.block, 0, newest.seq + 1);
                store.flash.erase(place.block)?;
                store.put_marker(newest.volume.wrapping_add(1), place)?
            }
            None => {
                store.flash.erase(0)?;
                store.flash.erase(1)?;
                store.put_marker(1, Anchors { block: 0, offset: 0, seq: 1 })?
            }
        };
        store.find_out(anchor)?;
        Ok(store)
    }

    fn bare<const FILES: usize, const STAGES: usize, const MAP: usize>(
        memory: &'m mut FlashMemory<FILES, STAGES, NAME, PAGE, MAP>,
        flash: F,
    ) -> Result<Self, MountError> {
        const { assert!(PAGE >= ANCHOR as usize, "an anchor fits in a page") };
        let layout = Layout::new(flash.geometry(), PAGE, MAP * 8, NAME).ok_or(MountError::Geometry)?;
        memory.entries.fill(Entry::FREE);
        memory.slots.iter_mut().for_each(|slot| *slot = Slot::FREE);
        for handle in &memory.handles {
            handle.version.set(0);
        }
        Ok(Self {
            flash,
            layout,
            volume: 0,
            entries: &mut memory.entries,
            slots: &mut memory.slots,
            handles: &memory.handles,
            map: Map::new(&mut memory.map, layout.blocks),
            page: &mut memory.page,
            kept: Kept::NONE,
            anchors: Anchors::default(),
            journal: Journal::default(),
            ids: 1,
            versions: 0,
            checkpoint: CHECKPOINT,
        })
    }

    /// The anchor of a medium that is being formatted.
    fn put_marker(&mut self, volume: u32, place: Anchors) -> Result<Anchor, MountError> {
        let anchor = Anchor { volume, seq: place.seq, tail: 0, epoch: 0, head_seq: 0 };
        self.put_anchor(anchor, place).map_err(|_| MountError::Medium)?;
        self.anchors = Anchors { offset: place.offset + self.layout.anchor_step(), ..place };
        Ok(anchor)
    }

    const FIRST_MARKER: Anchor = Anchor { volume: 1, seq: 1, tail: 0, epoch: 0, head_seq: 0 };

    /// Formatting a blank medium begins by programming, not by erasing: an interrupted erasure leaves a medium that is
    /// no longer blank, but a partial marker can be recognized.
    fn begin_format(&mut self, offset: u32) -> Result<Anchor, MountError> {
        let marker = Self::FIRST_MARKER;
        self.put_marker(marker.volume, Anchors { block: 0, offset, seq: marker.seq })
    }

    /// The position for the marker if the medium is blank, except for earlier attempts to write it.
    fn blank_place(&mut self) -> Result<Option<u32>, FlashError> {
        let Layout { blocks, block: size, .. } = self.layout;
        let mut last = [0];
        self.flash.read(blocks - 1, size - 1, &mut last)?;
        let [blank] = last;
        if blank != 0 && blank != 0xff {
            return Ok(None);
        }
        let near = BLANK.div_ceil(size);
        for block in (1..blocks).filter(|&block| block < near || blocks - block <= near) {
            if !self.is_blank(block, 0, size, blank)? {
                return Ok(None);
            }
        }
        let step = self.layout.anchor_step();
        let mut place = 0;
        while place + step <= size && !self.is_blank(0, place, place + step, blank)? {
            let mut found = [0; ANCHOR as usize];
            self.flash.read(0, place, &mut found)?;
            let marker = Self::FIRST_MARKER.encode(self.layout);
            let is_attempt = |(&found, marker): (&u8, u8)| {
                found == blank || found == marker || blank == 0xff && found & marker == marker
            };
            if !found.iter().zip(marker).all(is_attempt) {
                return Ok(None);
            }
            place += step;
        }
        let fits = place + step <= size && self.is_blank(0, place, size, blank)?;
        Ok(fits.then_some(place))
    }

    fn is_blank(&mut self, block: u32, from: u32, to: u32, blank: u8) -> Result<bool, FlashError> {
        let mut at = from;
        while at < to {
            let n = (to - at).min(u32::try_from(PAGE).unwrap_or(u32::MAX));
            let piece = &mut self.page[..n as usize];
            self.flash.read(block, at, piece)?;
            if piece.iter().any(|byte| *byte != blank) {
                return Ok(false);
            }
            at += n;
        }
        Ok(true)
    }

    fn find_out(&mut self, anchor: Anchor) -> Result<(), MountError> {
        self.volume = anchor.volume;
        let anchor = if anchor.tail == 0 { self.finish_format()? } else { anchor };
        for block in 0..FIRST {
            self.map.take(block);
        }
        self.replay(anchor)?;
        for at in 0..self.entries.len() {
            let entry = self.entries[at];
            if entry.id == 0 {
                continue;
            }
            // A record that was read a moment ago.
            let (record, _) = self.load(entry.place).map_err(|_| MountError::Damaged)?;
            self.take_chain(record.id, record.last, self.layout.blocks_for(record.size));
        }
        self.map.start_after(self.journal.head);
        self.journal.sealed = true;
        Ok(())
    }

    /// Writes the first journal block and the anchor that refers to it.
    fn finish_format(&mut self) -> Result<Anchor, MountError> {
        let mut head = Head { seq: 1, epoch: 1, next: FIRST + 1, end: 0, ids: 1, sum: 0 };
        let bytes = head.encode(self.volume);
        let len = self.layout.padded(HEAD as usize);
        self.page[..len].fill(0xff);
        self.page[..HEAD as usize].copy_from_slice(&bytes);
        self.flash.erase(FIRST)?;
        self.flash.program(FIRST, 0, &self.page[..len])?;
        let len = Record::NOTHING.encode(&[], self.page);
        Record::seal(&mut self.page[..len], self.volume, head.sum);
        let padded = self.layout.padded(len);
        self.page[len..padded].fill(0xff);
        self.flash.program(FIRST, self.layout.first_record(), &self.page[..padded])?;
        self.flash.sync()?;
        self.journal = Journal { tail: FIRST, epoch: 1, sure: 1, ..Journal::default() };
        self.anchor(true).map_err(|_| MountError::Medium)?;
        Ok(Anchor { volume: self.volume, seq: 0, tail: FIRST, epoch: 1, head_seq: 1 })
    }

    /// Reads the journal from its tail to its head.
    fn replay(&mut self, anchor: Anchor) -> Result<(), MountError> {
        let epoch = anchor.epoch;
        self.journal = Journal { tail: anchor.tail, epoch, sure: epoch, ..Journal::default() };
        let mut block = anchor.tail;
        let first = self.read_head(block)?.filter(|head| (head.seq, head.epoch) == (epoch, epoch));
        let mut head = first.ok_or(MountError::Damaged)?;
        loop {
            if !self.map.take(block) {
                return Err(MountError::Damaged);
            }
            self.journal.blocks += 1;
            self.ids = self.ids.max(head.ids);
            let after = self.follower(head)?;
            let offset = self.replay_block(block, head.sum, after.map(|after| after.end))?;
            let Some(after) = after else {
                let Head { seq, sum: owner, next, .. } = head;
                self.journal = Journal { head: block, seq, owner, next, offset, ..self.journal };
                let first = self.layout.place(block, self.layout.first_record());
                if self.journal.last != Some(first) {
                    self.journal.sure = seq;
                }
                break;
            };
            self.journal.sure = head.seq;
            (block, head) = (head.next, after);
        }
        if head.seq < anchor.head_seq || !self.map.take(head.next) {
            return Err(MountError::Damaged);
        }
        Ok(())
    }

    /// The journal block after this one. Two kinds of blocks are ignored: those of an unfinished rewrite of the
    /// journal, and those without a record or a block with a record after them.
    fn follower(&mut self, head: Head) -> Result<Option<Head>, FlashError> {
        let mut found = None;
        let mut before = head;
        let mut counts = true;
        self.journal.used = head.seq;
        for _ in 0..self.layout.blocks {
            let Some(after) = self.read_head(before.next)?.filter(|after| after.seq > before.seq) else {
                break;
            };
            self.journal.used = after.seq;
            counts &= after.epoch == self.journal.epoch;
            if counts {
                found = found.or(Some(after));
                let first = self.layout.first_record();
                if let Some((_, len)) = self.read_record(before.next, first, after.sum)? {
                    // If power failed while it was written, it may read otherwise the next time.
                    self.kept.keep(self.layout.place(before.next, first), len, &self.page[..]);
                    return Ok(found);
                }
            }
            before = after;
        }
        Ok(None)
    }

    /// Applies the records of a block up to `end`, or to the last one; returns the position of the end.
    fn replay_block(&mut self, block: u32, owner: u32, end: Option<u32>) -> Result<u32, MountError> {
        let mut offset = self.layout.first_record();
        while offset < end.unwrap_or(self.layout.block) {
            let place = self.layout.place(block, offset);
            let found = match self.kept.show_at(place, &mut self.page[..]) {
                Some(len) => Record::decode(&self.page[..], self.volume).map(|(record, ..)| (record, len)),
                None => self.read_record(block, offset, owner)?,
            };
            let Some((record, len)) = found else {
                break;
            };
            self.heed(record, len, place).map_err(|_| MountError::TooManyFiles)?;
            self.ids = self.ids.max(record.id.saturating_add(1));
            self.journal.last = Some(place);
            if end.is_none() {
                self.kept.keep(place, len, &self.page[..]);
            }
            offset += u32::try_from(self.layout.padded(len)).unwrap_or(u32::MAX);
        }
        // All of them were there once.
        let is_damaged = match end {
            Some(end) => offset != end,
            None => self.has_record_after(block, offset, owner)?,
        };
        if is_damaged { Err(MountError::Damaged) } else { Ok(offset) }
    }

    /// True if a record follows an unreadable one, which therefore was not the last.
    fn has_record_after(&mut self, block: u32, offset: u32, owner: u32) -> Result<bool, FlashError> {
        // Where it would bear the sum of its block.
        let step = self.layout.align;
        let mut at = offset + step + 4;
        while at + 4 <= self.layout.block {
            let n = (self.layout.block - at).min(u32::try_from(PAGE).unwrap_or(u32::MAX));
            self.flash.read(block, at, &mut self.page[..n as usize])?;
            let places = (n - 4) / step + 1;
            let bears = |&place: &u32| self.page[(place * step) as usize..][..4] == owner.to_le_bytes();
            let Some(place) = (0..places).find(bears) else {
                at += places * step;
                continue;
            };
            at += place * step;
            if self.read_record(block, at - 4, owner)?.is_some() {
                return Ok(true);
            }
            at += step;
        }
        Ok(false)
    }
}
