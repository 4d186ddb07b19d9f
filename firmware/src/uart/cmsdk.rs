//! The serial port of Arm's CMSDK: one byte in each direction, no FIFO.

use super::Uart;
use crate::mmio::Registers;

const DATA: usize = 0x00;
const STATE: usize = 0x04;
const CTRL: usize = 0x08;
const BAUDDIV: usize = 0x10;

const TX_FULL: u32 = 1 << 0;
const RX_FULL: u32 = 1 << 1;

/// A port.
#[derive(Debug)]
pub struct Cmsdk(Registers);

impl Cmsdk {
    /// The port at these registers.
    pub const fn new(registers: Registers) -> Self {
        Self(registers)
    }

    /// Configures eight bits, no parity, with a clock of `hz` hertz.
    pub fn set_up(&self, hz: u32, baud: u32) {
        self.0.write(BAUDDIV, hz / baud);
        // On, both ways.
        self.0.write(CTRL, 0x3);
    }
}

impl Uart for Cmsdk {
    fn write(&self, byte: u8) {
        while self.0.read(STATE) & TX_FULL != 0 {}
        self.0.write(DATA, byte.into());
    }

    fn flush(&self) {
        while self.0.read(STATE) & TX_FULL != 0 {}
    }

    fn has_byte(&self) -> bool {
        self.0.read(STATE) & RX_FULL != 0
    }

    fn read(&self) -> Option<u8> {
        self.has_byte().then(|| self.0.read(DATA).to_le_bytes()[0])
    }
}
