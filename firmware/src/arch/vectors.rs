//! The interrupt vectors of a chip: each points to the image's `DefaultHandler`. There are only as many as the chip
//! has, because cortex-m-rt's own table has 240, which would waste 800 bytes of flash.

use crate::board::INTERRUPTS;

/// A vector.
type Vector = unsafe extern "C" fn();

// SAFETY: cortex-m-rt makes it of the image's handler.
unsafe extern "C" {
    fn DefaultHandler();
}

/// The name and the section are those of cortex-m-rt.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".vector_table.interrupts")]
static __INTERRUPTS: [Vector; INTERRUPTS] = [DefaultHandler; INTERRUPTS];
