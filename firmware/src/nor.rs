//! A bank of CFI NOR flash with Intel's commands: two chips of 16 bits side by side, as QEMU's `virt` has them.

use embedded_storage::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

/// Bytes of the bank, and of an erase block, of both chips together.
const CAPACITY: usize = 32 << 20;
const BLOCK: usize = 256 << 10;
/// Words programmed with one command.
const BUFFER: usize = 64;

// Commands, for both chips at a time.
const READ: u32 = 0x00ff_00ff;
const CLEAR: u32 = 0x0050_0050;
const ERASE: u32 = 0x0020_0020;
const PROGRAM: u32 = 0x00e8_00e8;
const CONFIRM: u32 = 0x00d0_00d0;
const READY: u32 = 0x0080_0080;
/// The error bits: erasing, programming, voltage, lock.
const WRONG: u32 = 0x003a_003a;

/// The bank.
#[derive(Debug)]
pub struct CfiFlash(*mut u32);

/// The flash has refused.
#[derive(Debug, Clone, Copy)]
pub struct NorError;

impl NorFlashError for NorError {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl CfiFlash {
    /// The bank at an address.
    ///
    /// # Safety
    /// There must be such a bank of 32 MiB, and no other code may use it.
    pub const unsafe fn at(base: usize) -> Self {
        Self(core::ptr::with_exposed_provenance_mut(base))
    }

    fn place(&self, at: usize) -> Result<*mut u32, NorError> {
        // SAFETY: within the bank.
        if at < CAPACITY { Ok(unsafe { self.0.add(at / 4) }) } else { Err(NorError) }
    }

    fn command(&self, at: usize, command: u32) -> Result<(), NorError> {
        // SAFETY: a command to the flash; it changes no memory of the program.
        unsafe { self.place(at)?.write_volatile(command) };
        Ok(())
    }

    /// Waits for the end of a command; after that, reads return the content again.
    fn finish(&self, at: usize) -> Result<(), NorError> {
        let place = self.place(at)?;
        let state = loop {
            // SAFETY: the status of the flash.
            let state = unsafe { place.read_volatile() };
            if state & READY == READY {
                break state;
            }
        };
        if state & WRONG != 0 {
            self.command(at, CLEAR)?;
        }
        self.command(at, READ)?;
        if state & WRONG == 0 { Ok(()) } else { Err(NorError) }
    }
}

impl ErrorType for CfiFlash {
    type Error = NorError;
}

impl ReadNorFlash for CfiFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorError> {
        let offset = offset as usize;
        if offset.checked_add(bytes.len()).is_none_or(|end| end > CAPACITY) {
            return Err(NorError);
        }
        // SAFETY: the content of the flash, which nothing writes meanwhile.
        let content = unsafe { core::slice::from_raw_parts(self.0.cast::<u8>().add(offset).cast_const(), bytes.len()) };
        bytes.copy_from_slice(content);
        Ok(())
    }

    fn capacity(&self) -> usize {
        CAPACITY
    }
}

impl NorFlash for CfiFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = BLOCK;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorError> {
        for at in (from as usize..to as usize).step_by(BLOCK) {
            self.command(at, ERASE)?;
            self.command(at, CONFIRM)?;
            self.finish(at)?;
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorError> {
        let (words, rest) = bytes.as_chunks::<4>();
        if !offset.is_multiple_of(4) || !rest.is_empty() {
            return Err(NorError);
        }
        let mut at = offset as usize;
        let mut left = words;
        while !left.is_empty() {
            // The words of a buffer are in one aligned block.
            let n = left.len().min(BUFFER - at / 4 % BUFFER);
            let (now, later) = left.split_at(n);
            self.command(at, PROGRAM)?;
            #[expect(clippy::cast_possible_truncation, reason = "64 at most")]
            self.command(at, (n as u32 - 1) * 0x0001_0001)?;
            for (word, place) in now.iter().zip((at..).step_by(4)) {
                self.command(place, u32::from_le_bytes(*word))?;
            }
            self.command(at, CONFIRM)?;
            self.finish(at)?;
            at += 4 * n;
            left = later;
        }
        Ok(())
    }
}

/// Programming clears bits; a word may be programmed again.
impl MultiwriteNorFlash for CfiFlash {}
