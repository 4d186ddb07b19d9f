//! Exclusion rules of `sync`: `--exclude`, and the files `.skiffignore`, which are read like a `.gitignore`.

use core::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder, Glob};

use super::failure::Failure;
use crate::client::{is_partial, sanitize};

/// The file that lists what is left alone in its directory and below.
const FILE: &str = ".skiffignore";

/// Which names of a tree are excluded. All names are relative to the tree's root, with `/`.
#[derive(Debug)]
pub(crate) struct Exclusions {
    /// `--exclude`.
    given: Vec<Given>,
    /// By the directory that holds the `.skiffignore`; the root is the empty name.
    files: BTreeMap<String, Gitignore>,
}

/// The glob of one `--exclude`.
#[derive(Debug)]
struct Given {
    glob: String,
    matcher: Gitignore,
    /// It has matched a name.
    used: Cell<bool>,
}

impl Exclusions {
    /// Those of `--exclude`.
    ///
    /// # Errors
    /// A glob is not valid, or excludes nothing.
    pub(crate) fn new(globs: &[String]) -> Result<Self, Failure> {
        let given = globs.iter().map(|glob| {
            let wrong = |why: &str| Failure::usage(format!("--exclude {}: {why}", sanitize(&format!("'{glob}'"))));
            match glob.trim().chars().next() {
                None => return Err(wrong("the pattern is empty")),
                Some('#') => return Err(wrong("a comment; \\# is a # at the beginning of a name")),
                Some('!') => return Err(wrong("exceptions (!) are possible only in .skiffignore")),
                Some(_) => {}
            }
            let matcher = matcher([glob.as_str()]).map_err(|(_, why)| wrong(&why))?;
            Ok(Given { glob: glob.clone(), matcher, used: Cell::new(false) })
        });
        Ok(Self { given: given.collect::<Result<_, _>>()?, files: BTreeMap::new() })
    }

    /// Reads the `.skiffignore` of a local directory, if it has one. `name`: the directory within the tree.
    ///
    /// # Errors
    /// It can't be read, or a line is not valid: what it was to protect is not known.
    pub(crate) fn enter(&mut self, dir: &Path, name: &str) -> Result<(), Failure> {
        let path = dir.join(FILE);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            // Reading a FIFO would wait for its writer.
            Ok(_) if fs::metadata(&path).is_ok_and(|meta| !meta.is_file()) => {
                let error = std::io::Error::other("is not a file");
                return Err(Failure::local(&path, &error));
            }
            _ => {}
        }
        let text = fs::read_to_string(&path).map_err(|error| Failure::local(&path, &error))?;
        let read = matcher(text.trim_start_matches('\u{feff}').lines()).map_err(|(line, why)| {
            let subject = Some(path.to_string_lossy().into_owned());
            Failure { subject, ..Failure::usage(format!("line {line}: {why}")) }
        })?;
        self.files.insert(name.to_owned(), read);
        Ok(())
    }

    /// The globs of `--exclude` that have matched no name so far.
    pub(crate) fn unused(&self) -> impl Iterator<Item = &str> {
        self.given.iter().filter(|given| !given.used.get()).map(|given| given.glob.as_str())
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
        let matching = self.given.iter().filter(|given| given.matcher.matched(name, is_dir).is_ignore());
        if matching.map(|given| given.used.set(true)).count() > 0 {
            return true;
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

/// Compiles the lines of a `.gitignore`; `./x` is `x`.
///
/// # Errors
/// The number of the first line that is not valid, and why.
fn matcher<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Gitignore, (usize, String)> {
    let why = |error: &ignore::Error| sanitize(&error.to_string().replace('\n', "; ")).into_owned();
    let mut builder = GitignoreBuilder::new("");
    _ = builder.allow_unclosed_class(false);
    let mut count = 0;
    for line in lines {
        count += 1;
        let line = line.strip_prefix("./").unwrap_or(line);
        builder.add_line(None, line).map_err(|error| (count, why(&error)))?;
    }
    builder.build().map_err(|error| (count, why(&error)))
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
        assert_eq!(exclusions.unused().count(), 0);
    }

    #[test]
    fn a_pattern_that_can_exclude_nothing_is_a_usage_error() {
        for (glob, why) in [
            ("[z-a]", "invalid range"),
            ("[*.log", "unclosed character class"),
            ("", "empty"),
            (" ", "empty"),
            ("#x", "comment"),
            ("!x", "exception"),
        ] {
            let failure = Exclusions::new(&[glob.to_owned()]).unwrap_err();
            assert!(failure.code == "usage" && failure.message.contains(why), "{failure:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let mut exclusions = Exclusions::new(&["./logs".to_owned(), "xx/logs".to_owned()]).unwrap();
        fs::write(dir.path().join(FILE), "\n# good\n./x\n").unwrap();
        exclusions.enter(dir.path(), "").unwrap();
        assert!(exclusions.covers("logs", true) && exclusions.covers("x", false));
        assert_eq!(exclusions.unused().collect::<Vec<_>>(), ["xx/logs"]);
        fs::write(dir.path().join(FILE), "*.o\n[*.log\n").unwrap();
        let failure = exclusions.enter(dir.path(), "").unwrap_err();
        assert!(failure.code == "usage" && failure.message.starts_with("line 2: "), "{failure:?}");
    }
}
