//! Staging directories: `.skiff-stage-0`, `.skiff-stage-1` ... in the root, one for each running store.
//!
//! The file name of a named stage is a hash of the target's name, followed by a number for the client that owns it, if
//! it has an owner. A named stage outlives the store: the next store that takes the slot can resume it. Unnamed stages
//! (`put-` and a number) are removed.

use core::cmp::Reverse;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, fchmod, flock, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;
use sha2::{Digest, Sha256};
use skiff_proto::identity::{NOBODY, StageOwner};

use super::inherit;
use super::meta::{Kind, Meta};
use super::room::take;

/// The maximum number of stores that run on one directory.
const SLOTS: u32 = 16;
const PREFIX: &str = ".skiff-stage-";
pub(super) const UNNAMED_PREFIX: &str = "put-";
/// The files of the saved checksums: the current one, and one that is being written.
pub(super) const CHECKSUMS: [&str; 2] = ["checksums", "checksums-new"];
/// The maximum number of named stages in a slot; beyond it, the oldest interrupted ones are dropped.
const MOST_NAMES: u64 = 10_000;
/// The number of stages that are examined together when room is needed.
const BATCH: usize = 64;

const NEW_FILE: OFlags =
    OFlags::RDWR.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const OLD_FILE: OFlags = OFlags::RDWR.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// The id of a stage: the first 128 bits of the name's SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct StageId([u8; 16]);

/// The file name of a stage: the id in hexadecimal, and `-` and the owner if it has one.
#[derive(Clone, Copy)]
pub(super) struct StageName {
    bytes: [u8; ID_LEN + 1 + OWNER_LEN],
    len: usize,
}

/// Hexadecimal digits of an id.
const ID_LEN: usize = 32;
/// Hexadecimal digits of an owner.
const OWNER_LEN: usize = 16;

/// A staging directory that this store has locked.
#[derive(Debug)]
pub(super) struct Slot {
    dir: OwnedFd,
    number: u32,
    /// Device and inode number.
    inode: (u64, u64),
    /// Bytes staged in it.
    staged: AtomicU64,
    /// Named stages: those found when the directory was last scanned, and those created since then.
    names: AtomicU64,
    /// The owners of named stages. Stages without an owner are not in it.
    owners: Mutex<HashMap<StageId, StageOwner>>,
}

/// The names of all staging directories that a root may have.
pub(super) fn names() -> impl Iterator<Item = String> {
    (0..SLOTS).map(path)
}

/// The name of a staging directory in the root.
fn path(number: u32) -> String {
    format!("{PREFIX}{number}")
}

impl StageId {
    pub(super) fn of(name: &str) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&Sha256::digest(name.as_bytes())[..16]);
        Self(id)
    }

    /// The name of the file in which `owner` stages this name.
    pub(super) fn file_name(self, owner: StageOwner) -> StageName {
        let mut name = StageName { bytes: [b'-'; ID_LEN + 1 + OWNER_LEN], len: ID_LEN };
        hex(&self.0, &mut name.bytes[..ID_LEN]);
        if let Some(number) = owner.number() {
            hex(&number.to_be_bytes(), &mut name.bytes[ID_LEN + 1..]);
            name.len = name.bytes.len();
        }
        name
    }
}

fn hex(bytes: &[u8], out: &mut [u8]) {
    for (digits, byte) in out.chunks_exact_mut(2).zip(bytes) {
        digits[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        digits[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
}

/// Parses a number of lowercase hexadecimal digits.
fn unhex(digits: &str, len: usize) -> Option<u128> {
    let valid = digits.len() == len && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    u128::from_str_radix(digits, 16).ok().filter(|_| valid)
}

/// The stage in a file of this name, and its owner.
fn parse(name: &str) -> Option<(StageId, StageOwner)> {
    let (id, owner) = name.split_once('-').map_or((name, None), |(id, owner)| (id, Some(owner)));
    let id = StageId(unhex(id, ID_LEN)?.to_be_bytes());
    let owner = match owner {
        None => NOBODY,
        Some(digits) => StageOwner::from_number(u64::try_from(unhex(digits, OWNER_LEN)?).ok()?)?,
    };
    Some((id, owner))
}

impl StageName {
    pub(super) fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl Slot {
    /// Takes the first slot that is not locked and cleans it; also cleans those of stores that have ended.
    pub(super) fn claim(root: BorrowedFd<'_>, max_age: Duration) -> Result<Self, Errno> {
        let mut claimed = None;
        for number in 0..SLOTS {
            if claimed.is_some() {
                // Slots of stores that have ended, in which something may have become too old.
                if let Some(other) = Self::lock(root, number, false)? {
                    other.clean(max_age)?;
                    other.remove_if_empty(root);
                }
            } else if let Some(slot) = Self::lock(root, number, true)? {
                slot.clean(max_age)?;
                claimed = Some(slot);
            }
        }
        claimed.ok_or(Errno::NOLCK)
    }

    /// Locks a slot; `None` if another store holds it, or if it does not exist or belongs to another user.
    fn lock(root: BorrowedFd<'_>, number: u32, make: bool) -> Result<Option<Self>, Errno> {
        let name = path(number);
        // Again if the store that held it removed it between opening and locking.
        for _ in 0..16 {
            if make {
                match mkdirat(root, &name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let dir = match openat(root, &name, flags, Mode::empty()) {
                Ok(dir) => dir,
                Err(Errno::NOENT) if make => continue,
                // Not there; or in the way, and not ours to use.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::MLINK | Errno::ACCESS) => return Ok(None),
                Err(errno) => return Err(errno),
            };
            let meta = Meta::of(&dir)?;
            // A directory of another user would expose the staged bytes.
            if meta.uid != geteuid().as_raw() {
                return Ok(None);
            }
            match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(errno) => return Err(errno),
            }
            if Meta::at(root, &name).is_ok_and(|now| now.kind == Kind::Directory && now.ino() == meta.ino()) {
                if meta.mode & 0o077 != 0 || meta.setgid {
                    fchmod(&dir, Mode::RWXU)?;
                }
                // Staged files must not inherit from the root: most belong to other directories.
                inherit::disinherit(&dir);
                let inode = (meta.dev(), meta.ino());
                return Ok(Some(Self {
                    dir,
                    number,
                    inode,
                    staged: AtomicU64::new(0),
                    names: AtomicU64::new(0),
                    owners: Mutex::default(),
                }));
            }
        }
        Ok(None)
    }

    /// Creates an empty file that does not exist yet, with the permissions of the user's umask.
    pub(super) fn create(&self, name: &str) -> Result<std::fs::File, Errno> {
        openat(&self.dir, name, NEW_FILE, Mode::from_raw_mode(0o666)).map(std::fs::File::from)
    }

    /// Opens the bytes staged before.
    pub(super) fn open(&self, name: &str) -> Result<(std::fs::File, Meta), Errno> {
        let file = openat(&self.dir, name, OLD_FILE, Mode::empty())?;
        let meta = Meta::of(&file)?;
        if meta.kind == Kind::File { Ok((file.into(), meta)) } else { Err(Errno::NOENT) }
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), Errno> {
        unlinkat(&self.dir, name, AtFlags::empty())
    }

    /// Removes stages that are too old or can't be resumed; counts the others.
    fn clean(&self, max_age: Duration) -> Result<(), Errno> {
        self.each(|name, stage, meta| match stage {
            Some((id, owner)) if meta.age() <= max_age => {
                self.stage(meta.size());
                self.count_name();
                self.set_owner(id, owner);
            }
            _ => _ = self.remove(name),
        })
    }

    /// The owner of the stage; [`NOBODY`] also if there is none.
    pub(super) fn owner_of(&self, id: StageId) -> StageOwner {
        self.owners().get(&id).copied().unwrap_or(NOBODY)
    }

    /// Sets the owner of the stage; [`NOBODY`] also if there is none.
    pub(super) fn set_owner(&self, id: StageId, owner: StageOwner) {
        let mut owners = self.owners();
        if owner != NOBODY {
            owners.insert(id, owner);
        } else if !owners.is_empty() {
            owners.remove(&id);
        }
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<StageId, StageOwner>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a named stage without a writer.
    pub(super) fn remove_stage(&self, id: StageId) -> Result<(), Errno> {
        self.remove(id.file_name(self.owner_of(id)).as_str())?;
        self.set_owner(id, NOBODY);
        Ok(())
    }

    /// Bytes staged in it.
    pub(super) fn staged(&self) -> u64 {
        self.staged.load(Ordering::Relaxed)
    }

    /// Adds `n` staged bytes.
    pub(super) fn stage(&self, n: u64) {
        self.staged.fetch_add(n, Ordering::Relaxed);
    }

    /// Subtracts `n` staged bytes.
    pub(super) fn unstage(&self, n: u64) {
        take(&self.staged, n);
    }

    /// Records that a named stage was created.
    pub(super) fn count_name(&self) {
        self.names.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it is time to drop some, because there may be [`MOST_NAMES`] named stages.
    pub(super) fn has_most_names(&self) -> bool {
        if self.names.load(Ordering::Relaxed) < MOST_NAMES {
            return false;
        }
        // Most of those have been put in place since.
        let mut names = 0;
        let counted = self.each(|_, stage, _| names += u64::from(stage.is_some()));
        self.names.store(names, Ordering::Relaxed);
        counted.is_ok() && names >= MOST_NAMES
    }

    /// The named stages that `wanted` selects: their total bytes, and at most [`BATCH`] of them, oldest first.
    pub(super) fn oldest(&self, wanted: impl Fn(StageId) -> bool) -> Result<(u64, Vec<(StageId, u64)>), Errno> {
        let mut total = 0;
        let mut oldest: Vec<(Duration, StageId, u64)> = Vec::new();
        let cut = |oldest: &mut Vec<(Duration, StageId, u64)>| {
            oldest.sort_unstable_by_key(|&(age, ..)| Reverse(age));
            oldest.truncate(BATCH);
        };
        self.each(|_, stage, meta| {
            if let Some((id, _)) = stage.filter(|&(id, _)| wanted(id)) {
                total += meta.size();
                oldest.push((meta.age(), id, meta.size()));
                if oldest.len() >= 2 * BATCH {
                    cut(&mut oldest);
                }
            }
        })?;
        cut(&mut oldest);
        Ok((total, oldest.into_iter().map(|(_, id, size)| (id, size)).collect()))
    }

    /// Passes every file that is a stage to `show`, with its id and owner if it is named.
    fn each(&self, mut show: impl FnMut(&str, Option<(StageId, StageOwner)>, &Meta)) -> Result<(), Errno> {
        for entry in Dir::read_from(&self.dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let stage = parse(name);
            if stage.is_none() && !name.starts_with(UNNAMED_PREFIX) {
                continue;
            }
            if let Ok(meta) = Meta::at(&self.dir, name) {
                show(name, stage, &meta);
            }
        }
        Ok(())
    }

    /// The number of this slot, unique among the stores on the same directory.
    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    /// Whether the directory was removed or renamed: another store may have its number.
    pub(super) fn is_gone(&self, root: BorrowedFd<'_>) -> bool {
        match Meta::at(root, &path(self.number)) {
            Ok(now) => (now.dev(), now.ino()) != self.inode,
            Err(errno) => errno == Errno::NOENT,
        }
    }

    /// Removes the staging directory `name` below `root`, if its store has ended and nothing is staged in it.
    pub(super) fn remove_ended(root: BorrowedFd<'_>, name: &str) -> bool {
        let number = name.strip_prefix(PREFIX).and_then(|number| number.parse().ok());
        let Some(slot) = number.and_then(|number| Self::lock(root, number, false).ok().flatten()) else { return false };
        CHECKSUMS.iter().for_each(|name| _ = slot.remove(name));
        slot.remove_if_empty(root);
        slot.is_gone(root)
    }

    /// Removes the directory if nothing is staged in it. The lock is still held.
    pub(super) fn remove_if_empty(&self, root: BorrowedFd<'_>) {
        if !self.is_gone(root) {
            _ = unlinkat(root, path(self.number), AtFlags::REMOVEDIR);
        }
    }
}

impl AsFd for Slot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl fmt::Debug for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file_name(NOBODY).as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_named_by_the_hash_of_its_name() {
        let id = StageId::of("abc");
        assert_eq!(id.file_name(NOBODY).as_str(), "ba7816bf8f01cfea414140de5dae2223");
        assert_eq!(parse("ba7816bf8f01cfea414140de5dae2223"), Some((id, NOBODY)));
        for bad in [
            "ba78",
            "BA7816BF8F01CFEA414140DE5DAE2223",
            "+a7816bf8f01cfea414140de5dae2223",
            "ba7816bf8f01cfea414140de5dae2223-",
            "ba7816bf8f01cfea414140de5dae2223-1",
            "ba7816bf8f01cfea414140de5dae2223-+000000000000001",
            "ba7816bf8f01cfea414140de5dae2223-0000000000000000",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[cfg(feature = "secure")]
    #[test]
    fn behind_it_stands_whose_it_is() {
        let (id, owner) = (StageId::of("abc"), StageOwner::from_number(0x1f).unwrap());
        let name = "ba7816bf8f01cfea414140de5dae2223-000000000000001f";
        assert_eq!(id.file_name(owner).as_str(), name);
        assert_eq!(parse(name), Some((id, owner)));
    }
}
