//! An entropy pool for a device whose chip has no random number generator.

use zeroize::Zeroizing;

use super::hash::{Bytes, hash, keyed};

/// Collects samples that are hard to predict, in any form, and produces numbers for
/// [`Entropy::Pool`](super::Entropy::Pool).
///
/// They are as unpredictable as all samples so far taken together. The content of the pool does not reveal earlier
/// outputs.
pub struct Pool(Zeroizing<Bytes>);

impl Pool {
    /// An empty pool: its output is predictable.
    #[must_use]
    pub fn new() -> Self {
        Self(Zeroizing::new([0; 32]))
    }

    /// Stirs `sample` in.
    pub fn stir(&mut self, sample: &[u8]) {
        *self.0 = hash(&[&*self.0, sample]);
    }

    /// Returns different bytes each time.
    #[must_use]
    pub fn draw(&mut self) -> [u8; 32] {
        let drawn = *keyed(&self.0, &[b"skiff/1 draw"]);
        self.stir(b"");
        drawn
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for Pool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Pool")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_changes_all_that_is_drawn_and_nothing_is_drawn_twice() {
        let mut drawn = std::vec::Vec::new();
        for samples in [&[][..], &[&b"a"[..]], &[b"b"], &[b"a", b"b"], &[b"b", b"a"]] {
            let mut pool = Pool::new();
            samples.iter().for_each(|sample| pool.stir(sample));
            drawn.extend([pool.draw(), pool.draw()]);
        }
        for (at, one) in drawn.iter().enumerate() {
            assert!(!drawn[..at].contains(one));
        }
    }
}
