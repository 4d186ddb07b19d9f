//! The crates `chacha20poly1305` and `blake2`.

use blake2::digest::{Digest, KeyInit as _, Mac};
use blake2::{Blake2s256, Blake2sMac256};
use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::AeadInOut as _;

use zeroize::Zeroizing;

use super::Bytes;

/// Encrypts `text` in place and returns the tag for it and the associated data.
#[must_use]
pub fn seal(key: &Bytes, nonce: &[u8; 12], associated: &[u8], text: &mut [u8]) -> [u8; 16] {
    let cipher = ChaCha20Poly1305::new(key.into());
    match cipher.encrypt_inout_detached(nonce.into(), associated, (&mut *text).into()) {
        Ok(tag) => tag.into(),
        // It is never too long; if it were, nothing of it may leave in clear.
        Err(_) => {
            text.fill(0);
            [0; 16]
        }
    }
}

/// Verifies `tag` in constant time, then decrypts `text` in place. False: the tag is wrong, and `text` must not be
/// used.
#[must_use]
pub fn open(key: &Bytes, nonce: &[u8; 12], associated: &[u8], text: &mut [u8], tag: &[u8; 16]) -> bool {
    let cipher = ChaCha20Poly1305::new(key.into());
    cipher.decrypt_inout_detached(nonce.into(), associated, text.into(), tag.into()).is_ok()
}

/// BLAKE2s-256 of the concatenated `parts`; with a key, the keyed hash.
#[must_use]
pub fn hash(key: Option<&Bytes>, parts: &[&[u8]]) -> Bytes {
    match key {
        Some(key) => {
            let mut hasher = <Blake2sMac256 as blake2::digest::KeyInit>::new(key.into());
            parts.iter().for_each(|part| Mac::update(&mut hasher, part));
            hasher.finalize().into_bytes().into()
        }
        None => {
            let mut hasher = Blake2s256::new();
            parts.iter().for_each(|part| Digest::update(&mut hasher, part));
            hasher.finalize().into()
        }
    }
}

/// HMAC-BLAKE2s-256 (RFC 2104) with a key, which is hashed once for all messages. Erased on drop.
pub struct Hmac([Blake2s256; 2]);

impl Hmac {
    /// An HMAC with this key.
    #[must_use]
    pub fn new(key: &Bytes) -> Self {
        Self([0x36, 0x5c].map(|pad| Blake2s256::new_with_prefix(*Zeroizing::new(super::pad(key, pad)))))
    }

    /// The HMAC of the concatenated `parts`.
    #[must_use]
    pub fn of(&self, parts: &[&[u8]]) -> Bytes {
        let [mut inner, mut outer] = self.0.clone();
        parts.iter().for_each(|part| Digest::update(&mut inner, part));
        Digest::update(&mut outer, inner.finalize());
        outer.finalize().into()
    }
}

#[cfg(test)]
pub(crate) fn poly1305(key: &Bytes, text: &[u8]) -> [u8; 16] {
    use poly1305::universal_hash::KeyInit as _;
    poly1305::Poly1305::new(key.into()).compute_unpadded(text).into()
}
