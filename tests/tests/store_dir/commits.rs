//! Commits: several at once, how often they wait for the disk, the attributes that a replaced file keeps.

use core::time::Duration;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Instant;

use skiff_host::store::{DirStore, Options, Stage};
use skiff_proto::ErrorCode;
use skiff_proto::crc::crc32c;
use skiff_proto::store::Staging;

use super::{append, code, entries, get, list, n, open, open_portable, put, stage};

fn batch(store: &DirStore, names: &[String]) -> Vec<(Stage, Option<u32>)> {
    names.iter().map(|name| (stage(store, name, name.as_bytes()).unwrap(), Some(crc32c(name.as_bytes())))).collect()
}

fn names(count: usize, of: impl Fn(usize) -> String) -> Vec<String> {
    (0..count).map(of).collect()
}

/// A directory on a file system where one call makes everything durable, wherever the tests run (a container's overlay
/// can't).
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Commits files with these names together; returns how often that waited for the disk.
fn syncs(store: &DirStore, names: &[String]) -> u64 {
    let batch = batch(store, names);
    let before = store.sync_calls();
    for (answer, name) in store.commit_batch(batch).into_iter().zip(names) {
        let stat = answer.unwrap();
        assert_eq!((stat.size, stat.crc), (name.len() as u64, Some(crc32c(name.as_bytes()))));
        assert_eq!(store.stat(n(name)).unwrap(), stat);
        assert_eq!(get(store, name).unwrap(), name.as_bytes());
    }
    store.sync_calls() - before
}

#[test]
fn a_batch_waits_for_the_disk_twice_however_many_files_it_has() {
    let root = in_memory();
    let store = open(root.path());
    assert_eq!(syncs(&store, &names(1, |_| "one".into())), 2);
    assert_eq!(syncs(&store, &names(4, |at| format!("few{at}"))), 5);
    assert_eq!(syncs(&store, &names(100, |at| format!("flat{at}"))), 2);
    assert_eq!(syncs(&store, &names(100, |at| format!("in/one/{at}"))), 2);
    assert_eq!(syncs(&store, &names(100, |at| format!("dir{}/{at}", at % 7))), 2);
    assert_eq!(syncs(&store, &names(100, |at| format!("dir{}/{at}", at % 7))), 2);
    assert_eq!(store.commit_batch(Vec::new()), []);
    // One by one where there is no call for everything.
    let store = open_portable(root.path());
    assert_eq!(syncs(&store, &names(10, |at| format!("p{at}"))), 11);
}

#[test]
fn every_change_waits_for_its_directories() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let mut before = store.sync_calls();
    let mut syncs = |store: &DirStore| {
        let now = store.sync_calls();
        now - core::mem::replace(&mut before, now)
    };
    put(&store, "new/dir/f", b"x").unwrap();
    // The file; the root and `new`, in which directories were created; `new/dir`, which contained the file.
    assert_eq!(syncs(&store), 4);
    store.mkdir(n("d")).unwrap();
    assert_eq!(syncs(&store), 1);
    store.rename(n("new/dir/f"), n("g")).unwrap();
    assert_eq!(syncs(&store), 2);
    store.rename(n("g"), n("h")).unwrap();
    assert_eq!(syncs(&store), 1);
    store.remove(n("h")).unwrap();
    assert_eq!(syncs(&store), 1);
    store.rmdir(n("d")).unwrap();
    assert_eq!(syncs(&store), 1);
    let mut unnamed = store.stage_unnamed(0).unwrap();
    assert_eq!(code(store.commit_new(&mut unnamed, n("u"))).map(|stat| stat.size), Ok(0));
    assert_eq!(syncs(&store), 2);
    let mut unnamed = store.stage_unnamed(0).unwrap();
    assert_eq!(code(store.commit_new(&mut unnamed, n("u"))).err(), Some(ErrorCode::Exists));
    assert_eq!(syncs(&store), 0);
}

#[test]
fn several_changes_wait_for_the_disk_once_and_see_each_other() {
    use skiff_host::store::Change::{Mkdir, Remove, Rename, Rmdir};
    for portable in [false, true] {
        let root = in_memory();
        let store = if portable { open_portable(root.path()) } else { open(root.path()) };
        put(&store, "f", b"x").unwrap();
        let before = store.sync_calls();
        let answers = store.change_batch(&[
            Mkdir(n("d")),
            Mkdir(n("d")),
            Mkdir(n("d/e")),
            Rename(n("f"), n("d/e/g")),
            Rmdir(n("d/e")),
            Rename(n("d/e/g"), n("made/for/it")),
            Rmdir(n("d/e")),
            Remove(n("nothing")),
            Rename(n("nothing"), n("made/for/nothing/x")),
            Mkdir(n("d/e")),
        ]);
        let codes: Vec<_> = answers.into_iter().map(code).collect();
        let not_found = Err(ErrorCode::NotFound);
        let (exists, not_empty) = (Err(ErrorCode::Exists), Err(ErrorCode::NotEmpty));
        let expected = [Ok(()), exists, Ok(()), Ok(()), not_empty, Ok(()), Ok(()), not_found, not_found, Ok(())];
        assert_eq!(codes, expected);
        assert_eq!(list(&store, None).unwrap(), ["d/", "made/"]);
        assert_eq!(list(&store, Some("made/for")).unwrap(), ["made/for/it"]);
        let syncs = store.sync_calls() - before;
        assert!(if portable { syncs > 1 } else { syncs == 1 }, "{syncs}");
    }
}

#[test]
fn a_stage_that_is_refused_leaves_the_rest_of_its_batch_alone() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    put(&store, "good3", b"old").unwrap();
    let names = names(8, |at| if at % 3 == 2 { format!("bad{at}/x") } else { format!("good{at}") });
    let mut batch = batch(&store, &names);
    fs::write(root.path().join("bad2"), "a file").unwrap();
    fs::create_dir_all(root.path().join("bad5/x")).unwrap();
    assert!(store.take_over(n("good0"), Duration::ZERO));
    let (mut other, _) = store.stage(Staging::new(n("good0"), 1)).unwrap();
    batch.push((store.stage_unnamed(0).unwrap(), None));
    let codes: Vec<_> = store.commit_batch(batch).into_iter().map(|answer| code(answer).map(|_| ())).collect();
    let expected = [
        Err(ErrorCode::Busy),
        Ok(()),
        Err(ErrorCode::Exists),
        Ok(()),
        Ok(()),
        Err(ErrorCode::IsDirectory),
        Ok(()),
        Ok(()),
        Err(ErrorCode::Io),
    ];
    assert_eq!(codes, expected);
    assert_eq!(get(&store, "good3").unwrap(), b"good3");
    assert_eq!(fs::read(root.path().join("bad2")).unwrap(), b"a file");
    append(&store, &mut other, b"o").unwrap();
    store.commit(&mut other, None).unwrap();
    assert_eq!(get(&store, "good0").unwrap(), b"o");
    drop(other);
    assert_eq!(entries(&root.path().join(".skiff-stage-0")), [""; 0]);
}

#[test]
fn directories_that_were_made_for_a_refused_file_are_gone_again() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    put(&store, "f", b"x").unwrap();
    fs::write(root.path().join("long"), "x").unwrap();
    let mut late = stage(&store, "a/b/c", b"x").unwrap();
    // The name is free when the directories are created, and a directory when the file is put there.
    fs::create_dir_all(root.path().join("a/b/c")).unwrap();
    assert_eq!(code(store.commit(&mut late, None)).err(), Some(ErrorCode::IsDirectory));
    assert_eq!(code(store.rename(n("no"), n("x/y/z"))), Err(ErrorCode::NotFound));
    assert_eq!(code(store.rename(n("f"), n("long/y"))), Err(ErrorCode::Exists));
    assert_eq!(list(&store, None).unwrap(), ["a/", "f", "long"]);
}

#[test]
fn a_resumed_file_of_a_batch_is_asked_for_by_itself() {
    let root = in_memory();
    let store = open(root.path());
    drop(stage(&store, "resumed", b"12345").unwrap());
    let mut batch = batch(&store, &names(10, |at| format!("f{at}")));
    batch.push((store.stage(Staging::new(n("resumed"), 5).at(5)).unwrap().0, None));
    let before = store.sync_calls();
    assert!(store.commit_batch(batch).iter().all(Result::is_ok));
    assert_eq!(store.sync_calls() - before, 3);
    assert_eq!(get(&store, "resumed").unwrap(), b"12345");
}

#[test]
fn a_replaced_file_keeps_its_rights_and_a_new_one_gets_those_of_the_umask() {
    let root = tempfile::tempdir().unwrap();
    let mode = |name: &str| root.path().join(name).metadata().unwrap().permissions().mode() & 0o7777;
    fs::write(root.path().join("reference"), "x").unwrap();
    for store in [open(root.path()), open_portable(root.path())] {
        put(&store, "new", b"x").unwrap();
        assert_eq!(mode("new"), mode("reference"));
        let mut unnamed = store.stage_unnamed(0).unwrap();
        store.commit_new(&mut unnamed, n("unnamed")).unwrap();
        assert_eq!(mode("unnamed"), mode("reference"));
        for kept in [0o600, 0o755, 0o444, 0o4755] {
            fs::set_permissions(root.path().join("new"), fs::Permissions::from_mode(kept)).unwrap();
            put(&store, "new", b"y").unwrap();
            // A program that another user put there does not get the rights of this one.
            assert_eq!(mode("new"), kept & 0o777);
        }
        fs::remove_file(root.path().join("new")).unwrap();
        fs::remove_file(root.path().join("unnamed")).unwrap();
    }
}

#[test]
fn a_replaced_file_keeps_its_owner_where_the_system_lets_us() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    put(&store, "f", b"x").unwrap();
    if std::os::unix::fs::chown(root.path().join("f"), Some(1234), Some(4321)).is_err() {
        return;
    }
    put(&store, "f", b"y").unwrap();
    let meta = root.path().join("f").metadata().unwrap();
    assert_eq!((meta.uid(), meta.gid()), (1234, 4321));
}

#[test]
fn checksums_are_known_until_somebody_changes_the_file() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let crc = Some(crc32c(b"content"));
    assert_eq!(store.commit(&mut stage(&store, "f", b"content").unwrap(), crc).unwrap().crc, crc);
    assert_eq!(store.stat(n("f")).unwrap().crc, crc);
    assert_eq!(store.clone().open(n("f")).unwrap().1.crc, crc);
    fs::write(root.path().join("f"), "other content").unwrap();
    assert_eq!(store.stat(n("f")).unwrap().crc, None);
    for at in 0..3000 {
        let name = format!("many/{}", at % 50);
        store.commit(&mut stage(&store, &name, b"x").unwrap(), Some(at)).unwrap();
        assert_eq!(store.stat(n(&name)).unwrap().crc, Some(at));
        if at == 200 {
            break;
        }
    }
    store.commit(&mut stage(&store, "f", b"content").unwrap(), None).unwrap();
    assert_eq!(store.stat(n("f")).unwrap().crc, None);
}

#[test]
fn a_settled_file_has_a_tag_and_its_checksum_is_remembered() {
    // A file that nobody has written to in the last two seconds: a source file of this package.
    let store =
        DirStore::new(Options { read_only: true, ..Options::new(Path::new(env!("CARGO_MANIFEST_DIR"))) }).unwrap();
    let (file, stat) = store.open(n("Cargo.toml")).unwrap();
    assert_eq!(stat.crc, None);
    assert!(store.tag(&file).is_known());
    assert_eq!(store.tag(&file), store.tag(&store.open(n("Cargo.toml")).unwrap().0));
    store.remember_crc(&file, 7);
    assert_eq!(store.stat(n("Cargo.toml")).unwrap().crc, Some(7));
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    loop {
        let begun = Instant::now();
        fs::write(root.path().join("fresh"), "x").unwrap();
        let (file, _) = store.open(n("fresh")).unwrap();
        let is_known = store.tag(&file).is_known();
        store.remember_crc(&file, 7);
        let crc = store.stat(n("fresh")).unwrap().crc;
        if begun.elapsed() < Duration::from_secs(2) {
            assert!(!is_known && crc.is_none());
            break;
        }
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_read_has_changed() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    put(&store, "f", b"content").unwrap();
    let (file, _) = store.open(n("f")).unwrap();
    fs::write(root.path().join("f"), "c").unwrap();
    let mut buffer = [0; 10];
    assert_eq!(code(store.read_at(&file, 0, &mut buffer)), Ok(1));
    assert_eq!(code(store.read_at(&file, 1, &mut buffer)), Err(ErrorCode::Changed));
    assert_eq!(code(store.read_at(&file, 7, &mut buffer)), Ok(0));
}

/// Runs one test of this file again in its own namespace, where it may mount; false if that is not possible.
fn in_namespace(test: &str) -> bool {
    if std::env::var_os("SKIFF_IN_NAMESPACE").is_some() {
        return true;
    }
    let probe = std::process::Command::new("unshare").args(["-rm", "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("no namespaces here: not tested");
        return false;
    }
    let status = std::process::Command::new("unshare")
        .arg("-rm")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env("SKIFF_IN_NAMESPACE", "1")
        .status();
    assert!(status.unwrap().success());
    false
}

#[test]
fn files_are_put_on_another_file_system_beneath_the_root() {
    if !in_namespace("commits::files_are_put_on_another_file_system_beneath_the_root") {
        return;
    }
    let root = in_memory();
    let other = root.path().join("other");
    fs::create_dir(&other).unwrap();
    let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&other).status();
    assert!(mounted.unwrap().success());
    // Together: once for the staged bytes of all; then each copy, `other` and the new directories, one by one.
    for (store, expected) in [(open(root.path()), 1 + 10 + 11), (open_portable(root.path()), 10 + 10 + 11)] {
        let content = b"content".repeat(100_000);
        put(&store, "other/f", b"old").unwrap();
        fs::set_permissions(other.join("f"), fs::Permissions::from_mode(0o640)).unwrap();
        // What a power cut left there.
        fs::write(other.join(".skiff-0-0123456789abcdef0123456789abcdef"), "x").unwrap();
        let (mut stage, _) = store
            .stage(Staging { mtime: Some(1_500_000_000), ..Staging::new(n("other/f"), content.len() as u64) })
            .unwrap();
        append(&store, &mut stage, &content).unwrap();
        let stat = store.commit(&mut stage, Some(crc32c(&content))).unwrap();
        assert_eq!((stat.size, stat.mtime), (content.len() as u64, Some(1_500_000_000)));
        assert!(fs::read(other.join("f")).unwrap() == content);
        assert_eq!(other.join("f").metadata().unwrap().mode() & 0o777, 0o640);
        let mut unnamed = store.stage_unnamed(3).unwrap();
        append(&store, &mut unnamed, b"new").unwrap();
        assert_eq!(code(store.commit_new(&mut unnamed, n("other/f"))).err(), Some(ErrorCode::Exists));
        store.commit_new(&mut unnamed, n("other/g")).unwrap();
        assert_eq!(syncs(&store, &names(10, |at| format!("other/d{at}/f"))), expected);
        assert_eq!(code(store.rename(n("other/g"), n("g"))), Err(ErrorCode::Denied));
        put(&store, "h", b"x").unwrap();
        assert_eq!(code(store.rename(n("h"), n("other/made/h"))), Err(ErrorCode::Denied));
        assert_eq!(list(&store, Some("other")).unwrap().len(), 12);
        assert_eq!(entries(&root.path().join(".skiff-stage-0")), [""; 0]);
        store.mkdir(n("other/empty")).unwrap();
        fs::write(other.join("empty/.skiff-0-left"), "x").unwrap();
        store.rmdir(n("other/empty")).unwrap();
        for entry in entries(&other) {
            let path = other.join(entry);
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    }
}
