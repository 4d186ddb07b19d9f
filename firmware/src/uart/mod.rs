//! Serial ports.

pub mod cmsdk;
#[cfg(target_arch = "riscv32")]
pub mod ns16550;
pub mod pl011;

/// A serial port that is set up. Who shares one mixes bytes, nothing worse.
pub trait Uart {
    /// Sends a byte; waits until there is room for it.
    fn write(&self, byte: u8);

    /// Waits until everything has gone out.
    fn flush(&self);

    /// True if a byte has come in.
    fn has_byte(&self) -> bool;

    /// The byte that came in first.
    fn read(&self) -> Option<u8>;
}
