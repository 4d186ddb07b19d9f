//! Versions of files that are being written.
//!
//! | slot | content | becomes |
//! |---|---|---|
//! | free | | open |
//! | open | a page that is being filled, a checksum; on the medium, the preceding blocks, which no record refers to | left, free |
//! | left: its handle was dropped | the same | free, at the next change: a named one gets a record, an unnamed one is dropped |
//!
//! A checkpoint is a record that refers to the full blocks, so that they survive a power cut. A page that is programmed
//! before it is full can't be filled later: resuming such a stage copies its last block.

use heapless::Vec;
use skiff_proto::crc::Crc32c;
use skiff_proto::identity::{NOBODY, StageOwner};
use skiff_proto::{ErrorCode, Refusal};

use super::layout::{Kind, LINK, Link, Record};
use super::room::Need;
use super::{Flash, FlashStore, Handle};

/// A version of a file that is being written.
#[derive(Debug)]
pub struct FlashStage<'m> {
    handle: &'m Handle,
    version: u32,
    slot: usize,
}

impl Drop for FlashStage<'_> {
    fn drop(&mut self) {
        if self.handle.version.get() == self.version {
            self.handle.writer.set(false);
        }
    }
}

#[derive(Debug)]
pub(super) struct Slot<const NAME: usize, const PAGE: usize> {
    /// 0: free.
    pub(super) id: u32,
    /// Empty if the stage gets its name at the commit.
    pub(super) name: Vec<u8, NAME, u8>,
    pub(super) mtime: Option<u64>,
    pub(super) owner: StageOwner,
    /// Bytes so far, and their CRC-32C.
    pub(super) len: u32,
    pub(super) crc: Crc32c,
    /// The last block, its jump target, and the number of blocks.
    last: u32,
    jump: u32,
    pub(super) blocks: u32,
    /// The checksum of the bytes in the last block.
    last_crc: Crc32c,
    /// The total number of blocks that it may have.
    pub(super) reserved: u32,
    /// There is a record of it.
    pub(super) listed: bool,
    /// Bytes in that record.
    kept: u32,
    /// The last block of that record if it has been copied; otherwise 0.
    pub(super) copied: u32,
    /// The content of the page has been programmed, although the page is not full.
    closed: bool,
    /// A program operation has failed.
    failed: bool,
    page: [u8; PAGE],
}

impl<const NAME: usize, const PAGE: usize> Slot<NAME, PAGE> {
    pub(super) const FREE: Self = Self {
        id: 0,
        name: Vec::new(),
        mtime: None,
        owner: NOBODY,
        len: 0,
        crc: Crc32c::new(),
        last: 0,
        jump: 0,
        blocks: 0,
        last_crc: Crc32c::new(),
        reserved: 0,
        listed: false,
        kept: 0,
        copied: 0,
        closed: false,
        failed: false,
        page: [0; PAGE],
    };

    /// Bytes in the last block; those of a full block if there is none.
    const fn fill(&self, payload: u32) -> u32 {
        if self.blocks == 0 { payload } else { self.len - (self.blocks - 1) * payload }
    }

    /// The position of the next byte in the last block and in the page.
    const fn end(&self, payload: u32) -> (u32, usize) {
        let end = LINK + self.fill(payload);
        (end, end as usize % PAGE)
    }

    pub(super) fn record(&self, kind: Kind, over: u32) -> Record {
        Record {
            kind,
            id: self.id,
            over,
            size: self.len,
            crc: self.crc.value(),
            mtime: if kind == Kind::Stage { self.owner.number() } else { self.mtime },
            last: self.last,
            last_crc: self.last_crc.value(),
        }
    }
}

impl<'m, F: Flash, const NAME: usize, const PAGE: usize> FlashStore<'m, F, NAME, PAGE> {
    /// The slot of a name, left or open.
    pub(super) fn slot_of(&self, name: &[u8]) -> Option<usize> {
        self.slots.iter().position(|slot| slot.id != 0 && slot.name == name)
    }

    /// The slot of a handle.
    pub(super) fn slot(&self, stage: &FlashStage<'_>) -> Result<usize, Refusal> {
        let is_current = stage.handle.version.get() == stage.version && self.slots[stage.slot].id != 0;
        if is_current { Ok(stage.slot) } else { Err(ErrorCode::Io.into()) }
    }

    /// # Errors
    /// `busy` if every slot has a writer.
    pub(super) fn free_slot(&self) -> Result<usize, Refusal> {
        let free = self.slots.iter().position(|slot| slot.id == 0);
        free.ok_or(Refusal::new(ErrorCode::Busy, "too many files are being written"))
    }

    /// Gives a slot to a writer and reserves a number of blocks for it.
    pub(super) fn open_slot(&mut self, at: usize, id: u32, name: &[u8], blocks: u32) -> FlashStage<'m> {
        let slot = &mut self.slots[at];
        slot.id = id;
        slot.name.clear();
        _ = slot.name.extend_from_slice(name);
        slot.reserved = blocks;
        let handles: &'m [Handle] = self.handles;
        let handle = &handles[at];
        self.versions = self.versions.wrapping_add(1).max(1);
        handle.version.set(self.versions);
        handle.writer.set(true);
        FlashStage { handle, version: self.versions, slot: at }
    }

    pub(super) fn new_id(&mut self) -> u32 {
        let id = self.ids;
        self.ids += 1;
        id
    }

    /// Makes a slot free, even if a writer has it.
    pub(super) fn free(&mut self, at: usize) {
        self.slots[at].id = 0;
        let Slot {
            len, crc, last, jump, blocks, last_crc, reserved, listed, kept, copied, closed, failed, mtime, ..
        } = &mut self.slots[at];
        (*len, *last, *jump, *blocks, *reserved, *kept, *copied) = (0, 0, 0, 0, 0, 0, 0);
        (*crc, *last_crc) = (Crc32c::new(), Crc32c::new());
        (*listed, *closed, *failed, *mtime) = (false, false, false, None);
        self.slots[at].owner = NOBODY;
        // Handles of another version have no effect any more.
        self.handles[at].version.set(0);
    }

    /// Adds all of the bytes.
    pub(super) fn write_stage(&mut self, at: usize, mut bytes: &[u8]) -> Result<(), Refusal> {
        let payload = self.layout.payload();
        while !bytes.is_empty() {
            if self.slots[at].closed || self.slots[at].failed {
                return Err(ErrorCode::Io.into());
            }
            if self.slots[at].fill(payload) == payload {
                self.add_block(at)?;
            }
            let slot = &mut self.slots[at];
            let (end, within) = slot.end(payload);
            let n = bytes.len().min(PAGE - within);
            let piece = &bytes[..n];
            let added = u32::try_from(n).ok().and_then(|n| slot.len.checked_add(n));
            slot.len = added.ok_or(ErrorCode::NoSpace)?;
            slot.page[within..within + n].copy_from_slice(piece);
            slot.crc.update(piece);
            slot.last_crc.update(piece);
            if within + n == PAGE {
                let offset = end - u32::try_from(within).unwrap_or(0);
                let programmed = self.flash.program(slot.last, offset, &slot.page);
                slot.failed |= programmed.is_err();
                programmed?;
            }
            bytes = &bytes[n..];
            let is_due = slot.fill(payload) == payload && slot.len - slot.kept >= self.checkpoint;
            if is_due && !slot.name.is_empty() {
                self.keep(at)?;
            }
        }
        Ok(())
    }

    /// Begins the next block of a stage.
    fn add_block(&mut self, at: usize) -> Result<(), Refusal> {
        // Nothing of before is erased as long as the journal does not say what of before counts.
        self.heal()?;
        let slot = &self.slots[at];
        let Slot { id, last, jump, blocks, reserved, last_crc, .. } = *slot;
        if blocks >= reserved {
            // Text with accents is longer than was announced.
            self.make_room(Need { blocks: 1, keep: Some(id) })?;
        }
        let jump = self.jump_of(blocks, id, last, jump)?;
        let block = self.map.take_next().ok_or(ErrorCode::NoSpace)?;
        // A block that can't be erased is not freed: it would be taken again at once.
        self.flash.erase(block)?;
        let link = Link { prev: last, jump, index: blocks, id, prev_crc: last_crc.value() };
        let slot = &mut self.slots[at];
        slot.page[..LINK as usize].copy_from_slice(&link.encode(self.volume));
        (slot.last, slot.jump, slot.blocks, slot.last_crc) = (block, jump, blocks + 1, Crc32c::new());
        Ok(())
    }

    /// Programs the page; nothing can be added to it after that.
    pub(super) fn close_page(&mut self, at: usize) -> Result<(), Refusal> {
        let slot = &mut self.slots[at];
        let (end, within) = slot.end(self.layout.payload());
        if slot.failed {
            return Err(ErrorCode::Io.into());
        }
        if slot.blocks == 0 || within == 0 || slot.closed {
            return Ok(());
        }
        let len = within.next_multiple_of(self.layout.unit as usize);
        slot.page[within..len].fill(0xff);
        slot.closed = true;
        let offset = end - u32::try_from(within).unwrap_or(0);
        let programmed = self.flash.program(slot.last, offset, &slot.page[..len]);
        slot.failed |= programmed.is_err();
        Ok(programmed?)
    }

    /// Writes a record of the staged bytes. The page must have been programmed.
    fn keep(&mut self, at: usize) -> Result<(), Refusal> {
        self.flush()?;
        self.append_stage(self.slots[at].record(Kind::Stage, 0), at, None)?;
        let slot = &mut self.slots[at];
        (slot.listed, slot.kept) = (true, slot.len);
        let copied = core::mem::take(&mut slot.copied);
        self.give_if(copied);
        Ok(())
    }

    /// Frees a block, if there is one.
    pub(super) fn give_if(&mut self, block: u32) {
        if block != 0 {
            self.map.give(block);
        }
    }

    /// Continues an interrupted write. Its last block is copied if it is not full and more bytes will follow.
    pub(super) fn reopen(&mut self, at: usize, record: &Record, size: u32) -> Result<(), Refusal> {
        let payload = self.layout.payload();
        let blocks = self.layout.blocks_for(record.size);
        let link = self.link(record.last, record.id, blocks - 1)?;
        let is_full = record.size == blocks * payload;
        let slot = &mut self.slots[at];
        (slot.listed, slot.kept, slot.len) = (true, record.size, record.size);
        (slot.last, slot.jump, slot.blocks) = (record.last, link.jump, blocks);
        (slot.crc, slot.last_crc) = (Crc32c::from_value(record.crc), Crc32c::from_value(record.last_crc));
        if is_full || record.size == size {
            slot.closed = !is_full;
            return Ok(());
        }
        // Back to the end of the block before.
        (slot.len, slot.blocks, slot.last) = ((blocks - 1) * payload, blocks - 1, link.prev);
        slot.last_crc = Crc32c::from_value(link.prev_crc);
        let jump = if blocks > 1 { self.link(link.prev, record.id, blocks - 2)?.jump } else { 0 };
        self.slots[at].jump = jump;
        // Not before there is something that it is the copy of.
        let checkpoint = core::mem::replace(&mut self.checkpoint, u32::MAX);
        let copied = self.copy(at, record, payload);
        self.checkpoint = checkpoint;
        copied?;
        let slot = &mut self.slots[at];
        slot.copied = record.last;
        slot.crc = Crc32c::from_value(record.crc);
        if slot.last_crc.value() == record.last_crc {
            return Ok(());
        }
        Err(Refusal::new(ErrorCode::Mismatch, "what was staged is damaged"))
    }

    fn copy(&mut self, at: usize, record: &Record, payload: u32) -> Result<(), Refusal> {
        let mut piece = [0; 64];
        let mut offset = LINK;
        while self.slots[at].len < record.size {
            let n = piece.len().min((record.size - self.slots[at].len) as usize);
            self.flash.read(record.last, offset, &mut piece[..n])?;
            self.write_stage(at, &piece[..n])?;
            offset += u32::try_from(n).unwrap_or(payload);
        }
        Ok(())
    }

    /// Ends a stage, and frees its blocks.
    pub(super) fn end_stage(&mut self, at: usize) {
        let slot = &self.slots[at];
        let id = slot.id;
        // If that can't be said, the blocks that a record names are not free.
        if slot.listed && self.append(Record::drop(id), &[]).is_err() {
            self.forget(at);
            return;
        }
        let copied = self.slots[at].copied;
        self.give_blocks(at);
        self.give_if(copied);
        self.free(at);
        _ = self.clean();
    }

    /// Makes a slot free without freeing its blocks; they are free after the next mount.
    fn forget(&mut self, at: usize) {
        self.free(at);
    }

    fn give_blocks(&mut self, at: usize) {
        let slot = &self.slots[at];
        let Slot { id, last, blocks, .. } = *slot;
        let (end, _) = slot.end(self.layout.payload());
        if blocks == 0 {
            return;
        }
        if (end as usize) < PAGE && !slot.closed {
            // The beginning of the last block is still in the page.
            let mut link = [0; LINK as usize];
            link.copy_from_slice(&slot.page[..LINK as usize]);
            self.map.give(last);
            if let Some(link) = Link::decode(&link, self.volume) {
                self.give_chain(id, link.prev, blocks - 1);
            }
        } else {
            self.give_chain(id, last, blocks);
        }
    }

    /// Makes the bytes of lost connections durable, and frees those of failed puts. Very cheap if there is nothing to
    /// do.
    pub(super) fn settle_dropped(&mut self) {
        for at in 0..self.slots.len() {
            if self.slots[at].id != 0 && !self.handles[at].writer.get() {
                self.leave(at);
            }
        }
    }

    fn leave(&mut self, at: usize) {
        let slot = &self.slots[at];
        if slot.name.is_empty() || slot.len == 0 {
            return self.end_stage(at);
        }
        if slot.listed && slot.len == slot.kept {
            // Nothing came; a copy of the last block was for nothing.
            if slot.copied != 0 {
                let copy = slot.last;
                self.map.give(copy);
            }
            return self.free(at);
        }
        // If that fails, or something has failed before, the last checkpoint is valid.
        _ = self.close_page(at).and_then(|()| self.keep(at));
        self.forget(at);
    }
}
