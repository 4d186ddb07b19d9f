//! Staging directories: resumed, shared, cleaned; writers that yield.

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use skiff_host::store::{DirStore, Options};
use skiff_proto::ErrorCode;
use skiff_proto::crc::crc32c;
use skiff_proto::identity::NOBODY;
use skiff_proto::takeover::TAKEOVER;

use super::{append, code, entries, get, list, n, open, put};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Stages the first bytes of a write of ten and loses the connection.
fn interrupt(store: &DirStore, name: &str, bytes: &[u8]) {
    let (mut stage, _) = store.stage(n(name), NOBODY, 0, 10.max(bytes.len() as u64), None).unwrap();
    append(store, &mut stage, bytes).unwrap();
}

fn staged(store: &DirStore, name: &str) -> u64 {
    store.staged(n(name), NOBODY, 1 << 20).unwrap().0
}

fn age(file: &Path, age: Duration) {
    File::options().write(true).open(file).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

/// The files in a slot that stand for names.
fn stages(slot: &Path) -> Vec<std::path::PathBuf> {
    entries(slot).iter().filter(|name| name.len() == 32).map(|name| slot.join(name)).collect()
}

#[test]
fn the_staging_directory_is_there_only_while_something_is_staged() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    assert_eq!(entries(root.path()), [""; 0]);
    put(&store, "f", b"x").unwrap();
    assert_eq!(entries(root.path()), [".skiff-stage-0", "f"]);
    let mode = root.path().join(".skiff-stage-0").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    drop(store);
    assert_eq!(entries(root.path()), ["f"]);
    let store = open(root.path());
    interrupt(&store, "f", b"ab");
    let handle = store.clone();
    drop(store);
    drop(handle);
    assert_eq!(entries(root.path()), [".skiff-stage-0", "f"]);
    assert_eq!(staged(&open(root.path()), "f"), 2);
}

#[test]
fn two_stores_on_one_directory_do_not_disturb_each_other() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (open(root.path()), open(root.path()));
    let (mut first, _) = one.stage(n("f"), NOBODY, 0, 5, None).unwrap();
    let (mut second, _) = two.stage(n("f"), NOBODY, 0, 6, None).unwrap();
    assert_eq!(entries(root.path()), [".skiff-stage-0", ".skiff-stage-1"]);
    append(&one, &mut first, b"first").unwrap();
    append(&two, &mut second, b"second").unwrap();
    one.commit(&mut first, None).unwrap();
    assert_eq!(get(&two, "f").unwrap(), b"first");
    two.commit(&mut second, None).unwrap();
    assert_eq!(get(&one, "f").unwrap(), b"second");
    drop((first, second));
    interrupt(&one, "of one", b"1");
    interrupt(&two, "of two", b"22");
    drop(one);
    // The first slot is free again: whoever comes next goes on with what is in it.
    let three = open(root.path());
    assert_eq!((staged(&three, "of one"), staged(&three, "of two")), (1, 0));
    drop((two, three));
    assert_eq!(entries(root.path()), [".skiff-stage-0", ".skiff-stage-1", "f"]);
}

#[test]
fn old_stages_and_unnamed_ones_are_cleaned_away_at_the_first_write() {
    let root = tempfile::tempdir().unwrap();
    let slots = [0, 1].map(|number| root.path().join(format!(".skiff-stage-{number}")));
    let (one, two) = (open(root.path()), open(root.path()));
    put(&one, "x", b"x").unwrap();
    interrupt(&two, "old", b"old");
    interrupt(&one, "fresh", b"fresh");
    interrupt(&one, "old", b"old");
    drop((one, two));
    for slot in &slots {
        fs::write(slot.join("put-7"), "left by a crash").unwrap();
        fs::write(slot.join("notes of an admin"), "").unwrap();
    }
    for file in stages(&slots[0]).into_iter().chain(stages(&slots[1])) {
        if fs::read(&file).unwrap() == b"old" {
            age(&file, 8 * DAY);
        } else {
            age(&file, 6 * DAY);
        }
    }
    let store = open(root.path());
    assert_eq!(list(&store, None).unwrap(), ["x"]);
    assert_eq!(stages(&slots[0]).len(), 2, "a reader cleans nothing");
    assert_eq!((staged(&store, "fresh"), staged(&store, "old")), (5, 0));
    assert_eq!(stages(&slots[0]).len(), 1);
    for slot in &slots {
        assert!(!slot.join("put-7").exists());
        assert!(slot.join("notes of an admin").exists());
    }
    assert!(stages(&slots[1]).is_empty());
    fs::remove_file(slots[1].join("notes of an admin")).unwrap();
    drop(store);
    put(&open(root.path()), "y", b"y").unwrap();
    assert!(!slots[1].exists());
}

#[test]
fn what_is_in_the_way_of_a_staging_directory_is_not_used() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), root.path().join(".skiff-stage-0")).unwrap();
    fs::write(root.path().join(".skiff-stage-1"), "").unwrap();
    fs::create_dir(root.path().join(".skiff-stage-2")).unwrap();
    fs::set_permissions(root.path().join(".skiff-stage-2"), fs::Permissions::from_mode(0o755)).unwrap();
    let store = open(root.path());
    interrupt(&store, "f", b"ab");
    assert_eq!(entries(outside.path()), [""; 0]);
    let slot = root.path().join(".skiff-stage-2");
    assert_eq!(stages(&slot).len(), 1);
    assert_eq!(slot.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_staging_directory_that_is_removed_under_a_running_store_is_made_again() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    put(&store, "f", b"old").unwrap();
    fs::remove_dir(root.path().join(".skiff-stage-0")).unwrap();
    put(&store, "f", b"new").unwrap();
    fs::remove_dir(root.path().join(".skiff-stage-0")).unwrap();
    drop(store.stage_unnamed(3).unwrap());
    fs::remove_dir(root.path().join(".skiff-stage-0")).unwrap();
    assert_eq!(code(store.staged(n("f"), NOBODY, 3)), Ok((0, 0)));
    assert!(root.path().join(".skiff-stage-0").exists());
    assert_eq!(get(&store, "f").unwrap(), b"new");
}

#[test]
fn a_staging_directory_that_is_renamed_is_made_again() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    interrupt(&store, "f", b"abc");
    fs::rename(root.path().join(".skiff-stage-0"), root.path().join("elsewhere")).unwrap();
    assert_eq!(code(store.staged(n("f"), NOBODY, 3)), Ok((0, 0)));
    interrupt(&store, "f", b"abcd");
    assert_eq!(code(store.staged(n("f"), NOBODY, 4)), Ok((4, crc32c(b"abcd"))));
    assert_eq!(stages(&root.path().join("elsewhere")).len(), 1);
}

#[test]
fn what_was_in_a_staging_directory_that_is_removed_does_not_count_any_more() {
    let root = tempfile::tempdir().unwrap();
    let store = DirStore::new(Options { stage_max: 100, ..Options::new(root.path()) }).unwrap();
    let (mut open, _) = store.stage(n("open"), NOBODY, 0, 90, None).unwrap();
    append(&store, &mut open, &[b'o'; 60]).unwrap();
    assert_eq!(code(store.staged(n("new"), NOBODY, 11)), Err(ErrorCode::NoSpace));
    fs::remove_dir_all(root.path().join(".skiff-stage-0")).unwrap();
    assert_eq!(code(store.staged(n("new"), NOBODY, 70)), Ok((0, 0)));
    interrupt(&store, "kept", &[b'k'; 30]);
    append(&store, &mut open, &[b'o'; 20]).unwrap();
    drop(open);
    // The 30 that can be dropped for it.
    assert_eq!(code(store.staged(n("new"), NOBODY, 100)), Ok((0, 0)));
    assert_eq!(code(store.staged(n("kept"), NOBODY, 100)), Ok((30, crc32c(&[b'k'; 30]))));
    assert_eq!(code(store.staged(n("kept"), NOBODY, 101)), Err(ErrorCode::NoSpace));
}

#[test]
fn the_checksum_of_what_is_staged_is_of_the_directory_that_it_lies_in_now() {
    let root = tempfile::tempdir().unwrap();
    let (first, second) = (open(root.path()), open(root.path()));
    interrupt(&first, "f", b"abc");
    interrupt(&second, "f", b"xyz");
    assert_eq!(code(second.staged(n("f"), NOBODY, 6)), Ok((3, crc32c(b"xyz"))));
    drop(first);
    fs::remove_dir_all(root.path().join(".skiff-stage-1")).unwrap();
    let (_, crc) = second.stage(n("f"), NOBODY, 3, 6, None).unwrap();
    assert_eq!(crc, crc32c(b"abc"));
}

#[test]
fn nothing_can_be_staged_in_a_root_that_is_removed() {
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("served");
    fs::create_dir(&root).unwrap();
    let store = open(&root);
    let (mut stage, _) = store.stage(n("open"), NOBODY, 0, 3, None).unwrap();
    append(&store, &mut stage, b"abc").unwrap();
    fs::remove_dir_all(&root).unwrap();
    assert_eq!(code(store.staged(n("f"), NOBODY, 3)), Err(ErrorCode::Io));
    assert_eq!(code(store.stage(n("f"), NOBODY, 0, 3, None)).err(), Some(ErrorCode::Io));
    assert_eq!(code(store.stage_unnamed(3)).err(), Some(ErrorCode::Io));
    assert_eq!(code(store.commit(&mut stage, None)).err(), Some(ErrorCode::Io));
    assert_eq!(fs::read_dir(above.path()).unwrap().count(), 0);
}

#[test]
fn a_silent_writer_gives_way_and_its_bytes_stay() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let (mut silent, _) = store.stage(n("f"), NOBODY, 0, 6, None).unwrap();
    append(&store, &mut silent, b"abc").unwrap();
    let woken = Arc::new(AtomicU32::new(0));
    let count = woken.clone();
    silent.owner().on_evict(move || _ = count.fetch_add(1, Ordering::Relaxed));
    assert_eq!(code(store.stage(n("f"), NOBODY, 3, 6, None)).err(), Some(ErrorCode::Busy));
    assert!(!store.take_over(n("f"), TAKEOVER) && store.take_over(n("f"), Duration::ZERO));
    let (mut next, crc) = store.stage(n("f"), NOBODY, 3, 6, None).unwrap();
    assert_eq!(crc, crc32c(b"abc"));
    assert_eq!(woken.load(Ordering::Relaxed), 1);
    assert!(silent.is_evicted() && !next.is_evicted());
    assert_eq!(code(store.append(&mut silent, b"X")), Err(ErrorCode::Busy));
    assert_eq!(code(store.commit(&mut silent, None)).err(), Some(ErrorCode::Busy));
    assert_eq!(code(silent.writing()).err(), Some(ErrorCode::Busy));
    append(&store, &mut next, b"de").unwrap();
    store.discard(silent);
    append(&store, &mut next, b"f").unwrap();
    store.commit(&mut next, None).unwrap();
    assert_eq!(get(&store, "f").unwrap(), b"abcdef");
}

#[test]
fn a_silent_writer_gives_way_to_a_question_too() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let (mut silent, _) = store.stage(n("f"), NOBODY, 0, 6, None).unwrap();
    append(&store, &mut silent, b"abc").unwrap();
    assert_eq!(code(store.staged(n("f"), NOBODY, 6)), Err(ErrorCode::Busy));
    assert!(store.take_over(n("f"), Duration::ZERO));
    assert_eq!(store.staged(n("f"), NOBODY, 6).unwrap(), (3, crc32c(b"abc")));
    assert!(silent.is_evicted());
    assert_eq!(store.stage_owner_silent_for(n("f")), None);
    drop(silent);
    assert_eq!(store.staged(n("f"), NOBODY, 6).unwrap(), (3, crc32c(b"abc")));
}

#[test]
fn a_writer_that_starts_over_leaves_the_old_one_nothing_to_spoil() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let (mut silent, _) = store.stage(n("f"), NOBODY, 0, 6, None).unwrap();
    append(&store, &mut silent, b"abc").unwrap();
    assert!(store.take_over(n("f"), Duration::ZERO));
    let (mut next, _) = store.stage(n("f"), NOBODY, 0, 2, None).unwrap();
    append(&store, &mut next, b"x").unwrap();
    drop(silent);
    append(&store, &mut next, b"y").unwrap();
    let answers = store.commit_batch(vec![(next, None)]);
    assert_eq!(answers[0].unwrap().size, 2);
    assert_eq!(get(&store, "f").unwrap(), b"xy");
}

#[test]
fn a_writer_in_the_middle_of_a_write_does_not_give_way() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let (mut stage, _) = store.stage(n("f"), NOBODY, 0, 4, None).unwrap();
    let mut writing = stage.writing().unwrap();
    assert_eq!(store.stage_owner_silent_for(n("f")), Some(Duration::ZERO));
    assert!(!store.take_over(n("f"), Duration::from_nanos(1)));
    assert_eq!(code(store.stage(n("f"), NOBODY, 0, 4, None)).err(), Some(ErrorCode::Busy));
    assert_eq!(code(store.staged(n("f"), NOBODY, 4)), Err(ErrorCode::Busy));
    assert_eq!((writing.offset(), writing.room()), (0, 4));
    writing.file().write_all_at(b"data", 0).unwrap();
    writing.appended(4);
    assert_eq!((writing.offset(), writing.room()), (4, 0));
    drop(writing);
    assert_eq!(code(store.append(&mut stage, b"x")), Err(ErrorCode::Range));
    store.commit(&mut stage, None).unwrap();
    assert_eq!(get(&store, "f").unwrap(), b"data");
}

#[test]
fn an_active_writer_keeps_its_name() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let (stage, _) = store.stage(n("f"), NOBODY, 0, 4, None).unwrap();
    assert!(store.stage_owner_silent_for(n("f")).unwrap() < Duration::from_secs(5));
    assert_eq!(code(store.stage(n("f"), NOBODY, 0, 4, None)).err(), Some(ErrorCode::Busy));
    // A connection that closes for another reason lets go.
    assert!(stage.owner().evict());
    drop(store.stage(n("f"), NOBODY, 0, 4, None).unwrap());
    drop(stage);
}

#[test]
fn interrupted_writes_make_room_oldest_first_and_open_ones_stay() {
    let root = tempfile::tempdir().unwrap();
    let store = DirStore::new(Options { stage_max: 40, ..Options::new(root.path()) }).unwrap();
    let slot = root.path().join(".skiff-stage-0");
    for (name, days) in [("third", 1), ("first", 3), ("second", 2)] {
        interrupt(&store, name, &[b'x'; 10]);
        for file in stages(&slot) {
            if file.metadata().unwrap().modified().unwrap() > SystemTime::now() - DAY / 2 {
                age(&file, days * DAY);
            }
        }
    }
    let (mut open, _) = store.stage(n("open"), NOBODY, 0, 10, None).unwrap();
    let sizes = || ["first", "second", "third"].map(|name| staged(&store, name));
    // A question drops nothing, and neither does what can't be helped by it.
    assert_eq!(code(store.staged(n("new"), NOBODY, 30)), Ok((0, 0)));
    assert_eq!(code(store.staged(n("new"), NOBODY, 31)), Err(ErrorCode::NoSpace));
    assert_eq!(code(store.stage(n("new"), NOBODY, 0, u64::MAX, None)).err(), Some(ErrorCode::NoSpace));
    let sizes_in = |store: &DirStore| {
        ["first", "second", "third"].map(|name| code(store.staged(n(name), NOBODY, 10)).map_or(0, |(size, _)| size))
    };
    _ = sizes;
    assert_eq!(sizes_in(&store), [10, 10, 10]);
    append(&store, &mut open, &[b'o'; 10]).unwrap();
    drop(store.stage(n("new"), NOBODY, 0, 1, None).unwrap());
    assert_eq!(sizes_in(&store), [0, 10, 10]);
    // Going on with one of them does not drop it.
    let (mut second, _) = store.stage(n("second"), NOBODY, 10, 30, None).unwrap();
    append(&store, &mut second, &[b'y'; 20]).unwrap();
    assert_eq!(stages(&slot).len(), 2);
    assert_eq!(code(store.stage_unnamed(1)).err(), Some(ErrorCode::NoSpace));
    store.commit(&mut second, None).unwrap();
    store.commit(&mut open, None).unwrap();
    drop(store.stage_unnamed(40).unwrap());
    drop(store.stage(n("new"), NOBODY, 0, 40, None).unwrap());
}

#[test]
fn the_reserve_stays_free() {
    let root = tempfile::tempdir().unwrap();
    let store = DirStore::new(Options { reserve: Some(u64::MAX), ..Options::new(root.path()) }).unwrap();
    assert_eq!(store.space().unwrap().free, 0);
    assert_eq!(code(put(&store, "f", b"x")), Err(ErrorCode::NoSpace));
    put(&store, "empty", b"").unwrap();
    let all = DirStore::new(Options { reserve: Some(0), ..Options::new(root.path()) }).unwrap().space().unwrap();
    let some = open(root.path()).space().unwrap();
    // What stays free counts neither as used nor as there.
    assert!(some.total < all.total);
    assert!(all.free == 0 || some.free < all.free);
}

#[test]
fn many_threads_write_through_one_store() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    std::thread::scope(|threads| {
        for thread in 0..8_u8 {
            let store = store.clone();
            threads.spawn(move || {
                for round in 0..20_u8 {
                    let bytes = [thread, round].repeat(500);
                    put(&store, &format!("t{thread}/{round}/f"), &bytes).unwrap();
                    let shared = stage_if_free(&store, "shared", &bytes);
                    let mut unnamed = store.stage_unnamed(3).unwrap();
                    append(&store, &mut unnamed, b"abc").unwrap();
                    store.commit_new(&mut unnamed, n(&format!("u{thread}-{round}"))).unwrap();
                    if let Some(mut stage) = shared {
                        store.commit(&mut stage, None).unwrap();
                    }
                    let seen = get(&store, "shared");
                    assert!(seen.is_err() || seen.is_ok_and(|bytes| bytes.chunks(2).all(|pair| pair == &bytes[..2])));
                }
            });
        }
    });
    for thread in 0..8_u8 {
        for round in 0..20_u8 {
            assert_eq!(get(&store, &format!("t{thread}/{round}/f")).unwrap(), [thread, round].repeat(500));
        }
    }
    assert_eq!(list(&store, None).unwrap().len(), 8 + 8 * 20 + 1);
    drop(store);
    assert!(!root.path().join(".skiff-stage-0").exists());
}

#[test]
fn a_directory_that_somebody_removes_again_and_again_keeps_no_file_from_being_stored() {
    let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let store = open(root.path());
    let done = AtomicU32::new(0);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while done.load(Ordering::Relaxed) == 0 {
                _ = store.remove(n("a/b/f"));
                _ = store.rmdir(n("a/b"));
                _ = store.rmdir(n("a"));
            }
        });
        for round in 0..500 {
            let put = put(&store, "a/b/f", b"x");
            if put.is_err() {
                done.store(1, Ordering::Relaxed);
            }
            put.unwrap_or_else(|refusal| panic!("{round}: {refusal}"));
        }
        done.store(1, Ordering::Relaxed);
    });
}

fn stage_if_free(store: &DirStore, name: &str, bytes: &[u8]) -> Option<skiff_host::store::Stage> {
    match super::stage(store, name, bytes) {
        Ok(stage) => Some(stage),
        Err(refusal) => {
            assert_eq!(refusal.code, ErrorCode::Busy);
            None
        }
    }
}

#[test]
fn interrupted_writes_that_use_up_the_i_numbers_make_room_oldest_first() {
    let test = "interrupted_writes_that_use_up_the_i_numbers_make_room_oldest_first";
    if !skiff_tests::namespace::mounts(module_path!(), test) {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "nr_inodes=100,size=8m", "tmpfs"]).arg(root.path());
    if !mount.status().unwrap().success() {
        return skiff_tests::programs::skip(
            test,
            "no tmpfs can be mounted; permit user namespaces (`unshare -Urm true` must work)",
        );
    }
    let root = root.path();
    let store = open(root);
    for number in 0..300 {
        interrupt(&store, &format!("{number}"), b"x");
    }
    assert!(stages(&root.join(".skiff-stage-0")).len() < 100);
    assert_eq!(staged(&store, "299"), 1, "the last one stays");
    drop(store);
    // After a restart, with every i-number in use again.
    let fill = |store: &DirStore| {
        let mut number = 0;
        while rustix::fs::statvfs(root).unwrap().f_favail > 0 {
            interrupt(store, &format!("again {number}"), b"x");
            number += 1;
        }
    };
    let store = open(root);
    fill(&store);
    assert_eq!(staged(&store, "new"), 0);
    put(&store, "written", b"x").unwrap();
    fill(&store);
    store.mkdir(n("made")).unwrap();
    fill(&store);
    put(&store, "with/new/parents", b"x").unwrap();
    fill(&store);
    drop(store.stage_unnamed(1).unwrap());
    // A file that is being written is not dropped for others: then there is no room, and `resume` reports it as
    // `write` does.
    let mut open = Vec::new();
    let refused = loop {
        match store.stage(n(&format!("open {}", open.len())), NOBODY, 0, 1, None) {
            Ok(stage) => open.push(stage),
            Err(refusal) => break refusal.code,
        }
        assert!(open.len() < 100);
    };
    assert_eq!((refused, code(store.staged(n("new"), NOBODY, 1))), (ErrorCode::NoSpace, Err(ErrorCode::NoSpace)));
    assert_eq!(code(store.stage_unnamed(1)).err(), Some(ErrorCode::NoSpace));
}

#[test]
fn there_are_never_many_more_than_ten_thousand_interrupted_writes() {
    let root = tempfile::tempdir().unwrap();
    let slot = root.path().join(".skiff-stage-0");
    interrupt(&open(root.path()), "f", b"x");
    (0..10_000).for_each(|number| _ = File::create(slot.join(format!("{number:032x}"))).unwrap());
    let store = open(root.path());
    (0..3).for_each(|number| interrupt(&store, &format!("new {number}"), b"x"));
    let left = stages(&slot).len();
    assert!((9_000..=10_000).contains(&left), "{left}");
    assert_eq!(staged(&store, "new 2"), 1);
}
