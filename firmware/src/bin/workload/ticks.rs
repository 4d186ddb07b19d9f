//! The timer that measures the workload. The emulator advances it with each instruction.

#[cfg(target_arch = "arm")]
pub(crate) use cortex_m::{Timer, ticks};
#[cfg(target_arch = "riscv32")]
pub(crate) use riscv::{Timer, ticks};

/// SysTick, driven by the processor's clock.
#[cfg(target_arch = "arm")]
mod cortex_m {
    use cortex_m::peripheral::syst::SystClkSource;
    use cortex_m::peripheral::{Peripherals, SYST};
    use skiff_firmware::arch;

    /// The period of the timer, minus 1. The interrupt handler counts the periods since the workload began.
    const RELOAD: u32 = 0x00ff_ffff;

    pub(crate) struct Timer(SYST);

    impl Timer {
        pub(crate) fn take() -> Self {
            // SAFETY: the board took the peripherals and no longer uses SysTick, so only this program uses it from here
            // on.
            let mut timer = unsafe { Peripherals::steal() }.SYST;
            timer.set_clock_source(SystClkSource::Core);
            timer.set_reload(RELOAD);
            timer.clear_current();
            Self(timer)
        }

        pub(crate) fn start(&mut self) {
            self.0.enable_interrupt();
            self.0.enable_counter();
        }
    }

    pub(crate) fn ticks() -> u64 {
        let (turns, left) = (arch::millis(), SYST::get_current());
        u64::from(turns) * u64::from(RELOAD + 1) + u64::from(RELOAD - left)
    }
}

/// The timer of the CLINT, which always runs.
#[cfg(target_arch = "riscv32")]
mod riscv {
    use core::sync::atomic::{AtomicU32, Ordering};

    use skiff_firmware::arch;

    /// The time in ticks when the workload began: soon enough after the start to fit in 32 bits.
    static BEGIN: AtomicU32 = AtomicU32::new(0);

    pub(crate) struct Timer;

    impl Timer {
        pub(crate) const fn take() -> Self {
            Self
        }

        pub(crate) fn start(&mut self) {
            BEGIN.store(u32::try_from(arch::time()).unwrap_or(0), Ordering::Relaxed);
        }
    }

    pub(crate) fn ticks() -> u64 {
        arch::time() - u64::from(BEGIN.load(Ordering::Relaxed))
    }
}
