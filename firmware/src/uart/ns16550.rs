//! The 16550, with registers of one byte.

use super::Uart;
use crate::mmio::Registers;

/// The data register, in the low byte of the first word.
const DATA: usize = 0;
/// The line status, in the second byte of the second word.
const LINE: usize = 5;

const RX_READY: u8 = 1 << 0;
const TX_EMPTY: u8 = 1 << 5;
const TX_IDLE: u8 = 1 << 6;

/// A port. QEMU's port needs no initialization.
#[derive(Debug)]
pub struct Ns16550(Registers);

impl Ns16550 {
    /// The port at these registers.
    pub const fn new(registers: Registers) -> Self {
        Self(registers)
    }
}

impl Uart for Ns16550 {
    fn write(&self, byte: u8) {
        while self.0.read_byte(LINE) & TX_EMPTY == 0 {}
        self.0.write_byte(DATA, byte);
    }

    fn flush(&self) {
        while self.0.read_byte(LINE) & TX_IDLE == 0 {}
    }

    fn has_byte(&self) -> bool {
        self.0.read_byte(LINE) & RX_READY != 0
    }

    fn read(&self) -> Option<u8> {
        self.has_byte().then(|| self.0.read_byte(DATA))
    }
}
