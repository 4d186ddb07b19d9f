//! What the fuzz targets share: input that is read as operations, frames, and the flash that loses power.

pub mod conversation;
pub mod frames;
pub mod script;

/// The simulated media of the tests, by themselves: without all that the tests depend on.
#[path = "../../tests/src/flash/mod.rs"]
pub mod flash;
