//! Directories on the server: listed at most once per command, and walked. On a server that has `tree`, one request
//! lists everything below a directory.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::failure::Failure;
use crate::client::{Client, Error, RefusedEntry, RemoteEntry, sanitize};

/// The entries of one directory.
pub(crate) type Entries = Rc<Vec<RemoteEntry>>;

/// A walk fails beyond this many files and directories: a server could invent them endlessly.
const WALK_LIMIT: usize = 1_000_000;

/// Lists directories of the server: the server, or a test.
pub(crate) trait Lister {
    /// The entries of `dir`, the root without one, in any order.
    ///
    /// # Errors
    /// As [`Client::list`].
    async fn entries(&mut self, dir: Option<&str>) -> Result<Entries, Error>;

    /// Called before everything below `dir` is needed.
    ///
    /// # Errors
    /// Those of the connection.
    async fn prepare(&mut self, dir: Option<&str>) -> Result<(), Error> {
        _ = dir;
        Ok(())
    }

    /// Records that one of several directories can't be listed.
    fn failed(&mut self, failure: Failure) {
        _ = failure;
    }
}

/// The server's directories, each listed at most once.
pub(crate) struct Listings<'a> {
    client: &'a mut Client,
    known: HashMap<Option<String>, Entries>,
    /// The directories whose whole tree was requested.
    prepared: HashSet<Option<String>>,
    failures: Vec<Failure>,
}

impl<'a> Listings<'a> {
    /// Nothing is known yet.
    pub(crate) fn new(client: &'a mut Client) -> Self {
        Self { client, known: HashMap::new(), prepared: HashSet::new(), failures: Vec::new() }
    }

    /// The connection.
    pub(crate) fn client(&mut self) -> &mut Client {
        self.client
    }

    /// A failure for each name in the listings so far that is not to be used, each directory whose listing is not
    /// complete, and each that can't be listed.
    pub(crate) fn take_failures(&mut self) -> Vec<Failure> {
        core::mem::take(&mut self.failures)
    }
}

/// The code of the failure for a directory whose listing omits entries.
pub(crate) const OMITTED: &str = "omitted";

/// The failure for a directory whose listing omits entries; `None` if it is complete.
fn incomplete(dir: Option<&str>, omitted: u64) -> Option<Failure> {
    let message = format!("the listing omits {}", unlistable(omitted)?);
    Some(Failure::new(dir.map_or_else(|| "/".to_owned(), |dir| format!("{dir}/")), OMITTED, message))
}

/// `3 entries whose names can't be listed`; `None` for 0.
pub(crate) fn unlistable(omitted: u64) -> Option<String> {
    match omitted {
        0 => None,
        1 => Some("1 entry whose name can't be listed".to_owned()),
        n => Some(format!("{n} entries whose names can't be listed")),
    }
}

/// The failure for a name in a listing that must not be used.
fn refused_name(refused: &RefusedEntry) -> Failure {
    let message = format!("skipped an invalid entry from the server: {}", sanitize(&refused.why.to_string()));
    Failure::new(refused.name.clone(), "bad-name", message)
}

impl Lister for Listings<'_> {
    async fn entries(&mut self, dir: Option<&str>) -> Result<Entries, Error> {
        let key = dir.map(str::to_owned);
        if let Some(entries) = self.known.get(&key) {
            return Ok(Rc::clone(entries));
        }
        let listing = self.client.list(dir).await?;
        self.failures.extend(listing.refused.iter().map(refused_name));
        self.failures.extend(incomplete(dir, listing.omitted));
        let entries = Rc::new(listing.entries);
        self.known.insert(key, Rc::clone(&entries));
        Ok(entries)
    }

    /// Sends one `tree`. Errors in it are ignored: the listings of the directories report them and where they are.
    async fn prepare(&mut self, dir: Option<&str>) -> Result<(), Error> {
        let known = self.known.get(&dir.map(str::to_owned));
        let is_new = self.prepared.insert(dir.map(str::to_owned));
        if !is_new || self.client.lacks_tree() || known.is_some_and(|entries| entries.iter().all(|entry| !entry.is_dir))
        {
            return Ok(());
        }
        let listing = match self.client.tree(dir).await {
            Ok(listing) if listing.omitted == 0 && listing.refused.is_empty() => listing,
            Err(error) if error.is_connection() || matches!(error, Error::Cancelled) => return Err(error),
            Ok(_) | Err(_) => return Ok(()),
        };
        let mut found: HashMap<Option<String>, Vec<RemoteEntry>> =
            HashMap::from([(dir.map(str::to_owned), Vec::new())]);
        for entry in listing.entries {
            if entry.is_dir {
                found.entry(Some(entry.name.clone())).or_default();
            }
            let parent = entry.name.rsplit_once('/').map(|(parent, _)| parent.to_owned());
            found.entry(parent).or_default().push(entry);
        }
        self.known.extend(found.into_iter().map(|(dir, entries)| (dir, Rc::new(entries))));
        Ok(())
    }

    fn failed(&mut self, failure: Failure) {
        self.failures.push(failure);
    }
}

/// Everything in `dir` and below, directories before what is in them, each directory sorted by name.
///
/// # Errors
/// A [`Failure`] about the directory that can't be listed.
pub(crate) async fn walk(lister: &mut impl Lister, verb: &str, dir: Option<&str>) -> Result<Vec<RemoteEntry>, Failure> {
    walk_where(lister, verb, dir, |_| true).await
}

/// The same; only directories that `enter` accepts are listed.
///
/// # Errors
/// As [`walk`].
pub(crate) async fn walk_where(
    lister: &mut impl Lister,
    verb: &str,
    dir: Option<&str>,
    mut enter: impl FnMut(&RemoteEntry) -> bool,
) -> Result<Vec<RemoteEntry>, Failure> {
    let prepared = lister.prepare(dir).await;
    prepared.map_err(|error| Failure::client(verb, Some(dir.unwrap_or("/")), &error))?;
    let mut found = Vec::new();
    // Reversed runs of entries that have yet to be processed: the next one is the last.
    let mut waiting = sorted(lister, verb, dir).await?;
    while let Some(entry) = waiting.pop() {
        let below =
            if entry.is_dir && enter(&entry) { sorted(lister, verb, Some(&entry.name)).await } else { Ok(Vec::new()) };
        let below = match below {
            // One directory that can't be read does not hide the others.
            Err(failure) if !failure.is_final() => {
                lister.failed(failure);
                Vec::new()
            }
            below => below?,
        };
        found.push(entry);
        waiting.extend(below);
        if found.len() + waiting.len() > WALK_LIMIT {
            let message = format!("more than {WALK_LIMIT} files and directories");
            return Err(Failure::new(dir.unwrap_or("/"), "too-long", message));
        }
    }
    Ok(found)
}

/// The entries of a directory, the first one last. Only what lies directly in it: that makes the walk end.
async fn sorted(lister: &mut impl Lister, verb: &str, dir: Option<&str>) -> Result<Vec<RemoteEntry>, Failure> {
    let entries = lister.entries(dir).await.map_err(|error| Failure::client(verb, Some(dir.unwrap_or("/")), &error))?;
    let inside = |entry: &&RemoteEntry| match dir {
        Some(dir) => entry
            .name
            .strip_prefix(dir)
            .and_then(|rest| rest.strip_prefix('/'))
            .is_some_and(|rest| !rest.is_empty() && !rest.contains('/')),
        None => !entry.name.contains('/'),
    };
    let mut entries: Vec<_> = entries.iter().filter(inside).cloned().collect();
    entries.sort_by(|a, b| b.name.cmp(&a.name));
    Ok(entries)
}

/// A directory as it is typed: `.`, `/` and nothing are the root, and a `/` at the end does not matter.
pub(crate) fn directory_name(typed: &str) -> Option<&str> {
    let name = typed.trim_end_matches('/');
    (!name.is_empty() && name != ".").then_some(name)
}

#[cfg(test)]
pub(crate) mod testing {
    //! A server that is not there.

    use super::*;
    use crate::client::ErrorCode;

    /// Lists what it was made of: names of files, and of directories with a `/` at the end.
    pub(crate) struct Fake {
        pub(crate) names: Vec<String>,
        pub(crate) asked: Vec<Option<String>>,
    }

    impl Fake {
        pub(crate) fn new(names: &[&str]) -> Self {
            Self { names: names.iter().map(|name| (*name).to_owned()).collect(), asked: Vec::new() }
        }
    }

    impl Lister for Fake {
        async fn entries(&mut self, dir: Option<&str>) -> Result<Entries, Error> {
            self.asked.push(dir.map(str::to_owned));
            let prefix = dir.map(|dir| format!("{dir}/")).unwrap_or_default();
            let mut entries: Vec<RemoteEntry> = Vec::new();
            let mut exists = dir.is_none();
            for name in &self.names {
                let Some(rest) = name.strip_prefix(&prefix) else { continue };
                exists = true;
                let (first, is_dir) = match rest.split_once('/') {
                    Some((first, _)) => (first, true),
                    None => (rest, false),
                };
                let name = format!("{prefix}{first}");
                if !first.is_empty() && !entries.iter().any(|entry| entry.name == name) {
                    entries.push(RemoteEntry { name, size: 1, mtime: None, crc: None, is_dir });
                }
            }
            if exists {
                Ok(Rc::new(entries))
            } else {
                let code = ErrorCode::NotFound;
                Err(Error::Refused { code: Some(code), word: code.as_str().to_owned(), text: String::new() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Fake;
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_walk_shows_directories_before_what_is_in_them() {
        let mut fake = Fake::new(&["b", "a/2", "a/1", "a/d/x", "e/"]);
        let found = walk(&mut fake, "get", None).await.unwrap();
        let names: Vec<_> = found.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["a", "a/1", "a/2", "a/d", "a/d/x", "b", "e"]);
        let found = walk(&mut fake, "get", Some("a/d")).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(walk(&mut fake, "ls", Some("none")).await.unwrap_err().message, "no such directory on the server");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_walk_ends_when_a_server_lists_a_directory_within_itself() {
        struct Endless;
        impl Lister for Endless {
            async fn entries(&mut self, _: Option<&str>) -> Result<Entries, Error> {
                let entry =
                    |name: &str| RemoteEntry { name: name.to_owned(), size: 0, mtime: None, crc: None, is_dir: true };
                Ok(Rc::new(vec![entry("a"), entry("a/a")]))
            }
        }
        assert_eq!(walk(&mut Endless, "get", None).await.unwrap().len(), 2);
    }

    #[test]
    fn directories_are_typed_in_many_ways() {
        for (typed, name) in
            [("", None), (".", None), ("/", None), ("./", None), ("a", Some("a")), ("a/b/", Some("a/b"))]
        {
            assert_eq!(directory_name(typed), name);
        }
    }
}
