//! The vectors of a chip's interrupts: each leads to the image's `DefaultHandler`. As many as the chip has: cortex-m-rt's own
//! table has 240, which is 800 bytes of flash for nothing.

use crate::board::INTERRUPTS;

/// A vector.
type Vector = unsafe extern "C" fn();

// SAFETY: cortex-m-rt makes it of the image's handler.
unsafe extern "C" {
    fn DefaultHandler();
}

/// The name and the place are cortex-m-rt's.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".vector_table.interrupts")]
static __INTERRUPTS: [Vector; INTERRUPTS] = [DefaultHandler; INTERRUPTS];
