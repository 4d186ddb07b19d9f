//! System calls that wait for the disk, counted.
//!
//! None is repeated after a failure: the kernel drops the pages that it could not write and reports that only once, so
//! a successful second fsync proves nothing.

use core::sync::atomic::{AtomicU64, Ordering};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::fsync;
use rustix::io::Errno;

/// Makes things durable.
#[derive(Debug)]
pub(super) struct Syncer {
    calls: AtomicU64,
    whole: bool,
}

impl Syncer {
    /// For a store whose root is `root`.
    pub(super) fn new(root: BorrowedFd<'_>, native: bool) -> Self {
        Self { calls: AtomicU64::new(0), whole: native && syncs_whole(root) }
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether [`Syncer::everything`] can be used.
    pub(super) const fn has_everything(&self) -> bool {
        self.whole
    }

    /// Makes the content of a file durable, and the metadata that is needed to read it.
    pub(super) fn data(&self, file: impl AsFd) -> Result<(), Errno> {
        self.count();
        #[cfg(target_vendor = "apple")]
        {
            // fsync hands the data to the drive and does not wait for it to reach the medium. Not all file systems know
            // the stronger call.
            rustix::fs::fcntl_fullfsync(&file).or_else(|_| fsync(&file))
        }
        #[cfg(not(target_vendor = "apple"))]
        {
            rustix::fs::fdatasync(file)
        }
    }

    /// Makes the names in a directory durable.
    pub(super) fn directory(&self, dir: impl AsFd) -> Result<(), Errno> {
        self.count();
        match fsync(dir) {
            // A file system without fsync for directories (9p, some of FUSE) has nothing to offer here.
            Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
            other => other,
        }
    }

    /// Makes everything on the file system of `file` durable: content, names, other programs' too. Reports errors on it
    /// since `file` was opened or this was last called with it, so each thread needs its own file, opened before the
    /// first byte that it has to make durable.
    #[cfg(target_os = "linux")]
    pub(super) fn everything(&self, file: impl AsFd) -> Result<(), Errno> {
        self.count();
        rustix::fs::syncfs(file)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn everything(&self, _file: impl AsFd) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }

    fn count(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether syncfs makes everything durable on this file system. True only for a list of known ones: FUSE and some
/// network file systems report success when they have only passed the data on.
#[cfg(target_os = "linux")]
fn syncs_whole(root: BorrowedFd<'_>) -> bool {
    use super::magic::{BCACHEFS, BTRFS, EXT, F2FS, TMPFS, XFS, of};
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    // Before 5.8 syncfs forgot to report what could not be written. RESOLVE_CACHED is known since 5.12.
    let how = ResolveFlags::BENEATH | ResolveFlags::CACHED;
    let old = matches!(openat2(root, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how), Err(Errno::INVAL));
    !old && matches!(of(root), Some(EXT | XFS | BTRFS | F2FS | BCACHEFS | TMPFS))
}

#[cfg(not(target_os = "linux"))]
const fn syncs_whole(_root: BorrowedFd<'_>) -> bool {
    false
}
