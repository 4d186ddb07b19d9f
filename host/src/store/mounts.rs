//! Whether other file systems are mounted beneath the root, without a system call for each query.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The maximum age of a cached answer.
const FRESH: Duration = Duration::from_secs(1);

/// The mounted file systems, as the system reports them.
#[derive(Debug)]
pub(super) struct Mounts {
    /// The system's list; `None` if there is none.
    table: Option<Mutex<File>>,
    since: Instant,
    /// When to check next, in milliseconds after `since`.
    next: AtomicU64,
    any: AtomicBool,
}

impl Mounts {
    pub(super) fn new(root: BorrowedFd<'_>) -> Self {
        let table = File::open("/proc/self/mountinfo").ok().map(Mutex::new);
        let mounts =
            Self { any: AtomicBool::new(table.is_none()), table, since: Instant::now(), next: AtomicU64::new(0) };
        if let Some(table) = &mounts.table {
            mounts.read(&mut lock(table), root);
        }
        mounts
    }

    /// True if something is mounted there, or if that is unknown.
    pub(super) fn any(&self, root: BorrowedFd<'_>) -> bool {
        let now = self.since.elapsed();
        if now >= Duration::from_millis(self.next.load(Ordering::Relaxed)) {
            let next = u64::try_from((now + FRESH).as_millis()).unwrap_or(u64::MAX);
            self.next.store(next, Ordering::Relaxed);
            if let Some(table) = &self.table {
                let mut table = lock(table);
                if has_changed(&table) {
                    self.read(&mut table, root);
                }
            }
        }
        self.any.load(Ordering::Relaxed)
    }

    /// Reads the list.
    fn read(&self, table: &mut File, root: BorrowedFd<'_>) {
        let mut text = Vec::new();
        let read = table.rewind().and_then(|()| table.read_to_end(&mut text));
        let path = std::fs::read_link(format!("/proc/self/fd/{}", root.as_fd().as_raw_fd()));
        let any = match (read, path) {
            (Ok(_), Ok(path)) => points(&text).any(|point| {
                let below = point.strip_prefix(path.as_os_str().as_bytes());
                below.is_some_and(|below| below.starts_with(b"/") || (path.parent().is_none() && !below.is_empty()))
            }),
            _ => true,
        };
        self.any.store(any, Ordering::Relaxed);
    }
}

fn lock(table: &Mutex<File>) -> MutexGuard<'_, File> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// True if the list has changed since the last call, or if that is unknown.
fn has_changed(table: &File) -> bool {
    let mut changed = [PollFd::new(table, PollFlags::PRI)];
    poll(&mut changed, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) != Ok(0)
}

/// The mount points of a list: the fifth word of each line, with some bytes escaped as `\\` and three octal digits.
fn points(table: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    table.split(|&byte| byte == b'\n').filter_map(|line| {
        let word = line.split(|&byte| byte == b' ').nth(4)?;
        let mut point = Vec::with_capacity(word.len());
        let mut rest = word;
        while let Some((&byte, after)) = rest.split_first() {
            let digits = after.get(..3).filter(|_| byte == b'\\').and_then(|digits| core::str::from_utf8(digits).ok());
            match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
                Some(meant) => {
                    point.push(meant);
                    rest = &after[3..];
                }
                None => {
                    point.push(byte);
                    rest = after;
                }
            }
        }
        Some(point)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_from_the_list_of_the_system() {
        let table = b"22 1 0:20 / / rw - ext4 /dev/sda rw\n36 22 0:34 / /mnt/a\\040b\\134 rw - tmpfs t rw\nshort\n";
        assert_eq!(points(table).collect::<Vec<_>>(), [b"/".to_vec(), b"/mnt/a b\\".to_vec()]);
    }

    #[test]
    fn the_root_of_a_system_has_mounts_beneath_it_and_a_new_directory_has_none() {
        let (root, empty) = (File::open("/").unwrap(), tempfile::tempdir().unwrap());
        let dir = File::open(empty.path()).unwrap();
        assert!(Mounts::new(root.as_fd()).any(root.as_fd()));
        assert!(!Mounts::new(dir.as_fd()).any(dir.as_fd()));
    }
}
