//! Time for the sessions: they read no clock; the driver passes the time in (PROTOCOL §3, §5).

use core::time::Duration;

/// A moment on the driver's monotonic clock, in milliseconds since a start that the driver chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Instant(u64);

impl Instant {
    /// The start of the clock.
    pub const ZERO: Self = Self(0);

    /// `millis` milliseconds after the start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the start.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time since `earlier`; zero if that is in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The moment `delay` later, in whole milliseconds, saturating.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// The minimum progress that a peer has to make while a body is outstanding: fewer than `bytes` in a window of `window`
/// end the connection. This keeps a peer from holding a session with a byte now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct MinRate {
    /// Bytes per window, 0 for no limit.
    pub bytes: u32,
    /// The window's length.
    pub window: Duration,
}

impl MinRate {
    /// 1 KiB in 30 s.
    pub const DEFAULT: Self = Self { bytes: 1024, window: Duration::from_secs(30) };
    /// No limit.
    pub const NONE: Self = Self { bytes: 0, window: Duration::from_secs(30) };
}

/// The time of a clock that has not been set yet.
const UNSTARTED: Instant = Instant(u64::MAX);

/// Watches one connection's progress: nothing at all for the idle time, or less than the minimum rate in a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    now: Instant,
    progress: Instant,
    window: Instant,
    moved: u32,
}

impl Clock {
    pub(crate) const fn new() -> Self {
        Self { now: UNSTARTED, progress: UNSTARTED, window: UNSTARTED, moved: 0 }
    }

    /// Records that bytes were received or sent.
    pub(crate) fn moved(&mut self, bytes: usize) {
        if bytes > 0 {
            self.progress = self.now;
            self.moved = self.moved.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
    }

    /// Restarts the clocks: the server itself is working, or a new body begins.
    pub(crate) const fn restart(&mut self) {
        self.progress = self.now;
        self.window = self.now;
        self.moved = 0;
    }

    /// Sets the time. The first call only starts the clock.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.now == UNSTARTED {
            self.now = now;
            self.restart();
        } else {
            self.now = self.now.max(now);
        }
    }

    /// True if the peer has made too little progress. `rate` applies where a body is outstanding.
    pub(crate) fn is_expired(&mut self, idle: Duration, rate: Option<MinRate>) -> bool {
        if self.now.since(self.progress) >= idle {
            return true;
        }
        let Some(rate) = rate.filter(|rate| rate.bytes > 0) else {
            return false;
        };
        if self.now.since(self.window) < rate.window {
            return false;
        }
        let slow = self.moved < rate.bytes;
        self.window = self.now;
        self.moved = 0;
        slow
    }

    /// When [`Clock::is_expired`] could next return true.
    pub(crate) fn next(&self, idle: Duration, rate: Option<MinRate>) -> Instant {
        let idle = self.progress.after(idle);
        match rate.filter(|rate| rate.bytes > 0) {
            Some(rate) => idle.min(self.window.after(rate.window)),
            None => idle,
        }
    }
}
