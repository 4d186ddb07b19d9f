//! Room: free space, space promised to open stages, limits for staged bytes.
//!
//! # How long a promise holds
//!
//! A write is promised room for all of its bytes when it begins, so that it gets `no-space` before it has sent them.
//! The promise is complete for [`GRACE`], and only once in [`PAUSE`], unless the write has at most [`SMALL`] bytes: a
//! writer that starts over repeatedly must not reserve the disk. After that, it covers as many bytes as have been
//! received (after [`HORIZON`], as many as the writer sends in that time at its average rate), and always [`SMALL`]
//! bytes. Other writers may take the rest if they would have no room otherwise. From then on the slow writer's bytes
//! are accepted only while there is room, so it may get `no-space` later; the bytes received until then stay staged.
//!
//! So a large file at a normal rate keeps its room, small ones fit in beside it, and a writer of 46 bytes a second
//! reserves 1 MiB instead of the disk.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use rustix::fs::fstatvfs;
use rustix::io::Errno;
use skiff_proto::store::Space;

/// How long an answer from the file system is valid for a small file.
const FRESH: Duration = Duration::from_millis(100);
/// The maximum size of a small file, in bytes.
const SMALL: u64 = 1 << 20;
/// How long a promise is complete.
const GRACE: Duration = Duration::from_secs(10);
/// The minimum time between complete promises.
const PAUSE: Duration = Duration::from_secs(60);
/// After [`GRACE`], a promise covers at most what its writer sends in this time.
const HORIZON: Duration = Duration::from_secs(60 * 60);
/// The default of [`super::Options::reserve`], in bytes.
const RESERVE: u64 = 64 << 20;

/// The accounting of space in one store.
#[derive(Debug)]
pub(super) struct Room {
    reserve: Option<u64>,
    stage_max: u64,
    /// Bytes that open stages may still append.
    promised: AtomicU64,
    /// Promises of more than [`SMALL`] bytes, which can lapse.
    large: Mutex<Vec<Weak<Promise>>>,
    /// When the last complete promise was made.
    whole: Mutex<Option<Instant>>,
    /// Bytes appended since the last statfs.
    spent: AtomicU64,
    /// Bytes that were free, without the reserve, and when.
    free: Mutex<Option<(Instant, u64)>>,
}

impl Room {
    pub(super) const fn new(reserve: Option<u64>, stage_max: u64) -> Self {
        Self {
            reserve,
            stage_max,
            promised: AtomicU64::new(0),
            large: Mutex::new(Vec::new()),
            whole: Mutex::new(None),
            spent: AtomicU64::new(0),
            free: Mutex::new(None),
        }
    }

    /// The space of the file system without the reserve. As with df, space that the server may not use (the reserve,
    /// and blocks reserved for root) is not part of the total.
    pub(super) fn space(&self, root: BorrowedFd<'_>) -> Result<Space, Errno> {
        let fs = fstatvfs(root)?;
        let bytes = |blocks: u64| blocks.saturating_mul(fs.f_frsize);
        let reserve = self.reserve.unwrap_or(RESERVE.min(bytes(fs.f_blocks) / 100));
        let used = bytes(fs.f_blocks.saturating_sub(fs.f_bfree));
        let free = bytes(fs.f_bavail).saturating_sub(reserve);
        Ok(Space { total: used.saturating_add(free), free })
    }

    /// Whether the file system is out of inodes. File systems that don't count files report 0 of 0.
    pub(super) fn lacks_inodes(root: BorrowedFd<'_>) -> Result<bool, Errno> {
        fstatvfs(root).map(|fs| fs.f_files > 0 && fs.f_favail == 0)
    }

    /// Bytes that are missing for `need` more; 0 if there is room. `freed` of the `staged` bytes are freed first.
    pub(super) fn missing(&self, root: BorrowedFd<'_>, staged: u64, need: u64, freed: u64) -> Result<u64, Errno> {
        if need == 0 {
            return Ok(0);
        }
        let free = self.free(root, need)?;
        let short = |promised: u64| {
            let wanted = promised.saturating_add(need);
            let on_disk = wanted.saturating_sub(free.saturating_add(freed));
            on_disk.max(staged.saturating_sub(freed).saturating_add(wanted).saturating_sub(self.stage_max))
        };
        let promised = self.promised.load(Ordering::Relaxed);
        Ok(match short(promised) {
            0 => 0,
            _ => short(
                promised
                    .saturating_sub(self.lapsed(Instant::now(), if need <= SMALL { Duration::ZERO } else { GRACE })),
            ),
        })
    }

    /// Whether `n` bytes can be appended under a promise that others have borrowed from, because there is room beside
    /// all other promises.
    pub(super) fn has_beside(&self, root: BorrowedFd<'_>, staged: u64, n: u64, own: &Promise) -> Result<bool, Errno> {
        let now = Instant::now();
        let others = self.promised.load(Ordering::Relaxed).saturating_sub(self.lapsed(now, GRACE));
        let wanted = others.saturating_sub(own.holds(now, GRACE)).saturating_add(n);
        Ok(wanted <= self.free(root, n)? && staged.saturating_add(wanted) <= self.stage_max)
    }

    /// Releases the bytes of all promises that have lapsed, and returns how many: others may borrow them from now on.
    fn lapsed(&self, now: Instant, grace: Duration) -> u64 {
        let large = self.large.lock().unwrap_or_else(PoisonError::into_inner);
        large.iter().filter_map(Weak::upgrade).map(|promise| promise.lend(now, grace)).sum()
    }

    /// Forgets the file system's answer, because something was removed.
    pub(super) fn ask_again(&self) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Promises `n` bytes to a new stage. Every append must be reported to a large promise.
    pub(super) fn promise(&self, n: u64) -> Option<Arc<Promise>> {
        self.promised.fetch_add(n, Ordering::Relaxed);
        (n > SMALL).then(|| {
            let now = Instant::now();
            let mut last = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
            let whole = last.is_none_or(|last| now.duration_since(last) >= PAUSE);
            if whole {
                *last = Some(now);
            }
            let promise = Arc::new(Promise::new(n, now, whole));
            let mut large = self.large.lock().unwrap_or_else(PoisonError::into_inner);
            large.retain(|promise| promise.strong_count() > 0);
            large.push(Arc::downgrade(&promise));
            promise
        })
    }

    /// Releases `n` bytes that a closing stage has not appended.
    pub(super) fn release(&self, n: u64) {
        take(&self.promised, n);
    }

    /// Records that `n` bytes were appended, `promised` of which had been promised.
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

/// The promise of room to one stage.
#[derive(Debug)]
pub(super) struct Promise {
    since: Instant,
    /// It is complete for [`GRACE`].
    whole: bool,
    /// Bytes that were promised, and bytes that have been received.
    size: u64,
    come: AtomicU64,
    lent: AtomicBool,
}

impl Promise {
    const fn new(size: u64, since: Instant, whole: bool) -> Self {
        Self { since, whole, size, come: AtomicU64::new(0), lent: AtomicBool::new(false) }
    }

    /// Records that `n` bytes were received.
    pub(super) fn append(&self, n: u64) {
        self.come.fetch_add(n, Ordering::Relaxed);
    }

    /// Whether others may borrow part of it now.
    pub(super) fn is_lent(&self) -> bool {
        self.lent.load(Ordering::Relaxed)
    }

    fn rest(&self) -> u64 {
        self.size.saturating_sub(self.come.load(Ordering::Relaxed))
    }

    /// Bytes that it holds.
    fn holds(&self, now: Instant, grace: Duration) -> u64 {
        let age = now.saturating_duration_since(self.since);
        if self.whole && age < grace {
            return self.rest();
        }
        let come = self.come.load(Ordering::Relaxed);
        let ahead = u128::from(come) * HORIZON.as_millis() / age.max(HORIZON).as_millis();
        self.rest().min(u64::try_from(ahead).unwrap_or(u64::MAX).max(SMALL))
    }

    /// Bytes that it no longer holds.
    fn lend(&self, now: Instant, grace: Duration) -> u64 {
        let lapsed = self.rest().saturating_sub(self.holds(now, grace));
        if lapsed > 0 {
            self.lent.store(true, Ordering::Relaxed);
        }
        lapsed
    }
}

/// Subtracts, saturating at 0: a stage may hold more than it was promised.
pub(super) fn take(from: &AtomicU64, n: u64) {
    _ = from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| Some(value.saturating_sub(n)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_promise_holds_for_what_its_writer_will_send_and_the_rest_is_lent() {
        const GIB: u64 = 1 << 30;
        let begin = Instant::now();
        for (pace, second, holds) in [
            (0, 9, 100 * GIB),
            (46, 11, SMALL),
            (46, 3600, SMALL),
            (100_000, 60, 6_000_000),
            (100_000, 7200, 360_000_000),
            (100_000_000, 60, 6_000_000_000),
        ] {
            let promise = Promise::new(100 * GIB, begin, true);
            promise.append(pace * second);
            let now = begin + Duration::from_secs(second);
            assert_eq!(promise.holds(now, GRACE), holds, "{pace} bytes a second after {second} s");
            assert_eq!(promise.lend(now, GRACE), 100 * GIB - pace * second - holds);
            assert_eq!(promise.is_lent(), holds < promise.rest());
        }
    }

    #[test]
    fn a_slow_writer_keeps_nobody_out_and_goes_on_only_beside_the_others() {
        let dir = tempfile::tempfile().unwrap();
        let room = Room::new(Some(0), 100 * SMALL);
        let missing = |need| room.missing(dir.as_fd(), 0, need, 0).unwrap();
        let slow = room.promise(100 * SMALL).unwrap();
        assert_eq!((missing(SMALL), missing(SMALL + 1)), (0, SMALL + 1));
        // As if it had begun long before.
        let aged = Arc::new(Promise::new(100 * SMALL, Instant::now() - 2 * GRACE, true));
        room.large.lock().unwrap().push(Arc::downgrade(&aged));
        drop(slow);
        assert_eq!((missing(99 * SMALL), aged.is_lent()), (0, true));
        assert!(room.has_beside(dir.as_fd(), 0, 100 * SMALL, &aged).unwrap());
        // A minute later.
        *room.whole.lock().unwrap() = None;
        let other = room.promise(99 * SMALL).unwrap();
        assert!(!room.has_beside(dir.as_fd(), 0, 2 * SMALL, &aged).unwrap());
        assert!(room.has_beside(dir.as_fd(), 0, SMALL, &aged).unwrap());
        drop(other);
    }

    #[test]
    fn a_writer_that_begins_again_and_again_holds_the_disk_once() {
        let dir = tempfile::tempfile().unwrap();
        let room = Room::new(Some(0), 100 * SMALL);
        let missing = |need| room.missing(dir.as_fd(), 0, need, 0).unwrap();
        let first = room.promise(100 * SMALL).unwrap();
        assert_eq!(missing(99 * SMALL), 99 * SMALL);
        room.release(100 * SMALL);
        drop(first);
        let again = room.promise(100 * SMALL).unwrap();
        assert_eq!((missing(99 * SMALL), again.is_lent()), (0, true));
    }

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
