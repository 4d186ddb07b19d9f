//! A medium for drivers with the traits of embedded-storage.

use embedded_storage::nor_flash::NorFlash;

use super::{Flash, FlashError, Geometry};

/// The whole flash of a driver. Drivers of flash chips and of microcontrollers' internal flash have these traits.
///
/// To use only a part, pass a partition of the driver. Programmed bytes must be durable when the driver returns.
#[derive(Debug)]
pub struct NorFlashMedium<N>(N);

/// The size of the buffer for reads that the driver can't do directly.
const PIECE: usize = 64;

impl<N: NorFlash> NorFlashMedium<N> {
    /// The driver's flash.
    #[must_use]
    pub const fn new(driver: N) -> Self {
        const { assert!(N::READ_SIZE > 0 && PIECE.is_multiple_of(N::READ_SIZE), "reads are of 64 bytes at most") };
        Self(driver)
    }

    /// The driver.
    pub const fn driver(&self) -> &N {
        &self.0
    }

    fn address(block: u32, offset: u32) -> Result<u32, FlashError> {
        let size = u32::try_from(N::ERASE_SIZE).map_err(|_| FlashError)?;
        block.checked_mul(size).and_then(|at| at.checked_add(offset)).ok_or(FlashError)
    }
}

impl<N: NorFlash> Flash for NorFlashMedium<N> {
    fn geometry(&self) -> Geometry {
        let size = |bytes: usize| u32::try_from(bytes).unwrap_or(0);
        Geometry {
            blocks: size(self.0.capacity() / N::ERASE_SIZE),
            block: size(N::ERASE_SIZE),
            unit: size(N::WRITE_SIZE),
        }
    }

    fn read(&mut self, block: u32, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        let mut at = Self::address(block, offset)?;
        if N::READ_SIZE == 1 {
            return self.0.read(at, bytes).map_err(|_| FlashError);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = at as usize % N::READ_SIZE;
            let n = rest.len().min(PIECE - within);
            let mut piece = [0; PIECE];
            let whole = &mut piece[..(within + n).next_multiple_of(N::READ_SIZE)];
            let from = at - u32::try_from(within).map_err(|_| FlashError)?;
            self.0.read(from, whole).map_err(|_| FlashError)?;
            rest[..n].copy_from_slice(&piece[within..within + n]);
            rest = &mut rest[n..];
            at += u32::try_from(n).map_err(|_| FlashError)?;
        }
        Ok(())
    }

    fn program(&mut self, block: u32, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.0.write(Self::address(block, offset)?, bytes).map_err(|_| FlashError)
    }

    fn erase(&mut self, block: u32) -> Result<(), FlashError> {
        let from = Self::address(block, 0)?;
        let to = Self::address(block + 1, 0)?;
        self.0.erase(from, to).map_err(|_| FlashError)
    }

    fn sync(&mut self) -> Result<(), FlashError> {
        Ok(())
    }
}
