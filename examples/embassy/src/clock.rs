//! A simulated clock for embassy-time, so that a busy computer does not make time-outs expire early. On a board, the HAL
//! provides the clock.

use core::cell::Cell;
use core::task::Waker;

use embassy_time_driver::{Driver, time_driver_impl};

/// Each reading takes 10 µs, and nothing else takes time. Each thread, and so each test, has its own time.
struct Clock;

thread_local! {
    static MICROS: Cell<u64> = const { Cell::new(0) };
}

impl Driver for Clock {
    fn now(&self) -> u64 {
        MICROS.set(MICROS.get() + 10);
        MICROS.get()
    }

    /// A waiting task reads the clock again and again.
    fn schedule_wake(&self, _: u64, waker: &Waker) {
        waker.wake_by_ref();
    }
}

time_driver_impl!(static CLOCK: Clock = Clock);
