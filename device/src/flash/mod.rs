//! Files on flash.

mod card;
mod medium;

pub use card::{Card, CardFlash, SECTOR};
pub use medium::{Flash, FlashError, Geometry};
