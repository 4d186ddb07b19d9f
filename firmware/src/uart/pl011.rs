//! Arm's PL011.

use super::Uart;
use crate::mmio::Registers;

const DR: usize = 0x00;
const FR: usize = 0x18;
const IBRD: usize = 0x24;
const FBRD: usize = 0x28;
const LCRH: usize = 0x2c;
const CTL: usize = 0x30;

const FR_BUSY: u32 = 1 << 3;
const FR_RX_EMPTY: u32 = 1 << 4;
const FR_TX_FULL: u32 = 1 << 5;

/// A port.
#[derive(Debug)]
pub struct Pl011(Registers);

impl Pl011 {
    /// The port at these registers.
    pub const fn new(registers: Registers) -> Self {
        Self(registers)
    }

    /// Configures eight bits, no parity, with a clock of `hz` hertz.
    pub fn set_up(&self, hz: u32, baud: u32) {
        // In 64ths, rounded.
        let divisor = (hz * 4 + baud / 2) / baud;
        self.0.write(CTL, 0);
        self.0.write(IBRD, divisor >> 6);
        self.0.write(FBRD, divisor & 0x3f);
        // Eight bits, FIFOs on.
        self.0.write(LCRH, 0x70);
        // On, both ways.
        self.0.write(CTL, 0x301);
    }
}

impl Uart for Pl011 {
    fn write(&self, byte: u8) {
        while self.0.read(FR) & FR_TX_FULL != 0 {}
        self.0.write(DR, byte.into());
    }

    fn flush(&self) {
        while self.0.read(FR) & FR_BUSY != 0 {}
    }

    fn has_byte(&self) -> bool {
        self.0.read(FR) & FR_RX_EMPTY == 0
    }

    fn read(&self) -> Option<u8> {
        self.has_byte().then(|| self.0.read(DR).to_le_bytes()[0])
    }
}
