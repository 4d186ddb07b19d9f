//! Arm's Cortex-M: SysTick counts milliseconds; the NVIC enables the network interrupt during a sleep.
//!
//! No handler accesses the interface. Its interrupt is masked while frames are processed, is enabled during a sleep,
//! and masks itself when it occurs.

use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::asm;
use cortex_m::interrupt::{self, InterruptNumber};
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m::peripheral::{NVIC, SCB, SYST};
use embedded_hal::delay::DelayNs;

use crate::fail;
use crate::mac::Mac;

static MILLIS: AtomicU32 = AtomicU32::new(0);

/// Counts a millisecond. An image's `SysTick` handler calls this.
pub fn tick() {
    // Nobody else writes.
    MILLIS.store(MILLIS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// Milliseconds, modulo 2^32: 49 days.
pub fn millis() -> u32 {
    MILLIS.load(Ordering::Relaxed)
}

/// Starts the timer, with a processor of `hz` hertz.
pub fn start_timer(systick: &mut SYST, hz: u32) {
    systick.set_clock_source(SystClkSource::Core);
    systick.set_reload(hz / 1000 - 1);
    systick.clear_current();
    systick.enable_counter();
    systick.enable_interrupt();
}

/// The remaining cycles of the current millisecond.
pub fn cycles() -> u32 {
    SYST::get_current()
}

/// The number of an interrupt.
#[derive(Debug, Clone, Copy)]
pub struct Irq(pub u16);

// SAFETY: the number is that of an interrupt of the chip, always the same.
unsafe impl InterruptNumber for Irq {
    fn number(self) -> u16 {
        self.0
    }
}

/// Sleeps until a frame arrives or the clock ticks.
pub fn sleep<M: Mac>(mac: &mut M) {
    // What comes from here on is pending, and ends the sleep although interrupts are off; or it is seen at once.
    interrupt::free(|_| {
        mac.listen();
        let irq = Irq(M::IRQ);
        NVIC::unpend(irq);
        // SAFETY: interrupts are off, and the handler changes nothing that is in use.
        unsafe { NVIC::unmask(irq) };
        if !mac.has_frame() {
            asm::wfi();
        }
    });
}

/// Masks the interrupt, which has woken the processor. An image's `DefaultHandler` calls this.
pub fn interrupted(irq: i16) {
    match u16::try_from(irq) {
        Ok(irq) => NVIC::mask(Irq(irq)),
        // A fault, or the watchdog's interrupt that can't be masked.
        Err(_) => fail!("exception ", irq.unsigned_abs()),
    }
}

/// Waits long enough to read a line.
pub fn pause() {
    asm::delay(25_000_000);
}

/// Disables all interrupt handlers.
pub fn disable_interrupts() {
    interrupt::disable();
}

/// Resets the chip.
pub fn reset() -> ! {
    SCB::sys_reset()
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

/// The handlers that every image needs: for the clock, and for interrupts that wake the processor.
#[macro_export]
macro_rules! handlers {
    () => {
        #[cortex_m_rt::exception]
        fn SysTick() {
            $crate::arch::tick();
        }

        // SAFETY: it touches nothing but the interrupt controller.
        #[cortex_m_rt::exception]
        unsafe fn DefaultHandler(irq: i16) {
            $crate::arch::interrupted(irq);
        }
    };
}

/// The handlers of an image, which begins with `$main`, a function that does not return.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[cortex_m_rt::entry]
        fn start() -> ! {
            $main()
        }

        $crate::handlers!();

        // SAFETY: it never returns.
        #[cortex_m_rt::exception]
        unsafe fn HardFault(frame: &cortex_m_rt::ExceptionFrame) -> ! {
            use $crate::log::Hex;
            $crate::fail!("fault at ", Hex::<8>(frame.pc()), ", called from ", Hex::<8>(frame.lr()))
        }
    };
}
