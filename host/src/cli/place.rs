//! Where downloads go: local paths for names on the server, never outside the requested directory.

use std::collections::HashSet;
use std::fs;
use std::io;
#[cfg(unix)]
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use tempfile::TempDir;

use super::failure::Failure;
use crate::client;

/// A local directory that receives a directory tree of the server.
#[derive(Debug)]
pub(crate) struct Place {
    base: PathBuf,
    /// Directories below `base` that were checked or created.
    safe: HashSet<PathBuf>,
}

impl Place {
    /// The directory `base`, which the user named: it may be a link, and it is made when something is put in it.
    pub(crate) fn new(base: impl Into<PathBuf>) -> Self {
        Self { base: base.into(), safe: HashSet::new() }
    }

    /// The local path for the file that is called `relative` in the tree; the directories it lies in are made.
    ///
    /// # Errors
    /// The name can't be a local one; a directory on the way is a link or no directory, or can't be made.
    pub(crate) fn file(&mut self, relative: &str) -> Result<PathBuf, Failure> {
        let path = self.path(relative)?;
        if let Some((parent, _)) = relative.rsplit_once('/') {
            self.directory(parent)?;
        } else {
            self.make_base()?;
        }
        Ok(path)
    }

    /// Makes the directory that is called `relative` in the tree, with those it lies in.
    ///
    /// # Errors
    /// As [`Place::file`].
    pub(crate) fn directory(&mut self, relative: &str) -> Result<(), Failure> {
        self.path(relative)?;
        self.make_base()?;
        let mut path = self.base.clone();
        for component in relative.split('/') {
            path.push(component);
            if self.safe.contains(&path) {
                continue;
            }
            make_real_directory(&path)?;
            self.safe.insert(path.clone());
        }
        Ok(())
    }

    /// The path of a name below `base`: the client checks the name, and this that the path says nothing else.
    fn path(&self, relative: &str) -> Result<PathBuf, Failure> {
        let path =
            client::local_path(&self.base, relative).map_err(|error| Failure::client("get", Some(relative), &error))?;
        let below = path.strip_prefix(&self.base).unwrap_or(&path);
        let plain = below.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || below.components().count() != relative.split('/').count() {
            return Err(Failure::new(relative, "local-name", "this is not a valid local file name"));
        }
        Ok(path)
    }

    /// Creates the directory itself.
    ///
    /// # Errors
    /// As [`make_user_directory`].
    pub(crate) fn make_base(&mut self) -> Result<(), Failure> {
        if self.safe.contains(&self.base) {
            return Ok(());
        }
        make_user_directory(&self.base)?;
        self.safe.insert(self.base.clone());
        Ok(())
    }
}

/// Local paths that one command has used for files. If the file system ignores letter case, `A` and `a` are one path.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    paths: HashSet<PathBuf>,
    /// The same paths in lower case.
    folded: HashSet<String>,
}

impl Taken {
    /// Adds a path, whose directory exists. False if it is already used.
    pub(crate) fn insert(&mut self, path: &Path) -> bool {
        let is_new = self.paths.insert(path.to_owned());
        let has_new_letters = self.folded.insert(path.to_string_lossy().to_lowercase());
        is_new && (has_new_letters || !ignores_case(path.parent().unwrap_or(path)))
    }
}

/// True if the file system finds a file in `dir` by its name in another letter case. Checks this with a temporary file,
/// in the nearest parent that exists if `dir` does not.
pub(crate) fn ignores_case(dir: &Path) -> bool {
    let Some(dir) = dir.ancestors().map(or_current).find(|dir| dir.is_dir()) else { return false };
    let Ok(probe) = tempfile::Builder::new().prefix(".skiff-case-").tempfile_in(dir) else { return false };
    let name = probe.path().file_name().unwrap_or_default().to_string_lossy().to_uppercase();
    dir.join(name).exists()
}

fn or_current(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Makes a directory that the user named, with its parents; links are the user's own.
///
/// # Errors
/// What the system says, about the directory.
pub(crate) fn make_user_directory(path: &Path) -> Result<(), Failure> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::new(path.to_string_lossy(), "local", "exists and is not a directory"),
        _ => Failure::local(path, &error),
    })
}

/// Creates one directory if it does not exist. A link to a directory is an error: nothing from the server may be
/// written through it.
fn make_real_directory(path: &Path) -> Result<(), Failure> {
    match fs::create_dir(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Failure::local(path, &error)),
    }
    let meta = fs::symlink_metadata(path).map_err(|error| Failure::local(path, &error))?;
    let why = if meta.is_dir() {
        return Ok(());
    } else if meta.is_symlink() {
        "is a symbolic link here; get -r does not write through it"
    } else {
        "is a file here, not a directory"
    };
    Err(Failure::new(path.to_string_lossy(), "local", why))
}

/// The target given with `-o` of a `get`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Into this directory, each under the last part of its name.
    Directory(PathBuf),
    /// Under this name.
    Named(PathBuf),
    /// To standard output.
    Stdout,
    /// To this device, FIFO or open descriptor.
    Stream(PathBuf),
}

impl Destination {
    /// What the argument of `-o` means: a directory if it ends in `/` or is one. The exception is a directory of the
    /// server, called `continued`, that is fetched again with `-c`: if it is not in there, there is where it is.
    pub(crate) fn parse(output: Option<&std::ffi::OsStr>, continued: Option<&str>) -> Self {
        let Some(output) = output else { return Self::Directory(PathBuf::new()) };
        if output == "-" {
            return Self::Stdout;
        }
        let path = PathBuf::from(output);
        match descriptor(&path) {
            Some(1) => return Self::Stdout,
            Some(_) => return Self::Stream(path),
            None if is_stream(&path) => return Self::Stream(path),
            None => {}
        }
        let begun = continued.is_some_and(|name| {
            let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or(name);
            !path.join(last).exists()
        });
        if output.as_encoded_bytes().ends_with(b"/") || (path.is_dir() && !begun) {
            Self::Directory(path)
        } else {
            Self::Named(path)
        }
    }
}

/// A temporary directory that only the user can enter.
pub(crate) fn private_directory() -> Result<TempDir, Failure> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(fs::Permissions::from_mode(0o700));
    builder.tempdir().map_err(|error| Failure::local(&std::env::temp_dir(), &error))
}

/// Takes the permissions on a file from everybody else.
pub(crate) fn make_private(path: &Path) -> Result<(), Failure> {
    #[cfg(unix)]
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(|error| Failure::local(path, &error))?;
    _ = path;
    Ok(())
}

/// The open descriptor that a path stands for, such as `/dev/stdout` or `/dev/fd/3`.
fn descriptor(path: &Path) -> Option<u32> {
    match path.to_str().filter(|_| cfg!(unix))? {
        "/dev/stdin" => Some(0),
        "/dev/stdout" => Some(1),
        "/dev/stderr" => Some(2),
        path => path.strip_prefix("/dev/fd/").or_else(|| path.strip_prefix("/proc/self/fd/"))?.parse().ok(),
    }
}

/// True if it is a character device or a FIFO.
#[cfg(unix)]
fn is_stream(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;

    fs::metadata(path).is_ok_and(|meta| meta.file_type().is_char_device() || meta.file_type().is_fifo())
}

#[cfg(not(unix))]
fn is_stream(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_rebuilt_below_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("new/base");
        let mut place = Place::new(&base);
        assert_eq!(place.file("a/b/x.txt").unwrap(), base.join("a/b/x.txt"));
        assert!(base.join("a/b").is_dir() && !base.join("a/b/x.txt").exists());
        assert_eq!(place.file("y").unwrap(), base.join("y"));
        place.directory("a/empty").unwrap();
        assert!(base.join("a/empty").is_dir());
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut place = Place::new(dir.path().join("base"));
        for name in ["../x", "a/../../x", "/etc/x", "a//b", "", ".", "..", "a/./b", "a\\b", "a\nb", ".skiff-x/y"] {
            assert!(place.file(name).is_err(), "{name}");
            assert!(place.directory(name).is_err(), "{name}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    #[cfg(unix)]
    fn a_tree_is_not_fetched_through_a_link() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("logs")).unwrap();
        let mut place = Place::new(dir.path());
        let failure = place.file("logs/x").unwrap_err();
        assert!(failure.message.contains("link"), "{failure:?}");
        assert!(place.directory("logs/sub").is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_in_the_way_of_a_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "x").unwrap();
        assert!(Place::new(dir.path()).file("a/b").unwrap_err().message.contains("is a file here"));
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"x");
    }

    #[test]
    fn an_output_is_a_directory_a_name_or_standard_output() {
        let dir = tempfile::tempdir().unwrap();
        let parse = |text: &str| Destination::parse(Some(text.as_ref()), None);
        assert_eq!(Destination::parse(None, None), Destination::Directory(PathBuf::new()));
        assert_eq!(parse("-"), Destination::Stdout);
        if cfg!(unix) {
            assert_eq!(parse("/dev/stdout"), Destination::Stdout);
            for name in ["/dev/null", "/dev/fd/7", "/dev/stderr"] {
                assert_eq!(parse(name), Destination::Stream(name.into()));
            }
        }
        assert_eq!(parse("new/"), Destination::Directory("new/".into()));
        assert_eq!(parse("new"), Destination::Named("new".into()));
        assert_eq!(parse(dir.path().to_str().unwrap()), Destination::Directory(dir.path().into()));
    }
}
