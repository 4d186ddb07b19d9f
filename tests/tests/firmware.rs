//! The images for microcontrollers, on boards under QEMU.
//!
//! Without `qemu-system-arm`, or without a way to build for the target that is there already, there is one ignored test in
//! their place, which says what to install: see `build.rs`.

#![cfg_attr(firmware, expect(clippy::unwrap_used, reason = "these are tests"))]

#[cfg(not(firmware))]
include!(concat!(env!("OUT_DIR"), "/left_out.rs"));

#[cfg(firmware)]
#[path = "firmware/boards.rs"]
mod boards;
