//! Poly1305 (RFC 8439, section 2.5), in five limbs of 26 bits.

use zeroize::Zeroize;

const LIMB: u32 = 0x03ff_ffff;

/// The authenticator with a one-time key. Erased on drop.
pub(crate) struct Poly1305 {
    r: [u32; 5],
    /// The sum, less than 2^131.
    h: [u32; 5],
    s: [u32; 4],
}

/// The word at `at`.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word))
}

/// Bits 0, 26, 52 and so on of a block; `top` is bit 128.
#[inline(always)]
fn limbs(block: &[u8; 16], top: u32) -> [u32; 5] {
    [
        word(block, 0) & LIMB,
        word(block, 3) >> 2 & LIMB,
        word(block, 6) >> 4 & LIMB,
        word(block, 9) >> 6,
        word(block, 12) >> 8 | top,
    ]
}

impl Poly1305 {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let mut r = [0; 16];
        r.copy_from_slice(&key[..16]);
        for at in [3, 7, 11, 15] {
            r[at] &= 0x0f;
        }
        for at in [4, 8, 12] {
            r[at] &= 0xfc;
        }
        let poly = Self { r: limbs(&r, 0), h: [0; 5], s: [16, 20, 24, 28].map(|at| word(key, at)) };
        r.zeroize();
        poly
    }

    /// Adds `bytes`, padded with zeros to whole blocks.
    pub(crate) fn update_padded(&mut self, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks();
        blocks.iter().for_each(|block| self.block(limbs(block, 1 << 24)));
        if !rest.is_empty() {
            let mut last = [0; 16];
            last[..rest.len()].copy_from_slice(rest);
            self.block(limbs(&last, 1 << 24));
        }
    }

    #[inline(always)]
    fn block(&mut self, block: [u32; 5]) {
        let r = self.r;
        // 2^130 is 5.
        let s = [0, r[1] * 5, r[2] * 5, r[3] * 5, r[4] * 5];
        let h: [u32; 5] = core::array::from_fn(|at| self.h[at] + block[at]);
        let mul = |one: u32, other: u32| u64::from(one) * u64::from(other);
        let d0 = mul(h[0], r[0]) + mul(h[1], s[4]) + mul(h[2], s[3]) + mul(h[3], s[2]) + mul(h[4], s[1]);
        let d1 = mul(h[0], r[1]) + mul(h[1], r[0]) + mul(h[2], s[4]) + mul(h[3], s[3]) + mul(h[4], s[2]);
        let d2 = mul(h[0], r[2]) + mul(h[1], r[1]) + mul(h[2], r[0]) + mul(h[3], s[4]) + mul(h[4], s[3]);
        let d3 = mul(h[0], r[3]) + mul(h[1], r[2]) + mul(h[2], r[1]) + mul(h[3], r[0]) + mul(h[4], s[4]);
        let d4 = mul(h[0], r[4]) + mul(h[1], r[3]) + mul(h[2], r[2]) + mul(h[3], r[1]) + mul(h[4], r[0]);
        let mut carry = 0;
        for (place, d) in self.h.iter_mut().zip([d0, d1, d2, d3, d4]) {
            let d = d + u64::from(carry);
            carry = low(d >> 26);
            *place = low(d) & LIMB;
        }
        self.h[0] += carry * 5;
        self.h[1] += self.h[0] >> 26;
        self.h[0] &= LIMB;
    }

    /// The tag. Call it only once.
    pub(crate) fn tag(&mut self) -> [u8; 16] {
        let mut h = self.h;
        for _ in 0..2 {
            carry(&mut h);
        }
        // h - (2^130 - 5), if that is not negative.
        let mut reduced = h;
        reduced[0] += 5;
        let is_less = carry_out(&mut reduced).wrapping_sub(1);
        for (one, other) in h.iter_mut().zip(reduced) {
            *one = (*one & is_less) | (other & !is_less);
        }
        let words = [h[0] | h[1] << 26, h[1] >> 6 | h[2] << 20, h[2] >> 12 | h[3] << 14, h[3] >> 18 | h[4] << 8];
        let mut tag = [0; 16];
        let mut carry = 0;
        for ((place, word), s) in tag.as_chunks_mut().0.iter_mut().zip(words).zip(self.s) {
            let sum = u64::from(word) + u64::from(s) + carry;
            *place = low(sum).to_le_bytes();
            carry = sum >> 32;
        }
        h.zeroize();
        tag
    }
}

/// The lower half.
#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
const fn low(number: u64) -> u32 {
    number as u32
}

/// Carries from limb to limb; returns the bits above bit 130.
fn carry_out(h: &mut [u32; 5]) -> u32 {
    let mut carry = 0;
    for limb in h {
        *limb += carry;
        carry = *limb >> 26;
        *limb &= LIMB;
    }
    carry
}

fn carry(h: &mut [u32; 5]) {
    h[0] += carry_out(h) * 5;
}

impl Drop for Poly1305 {
    fn drop(&mut self) {
        self.r.zeroize();
        self.h.zeroize();
        self.s.zeroize();
    }
}

/// The tag of only a message, whose last block is not padded.
#[cfg(test)]
pub(crate) fn tag_of(key: &[u8; 32], message: &[u8]) -> [u8; 16] {
    let mut poly = Poly1305::new(key);
    let (blocks, rest) = message.as_chunks::<16>();
    blocks.iter().for_each(|block| poly.update_padded(block));
    if !rest.is_empty() {
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        last[rest.len()] = 1;
        poly.block(limbs(&last, 0));
    }
    poly.tag()
}
