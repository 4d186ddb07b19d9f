//! The two anchor blocks. They alternate in recording where the journal begins.

use skiff_proto::{ErrorCode, Refusal};

use super::journal::Journal;
use super::layout::{ANCHOR, ANCHORS, Anchor, Layout};
use super::{Flash, FlashError, FlashStore};

/// The position of the next anchor.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Anchors {
    pub(super) block: u32,
    pub(super) offset: u32,
    /// The `seq` of the newest one; 0 if there is none.
    pub(super) seq: u32,
}

impl<F: Flash, const NAME: usize, const PAGE: usize> FlashStore<'_, F, NAME, PAGE> {
    /// The newest anchor, and whether it matches this geometry.
    pub(super) fn find_anchor(&mut self) -> Result<Option<(Anchor, bool)>, FlashError> {
        let step = self.layout.anchor_step();
        let mut newest: Option<(Anchor, bool)> = None;
        for block in 0..ANCHORS {
            let mut end = 0;
            let mut is_newest = false;
            for offset in (0..=self.layout.block - step).step_by(step as usize) {
                let mut bytes = [0; ANCHOR as usize];
                self.flash.read(block, offset, &mut bytes)?;
                if bytes.iter().any(|byte| *byte != 0xff) {
                    end = offset + step;
                }
                if let Some((anchor, fits)) = Anchor::decode(&bytes, self.layout)
                    && newest.is_none_or(|(newest, _)| anchor.seq >= newest.seq)
                {
                    newest = Some((anchor, fits));
                    is_newest = true;
                }
            }
            if is_newest {
                self.anchors = Anchors { block, offset: end, seq: newest.map_or(0, |(anchor, _)| anchor.seq) };
            }
        }
        Ok(newest)
    }

    /// Writes an anchor with the new beginning of the journal. `fresh`: the space after the last anchor may be damaged.
    pub(super) fn anchor(&mut self, fresh: bool) -> Result<(), Refusal> {
        let Journal { tail, epoch, sure, .. } = self.journal;
        if fresh {
            // The place may have been tried, and an anchor that is there, and could not be read, may have its number.
            self.anchors.offset += self.layout.anchor_step();
            self.anchors.seq += 1;
        }
        self.write_anchor(Anchor { volume: self.volume, seq: 0, tail, epoch, head_seq: sure })
    }

    /// Writes the current anchor again after a start or a failure.
    pub(super) fn renew_anchor(&mut self) -> Result<(), Refusal> {
        let anchored = self.anchor(true);
        if anchored.is_err() && !self.journal.dead {
            // The place was torn when it was tried before, and looks blank: some flash refuses to program it then.
            return self.anchor(true);
        }
        anchored
    }

    /// Counts a start of the device: returns a number higher than all previous ones from this medium. The count is
    /// durable: no power cut, now or later, makes the medium return the same number again. Formatting keeps the count
    /// if there is a store on the medium.
    ///
    /// The number is that of an anchor, written for this purpose. Call it once, after mounting.
    ///
    /// # Errors
    /// The medium failed, and no number is returned.
    pub fn count_start(&mut self) -> Result<u64, Refusal> {
        // One that overflows would give low numbers again.
        if self.journal.dead || self.anchors.seq > u32::MAX / 2 {
            return Err(ErrorCode::Io.into());
        }
        self.renew_anchor()?;
        Ok(self.anchors.seq.into())
    }

    /// Writes an anchor after the last one; if the block is full, in the other block.
    pub(super) fn write_anchor(&mut self, mut anchor: Anchor) -> Result<(), Refusal> {
        let step = self.layout.anchor_step();
        let mut place = self.anchors;
        if place.offset + step > self.layout.block {
            place.block = ANCHORS - 1 - place.block;
            place.offset = 0;
            self.flash.erase(place.block)?;
        }
        place.seq += 1;
        anchor.seq = place.seq;
        self.put_anchor(anchor, place)?;
        self.anchors = Anchors { offset: place.offset + step, ..place };
        Ok(())
    }

    pub(super) fn put_anchor(&mut self, anchor: Anchor, place: Anchors) -> Result<(), Refusal> {
        let len = marker(anchor, self.layout, self.page);
        self.flash.program(place.block, place.offset, &self.page[..len])?;
        self.flush()
    }
}

/// The bytes of an anchor as they are programmed.
pub(super) fn marker(anchor: Anchor, layout: Layout, page: &mut [u8]) -> usize {
    let len = layout.padded(ANCHOR as usize);
    page[..len].fill(0xff);
    page[..ANCHOR as usize].copy_from_slice(&anchor.encode(layout));
    len
}
