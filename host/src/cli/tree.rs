//! Walks a local directory for an upload.
//!
//! Follows links to regular files within the tree and no others; never opens devices, FIFOs and sockets. What is
//! skipped is reported, except for partial files of this program, which are only logged with `-v`.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::exclude::Exclusions;
use super::failure::Failure;
use crate::client::is_partial;

/// The code of the failure for a name that no server can have.
pub(crate) const BAD_NAME: &str = "bad-name";

/// What a walk found, sorted by name.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Regular files.
    pub(crate) files: Vec<TreeFile>,
    /// Directories, parents first, relative to the root and with `/`.
    pub(crate) dirs: Vec<String>,
    /// Entries skipped on purpose, and why.
    pub(crate) skipped: Vec<(PathBuf, &'static str)>,
    /// The names of everything that was left out, as in [`Tree::dirs`].
    pub(crate) kept: Vec<String>,
    /// What could not be read, or can't have a name on a server.
    pub(crate) failures: Vec<Failure>,
}

/// A regular file of a tree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TreeFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its name relative to the root, with `/`.
    pub(crate) name: String,
    /// Bytes.
    pub(crate) size: u64,
}

/// Walks `root`, which is followed if it is a link.
///
/// # Errors
/// `root` can't be read. Entries below it that can't be read are among [`Tree::failures`].
pub(crate) fn walk(root: &Path) -> Result<Tree, Failure> {
    walk_without(root, None)
}

/// The same without what is excluded; reads the files `.skiffignore` on its way.
///
/// # Errors
/// As [`walk`]; a `.skiffignore` is not valid.
pub(crate) fn walk_without(root: &Path, mut exclusions: Option<&mut Exclusions>) -> Result<Tree, Failure> {
    let mut tree = Tree::default();
    let real_root = root.canonicalize().map_err(|error| Failure::local(root, &error))?;
    let mut waiting = vec![(root.to_owned(), String::new())];
    while let Some((dir, prefix)) = waiting.pop() {
        let entries = match sorted(&dir) {
            Ok(entries) => entries,
            Err(error) if prefix.is_empty() => return Err(Failure::local(root, &error)),
            Err(error) => {
                tree.failures.push(Failure::local(&dir, &error));
                continue;
            }
        };
        if let Some(exclusions) = &mut exclusions {
            exclusions.enter(&dir, &prefix)?;
        }
        for path in entries {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                let message = "the name is not UTF-8; upload it on its own with -o NAME";
                tree.failures.push(Failure::new(path.to_string_lossy(), BAD_NAME, message));
                let own = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                tree.kept.push(if prefix.is_empty() { own } else { format!("{prefix}/{own}") });
                continue;
            };
            let is_partial = is_partial(name);
            let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            if is_partial {
                tracing::info!(path = %path.display(), "skipped: left by an interrupted transfer");
                tree.kept.push(name);
                continue;
            }
            let found = look_at(&path, &real_root);
            let is_dir = matches!(found, Ok(Found::Directory));
            if exclusions.as_ref().is_some_and(|exclusions| exclusions.covers(&name, is_dir)) {
                tracing::info!(path = %path.display(), "excluded");
                tree.kept.push(name);
                continue;
            }
            match found {
                Ok(Found::File { size }) => tree.files.push(TreeFile { path, name, size }),
                Ok(Found::Directory) => {
                    tree.dirs.push(name.clone());
                    waiting.push((path, name));
                }
                Ok(Found::Skip(why)) => {
                    tree.kept.push(name);
                    tree.skipped.push((path, why));
                }
                Err(error) => tree.failures.push(Failure::local(&path, &error)),
            }
        }
    }
    tree.files.sort_by(|a, b| a.name.cmp(&b.name));
    tree.dirs.sort();
    tree.skipped.sort();
    Ok(tree)
}

fn sorted(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut entries =
        fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    // A path like `./x` reads better as `x`.
    for path in &mut entries {
        if let Ok(rest) = path.strip_prefix(".") {
            *path = rest.to_owned();
        }
    }
    entries.sort();
    Ok(entries)
}

enum Found {
    File { size: u64 },
    Directory,
    Skip(&'static str),
}

fn look_at(path: &Path, real_root: &Path) -> io::Result<Found> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_dir() {
        return Ok(Found::Directory);
    }
    if meta.is_file() {
        return Ok(Found::File { size: meta.len() });
    }
    if !meta.is_symlink() {
        return Ok(Found::Skip("not a regular file"));
    }
    let Ok(target) = path.canonicalize() else { return Ok(Found::Skip("broken link")) };
    if !target.starts_with(real_root) {
        return Ok(Found::Skip("link to outside the tree"));
    }
    let meta = fs::metadata(&target)?;
    Ok(if meta.is_file() {
        Found::File { size: meta.len() }
    } else if meta.is_dir() {
        Found::Skip("link to a directory")
    } else {
        Found::Skip("not a regular file")
    })
}

/// The directories that no file brings into being, each after those that it lies in: what `mkdir` has to make. `files`
/// and `dirs` are names on the server.
pub(crate) fn empty_dirs<'a>(files: impl Iterator<Item = &'a str>, dirs: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut made: HashSet<&str> = files.flat_map(parents).collect();
    let mut missing = Vec::new();
    for dir in dirs {
        for ancestor in parents(dir).collect::<Vec<_>>().into_iter().rev().chain([dir]) {
            if made.insert(ancestor) {
                missing.push(ancestor.to_owned());
            }
        }
    }
    missing
}

/// The directories that `name` lies in, the innermost first.
pub(crate) fn parents(name: &str) -> impl Iterator<Item = &str> {
    core::iter::successors(name.rsplit_once('/'), |(parent, _)| parent.rsplit_once('/')).map(|(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tree: &Tree) -> Vec<&str> {
        tree.files.iter().map(|file| file.name.as_str()).collect()
    }

    #[test]
    fn a_walk_finds_files_and_directories() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b/empty")).unwrap();
        for name in ["z", "a/1", "a/b/2", ".hidden"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let tree = walk(dir.path()).unwrap();
        assert_eq!(names(&tree), [".hidden", "a/1", "a/b/2", "z"]);
        assert_eq!(tree.dirs, ["a", "a/b", "a/b/empty"]);
        assert_eq!(tree.files[2].path, dir.path().join("a/b/2"));
        assert_eq!(tree.files[2].size, 5);
        assert!(tree.skipped.is_empty() && tree.failures.is_empty());
    }

    #[test]
    #[cfg(unix)]
    fn links_lead_to_files_within_the_tree_only() {
        use std::os::unix::fs::symlink;
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("d/real"), "real").unwrap();
        symlink("d/real", root.join("inside")).unwrap();
        symlink(outside.path().join("secret"), root.join("out-file")).unwrap();
        symlink(outside.path(), root.join("out-dir")).unwrap();
        symlink("..", root.join("d/loop")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        let tree = walk(root).unwrap();
        assert_eq!(names(&tree), ["d/real", "inside"]);
        assert_eq!(tree.files[1].size, 4);
        let skipped: Vec<_> =
            tree.skipped.iter().map(|(path, why)| (path.strip_prefix(root).unwrap().to_str().unwrap(), *why)).collect();
        assert_eq!(
            skipped,
            [
                ("d/loop", "link to a directory"),
                ("dangling", "broken link"),
                ("out-dir", "link to outside the tree"),
                ("out-file", "link to outside the tree"),
            ]
        );
    }

    #[test]
    #[cfg(unix)]
    fn sockets_are_left_out_and_odd_names_are_failures() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
        fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"bad\xff")), "x").unwrap();
        fs::write(dir.path().join("good"), "x").unwrap();
        let tree = walk(dir.path()).unwrap();
        assert_eq!(names(&tree), ["good"]);
        assert_eq!(tree.skipped, [(dir.path().join("s"), "not a regular file")]);
        assert_eq!(tree.failures.len(), 1);
        assert!(tree.failures[0].message.contains("UTF-8"));
    }

    #[test]
    fn a_root_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(walk(&dir.path().join("none")).is_err());
    }

    #[test]
    fn only_directories_without_files_have_to_be_made() {
        let files = ["t/a/1", "t/z"];
        let dirs = ["t", "t/a", "t/a/e", "t/b", "t/b/c"];
        assert_eq!(empty_dirs(files.into_iter(), dirs.into_iter()), ["t/a/e", "t/b", "t/b/c"]);
        assert_eq!(empty_dirs([].into_iter(), ["x/y"].into_iter()), ["x", "x/y"]);
    }
}
