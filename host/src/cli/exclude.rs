//! What `sync` leaves alone: `--exclude`, and the files `.skiffignore`, which are read like a `.gitignore`.

use std::collections::BTreeMap;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder, Glob};

use super::failure::Failure;
use crate::client::is_partial;

/// The file that lists what is left alone in its directory and below.
const FILE: &str = ".skiffignore";

/// Which names of a tree are excluded. All names are relative to the tree's root, with `/`.
#[derive(Debug)]
pub(crate) struct Exclusions {
    /// `--exclude`.
    given: Gitignore,
    /// By the directory that holds the `.skiffignore`; the root is the empty name.
    files: BTreeMap<String, Gitignore>,
}

impl Exclusions {
    /// Those of `--exclude`.
    ///
    /// # Errors
    /// A glob is not valid.
    pub(crate) fn new(globs: &[String]) -> Result<Self, Failure> {
        let mut builder = GitignoreBuilder::new("");
        for glob in globs {
            builder
                .add_line(None, glob)
                .map_err(|error| Failure::usage(format!("--exclude {glob}: {}", why(&error))))?;
        }
        let given = builder.build().map_err(|error| Failure::usage(format!("--exclude: {}", why(&error))))?;
        Ok(Self { given, files: BTreeMap::new() })
    }

    /// Reads the `.skiffignore` of a local directory, if it has one. `name`: the directory within the tree.
    pub(crate) fn enter(&mut self, dir: &Path, name: &str) -> Result<(), Failure> {
        let path = dir.join(FILE);
        if !path.is_file() {
            return Ok(());
        }
        let mut builder = GitignoreBuilder::new("");
        let wrong = |error: &ignore::Error| Failure::new(path.to_string_lossy(), "local", why(error));
        if let Some(error) = builder.add(&path) {
            return Err(wrong(&error));
        }
        let read = builder.build().map_err(|error| wrong(&error))?;
        self.files.insert(name.to_owned(), read);
        Ok(())
    }

    /// True if `name` is left alone: it or a directory that it lies in is excluded. Partial files of this program, and the
    /// files `.skiffignore` themselves, always are.
    pub(crate) fn covers(&self, name: &str, is_dir: bool) -> bool {
        let ends = name.match_indices('/').map(|(at, _)| at);
        ends.map(|at| (&name[..at], true)).chain([(name, is_dir)]).any(|(name, is_dir)| self.excludes(name, is_dir))
    }

    /// The same, if no directory that `name` lies in is excluded.
    fn excludes(&self, name: &str, is_dir: bool) -> bool {
        let own = name.rsplit('/').next().unwrap_or(name);
        if is_partial(own) || own == FILE {
            return true;
        }
        if let Some(excluded) = decided(self.given.matched(name, is_dir)) {
            return excluded;
        }
        // The innermost file that says something decides.
        let mut dir = name;
        while !dir.is_empty() {
            dir = dir.rsplit_once('/').map_or("", |(parent, _)| parent);
            let below = name[dir.len()..].trim_start_matches('/');
            let file = self.files.get(dir);
            if let Some(excluded) = file.and_then(|file| decided(file.matched(below, is_dir))) {
                return excluded;
            }
        }
        false
    }
}

fn decided(found: Match<&Glob>) -> Option<bool> {
    match found {
        Match::None => None,
        Match::Ignore(_) => Some(true),
        Match::Whitelist(_) => Some(false),
    }
}

/// What is wrong, in one line.
fn why(error: &ignore::Error) -> String {
    crate::client::sanitize(&error.to_string().replace('\n', "; ")).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_are_excluded_as_git_ignores_them() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join(FILE), "*.o\n!keep.o\n/top\nbuild/\n# a comment\n").unwrap();
        fs::write(dir.path().join("sub").join(FILE), "!x.o\n*.c\n").unwrap();
        let mut exclusions = Exclusions::new(&["*.log".to_owned(), "/only/here".to_owned()]).unwrap();
        exclusions.enter(dir.path(), "").unwrap();
        exclusions.enter(&dir.path().join("sub"), "sub").unwrap();
        exclusions.enter(&dir.path().join("none"), "none").unwrap();
        for (name, is_dir, covered) in [
            ("a", false, false),
            ("a.o", false, true),
            ("keep.o", false, false),
            ("d/a.o", false, true),
            ("d/keep.o", false, false),
            ("top", false, true),
            ("d/top", false, false),
            ("build", false, false),
            ("build", true, true),
            ("build/x/y", false, true),
            ("d/build/x", false, true),
            ("sub/x.o", false, false),
            ("sub/y.o", false, true),
            ("sub/y.c", false, true),
            ("y.c", false, false),
            ("a.log", false, true),
            ("sub/a.log", false, true),
            ("only/here", false, true),
            ("d/only/here", false, false),
            (FILE, false, true),
            ("d/.skiffignore", false, true),
            (".a.txt.12-0123456789abcdef.skiff-part", false, true),
        ] {
            assert_eq!(exclusions.covers(name, is_dir), covered, "{name}");
        }
        assert!(Exclusions::new(&["[z-a]".to_owned()]).is_err());
    }
}
