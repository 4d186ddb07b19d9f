//! Whole trees: listed at any depth, and renamed while others write below them.

use core::sync::atomic::{AtomicBool, Ordering};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::thread;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use skiff_host::store::DirStore;
use skiff_proto::ErrorCode;
use skiff_proto::store::EntryKind;
use tempfile::TempDir;

use super::{code, get, n, open, open_portable, put};

/// The names of a tree in its order, directories with a `/`.
fn tree(store: &DirStore, dir: Option<&str>) -> Result<Vec<String>, ErrorCode> {
    let mut cursor = code(store.tree(dir.map(n)))?;
    let mut names = Vec::new();
    while code(store.next_entry(&mut cursor, &mut |entry| {
        let end = if matches!(entry.kind, EntryKind::Directory { .. }) { "/" } else { "" };
        names.push(format!("{}{end}", entry.name));
    }))? {}
    Ok(names)
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[test]
fn a_tree_follows_links_and_ends_where_they_lead_back() {
    let root = TempDir::new().unwrap();
    for dir in ["a/b", "c"] {
        fs::create_dir_all(root.path().join(dir)).unwrap();
    }
    fs::write(root.path().join("c/f"), "x").unwrap();
    for (target, link) in [("..", "a/up"), ("../../a", "a/b/over"), ("../../c", "a/b/c"), (".", "c/self"), ("/", "out")]
    {
        symlink(target, root.path().join(link)).unwrap();
    }
    let store = open(root.path());
    let whole = ["a/", "a/b/", "a/b/c/", "a/b/c/f", "a/b/c/self/", "a/b/over/", "a/up/", "c/", "c/f", "c/self/"];
    assert_eq!(sorted(tree(&store, None).unwrap()), whole);
    assert_eq!(store.omitted(&mut store.tree(None).unwrap()), Ok(0));
    // Without openat2 no link is followed.
    assert_eq!(sorted(tree(&open_portable(root.path()), None).unwrap()), ["a/", "a/b/", "c/", "c/f"]);
}

#[test]
fn what_a_tree_omits_is_counted_at_every_depth_in_parts() {
    use std::os::unix::ffi::OsStrExt as _;
    let root = TempDir::new().unwrap();
    let bad = |number: u8| std::ffi::OsStr::from_bytes(&[0xff, number]).to_owned();
    for (number, dir) in [(b'1', ""), (b'2', "d"), (b'3', "d/e/f")] {
        fs::create_dir_all(root.path().join(dir)).unwrap();
        fs::write(root.path().join(dir).join(bad(number)), "x").unwrap();
    }
    // Its entries have no valid name either, and are not counted.
    fs::create_dir_all(root.path().join(bad(b'4')).join("x/y")).unwrap();
    let store = open(root.path());
    let mut cursor = store.tree(None).unwrap();
    let (mut omitted, mut parts) = (0, 1);
    while !store.count_omitted(&mut cursor, &mut omitted, &mut || true).unwrap() {
        parts += 1;
    }
    assert_eq!((omitted, parts > 5), (4, true));
    let mut names = 0;
    while store.next_entry(&mut cursor, &mut |_| names += 1).unwrap() {}
    assert_eq!(names, 3, "from its start");
}

#[test]
fn a_tree_that_can_not_be_read_to_its_end_is_an_error() {
    let root = TempDir::new().unwrap();
    let store = open(root.path());
    put(&store, "d/f", b"x").unwrap();
    let locked = root.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::write(locked.join("f"), "x").unwrap();
    // Not even read, and read but not searched.
    for mode in [0o0, 0o400] {
        fs::set_permissions(&locked, fs::Permissions::from_mode(mode)).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                // Of this thread only: the test may run as root.
                let none = CapabilitySet::empty();
                let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
                set_capabilities(None, sets).unwrap();
                assert_eq!(tree(&store, None), Err(ErrorCode::Denied), "{mode:o}");
                assert_eq!(code(super::list(&store, Some("locked"))), Err(ErrorCode::Denied), "{mode:o}");
            });
        });
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
    fs::remove_dir_all(&locked).unwrap();
    for number in 0..2500 {
        fs::create_dir(root.path().join(format!("d/{number}{}", "x".repeat(100)))).unwrap();
    }
    assert_eq!(tree(&store, None), Err(ErrorCode::TooLong));
    // A listing of one directory has no such limit.
    assert_eq!(super::list(&store, Some("d")).unwrap().len(), 2501);
}

/// A commit opens its directory before it waits for the disk. It must not store the file under the directory's new
/// name.
#[test]
fn a_directory_that_was_renamed_is_not_changed_by_writers_of_its_old_name() {
    let root = TempDir::new().unwrap();
    let store = open(root.path());
    let is_over = AtomicBool::new(false);
    /// Ends the writers, also if something fails.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    thread::scope(|scope| {
        let over = Over(&is_over);
        for writer in 0..2 {
            let (store, is_over) = (&store, &is_over);
            scope.spawn(move || {
                let _over = Over(is_over);
                let mut number = 0_u32;
                while !is_over.load(Ordering::Relaxed) {
                    number += 1;
                    put(store, &format!("d/{writer}"), &number.to_le_bytes()).unwrap();
                    if number.is_multiple_of(3) {
                        // It may be under another name by now.
                        _ = store.remove(n(&format!("d/{writer}")));
                    }
                }
            });
        }
        let content = |dir: &str| [0, 1].map(|writer| get(&store, &format!("{dir}/{writer}")).ok());
        let mut moved = Vec::new();
        while moved.len() < 300 && !is_over.load(Ordering::Relaxed) {
            let to = format!("moved/{}", moved.len());
            match code(store.rename(n("d"), n(&to))) {
                Ok(()) => moved.push((content(&to), to)),
                Err(ErrorCode::NotFound) => {}
                Err(other) => panic!("{other}"),
            }
        }
        drop(over);
        for (before, dir) in moved {
            assert_eq!(content(&dir), before, "{dir}");
        }
    });
}
