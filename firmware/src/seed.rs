//! What survives a reset without power being cut: a count of starts, and a word from the start before. And a number that is
//! different at each start, for a chip without a source of randomness.

use core::cell::UnsafeCell;
use core::ptr;

use cortex_m::peripheral::SYST;

use crate::clock;

/// Memory that startup leaves alone. After power-on it holds anything, on most chips something else each time.
struct Kept(UnsafeCell<[u32; 2]>);

// SAFETY: there is one thread, and no handler uses it.
unsafe impl Sync for Kept {}

#[unsafe(link_section = ".uninit.kept")]
static KEPT: Kept = Kept(UnsafeCell::new([0; 2]));

impl Kept {
    fn read(&self, at: usize) -> u32 {
        // SAFETY: within the array, and bytes of any value are a number.
        unsafe { ptr::read_volatile(self.0.get().cast::<u32>().add(at % 2)) }
    }

    fn write(&self, at: usize, value: u32) {
        // SAFETY: within the array, and nobody has a reference to it.
        unsafe { ptr::write_volatile(self.0.get().cast::<u32>().add(at % 2), value) }
    }
}

/// What the next start is to do, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Once {
    /// Erase the card.
    Format = 0x4572_6173,
}

impl Once {
    /// For the next start.
    pub fn set(self) {
        KEPT.write(1, self as u32);
    }

    /// True if the start before has set it.
    pub fn take(self) -> bool {
        let set = KEPT.read(1) == self as u32;
        KEPT.write(1, 0);
        set
    }
}

/// Makes a number of what there is: that of the settings, the address, the count of starts, the time it took so far. It is
/// no secret.
pub fn mix(settings: u64, mac: [u8; 6]) -> u64 {
    let starts = KEPT.read(0).wrapping_add(1);
    KEPT.write(0, starts);
    let [a, b, c, d, e, f] = mac;
    let parts = [
        settings,
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
        starts.into(),
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
