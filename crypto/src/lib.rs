//! ChaCha20-Poly1305 (RFC 8439) and BLAKE2s-256 (RFC 7693).
//!
//! | target | code | why |
//! |---|---|---|
//! | with an operating system | the crates `chacha20poly1305` and `blake2` | they are well maintained and use the processor's instructions |
//! | bare metal | `chacha`, `poly` and `blake` of this crate: small loops | 40% fewer instructions on a Cortex-M3, and less flash |
//!
//! Tests compare the two with each other, and with the vectors of the RFCs. This is a separate crate so that firmware,
//! which compiles the protocol for size, can set a different opt-level for it.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(target_os = "none", test, doc))]
mod blake;
#[cfg(any(target_os = "none", test, doc))]
mod chacha;
#[cfg(any(target_os = "none", test, doc))]
mod poly;
#[cfg(any(target_os = "none", test, doc))]
mod small;
#[cfg(not(target_os = "none"))]
mod wrapped;

#[cfg(target_os = "none")]
pub use small::{Hmac, hash, open, seal};
#[cfg(not(target_os = "none"))]
pub use wrapped::{Hmac, hash, open, seal};

/// Bytes of a key and of a hash.
pub type Bytes = [u8; 32];

/// The first block of HMAC: the key padded with zeros, with `pad` XORed into every byte.
fn pad(key: &Bytes, pad: u8) -> [u8; 64] {
    let mut block = [pad; 64];
    block.iter_mut().zip(key).for_each(|(block, key)| *block ^= key);
    block
}

impl core::fmt::Debug for Hmac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Hmac")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::{small, wrapped};

    extern crate std;
    use std::vec::Vec;

    #[test]
    fn the_vector_of_rfc_8439_is_sealed_and_opened() {
        let key = core::array::from_fn(|at| 0x80 + u8::try_from(at).unwrap());
        let nonce = [7, 0, 0, 0, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47];
        let associated = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
        let clear = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
            sunscreen would be it.";
        let mut text = clear.to_vec();
        let tag = small::seal(&key, &nonce, &associated, &mut text);
        assert_eq!(text[..8], [0xd3, 0x1a, 0x8d, 0x34, 0x64, 0x8e, 0x60, 0xdb]);
        let right = [0x1a, 0xe1, 0x0b, 0x59, 0x4f, 0x09, 0xe2, 0x6a, 0x7e, 0x90, 0x2e, 0xcb, 0xd0, 0x60, 0x06, 0x91];
        assert_eq!(tag, right);
        assert!(small::open(&key, &nonce, &associated, &mut text, &tag));
        assert_eq!(text, clear);
    }

    #[test]
    fn the_vector_of_rfc_7693_is_hashed() {
        let hash = small::hash(None, &[b"a", b"", b"bc"]);
        assert_eq!(hash[..8], [0x50, 0x8c, 0x5e, 0x8c, 0x32, 0x7c, 0x14, 0xe2]);
        assert_eq!(hash, wrapped::hash(None, &[b"abc"]));
    }

    #[test]
    fn numbers_that_carry_through_every_limb_have_the_right_tag() {
        // Blocks of ones, with keys of ones and zeros: sums near 2^130 - 5.
        for key in [[0; 32], [0xff; 32]] {
            for len in [0, 1, 15, 16, 17, 32, 48, 64, 1000] {
                for fill in [0, 1, 0xfb, 0xff] {
                    let text = std::vec![fill; len];
                    assert_eq!(crate::poly::tag_of(&key, &text), wrapped::poly1305(&key, &text), "{fill} {len}");
                    let mut clamped = key;
                    clamped[..16].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                    assert_eq!(crate::poly::tag_of(&clamped, &text), wrapped::poly1305(&clamped, &text));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn both_seal_and_open_alike(
            key: [u8; 32], nonce: [u8; 12],
            associated in prop::collection::vec(any::<u8>(), 0..100),
            clear in prop::collection::vec(any::<u8>(), 0..1200),
            bit in 0_usize..10_000,
        ) {
            let (mut one, mut other) = (clear.clone(), clear.clone());
            let tag = small::seal(&key, &nonce, &associated, &mut one);
            prop_assert_eq!(tag, wrapped::seal(&key, &nonce, &associated, &mut other));
            prop_assert_eq!(&one, &other);
            // A bit of the text, of the tag or of the associated data is another one.
            let mut forged = [&one[..], &tag, &associated].concat();
            let bit = bit % (8 * forged.len());
            forged[bit / 8] ^= 1 << (bit % 8);
            let (text, rest) = forged.split_at_mut(one.len());
            let mut wrong = [0; 16];
            wrong.copy_from_slice(&rest[..16]);
            let before = text.to_vec();
            prop_assert!(!small::open(&key, &nonce, &rest[16..], text, &wrong));
            prop_assert_eq!(text, &before[..], "nothing is decrypted");
            prop_assert!(small::open(&key, &nonce, &associated, &mut one, &tag));
            prop_assert_eq!(one, clear);
        }

        #[test]
        fn both_hash_alike(
            key: Option<[u8; 32]>,
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..5),
        ) {
            let parts: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
            prop_assert_eq!(small::hash(key.as_ref(), &parts), wrapped::hash(key.as_ref(), &parts));
            if let Some(key) = &key {
                let (one, other) = (small::Hmac::new(key), wrapped::Hmac::new(key));
                // A key serves more than once.
                for parts in [&parts[..], &[]] {
                    let outer = |inner: [u8; 32]| wrapped::hash(None, &[&crate::pad(key, 0x5c), &inner]);
                    let inner = [&crate::pad(key, 0x36)[..], &parts.concat()].concat();
                    let right = outer(wrapped::hash(None, &[&inner]));
                    prop_assert_eq!(one.of(parts), right);
                    prop_assert_eq!(other.of(parts), right);
                }
            }
            let whole = parts.concat();
            prop_assert_eq!(small::hash(key.as_ref(), &[&whole]), wrapped::hash(key.as_ref(), &parts));
        }
    }
}
