//! Pins of Arm's PL061, as in the LM3S.

use core::convert::Infallible;

use embedded_hal::digital::{ErrorType, OutputPin};

use crate::mmio::Registers;

// The data register's address selects the pins that an access concerns.
const DATA: usize = 0x000;
const DIR: usize = 0x400;
const AFSEL: usize = 0x420;
const DEN: usize = 0x51c;

/// A port of eight pins.
#[derive(Debug)]
pub struct Port(Registers);

impl Port {
    /// The port at these registers; its clock must be enabled.
    pub const fn new(registers: Registers) -> Self {
        Self(registers)
    }

    /// Connects pins to their peripheral.
    pub fn lend(&self, pins: u8) {
        self.0.set(AFSEL, pins.into());
        self.0.set(DEN, pins.into());
    }

    /// Makes a pin an output, initially high.
    pub fn output<const PIN: usize>(self) -> Output<PIN> {
        let output = Output(self.0);
        output.0.set(DIR, 1 << PIN);
        output.write(u32::MAX);
        output.0.set(DEN, 1 << PIN);
        output
    }
}

/// An output.
#[derive(Debug)]
pub struct Output<const PIN: usize>(Registers);

impl<const PIN: usize> Output<PIN> {
    fn write(&self, value: u32) {
        self.0.write(DATA + (4 << PIN), value);
    }
}

impl<const PIN: usize> ErrorType for Output<PIN> {
    type Error = Infallible;
}

impl<const PIN: usize> OutputPin for Output<PIN> {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.write(0);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.write(u32::MAX);
        Ok(())
    }
}
