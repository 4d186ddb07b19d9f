//! The store: on the SD card with the feature `card`, on NOR flash with the feature `nor`, else in RAM.

#[cfg(feature = "card")]
mod card;
#[cfg(feature = "nor")]
mod nor;
#[cfg(not(any(feature = "card", feature = "nor")))]
mod ram;

#[cfg(feature = "card")]
pub use card::*;
#[cfg(feature = "nor")]
pub use nor::*;
#[cfg(not(any(feature = "card", feature = "nor")))]
pub use ram::*;

/// The longest name in bytes.
pub const NAME: usize = 64;
