//! Wraps the state partition to make its erasure safe against power cuts.

use embedded_storage::nor_flash::{ErrorType, MultiwriteNorFlash, NorFlash, ReadNorFlash};

/// Bytes that are cleared before the state is erased.
const FIRST: usize = 32;

/// Wraps embassy-boot's state partition. Both the boot loader and the application should access the partition through
/// this type.
///
/// embassy-boot erases the state while the state still requests a swap. If the power fails during the erase, the
/// request may survive while the record of the swap's progress is partly erased. The boot loader would then repeat a
/// part of the swap with the wrong contents. This type therefore clears the request first. After a power cut, the
/// remaining bytes then mean "start the active slot", and that slot is complete at that moment. This requires flash
/// whose words can be programmed twice ([`MultiwriteNorFlash`]).
#[derive(Debug, Clone)]
pub struct StateFlash<S>(S);

impl<S: MultiwriteNorFlash> StateFlash<S> {
    /// Wraps `partition`.
    pub const fn new(partition: S) -> Self {
        const { assert!(S::WRITE_SIZE <= FIRST, "write size over 32 bytes") };
        Self(partition)
    }
}

impl<S: MultiwriteNorFlash> ErrorType for StateFlash<S> {
    type Error = S::Error;
}

impl<S: MultiwriteNorFlash> ReadNorFlash for StateFlash<S> {
    const READ_SIZE: usize = S::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<S: MultiwriteNorFlash> NorFlash for StateFlash<S> {
    const WRITE_SIZE: usize = S::WRITE_SIZE;
    const ERASE_SIZE: usize = S::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        if from == 0 {
            self.0.write(0, &[0; FIRST][..S::WRITE_SIZE])?;
        }
        self.0.erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0.write(offset, bytes)
    }
}
