//! The store: on the SD card with the feature `card`, on NOR flash with the feature `nor`, otherwise in RAM.

#[cfg(any(feature = "card", feature = "nor"))]
use skiff_device::flash::MountError;

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

/// Why a store can't be opened, for the log.
#[cfg(any(feature = "card", feature = "nor"))]
const fn what(error: MountError) -> &'static str {
    match error {
        MountError::Medium => "I/O error",
        MountError::Geometry => "too small",
        MountError::Foreign => "holds other data",
        MountError::Other => "formatted with different parameters",
        MountError::Damaged => "data damaged",
        MountError::TooManyFiles => "too many files",
    }
}
