//! Registers of peripherals.

/// Maximum number of bytes of a peripheral's registers: RISC-V's interrupt controller has the most.
const BLOCK: usize = if cfg!(target_arch = "riscv32") { 0x40_0000 } else { 0x1000 };

/// The 32-bit registers of one peripheral.
#[derive(Debug, Clone)]
pub struct Registers(usize);

impl Registers {
    /// The registers at an address.
    ///
    /// # Safety
    /// The 4 KiB at `base` (RISC-V: as many bytes as it has) must be the registers of a peripheral of this chip, and no
    /// access to them may change memory (as starting a DMA transfer would).
    pub const unsafe fn at(base: usize) -> Self {
        Self(base)
    }

    const fn address(&self, offset: usize) -> usize {
        assert!(offset < BLOCK && offset.is_multiple_of(4));
        self.0 + offset
    }

    /// Reads the register at `offset`, a constant.
    #[inline(always)]
    pub fn read(&self, offset: usize) -> u32 {
        // SAFETY: a register, as the maker of this value has promised.
        unsafe { core::ptr::with_exposed_provenance::<u32>(self.address(offset)).read_volatile() }
    }

    /// Writes the register at `offset`, a constant.
    #[inline(always)]
    pub fn write(&self, offset: usize, value: u32) {
        // SAFETY: a register, as the maker of this value has promised.
        unsafe { core::ptr::with_exposed_provenance_mut::<u32>(self.address(offset)).write_volatile(value) }
    }

    /// Reads the register of one byte at `offset`.
    #[cfg(target_arch = "riscv32")]
    pub fn read_byte(&self, offset: usize) -> u8 {
        // SAFETY: a register, as the maker of this value has promised.
        unsafe { core::ptr::with_exposed_provenance::<u8>(self.0 + offset % BLOCK).read_volatile() }
    }

    /// Writes the register of one byte at `offset`.
    #[cfg(target_arch = "riscv32")]
    pub fn write_byte(&self, offset: usize, value: u8) {
        // SAFETY: a register, as the maker of this value has promised.
        unsafe { core::ptr::with_exposed_provenance_mut::<u8>(self.0 + offset % BLOCK).write_volatile(value) }
    }

    /// Sets bits of a register.
    #[inline(always)]
    pub fn set(&self, offset: usize, bits: u32) {
        self.write(offset, self.read(offset) | bits);
    }
}
