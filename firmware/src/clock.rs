//! Milliseconds since the start, counted by the processor's own timer.

use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::asm;
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use embedded_hal::delay::DelayNs;
use skiff_proto::Instant;

static MILLIS: AtomicU32 = AtomicU32::new(0);

/// One millisecond is over: what an image's `SysTick` handler calls.
pub fn tick() {
    // Nobody else writes.
    MILLIS.store(MILLIS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// Milliseconds, modulo 2^32: 49 days.
pub fn millis() -> u32 {
    MILLIS.load(Ordering::Relaxed)
}

/// The clock of sessions and of the stack.
#[derive(Debug)]
pub struct Clock {
    last: u32,
    wraps: u32,
}

impl Clock {
    /// Starts the timer, with a processor of `hz` hertz.
    pub fn start(systick: &mut SYST, hz: u32) -> Self {
        systick.set_clock_source(SystClkSource::Core);
        systick.set_reload(hz / 1000 - 1);
        systick.clear_current();
        systick.enable_counter();
        systick.enable_interrupt();
        Self { last: 0, wraps: 0 }
    }

    /// Now. To be asked at least every 49 days.
    pub fn now(&mut self) -> Instant {
        let millis = millis();
        if millis < self.last {
            self.wraps = self.wraps.wrapping_add(1);
        }
        self.last = millis;
        Instant::from_millis(u64::from(self.wraps) << 32 | u64::from(millis))
    }
}

/// Waits by counting the processor's cycles, at least as many as there are in the time.
#[derive(Debug)]
pub struct Delay {
    /// The processor's clock in MHz.
    mhz: u32,
}

impl Delay {
    /// For a processor of `hz` hertz.
    pub const fn new(hz: u32) -> Self {
        Self { mhz: hz.div_ceil(1_000_000) }
    }
}

impl DelayNs for Delay {
    fn delay_ns(&mut self, ns: u32) {
        asm::delay((ns / 1000 + 1) * self.mhz);
    }

    fn delay_us(&mut self, us: u32) {
        asm::delay(us * self.mhz);
    }
}
