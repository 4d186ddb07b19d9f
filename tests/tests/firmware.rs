//! The images for microcontrollers, on boards under QEMU.
//!
//! Without `qemu-system-arm`, or if the Rust target is not installed, one ignored test replaces them, with a message
//! that says what to install: see `build.rs`.

#![cfg_attr(firmware, expect(clippy::unwrap_used, reason = "these are tests"))]

#[cfg(not(all(firmware, firmware_riscv)))]
include!(concat!(env!("OUT_DIR"), "/left_out.rs"));

#[cfg(firmware)]
#[path = "firmware/boards.rs"]
mod boards;
