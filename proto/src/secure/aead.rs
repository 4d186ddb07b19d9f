//! Patterns and their ciphers.

#[cfg(feature = "secure-aes")]
use aes_gcm::{
    Aes256Gcm,
    aead::{AeadInOut as _, KeyInit as _},
};
use zeroize::Zeroizing;

use super::hash::Bytes;
use crate::message::{Forged, TAG};

words! {
    /// PATTERN: the Noise protocol of a connection.
    pub enum Pattern;

    /// The maximum number of messages in each direction.
    pub const fn messages -> u64;

    /// ChaCha20-Poly1305: for all machines.
    ChaChaPoly "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s" 0x1_0000_0000;
    /// AES-256-GCM: for machines with AES instructions.
    AesGcm "Noise_NNpsk0_25519_AESGCM_BLAKE2s" 0x0100_0000;
}

impl Pattern {
    /// The nonce of message `n` (Noise, sections 12.3 and 12.4).
    pub(super) fn nonce(self, n: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&match self {
            Self::ChaChaPoly => n.to_le_bytes(),
            Self::AesGcm => n.to_be_bytes(),
        });
        nonce
    }
}

/// A library of AEAD ciphers with one key. A host can replace it with a faster one.
pub trait Aead: Sized {
    /// The patterns that it has ciphers for, best first: a server offers them, and a client accepts them.
    fn patterns() -> &'static [Pattern];

    /// The cipher of `pattern`, with `key`. It erases the key on drop.
    fn new(pattern: Pattern, key: &[u8; 32]) -> Self;

    /// The key.
    fn key(&self) -> &[u8; 32];

    /// Encrypts `text` in place and returns the tag for it and the associated data.
    fn seal(&self, nonce: &[u8; 12], associated: &[u8], text: &mut [u8]) -> [u8; TAG];

    /// Verifies the tag at the end of `record` in constant time, and decrypts the preceding text in place.
    ///
    /// # Errors
    /// [`Forged`]: `record` must not be used.
    fn open(&self, nonce: &[u8; 12], associated: &[u8], record: &mut [u8]) -> Result<(), Forged>;
}

/// ChaCha20-Poly1305 of the crate `skiff-crypto`, and nothing else: for devices.
#[derive(Clone)]
pub struct ChaChaPoly(Zeroizing<Bytes>);

impl Aead for ChaChaPoly {
    fn patterns() -> &'static [Pattern] {
        &[Pattern::ChaChaPoly]
    }

    fn new(_pattern: Pattern, key: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*key))
    }

    fn key(&self) -> &[u8; 32] {
        &self.0
    }

    fn seal(&self, nonce: &[u8; 12], associated: &[u8], text: &mut [u8]) -> [u8; TAG] {
        skiff_crypto::seal(self.key(), nonce, associated, text)
    }

    fn open(&self, nonce: &[u8; 12], associated: &[u8], record: &mut [u8]) -> Result<(), Forged> {
        let (text, tag) = record.split_last_chunk_mut::<TAG>().ok_or(Forged)?;
        if skiff_crypto::open(self.key(), nonce, associated, text, tag) { Ok(()) } else { Err(Forged) }
    }
}

/// Both patterns, in portable code with the instructions that the processor has: for hosts.
#[cfg(feature = "secure-aes")]
#[derive(Clone)]
pub struct Portable(Pattern, ChaChaPoly);

#[cfg(feature = "secure-aes")]
impl Aead for Portable {
    fn patterns() -> &'static [Pattern] {
        &[Pattern::ChaChaPoly, Pattern::AesGcm]
    }

    fn new(pattern: Pattern, key: &[u8; 32]) -> Self {
        Self(pattern, ChaChaPoly::new(pattern, key))
    }

    fn key(&self) -> &[u8; 32] {
        self.1.key()
    }

    fn seal(&self, nonce: &[u8; 12], associated: &[u8], text: &mut [u8]) -> [u8; TAG] {
        match self.0 {
            Pattern::ChaChaPoly => self.1.seal(nonce, associated, text),
            Pattern::AesGcm => {
                let cipher = Aes256Gcm::new(self.key().into());
                match cipher.encrypt_inout_detached(nonce.into(), associated, (&mut *text).into()) {
                    Ok(tag) => tag.into(),
                    // A record is never too long; if it were, nothing of it may leave in clear.
                    Err(_) => {
                        text.fill(0);
                        [0; TAG]
                    }
                }
            }
        }
    }

    fn open(&self, nonce: &[u8; 12], associated: &[u8], record: &mut [u8]) -> Result<(), Forged> {
        match self.0 {
            Pattern::ChaChaPoly => self.1.open(nonce, associated, record),
            Pattern::AesGcm => {
                let (text, tag) = record.split_last_chunk_mut::<TAG>().ok_or(Forged)?;
                let (cipher, tag) = (Aes256Gcm::new(self.key().into()), &*tag);
                cipher.decrypt_inout_detached(nonce.into(), associated, text.into(), tag.into()).map_err(|_| Forged)
            }
        }
    }
}
