//! The ciphers, implemented by `ring`.

use core::hint::black_box;

use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use skiff_proto::message::{Forged, TAG};
use skiff_proto::secure::{Aead, Pattern};
use zeroize::Zeroizing;

/// AES-256-GCM if the processor has instructions for it, and ChaCha20-Poly1305, for one direction of a connection.
#[derive(Debug)]
pub(crate) struct Ring {
    key: Zeroizing<[u8; 32]>,
    /// `None` if `ring` rejects the key, which never happens, because the length is right.
    cipher: Option<LessSafeKey>,
    algorithm: &'static Algorithm,
}

fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

fn cipher(algorithm: &'static Algorithm, key: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(algorithm, key).ok().map(LessSafeKey::new)
}

impl Aead for Ring {
    fn patterns() -> &'static [Pattern] {
        if has_aes() { &[Pattern::AesGcm, Pattern::ChaChaPoly] } else { &[Pattern::ChaChaPoly] }
    }

    fn new(pattern: Pattern, key: &[u8; 32]) -> Self {
        let algorithm = match pattern {
            Pattern::ChaChaPoly => &CHACHA20_POLY1305,
            Pattern::AesGcm => &AES_256_GCM,
        };
        Self { key: Zeroizing::new(*key), cipher: cipher(algorithm, key), algorithm }
    }

    fn key(&self) -> &[u8; 32] {
        &self.key
    }

    fn seal(&self, nonce: &[u8; 12], associated: &[u8], text: &mut [u8]) -> [u8; TAG] {
        let cipher = self.cipher.as_ref();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let sealed =
            cipher.and_then(|cipher| cipher.seal_in_place_separate_tag(nonce, Aad::from(associated), text).ok());
        match sealed.and_then(|tag| tag.as_ref().try_into().ok()) {
            Some(tag) => tag,
            // A record is never too long; if it were, nothing of it may leave in clear.
            None => {
                text.fill(0);
                [0; TAG]
            }
        }
    }

    fn open(&self, nonce: &[u8; 12], associated: &[u8], record: &mut [u8]) -> Result<(), Forged> {
        let cipher = self.cipher.as_ref().ok_or(Forged)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        cipher.open_in_place(nonce, Aad::from(associated), record).map(drop).map_err(|_| Forged)
    }
}

impl Drop for Ring {
    /// `ring` does not erase its expanded key, so it is overwritten with that of another key.
    fn drop(&mut self) {
        self.cipher = cipher(self.algorithm, &[0; 32]);
        black_box(&self.cipher);
    }
}

#[cfg(test)]
mod tests {
    use skiff_proto::secure::ChaChaPoly;

    use super::*;

    #[test]
    fn it_seals_as_the_devices_do_and_opens_nothing_that_was_altered() {
        let (key, nonce) = ([7; 32], [3; 12]);
        let mut record = b"a text".to_vec();
        let tag = Ring::new(Pattern::ChaChaPoly, &key).seal(&nonce, b"with", &mut record);
        record.extend(tag);
        let mut opened = record.clone();
        ChaChaPoly::new(Pattern::ChaChaPoly, &key).open(&nonce, b"with", &mut opened).unwrap();
        assert_eq!(opened[..6], *b"a text");
        for pattern in [Pattern::ChaChaPoly, Pattern::AesGcm] {
            let ring = Ring::new(pattern, &key);
            let mut record = b"a text".to_vec();
            let tag = ring.seal(&nonce, b"", &mut record);
            record.extend(tag);
            for at in 0..record.len() {
                let mut altered = record.clone();
                altered[at] ^= 1;
                assert_eq!(ring.open(&nonce, b"", &mut altered), Err(Forged));
            }
            assert_eq!(ring.open(&nonce, b"x", &mut record.clone()), Err(Forged));
            assert_eq!(ring.open(&nonce, b"", &mut record[..TAG - 1].to_vec()), Err(Forged));
            assert_eq!(ring.open(&nonce, b"", &mut record), Ok(()));
            assert_eq!(record[..6], *b"a text");
        }
    }
}
