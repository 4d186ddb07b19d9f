//! File systems by their magic numbers, as Linux's `statfs` reports them.

use std::os::fd::BorrowedFd;

pub(super) const EXT: i128 = 0xef53;
pub(super) const XFS: i128 = 0x5846_5342;
pub(super) const BTRFS: i128 = 0x9123_683e;
pub(super) const F2FS: i128 = 0xf2f5_2010;
pub(super) const BCACHEFS: i128 = 0xca45_1a4e;
pub(super) const TMPFS: i128 = 0x0102_1994;
pub(super) const OVERLAY: i128 = 0x794c_7630;
pub(super) const RAMFS: i128 = 0x8584_58f6;
pub(super) const SQUASHFS: i128 = 0x7371_7368;

/// The number of the file system of `fd`; `None` if the system does not report it.
pub(super) fn of(fd: BorrowedFd<'_>) -> Option<i128> {
    rustix::fs::fstatfs(fd).ok().map(|fs| i128::from(fs.f_type) & 0xffff_ffff)
}
