//! The metadata of a file: the part of `stat` that the store needs.

use core::time::Duration;
use std::os::fd::AsFd;
use std::time::SystemTime;

use rustix::fs::{AtFlags, FileType, fstat, statat};
use rustix::io::Errno;
use skiff_proto::reply::Tag;
use skiff_proto::store::Stat;
use skiff_proto::{ErrorCode, Refusal};

/// How old a change must be so that the next one certainly gets a different time: the clock of file systems ticks in
/// steps of up to 10 ms, on some media (FAT) of 2 s.
const TICK: Duration = Duration::from_secs(2);

/// The type of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, FIFO or socket, which is not served.
    Other,
}

/// One version of a file. Two versions have the same key only if they were written within one tick of the file system's
/// clock and have the same length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, u32),
    ctime: (i64, u32),
}

/// The fields of `stat` that the store uses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    pub(super) kind: Kind,
    /// Permissions, without the set-user-ID, set-group-ID and sticky bits.
    pub(super) mode: u32,
    /// Entries created in this directory inherit its group.
    pub(super) setgid: bool,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u64,
    pub(super) key: Key,
}

impl Meta {
    /// The metadata of an open file or directory.
    pub(super) fn of(file: impl AsFd) -> Result<Self, Errno> {
        fstat(file).map(|stat| Self::from(&stat))
    }

    /// The metadata of an entry of `dir`; does not follow it if it is a link.
    pub(super) fn at(dir: impl AsFd, name: &str) -> Result<Self, Errno> {
        statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| Self::from(&stat))
    }

    pub(super) const fn size(&self) -> u64 {
        self.key.size
    }

    pub(super) const fn dev(&self) -> u64 {
        self.key.dev
    }

    pub(super) const fn ino(&self) -> u64 {
        self.key.ino
    }

    /// Seconds since 1970; `None` before.
    pub(super) fn mtime(&self) -> Option<u64> {
        u64::try_from(self.key.mtime.0).ok()
    }

    pub(super) fn stat(&self, crc: Option<u32>) -> Stat {
        Stat { size: self.size(), mtime: self.mtime(), crc }
    }

    /// Whether a later change of the content will certainly change the key.
    pub(super) fn is_settled(&self) -> bool {
        let (Ok(secs), nanos) = (u64::try_from(self.key.ctime.0), self.key.ctime.1) else { return true };
        let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::new(secs, nanos));
        // A time in the future proves nothing: the clock has been set back and will reach it again.
        changed.is_some_and(|changed| SystemTime::now().duration_since(changed).is_ok_and(|age| age >= TICK))
    }

    /// How long ago the content changed; zero for a time in the future.
    pub(super) fn age(&self) -> Duration {
        let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.mtime().unwrap_or(0)));
        changed.and_then(|changed| SystemTime::now().duration_since(changed).ok()).unwrap_or_default()
    }

    /// The metadata if readers may open this; otherwise the refusal.
    pub(super) fn served(self) -> Result<Self, Refusal> {
        match self.kind {
            Kind::File => Ok(self),
            Kind::Directory => Err(ErrorCode::IsDirectory.into()),
            Kind::Link | Kind::Other => Err(ErrorCode::NotFound.into()),
        }
    }
}

impl Key {
    pub(super) const fn dev(&self) -> u64 {
        self.dev
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Whether it is the same file, possibly in another version.
    pub(super) const fn same_file(&self, other: &Self) -> bool {
        self.dev == other.dev && self.ino == other.ino
    }

    /// Whether it has the same content, as far as size and time tell. Its names may have changed.
    pub(super) fn same_content(&self, other: &Self) -> bool {
        (self.size, self.mtime) == (other.size, other.mtime)
    }

    /// A tag for this version.
    pub(super) fn tag(&self) -> Tag {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let words = [
            self.dev,
            self.ino,
            self.size,
            self.mtime.0.cast_unsigned(),
            self.mtime.1.into(),
            self.ctime.0.cast_unsigned(),
            self.ctime.1.into(),
        ];
        // Versions differ in few bits, so each word is mixed well (the finalizer of splitmix64). Not a secret, not a
        // defence: an attacker who can choose inode numbers and times of the server's files needs no collision.
        for word in words {
            hash = (hash ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
            hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            hash ^= hash >> 31;
        }
        Tag::from_number(hash)
    }
}

impl From<&rustix::fs::Stat> for Meta {
    fn from(stat: &rustix::fs::Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        };
        let key = Key {
            dev: number(stat.st_dev),
            ino: number(stat.st_ino),
            size: number(stat.st_size),
            mtime: (number(stat.st_mtime), number(stat.st_mtime_nsec)),
            ctime: (number(stat.st_ctime), number(stat.st_ctime_nsec)),
        };
        let mode = number::<u32>(stat.st_mode) & 0o777;
        let setgid = number::<u32>(stat.st_mode) & 0o2000 != 0;
        Self { kind, mode, setgid, uid: stat.st_uid, gid: stat.st_gid, links: number(stat.st_nlink), key }
    }
}

/// A field of `stat`: their widths and signs differ between systems.
fn number<N: Default>(field: impl TryInto<N>) -> N {
    field.try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { dev: 1, ino: 2, size: 3, mtime: (4, 5), ctime: (6, 7) };

    #[test]
    fn every_part_of_a_version_changes_its_tag() {
        let tags = [
            KEY,
            Key { dev: 2, ..KEY },
            Key { ino: 1, ..KEY },
            Key { size: 2, ..KEY },
            Key { mtime: (5, 4), ..KEY },
            Key { ctime: (6, 8), ..KEY },
            Key { ctime: (-6, 7), ..KEY },
        ]
        .map(|key| key.tag());
        for (at, tag) in tags.iter().enumerate() {
            assert!(tag.is_known());
            assert!(!tags[..at].contains(tag), "{at}");
        }
    }

    #[test]
    fn a_version_is_settled_when_its_last_change_is_two_seconds_old() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let aged = |seconds: i64| Meta {
            kind: Kind::File,
            mode: 0,
            setgid: false,
            uid: 0,
            gid: 0,
            links: 1,
            key: Key { ctime: (i64::try_from(now.as_secs()).unwrap() - seconds, 0), ..KEY },
        };
        assert!(aged(10).is_settled());
        assert!(!aged(0).is_settled());
        assert!(!aged(-1000).is_settled());
    }
}
