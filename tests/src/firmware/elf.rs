//! The sizes of an image in flash and in RAM, from the sections of its ELF file.

use std::fs;
use std::io;
use std::path::Path;

/// Bytes of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// In flash: code, constants, and the initial values of variables.
    pub flash: u64,
    /// Variables, without the stack.
    pub ram: u64,
}

const ALLOC: u32 = 1 << 1;
const WRITE: u32 = 1 << 0;
const NO_BITS: u32 = 8;

/// Measures the image in a file: ELF of 32 bits, little-endian.
///
/// # Errors
/// It can't be read, or is not such a file.
pub fn sizes(path: &Path) -> io::Result<Sizes> {
    let file = fs::read(path)?;
    measure(&file).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{}: no image", path.display())))
}

fn measure(file: &[u8]) -> Option<Sizes> {
    file.strip_prefix(b"\x7fELF\x01\x01")?;
    let word =
        |at: usize| file.get(at..at + 4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let half = |at: usize| file.get(at..at + 2).map(|bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])));
    let (table, entry, count) = (word(32)? as usize, half(46)?, half(48)?);
    let mut sizes = Sizes { flash: 0, ram: 0 };
    for at in 0..count {
        let header = table + at * entry;
        let (kind, flags, size) = (word(header + 4)?, word(header + 8)?, u64::from(word(header + 20)?));
        if flags & ALLOC == 0 {
            continue;
        }
        if kind != NO_BITS {
            sizes.flash += size;
        }
        if flags & WRITE != 0 {
            sizes.ram += size;
        }
    }
    Some(sizes)
}
