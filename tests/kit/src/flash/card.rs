//! An SD card.

use std::collections::BTreeMap;

use skiff_device::flash::{Card, FlashError, SECTOR};

use super::{Model, Operation, Rng, SdCard, Tear};

/// Sectors are written as a whole. Until they are flushed, written sectors become durable in any order: after a power
/// cut, each may have any of its versions since the last flush. The sector being written may be a mix.
#[derive(Debug, Clone)]
pub struct CardModel {
    durable: Vec<u8>,
    /// The versions of each sector since the last flush, the newest last.
    pending: BTreeMap<usize, Vec<[u8; SECTOR]>>,
    /// How often each sector was written.
    writes: Vec<u32>,
}

impl SdCard {
    /// A card full of zeros, or of another byte, because new cards differ.
    #[must_use]
    pub fn new(sectors: u32, blank: u8, seed: u64) -> Self {
        let sectors = sectors as usize;
        let model =
            CardModel { durable: vec![blank; sectors * SECTOR], pending: BTreeMap::new(), writes: vec![0; sectors] };
        Self::of(model, seed)
    }
}

impl CardModel {
    /// All bytes that are durable.
    #[must_use]
    pub fn durable(&self) -> &[u8] {
        &self.durable
    }

    /// The same, for a test to damage.
    pub fn durable_mut(&mut self) -> &mut [u8] {
        &mut self.durable
    }

    /// How often each sector was written.
    #[must_use]
    pub fn writes(&self) -> &[u32] {
        &self.writes
    }

    fn sector(&self, sector: usize) -> &[u8] {
        match self.pending.get(&sector).and_then(|versions| versions.last()) {
            Some(bytes) => bytes,
            None => &self.durable[sector * SECTOR..][..SECTOR],
        }
    }

    fn pend(&mut self, at: usize, bytes: &[u8]) {
        assert!(at.is_multiple_of(SECTOR) && bytes.len().is_multiple_of(SECTOR), "{} bytes at {at}", bytes.len());
        for (i, sector) in bytes.chunks_exact(SECTOR).enumerate() {
            let mut version = [0; SECTOR];
            version.copy_from_slice(sector);
            self.pending.entry(at / SECTOR + i).or_default().push(version);
        }
    }
}

impl Model for CardModel {
    fn apply(&mut self, operation: Operation<'_>) {
        match operation {
            Operation::Program { at, bytes } => {
                self.pend(at, bytes);
                for writes in &mut self.writes[at / SECTOR..(at + bytes.len()) / SECTOR] {
                    *writes += 1;
                }
            }
            Operation::Erase { .. } => {}
            Operation::Sync => {
                for (sector, versions) in core::mem::take(&mut self.pending) {
                    if let Some(bytes) = versions.last() {
                        self.durable[sector * SECTOR..][..SECTOR].copy_from_slice(bytes);
                    }
                }
            }
        }
    }

    fn lose_power(&mut self, operation: Operation<'_>, tear: Tear, rng: &mut Rng) {
        let mut writing = None;
        if let (Operation::Program { at, bytes }, Tear::Half | Tear::Unstable) = (operation, tear) {
            self.pend(at, bytes);
            writing = Some(at / SECTOR + rng.below(bytes.len() / SECTOR));
        }
        // Some of them, all of them but one, one alone, or those with other sectors than it.
        let way = rng.below(7);
        let one = rng.below(self.pending.len());
        for (i, (sector, versions)) in core::mem::take(&mut self.pending).into_iter().enumerate() {
            let lands = match way {
                0 => rng.one_in(2),
                1 => rng.one_in(4),
                2 => true,
                3 => i != one,
                4 => i == one,
                5 => i >= one,
                _ => i < one,
            };
            if !lands {
                continue;
            }
            let mut bytes = versions[rng.below(versions.len())];
            let place = &mut self.durable[sector * SECTOR..][..SECTOR];
            if tear == Tear::Unstable && writing == Some(sector) {
                let cut = rng.below(SECTOR);
                bytes[cut..].copy_from_slice(&place[cut..]);
                if rng.one_in(2) {
                    bytes[cut] = rng.byte();
                }
            }
            place.copy_from_slice(&bytes);
        }
    }

    fn fail(&mut self, operation: Operation<'_>, rng: &mut Rng) {
        if let Operation::Program { at, bytes } = operation
            && rng.one_in(2)
        {
            self.pend(at, bytes);
        }
    }

    fn read(&mut self, at: usize, bytes: &mut [u8], _rng: &mut Rng) {
        assert!(at.is_multiple_of(SECTOR) && bytes.len().is_multiple_of(SECTOR), "{} bytes at {at}", bytes.len());
        for (i, sector) in bytes.chunks_exact_mut(SECTOR).enumerate() {
            sector.copy_from_slice(self.sector(at / SECTOR + i));
        }
    }

    fn is_moment(&self, operation: Operation<'_>) -> bool {
        !matches!(operation, Operation::Erase { .. })
    }
}

impl Card for SdCard {
    fn sectors(&self) -> u32 {
        u32::try_from(self.model().writes.len()).unwrap_or(u32::MAX)
    }

    fn read(&mut self, sector: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        self.read_at(sector as usize * SECTOR, bytes)
    }

    fn write(&mut self, sector: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.operate(Operation::Program { at: sector as usize * SECTOR, bytes })
    }

    fn sync(&mut self) -> Result<(), FlashError> {
        self.operate(Operation::Sync)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(byte: u8) -> [u8; SECTOR] {
        [byte; SECTOR]
    }

    fn read(card: &mut SdCard, number: u32) -> u8 {
        let mut bytes = sector(0);
        card.read(number, &mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a mixture");
        bytes[0]
    }

    #[test]
    fn what_was_written_is_read_at_once_and_durable_after_a_flush() {
        let mut card = SdCard::new(4, 0, 1);
        card.write(1, &sector(1)).unwrap();
        assert_eq!((read(&mut card, 1), card.model().durable()[SECTOR]), (1, 0));
        card.sync().unwrap();
        assert_eq!(card.model().durable()[SECTOR], 1);
        card.cut_after(0, Tear::Half);
        assert!(card.sync().is_err());
        card.power_on();
        assert_eq!(read(&mut card, 1), 1);
    }

    #[test]
    fn any_of_the_sectors_that_were_not_flushed_are_there_after_a_cut() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let mut card = SdCard::new(4, 0, seed);
            card.write(0, &[sector(1), sector(1)].concat()).unwrap();
            card.write(0, &sector(2)).unwrap();
            card.cut_after(0, Tear::Before);
            assert!(card.write(2, &sector(3)).is_err());
            card.power_on();
            seen.insert([read(&mut card, 0), read(&mut card, 1), read(&mut card, 2)]);
        }
        let expected = [0, 1, 2].map(|first| [0, 1].map(|second| [first, second, 0]));
        assert_eq!(seen, expected.into_iter().flatten().collect());
    }
}
