//! Staged bytes: writes, resumed ones, and stages without a name.

use skiff_proto::ErrorCode;
use skiff_proto::crc::crc32c;
use skiff_proto::identity::{NOBODY, StageOwner};
use skiff_proto::store::{Staging, Store};

use super::calls::{append, begin, code, commit, commit_new, get, interrupt, list, n, pattern, put, put_at, staged};
use super::{Backend, Patient, cases};

cases! { store_suite_staging, staging, ($)
    /// PROTOCOL §7: bytes go to a staging area, never into the old file.
    fn nobody_sees_staged_bytes_before_the_commit(backend, store) {
        put(&mut store, "old", b"old");
        let (mut over, _) = begin(&mut store, "old", 0, 3).unwrap();
        let (mut new, _) = begin(&mut store, "new", 0, 3).unwrap();
        append(&mut store, &mut over, b"NEW");
        append(&mut store, &mut new, b"new");
        assert_eq!(get(&mut store, "old").unwrap(), b"old");
        assert_eq!(get(&mut store, "new"), Err(ErrorCode::NotFound));
        assert_eq!(list(&mut store, None).unwrap(), ["old"]);
        commit(&mut store, &mut over, None).unwrap();
        commit(&mut store, &mut new, None).unwrap();
        assert_eq!(get(&mut store, "old").unwrap(), b"NEW");
        assert_eq!(get(&mut store, "new").unwrap(), b"new");
    }

    /// PROTOCOL §7: connection lost before the trailer.
    fn staged_bytes_of_a_lost_connection_are_resumed_with_their_checksum(backend, store) {
        let bytes = pattern(3000, 5);
        put(&mut store, "f", b"old");
        interrupt(&mut store, "f", &bytes[..1234], 3000);
        assert_eq!(get(&mut store, "f").unwrap(), b"old");
        assert_eq!(staged(&mut store, "f", 3000), Ok((1234, crc32c(&bytes[..1234]))));
        let (mut stage, crc) = begin(&mut store, "f", 1234, 3000).unwrap();
        assert_eq!(crc, crc32c(&bytes[..1234]));
        append(&mut store, &mut stage, &bytes[1234..2000]);
        drop(stage);
        // Without asking first.
        let (mut stage, crc) = begin(&mut store, "f", 2000, 3000).unwrap();
        assert_eq!(crc, crc32c(&bytes[..2000]));
        append(&mut store, &mut stage, &bytes[2000..]);
        commit(&mut store, &mut stage, Some(crc32c(&bytes))).unwrap();
        drop(stage);
        assert!(get(&mut store, "f").unwrap() == bytes);
        assert_eq!(staged(&mut store, "f", 3000), Ok((0, 0)));
    }

    /// Only the trailer was missing.
    fn a_write_of_which_all_bytes_are_staged_can_be_finished(backend, store) {
        interrupt(&mut store, "f", b"whole", 5);
        assert_eq!(staged(&mut store, "f", 5), Ok((5, crc32c(b"whole"))));
        let (mut stage, _) = begin(&mut store, "f", 5, 5).unwrap();
        commit(&mut store, &mut stage, Some(crc32c(b"whole"))).unwrap();
        assert_eq!(get(&mut store, "f").unwrap(), b"whole");
    }

    /// PROTOCOL §7: even across a restart of the server.
    fn files_and_staged_bytes_are_there_after_a_restart(backend, store) {
        let bytes = pattern(2500, 6);
        put_at(&mut store, "f", &bytes, Some(1_600_000_000));
        interrupt(&mut store, "f", &bytes[..2000], 2500);
        interrupt(&mut store, "g", b"gg", 4);
        let (mut unnamed, before) = (store.stage_new(n("new"), 10).unwrap(), list(&mut store, None).unwrap());
        append(&mut store, &mut unnamed, b"lost");
        drop(unnamed);
        if !B::FEATURES.restart {
            return;
        }
        drop(store);
        let mut store = Patient::open(&mut backend);
        assert_eq!(list(&mut store, None).unwrap(), before);
        assert!(get(&mut store, "f").unwrap() == bytes);
        if B::FEATURES.mtime {
            assert_eq!(store.stat(n("f")).unwrap().mtime, Some(1_600_000_000));
        }
        assert_eq!(staged(&mut store, "f", 2500), Ok((2000, crc32c(&bytes[..2000]))));
        assert_eq!(staged(&mut store, "g", 4), Ok((2, crc32c(b"gg"))));
        let (mut stage, _) = begin(&mut store, "g", 2, 4).unwrap();
        append(&mut store, &mut stage, b"GG");
        commit(&mut store, &mut stage, None).unwrap();
        assert_eq!(get(&mut store, "g").unwrap(), b"ggGG");
    }

    /// PROTOCOL §7: OFFSET 0 starts over.
    fn offset_0_drops_what_is_staged(backend, store) {
        interrupt(&mut store, "f", b"abc", 6);
        let (mut stage, crc) = begin(&mut store, "f", 0, 2).unwrap();
        assert_eq!(crc, 0);
        append(&mut store, &mut stage, b"xy");
        commit(&mut store, &mut stage, None).unwrap();
        assert_eq!(get(&mut store, "f").unwrap(), b"xy");
        interrupt(&mut store, "f", b"abc", 6);
        interrupt(&mut store, "f", b"d", 6);
        assert_eq!(staged(&mut store, "f", 6), Ok((1, crc32c(b"d"))));
    }

    /// PROTOCOL §7: the same length and other bytes.
    fn a_write_that_starts_over_has_a_new_checksum(backend, store) {
        interrupt(&mut store, "f", b"abc", 6);
        assert_eq!(staged(&mut store, "f", 6), Ok((3, crc32c(b"abc"))));
        interrupt(&mut store, "f", b"xyz", 6);
        assert_eq!(begin(&mut store, "f", 3, 6).unwrap().1, crc32c(b"xyz"));
        assert_eq!(staged(&mut store, "f", 6), Ok((3, crc32c(b"xyz"))));
    }

    /// `mismatch`, and nothing changes.
    fn an_offset_that_is_not_the_staged_length_is_a_mismatch(backend, store) {
        assert_eq!(begin(&mut store, "f", 1, 6).err(), Some(ErrorCode::Mismatch));
        interrupt(&mut store, "f", b"abc", 6);
        for offset in [1, 2, 4, 6] {
            assert_eq!(begin(&mut store, "f", offset, 6).err(), Some(ErrorCode::Mismatch));
        }
        assert_eq!(staged(&mut store, "f", 6), Ok((3, crc32c(b"abc"))));
        assert_eq!(get(&mut store, "f"), Err(ErrorCode::NotFound));
    }

    /// PROTOCOL §6: range, busy, mismatch, no-space.
    fn of_several_errors_the_first_is_reported(backend, store) {
        interrupt(&mut store, "f", b"abc", 6);
        assert_eq!(begin(&mut store, "f", 7, 6).err(), Some(ErrorCode::Range));
        let huge = u64::MAX;
        assert_eq!(code(store.stage(Staging::new(n("f"), huge).at(2))).err(), Some(ErrorCode::Mismatch));
        let (stage, _) = begin(&mut store, "f", 3, 6).unwrap();
        assert_eq!(begin(&mut store, "f", 7, 6).err(), Some(ErrorCode::Range));
        assert_eq!(begin(&mut store, "f", 2, 6).err(), Some(ErrorCode::Busy));
        assert_eq!(code(store.stage(Staging::new(n("f"), huge).at(3))).err(), Some(ErrorCode::Busy));
        drop(stage);
        assert_eq!(staged(&mut store, "f", 6), Ok((3, crc32c(b"abc"))));
    }

    /// PROTOCOL §7: two writers to one name.
    fn a_name_is_busy_until_its_writer_ends_in_whatever_way(backend, store) {
        let busy = |store: &mut Patient<B>| {
            assert_eq!(begin(store, "f", 0, 3).err(), Some(ErrorCode::Busy));
            assert_eq!(staged(store, "f", 3), Err(ErrorCode::Busy));
            drop(begin(store, "other", 0, 3).unwrap());
        };
        let (mut stage, _) = begin(&mut store, "f", 0, 3).unwrap();
        busy(&mut store);
        append(&mut store, &mut stage, b"ab");
        busy(&mut store);
        drop(stage);
        assert_eq!(staged(&mut store, "f", 3), Ok((2, crc32c(b"ab"))));
        let (stage, _) = begin(&mut store, "f", 2, 3).unwrap();
        busy(&mut store);
        store.discard(stage);
        let (mut stage, _) = begin(&mut store, "f", 0, 3).unwrap();
        append(&mut store, &mut stage, b"abc");
        busy(&mut store);
        commit(&mut store, &mut stage, None).unwrap();
        drop(stage);
        assert_eq!(staged(&mut store, "f", 3), Ok((0, 0)));
        drop(begin(&mut store, "f", 0, 3).unwrap());
    }

    /// PROTOCOL §7: `abort`, or a wrong checksum.
    fn discarded_bytes_are_gone_and_the_old_file_stays(backend, store) {
        put(&mut store, "f", b"old");
        let (mut stage, _) = begin(&mut store, "f", 0, 3).unwrap();
        append(&mut store, &mut stage, b"new");
        store.discard(stage);
        assert_eq!(staged(&mut store, "f", 3), Ok((0, 0)));
        assert_eq!(get(&mut store, "f").unwrap(), b"old");
    }

    /// PROTOCOL §5: 0 if more than SIZE are staged.
    fn more_staged_bytes_than_the_size_count_as_none(backend, store) {
        interrupt(&mut store, "f", b"abcdef", 10);
        assert_eq!(staged(&mut store, "f", 5), Ok((0, 0)));
        assert_eq!(staged(&mut store, "f", 6), Ok((6, crc32c(b"abcdef"))));
        put(&mut store, "f", b"12345");
        assert_eq!(get(&mut store, "f").unwrap(), b"12345");
    }

    /// PROTOCOL §8: for others, nothing is staged, even across a restart.
    fn staged_bytes_belong_to_the_client_that_wrote_them(backend, store) {
        let [a, b] = [1, u64::MAX].map(|number| StageOwner::from_number(number).unwrap());
        let write = |store: &mut Patient<B>, owner, offset, bytes: &[u8]| {
            let (mut stage, crc) = code(store.stage(Staging { mtime: Some(9), owner, ..Staging::new(n("f"), 6).at(offset) }))?;
            append(store, &mut stage, bytes);
            Ok((stage, crc))
        };
        let others = |owner| [NOBODY, a, b].into_iter().filter(move |&other| other != owner);
        for owner in [NOBODY, a, b, a, NOBODY] {
            drop(write(&mut store, owner, 0, b"abc").unwrap());
            for _ in 0..2 {
                for other in others(owner) {
                    assert_eq!(code(store.staged(n("f"), other, 6)), Ok((0, 0)));
                    assert_eq!(write(&mut store, other, 3, b"d").err(), Some(ErrorCode::Mismatch));
                }
                assert_eq!(code(store.staged(n("f"), owner, 6)), Ok((3, crc32c(b"abc"))));
                if B::FEATURES.restart {
                    drop(store);
                    store = Patient::open(&mut backend);
                }
            }
        }
        drop(write(&mut store, a, 0, b"abc").unwrap());
        let (stage, _) = write(&mut store, a, 3, b"d").unwrap();
        assert_eq!(write(&mut store, b, 0, b"x").err(), Some(ErrorCode::Busy), "a name has one writer");
        drop(stage);
        let (mut stage, crc) = write(&mut store, a, 4, b"ef").unwrap();
        assert_eq!(crc, crc32c(b"abcd"));
        commit(&mut store, &mut stage, None).unwrap();
        drop(stage);
        assert_eq!(get(&mut store, "f").unwrap(), b"abcdef");
        if B::FEATURES.mtime {
            assert_eq!(store.stat(n("f")).unwrap().mtime, Some(9));
        }
        for owner in [NOBODY, a, b] {
            assert_eq!(code(store.staged(n("f"), owner, 6)), Ok((0, 0)));
        }
        // What is discarded is gone for its owner too.
        let (stage, _) = write(&mut store, b, 0, b"abc").unwrap();
        store.discard(stage);
        assert_eq!(code(store.staged(n("f"), b, 6)), Ok((0, 0)));
    }

    /// PROTOCOL §7: at most one staged version of a name, but each name may have one.
    fn staged_bytes_of_several_names_are_kept_apart(backend, store) {
        let names = ["a", "b", "a b", "ab"];
        let names = &names[..names.len().min(B::FEATURES.files_max / 2)];
        for name in names {
            interrupt(&mut store, name, name.as_bytes(), 10);
        }
        for name in names {
            assert_eq!(staged(&mut store, name, 10), Ok((name.len() as u64, crc32c(name.as_bytes()))));
        }
    }

    /// Several connections write at once.
    fn files_that_are_written_at_the_same_time_do_not_mix(backend, store) {
        let count = B::FEATURES.stages_max.min(B::FEATURES.files_max / 2).min(16);
        let names: Vec<String> = (0..count).map(|number| format!("n{number}")).collect();
        let mut stages: Vec<_> = names.iter().map(|name| begin(&mut store, name, 0, 10 * name.len()).unwrap().0).collect();
        for _ in 0..10 {
            for (stage, name) in stages.iter_mut().zip(&names) {
                append(&mut store, stage, name.as_bytes());
            }
        }
        for stage in &mut stages {
            commit(&mut store, stage, None).unwrap();
        }
        drop(stages);
        for name in &names {
            assert_eq!(get(&mut store, name).unwrap(), name.repeat(10).as_bytes());
        }
    }

    /// A connection that was lost before the first byte.
    fn a_write_that_never_got_a_byte_leaves_nothing(backend, store) {
        put(&mut store, "f", b"old");
        drop(begin(&mut store, "f", 0, 3).unwrap());
        assert_eq!(staged(&mut store, "f", 3), Ok((0, 0)));
        assert_eq!(get(&mut store, "f").unwrap(), b"old");
    }

    /// PROTOCOL §3: `put` never replaces.
    fn an_unnamed_stage_takes_the_next_name_if_one_exists(backend, store) {
        put(&mut store, "report.txt", b"first");
        let mut stage = store.stage_new(n("new"), 6).unwrap();
        append(&mut store, &mut stage, b"second");
        assert_eq!(commit_new(&mut store, &mut stage, "report.txt"), Err(ErrorCode::Exists));
        assert_eq!(commit_new(&mut store, &mut stage, "report(1).txt"), Ok(()));
        drop(stage);
        assert_eq!(get(&mut store, "report.txt").unwrap(), b"first");
        assert_eq!(get(&mut store, "report(1).txt").unwrap(), b"second");
        assert_eq!(list(&mut store, None).unwrap(), ["report(1).txt", "report.txt"]);
    }

    /// PROTOCOL §3: classic puts are never busy.
    fn unnamed_stages_do_not_disturb_each_other_or_named_ones(backend, store) {
        let mut one = store.stage_new(n("new"), 3).unwrap();
        let mut two = store.stage_new(n("new"), 3).unwrap();
        append(&mut store, &mut one, b"one");
        append(&mut store, &mut two, b"two");
        commit_new(&mut store, &mut two, "f").unwrap();
        assert_eq!(commit_new(&mut store, &mut one, "f"), Err(ErrorCode::Exists));
        assert_eq!(staged(&mut store, "f", 3), Ok((0, 0)));
        commit_new(&mut store, &mut one, "g").unwrap();
        assert_eq!(get(&mut store, "f").unwrap(), b"two");
        assert_eq!(get(&mut store, "g").unwrap(), b"one");
    }

    /// PROTOCOL §3: a length in characters is less than that of the text.
    fn an_unnamed_stage_takes_more_bytes_than_were_announced(backend, store) {
        let text = "olá, ça va? ".repeat(20);
        let mut stage = store.stage_new(n("new"), text.chars().count() as u64).unwrap();
        append(&mut store, &mut stage, text.as_bytes());
        commit_new(&mut store, &mut stage, "texto").unwrap();
        drop(stage);
        assert_eq!(get(&mut store, "texto").unwrap(), text.as_bytes());
    }

    /// The connection is lost, or the length was wrong.
    fn an_unnamed_stage_that_is_dropped_leaves_nothing(backend, store) {
        for _ in 0..20 {
            let mut stage = store.stage_new(n("new"), 1000).unwrap();
            append(&mut store, &mut stage, &pattern(1000, 1));
            drop(stage);
            let mut stage = store.stage_new(n("new"), 1000).unwrap();
            append(&mut store, &mut stage, b"x");
            store.discard(stage);
        }
        assert_eq!(list(&mut store, None).unwrap(), [""; 0]);
    }

    /// What can't fit is refused before the first byte.
    fn a_file_that_does_not_fit_is_refused_and_nothing_changes(backend, store) {
        put(&mut store, "f", b"old");
        interrupt(&mut store, "f", b"st", 5);
        let space = store.space().unwrap();
        assert!(space.free <= space.total);
        for size in [space.total + 1, u64::MAX] {
            assert_eq!(code(store.staged(n("f"), NOBODY, size)), Err(ErrorCode::NoSpace));
            assert_eq!(code(store.stage(Staging::new(n("f"), size))).err(), Some(ErrorCode::NoSpace));
            assert_eq!(code(store.stage(Staging::new(n("f"), size).at(2))).err(), Some(ErrorCode::NoSpace));
            assert_eq!(code(store.stage_new(n("new"), size)).err(), Some(ErrorCode::NoSpace));
        }
        assert_eq!(get(&mut store, "f").unwrap(), b"old");
        assert_eq!(staged(&mut store, "f", 5), Ok((2, crc32c(b"st"))));
    }
}
