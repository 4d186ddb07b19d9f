//! A number that is different at each start, for a chip without a source of randomness.

use cortex_m::peripheral::SYST;

use crate::{clock, kept};

/// Makes a number of what there is: that of the settings, the address, the count of starts, the time it took so far. It is
/// no secret.
pub fn mix(settings: u64, mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    let parts = [
        settings,
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
        kept::starts().into(),
        u64::from(clock::millis()) << 24 | u64::from(SYST::get_current()),
    ];
    // The finalizer of splitmix64: each bit of a part changes half of those of the result.
    parts.iter().fold(0, |mixed: u64, part| {
        let mut x = (mixed ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    })
}
