//! The store never reaches anything outside the root, and touches only files and directories.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;
use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{CWD, Mode, RenameFlags, mkfifoat, renameat_with};
use skiff_host::store::DirStore;
use skiff_proto::ErrorCode;
use skiff_proto::identity::NOBODY;
use skiff_proto::store::Staging;
use tempfile::TempDir;

use super::{code, entries, get, list, n, open, open_portable, put};

/// `served/` is the served directory; `outside/secret` is beside it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.root()).unwrap();
        fs::create_dir(place.outside()).unwrap();
        fs::write(place.outside().join("secret"), "secret").unwrap();
        place
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("served")
    }

    fn outside(&self) -> PathBuf {
        self.0.path().join("outside")
    }

    fn both(&self) -> [DirStore; 2] {
        [open(&self.root()), open_portable(&self.root())]
    }

    fn assert_outside_is_untouched(&self) {
        assert_eq!(entries(&self.outside()), ["secret"]);
        assert_eq!(fs::read(self.outside().join("secret")).unwrap(), b"secret");
    }
}

#[test]
fn links_that_lead_out_are_neither_followed_nor_listed() {
    let place = Place::new();
    let root = place.root();
    fs::create_dir(root.join("d")).unwrap();
    symlink("../outside/secret", root.join("file")).unwrap();
    symlink(place.outside().join("secret"), root.join("absolute")).unwrap();
    symlink("../../outside/secret", root.join("d/deep")).unwrap();
    symlink("../outside", root.join("dir")).unwrap();
    symlink("file", root.join("chain")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("nothing", root.join("dangling")).unwrap();
    symlink("/proc/self/cwd", root.join("magic")).unwrap();
    for store in place.both() {
        for name in ["file", "absolute", "d/deep", "dir/secret", "chain", "loop", "dangling", "magic/Cargo.toml"] {
            let refused = |code| matches!(code, Some(ErrorCode::NotFound | ErrorCode::Denied));
            assert!(refused(code(store.open(n(name))).err()), "{name}");
            assert!(refused(code(store.stat(n(name))).err()), "{name}");
            assert!(refused(code(store.remove(n(name))).err()), "{name}");
            assert!(refused(code(store.rename(n(name), n("stolen"))).err()), "{name}");
        }
        for name in ["file", "absolute", "d/deep", "dir/secret", "dir/new", "dir/new/new", "chain", "loop"] {
            assert!(put(&store, name, b"overwritten").is_err(), "{name}");
            assert!(store.staged(n(name), NOBODY, 1).is_err(), "{name}");
        }
        for name in ["dir", "magic", "dir/sub"] {
            assert!(store.list(Some(n(name))).is_err());
            assert!(store.rmdir(n(name)).is_err());
        }
        assert!(store.mkdir(n("dir/sub")).is_err());
        put(&store, "mine", b"mine").unwrap();
        assert!(store.rename(n("mine"), n("dir/mine")).is_err());
        assert!(store.rename(n("mine"), n("file")).is_err());
        assert_eq!(get(&store, "mine").unwrap(), b"mine");
        store.remove(n("mine")).unwrap();
        assert_eq!(list(&store, None).unwrap(), ["d/"]);
        assert_eq!(list(&store, Some("d")).unwrap(), [""; 0]);
    }
    place.assert_outside_is_untouched();
}

#[test]
fn links_that_stay_beneath_are_followed_where_the_kernel_keeps_them_there() {
    let place = Place::new();
    let root = place.root();
    fs::create_dir_all(root.join("real/sub")).unwrap();
    fs::write(root.join("real/file"), "content").unwrap();
    symlink("real", root.join("dir")).unwrap();
    symlink("real/file", root.join("link")).unwrap();
    symlink("../../real/file", root.join("real/sub/up")).unwrap();
    let store = open(&root);
    for name in ["link", "dir/file", "real/sub/up", "dir/sub/up"] {
        assert_eq!(get(&store, name).unwrap(), b"content");
        assert_eq!(store.stat(n(name)).unwrap().size, 7);
    }
    assert_eq!(list(&store, None).unwrap(), ["dir/", "link", "real/"]);
    assert_eq!(list(&store, Some("dir")).unwrap(), ["dir/file", "dir/sub/"]);
    assert_eq!(code(store.stat(n("dir"))), Err(ErrorCode::IsDirectory));
    assert_eq!(code(put(&store, "dir", b"x")), Err(ErrorCode::IsDirectory));
    put(&store, "dir/new", b"new").unwrap();
    assert_eq!(fs::read(root.join("real/new")).unwrap(), b"new");
    let store = open_portable(&root);
    for name in ["link", "dir/file", "real/sub/up", "dir/new"] {
        assert_eq!(code(get(&store, name)), Err(ErrorCode::NotFound));
    }
    assert_eq!(list(&store, None).unwrap(), ["real/"]);
    assert_eq!(code(put(&store, "link", b"x")), Err(ErrorCode::Denied));
    assert_eq!(code(put(&store, "dir/new", b"x")), Err(ErrorCode::Exists));
}

#[test]
fn a_commit_replaces_a_link_and_not_what_it_points_to() {
    let place = Place::new();
    let root = place.root();
    let store = open(&root);
    put(&store, "target", b"target").unwrap();
    symlink("target", root.join("link")).unwrap();
    symlink("nothing", root.join("dangling")).unwrap();
    // No client may take the name for free.
    assert_eq!(code(store.stat(n("dangling"))).unwrap_err(), ErrorCode::Denied);
    put(&store, "link", b"new").unwrap();
    put(&store, "dangling", b"new").unwrap();
    assert_eq!(get(&store, "target").unwrap(), b"target");
    assert_eq!(get(&store, "link").unwrap(), b"new");
    assert!(root.join("link").symlink_metadata().unwrap().is_file());
    assert_eq!(list(&store, None).unwrap(), ["dangling", "link", "target"]);
    symlink("target", root.join("again")).unwrap();
    store.rename(n("again"), n("moved")).unwrap();
    assert!(root.join("moved").symlink_metadata().unwrap().is_symlink());
    store.remove(n("moved")).unwrap();
    assert_eq!(get(&store, "target").unwrap(), b"target");
}

#[test]
fn a_hard_link_is_gone_from_its_old_name_after_a_rename() {
    let place = Place::new();
    let store = open(&place.root());
    put(&store, "a", b"x").unwrap();
    fs::hard_link(place.root().join("a"), place.root().join("b")).unwrap();
    store.rename(n("a"), n("b")).unwrap();
    assert_eq!(list(&store, None).unwrap(), ["b"]);
    fs::hard_link(place.root().join("b"), place.root().join("c")).unwrap();
    symlink(".", place.root().join("here")).unwrap();
    store.rename(n("b"), n("here/b")).unwrap();
    assert_eq!(get(&store, "b").unwrap(), b"x");
}

/// Swaps `one` and `other` repeatedly while running `work`: 20,000 times or for two seconds, and until it has both
/// failed and succeeded. Returns whether each has happened.
fn while_swapping(one: &Path, other: &Path, mut work: impl FnMut(u32) -> bool) {
    let (done, swaps) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Also ends the other thread when an assertion fails.
        let _ends = Ends(&done);
        let (start, mut went) = (Instant::now(), [0, 0]);
        let enough = || swaps.load(Ordering::Relaxed) >= 20_000 || start.elapsed() > Duration::from_secs(2);
        for round in 0.. {
            if (enough() && !went.contains(&0)) || start.elapsed() > Duration::from_secs(30) {
                break;
            }
            went[usize::from(work(round))] += 1;
        }
        assert!(!went.contains(&0), "{went:?}, refused and done, in {swaps:?} swaps");
    });
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_directory_that_is_swapped_for_a_link_out_never_lets_anything_through() {
    for portable in [false, true] {
        let place = Place::new();
        let root = place.root();
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("d/secret"), "inside").unwrap();
        symlink("../outside", root.join("swap")).unwrap();
        let store = if portable { open_portable(&root) } else { open(&root) };
        while_swapping(&root.join("d"), &root.join("swap"), |round| {
            let secret = get(&store, "d/secret");
            assert!(secret.is_err() || secret.as_ref().is_ok_and(|bytes| bytes == b"inside"));
            if let Ok(names) = list(&store, Some("d")) {
                assert!(
                    names.iter().all(|name| ["d/secret", "d/new", "d/other", "d/sub/"].contains(&name.as_str())),
                    "{names:?}"
                );
            }
            if round % 8 == 0 {
                _ = put(&store, "d/new", b"new");
                _ = store.rename(n("d/new"), n("d/other"));
                _ = store.remove(n("d/other"));
                _ = store.mkdir(n("d/sub"));
                _ = store.rmdir(n("d/sub"));
            }
            secret.is_ok()
        });
        place.assert_outside_is_untouched();
    }
}

#[test]
fn a_file_that_is_swapped_for_a_link_out_or_a_fifo_never_leaks_or_hangs() {
    for portable in [false, true] {
        for fifo in [false, true] {
            let place = Place::new();
            let root = place.root();
            fs::write(root.join("f"), "inside").unwrap();
            if fifo {
                mkfifoat(CWD, root.join("swap"), Mode::RUSR | Mode::WUSR).unwrap();
            } else {
                symlink("../outside/secret", root.join("swap")).unwrap();
            }
            let store = if portable { open_portable(&root) } else { open(&root) };
            while_swapping(&root.join("f"), &root.join("swap"), |_| match get(&store, "f") {
                Ok(bytes) => {
                    assert_eq!(bytes, b"inside");
                    true
                }
                Err(refusal) => {
                    assert!(matches!(refusal.code, ErrorCode::NotFound | ErrorCode::Denied), "{refusal}");
                    false
                }
            });
            place.assert_outside_is_untouched();
        }
    }
}

#[test]
fn fifos_and_sockets_do_not_exist_for_readers_and_are_never_replaced() {
    let place = Place::new();
    let root = place.root();
    mkfifoat(CWD, root.join("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
    let _listener = UnixListener::bind(root.join("socket")).unwrap();
    symlink("fifo", root.join("link")).unwrap();
    fs::write(root.join("file"), "x").unwrap();
    for store in place.both() {
        for name in ["fifo", "socket", "link"] {
            assert_eq!(code(store.open(n(name))).err(), Some(ErrorCode::NotFound));
            assert_eq!(code(store.stat(n(name))), Err(ErrorCode::NotFound));
            assert_eq!(code(store.list(Some(n(name)))).err(), Some(ErrorCode::NotFound));
            assert_eq!(code(store.remove(n(name))), Err(ErrorCode::NotFound));
            assert_eq!(code(store.rename(n(name), n("x"))), Err(ErrorCode::NotFound));
            assert_eq!(code(store.rename(n("file"), n(name))), Err(ErrorCode::Denied));
            assert_eq!(code(store.staged(n(name), NOBODY, 1)), Err(ErrorCode::Denied));
            assert_eq!(code(put(&store, name, b"x")), Err(ErrorCode::Denied));
            assert_eq!(code(store.mkdir(n(name))), Err(ErrorCode::Exists));
            let mut unnamed = store.stage_unnamed(0).unwrap();
            assert_eq!(code(store.commit_new(&mut unnamed, n(name))).err(), Some(ErrorCode::Exists));
        }
        let (mut late, _) = store.stage(Staging::new(n("late"), 0)).unwrap();
        mkfifoat(CWD, root.join("late"), Mode::RUSR | Mode::WUSR).unwrap();
        assert_eq!(code(store.commit(&mut late, None)).err(), Some(ErrorCode::Denied));
        fs::remove_file(root.join("late")).unwrap();
        assert_eq!(list(&store, None).unwrap(), ["file"]);
    }
    assert!(root.join("fifo").metadata().unwrap().file_type().is_fifo());
}

#[test]
fn names_that_break_the_rules_are_not_listed() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let root = place.root();
    for name in [&b"good"[..], b"\xff", b"line\nfeed", b"back\\slash", b".skiff-x", b".hidden"] {
        fs::write(root.join(OsStr::from_bytes(name)), "x").unwrap();
    }
    let deep = "d".repeat(200);
    fs::create_dir(root.join(&deep)).unwrap();
    fs::write(root.join(&deep).join("f".repeat(54)), "x").unwrap();
    fs::write(root.join(&deep).join("f".repeat(55)), "x").unwrap();
    for store in place.both() {
        assert_eq!(list(&store, None).unwrap(), [format!("{deep}/"), "good".into()]);
        assert_eq!(list(&store, Some(&deep)).unwrap(), [format!("{deep}/{}", "f".repeat(54))]);
    }
}

#[test]
fn hidden_names_do_not_exist_unless_they_are_asked_for() {
    use skiff_host::store::Options;
    let place = Place::new();
    let root = place.root();
    fs::create_dir(root.join(".git")).unwrap();
    fs::write(root.join(".git/config"), "x").unwrap();
    fs::write(root.join(".profile"), "x").unwrap();
    fs::write(root.join("plain"), "x").unwrap();
    let store = open(&root);
    assert_eq!(list(&store, None).unwrap(), ["plain"]);
    for name in [".profile", ".git/config", ".nothing"] {
        assert_eq!(code(store.open(n(name))).err(), Some(ErrorCode::NotFound));
        assert_eq!(code(store.stat(n(name))), Err(ErrorCode::NotFound));
        assert_eq!(code(store.remove(n(name))), Err(ErrorCode::NotFound));
        assert_eq!(code(store.rename(n(name), n("x"))), Err(ErrorCode::NotFound));
        assert_eq!(code(store.rename(n("plain"), n(name))), Err(ErrorCode::Denied));
        assert_eq!(code(store.staged(n(name), NOBODY, 0)), Err(ErrorCode::Denied));
        assert_eq!(code(put(&store, name, b"x")), Err(ErrorCode::Denied));
        assert_eq!(code(store.check_put(n(name))), Err(ErrorCode::Denied));
        assert_eq!(code(store.mkdir(n(name))), Err(ErrorCode::Denied));
    }
    assert_eq!(code(store.list(Some(n(".git")))).err(), Some(ErrorCode::NotFound));
    let store = DirStore::new(Options { hidden: true, ..Options::new(&root) }).unwrap();
    assert_eq!(list(&store, None).unwrap(), [".git/", ".profile", "plain"]);
    put(&store, ".git/config", b"y").unwrap();
    assert_eq!(get(&store, ".git/config").unwrap(), b"y");
}

#[test]
fn a_store_that_is_read_only_changes_nothing() {
    use skiff_host::store::Options;
    let place = Place::new();
    fs::write(place.root().join("f"), "x").unwrap();
    let store = DirStore::new(Options { read_only: true, ..Options::new(place.root()) }).unwrap();
    let read_only = Some(ErrorCode::ReadOnly);
    assert_eq!(code(store.stage(Staging::new(n("f"), 1))).err(), read_only);
    assert_eq!(code(store.staged(n("f"), NOBODY, 1)).err(), read_only);
    assert_eq!(code(store.stage_unnamed(1)).err(), read_only);
    assert_eq!(code(store.check_put(n("g"))).err(), read_only);
    assert_eq!(code(store.remove(n("f"))).err(), read_only);
    assert_eq!(code(store.rename(n("f"), n("g"))).err(), read_only);
    assert_eq!(code(store.mkdir(n("d"))).err(), read_only);
    assert_eq!(code(store.rmdir(n("d"))).err(), read_only);
    assert_eq!(get(&store, "f").unwrap(), b"x");
    drop(store);
    assert_eq!(entries(&place.root()), ["f"]);
}

#[test]
fn a_path_that_can_not_be_served_is_named_in_the_error() {
    let place = Place::new();
    fs::write(place.root().join("f"), "x").unwrap();
    for path in [place.root().join("f"), place.root().join("no")] {
        let error = DirStore::new(skiff_host::store::Options::new(&path)).unwrap_err();
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    }
}

#[test]
fn a_directory_that_comes_and_goes_is_there_or_not_found_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let (one, other) = (open(root.path()), open_portable(root.path()));
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                fs::create_dir(root.path().join("d")).unwrap();
                fs::remove_dir(root.path().join("d")).unwrap();
            }
        });
        let _ends = Ends(&done);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            for store in [&one, &other] {
                let looked = [
                    list(store, Some("d")).map(drop),
                    store.stat(n("d/f")).map(drop),
                    store.open(n("d/f")).map(drop),
                    store.staged(n("d/f"), NOBODY, 1).map(drop).or(Err(ErrorCode::Io.into())),
                ];
                for (at, looked) in looked.into_iter().enumerate() {
                    assert!(matches!(code(looked), Ok(()) | Err(ErrorCode::NotFound)), "{at}: {looked:?}");
                }
            }
        }
    });
}
