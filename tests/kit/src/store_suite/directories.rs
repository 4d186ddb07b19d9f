//! Listings, trees and directories.

use skiff_proto::ErrorCode;
use skiff_proto::crc::crc32c;
use skiff_proto::store::Store;

use super::calls::{append, begin, code, commit, commit_new, get, interrupt, list, n, put, staged, tree};
use super::{Backend, Patient, cases};

cases! { store_suite_directories, directories, ($)
    /// Each exactly once.
    fn a_listing_shows_every_file_once_and_no_stage(backend, store) {
        let count = (B::FEATURES.files_max - 2).min(200);
        let names: Vec<String> = (0..count).map(|number| format!("file-{number:03}")).collect();
        for name in &names {
            put(&mut store, name, name.as_bytes());
        }
        interrupt(&mut store, "staged", b"x", 2);
        let open = begin(&mut store, "open", 0, 2).unwrap();
        assert_eq!(list(&mut store, None).unwrap(), names);
        drop(open);
    }

    /// PROTOCOL §5: a listing at every depth, which in a flat store is the listing.
    fn a_tree_shows_everything_below_a_directory_once(backend, store) {
        put(&mut store, "top", b"x");
        interrupt(&mut store, "part", b"x", 2);
        if !B::FEATURES.directories {
            assert_eq!(tree(&mut store, None).unwrap(), ["top"]);
            assert_eq!(tree(&mut store, Some("d")), Err(ErrorCode::NotFound));
            return;
        }
        for name in ["d/e/f/g", "d/e/h", "d/i", "j/k"] {
            put(&mut store, name, b"x");
        }
        store.mkdir(n("d/empty")).unwrap();
        let below = ["d/e/", "d/e/f/", "d/e/f/g", "d/e/h", "d/empty/", "d/i"];
        assert_eq!(tree(&mut store, None).unwrap(), [&["d/"], &below[..], &["j/", "j/k", "top"]].concat());
        assert_eq!(tree(&mut store, Some("d")).unwrap(), below);
        assert_eq!(tree(&mut store, Some("d/empty")).unwrap(), [""; 0]);
        for name in ["none", "top", "top/x"] {
            assert_eq!(tree(&mut store, Some(name)), Err(ErrorCode::NotFound), "{name}");
        }
    }

    /// A flat store has no directories.
    fn directories_are_made_listed_and_removed_or_unsupported(backend, store) {
        if !B::FEATURES.directories {
            assert_eq!(code(store.mkdir(n("d"))), Err(ErrorCode::Unsupported));
            assert_eq!(code(store.rmdir(n("d"))), Err(ErrorCode::Unsupported));
            return;
        }
        store.mkdir(n("d")).unwrap();
        assert_eq!(code(store.mkdir(n("d"))), Err(ErrorCode::Exists));
        assert_eq!(code(store.mkdir(n("no/d"))), Err(ErrorCode::NotFound));
        put(&mut store, "d/f", b"x");
        put(&mut store, "top", b"x");
        store.mkdir(n("d/e")).unwrap();
        assert_eq!(code(store.mkdir(n("top"))), Err(ErrorCode::Exists));
        assert_eq!(list(&mut store, None).unwrap(), ["d/", "top"]);
        assert_eq!(list(&mut store, Some("d")).unwrap(), ["d/e/", "d/f"]);
        assert_eq!(list(&mut store, Some("d/e")).unwrap(), [""; 0]);
        assert_eq!(code(store.rmdir(n("d"))), Err(ErrorCode::NotEmpty));
        store.rmdir(n("d/e")).unwrap();
        assert_eq!(code(store.rmdir(n("d/e"))), Err(ErrorCode::NotFound));
        store.remove(n("d/f")).unwrap();
        store.rmdir(n("d")).unwrap();
        assert_eq!(list(&mut store, None).unwrap(), ["top"]);
    }

    /// `is-directory`, and for `list` and `rmdir` of a file `not-found`.
    fn a_directory_is_no_file_and_a_file_no_directory(backend, store) {
        if !B::FEATURES.directories {
            return;
        }
        store.mkdir(n("d")).unwrap();
        put(&mut store, "f", b"x");
        let is_directory = Some(ErrorCode::IsDirectory);
        assert_eq!(code(store.open(n("d"))).err(), is_directory);
        assert_eq!(code(store.stat(n("d"))).err(), is_directory);
        assert_eq!(begin(&mut store, "d", 7, 3).err(), is_directory);
        assert_eq!(staged(&mut store, "d", 3).err(), is_directory);
        assert_eq!(code(store.remove(n("d"))).err(), is_directory);
        assert_eq!(code(store.rename(n("f"), n("d"))).err(), is_directory);
        assert_eq!(list(&mut store, Some("f")), Err(ErrorCode::NotFound));
        assert_eq!(code(store.rmdir(n("f"))), Err(ErrorCode::NotFound));
        assert_eq!(code(store.stat(n("f/x"))), Err(ErrorCode::NotFound));
        assert_eq!(code(store.open(n("f/x"))).err(), Some(ErrorCode::NotFound));
        assert_eq!(get(&mut store, "f").unwrap(), b"x");
    }

    /// `not-found` for commands that read, `exists` for commands that would create something (PROTOCOL §6).
    fn below_a_file_nothing_is_found_and_nothing_made(backend, store) {
        if !B::FEATURES.directories {
            return;
        }
        put(&mut store, "f", b"x");
        put(&mut store, "g", b"y");
        for name in ["f/x", "f/x/y"] {
            let not_found = Some(ErrorCode::NotFound);
            assert_eq!(code(store.stat(n(name))).err(), not_found);
            assert_eq!(code(store.open(n(name))).err(), not_found);
            assert_eq!(code(store.remove(n(name))).err(), not_found);
            assert_eq!(code(store.rename(n(name), n("h"))).err(), not_found);
            assert_eq!(code(store.rmdir(n(name))).err(), not_found);
            assert_eq!(list(&mut store, Some(name)).err(), not_found);
            let exists = Some(ErrorCode::Exists);
            assert_eq!(staged(&mut store, name, 3).err(), exists);
            assert_eq!(begin(&mut store, name, 0, 3).err(), exists);
            assert_eq!(code(store.mkdir(n(name))).err(), exists);
            assert_eq!(code(store.rename(n("g"), n(name))).err(), exists);
        }
        // The file appeared while the bytes arrived.
        let (mut stage, _) = begin(&mut store, "d/x", 0, 1).unwrap();
        append(&mut store, &mut stage, b"x");
        put(&mut store, "d", b"z");
        assert_eq!(commit(&mut store, &mut stage, None), Err(ErrorCode::Exists));
        store.discard(stage);
        assert_eq!(list(&mut store, None).unwrap(), ["d", "f", "g"]);
        assert_eq!(get(&mut store, "f").unwrap(), b"x");
    }

    /// The name became that of a directory while the bytes arrived.
    fn a_commit_over_a_directory_is_refused(backend, store) {
        if !B::FEATURES.directories {
            return;
        }
        let (mut stage, _) = begin(&mut store, "d", 0, 1).unwrap();
        append(&mut store, &mut stage, b"x");
        store.mkdir(n("d")).unwrap();
        assert_eq!(commit(&mut store, &mut stage, None), Err(ErrorCode::IsDirectory));
        store.discard(stage);
        let mut stage = store.stage_new(n("new"), 1).unwrap();
        append(&mut store, &mut stage, b"x");
        assert_eq!(commit_new(&mut store, &mut stage, "d"), Err(ErrorCode::Exists));
        assert_eq!(list(&mut store, Some("d")).unwrap(), [""; 0]);
    }

    /// PROTOCOL §5: `write` and `rename` create missing parents.
    fn missing_parents_are_made_at_the_commit_and_by_rename(backend, store) {
        if !B::FEATURES.directories {
            return;
        }
        interrupt(&mut store, "a/b/c", b"12", 3);
        assert_eq!(list(&mut store, None).unwrap(), [""; 0]);
        assert_eq!(staged(&mut store, "a/b/c", 3), Ok((2, crc32c(b"12"))));
        put(&mut store, "a/b/c", b"123");
        put(&mut store, "a/d", b"x");
        store.rename(n("a/d"), n("e/f/g")).unwrap();
        assert_eq!(list(&mut store, None).unwrap(), ["a/", "e/"]);
        assert_eq!(list(&mut store, Some("e/f")).unwrap(), ["e/f/g"]);
        assert_eq!(get(&mut store, "a/b/c").unwrap(), b"123");
        assert!(begin(&mut store, "a/b/c/d", 0, 1).is_err());
        assert_eq!(code(store.rename(n("no"), n("new/x"))), Err(ErrorCode::NotFound));
        assert_eq!(list(&mut store, None).unwrap(), ["a/", "e/"]);
    }

    /// PROTOCOL §5: a whole directory, in one step; staged bytes and writers keep the names that they were given.
    fn a_directory_is_renamed_with_all_that_is_in_it_and_replaces_nothing(backend, store) {
        if !B::FEATURES.directories {
            return;
        }
        put(&mut store, "d/f", b"x");
        put(&mut store, "d/e/g", b"y");
        put(&mut store, "file", b"z");
        store.mkdir(n("d/empty")).unwrap();
        store.mkdir(n("other")).unwrap();
        interrupt(&mut store, "d/part", b"12", 3);
        let (mut stage, _) = begin(&mut store, "d/f", 0, 1).unwrap();
        for (to, why) in [
            ("d", ErrorCode::IsDirectory),
            ("other", ErrorCode::IsDirectory),
            ("d/in", ErrorCode::IsDirectory),
            ("d/new/in", ErrorCode::IsDirectory),
            ("file", ErrorCode::Exists),
            ("file/x", ErrorCode::Exists),
        ] {
            assert_eq!(code(store.rename(n("d"), n(to))), Err(why), "{to}");
        }
        assert_eq!(list(&mut store, Some("d")).unwrap(), ["d/e/", "d/empty/", "d/f"]);
        store.rename(n("d"), n("new/name")).unwrap();
        assert_eq!(list(&mut store, None).unwrap(), ["file", "new/", "other/"]);
        assert_eq!(list(&mut store, Some("new/name")).unwrap(), ["new/name/e/", "new/name/empty/", "new/name/f"]);
        assert_eq!(get(&mut store, "new/name/f").unwrap(), b"x");
        assert_eq!(get(&mut store, "new/name/e/g").unwrap(), b"y");
        assert_eq!(code(store.rename(n("d"), n("again"))), Err(ErrorCode::NotFound));
        assert_eq!(staged(&mut store, "d/part", 3), Ok((2, crc32c(b"12"))));
        assert_eq!(staged(&mut store, "new/name/part", 3), Ok((0, 0)));
        append(&mut store, &mut stage, b"w");
        commit(&mut store, &mut stage, None).unwrap();
        assert_eq!(get(&mut store, "d/f").unwrap(), b"w");
        assert_eq!(get(&mut store, "new/name/f").unwrap(), b"x");
    }

    /// PROTOCOL §6: `not-empty` (staged bytes don't count).
    fn staged_bytes_do_not_keep_a_directory_from_being_removed(backend, store) {
        if !B::FEATURES.directories {
            return;
        }
        store.mkdir(n("d")).unwrap();
        interrupt(&mut store, "d/f", b"ab", 3);
        store.rmdir(n("d")).unwrap();
        assert_eq!(staged(&mut store, "d/f", 3), Ok((2, crc32c(b"ab"))));
        let (mut stage, _) = begin(&mut store, "d/f", 2, 3).unwrap();
        append(&mut store, &mut stage, b"c");
        commit(&mut store, &mut stage, None).unwrap();
        assert_eq!(get(&mut store, "d/f").unwrap(), b"abc");
    }
}
