//! BLAKE2s, its keyed form, HMAC and the HKDF of Noise.

use skiff_crypto::Hmac;
use zeroize::Zeroizing;

pub(super) use skiff_crypto::Bytes;

/// The hash of `parts`, one after the other.
pub(super) fn hash(parts: &[&[u8]]) -> Bytes {
    skiff_crypto::hash(None, parts)
}

/// The keyed hash of `parts`: a secret as well.
pub(super) fn keyed(key: &Bytes, parts: &[&[u8]]) -> Zeroizing<Bytes> {
    Zeroizing::new(skiff_crypto::hash(Some(key), parts))
}

/// HKDF of Noise with `N` outputs, 2 or 3.
pub(super) fn hkdf<const N: usize>(chaining: &Bytes, input: &[u8]) -> [Zeroizing<Bytes>; N] {
    let key = Zeroizing::new(Hmac::new(chaining).of(&[input]));
    let hmac = Hmac::new(&key);
    let mut outputs = core::array::from_fn(|_| Zeroizing::new([0; 32]));
    for at in 0..N {
        let before: &[u8] = if at == 0 { b"" } else { &*outputs[at - 1] };
        *outputs[at] = hmac.of(&[before, &[b"\x01\x02\x03"[at]]]);
    }
    outputs
}
