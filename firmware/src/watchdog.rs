//! Arm's watchdog, as the LM3S and the MPS2 have it: it counts down twice. When the first time is over it interrupts, and
//! when the second is, it resets the chip.

use crate::mmio::Registers;

const LOAD: usize = 0x00;
const CONTROL: usize = 0x08;
const CLEAR: usize = 0x0c;

/// Interrupt on; reset on.
const ON: u32 = 0x3;

/// A watchdog that runs. Somebody must call [`Watchdog::feed`] more often than every [`Watchdog::SECONDS`]; a clone feeds the
/// same one.
#[derive(Debug, Clone)]
pub struct Watchdog(Registers);

impl Watchdog {
    /// Seconds until the first time is over.
    pub const SECONDS: u32 = if cfg!(feature = "faults") { 1 } else { 8 };

    /// Starts the watchdog at these registers, with a clock of `hz` hertz.
    pub fn start(registers: Registers, hz: u32) -> Self {
        registers.write(LOAD, hz.saturating_mul(Self::SECONDS));
        registers.write(CONTROL, ON);
        Self(registers)
    }

    /// All is well: the time starts from zero.
    pub fn feed(&mut self) {
        self.0.write(CLEAR, 1);
    }
}
