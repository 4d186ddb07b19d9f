//! The directory store of host-serv: a [`Store`] over a directory of the host's file system.
//!
//! | module | content |
//! |---|---|
//! | `confine` | opening names beneath the root and nowhere else |
//! | `mounts` | whether other file systems are mounted beneath the root |
//! | `meta`, `file`, `crcs`, `index` | metadata, files that are open for reading, cached and saved checksums |
//! | `slot`, `owner`, `stage` | staging directories, the writer of each name, stages |
//! | `commit`, `link`, `change`, `copy` | commits, several at once; remove, rename, mkdir, rmdir; the bytes of a copy |
//! | `moves` | renames of directories, kept apart from other changes below them |
//! | `parents`, `inherit`, `sync` | the directories of a change; group and ACL of new files; system calls that wait for the disk |
//! | `listing` | listings of directories and trees, one entry at a time |
//! | `room`, `refusal` | free and promised space; answers to failed system calls |
//!
//! A [`DirStore`] is a handle: cloning it is cheap, and all its methods take `&self` and may be called from several
//! threads. None of them waits for a peer, but every one may wait for the disk: call them where blocking is allowed. As
//! a [`Store`] it never answers "not yet".
//!
//! # Content of the directory
//!
//! The directory contains the files under their own names, and `.skiff-stage-0`, `.skiff-stage-1` and so on, each the
//! staging directory of one running store (mode 0700, locked with flock while it runs). A store takes the first one
//! that is not locked, so a restarted server finds its stages again, and two servers on one directory do not interfere:
//! the later commit of a name replaces the whole file. A writer in one process does not make a name `busy` in another.
//!
//! A store saves the checksums that it knows for the next store (`index`), in its staging directory, which then stays.
//! It does so when it ends, and at most every ten minutes while it runs, if computing them again would read 16 MiB or
//! more. They are valid until the system is restarted. This is limited to Linux, to ext4, xfs, btrfs, f2fs, bcachefs and
//! tmpfs, and to the file system of the root: elsewhere, a new file may get the inode number and the times of an old
//! one. A read-only store saves nothing.
//!
//! # Links, permissions, special files
//!
//! - Symbolic links that stay beneath the root are followed for reading and in the directory part of a name; an
//!   absolute link does not count, even if it points inside. Without `openat2` (other systems, old kernels,
//!   [`Options::portable`]) no link is followed: its target is not found.
//! - A commit to a name that is a link to a file replaces the link, never its target. A link that can't be followed is
//!   not replaced: `denied`. `remove` and `rename` act on the link.
//! - A file that replaces another keeps its permissions and, where the system permits it, its owner, but not its access
//!   control list or extended attributes. Further hard links keep the old content.
//! - A new file inherits the group of a setgid directory and the default ACL, as if it were created there, unless the
//!   server's user is not a member of that group.
//! - Neither links nor bind mounts lead into a staging directory of the root.
//! - Devices, FIFOs and sockets do not exist for readers and are never opened, replaced, removed or renamed.

//!
//! # Other spellings of a name
//!
//! Some file systems find a file by more than one name: in upper or lower case (exFAT, CIFS, case-folding directories
//! of ext4), or by a short name (vfat, NTFS). A hidden or reserved name is hidden or reserved in every spelling.
//! Another spelling of a served file refers to the same file. Writers are distinguished by the spelling that they use:
//! two writers with two spellings do not get `busy`, each has its own stage, and the later commit replaces the file as
//! a whole. On file systems that may have other spellings (see `confine`), each component of a name costs a read of its
//! directory.

mod change;
mod commit;
mod confine;
mod copy;
mod crcs;
mod file;
mod index;
mod inherit;
mod link;
mod listing;
#[cfg(target_os = "linux")]
mod magic;
mod meta;
mod mounts;
mod moves;
mod owner;
mod parents;
mod refusal;
mod room;
mod slot;
mod stage;
mod sync;

use core::sync::atomic::{AtomicU64, AtomicUsize};
use core::task::Poll;
use core::time::Duration;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use skiff_proto::Refusal;
use skiff_proto::command::Verbs;
use skiff_proto::identity::StageOwner;
use skiff_proto::name::Name;
use skiff_proto::reply::Tag;
use skiff_proto::store::{self, Entry, Space, Staging, Stat, Store, Sum};

pub use change::Change;
pub use file::File;
pub use listing::{Cursor, ELSEWHERE};
pub use meta::Key;
pub use owner::Owner;
pub use stage::{Stage, Staged, Writing};

/// Options for serving a directory.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory.
    pub root: PathBuf,
    /// Every change is answered `read-only`, and nothing is created in the directory. Default: false.
    pub read_only: bool,
    /// Names with a component that begins with `.` are served too. Otherwise they are not found, and `denied` for
    /// commands that would create or replace something. Default: false.
    pub hidden: bool,
    /// Use only portable system calls, as on other systems than Linux. Default: false.
    pub portable: bool,
    /// Bytes of an interrupted write that are older than this are dropped when a server starts. Default: 7 days.
    pub stage_age: Duration,
    /// Maximum number of bytes of all staged files together. If it is exceeded, interrupted writes are dropped, oldest
    /// first. Default: limited only by the disk.
    pub stage_max: u64,
    /// Bytes of the file system to keep free. Default, `None`: 64 MiB or 1% of it, whichever is less.
    pub reserve: Option<u64>,
}

impl Options {
    /// The defaults, for the directory `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            read_only: false,
            hidden: false,
            portable: false,
            stage_age: Duration::from_secs(7 * 24 * 60 * 60),
            stage_max: u64::MAX,
            reserve: None,
        }
    }
}

/// Why a directory can't be served.
#[derive(Debug, thiserror::Error)]
#[error("can't serve {}", path.display())]
pub struct OpenError {
    /// The directory.
    pub path: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

/// A directory that is served. See the [module's documentation](self).
///
/// When the last handle is dropped (stages hold one too), its staging directory is removed if nothing is staged.
#[derive(Debug, Clone)]
pub struct DirStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: Options,
    confine: confine::Confine,
    sync: sync::Syncer,
    room: room::Room,
    crcs: crcs::Crcs,
    owners: owner::Owners,
    moves: moves::Moves,
    /// The staging directory, from the first write on.
    slot: Mutex<Option<Arc<slot::Slot>>>,
    /// The number of the next stage.
    serial: AtomicU64,
    /// Changes in progress that have created directories that are not durable yet.
    making: AtomicUsize,
    /// Whether a file that was created without a name can get one later.
    nameless: bool,
}

impl DirStore {
    /// Opens a directory. Nothing is created in it before the first write, or before checksums are saved.
    ///
    /// # Errors
    /// [`OpenError`]: it does not exist, is not a directory or can't be read.
    pub fn new(options: Options) -> Result<Self, OpenError> {
        let confine = confine::Confine::open(&options.root, options.portable, options.hidden)
            .map_err(|errno| OpenError { path: options.root.clone(), source: errno.into() })?;
        let native = confine.is_native();
        Ok(Self(Arc::new(Inner {
            sync: sync::Syncer::new(confine.root(), native),
            room: room::Room::new(options.reserve, options.stage_max),
            crcs: crcs::Crcs::default(),
            owners: owner::Owners::default(),
            moves: moves::Moves::default(),
            slot: Mutex::new(None),
            serial: AtomicU64::new(0),
            making: AtomicUsize::new(0),
            nameless: native && link::can_link_nameless(),
            confine,
            options,
        })))
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// The space in the store, without the reserve.
    ///
    /// # Errors
    /// `io`.
    pub fn space(&self) -> Result<Space, Refusal> {
        self.0.room.space(self.0.confine.root()).map_err(refusal::refuse)
    }

    /// Whether `name` leads, or may lead, to a file system mounted beneath the root. Operations on it may then wait
    /// for that file system; this call does not. Makes no system call if nothing is mounted there. Always false without
    /// `openat2`.
    #[must_use]
    pub fn is_elsewhere(&self, name: Name<'_>) -> bool {
        self.0.confine.is_elsewhere(name)
    }

    /// Whether file systems are mounted beneath the root. A new one is noticed within a second.
    #[must_use]
    pub fn has_mounts(&self) -> bool {
        self.0.confine.has_mounts()
    }

    /// The number of staged bytes.
    #[must_use]
    pub fn staged_bytes(&self) -> u64 {
        let slot = self.0.slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        slot.as_ref().map_or(0, |slot| slot.staged())
    }

    /// How many system calls that wait for the disk this store has made (fsync, fdatasync, syncfs).
    #[must_use]
    pub fn sync_calls(&self) -> u64 {
        self.0.sync.calls()
    }
}

impl Inner {
    /// The known checksums.
    fn crcs(&self) -> &crcs::Crcs {
        let root = self.confine.root();
        self.crcs.load(|| index::Scope::of(root), |scope| index::Index::read(root, scope.boot));
        &self.crcs
    }

    /// Saves the known checksums for the next store, if that is worth it. Failures are ignored.
    fn save_crcs(&self) {
        if self.options.read_only {
            return;
        }
        self.crcs.save(|index| {
            let len = index.bytes().len() as u64;
            self.room.space(self.confine.root()).is_ok_and(|space| space.free >= len)
                && self.claimed().is_ok_and(|slot| index.write(&slot).is_ok())
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.save_crcs();
        if let Ok(Some(slot)) = self.slot.get_mut() {
            slot.remove_if_empty(self.confine.root());
        }
    }
}

impl Store for DirStore {
    type File = File;
    type Stage = Stage;
    type Cursor = Cursor;

    const VERBS: Verbs = Verbs::ALL;
    const WAITS: bool = false;

    fn open(&mut self, name: Name<'_>) -> store::Result<(File, Stat)> {
        Ok(Self::open(self, name)?)
    }
    fn tag(&mut self, file: &File) -> Tag {
        Self::tag(self, file)
    }
    fn read_at(&mut self, file: &mut File, offset: u64, buffer: &mut [u8]) -> store::Result<usize> {
        Ok(Self::read_at(self, file, offset, buffer)?)
    }
    fn note_crc(&mut self, file: &File, crc: u32) {
        self.remember_crc(file, crc);
    }
    fn stat(&mut self, name: Name<'_>) -> store::Result<Stat> {
        Ok(Self::stat(self, name)?)
    }
    fn staged(&mut self, name: Name<'_>, owner: StageOwner, size: u64) -> store::Result<(u64, u32)> {
        Ok(Self::staged(self, name, owner, size)?)
    }
    fn stage(&mut self, staging: Staging<'_>) -> store::Result<(Stage, u32)> {
        Ok(Self::stage(self, staging)?)
    }
    fn stage_new(&mut self, name: Name<'_>, size: u64) -> store::Result<Stage> {
        self.check_put(name)?;
        Ok(self.stage_unnamed(size)?)
    }
    fn append(&mut self, stage: &mut Stage, bytes: &[u8]) -> store::Result<usize> {
        Ok(Self::append(self, stage, bytes)?)
    }
    fn copy(&mut self, file: &mut File, stage: &mut Stage, sum: &mut Sum) -> store::Result<bool> {
        match Self::copy(self, file, stage, &mut || true) {
            Poll::Pending => Ok(false),
            Poll::Ready(copied) => {
                copied?;
                file.settle_sum(sum);
                Ok(true)
            }
        }
    }
    fn discard(&mut self, stage: Stage) {
        Self::discard(self, stage);
    }
    fn commit(&mut self, stage: &mut Stage, crc: Option<u32>) -> store::Result<()> {
        Ok(Self::commit(self, stage, crc).map(drop)?)
    }
    fn commit_new(&mut self, stage: &mut Stage, name: Name<'_>) -> store::Result<()> {
        Ok(Self::commit_new(self, stage, name).map(drop)?)
    }
    fn remove(&mut self, name: Name<'_>) -> store::Result<()> {
        Ok(Self::remove(self, name)?)
    }
    fn rename(&mut self, from: Name<'_>, to: Name<'_>) -> store::Result<()> {
        Ok(Self::rename(self, from, to)?)
    }
    fn mkdir(&mut self, name: Name<'_>) -> store::Result<()> {
        Ok(Self::mkdir(self, name)?)
    }
    fn rmdir(&mut self, name: Name<'_>) -> store::Result<()> {
        Ok(Self::rmdir(self, name)?)
    }
    fn list(&mut self, dir: Option<Name<'_>>) -> store::Result<Cursor> {
        Ok(Self::list(self, dir)?)
    }
    fn tree(&mut self, dir: Option<Name<'_>>) -> store::Result<Cursor> {
        Ok(Self::tree(self, dir)?)
    }
    fn omitted(&mut self, cursor: &mut Cursor) -> store::Result<u64> {
        Ok(Self::omitted(self, cursor)?)
    }
    fn next_entry(&mut self, cursor: &mut Cursor, show: &mut dyn FnMut(Entry<'_>)) -> store::Result<bool> {
        Ok(Self::next_entry(self, cursor, show)?)
    }
    fn space(&mut self) -> store::Result<Space> {
        Ok(Self::space(self)?)
    }
}
