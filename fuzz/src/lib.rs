//! What the fuzz targets share: input that is read as operations, and frames.

pub mod conversation;
pub mod frames;
pub mod script;
