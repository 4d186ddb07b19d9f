//! Remove, rename, copy, and a store compared with a map.

use std::collections::BTreeMap;

use skiff_proto::ErrorCode;
use skiff_proto::crc::crc32c;
use skiff_proto::store::{Store, Sum};

use super::calls::{
    append, begin, code, commit, commit_new, copy, get, interrupt, list, n, pattern, put, put_at, staged,
};
use super::{Backend, Patient, cases};

cases! { store_suite_changes, changes, ($)
    /// PROTOCOL §5: `remove` leaves staged bytes alone.
    fn a_removed_file_is_gone_and_its_staged_bytes_stay(backend, store) {
        put(&mut store, "f", b"old");
        interrupt(&mut store, "f", b"ne", 3);
        store.remove(n("f")).unwrap();
        assert_eq!(get(&mut store, "f"), Err(ErrorCode::NotFound));
        assert_eq!(code(store.remove(n("f"))), Err(ErrorCode::NotFound));
        assert_eq!(list(&mut store, None).unwrap(), [""; 0]);
        assert_eq!(staged(&mut store, "f", 3), Ok((2, crc32c(b"ne"))));
    }

    /// PROTOCOL §5: replaces TO; staged bytes stay with their names.
    fn rename_replaces_and_leaves_staged_bytes_alone(backend, store) {
        put(&mut store, "from", b"content");
        put(&mut store, "to", b"old");
        interrupt(&mut store, "from", b"fr", 9);
        interrupt(&mut store, "to", b"to.", 9);
        store.rename(n("from"), n("to")).unwrap();
        assert_eq!(get(&mut store, "from"), Err(ErrorCode::NotFound));
        assert_eq!(get(&mut store, "to").unwrap(), b"content");
        assert_eq!(list(&mut store, None).unwrap(), ["to"]);
        assert_eq!(staged(&mut store, "from", 9), Ok((2, crc32c(b"fr"))));
        assert_eq!(staged(&mut store, "to", 9), Ok((3, crc32c(b"to."))));
        assert_eq!(code(store.rename(n("from"), n("to"))), Err(ErrorCode::NotFound));
        assert_eq!(get(&mut store, "to").unwrap(), b"content");
    }

    /// Doing nothing is not an error.
    fn a_file_can_be_renamed_to_itself(backend, store) {
        put(&mut store, "f", b"content");
        store.rename(n("f"), n("f")).unwrap();
        assert_eq!(get(&mut store, "f").unwrap(), b"content");
    }

    /// A writer ends with the name that it began with.
    fn a_file_that_is_renamed_or_removed_while_it_is_written_comes_back(backend, store) {
        put(&mut store, "f", b"old");
        let (mut stage, _) = begin(&mut store, "f", 0, 3).unwrap();
        append(&mut store, &mut stage, b"new");
        store.rename(n("f"), n("g")).unwrap();
        commit(&mut store, &mut stage, None).unwrap();
        drop(stage);
        assert_eq!(get(&mut store, "f").unwrap(), b"new");
        assert_eq!(get(&mut store, "g").unwrap(), b"old");
    }

    /// PROTOCOL §5: with the time of the original; what had the name is replaced, or stays if there is no room.
    fn a_copy_replaces_its_target_and_leaves_the_original(backend, store) {
        let bytes = pattern(B::FEATURES.file_max.min(4000), 5);
        put_at(&mut store, "from", &bytes, Some(1_700_000_000));
        put(&mut store, "to", b"old");
        put(&mut store, "empty", b"");
        interrupt(&mut store, "to", b"st", 5);
        let crc = copy(&mut store, "from", "to").unwrap();
        assert!(crc.is_none_or(|crc| crc == crc32c(&bytes)));
        assert!(get(&mut store, "to").unwrap() == bytes && get(&mut store, "from").unwrap() == bytes);
        assert_eq!(store.stat(n("to")).unwrap().mtime, store.stat(n("from")).unwrap().mtime);
        assert_eq!(staged(&mut store, "to", 5), Ok((0, 0)));
        copy(&mut store, "empty", "to").unwrap();
        assert_eq!(get(&mut store, "to").unwrap(), b"");
        assert_eq!(copy(&mut store, "none", "to"), Err(ErrorCode::NotFound));
        // The original is replaced meanwhile: the copy is the complete old one, or none.
        let (mut file, stat) = store.open(n("from")).unwrap();
        let (mut stage, _) = begin(&mut store, "to", 0, bytes.len()).unwrap();
        let mut sum = Sum::new(0, stat.size);
        put(&mut store, "from", b"new");
        let copied = loop {
            match code(store.copy(&mut file, &mut stage, &mut sum)) {
                Ok(false) => {}
                copied => break copied,
            }
        };
        if copied.is_ok() {
            commit(&mut store, &mut stage, sum.known()).unwrap();
            assert!(get(&mut store, "to").unwrap() == bytes);
        } else {
            assert_eq!(copied, Err(ErrorCode::Changed));
            store.discard(stage);
            assert_eq!(get(&mut store, "to").unwrap(), b"");
        }
    }

    /// Several hundred changes, each compared with a map.
    fn a_store_behaves_like_a_map(backend, store) {
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut parts: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let names: Vec<String> = (0..B::FEATURES.files_max.min(12) / 2).map(|number| format!("n{number}")).collect();
        let random = pattern(4 * 400, 99);
        for step in random.chunks_exact(4) {
            let name = &names[usize::from(step[1]) % names.len()];
            let bytes = pattern(usize::from(step[2]) * 8 + 1, step[3].into());
            match step[0] % 6 {
                0 | 1 => {
                    put(&mut store, name, &bytes);
                    parts.remove(name);
                    files.insert(name.clone(), bytes);
                }
                2 => {
                    let part = parts.entry(name.clone()).or_default();
                    let size = part.len() + bytes.len();
                    let resumed = staged(&mut store, name, size).unwrap();
                    assert_eq!(resumed, (part.len() as u64, crc32c(part)));
                    let (mut stage, crc) = begin(&mut store, name, part.len(), size).unwrap();
                    assert_eq!(crc, crc32c(part));
                    append(&mut store, &mut stage, &bytes);
                    part.extend_from_slice(&bytes);
                    if part.len() > 3000 || step[2] % 4 == 0 {
                        commit(&mut store, &mut stage, Some(crc32c(part))).unwrap();
                        files.insert(name.clone(), parts.remove(name).unwrap());
                    }
                }
                3 => {
                    let expected = files.remove(name).map(drop).ok_or(ErrorCode::NotFound);
                    assert_eq!(code(store.remove(n(name))), expected);
                }
                4 => {
                    let to = &names[usize::from(step[3]) % names.len()];
                    let expected = files.remove(name).ok_or(ErrorCode::NotFound);
                    assert_eq!(code(store.rename(n(name), n(to))), expected.as_ref().map(|_| ()).map_err(|&code| code));
                    if let Ok(bytes) = expected {
                        files.insert(to.clone(), bytes);
                    }
                }
                _ => {
                    let mut stage = store.stage_new(n("new"), bytes.len() as u64).unwrap();
                    append(&mut store, &mut stage, &bytes);
                    let put = commit_new(&mut store, &mut stage, name);
                    assert_eq!(put.is_ok(), !files.contains_key(name), "{put:?}");
                    files.entry(name.clone()).or_insert(bytes);
                }
            }
            assert_eq!(get(&mut store, name), files.get(name).cloned().ok_or(ErrorCode::NotFound));
        }
        assert!(list(&mut store, None).unwrap().iter().eq(files.keys()));
        for (name, bytes) in &files {
            assert!(&get(&mut store, name).unwrap() == bytes);
        }
    }
}
