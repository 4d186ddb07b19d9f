//! The map of used blocks: one bit for each.

/// The map of a medium's blocks. It is not stored on the medium: mounting computes it.
#[derive(Debug)]
pub(super) struct Map<'m> {
    bits: &'m mut [u8],
    blocks: u32,
    free: u32,
    /// Where the search continues: blocks are taken in turn, so that they wear evenly.
    next: u32,
}

/// Bytes of a map for a number of blocks: `MAP` of a [`FlashMemory`](super::FlashMemory).
#[must_use]
pub const fn map_len(blocks: usize) -> usize {
    blocks.div_ceil(8)
}

impl<'m> Map<'m> {
    /// A map of free blocks.
    pub(super) fn new(bits: &'m mut [u8], blocks: u32) -> Self {
        bits.fill(0);
        Self { bits, blocks, free: blocks, next: 0 }
    }

    pub(super) const fn free(&self) -> u32 {
        self.free
    }

    /// Takes a block; false if it was taken, or does not exist.
    pub(super) fn take(&mut self, block: u32) -> bool {
        let (byte, bit) = (block as usize / 8, 1 << (block % 8));
        let is_free = block < self.blocks && self.bits[byte] & bit == 0;
        if is_free {
            self.bits[byte] |= bit;
            self.free -= 1;
        }
        is_free
    }

    /// Frees a block.
    pub(super) fn give(&mut self, block: u32) {
        let (byte, bit) = (block as usize / 8, 1 << (block % 8));
        if block < self.blocks && self.bits[byte] & bit != 0 {
            self.bits[byte] &= !bit;
            self.free += 1;
        }
    }

    /// Continues the search after this block.
    pub(super) const fn start_after(&mut self, block: u32) {
        self.next = block + 1;
    }

    /// Takes the next free block.
    pub(super) fn take_next(&mut self) -> Option<u32> {
        if self.free == 0 {
            return None;
        }
        for _ in 0..=self.blocks {
            let block = if self.next < self.blocks { self.next } else { 0 };
            self.next = block + 1;
            if self.take(block) {
                return Some(block);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_taken_once_and_given_back_once() {
        let mut bits = [0xff; map_len(10)];
        let mut map = Map::new(&mut bits, 10);
        assert_eq!(map.free(), 10);
        for block in [0, 7, 8, 9] {
            map.give(block);
            assert_eq!(map.free(), 10, "{block} was free");
            assert!(map.take(block) && !map.take(block));
            assert_eq!(map.free(), 9);
            map.give(block);
            map.give(block);
            assert_eq!(map.free(), 10);
        }
        map.give(10);
        assert!(!map.take(10) && !map.take(15) && map.free() == 10, "beyond the medium");
        map.start_after(8);
        let taken: [_; 11] = core::array::from_fn(|_| map.take_next());
        assert_eq!(taken, [9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 10].map(|block| (block < 10).then_some(block)));
    }
}
