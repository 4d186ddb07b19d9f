//! Arm's watchdog, as in the LM3S and the MPS2: it counts down twice. At the end of the first period it interrupts, and
//! at the end of the second it resets the chip.

use crate::mmio::Registers;

const LOAD: usize = 0x00;
const CONTROL: usize = 0x08;
const CLEAR: usize = 0x0c;

/// Interrupt on; reset on.
const ON: u32 = 0x3;

/// A running watchdog. [`Watchdog::feed`] must be called more often than every [`Watchdog::SECONDS`]; a clone feeds the
/// same one.
#[derive(Debug, Clone)]
pub struct Watchdog(Registers);

impl Watchdog {
    /// Seconds of the first period.
    pub const SECONDS: u32 = if cfg!(feature = "short-waits") { 1 } else { 8 };

    /// Starts the watchdog at these registers, with a clock of `hz` hertz.
    pub fn start(registers: Registers, hz: u32) -> Self {
        registers.write(LOAD, hz.saturating_mul(Self::SECONDS));
        registers.write(CONTROL, ON);
        Self(registers)
    }

    /// Restarts the period.
    pub fn feed(&mut self) {
        self.0.write(CLEAR, 1);
    }
}
