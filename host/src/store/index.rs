//! The index: checksums kept across restarts of the server, until the next boot, so that the next server need not read
//! large files again.
//!
//! It is the file `checksums` in the store's staging directory, where no client and no sweep of stages sees it. The
//! next store reads the first index that it finds, whichever store wrote it. It is written under another name and then
//! renamed, but not synced: an index that is incomplete, damaged or owned by another user is ignored. So is one from
//! before the last boot: a power cut may have left files with content and times of different versions.
//!
//! | bytes | content |
//! |---|---|
//! | 16 | the magic word and the version of the format |
//! | 16 | the kernel's identifier of the boot |
//! | 16 | the secret of the hashes |
//! | 12 each | hash of a version of a file (8 bytes), its CRC-32C (4 bytes); all numbers are little-endian |
//! | 4 | CRC-32C of everything before |

use core::hash::BuildHasher;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, openat, renameat};
use rustix::process::geteuid;
use skiff_proto::crc::crc32c;

use super::meta::{Kind, Meta};
use super::slot::{self, CHECKSUMS, Slot};

const NAME: &str = CHECKSUMS[0];
const NEW: &str = CHECKSUMS[1];
/// The maximum number of checksums. In memory, they take 1 MiB.
pub(super) const MOST: usize = 65_536;
const MAGIC: &[u8; 16] = b"skiff checksum 1";
const HEAD: usize = MAGIC.len() + 16 + 16;
const RECORD: usize = 12;
const MAX_LEN: usize = HEAD + MOST * RECORD + 4;

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// Not 0.
    pub(super) hash: u64,
    pub(super) crc: u32,
}

/// The content of an index, checked.
#[derive(Debug)]
pub(super) struct Index(Vec<u8>);

/// Where, and until when, inode number, size and times identify a version of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scope {
    /// The kernel's identifier of this boot.
    pub(super) boot: [u8; 16],
    pub(super) device: u64,
}

impl Scope {
    /// That of the file system of `root`; `None` for those that reuse inode numbers and have coarse times, such as FAT
    /// and many network file systems.
    #[cfg(target_os = "linux")]
    pub(super) fn of(root: BorrowedFd<'_>) -> Option<Self> {
        use super::magic::{BCACHEFS, BTRFS, EXT, F2FS, TMPFS, XFS, of};
        let possible = matches!(of(root), Some(EXT | XFS | BTRFS | F2FS | BCACHEFS | TMPFS));
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().filter(|_| possible)?;
        let boot = u128::from_str_radix(&boot.trim().replace('-', ""), 16).ok()?.to_be_bytes();
        Some(Self { boot, device: Meta::of(root).ok()?.dev() })
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) const fn of(_root: BorrowedFd<'_>) -> Option<Self> {
        None
    }
}

/// A random secret for the hashes, for a store without an index.
pub(super) fn random() -> [u64; 2] {
    let state = RandomState::new();
    [0, 1].map(|half| state.hash_one(half))
}

impl Index {
    pub(super) fn new(boot: [u8; 16], secret: [u64; 2], known: impl Iterator<Item = Known>) -> Self {
        let mut bytes = [*MAGIC, boot].concat();
        secret.iter().for_each(|half| bytes.extend(half.to_le_bytes()));
        for Known { hash, crc } in known {
            bytes.extend(hash.to_le_bytes());
            bytes.extend(crc.to_le_bytes());
        }
        bytes.extend(crc32c(&bytes).to_le_bytes());
        Self(bytes)
    }

    pub(super) fn parse(bytes: Vec<u8>, boot: [u8; 16]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let records = body.strip_prefix(MAGIC)?.strip_prefix(&boot)?.len().checked_sub(16)?;
        let good = records.is_multiple_of(RECORD) && bytes.len() <= MAX_LEN && crc32c(body) == u32::from_le_bytes(*crc);
        good.then_some(Self(bytes))
    }

    pub(super) fn secret(&self) -> [u64; 2] {
        let half = |at: usize| u64::from_le_bytes(*self.0[at..].first_chunk().unwrap_or(&[0; 8]));
        [half(HEAD - 16), half(HEAD - 8)]
    }

    /// The entries, in order.
    pub(super) fn known(&self) -> impl Iterator<Item = Known> {
        let (records, _) = self.0[HEAD..].as_chunks::<RECORD>();
        let known = records.iter().map(|record| {
            let [a, b, c, d, e, f, g, h, crc @ ..] = *record;
            Known { hash: u64::from_le_bytes([a, b, c, d, e, f, g, h]), crc: u32::from_le_bytes(crc) }
        });
        known.filter(|known| known.hash != 0)
    }

    /// The first index of this boot in the staging directories of `root`.
    pub(super) fn read(root: BorrowedFd<'_>, boot: [u8; 16]) -> Option<Self> {
        slot::names().find_map(|slot| Self::parse(Self::read_from(root, &slot)?, boot))
    }

    fn read_from(root: BorrowedFd<'_>, slot: &str) -> Option<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let dir = openat(root, slot, flags | OFlags::DIRECTORY, Mode::empty()).ok()?;
        let file = openat(dir, NAME, flags, Mode::empty()).ok()?;
        let meta = Meta::of(&file).ok()?;
        // Another user could claim any checksum for this user's files.
        let len = usize::try_from(meta.size()).ok().filter(|len| *len <= MAX_LEN)?;
        if meta.kind != Kind::File || meta.uid != geteuid().as_raw() {
            return None;
        }
        let mut bytes = Vec::with_capacity(len + 1);
        File::from(file).take(MAX_LEN as u64 + 1).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Writes it to a staging directory. If that fails, the old index stays.
    pub(super) fn write(&self, slot: &Slot) -> io::Result<()> {
        // A leftover of a server that was killed.
        _ = slot.remove(NEW);
        let written = slot.create(NEW).map_err(io::Error::from).and_then(|mut file| file.write_all(&self.0));
        let written = written.and_then(|()| Ok(renameat(slot, NEW, slot, NAME)?));
        written.inspect_err(|_| _ = slot.remove(NEW))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_index_is_rejected() {
        let known = [Known { hash: 1 << 40, crc: 2 }, Known { hash: 3, crc: u32::MAX }];
        let Index(bytes) = Index::new([7; 16], [4, 5], known.into_iter());
        let index = Index::parse(bytes.clone(), [7; 16]).unwrap();
        assert_eq!((index.secret(), index.known().collect::<Vec<_>>()), ([4, 5], known.to_vec()));
        assert!(Index::parse(bytes.clone(), [8; 16]).is_none(), "of another boot");
        for at in 0..bytes.len() {
            assert!(Index::parse(bytes[..at].to_vec(), [7; 16]).is_none(), "{at}");
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Index::parse(damaged, [7; 16]).is_none(), "{at}");
        }
        let many = (0..=MOST as u64).map(|number| Known { hash: number + 1, crc: 0 });
        assert!(Index::parse(Index::new([7; 16], [0; 2], many).0, [7; 16]).is_none());
    }
}
