//! An SD card, or any other medium with sectors of 512 bytes.

use super::{Flash, FlashError, Geometry};

/// Bytes of a sector.
pub const SECTOR: usize = 512;

/// A medium of whole sectors, which it may write in any order until they are flushed: an SD card or an eMMC.
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
/// A file takes at least one block, and the store needs one bit of RAM for each block: blocks of 32 KiB suit a card of
/// 1 GiB, and blocks of 1 MiB one of 32 GiB. It caches the last partly read sector, 512 bytes, because files do not
/// begin at sector boundaries.
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

    #[expect(clippy::cast_possible_truncation, reason = "512")]
    const SECTOR: u32 = SECTOR as u32;

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
        let blocks = self.card.sectors() / Self::SECTORS;
        Geometry { blocks, block: Self::SECTORS * Self::SECTOR, unit: Self::SECTOR }
    }

    fn read(&mut self, block: u32, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        let mut sector = block.checked_mul(Self::SECTORS).ok_or(FlashError)? + offset / Self::SECTOR;
        let mut within = offset as usize % SECTOR;
        let mut rest = bytes;
        while !rest.is_empty() {
            let whole = rest.len() - rest.len() % SECTOR;
            let n = if within == 0 && whole > 0 {
                self.card.read(sector, &mut rest[..whole])?;
                whole
            } else {
                if self.sector != Some(sector) {
                    self.sector = None;
                    self.card.read(sector, &mut self.bytes)?;
                    self.sector = Some(sector);
                }
                let n = rest.len().min(SECTOR - within);
                rest[..n].copy_from_slice(&self.bytes[within..within + n]);
                n
            };
            sector += u32::try_from((within + n) / SECTOR).map_err(|_| FlashError)?;
            within = (within + n) % SECTOR;
            rest = &mut rest[n..];
        }
        Ok(())
    }

    fn program(&mut self, block: u32, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.sector = None;
        let sector = block.checked_mul(Self::SECTORS).ok_or(FlashError)? + offset / Self::SECTOR;
        self.card.write(sector, bytes)
    }

    fn erase(&mut self, _block: u32) -> Result<(), FlashError> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), FlashError> {
        self.card.sync()
    }
}
