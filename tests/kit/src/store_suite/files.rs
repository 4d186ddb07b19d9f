//! Files: their content, their properties, their names, and readers of old versions.

use skiff_proto::ErrorCode;
use skiff_proto::store::{EntryKind, Stat, Store};

use super::calls::{append, begin, code, commit, get, interrupt, list, n, pattern, put, put_at, read_open};
use super::{Backend, Patient, cases};

cases! { store_suite_files, files, ($)
    /// At offset 0, in the middle, at the end and beyond it.
    fn a_stored_file_reads_back_whole_and_in_parts(backend, store) {
        let bytes = pattern(3000, 1);
        put(&mut store, "data.bin", &bytes);
        assert_eq!(get(&mut store, "data.bin").unwrap(), bytes);
        let (mut file, stat) = store.open(n("data.bin")).unwrap();
        assert_eq!(stat.size, 3000);
        let mut buffer = [0; 100];
        for (offset, len) in [(0, 100), (1, 100), (2900, 100), (2999, 1), (3000, 0), (4000, 0)] {
            let read = store.read_at(&mut file, offset as u64, &mut buffer).unwrap();
            assert!(if len > 0 { (1..=len).contains(&read) } else { read == 0 }, "{offset}: {read}");
            assert_eq!(buffer[..read], bytes[bytes.len().min(offset)..][..read]);
        }
    }

    /// Sizes around those of sectors, pages and buffers.
    fn files_of_all_sizes_come_back_as_they_were(backend, store) {
        for size in [0, 1, 2, 255, 256, 257, 511, 512, 513, 4095, 4096, 4097, 65_535, 65_536, 65_537, 300_001] {
            if size <= B::FEATURES.file_max {
                let bytes = pattern(size, 7);
                put(&mut store, "sized", &bytes);
                assert!(get(&mut store, "sized").unwrap() == bytes, "{size}");
                store.remove(n("sized")).unwrap();
            }
        }
    }

    /// However the sender splits its data.
    fn bytes_that_come_one_by_one_make_the_same_file(backend, store) {
        let bytes = pattern(700, 3);
        let (mut stage, _) = begin(&mut store, "slow", 0, 700).unwrap();
        bytes.iter().for_each(|byte| append(&mut store, &mut stage, &[*byte]));
        commit(&mut store, &mut stage, None).unwrap();
        drop(stage);
        assert_eq!(get(&mut store, "slow").unwrap(), bytes);
    }

    /// An empty file is a file.
    fn an_empty_file_is_stored_and_listed(backend, store) {
        put(&mut store, "empty", b"");
        assert_eq!(get(&mut store, "empty").unwrap(), b"");
        assert_eq!(store.stat(n("empty")).unwrap().size, 0);
        assert_eq!(list(&mut store, None).unwrap(), ["empty"]);
    }

    /// `stat`, `open` and `list` agree.
    fn size_time_and_checksum_are_reported(backend, store) {
        put_at(&mut store, "x", b"123456789", Some(1_700_000_000));
        let stat = store.stat(n("x")).unwrap();
        assert_eq!(stat.size, 9);
        assert!(stat.crc.is_none_or(|crc| crc == 0xe306_9283), "{stat:?}");
        if B::FEATURES.mtime {
            assert_eq!(stat.mtime, Some(1_700_000_000));
        }
        assert_eq!(store.open(n("x")).unwrap().1, stat);
        let mut listed: Option<Stat> = None;
        let mut cursor = store.list(None).unwrap();
        let more = store.next_entry(&mut cursor, &mut |entry| {
            assert_eq!(entry.name.as_str(), "x");
            if let EntryKind::File(stat) = entry.kind {
                listed = Some(stat);
            }
        });
        assert!(more.unwrap() && !store.next_entry(&mut cursor, &mut |_| panic!("one entry only")).unwrap());
        assert_eq!(listed, Some(stat));
    }

    /// Times before 1970 can't be expressed; those after 292 billion years do not have to be kept.
    fn an_absurd_time_does_not_keep_a_file_from_being_stored(backend, store) {
        put_at(&mut store, "late", b"x", Some(u64::MAX));
        put_at(&mut store, "early", b"x", Some(0));
        assert_eq!(get(&mut store, "late").unwrap(), b"x");
        assert_eq!(get(&mut store, "early").unwrap(), b"x");
    }

    /// `not-found`.
    fn what_is_not_there_is_not_found(backend, store) {
        assert_eq!(code(store.open(n("x"))).err(), Some(ErrorCode::NotFound));
        assert_eq!(code(store.stat(n("x"))), Err(ErrorCode::NotFound));
        assert_eq!(code(store.remove(n("x"))), Err(ErrorCode::NotFound));
        assert_eq!(code(store.rename(n("x"), n("y"))), Err(ErrorCode::NotFound));
        assert_eq!(code(store.list(Some(n("x")))).err(), Some(ErrorCode::NotFound));
        assert_eq!(list(&mut store, None).unwrap(), [""; 0]);
    }

    /// PROTOCOL §2: names are compared byte by byte.
    fn names_that_differ_in_one_byte_are_two_files(backend, store) {
        let names = ["a", "A", "a ", " a", "a.", "ä", "a\u{308}"];
        for name in names {
            put(&mut store, name, name.as_bytes());
        }
        for name in names {
            assert_eq!(get(&mut store, name).unwrap(), name.as_bytes(), "{name:?}");
        }
        assert_eq!(list(&mut store, None).unwrap().len(), names.len());
    }

    /// As long as the hello says.
    fn the_longest_name_is_stored(backend, store) {
        let longest = "n".repeat(B::FEATURES.name_max);
        put(&mut store, &longest, b"x");
        interrupt(&mut store, &longest, b"ab", 3);
        assert_eq!(get(&mut store, &longest).unwrap(), b"x");
        assert_eq!(list(&mut store, None).unwrap(), [longest]);
    }

    /// The complete old content, or `changed`: never a mix.
    fn a_reader_of_a_replaced_file_sees_the_old_one_or_hears_of_it(backend, store) {
        let (old, new) = (pattern(2000, 1), pattern(2000, 2));
        put(&mut store, "f", &old);
        let (mut file, stat) = store.open(n("f")).unwrap();
        let mut half = vec![0; 1000];
        let read = store.read_at(&mut file, 0, &mut half).unwrap();
        assert_eq!(half[..read], old[..read]);
        put(&mut store, "f", &new);
        match read_open(&mut store, &mut file, stat.size) {
            Ok(bytes) => assert!(bytes == old),
            Err(code) => assert_eq!(code, ErrorCode::Changed),
        }
        drop(file);
        assert!(get(&mut store, "f").unwrap() == new);
    }

    /// The same for a file that is removed.
    fn a_reader_of_a_removed_file_sees_it_or_hears_of_it(backend, store) {
        let bytes = pattern(2000, 1);
        put(&mut store, "f", &bytes);
        let (mut file, stat) = store.open(n("f")).unwrap();
        store.remove(n("f")).unwrap();
        put(&mut store, "g", &pattern(2000, 2));
        match read_open(&mut store, &mut file, stat.size) {
            Ok(read) => assert!(read == bytes),
            Err(code) => assert_eq!(code, ErrorCode::Changed),
        }
    }

    /// PROTOCOL §5: TAG changes whenever the content changes.
    fn a_tag_tells_versions_apart_or_says_that_it_can_not(backend, store) {
        put(&mut store, "f", b"one");
        let (file, _) = store.open(n("f")).unwrap();
        let first = store.tag(&file);
        assert_eq!(store.tag(&file), first);
        let (again, _) = store.open(n("f")).unwrap();
        assert_eq!(store.tag(&again), first);
        drop((file, again));
        put(&mut store, "f", b"two");
        let (file, _) = store.open(n("f")).unwrap();
        let second = store.tag(&file);
        assert!(!first.is_known() || !second.is_known() || first != second, "{first:?} {second:?}");
    }
}
