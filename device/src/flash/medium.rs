//! The medium: the interface to a flash chip or an SD card.

use core::fmt;

/// A medium of blocks that are erased as a whole and then programmed once, unit by unit.
///
/// A driver of a flash chip implements it in a few lines. For a driver with the traits of embedded-storage, use
/// `NorFlashMedium` (feature `embedded-storage`); for an SD card, [`CardFlash`](super::CardFlash). Offsets and lengths
/// of [`Flash::program`] are multiples of the unit; those of [`Flash::read`] are arbitrary. No access crosses the end
/// of a block.
///
/// Each operation blocks. A store may answer "not yet", but only before it has changed anything, and a single commit
/// takes many operations on the medium. The store would have to keep its state between them, and every other session
/// would have to wait anyway, because the chip does one operation at a time. For an asynchronous driver, use
/// `PolledNorFlash` (feature `embedded-storage-async`).
///
/// The store never programs a unit twice between two erasures, so flash with error correction per word is suitable.
pub trait Flash {
    /// The size of the medium, which never changes.
    fn geometry(&self) -> Geometry;

    /// Reads at `offset` of a block, all of `bytes`.
    ///
    /// # Errors
    /// The chip does not answer, or says that the content is lost.
    fn read(&mut self, block: u32, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError>;

    /// Programs units that were erased before. It may return before the bytes are durable: see [`Flash::sync`].
    ///
    /// # Errors
    /// The chip does not answer, or says that it failed.
    fn program(&mut self, block: u32, offset: u32, bytes: &[u8]) -> Result<(), FlashError>;

    /// Erases a block, so that it can be programmed. The content of erased units does not matter.
    ///
    /// # Errors
    /// The chip does not answer, or says that it failed.
    fn erase(&mut self, block: u32) -> Result<(), FlashError>;

    /// Returns when everything programmed and erased is durable. Does nothing if those calls wait themselves.
    ///
    /// # Errors
    /// The chip does not answer, or says that it failed.
    fn sync(&mut self) -> Result<(), FlashError>;
}

impl<F: Flash + ?Sized> Flash for &mut F {
    fn geometry(&self) -> Geometry {
        (**self).geometry()
    }

    fn read(&mut self, block: u32, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        (**self).read(block, offset, bytes)
    }

    fn program(&mut self, block: u32, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        (**self).program(block, offset, bytes)
    }

    fn erase(&mut self, block: u32) -> Result<(), FlashError> {
        (**self).erase(block)
    }

    fn sync(&mut self) -> Result<(), FlashError> {
        (**self).sync()
    }
}

/// The size of a medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Geometry {
    /// Blocks.
    pub blocks: u32,
    /// Bytes of a block, the unit of erasing.
    pub block: u32,
    /// Bytes of a unit of programming: a power of two that divides the block.
    pub unit: u32,
}

/// The medium failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FlashError;

impl fmt::Display for FlashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the medium failed")
    }
}

impl core::error::Error for FlashError {}
