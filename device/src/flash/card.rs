//! An SD card, or anything else of 512-byte sectors, as a medium.

use super::{Flash, FlashError, Geometry};

/// Bytes of a sector.
pub const SECTOR: usize = 512;

/// A medium of sectors that are written whole, in any order until they are flushed: an SD card or an eMMC.
pub trait Card {
    /// Its size in sectors.
    fn sectors(&self) -> u32;

    /// Reads whole sectors, from `sector` on.
    ///
    /// # Errors
    /// The card does not answer, or says that the content is lost.
    fn read(&mut self, sector: u32, bytes: &mut [u8]) -> Result<(), FlashError>;

    /// Writes whole sectors, from `sector` on.
    ///
    /// # Errors
    /// The card does not answer, or says that it failed.
    fn write(&mut self, sector: u32, bytes: &[u8]) -> Result<(), FlashError>;

    /// Returns when everything written is durable.
    ///
    /// # Errors
    /// The card does not answer, or says that it failed.
    fn sync(&mut self) -> Result<(), FlashError>;
}

/// A [`Card`] as a [`Flash`] of blocks of `BLOCK` bytes, whose unit is the sector. Nothing has to be erased.
///
/// A file takes at least a block, and the store keeps a bit of RAM for each: 32 KiB suits a card of 1 GiB, 1 MiB one of
/// 32 GiB. It keeps the last sector that was read in part, 512 bytes, since files don't begin where sectors do.
#[derive(Debug)]
pub struct CardFlash<C, const BLOCK: usize> {
    card: C,
    sector: Option<u32>,
    bytes: [u8; SECTOR],
}

impl<C: Card, const BLOCK: usize> CardFlash<C, BLOCK> {
    const SECTORS: u32 = {
        assert!(BLOCK >= SECTOR && BLOCK.is_multiple_of(SECTOR) && BLOCK <= 1 << 30, "blocks are whole sectors");
        #[expect(clippy::cast_possible_truncation, reason = "checked in the line above")]
        let sectors = (BLOCK / SECTOR) as u32;
        sectors
    };

    /// The whole card.
    #[must_use]
    pub const fn new(card: C) -> Self {
        Self { card, sector: None, bytes: [0; SECTOR] }
    }

    /// The card itself.
    pub const fn card(&self) -> &C {
        &self.card
    }
}

impl<C: Card, const BLOCK: usize> Flash for CardFlash<C, BLOCK> {
    fn geometry(&self) -> Geometry {
        let sector = u32::try_from(SECTOR).unwrap_or(u32::MAX);
        Geometry { blocks: self.card.sectors() / Self::SECTORS, block: Self::SECTORS * sector, unit: sector }
    }

    fn read(&mut self, block: u32, offset: u32, mut bytes: &mut [u8]) -> Result<(), FlashError> {
        let mut at = block as usize * BLOCK + offset as usize;
        while !bytes.is_empty() {
            let (sector, within) = (u32::try_from(at / SECTOR).map_err(|_| FlashError)?, at % SECTOR);
            let whole = bytes.len() - bytes.len() % SECTOR;
            let n = if within == 0 && whole > 0 {
                self.card.read(sector, &mut bytes[..whole])?;
                whole
            } else {
                if self.sector != Some(sector) {
                    self.sector = None;
                    self.card.read(sector, &mut self.bytes)?;
                    self.sector = Some(sector);
                }
                let n = bytes.len().min(SECTOR - within);
                bytes[..n].copy_from_slice(&self.bytes[within..within + n]);
                n
            };
            at += n;
            bytes = &mut bytes[n..];
        }
        Ok(())
    }

    fn program(&mut self, block: u32, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.sector = None;
        let sector = u64::from(block) * u64::from(Self::SECTORS) + u64::from(offset) / SECTOR as u64;
        self.card.write(u32::try_from(sector).map_err(|_| FlashError)?, bytes)
    }

    fn erase(&mut self, _block: u32) -> Result<(), FlashError> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), FlashError> {
        self.card.sync()
    }
}
