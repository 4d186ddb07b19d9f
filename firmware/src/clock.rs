//! The clock of sessions and of the stack.

use skiff_proto::Instant;

pub use crate::arch::millis;

/// The time since the start, from milliseconds modulo 2^32.
#[derive(Debug, Default)]
pub struct Clock {
    last: u32,
    wraps: u32,
}

impl Clock {
    /// The current time. Call it at least every 49 days.
    pub fn now(&mut self) -> Instant {
        let millis = millis();
        if millis < self.last {
            self.wraps = self.wraps.wrapping_add(1);
        }
        self.last = millis;
        Instant::from_millis(u64::from(self.wraps) << 32 | u64::from(millis))
    }
}
