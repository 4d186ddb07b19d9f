//! Two writers to one name: who waits and who takes over (PROTOCOL §7).
//!
//! A store answers `busy` while a stage of the name is open. A server then looks for the writer. If it has received
//! nothing for [`TAKEOVER`], the server closes its connection, the staged bytes stay, and the second writer proceeds.

use core::time::Duration;

use crate::time::Instant;

/// A writer that has received nothing for this long yields to another of the same name.
pub const TAKEOVER: Duration = Duration::from_secs(5);

/// A server that waits for bytes from a writer calls [`Silence::wait`] at least this often, including a small delay.
const MOST: Duration = Duration::from_millis(1250);

/// How long a server has waited for bytes from one writer.
///
/// Time in which the server itself does not run is not the peer's silence: between two calls of [`Silence::wait`], at
/// most [1.25 s](Silence::at) count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Silence {
    /// The time of the last bytes, or of the last [`Silence::wait`].
    at: Instant,
    /// Silence before that time.
    before: Duration,
}

impl Silence {
    /// How often to call [`Silence::wait`].
    pub const INTERVAL: Duration = Duration::from_secs(1);

    /// Starts again: bytes have arrived, or the server has done something for the writer.
    #[must_use]
    pub const fn from(now: Instant) -> Self {
        Self { at: now, before: Duration::ZERO }
    }

    /// Nothing has arrived so far, and the server continues to wait.
    pub fn wait(&mut self, now: Instant) {
        *self = Self { at: now, before: self.at(now) };
    }

    /// The length of the silence.
    #[must_use]
    pub fn at(&self, now: Instant) -> Duration {
        self.before + now.since(self.at).min(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_was_stopped_does_not_take_that_time_for_silence() {
        let second = |n: u64| Instant::from_millis(n * 1000);
        let mut silence = Silence::from(Instant::ZERO);
        (1..=3).for_each(|n| silence.wait(second(n)));
        assert_eq!(silence.at(second(3)), Duration::from_secs(3));
        assert_eq!(silence.at(second(10)), Duration::from_secs(3) + MOST, "stopped for 7 s");
        (10..=12).for_each(|n| silence.wait(second(n)));
        assert!(silence.at(second(12)) >= TAKEOVER, "silent before and after");
        silence = Silence::from(second(12));
        assert_eq!(silence.at(second(13)), Duration::from_secs(1));
    }
}
