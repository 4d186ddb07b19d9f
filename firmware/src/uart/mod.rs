//! Serial ports.

pub mod cmsdk;
#[cfg(target_arch = "riscv32")]
pub mod ns16550;
pub mod pl011;

/// An initialized serial port. If several users share one, their bytes are mixed, but nothing worse happens.
pub trait Uart {
    /// Sends a byte; waits until there is room for it.
    fn write(&self, byte: u8);

    /// Waits until everything has been sent.
    fn flush(&self);

    /// True if a byte has been received.
    fn has_byte(&self) -> bool;

    /// The oldest received byte.
    fn read(&self) -> Option<u8>;
}
