//! The stack usage. The startup code has painted the stack.

use core::ptr::{addr_of, with_exposed_provenance};

/// The pattern of cortex-m-rt.
const PAINT: u32 = 0xcccc_cccc;

// SAFETY: the linker's script defines them; only their addresses count.
unsafe extern "C" {
    static _ram_start: u32;
    static __sheap: u32;
    #[cfg(feature = "secure")]
    static _ram_end: u32;
    static _stack_end: u32;
    static _stack_start: u32;
}

/// The content of unused memory, up to 16 KiB. On most chips, it is different at each power-on.
#[cfg(feature = "secure")]
pub fn unused() -> impl Iterator<Item = [u8; 64]> {
    const MOST: usize = 16 * 1024;
    let (start, end) = (addr_of!(__sheap).addr(), addr_of!(_ram_end).addr());
    (start..end.min(start + MOST)).step_by(64).map(move |piece| {
        core::array::from_fn(|at| {
            let address = (piece + at).min(end - 1);
            // SAFETY: memory of this chip that nobody has, and bytes of any value are a number.
            unsafe { with_exposed_provenance::<u8>(address).read_volatile() }
        })
    })
}

/// RAM usage in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Statics.
    pub fixed: usize,
    /// The highest stack usage so far.
    pub stack: usize,
    /// The size of the stack.
    pub room: usize,
}

/// The current usage. Scans the unused part of the stack.
#[inline(never)]
pub fn usage() -> Usage {
    let fixed = addr_of!(__sheap).addr() - addr_of!(_ram_start).addr();
    let (end, start) = (addr_of!(_stack_end).addr(), addr_of!(_stack_start).addr());
    let painted = (end..start).step_by(4).take_while(|&address| {
        // SAFETY: the stack's memory below the stack pointer: nobody has it.
        unsafe { with_exposed_provenance::<u32>(address).read_volatile() == PAINT }
    });
    let room = start - end;
    Usage { fixed, stack: room - 4 * painted.count(), room }
}
