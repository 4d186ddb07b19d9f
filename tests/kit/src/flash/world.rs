//! The expected content of a medium: the model that a store is compared with after a restart.

use std::collections::BTreeMap;

use skiff_device::flash::MountError;
use skiff_proto::crc::crc32c;
use skiff_proto::identity::NOBODY;
use skiff_proto::store::{EntryKind, Store, StoreError};
use skiff_proto::{ErrorCode, Name};

use super::Sim;
use super::rig::{NAME, Rig};

/// Files with their times.
pub type Files = BTreeMap<String, (Vec<u8>, Option<u64>)>;

/// The expected state of a store, derived from its answers.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The files that were answered `ok`.
    pub files: Files,
    /// The files that may exist instead while a change is in progress.
    pub next: Option<Files>,
    /// The bytes of each name's write, in progress or interrupted.
    pub stages: BTreeMap<String, Vec<u8>>,
    /// Bytes that may still be staged instead, while a write starts over and until the state is known.
    pub fading: BTreeMap<String, Vec<Vec<u8>>>,
    /// The number of bytes that are certainly staged, unless they were dropped for other files.
    pub floor: BTreeMap<String, usize>,
}

/// Parses a valid name.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "see above")]
pub fn n(name: &str) -> Name<'_> {
    Name::parse(name.as_bytes(), NAME).expect("a name")
}

/// The content of a whole file.
///
/// # Errors
/// Those of the store.
pub fn get<S: Store>(store: &mut S, name: &str) -> Result<Vec<u8>, StoreError> {
    let (mut file, stat) = store.open(n(name))?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 1500];
    loop {
        match store.read_at(&mut file, bytes.len() as u64, &mut buffer)? {
            0 => break,
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    }
    assert_eq!(bytes.len() as u64, stat.size);
    Ok(bytes)
}

/// Writes a file.
///
/// # Errors
/// Those of the store; the attempt leaves nothing behind.
pub fn put<S: Store>(store: &mut S, name: &str, bytes: &[u8], mtime: Option<u64>) -> Result<(), StoreError> {
    let (mut stage, _) = store.stage(n(name), NOBODY, 0, bytes.len() as u64, mtime)?;
    let written = finish(store, &mut stage, bytes, Some(crc32c(bytes)));
    if written.is_err() {
        store.discard(stage);
    }
    written
}

/// Appends the rest of a file and commits it.
///
/// # Errors
/// Those of the store.
pub fn finish<S: Store>(store: &mut S, stage: &mut S::Stage, rest: &[u8], crc: Option<u32>) -> Result<(), StoreError> {
    append(store, stage, rest)?;
    store.commit(stage, crc)
}

/// Appends bytes in pieces, as from a network.
///
/// # Errors
/// Those of the store.
pub fn append<S: Store>(store: &mut S, stage: &mut S::Stage, bytes: &[u8]) -> Result<(), StoreError> {
    for mut piece in bytes.chunks(700) {
        while !piece.is_empty() {
            let taken = store.append(stage, piece)?;
            piece = &piece[taken..];
        }
    }
    Ok(())
}

/// All files, as `list` and `read` show them.
///
/// # Errors
/// Those of the store.
pub fn files<S: Store>(store: &mut S) -> Result<Files, StoreError> {
    let mut found = BTreeMap::new();
    let mut cursor = store.list(None)?;
    loop {
        let mut entry = None;
        let more = store.next_entry(&mut cursor, &mut |listed| {
            let EntryKind::File(stat) = listed.kind else { panic!("a directory") };
            entry = Some((listed.name.as_str().to_owned(), stat));
        })?;
        let Some((name, stat)) = entry.filter(|_| more) else {
            return Ok(found);
        };
        let bytes = get(store, &name)?;
        assert_eq!((stat.size, stat.crc), (bytes.len() as u64, Some(crc32c(&bytes))), "{name}");
        assert!(found.insert(name.clone(), (bytes, stat.mtime)).is_none(), "{name} is listed twice");
    }
}

/// The files that are in `found` and not in `expected`, and vice versa.
fn difference(found: &Files, expected: &Files) -> String {
    let only = |a: &Files, b: &Files| -> Vec<String> {
        let other = a.iter().filter(|(name, file)| b.get(*name) != Some(file));
        other.map(|(name, (bytes, mtime))| format!("{name} {} {:08x} {mtime:?}", bytes.len(), crc32c(bytes))).collect()
    };
    format!("{:?} instead of {:?}", only(found, expected), only(expected, found))
}

impl World {
    /// Compares a store with its expected content, and returns the actual content.
    ///
    /// # Errors
    /// What is wrong.
    pub fn compare<S: Store>(&self, store: &mut S) -> Result<Files, String> {
        let found = files(store).map_err(|refusal| format!("reading: {refusal}"))?;
        if found != self.files && self.next.as_ref() != Some(&found) {
            let next = self.next.as_ref().map(|next| difference(&found, next));
            return Err(format!("there is {}, and {next:?}", difference(&found, &self.files)));
        }
        for name in self.stages.keys().chain(self.fading.keys()) {
            let (len, crc) = staged(store, name)?;
            let is_prefix = |bytes: &Vec<u8>| bytes.get(..len).is_some_and(|bytes| crc32c(bytes) == crc);
            let mut candidates = self.stages.get(name).into_iter().chain(self.fading.get(name).into_iter().flatten());
            if len > 0 && !candidates.any(is_prefix) {
                return Err(format!("{len} bytes are staged of {name}, with another checksum"));
            }
            if let Some(&floor) = self.floor.get(name).filter(|&&floor| len < floor) {
                return Err(format!("{len} bytes are staged of {name}, and {floor} were"));
            }
        }
        Ok(found)
    }
}

/// The staged bytes of a name, if the write can be finished.
///
/// # Errors
/// The store failed.
pub fn staged<S: Store>(store: &mut S, name: &str) -> Result<(usize, u32), String> {
    let mut size = 1_u64 << 20;
    while size > 0 {
        match store.staged(n(name), NOBODY, size) {
            // What is not told of the longest that can be written is not told of a shorter one either.
            Ok((len, crc)) => return Ok((usize::try_from(len).map_err(|_| "absurd")?, crc)),
            Err(refusal) if refusal.code() == ErrorCode::NoSpace => {}
            Err(refusal) => return Err(format!("staged {name}: {refusal}")),
        }
        size = size * 15 / 16;
    }
    Ok((0, 0))
}

/// Tests on copies of a medium. Bytes are written, and power fails again before any of them has a record: the state
/// found must stay the same, however often it is read. And the staged bytes must be correct, not only their checksum.
fn examine_copies<R: Rig>(medium: &Sim<R::Model>, world: &World) -> Result<(), String> {
    let mut memory = R::Memory::default();
    let copy = medium.fork();
    let mut store = mount::<R>(&mut memory, &copy)?;
    let found = world.compare(&mut store)?;
    let free = store.space().map_err(|refusal| format!("space: {refusal}"))?.free;
    let begun = if free > 0 { store.stage(n("probe"), NOBODY, 0, free, None).ok() } else { None };
    if let Some((mut stage, _)) = begun {
        let bytes = vec![0xa5; usize::try_from(free).unwrap_or(0).min(4 * R::PAYLOAD)];
        append(&mut store, &mut stage, &bytes).map_err(|refusal| format!("append: {refusal}"))?;
        copy.cut_after(0, super::Tear::Before);
        drop(stage);
        drop(store);
        copy.power_on();
        let mut again = world.clone();
        (again.files, again.next) = (found, None);
        // The probe may have been what others gave way to.
        again.floor.clear();
        for _ in 0..3 {
            let mut memory = R::Memory::default();
            let mut store = mount::<R>(&mut memory, &copy)?;
            again.compare(&mut store).map_err(|problem| format!("after more was written {problem}"))?;
        }
    }
    if world.stages.is_empty() && world.fading.is_empty() {
        return Ok(());
    }
    let copy = medium.fork();
    let mut memory = R::Memory::default();
    let mut store = mount::<R>(&mut memory, &copy)?;
    for name in world.stages.keys().chain(world.fading.keys()) {
        let (len, _) = staged(&mut store, name)?;
        if len == 0 {
            continue;
        }
        let (mut stage, crc) = (store.stage(n(name), NOBODY, len as u64, len as u64, None))
            .map_err(|refusal| format!("going on with {name} at {len}: {refusal}"))?;
        finish(&mut store, &mut stage, &[], Some(crc)).map_err(|refusal| format!("finishing {name}: {refusal}"))?;
        let bytes = get(&mut store, name).map_err(|refusal| format!("{len} staged bytes of {name}: {refusal}"))?;
        let mut candidates = world.stages.get(name).into_iter().chain(world.fading.get(name).into_iter().flatten());
        if !candidates.any(|candidate| candidate.starts_with(&bytes)) {
            return Err(format!("{len} other bytes are staged of {name}"));
        }
    }
    Ok(())
}

/// Examines a medium after a cut: everything must be as in `world`, nothing may have leaked, and the store must
/// continue to work.
///
/// # Errors
/// What is wrong.
pub fn examine<R: Rig>(medium: &Sim<R::Model>, world: &World, total: u64) -> Result<(), String> {
    examine_copies::<R>(medium, world)?;
    let mut memory = R::Memory::default();
    let mut store = mount::<R>(&mut memory, medium)?;
    let found = world.compare(&mut store)?;
    // The store goes on: a file that takes the room that there is.
    let free = store.space().map_err(|refusal| format!("space: {refusal}"))?.free;
    let probe = vec![0x5a; usize::try_from(free.min(R::PAYLOAD as u64 + 100)).unwrap_or(0)];
    let mut expected = found;
    if free > 0 {
        put(&mut store, "probe", &probe, Some(1)).map_err(|refusal| format!("probe: {refusal}, {free} free"))?;
        expected.insert("probe".into(), (probe, Some(1)));
    } else if let Some(name) = expected.keys().next().cloned() {
        store.remove(n(&name)).map_err(|refusal| format!("removing from a full store: {refusal}"))?;
        expected.remove(&name);
    }
    drop(store);
    // What was answered then is true the next time.
    let mut store = mount::<R>(&mut memory, medium)?;
    let again =
        World { files: expected, stages: world.stages.clone(), fading: world.fading.clone(), ..World::default() };
    let found = again.compare(&mut store).map_err(|problem| format!("the second time {problem}"))?;
    for name in found.keys() {
        store.remove(n(name)).map_err(|refusal| format!("removing {name}: {refusal}"))?;
    }
    for name in world.stages.keys().chain(world.fading.keys()) {
        let (stage, _) =
            store.stage(n(name), NOBODY, 0, 1, None).map_err(|refusal| format!("stage {name}: {refusal}"))?;
        store.discard(stage);
    }
    let space = store.space().map_err(|refusal| format!("space: {refusal}"))?;
    if (space.total, space.free) != (total, total) {
        return Err(format!("of {total} bytes {} are free when all is gone", space.free));
    }
    drop(store);
    let mut store = mount::<R>(&mut memory, medium)?;
    World::default().compare(&mut store).map(drop).map_err(|problem| format!("after all was removed {problem}"))
}

/// Opens a store.
///
/// # Errors
/// The store can't be opened.
pub fn mount<'m, R: Rig>(memory: &'m mut R::Memory, medium: &Sim<R::Model>) -> Result<R::Store<'m>, String> {
    R::mount(memory, medium, 2000).map_err(|error: MountError| format!("mounting: {error}"))
}

/// The number of free bytes of an empty store.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "it can be mounted")]
pub fn total<R: Rig>() -> u64 {
    let medium = R::medium(0);
    let mut memory = R::Memory::default();
    let space = mount::<R>(&mut memory, &medium).and_then(|mut store| store.space().map_err(|error| error.to_string()));
    space.expect("an empty store").total
}
