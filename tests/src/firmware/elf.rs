//! The sizes of an image in flash and in RAM, from the sections of its ELF file.

use core::ops::Range;
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
const LOAD: usize = 1;
const NO_BITS: u32 = 8;

/// Measures the image in a file: 32-bit ELF, little-endian.
///
/// # Errors
/// It can't be read, or is not such a file.
pub fn sizes(path: &Path) -> io::Result<Sizes> {
    measured(path, |section| section.flags & WRITE != 0)
}

/// The same for an image with code that runs in RAM. `ram`: the addresses of the RAM.
///
/// # Errors
/// As [`sizes`].
pub fn sizes_in(path: &Path, ram: &Range<u32>) -> io::Result<Sizes> {
    // A section that is neither writable nor loaded only reserves room for the stack.
    let is_used = |section: &Section| section.flags & WRITE != 0 || section.kind != NO_BITS;
    measured(path, |section| ram.contains(&section.address) && is_used(section))
}

fn measured(path: &Path, is_in_ram: impl Fn(&Section) -> bool) -> io::Result<Sizes> {
    let file = fs::read(path)?;
    measure(&file, is_in_ram)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{}: no image", path.display())))
}

/// The bytes of an image as they are in flash, from its lowest address on.
///
/// # Errors
/// As [`sizes`].
pub fn flat(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::read(path)?;
    segments(&file).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{}: no image", path.display())))
}

fn segments(file: &[u8]) -> Option<Vec<u8>> {
    file.strip_prefix(b"\x7fELF\x01\x01")?;
    let word = |at: usize| Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?) as usize);
    let half = |at: usize| Some(usize::from(u16::from_le_bytes(file.get(at..at + 2)?.try_into().ok()?)));
    let (table, entry, count) = (word(28)?, half(42)?, half(44)?);
    let mut pieces = Vec::new();
    for header in (0..count).map(|at| table + at * entry) {
        let (kind, offset, address, size) = (word(header)?, word(header + 4)?, word(header + 12)?, word(header + 16)?);
        if kind == LOAD && size > 0 {
            pieces.push((address, file.get(offset..offset + size)?));
        }
    }
    let base = pieces.iter().map(|(address, _)| *address).min()?;
    let mut image = Vec::new();
    for (address, piece) in pieces {
        let at = address - base;
        image.resize(image.len().max(at + piece.len()), 0);
        image[at..at + piece.len()].copy_from_slice(piece);
    }
    Some(image)
}

/// A section that takes memory.
struct Section {
    kind: u32,
    flags: u32,
    address: u32,
}

fn measure(file: &[u8], is_in_ram: impl Fn(&Section) -> bool) -> Option<Sizes> {
    file.strip_prefix(b"\x7fELF\x01\x01")?;
    let word =
        |at: usize| file.get(at..at + 4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let half = |at: usize| file.get(at..at + 2).map(|bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])));
    let (table, entry, count) = (word(32)? as usize, half(46)?, half(48)?);
    let mut sizes = Sizes { flash: 0, ram: 0 };
    for at in 0..count {
        let header = table + at * entry;
        let size = u64::from(word(header + 20)?);
        let section = Section { kind: word(header + 4)?, flags: word(header + 8)?, address: word(header + 12)? };
        let Section { kind, flags, .. } = section;
        if flags & ALLOC == 0 {
            continue;
        }
        if kind != NO_BITS {
            sizes.flash += size;
        }
        if is_in_ram(&section) {
            sizes.ram += size;
        }
    }
    Some(sizes)
}
