//! The store: on the SD card with the feature `card`, else in RAM.

#[cfg(feature = "card")]
mod card;
#[cfg(not(feature = "card"))]
mod ram;

#[cfg(feature = "card")]
pub use card::*;
#[cfg(not(feature = "card"))]
pub use ram::*;

/// The longest name in bytes.
pub const NAME: usize = 64;
