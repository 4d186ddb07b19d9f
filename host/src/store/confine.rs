//! Opens names strictly beneath the root.
//!
//! There are two ways to look up a name:
//!
//! | way | for | cost |
//! |---|---|---|
//! | fast: one `openat2` without links and mounts | ordinary names on the file systems of [`keeps_spelling`] | one system call |
//! | careful: one component at a time ([`Confine::walk`]) | what the fast way refuses: a link or a mount in the path; other file systems; names of [`may_fold`] | some system calls per component; on other file systems also a read of its directory |
//!
//! Both stay beneath the root, even if others change directories and links at the same time: the fast way in the
//! kernel, the careful way because it keeps every directory on the path open and resolves `..` in a link to the
//! previous one.
//!
//! The careful way also checks what it finds against what must stay hidden, since a name may have other spellings
//! (short names of vfat, case-insensitive directories) and a directory may be reachable by other paths (links, bind
//! mounts):
//!
//! - A staging directory of the root is recognized by its device and inode number.
//! - Where other spellings are possible, the name must be an entry of its directory, byte for byte, or all entries
//!   with its inode number must be names that are served. So another spelling of a visible file finds that file, if
//!   the file system supports it; other spellings of hidden and reserved names find nothing.
//!
//! Only regular files are opened, and the type is checked before: opening a FIFO can wait forever or wake its other
//! end, and opening a device can have any effect.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

#[cfg(target_os = "linux")]
use rustix::fs::ResolveFlags;
use rustix::fs::{Dir, Mode, OFlags, open, openat, readlinkat};
use rustix::io::Errno;
use skiff_proto::name::{Name, RESERVED_PREFIX};
use skiff_proto::{ErrorCode, Refusal};

use super::meta::{Kind, Meta};
use super::mounts::Mounts;
use super::refusal::refuse;
use super::slot;

/// How often to repeat a look-up that was disturbed by renames of other programs.
#[cfg(target_os = "linux")]
const TRIES: u32 = 32;

/// The maximum number of links that are followed in one name, as in the kernel.
const LINKS: u32 = 40;

#[cfg(target_os = "linux")]
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory on the path to another one; it does not have to be readable.
#[cfg(target_os = "linux")]
const WAY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const WAY: OFlags = DIRECTORY.union(OFlags::NOFOLLOW);

/// The error for what must stay hidden: readers find nothing, and writers no directory to create something in.
const WITHHELD: Errno = Errno::NOTDIR;

/// Flags to open a regular file: without waiting (if a FIFO has just replaced it) and without acquiring a controlling
/// terminal.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// The root of the store.
#[derive(Debug)]
pub(super) struct Confine {
    root: OwnedFd,
    native: bool,
    /// Names that begin with `.` are served.
    hidden: bool,
    /// The root's file system accepts, or may accept, other spellings of a name.
    loose: bool,
    mounts: Mounts,
}

/// An open directory.
#[derive(Debug)]
pub(super) struct Directory<'a> {
    fd: Fd<'a>,
    /// Its file system accepts, or may accept, other spellings of a name.
    loose: bool,
}

#[derive(Debug)]
enum Fd<'a> {
    Root(BorrowedFd<'a>),
    Beneath(OwnedFd),
}

/// What is at a name before a change.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// Nothing.
    Free,
    /// A regular file.
    File(Meta),
    /// A link, beneath the root, to this regular file.
    Link(Meta),
    /// A link, beneath the root, to nothing.
    Dangling,
    /// A directory, or a link to one.
    Directory,
    /// Something that is neither served nor replaced: a device, a FIFO, a socket, a link that can't be followed.
    Foreign,
}

impl Confine {
    /// Opens the root. Links on the way to it are followed.
    pub(super) fn open(path: &Path, portable: bool, hidden: bool) -> Result<Self, Errno> {
        let root = open(path, DIRECTORY, Mode::empty())?;
        let native = !portable && has_openat2(root.as_fd());
        let loose = !keeps_spelling(root.as_fd());
        let mounts = Mounts::new(root.as_fd());
        Ok(Self { root, native, hidden, loose, mounts })
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Whether Linux's own system calls are used.
    pub(super) const fn is_native(&self) -> bool {
        self.native
    }

    /// Whether file systems are mounted beneath the root and the kernel can report where.
    pub(super) fn has_mounts(&self) -> bool {
        self.native && self.mounts.any(self.root())
    }

    /// Whether the path `name` leads to another file system or out of the root. Does not access that file system.
    pub(super) fn is_elsewhere(&self, name: Name<'_>) -> bool {
        self.has_mounts() && self.is_mounted(self.root(), name.as_str())
    }

    /// The same for the entry `name` of `dir`.
    #[cfg(target_os = "linux")]
    pub(super) fn is_mounted(&self, dir: BorrowedFd<'_>, name: &str) -> bool {
        let how = BENEATH | ResolveFlags::NO_XDEV;
        matches!(open_resolved(dir, name, OFlags::PATH | OFlags::CLOEXEC, how), Err(Errno::XDEV))
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) const fn is_mounted(&self, _dir: BorrowedFd<'_>, _name: &str) -> bool {
        false
    }

    /// Opens a directory, `None` for the root.
    pub(super) fn directory(&self, name: Option<Name<'_>>) -> Result<Directory<'_>, Errno> {
        let Some(name) = name else { return Ok(self.at_root()) };
        if let Some(opened) = self.open_fast(name, DIRECTORY) {
            return opened.map(|fd| Directory { fd: Fd::Beneath(fd), loose: self.loose });
        }
        let (parent, last) = self.walk(name)?;
        let fd = openat(&parent, &*last, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).map_err(hide_link)?;
        let loose = !keeps_spelling(fd.as_fd());
        Ok(Directory { fd: Fd::Beneath(fd), loose })
    }

    /// The target of `name`, links followed.
    pub(super) fn look(&self, name: Name<'_>) -> Result<Meta, Errno> {
        #[cfg(target_os = "linux")]
        if self.is_fast(name) {
            // The way to a name in the root can't lead out, and most names are no links.
            if name.parent().is_none() {
                let meta = Meta::at(self.root(), name.as_str())?;
                if meta.kind != Kind::Link {
                    return Ok(meta);
                }
            }
            if let Some(opened) = self.open_fast(name, OFlags::PATH | OFlags::CLOEXEC) {
                return Meta::of(opened?);
            }
        }
        let (parent, last) = self.walk(name)?;
        let meta = Meta::at(&parent, &last)?;
        if meta.kind == Kind::Link { Err(Errno::NOENT) } else { Ok(meta) }
    }

    /// The answer to a reader that finds nothing at `name`. For a dangling link it is not `not-found`, because a client
    /// would then assume that the name is unused. For an entry that is withheld, it is `not-found`.
    pub(super) fn nothing(&self, name: Name<'_>, errno: Errno) -> Refusal {
        let is_link = || {
            let meta = self.directory(name.parent()).and_then(|parent| Meta::at(&parent, name.file_name()));
            meta.is_ok_and(|meta| meta.kind == Kind::Link)
        };
        let is_missing = || {
            self.walk(name)
                .and_then(|(parent, last)| Meta::at(&parent, &last))
                .is_err_and(|errno| errno == Errno::NOENT)
        };
        if errno == Errno::NOENT && self.native && is_link() && is_missing() {
            Refusal::new(ErrorCode::Denied, "a link that leads nowhere")
        } else {
            refuse(errno)
        }
    }

    /// What is at `name`, whose parent is open as `parent`, before it is changed.
    pub(super) fn place(&self, parent: &Directory<'_>, name: Name<'_>) -> Result<Place, Errno> {
        let meta = match Meta::at(parent, name.file_name()) {
            Ok(meta) => meta,
            Err(Errno::NOENT) => return Ok(Place::Free),
            Err(errno) => return Err(errno),
        };
        if !self.is_name(parent, name.file_name(), &meta)? {
            return Ok(Place::Foreign);
        }
        Ok(match meta.kind {
            Kind::File => Place::File(meta),
            Kind::Directory => Place::Directory,
            Kind::Other => Place::Foreign,
            Kind::Link if !self.native => Place::Foreign,
            Kind::Link => match self.look(name) {
                Ok(meta) if meta.kind == Kind::File => Place::Link(meta),
                Ok(meta) if meta.kind == Kind::Directory => Place::Directory,
                Err(Errno::NOENT) => Place::Dangling,
                _ => Place::Foreign,
            },
        })
    }

    /// Opens a regular file for reading.
    pub(super) fn open_file(&self, name: Name<'_>) -> Result<(std::fs::File, Meta), Refusal> {
        if self.is_fast(name) {
            self.look(name).map_err(|errno| self.nothing(name, errno))?.served()?;
            if let Some(opened) = self.open_fast(name, FILE) {
                return finish(opened);
            }
        }
        let (parent, last) = self.walk(name).map_err(refuse)?;
        Meta::at(&parent, &last).map_err(refuse)?.served()?;
        finish(openat(&parent, &*last, FILE | OFlags::NOFOLLOW, Mode::empty()).map_err(hide_link))
    }

    /// Whether `name` is an entry of `dir` that is served, and not another spelling of one that is not; `meta` is what
    /// the file system finds by it.
    pub(super) fn is_name(&self, dir: &Directory<'_>, name: &str, meta: &Meta) -> Result<bool, Errno> {
        if !dir.loose && (!may_fold(name, self.hidden) || !folds_case(dir)) {
            return Ok(true);
        }
        let mut known = false;
        for entry in read_dir(dir)? {
            let entry = entry?;
            let spelling = entry.file_name().to_bytes();
            if spelling == name.as_bytes() {
                return Ok(true);
            }
            if entry.ino() == meta.ino() {
                if spelling.starts_with(RESERVED_PREFIX.as_bytes()) || (!self.hidden && spelling.starts_with(b".")) {
                    return Ok(false);
                }
                known = true;
            }
        }
        Ok(known)
    }

    /// Whether `names` are two entries of their directories, and not spellings of one.
    pub(super) fn are_entries(names: [(&Directory<'_>, &str); 2]) -> Result<bool, Errno> {
        for (dir, name) in names {
            let mut entries = read_dir(dir)?;
            if !entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_bytes() == name.as_bytes())) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn at_root(&self) -> Directory<'_> {
        Directory { fd: Fd::Root(self.root()), loose: self.loose }
    }

    /// Whether the fast way may be tried.
    fn is_fast(&self, name: Name<'_>) -> bool {
        self.native && !self.loose && !name.components().any(|component| may_fold(component, self.hidden))
    }

    /// Opens `name` the fast way; `None` if only the careful one can.
    #[cfg(target_os = "linux")]
    fn open_fast(&self, name: Name<'_>, flags: OFlags) -> Option<Result<OwnedFd, Errno>> {
        if !self.is_fast(name) {
            return None;
        }
        match open_beneath(self.root(), name.as_str(), flags) {
            Err(Errno::LOOP | Errno::XDEV) => None,
            opened => Some(opened),
        }
    }

    #[cfg(not(target_os = "linux"))]
    const fn open_fast(&self, _name: Name<'_>, _flags: OFlags) -> Option<Result<OwnedFd, Errno>> {
        None
    }

    /// Walks to `name`. Returns the directory that contains it after all links are resolved, and its name there, which
    /// may not exist, may be `.`, or, where links are not followed, may be a link.
    fn walk(&self, name: Name<'_>) -> Result<(Directory<'_>, Box<str>), Errno> {
        let mut way: Vec<Directory<'_>> = vec![self.at_root()];
        let mut todo: Vec<Box<str>> = name.components().rev().map(Into::into).collect();
        let mut links = 0;
        while let Some(component) = todo.pop() {
            match &*component {
                "" | "." => continue,
                ".." => {
                    way.pop();
                    if way.is_empty() {
                        return Err(Errno::XDEV);
                    }
                    continue;
                }
                _ => {}
            }
            let Some(at) = way.last() else { return Err(Errno::XDEV) };
            let meta = match Meta::at(at, &component) {
                Err(Errno::NOENT) if todo.is_empty() => return Ok((pop(way)?, component)),
                meta => meta?,
            };
            if component.starts_with(RESERVED_PREFIX) || !self.is_name(at, &component, &meta)? {
                return Err(WITHHELD);
            }
            match meta.kind {
                Kind::Link if self.native => {
                    links += 1;
                    if links > LINKS {
                        return Err(Errno::LOOP);
                    }
                    let target = match readlinkat(at, &*component, Vec::new()) {
                        Ok(target) => target.into_string().map_err(|_| Errno::NOENT)?,
                        // It has just been replaced by something else.
                        Err(Errno::INVAL) => {
                            todo.push(component);
                            continue;
                        }
                        Err(errno) => return Err(errno),
                    };
                    if target.starts_with('/') {
                        return Err(Errno::XDEV);
                    }
                    todo.extend(target.split('/').rev().map(Into::into));
                    continue;
                }
                Kind::Directory if self.is_staging(&meta) => return Err(WITHHELD),
                _ => {}
            }
            if todo.is_empty() {
                return Ok((pop(way)?, component));
            }
            if meta.kind != Kind::Directory {
                return Err(Errno::NOTDIR);
            }
            let fd = openat(at, &*component, WAY, Mode::empty()).map_err(hide_link)?;
            let loose = !keeps_spelling(fd.as_fd());
            way.push(Directory { fd: Fd::Beneath(fd), loose });
        }
        Ok((pop(way)?, ".".into()))
    }

    /// Whether it is a staging directory in the root, of any store.
    fn is_staging(&self, meta: &Meta) -> bool {
        slot::names().any(|name| Meta::at(self.root(), &name).is_ok_and(|staging| staging.key.same_file(&meta.key)))
    }
}

/// Reads the entries of a directory that may have been opened as a [`WAY`].
fn read_dir(dir: &Directory<'_>) -> Result<Dir, Errno> {
    Dir::new(openat(dir, ".", DIRECTORY, Mode::empty())?)
}

fn pop(mut way: Vec<Directory<'_>>) -> Result<Directory<'_>, Errno> {
    way.pop().ok_or(Errno::XDEV)
}

impl<'a> Directory<'a> {
    /// Reads its entries.
    pub(super) fn entries(self) -> Result<Dir, Errno> {
        match self.fd {
            Fd::Root(root) => Dir::read_from(root),
            Fd::Beneath(fd) => Dir::new(fd),
        }
    }
}

impl AsFd for Directory<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.fd {
            Fd::Root(fd) => *fd,
            Fd::Beneath(fd) => fd.as_fd(),
        }
    }
}

/// Checks the file after it was opened, because it may not be the one that was checked before.
fn finish(opened: Result<OwnedFd, Errno>) -> Result<(std::fs::File, Meta), Refusal> {
    let file = opened.map_err(|errno| match errno {
        // A socket or a device without a driver took the file's place.
        Errno::NXIO | Errno::NODEV => refuse(Errno::NOENT),
        errno => refuse(errno),
    })?;
    let meta = Meta::of(&file).map_err(refuse)?.served()?;
    Ok((file.into(), meta))
}

/// Hides the error that `O_NOFOLLOW` returns for a link: a walk that follows no links finds nothing there.
fn hide_link(errno: Errno) -> Errno {
    if matches!(errno, Errno::LOOP | Errno::MLINK) { Errno::NOENT } else { errno }
}

#[cfg(target_os = "linux")]
fn open_beneath(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    open_resolved(root, path, flags, BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV)
}

#[cfg(target_os = "linux")]
fn open_resolved(root: BorrowedFd<'_>, path: &str, flags: OFlags, how: ResolveFlags) -> Result<OwnedFd, Errno> {
    use rustix::fs::openat2;
    for _ in 1..TRIES {
        // EAGAIN: a rename or a mount somewhere on the system, so that the kernel could not be sure of a `..` in a link.
        match openat2(root, path, flags, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
    openat2(root, path, flags, Mode::empty(), how)
}

#[cfg(target_os = "linux")]
fn has_openat2(root: BorrowedFd<'_>) -> bool {
    // ENOSYS before Linux 5.6, EPERM in sandboxes that don't know it.
    open_beneath(root, ".", DIRECTORY | OFlags::PATH).is_ok()
}

#[cfg(not(target_os = "linux"))]
const fn has_openat2(_root: BorrowedFd<'_>) -> bool {
    false
}

/// Whether a name on this file system has no other spelling, or only those of [`may_fold`]. True only for a list of
/// known file systems.
#[cfg(target_os = "linux")]
fn keeps_spelling(dir: BorrowedFd<'_>) -> bool {
    use super::magic::{BCACHEFS, BTRFS, EXT, F2FS, OVERLAY, RAMFS, SQUASHFS, TMPFS, XFS, of};
    matches!(of(dir), Some(EXT | XFS | BTRFS | F2FS | BCACHEFS | TMPFS | OVERLAY | RAMFS | SQUASHFS))
}

/// Whether names in this directory of a file system that can fold case are folded.
#[cfg(target_os = "linux")]
fn folds_case(dir: &Directory<'_>) -> bool {
    /// FS_CASEFOLD_FL of Linux.
    const CASEFOLD: u32 = 0x4000_0000;
    // Opened again: it may have been opened as a way only. A file system without such flags does not fold.
    let flags = openat(dir, ".", DIRECTORY, Mode::empty()).and_then(rustix::fs::ioctl_getflags);
    match flags {
        Ok(flags) => flags.bits() & CASEFOLD != 0,
        Err(Errno::NOTTY | Errno::OPNOTSUPP) => false,
        Err(_) => true,
    }
}

#[cfg(not(target_os = "linux"))]
const fn folds_case(_dir: &Directory<'_>) -> bool {
    true
}

/// Apple's file systems ignore case and normalize names.
#[cfg(not(target_os = "linux"))]
const fn keeps_spelling(_dir: BorrowedFd<'_>) -> bool {
    !cfg!(target_vendor = "apple")
}

/// Whether `name` could be another spelling of a hidden or reserved name in a directory of ext4, f2fs or the like that
/// folds case. Folding also removes invisible characters. Without those before its first `.`, a name may be a hidden
/// one; a reserved one, which begins with `.`, is hidden anyway unless names with `.` are served.
fn may_fold(name: &str, serves_hidden: bool) -> bool {
    let unseen = |c: char| {
        !c.is_ascii() && (!c.is_alphanumeric() || matches!(c, '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}'))
    };
    if name.starts_with(unseen) {
        return true;
    }
    // Folding may join characters and drop some, so that positions say nothing.
    let folded = || name.get(..RESERVED_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED_PREFIX));
    serves_hidden && name.starts_with('.') && (!name.is_ascii() || folded())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_could_be_hidden_ones_may_fold() {
        for (name, serves_hidden, expected) in [
            ("a", false, false),
            ("a", true, false),
            ("-a", false, false),
            ("\u{e9}", false, false),
            ("\u{200b}.a", false, true),
            ("\u{3164}a", false, true),
            (".profile", true, false),
            (".SKIFF-a", true, true),
            (".SKIFF-a", false, false),
            (".\u{e9}", true, true),
            (".\u{e9}", false, false),
        ] {
            assert_eq!(may_fold(name, serves_hidden), expected, "{name:?} {serves_hidden}");
        }
    }
}
