//! Directories on the server that are symbolic links. A listing shows one like any other directory, but what is below
//! it lies elsewhere, so a command that removes a whole tree must not remove that.

use std::collections::{BTreeMap, BTreeSet};

use super::failure::Failure;
use super::tree::parents;
use crate::client::{Client, ErrorCode};

/// What was found out about directories before their content is removed.
#[derive(Debug, Default)]
pub(crate) struct Probed {
    /// Those that were empty. They have been removed.
    pub(crate) removed: BTreeSet<String>,
    /// Those whose content must stay: links, and directories that can't be removed, with the reason.
    pub(crate) closed: BTreeMap<String, Failure>,
}

impl Probed {
    /// True if `name` is one of those that must stay, or lies below one.
    pub(crate) fn covers(&self, name: &str) -> bool {
        self.closed.contains_key(name) || parents(name).any(|dir| self.closed.contains_key(dir))
    }

    /// True if `dir` can't become empty.
    pub(crate) fn keeps(&self, dir: &str) -> bool {
        self.covers(dir) || self.closed.keys().any(|closed| parents(closed).any(|parent| parent == dir))
    }
}

/// Tries to remove `dirs`, each before those below it. The server refuses a directory that is not empty, and does not
/// find a link.
///
/// # Errors
/// The connection has failed, or Ctrl-C.
pub(crate) async fn probe(
    client: &mut Client,
    verb: &str,
    dirs: impl IntoIterator<Item = String>,
) -> Result<Probed, Failure> {
    let mut levels: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for dir in dirs {
        levels.entry(parents(&dir).count()).or_default().insert(dir);
    }
    let mut probed = Probed::default();
    for mut dirs in levels.into_values() {
        dirs.retain(|dir| !probed.covers(dir));
        let dirs: Vec<_> = dirs.into_iter().collect();
        let results = client.rmdir_many(&dirs).await;
        for (dir, result) in dirs.into_iter().zip(results) {
            let error = match result {
                Ok(()) => {
                    probed.removed.insert(dir);
                    continue;
                }
                Err(error) if error.code() == Some(ErrorCode::NotEmpty) => continue,
                Err(error) => error,
            };
            let mut failure = Failure::client(verb, Some(&dir), &error);
            if failure.is_final() {
                return Err(failure);
            }
            if error.code() == Some(ErrorCode::NotFound) {
                failure.message = "is a symbolic link on the server, or has just disappeared".to_owned();
            }
            probed.closed.insert(dir, failure);
        }
    }
    Ok(probed)
}
