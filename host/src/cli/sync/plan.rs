//! What a `sync` has to do, from what is known of both trees. Nothing here asks the server or the disk.

use std::collections::{BTreeMap, BTreeSet};

use super::super::tree::{empty_dirs, parents};

/// One of the two trees. Names are relative to its root.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) files: BTreeMap<String, Content>,
    pub(super) dirs: BTreeSet<String>,
    /// Existing entries that are left alone.
    pub(super) kept: BTreeSet<String>,
    /// Directories with entries that the listing omits.
    pub(super) unlisted: BTreeSet<String>,
}

/// The properties of a file that are known without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) size: u64,
    pub(super) crc: Option<u32>,
    pub(super) mtime: Option<u64>,
}

/// What makes one tree like another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Files to transfer, and their sizes.
    pub(super) send: BTreeMap<String, u64>,
    /// Files of the same size, whose checksums decide.
    pub(super) same_size: Vec<String>,
    /// Files to delete.
    pub(super) remove: Vec<String>,
    /// Directories to delete, each after those in it.
    pub(super) remove_dirs: Vec<String>,
    /// Directories that the target lacks.
    pub(super) make: Vec<String>,
    /// Names that are a file in one tree and a directory in the other; what is below them is not transferred.
    pub(super) conflicts: Vec<String>,
    pub(super) unchanged: usize,
}

impl Side {
    /// True if two names of these trees differ only in letter case.
    pub(super) fn differs_in_case(&self, from: &Self) -> bool {
        let mut names: BTreeMap<String, &String> = BTreeMap::new();
        let all = [self, from].into_iter().flat_map(|side| side.files.keys().chain(&side.dirs).chain(&side.kept));
        all.into_iter().any(|name| *names.entry(name.to_lowercase()).or_insert(name) != name)
    }

    /// Gives the names of this tree, whose file system ignores letter case, the spelling that they have in `from`. If
    /// two names of `from` are one name here, removes the second from `from`. Returns each removed name with the first
    /// one.
    pub(super) fn adopt_spellings(&mut self, from: &mut Self) -> Vec<(String, String)> {
        let mut meet = Vec::new();
        let mut spellings: BTreeMap<String, String> = BTreeMap::new();
        for name in from.files.keys().chain(&from.dirs) {
            let first = spellings.entry(name.to_lowercase()).or_insert_with(|| name.clone());
            // Two directories become one: only a conflict with a file counts.
            if first != name && from.files.contains_key(first) {
                meet.push((name.clone(), first.clone()));
            }
        }
        for (name, _) in &meet {
            from.files.remove(name);
            from.dirs.remove(name);
        }
        let adopted = |name: String| spellings.get(&name.to_lowercase()).cloned().unwrap_or(name);
        self.files = core::mem::take(&mut self.files).into_iter().map(|(name, file)| (adopted(name), file)).collect();
        for names in [&mut self.dirs, &mut self.kept, &mut self.unlisted] {
            *names = core::mem::take(names).into_iter().map(&adopted).collect();
        }
        meet
    }
}

/// The steps that make `to` match `from`.
pub(super) fn compare(from: &Side, to: &Side, delete: bool) -> Plan {
    let mut plan = Plan::default();
    let is_kept = |name: &str| from.kept.contains(name) || parents(name).any(|dir| from.kept.contains(dir));
    // A directory goes only if nothing stays in it.
    let mut staying: BTreeSet<&str> = to.kept.iter().chain(&to.unlisted).flat_map(|name| parents(name)).collect();
    staying.extend(to.unlisted.iter().map(String::as_str));
    if delete {
        for name in to.files.keys().filter(|name| !from.files.contains_key(*name)) {
            if is_kept(name) {
                staying.extend(parents(name));
            } else {
                plan.remove.push(name.clone());
            }
        }
        for name in to.dirs.iter().rev().filter(|name| !from.dirs.contains(*name)) {
            if is_kept(name) || staying.contains(name.as_str()) {
                staying.extend(parents(name));
            } else {
                plan.remove_dirs.push(name.clone());
            }
        }
    }
    let removed: BTreeSet<&str> = plan.remove.iter().chain(&plan.remove_dirs).map(String::as_str).collect();
    // An entry with the name, but of the other kind, stays.
    let in_the_way = |name: &str, is_dir: bool| {
        let there = if is_dir { to.files.contains_key(name) } else { to.dirs.contains(name) };
        (there && !removed.contains(name)) || to.kept.contains(name)
    };
    let mut conflicts: Vec<String> = Vec::new();
    conflicts.extend(from.dirs.iter().filter(|name| in_the_way(name, true)).cloned());
    conflicts.extend(from.files.keys().filter(|name| in_the_way(name, false)).cloned());
    let blocking: BTreeSet<&str> = conflicts.iter().map(String::as_str).collect();
    let blocked = |name: &str| blocking.contains(name) || parents(name).any(|dir| blocking.contains(dir));
    for (name, content) in from.files.iter().filter(|(name, _)| !blocked(name)) {
        match to.files.get(name) {
            Some(there) if there.size == content.size && content.size == 0 => plan.unchanged += 1,
            Some(there) if there.size == content.size => plan.same_size.push(name.clone()),
            _ => _ = plan.send.insert(name.clone(), content.size),
        }
    }
    plan.make = from.dirs.iter().filter(|name| !to.dirs.contains(*name) && !blocked(name)).cloned().collect();
    plan.conflicts = conflicts;
    plan
}

impl Plan {
    /// The directories that have to be made because no file brings them into being.
    pub(super) fn empty_dirs(&self) -> Vec<String> {
        let files = self.send.keys().map(String::as_str);
        let mut dirs = empty_dirs(files, self.make.iter().map(String::as_str));
        // `make` is in the order of names.
        dirs.retain(|dir| self.make.binary_search(dir).is_ok());
        dirs
    }

    /// The transfers before the deletions, and those that are possible only after them.
    pub(super) fn around_deletion(&self, from: &Side) -> [Self; 2] {
        let gone: BTreeSet<_> = self.remove.iter().chain(&self.remove_dirs).map(String::as_str).collect();
        let is_replaced =
            |name: &str| gone.contains(name) && (from.files.contains_key(name) || from.dirs.contains(name));
        let waits = |name: &str| is_replaced(name) || parents(name).any(is_replaced);
        [false, true].map(|second| Self {
            send: self
                .send
                .iter()
                .filter(|(name, _)| waits(name) == second)
                .map(|(name, size)| (name.clone(), *size))
                .collect(),
            make: self.make.iter().filter(|name| waits(name) == second).cloned().collect(),
            ..Self::default()
        })
    }
}

/// True if it or a directory that it lies in is hidden.
pub(super) fn is_hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names with `/` at the end are directories, with `!` at the end are left alone; `=N` is a size.
    fn side(names: &[&str]) -> Side {
        let mut side = Side::default();
        for name in names {
            if let Some(dir) = name.strip_suffix('/') {
                side.dirs.insert(dir.to_owned());
            } else if let Some(kept) = name.strip_suffix('!') {
                side.kept.insert(kept.to_owned());
            } else {
                let (name, size) = name.split_once('=').unwrap_or((name, "1"));
                let content = Content { size: size.parse().unwrap(), crc: None, mtime: None };
                side.files.insert(name.to_owned(), content);
            }
        }
        side
    }

    #[test]
    fn where_case_is_ignored_one_name_has_one_file() {
        let mut from = side(&["A", "a", "b", "D/", "D/x", "d/", "d/x", "d/y", "C/", "c"]);
        let mut to = side(&["a", "B", "B2", "D/", "D/Y", "gone"]);
        assert!(to.differs_in_case(&from) && !to.differs_in_case(&side(&["gone", "E"])));
        let meet = to.adopt_spellings(&mut from);
        let meet: Vec<_> = meet.iter().map(|(name, first)| (name.as_str(), first.as_str())).collect();
        assert_eq!(meet, [("a", "A"), ("d/x", "D/x"), ("C", "c")]);
        let plan = compare(&from, &to, true);
        assert_eq!(plan.same_size, ["A", "b", "d/y"]);
        assert_eq!(plan.send.keys().collect::<Vec<_>>(), ["D/x", "c"]);
        assert_eq!(plan.remove, ["B2", "gone"]);
        assert!(plan.remove_dirs.is_empty() && plan.conflicts.is_empty());
    }

    #[test]
    fn sizes_decide_first() {
        let plan = compare(&side(&["a=1", "b=2", "c=0", "d"]), &side(&["a=1", "b=3", "c=0", "old"]), false);
        assert_eq!(plan.send.keys().collect::<Vec<_>>(), ["b", "d"]);
        assert_eq!((plan.same_size, plan.unchanged), (vec!["a".to_owned()], 1));
        assert!(plan.remove.is_empty() && plan.remove_dirs.is_empty() && plan.conflicts.is_empty());
    }

    #[test]
    fn only_what_neither_side_leaves_alone_is_deleted() {
        let from = side(&["a", "d/", "d/x", "link!", "sub!"]);
        let to =
            side(&["a", "old", "link", "sub/", "sub/x", "e/", "e/f/", "e/f/y", "g/", "g/keep!", "g/z", "d/", "d/w"]);
        let plan = compare(&from, &to, true);
        assert_eq!(plan.remove, ["d/w", "e/f/y", "g/z", "old"]);
        assert_eq!(plan.remove_dirs, ["e/f", "e"]);
        assert_eq!(plan.send.keys().collect::<Vec<_>>(), ["d/x"]);
    }

    #[test]
    fn a_file_and_a_directory_of_one_name_conflict_unless_the_old_one_is_deleted() {
        let from = side(&["a", "b/", "b/x", "b/c/", "ok"]);
        let to = side(&["a/", "a/y", "b"]);
        let plan = compare(&from, &to, false);
        assert_eq!(plan.conflicts, ["b", "a"]);
        assert_eq!(plan.send.keys().collect::<Vec<_>>(), ["ok"]);
        assert_eq!(plan.make, Vec::<String>::new());
        let plan = compare(&from, &to, true);
        assert!(plan.conflicts.is_empty());
        assert_eq!((plan.remove, plan.remove_dirs), (vec!["a/y".to_owned(), "b".to_owned()], vec!["a".to_owned()]));
        assert_eq!(plan.send.keys().collect::<Vec<_>>(), ["a", "b/x", "ok"]);
        let plan = compare(&from, &side(&["a/", "a/y!", "b!"]), true);
        assert_eq!(plan.conflicts, ["b", "a"]);
    }
}
