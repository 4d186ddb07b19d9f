//! The protection of connections (PROTOCOL §8): keys, nonces, and the order in which clients are served.
//!
//! | connection | its turn | its session |
//! |---|---|---|
//! | protected | first | kept |
//! | not yet protected | after all protected ones; not while too many handshakes have failed | lost after 10 s, or when another connection needs one |

use core::time::Duration;

use skiff_proto::secure::{self, Noise, Secret, Security};
use skiff_proto::server::ServerSession;
use skiff_proto::{Instant, message};

use crate::config::ConfigError;

/// The cipher of sessions.
pub(super) type Cipher = Noise;

/// Bytes for one record and its length: two fit in a socket buffer of 2 KiB, one in a buffer of 1 KiB. Together with
/// the protection state of two sessions and of the server, that is 1.25 KiB.
pub const RECORD: usize = 896;

/// The lowest `record-max` that the protocol permits.
const SHORTEST: usize = 600;

/// The number of failed handshakes per second above which further ones wait.
const FAILURES: u32 = 8;

/// The secret, nonces and entropy with which a server protects its connections. See
/// [`DeviceServer::protect`](super::DeviceServer::protect).
pub struct Protection<'m> {
    /// The device secret, different on each device.
    pub secret: Secret,
    /// The lowest accepted GENERATION.
    pub min_generation: u32,
    /// The source of each connection's unique nonce.
    pub nonces: Nonces,
    /// The source of the ephemeral secrets of handshakes.
    pub entropy: &'m mut dyn Entropy,
}

/// The source of nonces. No nonce may be used twice under the same secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Nonces {
    /// From the number of this start of the device, which no other start has, and a count of connections. The number
    /// must be durable before the server is polled: [`FlashStore::count_start`](crate::flash::FlashStore::count_start).
    Counted {
        /// The number.
        start: u64,
    },
    /// From [`Entropy`], which must be a generator that is suitable for keys.
    Random,
}

/// Unpredictable bytes: from a chip's random number generator, or collected by a device without one.
///
/// Forward secrecy depends on them: an attacker who later learns the device secret, and can guess the bytes, can
/// decrypt recorded connections. With [`Nonces::Counted`], nothing else depends on them.
pub trait Entropy {
    /// 32 bytes that were not returned before; `None` if the generator has failed. Then the connection is refused.
    fn next(&mut self) -> Option<[u8; 32]>;
}

impl Protection<'_> {
    /// The nonce, unique among all connections under this secret.
    fn nonce(&mut self, connections: u64) -> Option<[u8; 16]> {
        match self.nonces {
            Nonces::Counted { start } => Some(self.secret.nonce(start, connections)),
            Nonces::Random => self.entropy.next()?.first_chunk().copied(),
        }
    }
}

/// The access control of a server.
pub(super) struct Door<'m> {
    protection: Option<Protection<'m>>,
    /// Connections so far.
    connections: u64,
    throttle: Throttle,
    /// Memory for a record of any session, for the duration of a call.
    record: &'m mut [u8],
}

impl<'m> Door<'m> {
    /// `smallest`: bytes of the smallest socket buffer.
    pub(super) fn new(record: &'m mut [u8], smallest: usize) -> Self {
        let len = record.len().min(smallest).min(message::HEADER_LEN + usize::from(u16::MAX));
        Self { protection: None, connections: 0, throttle: Throttle::default(), record: &mut record[..len] }
    }

    pub(super) fn protect(&mut self, protection: Protection<'m>) -> Result<(), ConfigError> {
        let needed = message::HEADER_LEN + SHORTEST;
        if self.record.len() < needed {
            return Err(ConfigError::Buffer { needed });
        }
        self.protection = Some(protection);
        Ok(())
    }

    /// Protects a new session, if the server has a secret. False if that fails: then the session must not be served.
    pub(super) fn guard<const BUF: usize>(&mut self, session: &mut ServerSession<BUF, Cipher>, now: Instant) -> bool {
        let Some(protection) = &mut self.protection else { return true };
        self.connections += 1;
        let (nonce, entropy) = (protection.nonce(self.connections), protection.entropy.next());
        let (Some(nonce), Some(entropy)) = (nonce, entropy) else { return false };
        let security = Security {
            secret: protection.secret.clone(),
            min_generation: protection.min_generation,
            nonce,
            entropy: secure::Entropy::Pool(entropy),
            record_max: u16::try_from(self.record.len() - message::HEADER_LEN).unwrap_or(u16::MAX),
            accepted: now,
        };
        security.guard().is_ok_and(|guard| session.protect(guard).is_ok())
    }

    pub(super) const fn record(&mut self) -> &mut [u8] {
        self.record
    }

    /// Records a failed handshake.
    pub(super) fn failed(&mut self, now: Instant) {
        self.throttle.add(now);
    }

    /// When handshakes are processed again; `None`: now.
    pub(super) fn closed_until(&self, now: Instant) -> Option<Instant> {
        self.throttle.closed_until(now)
    }
}

/// Limits the failures per second; all of them may come at once.
#[derive(Debug, Default)]
struct Throttle {
    /// When all failures so far no longer count.
    paid: Option<Instant>,
}

impl Throttle {
    const EACH: Duration = Duration::from_millis(1000 / FAILURES as u64);

    fn add(&mut self, now: Instant) {
        let paid = self.paid.map_or(now, |paid| paid.max(now));
        self.paid = Some(paid.after(Self::EACH));
    }

    fn closed_until(&self, now: Instant) -> Option<Instant> {
        let owed = self.paid?.since(now);
        let most = Self::EACH * (FAILURES - 1);
        (owed > most).then(|| now.after(owed - most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_failures_pass_at_once_and_then_eight_in_each_second() {
        let mut throttle = Throttle::default();
        let mut failures = 0;
        for millis in 1..=10_000 {
            let now = Instant::from_millis(millis);
            while throttle.closed_until(now).is_none() {
                throttle.add(now);
                failures += 1;
            }
            assert!(throttle.closed_until(now).is_some_and(|until| until > now && until.since(now) <= Throttle::EACH));
            if millis == 1 {
                assert_eq!(failures, 8);
            }
        }
        assert_eq!(failures, 8 + 79);
    }
}
