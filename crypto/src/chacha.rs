//! ChaCha20 (RFC 8439, section 2.4).

use zeroize::Zeroizing;

/// The key stream of a key and a nonce, from block 0 on. Erased on drop.
pub(crate) struct ChaCha20(Zeroizing<[u32; 16]>);

/// The index of the block counter.
const COUNTER: usize = 12;

impl ChaCha20 {
    pub(crate) fn new(key: &[u8; 32], nonce: &[u8; 12]) -> Self {
        let mut state = Zeroizing::new([0; 16]);
        state[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
        let words = key.as_chunks().0.iter().chain([&[0; 4]]).chain(nonce.as_chunks().0);
        for (place, word) in state[4..].iter_mut().zip(words) {
            *place = u32::from_le_bytes(*word);
        }
        Self(state)
    }

    /// Encrypts or decrypts `text` with the next blocks. Only in the last call may the length of `text` not be a
    /// multiple of the block length.
    pub(crate) fn apply(&mut self, text: &mut [u8]) {
        let (blocks, rest) = text.as_chunks_mut::<64>();
        for block in blocks {
            let stream = self.next();
            for (place, word) in block.as_chunks_mut::<4>().0.iter_mut().zip(stream) {
                *place = (u32::from_le_bytes(*place) ^ word).to_le_bytes();
            }
        }
        if !rest.is_empty() {
            let stream = self.next().map(u32::to_le_bytes);
            rest.iter_mut().zip(stream.as_flattened()).for_each(|(byte, key)| *byte ^= key);
        }
    }

    fn next(&mut self) -> [u32; 16] {
        let mut x = *self.0;
        for _ in 0..10 {
            quarter_round(&mut x, [0, 4, 8, 12]);
            quarter_round(&mut x, [1, 5, 9, 13]);
            quarter_round(&mut x, [2, 6, 10, 14]);
            quarter_round(&mut x, [3, 7, 11, 15]);
            quarter_round(&mut x, [0, 5, 10, 15]);
            quarter_round(&mut x, [1, 6, 11, 12]);
            quarter_round(&mut x, [2, 7, 8, 13]);
            quarter_round(&mut x, [3, 4, 9, 14]);
        }
        for (word, state) in x.iter_mut().zip(*self.0) {
            *word = word.wrapping_add(state);
        }
        self.0[COUNTER] = self.0[COUNTER].wrapping_add(1);
        x
    }
}

#[inline(always)]
fn quarter_round(x: &mut [u32; 16], [a, b, c, d]: [usize; 4]) {
    for (rotate_d, rotate_b) in [(16, 12), (8, 7)] {
        x[a] = x[a].wrapping_add(x[b]);
        x[d] = (x[d] ^ x[a]).rotate_left(rotate_d);
        x[c] = x[c].wrapping_add(x[d]);
        x[b] = (x[b] ^ x[c]).rotate_left(rotate_b);
    }
}
