//! A token bucket.

use core::time::Duration;

use skiff_proto::Instant;

/// Limits how often something happens: `BURST` times at once, then once in each `PAUSE` milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket<const BURST: u8, const PAUSE: u64> {
    left: u8,
    /// When `left` last changed by the passing of time.
    since: Instant,
}

impl<const BURST: u8, const PAUSE: u64> Bucket<BURST, PAUSE> {
    pub(crate) const fn full(now: Instant) -> Self {
        Self { left: BURST, since: now }
    }

    /// Updates the bucket to the current time.
    pub(crate) fn refill(&mut self, now: Instant) {
        let pause = Duration::from_millis(PAUSE);
        while self.left < BURST && now.since(self.since) >= pause {
            self.left += 1;
            self.since = self.since.after(pause);
        }
        if self.left == BURST {
            self.since = now;
        }
    }

    /// Takes a token; false if there is none.
    pub(crate) fn take(&mut self) -> bool {
        let has = self.left > 0;
        self.left -= u8::from(has);
        has
    }
}
