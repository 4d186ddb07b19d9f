//! Opening names beneath the root, and nowhere else.
//!
//! With `openat2` the kernel keeps the way beneath the root, whatever others do to directories and links meanwhile.
//! Without it, names are walked one component at a time and no link is followed.
//!
//! Only regular files are opened, and what a name stands for is looked at before it is opened: opening a FIFO can wait
//! for ever or let somebody else go on, opening a device can do anything.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;
use skiff_proto::Refusal;
use skiff_proto::name::Name;

use super::meta::{Kind, Meta};
use super::refusal::refuse;

/// How often a look-up that somebody's renames disturbed is tried again.
#[cfg(target_os = "linux")]
const TRIES: u32 = 32;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A regular file: without waiting (for a FIFO that took its place just now) and without becoming its terminal.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// The root of what is served.
#[derive(Debug)]
pub(super) struct Confine {
    root: OwnedFd,
    native: bool,
}

/// An open directory.
#[derive(Debug)]
pub(super) enum Directory<'a> {
    /// The root itself.
    Root(BorrowedFd<'a>),
    /// One beneath it.
    Beneath(OwnedFd),
}

/// What is at a name that is to be changed.
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
    /// What is not served and not replaced: a device, a FIFO, a socket, a link that can't be followed.
    Foreign,
}

impl Confine {
    /// Opens the root. Links on the way to it are followed.
    pub(super) fn open(path: &Path, portable: bool) -> Result<Self, Errno> {
        let root = open(path, DIRECTORY, Mode::empty())?;
        let native = !portable && has_openat2(root.as_fd());
        Ok(Self { root, native })
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Whether Linux's own system calls are used.
    pub(super) const fn is_native(&self) -> bool {
        self.native
    }

    /// Opens a directory, `None` for the root.
    pub(super) fn directory(&self, name: Option<Name<'_>>) -> Result<Directory<'_>, Errno> {
        let Some(name) = name else { return Ok(Directory::Root(self.root())) };
        #[cfg(target_os = "linux")]
        if self.native {
            return open_beneath(self.root(), name.as_str(), DIRECTORY).map(Directory::Beneath);
        }
        let mut at: Option<OwnedFd> = None;
        for component in name.components() {
            let parent = at.as_ref().map_or(self.root(), AsFd::as_fd);
            at = Some(openat(parent, component, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).map_err(hide_link)?);
        }
        at.map(Directory::Beneath).ok_or(Errno::NOENT)
    }

    /// What a reader finds at `name`, links followed.
    pub(super) fn look(&self, name: Name<'_>) -> Result<Meta, Errno> {
        #[cfg(target_os = "linux")]
        if self.native {
            // The way to a name in the root can't lead out, and most names are no links.
            if name.parent().is_none() {
                let meta = Meta::at(self.root(), name.as_str())?;
                if meta.kind != Kind::Link {
                    return Ok(meta);
                }
            }
            return Meta::of(open_beneath(self.root(), name.as_str(), OFlags::PATH | OFlags::CLOEXEC)?);
        }
        let parent = self.directory(name.parent())?;
        let meta = Meta::at(&parent, name.file_name())?;
        if meta.kind == Kind::Link { Err(Errno::NOENT) } else { Ok(meta) }
    }

    /// What is at `name`, whose parent is open as `parent`, before it is changed.
    pub(super) fn place(&self, parent: &Directory<'_>, name: Name<'_>) -> Result<Place, Errno> {
        let meta = match Meta::at(parent, name.file_name()) {
            Ok(meta) => meta,
            Err(Errno::NOENT) => return Ok(Place::Free),
            Err(errno) => return Err(errno),
        };
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
        #[cfg(target_os = "linux")]
        if self.native {
            self.look(name).map_err(refuse)?.served()?;
            return finish(open_beneath(self.root(), name.as_str(), FILE));
        }
        let parent = self.directory(name.parent()).map_err(refuse)?;
        Meta::at(&parent, name.file_name()).map_err(refuse)?.served()?;
        finish(openat(&parent, name.file_name(), FILE | OFlags::NOFOLLOW, Mode::empty()).map_err(hide_link))
    }
}

impl AsFd for Directory<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Root(fd) => *fd,
            Self::Beneath(fd) => fd.as_fd(),
        }
    }
}

/// Looks at what was opened: it may be another than what was looked at before.
fn finish(opened: Result<OwnedFd, Errno>) -> Result<(std::fs::File, Meta), Refusal> {
    let file = opened.map_err(|errno| match errno {
        // A socket or a device without a driver took the file's place.
        Errno::NXIO | Errno::NODEV => refuse(Errno::NOENT),
        errno => refuse(errno),
    })?;
    let meta = Meta::of(&file).map_err(refuse)?.served()?;
    Ok((file.into(), meta))
}

/// What `O_NOFOLLOW` says of a link: to a walk that follows none, there is nothing.
fn hide_link(errno: Errno) -> Errno {
    if matches!(errno, Errno::LOOP | Errno::MLINK) { Errno::NOENT } else { errno }
}

#[cfg(target_os = "linux")]
fn open_beneath(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    use rustix::fs::{ResolveFlags, openat2};
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
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
