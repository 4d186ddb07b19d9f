//! Maps names of files to keys of objects.

use object_store::path::Path;
use sha2::{Digest as _, Sha256};
use skiff_proto::name::Name;
use skiff_proto::{ErrorCode, Refusal};

/// The object that stands for a directory, in that directory.
const DIRECTORY: &str = ".skiff-dir";

/// The prefix can't be used in keys.
#[derive(Debug, thiserror::Error)]
#[error("the prefix {0:?} has an empty component, `.`, `..` or a control character")]
pub struct BadPrefix(String);

/// The keys below one prefix.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: Path,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Result<Self, BadPrefix> {
        let bad = || BadPrefix(prefix.to_owned());
        Ok(Self { prefix: Path::parse(prefix).map_err(|_| bad())? })
    }

    pub(super) const fn prefix(&self) -> &Path {
        &self.prefix
    }

    fn below(&self, key: &str) -> Result<Path, Refusal> {
        let path = if self.prefix.as_ref().is_empty() {
            Path::parse(key)
        } else {
            Path::parse(format!("{}/{key}", self.prefix))
        };
        path.map_err(|_| ErrorCode::BadName.into())
    }

    /// The object of a file.
    pub(super) fn file(&self, name: &str) -> Result<Path, Refusal> {
        self.below(name)
    }

    /// The object that stands for a directory.
    pub(super) fn directory(&self, name: &str) -> Result<Path, Refusal> {
        self.below(&format!("{name}/{DIRECTORY}"))
    }

    /// The folder with the records of all stages, their tails, and parts that are objects.
    pub(super) fn stages(&self) -> Result<Path, Refusal> {
        self.below(".skiff-stage")
    }

    /// The record of the stage of `name`.
    pub(super) fn record(&self, name: &str) -> Result<Path, Refusal> {
        self.below(&format!(".skiff-stage/{}", hash(name)))
    }

    /// An object that belongs to one writer of the stage of `name`.
    pub(super) fn beside(&self, name: &str, what: &str) -> Result<Path, Refusal> {
        self.below(&format!(".skiff-stage/{}.{what}", hash(name)))
    }

    /// The folder with the records of renames.
    pub(super) fn moves(&self) -> Result<Path, Refusal> {
        self.below(".skiff-move")
    }

    /// The record of a rename of `from`.
    pub(super) fn moving(&self, from: &str) -> Result<Path, Refusal> {
        self.below(&format!(".skiff-move/{}", hash(from)))
    }

    /// An object of this instance.
    pub(super) fn own(&self, what: &str) -> Result<Path, Refusal> {
        self.below(&format!(".skiff-{what}"))
    }

    /// The name of an object, relative to the root of the store.
    pub(super) fn name_of<'p>(&self, path: &'p Path) -> Option<&'p str> {
        let prefix = self.prefix.as_ref();
        if prefix.is_empty() {
            return Some(path.as_ref());
        }
        path.as_ref().strip_prefix(prefix)?.strip_prefix('/')
    }
}

/// The name as a part of a key, with a fixed length, because a key has at most 1024 bytes.
fn hash(name: &str) -> String {
    Sha256::digest(name.as_bytes())[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// True if a component begins with `.`.
pub(super) fn is_hidden(name: Name<'_>) -> bool {
    name.as_str().split('/').any(|component| component.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_an_object_under_its_own_name() {
        for (prefix, key) in [("", "d/a b%41#.txt"), ("x/y", "x/y/d/a b%41#.txt"), ("/x/", "x/d/a b%41#.txt")] {
            let keys = Keys::new(prefix).unwrap();
            let path = keys.file("d/a b%41#.txt").unwrap();
            assert_eq!(path.as_ref(), key);
            assert_eq!(keys.name_of(&path), Some("d/a b%41#.txt"));
        }
        assert_eq!(Keys::new("x").unwrap().name_of(&Path::from("xy/a")), None);
        assert!(Keys::new("a//b").is_err() && Keys::new("../a").is_err());
    }
}
