//! BLAKE2s-256 (RFC 7693).

use zeroize::Zeroize;

use super::Bytes;

const IV: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

const SIGMA: [[u8; 16]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

/// A hash in progress. Erased on drop.
#[derive(Clone)]
pub(crate) struct Blake2s {
    h: [u32; 8],
    block: [u8; 64],
    /// Bytes in the current block, which is compressed when more bytes follow.
    filled: usize,
    /// Bytes before the current block.
    before: u64,
}

impl Blake2s {
    pub(crate) fn new(key: Option<&Bytes>) -> Self {
        let mut h = IV;
        // 32 bytes of hash, a key of so many bytes, sequential.
        h[0] ^= 0x0101_0000 | if key.is_some() { 32 << 8 } else { 0 } | 32;
        let mut block = [0; 64];
        if let Some(key) = key {
            block[..32].copy_from_slice(key);
        }
        Self { h, block, filled: if key.is_some() { 64 } else { 0 }, before: 0 }
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.filled == 64 {
                self.flush();
            }
            let n = bytes.len().min(64 - self.filled);
            self.block[self.filled..self.filled + n].copy_from_slice(&bytes[..n]);
            self.filled += n;
            bytes = &bytes[n..];
        }
    }

    /// Compresses a full block; more bytes follow.
    pub(crate) fn flush(&mut self) {
        self.compress(false);
        self.filled = 0;
    }

    pub(crate) fn finish(&mut self) -> Bytes {
        self.block[self.filled..].fill(0);
        self.compress(true);
        let mut hash = [0; 32];
        for (place, word) in hash.as_chunks_mut().0.iter_mut().zip(self.h) {
            *place = word.to_le_bytes();
        }
        hash
    }

    fn compress(&mut self, last: bool) {
        self.before += self.filled as u64;
        let mut m = [0; 16];
        for (place, word) in m.iter_mut().zip(self.block.as_chunks().0) {
            *place = u32::from_le_bytes(*word);
        }
        let mut v = [0; 16];
        v[..8].copy_from_slice(&self.h);
        v[8..].copy_from_slice(&IV);
        let [a, b, c, d, e, f, g, h] = self.before.to_le_bytes();
        v[12] ^= u32::from_le_bytes([a, b, c, d]);
        v[13] ^= u32::from_le_bytes([e, f, g, h]);
        if last {
            v[14] = !v[14];
        }
        for sigma in &SIGMA {
            let m = |at: usize| m[usize::from(sigma[at] & 15)];
            mix(&mut v, [0, 4, 8, 12], [m(0), m(1)]);
            mix(&mut v, [1, 5, 9, 13], [m(2), m(3)]);
            mix(&mut v, [2, 6, 10, 14], [m(4), m(5)]);
            mix(&mut v, [3, 7, 11, 15], [m(6), m(7)]);
            mix(&mut v, [0, 5, 10, 15], [m(8), m(9)]);
            mix(&mut v, [1, 6, 11, 12], [m(10), m(11)]);
            mix(&mut v, [2, 7, 8, 13], [m(12), m(13)]);
            mix(&mut v, [3, 4, 9, 14], [m(14), m(15)]);
        }
        for (at, h) in self.h.iter_mut().enumerate() {
            *h ^= v[at] ^ v[at + 8];
        }
        m.zeroize();
        v.zeroize();
    }
}

#[inline(always)]
fn mix(v: &mut [u32; 16], [a, b, c, d]: [usize; 4], words: [u32; 2]) {
    for (word, (rotate_d, rotate_b)) in words.into_iter().zip([(16, 12), (8, 7)]) {
        v[a] = v[a].wrapping_add(v[b]).wrapping_add(word);
        v[d] = (v[d] ^ v[a]).rotate_right(rotate_d);
        v[c] = v[c].wrapping_add(v[d]);
        v[b] = (v[b] ^ v[c]).rotate_right(rotate_b);
    }
}

impl Drop for Blake2s {
    fn drop(&mut self) {
        self.h.zeroize();
        self.block.zeroize();
    }
}
