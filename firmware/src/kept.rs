//! Data that survives a warm reset: a count of starts, and a word from the previous start.

use core::cell::UnsafeCell;
use core::ptr;

/// Memory that startup does not initialize. After power-on its content is undefined, on most chips different each time.
struct Kept(UnsafeCell<[u32; LEN]>);

const LEN: usize = 3;

// SAFETY: there is one thread, and no handler uses it.
unsafe impl Sync for Kept {}

#[unsafe(link_section = ".uninit.kept")]
static KEPT: Kept = Kept(UnsafeCell::new([0; LEN]));

impl Kept {
    fn read(&self, at: usize) -> u32 {
        // SAFETY: within the array, and bytes of any value are a valid number.
        unsafe { ptr::read_volatile(self.0.get().cast::<u32>().add(at % LEN)) }
    }

    fn write(&self, at: usize, value: u32) {
        // SAFETY: within the array, and no reference to it exists.
        unsafe { ptr::write_volatile(self.0.get().cast::<u32>().add(at % LEN), value) }
    }
}

/// A request to the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Once {
    /// Erase the card.
    Format = 0x4572_6173,
}

impl Once {
    /// Sets the request for the next start.
    pub fn set(self) {
        KEPT.write(1, self as u32);
        KEPT.write(2, !(self as u32));
    }

    /// True if the previous start has set it; clears it.
    pub fn take(self) -> bool {
        // Twice, so that random memory after power-on does not match.
        let set = KEPT.read(1) == self as u32 && KEPT.read(2) == !(self as u32);
        KEPT.write(1, 0);
        set
    }
}

/// Counts the starts; returns the number of this one.
pub(crate) fn starts() -> u32 {
    let starts = KEPT.read(0).wrapping_add(1);
    KEPT.write(0, starts);
    starts
}
