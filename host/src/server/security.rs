//! Access control: open, or keys required (PROTOCOL §8).

use std::io;

use skiff_proto::Instant;
use skiff_proto::cipher::Cipher;
#[cfg(feature = "secure")]
use skiff_proto::secure::{Entropy, Secret};

use crate::protection::Protection;

/// The session's part of the protection of a connection.
pub(super) type Guard = <Protection as Cipher>::Server;

/// The longest record in bytes: whole pages of a file and a tag.
#[cfg(feature = "secure")]
const RECORD_MAX: u16 = 60 * 1024 + 16;

/// Who may connect. Default: everybody, unprotected.
#[derive(Debug, Clone, Default)]
pub struct Security {
    #[cfg(feature = "secure")]
    device: Option<Device>,
}

#[cfg(feature = "secure")]
#[derive(Debug, Clone)]
struct Device {
    secret: Secret,
    min_generation: u32,
}

impl Security {
    /// Only clients whose keys are derived from `secret` and have at least this generation; all connections are
    /// protected.
    #[cfg(feature = "secure")]
    #[must_use]
    pub const fn with_secret(secret: Secret, min_generation: u32) -> Self {
        Self { device: Some(Device { secret, min_generation }) }
    }

    /// True if only clients with a key are served.
    #[cfg(feature = "secure")]
    pub(super) const fn wants_key(&self) -> bool {
        self.device.is_some()
    }

    /// False: everybody is served.
    #[cfg(not(feature = "secure"))]
    pub(super) const fn wants_key(&self) -> bool {
        false
    }

    /// The guard for a connection that was accepted at `accepted`; `None` if it is not protected.
    #[cfg(feature = "secure")]
    pub(super) fn guard(&self, accepted: Instant) -> io::Result<Option<Box<Guard>>> {
        let Some(Device { secret, min_generation }) = &self.device else { return Ok(None) };
        // A nonce of the system's generator comes again with a probability of 2^-64 after 2^32 connections.
        let security = skiff_proto::secure::Security {
            secret: secret.clone(),
            min_generation: *min_generation,
            nonce: crate::keys::random().map_err(io::Error::other)?,
            entropy: Entropy::Random(crate::keys::random().map_err(io::Error::other)?),
            record_max: RECORD_MAX,
            accepted,
        };
        security.guard().map(|guard| Some(Box::new(guard))).map_err(io::Error::other)
    }

    /// The guard for a connection: `None`, because connections are not protected.
    #[cfg(not(feature = "secure"))]
    pub(super) const fn guard(&self, _accepted: Instant) -> io::Result<Option<Box<Guard>>> {
        Ok(None)
    }
}
