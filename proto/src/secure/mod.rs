//! Authentication and encryption (PROTOCOL §8): a Noise handshake with a key that is derived from the device's secret.
//!
//! | type | meaning |
//! |---|---|
//! | [`Secret`] | the secret of a device, or the master secret of a fleet; derives every key |
//! | [`Key`], [`KeyId`] | a client's key, and its name |
//! | [`Noise`] | the parameter that lets a session protect its connection |
//! | [`Security`], [`Login`] | the input of a server's and of a client's session for one connection |
//! | [`Entropy`], [`Pool`] | the sources of ephemeral secrets |
//! | [`Aead`], [`Pattern`] | the ciphers: [`ChaChaPoly`], or a faster library |
//!
//! The sessions do the rest: a driver passes a [`Security`] or a [`Login`] when a connection begins, and moves bytes as
//! usual. No code here reads a clock or generates random numbers.
//!
//! ```
//! # use skiff_proto::{secure::*, client::ClientSession, server::*, command::Command, Instant};
//! # let (random, now) = ([7; 32], Instant::from_millis(1));
//! let secret = Secret::parse("skiff-secret-1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
//! let key = secret.key(KeyId::parse(b"rw.alice.1").unwrap());
//!
//! let mut server: ServerSession<200, Noise> = ServerSession::new(Limits::new(64));
//! let security = Security {
//!     nonce: secret.nonce(1, 1),
//!     secret,
//!     min_generation: 1,
//!     entropy: Entropy::Random(random),
//!     record_max: 1014,
//!     accepted: now,
//! };
//! server.protect(security.guard()?)?;
//!
//! let mut client: ClientSession<600, 4, Noise> = ClientSession::new(core::time::Duration::from_secs(30));
//! client.protect(Login { key, ephemeral: random }.start())?;
//! client.request(&Command::Hello { version: 1 })?; // the event follows when the connection is protected
//! # Ok::<(), skiff_proto::InvalidState>(())
//! ```

mod aead;
mod base64;
mod client;
mod handshake;
mod hash;
mod keys;
mod pool;
mod records;
mod server;
#[cfg(test)]
mod tests;

use core::marker::PhantomData;

pub use crate::identity::{KeyId, Role};
#[cfg(feature = "secure-aes")]
pub use aead::Portable;
pub use aead::{Aead, ChaChaPoly, Pattern};
pub use client::{Client, Login};
pub use keys::{Key, Secret};
pub use pool::Pool;
/// Memory that is erased on drop.
pub use zeroize::Zeroizing;

pub use server::{Entropy, Parked, Security, Server};

use crate::cipher::Cipher;

/// The length of the longest `secure` in bytes: a server reads that much, whatever its `name-max`.
pub const MAX_SECURE: usize = 6 + 1 + 37 + 1 + KeyId::MAX_LEN + 1 + 2 * handshake::MESSAGE;

/// Connections that may be protected, with the ciphers of `A`.
pub struct Noise<A = ChaChaPoly>(PhantomData<A>);

impl<A> core::fmt::Debug for Noise<A> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Noise")
    }
}

impl<A: Aead> Cipher for Noise<A> {
    type Server = Server<A>;
    type Client = Client<A>;
}

/// Bytes from lowercase hex digits.
fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}
