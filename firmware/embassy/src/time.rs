//! Embassy's time driver on the board's clock: a tick is a millisecond.

use core::cell::{Cell, RefCell};
use core::task::Waker;

use critical_section::Mutex;
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;

struct Clock {
    now: Mutex<Cell<u64>>,
    next: Mutex<Cell<u64>>,
    queue: Mutex<RefCell<Queue>>,
}

embassy_time_driver::time_driver_impl!(static CLOCK: Clock = Clock {
    now: Mutex::new(Cell::new(0)),
    next: Mutex::new(Cell::new(u64::MAX)),
    queue: Mutex::new(RefCell::new(Queue::new())),
});

impl Driver for Clock {
    fn now(&self) -> u64 {
        critical_section::with(|section| self.now.borrow(section).get())
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|section| {
            if self.queue.borrow_ref_mut(section).schedule_wake(at, waker) {
                // Looked at with the next tick.
                self.next.borrow(section).set(0);
            }
        });
    }
}

/// Counts a millisecond, and wakes the tasks that waited for it.
pub(crate) fn tick() {
    critical_section::with(|section| {
        let now = CLOCK.now.borrow(section).get() + 1;
        CLOCK.now.borrow(section).set(now);
        if now >= CLOCK.next.borrow(section).get() {
            let next = CLOCK.queue.borrow_ref_mut(section).next_expiration(now);
            CLOCK.next.borrow(section).set(next);
        }
    });
}
