//! Where downloads go.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use skiff_proto::crc::Crc32c;

pub(super) use crate::wire::PIECE;

/// Where downloads go.
#[derive(Debug)]
pub(crate) enum Sink {
    Nowhere,
    File(File),
    /// Only its checksum is kept.
    Sum(Crc32c),
}

impl Sink {
    pub(super) fn new(to: Option<&Path>, sum: bool) -> io::Result<Self> {
        Ok(match to {
            Some(path) => Self::File(File::create_new(path)?),
            None if sum => Self::Sum(Crc32c::new()),
            None => Self::Nowhere,
        })
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::File(file) => file.write_all(bytes),
            Self::Sum(crc) => {
                crc.update(bytes);
                Ok(())
            }
        }
    }
}
