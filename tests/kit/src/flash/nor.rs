//! A NOR flash chip.

use std::collections::BTreeMap;

use skiff_device::flash::{Flash, FlashError, Geometry};

use super::{Model, Nor, Operation, Rng, Tear};

/// Programming clears bits, and erasing sets those of a block. It is stricter than most chips: a unit may be programmed
/// once after an erasure, as in flash with error correction, and after a torn operation the block has to be erased
/// again. Programming it anyway is a bug and panics; only where the torn part may look blank does programming just
/// fail.
#[derive(Debug, Clone)]
pub struct NorModel {
    geometry: Geometry,
    content: Vec<u8>,
    /// For each unit: whether it may be programmed.
    blank: Vec<bool>,
    /// How often each block was erased.
    wear: Vec<u32>,
    /// Bits that read differently each time.
    unstable: BTreeMap<usize, u8>,
}

impl Nor {
    /// A new, erased chip.
    #[must_use]
    pub fn new(blocks: u32, block: u32, unit: u32, seed: u64) -> Self {
        let bytes = blocks as usize * block as usize;
        let geometry = Geometry { blocks, block, unit };
        let units = bytes / unit as usize;
        Self::of(
            NorModel {
                geometry,
                content: vec![0xff; bytes],
                blank: vec![true; units],
                wear: vec![0; blocks as usize],
                unstable: BTreeMap::new(),
            },
            seed,
        )
    }
}

impl NorModel {
    /// All bytes, as they read without unstable bits.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// The same, for a test to damage.
    pub fn content_mut(&mut self) -> &mut [u8] {
        &mut self.content
    }

    /// How often each block was erased.
    #[must_use]
    pub fn wear(&self) -> &[u32] {
        &self.wear
    }

    fn units(&mut self, at: usize, len: usize) -> &mut [bool] {
        let unit = self.geometry.unit as usize;
        assert!(
            at.is_multiple_of(unit) && len.is_multiple_of(unit),
            "programming {len} bytes at {at}: not whole units"
        );
        &mut self.blank[at / unit..(at + len) / unit]
    }

    fn block_bytes(&self, block: usize) -> core::ops::Range<usize> {
        let size = self.geometry.block as usize;
        block * size..(block + 1) * size
    }

    /// Some bytes are programmed, one partly, and the rest are unchanged; or any of the bits are programmed.
    fn tear_program(&mut self, at: usize, bytes: &[u8], tear: Tear, rng: &mut Rng) {
        let done = rng.below(bytes.len() + 1);
        let anywhere = rng.one_in(3);
        let was = self.content[at..at + bytes.len()].to_vec();
        for (i, &byte) in bytes.iter().enumerate() {
            let before = self.content[at + i];
            let mask = match () {
                () if anywhere => rng.byte(),
                () if i < done => 0,
                () if i == done => rng.byte(),
                () => 0xff,
            };
            // The bits of the mask have not been cleared.
            self.content[at + i] = before & (byte | mask);
            if tear == Tear::Unstable && (anywhere || i.abs_diff(done) <= 1) {
                *self.unstable.entry(at + i).or_default() |= before & !byte;
            }
        }
        // An operation that left no trace counts as not begun: nothing shows otherwise.
        if tear == Tear::Unstable || self.content[at..at + bytes.len()] != was {
            self.units(at, bytes.len()).fill(false);
        }
    }

    /// Many chips clear all bits first, from either end, and then set them.
    fn tear_erase(&mut self, block: usize, tear: Tear, rng: &mut Rng) {
        let range = self.block_bytes(block);
        let cut = rng.below(range.len() + 1);
        let way = rng.below(6);
        for (i, at) in range.clone().enumerate() {
            let byte = &mut self.content[at];
            match way {
                0 if i >= cut => *byte = 0,
                1 if i < cut => *byte = 0,
                2 => *byte = if i < cut { 0xff } else { 0 },
                3 if i < cut => *byte = 0xff,
                4 => *byte |= rng.byte(),
                5 => *byte = rng.byte(),
                _ => {}
            }
            if tear == Tear::Unstable && rng.one_in(8) {
                self.unstable.insert(at, rng.byte());
            }
        }
        self.blank(block, false);
    }

    fn blank(&mut self, block: usize, blank: bool) {
        let range = self.block_bytes(block);
        self.units(range.start, range.len()).fill(blank);
    }
}

impl Model for NorModel {
    fn apply(&mut self, operation: Operation<'_>) {
        match operation {
            Operation::Program { at, bytes } => {
                let units = self.units(at, bytes.len());
                assert!(units.iter().all(|blank| *blank), "programming {} bytes at {at}: not erased", bytes.len());
                units.fill(false);
                for (cell, byte) in self.content[at..].iter_mut().zip(bytes) {
                    *cell &= byte;
                }
            }
            Operation::Erase { block } => {
                let range = self.block_bytes(block);
                self.content[range.clone()].fill(0xff);
                self.blank(block, true);
                self.wear[block] += 1;
                let stable: Vec<usize> = self.unstable.range(range).map(|(at, _)| *at).collect();
                for at in stable {
                    self.unstable.remove(&at);
                }
            }
            Operation::Sync => {}
        }
    }

    fn lose_power(&mut self, operation: Operation<'_>, tear: Tear, rng: &mut Rng) {
        match (operation, tear) {
            (_, Tear::Before) | (Operation::Sync, _) => {}
            (Operation::Program { at, bytes }, _) => self.tear_program(at, bytes, tear, rng),
            (Operation::Erase { block }, _) => self.tear_erase(block, tear, rng),
        }
    }

    fn fail(&mut self, operation: Operation<'_>, rng: &mut Rng) {
        self.lose_power(operation, Tear::Half, rng);
    }

    fn refuses(&self, operation: Operation<'_>) -> bool {
        let Operation::Program { at, bytes } = operation else { return false };
        let range = at..at + bytes.len();
        let mut unstable = self.unstable.range(range.clone()).peekable();
        let may_read = |at: usize| self.content[at] | self.unstable.get(&at).unwrap_or(&0);
        unstable.peek().is_some() && range.into_iter().all(|at| may_read(at) == 0xff)
    }

    fn read(&mut self, at: usize, bytes: &mut [u8], rng: &mut Rng) {
        bytes.copy_from_slice(&self.content[at..at + bytes.len()]);
        for (&unstable, &mask) in self.unstable.range(at..at + bytes.len()) {
            bytes[unstable - at] ^= mask & rng.byte();
        }
    }

    fn is_moment(&self, operation: Operation<'_>) -> bool {
        operation != Operation::Sync
    }
}

impl Flash for Nor {
    fn geometry(&self) -> Geometry {
        self.model().geometry
    }

    fn read(&mut self, block: u32, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        let at = address(self.geometry(), block, offset, bytes.len());
        self.read_at(at, bytes)
    }

    fn program(&mut self, block: u32, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let at = address(self.geometry(), block, offset, bytes.len());
        self.operate(Operation::Program { at, bytes })
    }

    fn erase(&mut self, block: u32) -> Result<(), FlashError> {
        address(self.geometry(), block, 0, 0);
        self.operate(Operation::Erase { block: block as usize })
    }

    fn sync(&mut self) -> Result<(), FlashError> {
        self.operate(Operation::Sync)
    }
}

fn address(Geometry { blocks, block: size, .. }: Geometry, block: u32, offset: u32, len: usize) -> usize {
    assert!(block < blocks, "there is no block {block}");
    assert!(offset as usize + len <= size as usize, "{len} bytes at {offset} of a block");
    block as usize * size as usize + offset as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(nor: &Nor) -> Vec<u8> {
        nor.model().content().to_vec()
    }

    #[test]
    fn programming_clears_bits_and_erasing_sets_them() {
        let mut nor = Nor::new(2, 64, 4, 1);
        nor.program(1, 8, &[0x0f, 0, 0xff, 1]).unwrap();
        let mut read = [0; 6];
        nor.read(1, 7, &mut read).unwrap();
        assert_eq!(read, [0xff, 0x0f, 0, 0xff, 1, 0xff]);
        nor.erase(1).unwrap();
        assert_eq!(content(&nor), [0xff; 128]);
        assert_eq!(nor.model().wear(), [0, 1]);
        assert_eq!((nor.counters().programs, nor.counters().program_bytes, nor.counters().erases), (1, 4, 1));
    }

    #[test]
    #[should_panic(expected = "not erased")]
    fn a_unit_is_programmed_once() {
        let mut nor = Nor::new(1, 64, 4, 1);
        nor.program(0, 0, &[0xff; 4]).unwrap();
        _ = nor.program(0, 0, &[0; 4]);
    }

    #[test]
    #[should_panic(expected = "not whole units")]
    fn only_whole_units_are_programmed() {
        _ = Nor::new(1, 64, 4, 1).program(0, 2, &[0; 4]);
    }

    #[test]
    #[should_panic(expected = "not erased")]
    fn what_was_torn_has_to_be_erased_whatever_it_looks_like() {
        let mut nor = Nor::new(1, 64, 4, 1);
        nor.cut_after(0, Tear::Half);
        assert!(nor.erase(0).is_err());
        nor.power_on();
        _ = nor.program(0, 0, &[0; 4]);
    }

    #[test]
    fn after_the_cut_nothing_answers_until_power_is_back() {
        let mut nor = Nor::new(2, 64, 4, 1);
        nor.cut_after(1, Tear::Before);
        nor.program(0, 0, &[1; 4]).unwrap();
        assert!(nor.program(0, 4, &[2; 4]).is_err());
        assert!(nor.read(0, 0, &mut [0]).is_err() && nor.erase(0).is_err() && nor.sync().is_err() && !nor.is_on());
        nor.power_on();
        let mut read = [0; 8];
        nor.read(0, 0, &mut read).unwrap();
        assert_eq!(read, [1, 1, 1, 1, 0xff, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn a_torn_program_clears_only_bits_that_it_should() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut nor = Nor::new(1, 64, 4, seed);
            nor.cut_after(0, Tear::Half);
            assert!(nor.program(0, 0, &[0x55; 8]).is_err());
            let bytes = content(&nor)[..8].to_vec();
            assert!(bytes.iter().all(|byte| byte & 0x55 == 0x55), "{bytes:x?}");
            seen.insert(bytes);
        }
        assert!(seen.len() > 50, "{}", seen.len());
    }

    #[test]
    fn unstable_cells_read_differently_until_they_are_erased() {
        let mut nor = Nor::new(1, 64, 4, 1);
        nor.cut_after(0, Tear::Unstable);
        assert!(nor.program(0, 0, &[0; 64]).is_err());
        nor.power_on();
        let mut reads = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let mut bytes = [0; 64];
            nor.read(0, 0, &mut bytes).unwrap();
            reads.insert(bytes);
        }
        assert!(reads.len() > 1);
        nor.erase(0).unwrap();
        let mut bytes = [0; 64];
        nor.read(0, 0, &mut bytes).unwrap();
        assert_eq!(bytes, [0xff; 64]);
    }

    #[test]
    fn a_watcher_sees_every_moment_and_the_original_goes_on() {
        use core::cell::Cell;
        use std::rc::Rc;
        let mut nor = Nor::new(2, 64, 4, 1);
        let seen = Rc::new(Cell::new(0));
        let count = Rc::clone(&seen);
        nor.watch(move |moment| {
            assert_eq!(moment.number, count.get());
            count.set(count.get() + 1);
            let mut bytes = [0; 4];
            moment.cut(Tear::Before, 0).read(0, 0, &mut bytes).unwrap();
            assert_eq!(bytes, if moment.number == 0 { [0xff; 4] } else { [0; 4] });
        });
        nor.program(0, 0, &[0; 4]).unwrap();
        nor.erase(1).unwrap();
        nor.sync().unwrap();
        assert_eq!((seen.get(), nor.moments()), (2, 2));
    }

    #[test]
    fn the_same_seed_tears_the_same_way() {
        let torn = |seed| {
            let mut nor = Nor::new(2, 64, 4, seed);
            nor.cut_after(0, Tear::Half);
            _ = nor.erase(0);
            content(&nor)
        };
        assert_eq!(torn(7), torn(7));
    }
}
