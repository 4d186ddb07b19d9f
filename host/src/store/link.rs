//! Atomically links a file under an unused name.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, linkat, renameat, unlinkat};
use rustix::io::Errno;

/// Renames a file unless something has the new name.
pub(super) fn rename_new(from: impl AsFd, path: &str, dir: impl AsFd, name: &str, native: bool) -> Result<(), Errno> {
    if let Some(renamed) = rename_no_replace(&from, path, &dir, name, native) {
        return renamed;
    }
    linkat(&from, path, &dir, name, AtFlags::empty())?;
    _ = unlinkat(&from, path, AtFlags::empty());
    Ok(())
}

/// Renames a directory unless the new name exists. If the system can't do that in one step, an empty directory that
/// another program creates at that moment is replaced.
pub(super) fn rename_directory(
    from: impl AsFd,
    path: &str,
    dir: impl AsFd,
    name: &str,
    native: bool,
) -> Result<(), Errno> {
    match rename_no_replace(&from, path, &dir, name, native) {
        Some(renamed) => renamed,
        None => renameat(from, path, dir, name),
    }
}

/// The system's call; `None` if the system or the file system does not have it, or if a directory would be moved into
/// itself, which the ordinary call reports too.
fn rename_no_replace(
    from: impl AsFd,
    path: &str,
    dir: impl AsFd,
    name: &str,
    native: bool,
) -> Option<Result<(), Errno>> {
    #[cfg(target_os = "linux")]
    if native {
        use rustix::fs::{RenameFlags, renameat_with};
        return match renameat_with(from, path, dir, name, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => None,
            renamed => Some(renamed),
        };
    }
    _ = (from, path, dir, name, native);
    None
}

/// Whether [`link_nameless`] works. It goes through /proc, because linking only the open file requires a privilege.
#[cfg(target_os = "linux")]
pub(super) fn can_link_nameless() -> bool {
    use rustix::fs::{Access, CWD, accessat};
    accessat(CWD, "/proc/self/fd", Access::EXEC_OK, AtFlags::empty()).is_ok()
}

/// Creates a file without a name on the file system of `dir`; if it never gets a name, it disappears. `None` if the
/// file system does not support this.
#[cfg(target_os = "linux")]
pub(super) fn create_nameless(dir: BorrowedFd<'_>) -> Option<File> {
    use rustix::fs::{Mode, OFlags, openat};
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    openat(dir, ".", flags, Mode::from_raw_mode(0o666)).ok().map(File::from)
}

/// Gives a name to a file without one, if the name is unused.
#[cfg(target_os = "linux")]
pub(super) fn link_nameless(file: &File, dir: impl AsFd, name: &str) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(rustix::fs::CWD, path, dir, name, AtFlags::SYMLINK_FOLLOW)
}

#[cfg(not(target_os = "linux"))]
pub(super) const fn can_link_nameless() -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
pub(super) const fn create_nameless(_dir: BorrowedFd<'_>) -> Option<File> {
    None
}

#[cfg(not(target_os = "linux"))]
pub(super) fn link_nameless(_file: &File, _dir: impl AsFd, _name: &str) -> Result<(), Errno> {
    Err(Errno::NOTSUP)
}
