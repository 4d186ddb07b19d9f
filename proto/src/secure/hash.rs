//! BLAKE2s, its keyed form, HMAC and the HKDF of Noise.

use zeroize::{Zeroize, Zeroizing};

pub(super) use skiff_crypto::Bytes;

/// The hash of `parts`, one after the other.
pub(super) fn hash(parts: &[&[u8]]) -> Bytes {
    skiff_crypto::hash(None, parts)
}

/// The keyed hash of `parts`: a secret as well.
pub(super) fn keyed(key: &Bytes, parts: &[&[u8]]) -> Zeroizing<Bytes> {
    Zeroizing::new(skiff_crypto::hash(Some(key), parts))
}

/// HMAC of RFC 2104; a block of BLAKE2s has 64 bytes.
fn hmac(key: &Bytes, parts: [&[u8]; 2]) -> Zeroizing<Bytes> {
    let mut pad = [0x36; 64];
    pad.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
    let inner = Zeroizing::new(hash(&[&pad, parts[0], parts[1]]));
    pad.iter_mut().for_each(|pad| *pad ^= 0x36 ^ 0x5c);
    let outer = Zeroizing::new(hash(&[&pad, &*inner]));
    pad.zeroize();
    outer
}

/// HKDF of Noise with `N` outputs, 2 or 3.
pub(super) fn hkdf<const N: usize>(chaining: &Bytes, input: &[u8]) -> [Zeroizing<Bytes>; N] {
    let key = hmac(chaining, [input, b""]);
    let mut outputs = core::array::from_fn(|_| Zeroizing::new([0; 32]));
    for at in 0..N {
        let before: &[u8] = if at == 0 { b"" } else { &*outputs[at - 1] };
        let output = hmac(&key, [before, &[b"\x01\x02\x03"[at]]]);
        outputs[at] = output;
    }
    outputs
}
