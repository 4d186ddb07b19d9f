//! Room: what the disk has, what open stages have been promised, what staged bytes may take.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustix::fs::fstatvfs;
use rustix::io::Errno;
use skiff_proto::store::Space;

/// How long an answer of the file system is good enough for a small file.
const FRESH: Duration = Duration::from_millis(100);
/// What a small file is, in bytes.
const SMALL: u64 = 1 << 20;
/// The default of [`super::Options::reserve`], in bytes.
const RESERVE: u64 = 64 << 20;

/// Books of the room in one store.
#[derive(Debug)]
pub(super) struct Room {
    reserve: Option<u64>,
    stage_max: u64,
    /// Bytes that open stages may still append.
    promised: AtomicU64,
    /// Bytes appended since the file system was asked.
    spent: AtomicU64,
    /// Bytes that were free, the reserve taken off, and when.
    free: Mutex<Option<(Instant, u64)>>,
}

impl Room {
    pub(super) const fn new(reserve: Option<u64>, stage_max: u64) -> Self {
        Self { reserve, stage_max, promised: AtomicU64::new(0), spent: AtomicU64::new(0), free: Mutex::new(None) }
    }

    /// What the file system says, the reserve taken off. What nobody here may use, that reserve or blocks that are kept
    /// for root, is not part of the total, as df reckons.
    pub(super) fn space(&self, root: BorrowedFd<'_>) -> Result<Space, Errno> {
        let fs = fstatvfs(root)?;
        let bytes = |blocks: u64| blocks.saturating_mul(fs.f_frsize);
        let reserve = self.reserve.unwrap_or(RESERVE.min(bytes(fs.f_blocks) / 100));
        let used = bytes(fs.f_blocks.saturating_sub(fs.f_bfree));
        let free = bytes(fs.f_bavail).saturating_sub(reserve);
        Ok(Space { total: used.saturating_add(free), free })
    }

    /// Bytes that are missing for `need` more; 0 if there is room. `freed` of the `staged` bytes go first.
    pub(super) fn missing(&self, root: BorrowedFd<'_>, staged: u64, need: u64, freed: u64) -> Result<u64, Errno> {
        if need == 0 {
            return Ok(0);
        }
        let promised = self.promised.load(Ordering::Relaxed);
        let wanted = promised.saturating_add(need);
        let on_disk = wanted.saturating_sub(self.free(root, need)?.saturating_add(freed));
        Ok(on_disk.max(staged.saturating_sub(freed).saturating_add(wanted).saturating_sub(self.stage_max)))
    }

    /// Forgets what the file system said: something was removed.
    pub(super) fn ask_again(&self) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A stage opens that may append `n` bytes.
    pub(super) fn promise(&self, n: u64) {
        self.promised.fetch_add(n, Ordering::Relaxed);
    }

    /// A stage closes that has not appended `n` of its bytes.
    pub(super) fn release(&self, n: u64) {
        take(&self.promised, n);
    }

    /// `n` bytes were appended, of which `promised` had been promised.
    pub(super) fn append(&self, n: u64, promised: u64) {
        self.spent.fetch_add(n, Ordering::Relaxed);
        take(&self.promised, promised);
    }

    fn free(&self, root: BorrowedFd<'_>, need: u64) -> Result<u64, Errno> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((asked, free)) = *free
            && need <= SMALL
            && now.duration_since(asked) < FRESH
        {
            return Ok(free.saturating_sub(self.spent.load(Ordering::Relaxed)));
        }
        let space = self.space(root)?;
        self.spent.store(0, Ordering::Relaxed);
        *free = Some((now, space.free));
        Ok(space.free)
    }
}

/// Subtracts and stops at 0: a stage may hold more than it was promised.
pub(super) fn take(from: &AtomicU64, n: u64) {
    _ = from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| Some(value.saturating_sub(n)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn promises_and_staged_bytes_count_against_both_limits() {
        let dir = tempfile::tempfile().unwrap();
        let room = Room::new(Some(0), 100);
        let missing = |staged, need, freed| room.missing(dir.as_fd(), staged, need, freed).unwrap();
        assert_eq!((missing(0, 100, 0), missing(0, 101, 0)), (0, 1));
        room.promise(60);
        assert_eq!((missing(0, 40, 0), missing(0, 50, 0)), (0, 10));
        room.append(60, 60);
        assert_eq!((missing(60, 40, 0), missing(60, 50, 0), missing(60, 90, 60)), (0, 10, 0));
        assert_eq!(missing(0, 100, 0), 0);
        room.release(1);
        assert_eq!(missing(0, 100, 0), 0);
        assert!(missing(0, u64::MAX, 0) > 0);
        let full = Room::new(Some(u64::MAX), u64::MAX);
        let space = full.space(dir.as_fd()).unwrap();
        let fs = fstatvfs(dir.as_fd()).unwrap();
        assert_eq!(space.free, 0);
        assert!(space.total < fs.f_blocks * fs.f_frsize, "what is reserved is not used: {space:?}");
        assert_eq!(full.missing(dir.as_fd(), 3, 7, 3).unwrap(), 4);
    }
}
