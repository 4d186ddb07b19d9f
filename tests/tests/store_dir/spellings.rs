//! Hidden and reserved names stay hidden under other spellings and by other paths.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use skiff_host::store::{DirStore, Options};
use skiff_proto::ErrorCode;
use skiff_proto::identity::NOBODY;
use skiff_tests::namespace::mounts;
use skiff_tests::{fuse, programs};

use super::{append, code, entries, get, list, n, put};

/// Runs `test` on a file system that also finds names under other spellings.
fn on_other_spellings(name: &str, test: impl Fn(&Path)) {
    if !mounts(module_path!(), name) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    match fuse::mount(dir.path()) {
        Ok(mounted) => {
            test(dir.path());
            mounted.umount_and_join().unwrap();
        }
        Err(error) => programs::skip(name, &format!("no FUSE file system can be mounted: {error}")),
    }
}

fn store(root: &Path, hidden: bool, portable: bool) -> DirStore {
    DirStore::new(Options { hidden, portable, ..Options::new(root) }).unwrap()
}

/// Checks that nothing in `dir` can be read, listed, changed or created, including the file `name`.
fn check_withheld(store: &DirStore, dir: &str, name: &str) {
    let file = format!("{dir}/{name}");
    let (dir, file, what) = (n(dir), n(&file), format!("{file}, of {store:?}"));
    assert_eq!(code(store.list(Some(dir)).map(drop)), Err(ErrorCode::NotFound), "{what}");
    check_unreadable(store, file.as_str());
    assert_eq!(code(store.rename(file, n("stolen"))), Err(ErrorCode::NotFound), "{what}");
    assert_eq!(code(store.remove(file)), Err(ErrorCode::NotFound), "{what}");
    assert!(store.rmdir(dir).is_err(), "{what}");
    assert!(store.rename(n("seen"), n(&format!("{dir}/seen"))).is_err(), "{what}");
    assert!(put(store, &format!("{dir}/new"), b"new").is_err(), "{what}");
    assert!(store.mkdir(n(&format!("{dir}/new"))).is_err(), "{what}");
}

fn check_unreadable(store: &DirStore, name: &str) {
    assert_eq!(code(store.stat(n(name))), Err(ErrorCode::NotFound), "{name}");
    assert_eq!(code(store.open(n(name)).map(drop)), Err(ErrorCode::NotFound), "{name}");
}

/// The name of the only file in a directory.
fn only(dir: &Path) -> String {
    let names = entries(dir);
    assert_eq!(names.len(), 1, "{names:?}");
    names[0].clone()
}

#[test]
fn what_is_withheld_is_withheld_under_every_spelling_of_its_name() {
    on_other_spellings("what_is_withheld_is_withheld_under_every_spelling_of_its_name", |root| {
        fs::write(root.join("seen"), "seen").unwrap();
        fs::write(root.join(".profile"), "secret").unwrap();
        fs::create_dir(root.join(".private")).unwrap();
        fs::write(root.join(".private/key"), "secret").unwrap();
        assert_eq!(fs::read(root.join("PROFIL~1")).unwrap(), b"secret", "the file system knows other spellings");
        // Of a store that runs beside the one that is asked, and of one that has ended.
        let other = store(root, false, false);
        let ended = store(root, false, false);
        for (store, name) in [(&other, "theirs"), (&ended, "left")] {
            let (mut stage, _) = store.stage(n(name), NOBODY, 0, 10, None).unwrap();
            append(store, &mut stage, b"secret").unwrap();
        }
        drop(ended);
        let staged = [0, 1].map(|slot| only(&root.join(format!(".skiff-stage-{slot}"))));
        for portable in [false, true] {
            for hidden in [false, true] {
                let store = store(root, hidden, portable);
                check_withheld(&store, "SKIFF-~1", &staged[0]);
                check_withheld(&store, "skiff-~1", &staged[1]);
                if hidden {
                    check_withheld(&store, ".SKIFF-STAGE-1", &staged[1]);
                    assert_eq!(get(&store, ".profile").unwrap(), b"secret");
                    continue;
                }
                check_withheld(&store, "PRIVAT~1", "key");
                check_unreadable(&store, "PROFIL~1");
                assert_eq!(code(store.rename(n("PROFIL~1"), n("stolen"))), Err(ErrorCode::NotFound));
                assert_eq!(code(store.remove(n("PROFIL~1"))), Err(ErrorCode::NotFound));
                assert_eq!(code(put(&store, "PROFIL~1", b"mine")), Err(ErrorCode::Denied));
                assert_eq!(code(store.rename(n("seen"), n("PROFIL~1"))), Err(ErrorCode::Denied));
                assert_eq!(
                    code(store.commit_new(&mut store.stage_unnamed(0).unwrap(), n("PROFIL~1"))).map(drop),
                    Err(ErrorCode::Exists)
                );
            }
        }
        assert_eq!(fs::read(root.join(".profile")).unwrap(), b"secret");
        assert_eq!(only(&root.join(".skiff-stage-1")), staged[1]);
    });
}

#[test]
fn two_spellings_of_a_visible_name_are_one_file_and_nothing_is_lost() {
    on_other_spellings("two_spellings_of_a_visible_name_are_one_file_and_nothing_is_lost", |root| {
        let store = store(root, false, false);
        put(&store, "Dir/A", b"old").unwrap();
        assert_eq!(get(&store, "dir/a").unwrap(), b"old");
        // Two writers, of two spellings: the later commit wins, whole.
        let (mut upper, _) = store.stage(n("Dir/A"), NOBODY, 0, 5, None).unwrap();
        let (mut lower, _) = store.stage(n("dir/a"), NOBODY, 0, 5, None).unwrap();
        append(&store, &mut upper, b"upper").unwrap();
        append(&store, &mut lower, b"lower").unwrap();
        store.commit(&mut upper, None).unwrap();
        assert_eq!(get(&store, "dir/a").unwrap(), b"upper");
        store.commit(&mut lower, None).unwrap();
        assert_eq!(get(&store, "Dir/A").unwrap(), b"lower");
        assert_eq!(list(&store, Some("Dir")).unwrap().len(), 1);
        store.rename(n("dir/a"), n("dir/A")).unwrap();
        assert_eq!(get(&store, "Dir/A").unwrap(), b"lower");
        assert_eq!(code(store.mkdir(n("DIR"))), Err(ErrorCode::Exists));
        assert_eq!(code(put(&store, "DIR", b"x")), Err(ErrorCode::IsDirectory));
        let mut stage = store.stage_unnamed(3).unwrap();
        append(&store, &mut stage, b"new").unwrap();
        assert_eq!(code(store.commit_new(&mut stage, n("dir/a")).map(drop)), Err(ErrorCode::Exists));
        store.remove(n("DIR/a")).unwrap();
        store.rmdir(n("dir")).unwrap();
        assert_eq!(list(&store, None).unwrap(), [""; 0]);
    });
}

#[test]
fn links_and_bind_mounts_do_not_lead_into_a_staging_directory() {
    if !mounts(module_path!(), "links_and_bind_mounts_do_not_lead_into_a_staging_directory") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    fs::write(root.join("seen"), "seen").unwrap();
    fs::create_dir_all(root.join("d/bound")).unwrap();
    fs::create_dir(root.join("staging of another")).unwrap();
    let other = store(root, false, false);
    let (mut stage, _) = other.stage(n("theirs"), NOBODY, 0, 10, None).unwrap();
    append(&other, &mut stage, b"secret").unwrap();
    let staged = only(&root.join(".skiff-stage-0"));
    for (target, link) in [
        (".skiff-stage-0", "direct"),
        ("../.skiff-stage-0", "d/up"),
        ("d/up", "chain"),
        ("d/./../.skiff-stage-0/.", "roundabout"),
        ("d/bound", "to bound"),
    ] {
        symlink(target, root.join(link)).unwrap();
    }
    symlink(format!(".skiff-stage-0/{staged}"), root.join("file")).unwrap();
    let bound = Command::new("mount").arg("--bind").args([root.join(".skiff-stage-0"), root.join("d/bound")]).status();
    assert!(bound.unwrap().success());
    for portable in [false, true] {
        let store = store(root, false, portable);
        for dir in ["direct", "d/up", "chain", "roundabout", "d/bound", "to bound"] {
            check_withheld(&store, dir, &staged);
        }
        check_unreadable(&store, "file");
        let shown = list(&store, None).unwrap();
        assert!(!shown.contains(&"file".into()) && !shown.contains(&"direct/".into()), "{shown:?}");
    }
    assert_eq!(only(&root.join(".skiff-stage-0")), staged);
}

#[test]
fn characters_that_are_not_seen_do_not_uncover_hidden_names() {
    // In a directory that does not fold case, these are ordinary names.
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path(), true, false);
    for name in ["\u{200d}.profile", ".\u{200d}skiff-stage-0", ".s\u{212a}iff-x", ".SKIFF-x", "\u{feff}"] {
        put(&store, name, b"mine").unwrap();
        assert_eq!(get(&store, name).unwrap(), b"mine");
        store.remove(n(name)).unwrap();
    }
}

#[test]
fn names_that_can_not_be_sent_are_counted_and_withheld_ones_are_not() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("d");
    fs::create_dir(&dir).unwrap();
    let long = "x".repeat(254);
    let names: [(&[u8], [u64; 2]); 10] = [
        (b"good", [0, 0]),
        (b"caf\xe9", [1, 1]),
        (b"line\nend", [1, 1]),
        ("control \u{85}".as_bytes(), [1, 1]),
        (b"back\\slash", [1, 1]),
        (long.as_bytes(), [1, 1]),
        (&long.as_bytes()[..253], [0, 0]),
        (b".hidden", [0, 0]),
        (b".caf\xe9", [0, 1]),
        (b".skiff-\xff", [0, 0]),
    ];
    for (name, _) in names {
        fs::write(dir.join(OsStr::from_bytes(name)), "").unwrap();
    }
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.join(OsStr::from_bytes(b"fifo\xff")), rustix::fs::Mode::RUSR).unwrap();
    for (hidden, portable) in [(false, false), (true, true)] {
        let store = store(root.path(), hidden, portable);
        let mut cursor = store.list(Some(n("d"))).unwrap();
        let expected: u64 = names.iter().map(|(_, counts)| counts[usize::from(hidden)]).sum();
        assert_eq!(store.omitted(&mut cursor), Ok(expected));
        let mut shown = 0;
        while store.next_entry(&mut cursor, &mut |_| shown += 1).unwrap() {}
        assert_eq!((shown, cursor.omitted()), (if hidden { 3 } else { 2 }, expected));
    }
}
