//! The directory store: the suite of all stores, and tests that apply only to a directory.

#![expect(clippy::unwrap_used, reason = "these are tests")]

#[cfg(target_os = "linux")]
#[path = "store_dir/checksums.rs"]
mod checksums;
#[path = "store_dir/commits.rs"]
mod commits;
#[cfg(target_os = "linux")]
#[path = "store_dir/inherit.rs"]
mod inherit;
#[path = "store_dir/links.rs"]
mod links;
#[cfg(target_os = "linux")]
#[path = "store_dir/spellings.rs"]
mod spellings;
#[path = "store_dir/staging.rs"]
mod staging;
#[path = "store_dir/trees.rs"]
mod trees;

use core::net::Ipv4Addr;
use std::path::Path;

use skiff_host::server::PolledStore;
use skiff_host::store::{DirStore, Options, Stage};
use skiff_proto::name::{MAX_NAME, Name};
use skiff_proto::store::{EntryKind, Staging};
use skiff_proto::{ErrorCode, Refusal};
use skiff_tests::store_suite::{Backend, Features};
use tempfile::TempDir;

mod native {
    use super::Dir;
    skiff_tests::store_suite!(Dir<false>);
}

mod portable {
    use super::Dir;
    skiff_tests::store_suite!(Dir<true>);
}

mod polled {
    use super::Polled;
    skiff_tests::store_suite!(Polled);
}

/// A directory that is removed in the end, served with or without Linux's own system calls.
struct Dir<const PORTABLE: bool>(TempDir);

impl<const PORTABLE: bool> Backend for Dir<PORTABLE> {
    type Store = DirStore;
    const FEATURES: Features = Features {
        directories: true,
        mtime: true,
        restart: true,
        name_max: 255,
        file_max: 1 << 20,
        files_max: 200,
        stages_max: 100,
    };

    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&mut self) -> DirStore {
        DirStore::new(Options { portable: PORTABLE, ..Options::new(self.0.path()) }).unwrap()
    }
}

/// The same as a connection of host-serv uses it: calls that wait for the disk return "not yet", and changes are
/// queued.
struct Polled(Dir<false>);

impl Backend for Polled {
    type Store = PolledStore;
    const FEATURES: Features = Dir::<false>::FEATURES;

    fn new() -> Self {
        Self(Dir::new())
    }

    fn open(&mut self) -> PolledStore {
        PolledStore::new(self.0.open(), (Ipv4Addr::LOCALHOST, 1).into())
    }

    fn wait(store: &mut PolledStore) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(store.ready());
    }
}

fn n(name: &str) -> Name<'_> {
    Name::parse(name.as_bytes(), MAX_NAME).unwrap()
}

fn code<T>(result: Result<T, Refusal>) -> Result<T, ErrorCode> {
    result.map_err(|refusal| refusal.code)
}

fn open(root: &Path) -> DirStore {
    DirStore::new(Options::new(root)).unwrap()
}

fn open_portable(root: &Path) -> DirStore {
    DirStore::new(Options { portable: true, ..Options::new(root) }).unwrap()
}

/// Stages `bytes` for `name` completely.
fn stage(store: &DirStore, name: &str, bytes: &[u8]) -> Result<Stage, Refusal> {
    let (mut stage, _) = store.stage(Staging::new(n(name), bytes.len() as u64))?;
    append(store, &mut stage, bytes)?;
    Ok(stage)
}

fn append(store: &DirStore, stage: &mut Stage, mut bytes: &[u8]) -> Result<(), Refusal> {
    while !bytes.is_empty() {
        let taken = store.append(stage, bytes)?;
        bytes = &bytes[taken..];
    }
    Ok(())
}

fn put(store: &DirStore, name: &str, bytes: &[u8]) -> Result<(), Refusal> {
    store.commit(&mut stage(store, name, bytes)?, None).map(drop)
}

fn get(store: &DirStore, name: &str) -> Result<Vec<u8>, Refusal> {
    let (file, stat) = store.open(n(name))?;
    let mut bytes = vec![0; usize::try_from(stat.size).unwrap()];
    let read = store.read_at(&file, 0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn list(store: &DirStore, dir: Option<&str>) -> Result<Vec<String>, Refusal> {
    let mut cursor = store.list(dir.map(n))?;
    let mut names = Vec::new();
    while store.next_entry(&mut cursor, &mut |entry| {
        let end = if matches!(entry.kind, EntryKind::Directory { .. }) { "/" } else { "" };
        names.push(format!("{}{end}", entry.name));
    })? {}
    names.sort();
    Ok(names)
}

/// The actual entries of a directory.
fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
