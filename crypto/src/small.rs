//! The AEAD and the hash, built from small loops.
#![cfg_attr(not(target_os = "none"), allow(unreachable_pub, reason = "tests alone use it there"))]

use zeroize::Zeroizing;

use super::Bytes;
use super::blake::Blake2s;
use super::chacha::ChaCha20;
use super::poly::Poly1305;

/// Encrypts `text` in place and returns the tag for it and the associated data.
#[inline(never)]
#[must_use]
pub fn seal(key: &Bytes, nonce: &[u8; 12], associated: &[u8], text: &mut [u8]) -> [u8; 16] {
    let mut cipher = ChaCha20::new(key, nonce);
    let mut poly = begin(&mut cipher, associated);
    cipher.apply(text);
    end(&mut poly, associated, text)
}

/// Verifies `tag` in constant time, then decrypts `text` in place. False: the tag is wrong, and `text` must not be
/// used.
#[inline(never)]
#[must_use]
pub fn open(key: &Bytes, nonce: &[u8; 12], associated: &[u8], text: &mut [u8], tag: &[u8; 16]) -> bool {
    let mut cipher = ChaCha20::new(key, nonce);
    let mut poly = begin(&mut cipher, associated);
    let right = end(&mut poly, associated, text);
    let differences = right.iter().zip(tag).fold(0, |all, (one, other)| all | (one ^ other));
    // Not to be replaced by a comparison that ends early.
    if core::hint::black_box(differences) != 0 {
        return false;
    }
    cipher.apply(text);
    true
}

/// The authenticator, whose key is the first block.
fn begin(cipher: &mut ChaCha20, associated: &[u8]) -> Poly1305 {
    let mut key = Zeroizing::new([0; 64]);
    cipher.apply(&mut *key);
    let mut poly = Poly1305::new(key.first_chunk().unwrap_or(&[0; 32]));
    poly.update_padded(associated);
    poly
}

fn end(poly: &mut Poly1305, associated: &[u8], text: &[u8]) -> [u8; 16] {
    poly.update_padded(text);
    let mut lengths = [0; 16];
    lengths[..8].copy_from_slice(&(associated.len() as u64).to_le_bytes());
    lengths[8..].copy_from_slice(&(text.len() as u64).to_le_bytes());
    poly.update_padded(&lengths);
    poly.tag()
}

/// BLAKE2s-256 of the concatenated `parts`; with a key, the keyed hash.
#[inline(never)]
#[must_use]
pub fn hash(key: Option<&Bytes>, parts: &[&[u8]]) -> Bytes {
    let mut hasher = Blake2s::new(key);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finish()
}

/// HMAC-BLAKE2s-256 (RFC 2104) with a key, which is hashed once for all messages. Erased on drop.
pub struct Hmac {
    inner: Blake2s,
    outer: Blake2s,
    /// For the empty message: then the block of the key is the last one, which is compressed differently.
    alone: Blake2s,
}

impl Hmac {
    /// An HMAC with this key.
    #[inline(never)]
    #[must_use]
    pub fn new(key: &Bytes) -> Self {
        let [mut inner, mut outer] = [0x36, 0x5c].map(|pad| {
            let mut hasher = Blake2s::new(None);
            hasher.update(&*Zeroizing::new(super::pad(key, pad)));
            hasher
        });
        let alone = inner.clone();
        inner.flush();
        outer.flush();
        Self { inner, outer, alone }
    }

    /// The HMAC of the concatenated `parts`.
    #[must_use]
    pub fn of(&self, parts: &[&[u8]]) -> Bytes {
        let is_empty = parts.iter().all(|part| part.is_empty());
        let mut inner = if is_empty { self.alone.clone() } else { self.inner.clone() };
        let mut outer = self.outer.clone();
        parts.iter().for_each(|part| inner.update(part));
        outer.update(&*Zeroizing::new(inner.finish()));
        outer.finish()
    }
}
