//! A number that is different at each start, and entropy, for a chip without a random number generator.

#[cfg(feature = "secure")]
use skiff_device::server::Entropy;
#[cfg(feature = "secure")]
use skiff_proto::secure::Pool;

#[cfg(feature = "secure")]
use crate::stack;
use crate::{arch, kept};

/// Mixes a number from the settings, the address, the count of starts, and the time since the start. It is not a
/// secret.
pub fn mix(settings: u64, mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    let parts = [
        settings,
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
        kept::starts().into(),
        u64::from(arch::millis()) << 24 | u64::from(arch::cycles()),
    ];
    // The finalizer of splitmix64: each bit of a part changes half of those of the result.
    parts.iter().fold(0, |mixed: u64, part| {
        let mut x = (mixed ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    })
}

/// Entropy collected without a generator: the content of memory at power-on, the times at which clients connect (in
/// processor cycles, within a millisecond), and the setting `seed`.
///
/// For a chip with a generator, implement [`Entropy`] with that; then nothing has to be collected.
#[cfg(feature = "secure")]
#[derive(Debug)]
pub struct Collected(Pool);

#[cfg(feature = "secure")]
impl Collected {
    /// Starts with the content of unused memory. `seed`: see [`mix`].
    #[inline(never)]
    pub fn new(seed: u64) -> Self {
        let mut pool = Pool::new();
        pool.stir(&seed.to_le_bytes());
        for piece in stack::unused() {
            pool.stir(&piece);
        }
        Self(pool)
    }
}

#[cfg(feature = "secure")]
impl Entropy for Collected {
    fn next(&mut self) -> Option<[u8; 32]> {
        let time = [arch::millis(), arch::cycles()].map(u32::to_le_bytes);
        self.0.stir(time.as_flattened());
        Some(self.0.draw())
    }
}
