//! Checksums that outlive a store.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use skiff_host::store::{DirStore, Options};
use skiff_proto::store::EntryKind;
use tempfile::TempDir;

use super::{entries, list, n, stage};

/// Files of this size are worth an index.
const LARGE: usize = 16 << 20;

/// A checksum that no file here has: a store that answers with it has not read the file.
const KNOWN: u32 = 0x600d_5eed;

/// A root on a file system where an index is written; otherwise `None`.
fn root(test: &str) -> Option<TempDir> {
    let root = tempfile::tempdir().unwrap();
    let magic = i128::from(rustix::fs::statfs(root.path()).unwrap().f_type) & 0xffff_ffff;
    if [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0xca45_1a4e, 0x0102_1994].contains(&magic) {
        return Some(root);
    }
    skiff_tests::programs::skip(test, "set TMPDIR to a directory on ext4, xfs, btrfs, f2fs, bcachefs or tmpfs");
    None
}

fn open(root: &Path) -> DirStore {
    DirStore::new(Options { reserve: Some(0), ..Options::new(root) }).unwrap()
}

/// Stores a file with a checksum that is not its own.
fn put(store: &DirStore, name: &str, len: usize) {
    store.commit(&mut stage(store, name, &vec![b'x'; len]).unwrap(), Some(KNOWN)).unwrap();
}

/// The checksum that `stat`, `read` and `list` all report.
fn crc(store: &DirStore, name: &str) -> Option<u32> {
    let stat = store.stat(n(name)).unwrap();
    assert_eq!(store.open(n(name)).unwrap().1, stat);
    let mut cursor = store.list(None).unwrap();
    let mut listed = None;
    while store
        .next_entry(&mut cursor, &mut |entry| {
            if let (true, EntryKind::File(stat)) = (entry.name.as_str() == name, entry.kind) {
                listed = Some(stat);
            }
        })
        .unwrap()
    {}
    assert_eq!(listed, Some(stat));
    stat.crc
}

#[test]
fn the_next_store_knows_checksums_without_reading() {
    let Some(root) = root("the_next_store_knows_checksums_without_reading") else { return };
    let first = open(root.path());
    put(&first, "f", LARGE);
    ["changed", "replaced"].iter().for_each(|name| put(&first, name, 5));
    drop(first);
    // The same size and mtime: only the ctime shows the change.
    let file = File::options().write(true).open(root.path().join("changed")).unwrap();
    let mtime = file.metadata().unwrap().modified().unwrap();
    file.write_at(b"other", 0).unwrap();
    file.set_modified(mtime).unwrap();
    fs::write(root.path().join("copy"), "other").unwrap();
    fs::rename(root.path().join("copy"), root.path().join("replaced")).unwrap();
    for read_only in [true, false, false] {
        let next = DirStore::new(Options { hidden: true, read_only, ..Options::new(root.path()) }).unwrap();
        assert_eq!(["f", "changed", "replaced"].map(|name| crc(&next, name)), [Some(KNOWN), None, None]);
        assert_eq!(list(&next, None).unwrap(), ["changed", "f", "replaced"]);
        if !read_only {
            // Claims the staging directory, and sweeps it.
            next.discard(stage(&next, "new", b"x").unwrap());
        }
        drop(next);
        assert_eq!(entries(&root.path().join(".skiff-stage-0")), ["checksums"]);
    }
}

#[test]
fn two_stores_of_one_directory_each_save_their_own_checksums() {
    let Some(root) = root("two_stores_of_one_directory_each_save_their_own_checksums") else { return };
    let (first, second) = (open(root.path()), open(root.path()));
    put(&first, "1", LARGE);
    put(&second, "2", LARGE);
    drop(first);
    drop(second);
    let next = open(root.path());
    assert_eq!(crc(&next, "1"), Some(KNOWN));
    assert_eq!(crc(&next, "2"), None);
}

#[test]
fn a_damaged_index_of_checksums_is_ignored() {
    let Some(root) = root("a_damaged_index_of_checksums_is_ignored") else { return };
    let store = open(root.path());
    put(&store, "f", LARGE);
    drop(store);
    let index = root.path().join(".skiff-stage-0/checksums");
    let good = fs::read(&index).unwrap();
    for bad in [&good[..good.len() / 2], b"", b"garbage", &good[1..], &[0; 2 << 20]] {
        fs::write(&index, bad).unwrap();
        assert_eq!(crc(&open(root.path()), "f"), None);
    }
    fs::write(&index, &good).unwrap();
    assert_eq!(crc(&open(root.path()), "f"), Some(KNOWN));
    // A directory has the name of the index.
    fs::remove_file(&index).unwrap();
    fs::create_dir(&index).unwrap();
    let store = open(root.path());
    put(&store, "f", LARGE);
    assert_eq!(crc(&store, "f"), Some(KNOWN));
    drop(store);
    assert_eq!(crc(&open(root.path()), "f"), None);
    assert_eq!(entries(&root.path().join(".skiff-stage-0")), ["checksums"]);
}

#[test]
fn no_index_of_checksums_is_written_for_a_few_bytes() {
    let Some(root) = root("no_index_of_checksums_is_written_for_a_few_bytes") else { return };
    let store = open(root.path());
    put(&store, "f", LARGE - 1);
    drop(store);
    assert_eq!(entries(root.path()), ["f"]);
}

#[test]
fn on_a_full_disk_the_old_index_of_checksums_stays() {
    let test = "on_a_full_disk_the_old_index_of_checksums_stays";
    if !skiff_tests::namespace::mounts(module_path!(), test) {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=40m", "tmpfs"]).arg(root.path()).status();
    if !mounted.unwrap().success() {
        return skiff_tests::programs::skip(
            test,
            "no tmpfs can be mounted; permit user namespaces (`unshare -Urm true` must work)",
        );
    }
    let store = open(root.path());
    put(&store, "f", LARGE);
    drop(store);
    let store = open(root.path());
    put(&store, "g", LARGE);
    assert!(fs::write(root.path().join("filler"), vec![0; LARGE]).is_err());
    drop(store);
    let next = open(root.path());
    assert_eq!((crc(&next, "f"), crc(&next, "g")), (Some(KNOWN), None));
    assert_eq!(entries(&root.path().join(".skiff-stage-0")), ["checksums"]);
}

#[test]
fn checksums_that_an_inner_store_saved_do_not_keep_its_directory() {
    let test = "checksums_that_an_inner_store_saved_do_not_keep_its_directory";
    let Some(root) = root(test) else { return };
    let outer = open(root.path());
    outer.mkdir(n("d")).unwrap();
    let inner = open(&root.path().join("d"));
    put(&inner, "f", LARGE);
    drop(inner);
    assert_eq!(entries(&root.path().join("d/.skiff-stage-0")), ["checksums"]);
    assert_eq!(outer.rmdir(n("d")).unwrap_err().code, skiff_proto::ErrorCode::NotEmpty);
    outer.remove(n("d/f")).unwrap();
    outer.rmdir(n("d")).unwrap();
    assert_eq!(entries(root.path()), Vec::<String>::new());
}
