//! Local files: partial files, and putting complete ones in place.
//!
//! A file being received lies in its target directory, as `.NAME.SIZE-TAG.skiff-part`. The name says which version of
//! the server's file it belongs to, so that a later run can resume it. It is locked while it is being written. On a
//! protected connection it is called `.NAME.SIZE-TAG~KEY.skiff-part` and is resumed only with the same key (PROTOCOL
//! §8): bytes received in another way may be forged, and a checksum does not show that.

use core::fmt;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skiff_proto::crc::crc32c;
use skiff_proto::name::{MAX_NAME, Name};
use skiff_proto::reply::Tag;

use super::error::Error;
use super::job::Existing;
use super::name::parse;

/// Suffix of partial files.
const SUFFIX: &str = ".skiff-part";

/// The longest file name of the usual file systems, in bytes.
const MAX_FILE_NAME: usize = 255;

/// How many numbered names are tried before giving up.
const MAX_NUMBER: u32 = 10_000;

/// The path of the server's `name` below the local directory `dir`, with its directories.
///
/// # Errors
/// [`Error::BadName`] if it breaks the rules of PROTOCOL §2; [`Error::LocalName`] if it is not valid on this system.
pub fn local_path(dir: &Path, name: &str) -> Result<PathBuf, Error> {
    let parsed = parse(name)?;
    let mut path = dir.to_path_buf();
    for component in parsed.components() {
        if cfg!(windows) && is_special_on_windows(component) {
            return Err(Error::LocalName { name: name.to_owned() });
        }
        path.push(component);
    }
    Ok(path)
}

/// Names that Windows takes for something else: streams, wildcards, devices, and what it cuts off at the end.
fn is_special_on_windows(component: &str) -> bool {
    let stem = component.split('.').next().unwrap_or(component).trim_end();
    let numbered = |device: &str| {
        stem.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(device))
            && matches!(
                stem.get(3..),
                Some("0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³")
            )
    };
    component.contains(['<', '>', ':', '"', '|', '?', '*'])
        || component.ends_with(['.', ' '])
        || ["con", "prn", "aux", "nul", "conin$", "conout$"].iter().any(|device| stem.eq_ignore_ascii_case(device))
        || numbered("com")
        || numbered("lpt")
}

/// An [`io::Error`] with the path it is about.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Local { path, source: Arc::new(source) }
}

/// What a partial file's name begins with.
fn part_prefix(name: &OsStr) -> String {
    // Room for the dot in front, SIZE of 20 digits, TAG of 32, KEY of 16, a number of 4 and what is between.
    const REST: usize = 1 + 1 + 20 + 1 + 32 + 1 + 16 + 1 + 4 + SUFFIX.len();
    match name.to_str() {
        Some(name) if name.len() + REST <= MAX_FILE_NAME => format!(".{name}."),
        // Its beginning, and a checksum of the whole. Should two names share these, SIZE, TAG and the server's checksum
        // still tell their partial files apart.
        _ => {
            let text = name.to_string_lossy();
            let start = &text[..text.floor_char_boundary(MAX_FILE_NAME - REST - "~00000000".len())];
            format!(".{start}~{:08x}.", crc32c(name.as_encoded_bytes()))
        }
    }
}

/// The directory and the name of the file `path` shall be.
fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((dir, name))
}

/// A partial file that is open and ours.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

/// A partial file as its name tells of it.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) version: Version,
}

/// What a partial file is a part of, and how its bytes came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    /// Of the whole file.
    pub(super) size: u64,
    pub(super) tag: Tag,
    /// [`Access::fingerprint`](super::Access::fingerprint) of the key that protected all of them.
    pub(super) key: Option<u64>,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.size, self.tag.as_str())?;
        self.key.map_or(Ok(()), |key| write!(f, "~{key:016x}"))
    }
}

impl Part {
    /// Creates the empty partial file for `target`. An existing one is truncated, unless it is in use.
    ///
    /// If it will replace a file, it is private until it is put in place, so that nobody can read it who could not read
    /// the old file.
    pub(super) fn create(target: &Path, existing: Existing, version: Version, parents: bool) -> Result<Self, Error> {
        let (dir, name) = split(target).map_err(at(target))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        if replaces(target, existing) {
            private(&mut options);
        }
        let prefix = part_prefix(name);
        let mut made = !parents;
        let mut number = 0;
        loop {
            let path = match number {
                0 => dir.join(format!("{prefix}{version}{SUFFIX}")),
                _ => dir.join(format!("{prefix}{version}.{number}{SUFFIX}")),
            };
            match options.open(&path) {
                Ok(file) if lock(&file) => return Ok(Self { file, path }),
                Ok(_) => number += 1,
                Err(error) if error.kind() == ErrorKind::AlreadyExists && number < 100 => {
                    match Self::reopen(&path) {
                        Some(part) => {
                            part.file.set_len(0).map_err(at(&part.path))?;
                            part.protect(target, existing).map_err(at(&part.path))?;
                            return Ok(part);
                        }
                        // It has just been put in place by another program.
                        None if fs::symlink_metadata(&path).is_err() => {}
                        None => number += 1,
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound && !made => {
                    fs::create_dir_all(dir).map_err(at(dir))?;
                    made = true;
                }
                // The target is more helpful than the temporary name.
                Err(error) => return Err(at(target)(error)),
            }
        }
    }

    /// Opens a partial file that an earlier run left behind. `None` if it is in use, belongs to another user, or is not
    /// a regular file.
    pub(super) fn reopen(path: &Path) -> Option<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        not_through_links(&mut options);
        let file = options.open(path).ok()?;
        let meta = file.metadata().ok()?;
        // Between opening and locking it may have been put in place: then the lock is on the user's file.
        let good = is_ours(&meta) && lock(&file) && is_same(&meta, &fs::symlink_metadata(path).ok()?);
        good.then(|| Self { file, path: path.to_path_buf() })
    }

    /// Makes one that was made before private, if it is to replace `target`.
    pub(super) fn protect(&self, target: &Path, existing: Existing) -> io::Result<()> {
        if replaces(target, existing) { make_private(&self.file) } else { Ok(()) }
    }

    /// Removes it.
    pub(super) fn discard(self) {
        _ = fs::remove_file(&self.path);
    }

    /// Puts it in place as `target` and returns its path. An existing file is replaced in one step, or kept, and never
    /// opened.
    pub(super) fn commit(self, target: &Path, existing: Existing, portable: bool) -> io::Result<PathBuf> {
        let Self { file, path } = self;
        let result = match existing {
            Existing::Replace => replace(&file, &path, target).map(|()| target.to_path_buf()),
            Existing::Keep => keep(&path, target, portable),
        };
        if result.is_err() {
            _ = fs::remove_file(&path);
        }
        result
    }
}

/// The partial files in a directory, read once for many targets.
#[derive(Debug)]
pub(super) struct Parts {
    dir: PathBuf,
    names: Vec<String>,
}

impl Parts {
    /// The partial files beside `target`; none if the directory can't be read.
    pub(super) fn beside(target: &Path) -> Self {
        let dir = split(target).map_or_else(|_| PathBuf::new(), |(dir, _)| dir.to_path_buf());
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        Self { names: names.filter(|name| name.ends_with(SUFFIX)).collect(), dir }
    }

    /// True if they are those beside `target`, too.
    pub(super) fn is_beside(&self, target: &Path) -> bool {
        split(target).is_ok_and(|(dir, _)| dir == self.dir)
    }

    /// Those of `target` whose bytes came under `key`, or all without one.
    pub(super) fn of(&self, target: &Path, key: Option<u64>) -> Vec<Found> {
        let Ok((_, name)) = split(target) else { return Vec::new() };
        let prefix = part_prefix(name);
        let found = self.names.iter().filter_map(|name| {
            let version = version(name.strip_prefix(&prefix)?.strip_suffix(SUFFIX)?)?;
            (version.key == key).then(|| Found { path: self.dir.join(name), version })
        });
        found.collect()
    }
}

/// `SIZE-TAG` or `SIZE-TAG~KEY`, with or without a number behind it.
fn version(text: &str) -> Option<Version> {
    let (size, rest) = text.split_once('-')?;
    let rest = rest.split_once('.').map_or(rest, |(rest, _)| rest);
    let (tag, key) = match rest.split_once('~') {
        Some((tag, key)) if key.len() == 16 => (tag, Some(u64::from_str_radix(key, 16).ok()?)),
        Some(_) => return None,
        None => (rest, None),
    };
    Some(Version { size: size.parse().ok()?, tag: Tag::parse(tag.as_bytes())?, key })
}

/// True for the name of a partial file, of whatever file.
#[must_use]
pub fn is_partial(name: &str) -> bool {
    let inner = name.strip_prefix('.').and_then(|name| name.strip_suffix(SUFFIX));
    inner.is_some_and(|inner| inner.match_indices('.').any(|(at, _)| version(&inner[at + 1..]).is_some()))
}

/// Replaces a plain file, which hands its permissions on, or a link.
fn replace(file: &File, part: &Path, target: &Path) -> io::Result<()> {
    match fs::symlink_metadata(target) {
        Ok(meta) if meta.is_file() => inherit(file, &meta),
        // A link to a device stands for the device (/dev/stdout): neither is to be replaced by a file.
        Ok(meta) if meta.is_symlink() && fs::metadata(target).is_ok_and(|meta| !meta.is_file()) => {
            return Err(special());
        }
        Ok(meta) if !meta.is_symlink() => return Err(special()),
        _ => {}
    }
    fs::rename(part, target)
}

/// True if `target` is a plain file that is to be replaced.
fn replaces(target: &Path, existing: Existing) -> bool {
    existing == Existing::Replace && fs::symlink_metadata(target).is_ok_and(|meta| meta.is_file())
}

#[cfg(unix)]
const PRIVATE: u32 = 0o600;

#[cfg(unix)]
fn private(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt as _;

    options.mode(PRIVATE);
}

#[cfg(unix)]
fn make_private(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    file.set_permissions(fs::Permissions::from_mode(PRIVATE))
}

/// Copies group and permissions of the replaced file to the new one, without set-user-ID, set-group-ID and sticky
/// bits: they were given to the old content. If the group can't be set, the group gets only the permissions of others.
#[cfg(unix)]
fn inherit(file: &File, from: &fs::Metadata) {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    let mut mode = from.mode() & 0o777;
    let same = file.metadata().is_ok_and(|meta| meta.gid() == from.gid());
    if !same && std::os::unix::fs::fchown(file, None, Some(from.gid())).is_err() {
        mode &= !0o070 | mode << 3;
    }
    // If the file system does not support them, the file stays private.
    _ = file.set_permissions(fs::Permissions::from_mode(mode));
}

#[cfg(not(unix))]
fn private(_: &mut OpenOptions) {}

#[cfg(not(unix))]
fn make_private(_: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn inherit(file: &File, from: &fs::Metadata) {
    _ = file.set_permissions(from.permissions());
}

/// Finds the first of `name`, `name(1)`, `name(2)` that is free.
fn keep(part: &Path, target: &Path, portable: bool) -> io::Result<PathBuf> {
    if put(part, target, portable)? {
        return Ok(target.to_path_buf());
    }
    let meta = fs::symlink_metadata(target)?;
    if !meta.is_file() && !meta.is_dir() && !meta.is_symlink() {
        return Err(special());
    }
    for number in 1..MAX_NUMBER {
        let numbered = numbered(target, number)?;
        if put(part, &numbered, portable)? {
            return Ok(numbered);
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

fn special() -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, "exists and is not a regular file")
}

/// `report.txt` as `report(1).txt`, like the server does it (PROTOCOL §3).
fn numbered(target: &Path, number: u32) -> io::Result<PathBuf> {
    let (_, name) = split(target)?;
    let mut buffer = [0; MAX_NAME + 12];
    let name = match Name::parse(name.as_encoded_bytes(), MAX_NAME) {
        Ok(name) => {
            let numbered = name.numbered(number, MAX_NAME, &mut buffer);
            numbered.map_err(|error| io::Error::new(ErrorKind::InvalidFilename, error))?.as_str().into()
        }
        // A local name that no server would take.
        Err(_) => {
            let mut numbered = target.file_stem().unwrap_or(name).to_owned();
            numbered.push(format!("({number})"));
            if let Some(extension) = target.extension() {
                numbered.push(".");
                numbered.push(extension);
            }
            numbered
        }
    };
    Ok(target.with_file_name(name))
}

/// Renames unless the name is taken; `false`: it is.
fn put(part: &Path, target: &Path, portable: bool) -> io::Result<bool> {
    if !portable && let Some(done) = rename_new(part, target) {
        return done;
    }
    let taken = |error: io::Error| {
        if error.kind() == ErrorKind::AlreadyExists { Ok(false) } else { Err(error) }
    };
    match fs::hard_link(part, target) {
        Ok(()) => fs::remove_file(part).map(|()| true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        // A file system without links: an empty file holds the place.
        Err(_) => match OpenOptions::new().write(true).create_new(true).open(target) {
            Ok(_) => fs::rename(part, target).map(|()| true),
            Err(error) => taken(error),
        },
    }
}

/// The one step of systems that have it. `None`: it is not there, or not on this file system.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename_new(part: &Path, target: &Path) -> Option<io::Result<bool>> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;

    match renameat_with(CWD, part, CWD, target, RenameFlags::NOREPLACE) {
        Ok(()) => Some(Ok(true)),
        Err(Errno::EXIST) => Some(Ok(false)),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => None,
        Err(error) => Some(Err(error.into())),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn rename_new(_: &Path, _: &Path) -> Option<io::Result<bool>> {
    None
}

/// True unless another process has locked the file; always true on a file system without locks.
fn lock(file: &File) -> bool {
    !matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock))
}

#[cfg(unix)]
fn not_through_links(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;

    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    options.custom_flags(flags.bits().cast_signed());
}

#[cfg(not(unix))]
fn not_through_links(_: &mut OpenOptions) {}

/// True for a plain file that nobody else can have prepared.
#[cfg(unix)]
fn is_ours(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;

    meta.is_file() && meta.nlink() == 1 && meta.uid() == rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn is_ours(meta: &fs::Metadata) -> bool {
    meta.is_file()
}

#[cfg(unix)]
fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;

    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn is_same(_: &fs::Metadata, other: &fs::Metadata) -> bool {
    other.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_name_stays_beneath_the_directory() {
        assert_eq!(local_path(Path::new("d"), "a/b c").unwrap(), Path::new("d").join("a").join("b c"));
        for name in ["../x", "/etc/passwd", "a/../../x", "a//b", "", "..", "a\\..\\b", "x\n"] {
            assert!(matches!(local_path(Path::new("d"), name), Err(Error::BadName { .. })), "{name:?}");
        }
    }

    #[test]
    fn names_that_windows_takes_for_something_else_are_known() {
        for name in
            ["c:x", "a:stream", "con", "NUL.txt", "Com1", "lpt9.log", "COM¹", "conin$", "aux ", "end.", "end ", "what?"]
        {
            assert!(is_special_on_windows(name), "{name}");
        }
        for name in ["console", "com", "com10", "nulls.txt", "a.b", ".hidden"] {
            assert!(!is_special_on_windows(name), "{name}");
        }
    }

    #[test]
    fn partial_files_tell_what_they_are_parts_of() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a.b.txt");
        let long = dir.path().join("é".repeat(120));
        let protected = dir.path().join("c");
        for (target, key) in [(&target, None), (&long, Some(1)), (&protected, Some(u64::MAX))] {
            let version = Version { size: 12, tag: Tag::parse(b"v1").unwrap(), key };
            let part = Part::create(target, Existing::Keep, version, false).unwrap();
            let of = |key| Parts::beside(target).of(target, key);
            let found = of(key);
            assert_eq!(found.len(), 1);
            assert_eq!((&found[0].path, found[0].version), (&part.path, version));
            assert!([None, Some(1), Some(u64::MAX)].iter().all(|&other| other == key || of(other).is_empty()));
            assert!(part.path.file_name().unwrap().len() <= MAX_FILE_NAME);
            assert!(is_partial(part.path.file_name().unwrap().to_str().unwrap()));
            // Its writer holds it.
            assert!(Part::reopen(&part.path).is_none());
            let unknown = Version { tag: Tag::UNKNOWN, ..version };
            let second = Part::create(target, Existing::Keep, unknown, false).unwrap();
            let third = Part::create(target, Existing::Replace, unknown, false).unwrap();
            assert_ne!(second.path, third.path);
            assert!(is_partial(third.path.file_name().unwrap().to_str().unwrap()));
            assert_eq!(of(key).len(), 3);
            drop(part);
            assert!(Part::reopen(&found[0].path).is_some());
        }
        assert!(Parts::beside(&target).of(&dir.path().join("a.b"), None).is_empty());
        // The same beginning, and another end.
        assert!(Parts::beside(&long).of(&dir.path().join("é".repeat(119) + "e"), Some(1)).is_empty());
    }

    #[test]
    fn what_is_called_like_a_partial_file_is_none() {
        for name in [
            "a.12-v1.skiff-part",
            ".a.skiff-part",
            ".12-v1.skiff-part",
            ".a.x-v1.skiff-part",
            ".a.12-v1.part",
            ".a.12-v1~1.skiff-part",
            ".",
        ] {
            assert!(!is_partial(name), "{name}");
        }
    }

    #[test]
    fn a_file_without_a_name_of_the_protocol_is_numbered_too() {
        assert_eq!(numbered(Path::new("d/a\\b.txt"), 3).unwrap(), Path::new("d/a\\b(3).txt"));
        assert_eq!(numbered(Path::new(".profile"), 1).unwrap(), Path::new(".profile(1)"));
    }
}
