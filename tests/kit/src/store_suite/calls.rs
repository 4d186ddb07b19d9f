//! Calls of a store in the terms of the cases: names as text, whole files, error codes.

use skiff_proto::ErrorCode;
use skiff_proto::crc::crc32c;
use skiff_proto::identity::NOBODY;
use skiff_proto::name::{MAX_NAME, Name};
use skiff_proto::store::{self, EntryKind, Staging, Store, StoreError, Sum};

pub(super) type Answer<T> = Result<T, ErrorCode>;

pub(super) fn n(name: &str) -> Name<'_> {
    Name::parse(name.as_bytes(), MAX_NAME).unwrap()
}

pub(super) fn code<T>(result: store::Result<T>) -> Answer<T> {
    result.map_err(StoreError::code)
}

/// Bytes that depend on their position.
pub(super) fn pattern(len: usize, seed: u32) -> Vec<u8> {
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

pub(super) fn append<S: Store>(store: &mut S, stage: &mut S::Stage, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let taken = store.append(stage, bytes).unwrap();
        assert!(taken > 0, "append takes at least one byte");
        bytes = &bytes[taken..];
    }
}

pub(super) fn commit<S: Store>(store: &mut S, stage: &mut S::Stage, crc: Option<u32>) -> Answer<()> {
    code(store.commit(stage, crc))
}

pub(super) fn commit_new<S: Store>(store: &mut S, stage: &mut S::Stage, name: &str) -> Answer<()> {
    code(store.commit_new(stage, n(name)))
}

pub(super) fn begin<S: Store>(store: &mut S, name: &str, offset: usize, size: usize) -> Answer<(S::Stage, u32)> {
    code(store.stage(Staging::new(n(name), size as u64).at(offset as u64)))
}

pub(super) fn put_at<S: Store>(store: &mut S, name: &str, bytes: &[u8], mtime: Option<u64>) {
    let (mut stage, crc) = store.stage(Staging { mtime, ..Staging::new(n(name), bytes.len() as u64) }).unwrap();
    assert_eq!(crc, 0);
    append(store, &mut stage, bytes);
    commit(store, &mut stage, Some(crc32c(bytes))).unwrap();
}

pub(super) fn put<S: Store>(store: &mut S, name: &str, bytes: &[u8]) {
    put_at(store, name, bytes, None);
}

/// Stages the first bytes of a write and loses the connection.
pub(super) fn interrupt<S: Store>(store: &mut S, name: &str, bytes: &[u8], size: usize) {
    let (mut stage, _) = begin(store, name, 0, size).unwrap();
    append(store, &mut stage, bytes);
}

pub(super) fn staged<S: Store>(store: &mut S, name: &str, size: usize) -> Answer<(u64, u32)> {
    code(store.staged(n(name), NOBODY, size as u64))
}

pub(super) fn read_open<S: Store>(store: &mut S, file: &mut S::File, size: u64) -> Answer<Vec<u8>> {
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

pub(super) fn get<S: Store>(store: &mut S, name: &str) -> Answer<Vec<u8>> {
    let (mut file, stat) = code(store.open(n(name)))?;
    read_open(store, &mut file, stat.size)
}

pub(super) fn list<S: Store>(store: &mut S, dir: Option<&str>) -> Answer<Vec<String>> {
    let cursor = code(store.list(dir.map(n)))?;
    let mut names = entries(store, cursor)?;
    names.sort();
    Ok(names)
}

/// Sorted, once it is sure that each directory came before what is in it.
pub(super) fn tree<S: Store>(store: &mut S, dir: Option<&str>) -> Answer<Vec<String>> {
    let mut cursor = code(store.tree(dir.map(n)))?;
    assert_eq!(code(store.omitted(&mut cursor)), Ok(0));
    let mut names = entries(store, cursor)?;
    for (at, name) in names.iter().enumerate() {
        let parent = n(name.trim_end_matches('/')).parent().filter(|parent| Some(parent.as_str()) != dir);
        let is_known = |parent: Name<'_>| names[..at].contains(&format!("{parent}/"));
        assert!(parent.is_none_or(is_known), "{name} before its directory: {names:?}");
    }
    names.sort();
    Ok(names)
}

pub(super) fn entries<S: Store>(store: &mut S, mut cursor: S::Cursor) -> Answer<Vec<String>> {
    let mut names = Vec::new();
    while code(store.next_entry(&mut cursor, &mut |entry| {
        names.push(match entry.kind {
            EntryKind::File(_) => entry.name.as_str().into(),
            EntryKind::Directory { .. } => format!("{}/", entry.name),
        });
    }))? {}
    Ok(names)
}

/// As a responder does it.
pub(super) fn copy<S: Store>(store: &mut S, from: &str, to: &str) -> Answer<Option<u32>> {
    let (mut file, stat) = code(store.open(n(from)))?;
    let (mut stage, _) = code(store.stage(Staging { mtime: stat.mtime, ..Staging::new(n(to), stat.size) }))?;
    let mut sum = Sum::new(0, stat.size);
    while !code(store.copy(&mut file, &mut stage, &mut sum))? {}
    commit(store, &mut stage, sum.known())?;
    Ok(sum.known())
}
