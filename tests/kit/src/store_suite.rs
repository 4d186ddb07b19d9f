//! The requirements on every store (PROTOCOL §5, §7): one suite for a directory, for RAM and for flash.
//!
//! Implement [`Backend`] and write `skiff_kit::store_suite!(MyBackend);` in a module of a test: each case below becomes
//! a test there, on its own store.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;

use core::marker::PhantomData;

use skiff_proto::ErrorCode;
use skiff_proto::command::Verbs;
use skiff_proto::crc::crc32c;
use skiff_proto::identity::{NOBODY, StageOwner};
use skiff_proto::name::{MAX_NAME, Name};
use skiff_proto::reply::Tag;
use skiff_proto::store::{self, Entry, EntryKind, Space, Stat, Store, StoreError, Sum};

/// A medium, and the stores that are opened on it one after the other.
pub trait Backend {
    /// The store under test.
    type Store: Store;

    /// Its features.
    const FEATURES: Features;

    /// A new, empty medium.
    fn new() -> Self;

    /// Opens the medium. The store that was opened before has been dropped.
    fn open(&mut self) -> Self::Store;

    /// Waits until a store that has answered "not yet" should be called again.
    fn wait(_store: &mut Self::Store) {}
}

/// A store of a [`Backend`] that repeats calls until the store is ready, and whose changes are durable when they
/// return.
pub struct Patient<B: Backend>(B::Store, PhantomData<B>);

impl<B: Backend> Patient<B> {
    fn ask<T>(&mut self, mut ask: impl FnMut(&mut B::Store) -> store::Result<T>) -> store::Result<T> {
        loop {
            match ask(&mut self.0) {
                Err(StoreError::NotYet) => B::wait(&mut self.0),
                answer => return answer,
            }
        }
    }

    fn change(&mut self, change: impl FnMut(&mut B::Store) -> store::Result<()>) -> store::Result<()> {
        match self.ask(change) {
            Err(StoreError::Queued) => {
                self.0.flush();
                self.ask(Store::next_result).map(drop)
            }
            answer => answer,
        }
    }
}

impl<B: Backend> Store for Patient<B> {
    type File = <B::Store as Store>::File;
    type Stage = <B::Store as Store>::Stage;
    type Cursor = <B::Store as Store>::Cursor;

    const VERBS: Verbs = B::Store::VERBS;
    const WAITS: bool = false;

    fn open(&mut self, name: Name<'_>) -> store::Result<(Self::File, Stat)> {
        self.ask(|store| store.open(name))
    }
    fn tag(&mut self, file: &Self::File) -> Tag {
        self.0.tag(file)
    }
    fn read_at(&mut self, file: &mut Self::File, offset: u64, buffer: &mut [u8]) -> store::Result<usize> {
        self.ask(|store| store.read_at(file, offset, buffer))
    }
    fn sum(&mut self, file: &mut Self::File, sum: &mut Sum) -> store::Result<bool> {
        self.ask(|store| store.sum(file, sum))
    }
    fn note_crc(&mut self, file: &Self::File, crc: u32) {
        self.0.note_crc(file, crc);
    }
    fn stat(&mut self, name: Name<'_>) -> store::Result<Stat> {
        self.ask(|store| store.stat(name))
    }
    fn staged(&mut self, name: Name<'_>, owner: StageOwner, size: u64) -> store::Result<(u64, u32)> {
        self.ask(|store| store.staged(name, owner, size))
    }
    fn stage(
        &mut self,
        name: Name<'_>,
        owner: StageOwner,
        offset: u64,
        size: u64,
        mtime: Option<u64>,
    ) -> store::Result<(Self::Stage, u32)> {
        self.ask(|store| store.stage(name, owner, offset, size, mtime))
    }
    fn stage_new(&mut self, name: Name<'_>, size: u64) -> store::Result<Self::Stage> {
        self.ask(|store| store.stage_new(name, size))
    }
    fn append(&mut self, stage: &mut Self::Stage, bytes: &[u8]) -> store::Result<usize> {
        self.ask(|store| store.ready(stage))?;
        self.0.append(stage, bytes)
    }
    fn discard(&mut self, stage: Self::Stage) {
        self.0.discard(stage);
    }
    fn commit(&mut self, stage: &mut Self::Stage, crc: Option<u32>) -> store::Result<()> {
        self.change(|store| store.commit(stage, crc))
    }
    fn commit_new(&mut self, stage: &mut Self::Stage, name: Name<'_>) -> store::Result<()> {
        self.ask(|store| store.commit_new(stage, name))
    }
    fn remove(&mut self, name: Name<'_>) -> store::Result<()> {
        self.change(|store| store.remove(name))
    }
    fn rename(&mut self, from: Name<'_>, to: Name<'_>) -> store::Result<()> {
        self.change(|store| store.rename(from, to))
    }
    fn mkdir(&mut self, name: Name<'_>) -> store::Result<()> {
        self.change(|store| store.mkdir(name))
    }
    fn rmdir(&mut self, name: Name<'_>) -> store::Result<()> {
        self.change(|store| store.rmdir(name))
    }
    fn list(&mut self, dir: Option<Name<'_>>) -> store::Result<Self::Cursor> {
        self.ask(|store| store.list(dir))
    }
    fn omitted(&mut self, cursor: &mut Self::Cursor) -> store::Result<u64> {
        self.ask(|store| store.omitted(cursor))
    }
    fn next_entry(&mut self, cursor: &mut Self::Cursor, show: &mut dyn FnMut(Entry<'_>)) -> store::Result<bool> {
        self.ask(|store| store.next_entry(cursor, show))
    }
    fn count_names(&mut self, cursor: &mut Self::Cursor, name_max: u16, length: &mut u64) -> store::Result<bool> {
        self.ask(|store| store.count_names(cursor, name_max, length))
    }
    fn settle(&mut self) {
        self.0.settle();
    }
    fn space(&mut self) -> store::Result<Space> {
        self.ask(Store::space)
    }
}

/// Optional features of a store.
#[derive(Debug, Clone, Copy)]
pub struct Features {
    /// It has directories.
    pub directories: bool,
    /// It keeps the time of a file.
    pub mtime: bool,
    /// Its content is still there when it is opened again.
    pub restart: bool,
    /// The longest name in bytes.
    pub name_max: usize,
    /// The longest file that the suite may store, in bytes; at least 4096.
    pub file_max: usize,
    /// The minimum number of files, including two stages, that it can hold; at least 8.
    pub files_max: usize,
    /// The minimum number of stages that can be open at once; at least 2.
    pub stages_max: usize,
}

type Answer<T> = Result<T, ErrorCode>;

fn n(name: &str) -> Name<'_> {
    Name::parse(name.as_bytes(), MAX_NAME).unwrap()
}

fn code<T>(result: store::Result<T>) -> Answer<T> {
    result.map_err(StoreError::code)
}

/// Bytes that depend on their position.
fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[1]
        })
        .collect()
}

fn append<S: Store>(store: &mut S, stage: &mut S::Stage, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let taken = store.append(stage, bytes).unwrap();
        assert!(taken > 0, "append takes at least one byte");
        bytes = &bytes[taken..];
    }
}

fn commit<S: Store>(store: &mut S, stage: &mut S::Stage, crc: Option<u32>) -> Answer<()> {
    code(store.commit(stage, crc))
}

fn commit_new<S: Store>(store: &mut S, stage: &mut S::Stage, name: &str) -> Answer<()> {
    code(store.commit_new(stage, n(name)))
}

fn begin<S: Store>(store: &mut S, name: &str, offset: usize, size: usize) -> Answer<(S::Stage, u32)> {
    code(store.stage(n(name), NOBODY, offset as u64, size as u64, None))
}

fn put_at<S: Store>(store: &mut S, name: &str, bytes: &[u8], mtime: Option<u64>) {
    let (mut stage, crc) = store.stage(n(name), NOBODY, 0, bytes.len() as u64, mtime).unwrap();
    assert_eq!(crc, 0);
    append(store, &mut stage, bytes);
    commit(store, &mut stage, Some(crc32c(bytes))).unwrap();
}

fn put<S: Store>(store: &mut S, name: &str, bytes: &[u8]) {
    put_at(store, name, bytes, None);
}

/// Stages the first bytes of a write and loses the connection.
fn interrupt<S: Store>(store: &mut S, name: &str, bytes: &[u8], size: usize) {
    let (mut stage, _) = begin(store, name, 0, size).unwrap();
    append(store, &mut stage, bytes);
}

fn staged<S: Store>(store: &mut S, name: &str, size: usize) -> Answer<(u64, u32)> {
    code(store.staged(n(name), NOBODY, size as u64))
}

fn read_open<S: Store>(store: &mut S, file: &mut S::File, size: u64) -> Answer<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 700];
    loop {
        match code(store.read_at(file, bytes.len() as u64, &mut buffer))? {
            0 => break,
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    }
    assert_eq!(bytes.len() as u64, size);
    Ok(bytes)
}

fn get<S: Store>(store: &mut S, name: &str) -> Answer<Vec<u8>> {
    let (mut file, stat) = code(store.open(n(name)))?;
    read_open(store, &mut file, stat.size)
}

fn list<S: Store>(store: &mut S, dir: Option<&str>) -> Answer<Vec<String>> {
    let mut cursor = code(store.list(dir.map(n)))?;
    let mut names = Vec::new();
    while code(store.next_entry(&mut cursor, &mut |entry| {
        names.push(match entry.kind {
            EntryKind::File(_) => entry.name.as_str().into(),
            EntryKind::Directory { .. } => format!("{}/", entry.name),
        });
    }))? {}
    names.sort();
    Ok(names)
}

macro_rules! cases {
    (($d:tt) $($(#[$doc:meta])* fn $case:ident($backend:ident, $store:ident) $body:block)*) => {
        $($(#[$doc])*
        pub fn $case<B: Backend>() {
            #[allow(unused_mut, reason = "not every case opens it again")]
            let mut $backend = B::new();
            #[allow(unused_mut, reason = "not every case keeps it")]
            let mut $store = Patient::<B>($backend.open(), PhantomData);
            $body
        })*

        /// Makes a test of every case, for a [`Backend`](crate::store_suite::Backend).
        #[macro_export]
        macro_rules! store_suite {
            ($d backend:ty) => {
                $(#[test]
                fn $case() {
                    $d crate::store_suite::$case::<$d backend>();
                })*
            };
        }
    };
}

cases! { ($)
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
    fn size_time_and_checksum_are_told(backend, store) {
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

    /// As long as the hello reply says.
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

    /// The same for one that is removed.
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

    /// PROTOCOL §7: bytes go to a staging area, never over the old file.
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
        let mut store = Patient::<B>(backend.open(), PhantomData);
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
    fn a_write_that_starts_over_is_summed_anew(backend, store) {
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
    fn where_several_errors_apply_the_first_is_told(backend, store) {
        interrupt(&mut store, "f", b"abc", 6);
        assert_eq!(begin(&mut store, "f", 7, 6).err(), Some(ErrorCode::Range));
        let huge = u64::MAX;
        assert_eq!(code(store.stage(n("f"), NOBODY, 2, huge, None)).err(), Some(ErrorCode::Mismatch));
        let (stage, _) = begin(&mut store, "f", 3, 6).unwrap();
        assert_eq!(begin(&mut store, "f", 7, 6).err(), Some(ErrorCode::Range));
        assert_eq!(begin(&mut store, "f", 2, 6).err(), Some(ErrorCode::Busy));
        assert_eq!(code(store.stage(n("f"), NOBODY, 3, huge, None)).err(), Some(ErrorCode::Busy));
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
            let (mut stage, crc) = code(store.stage(n("f"), owner, offset, 6, Some(9)))?;
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
                    store = Patient::<B>(backend.open(), PhantomData);
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

    /// PROTOCOL §7: at most one staged version of a name, but one of each.
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

    /// What can't fit is refused before the first byte.
    fn a_file_that_does_not_fit_is_refused_and_nothing_changes(backend, store) {
        put(&mut store, "f", b"old");
        interrupt(&mut store, "f", b"st", 5);
        let space = store.space().unwrap();
        assert!(space.free <= space.total);
        for size in [space.total + 1, u64::MAX] {
            assert_eq!(code(store.staged(n("f"), NOBODY, size)), Err(ErrorCode::NoSpace));
            assert_eq!(code(store.stage(n("f"), NOBODY, 0, size, None)).err(), Some(ErrorCode::NoSpace));
            assert_eq!(code(store.stage(n("f"), NOBODY, 2, size, None)).err(), Some(ErrorCode::NoSpace));
            assert_eq!(code(store.stage_new(n("new"), size)).err(), Some(ErrorCode::NoSpace));
        }
        assert_eq!(get(&mut store, "f").unwrap(), b"old");
        assert_eq!(staged(&mut store, "f", 5), Ok((2, crc32c(b"st"))));
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
        // The file came while the bytes did.
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
