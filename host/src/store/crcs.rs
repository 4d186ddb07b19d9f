//! A cache of the checksums of files that were stored or read completely. Those of files on the root's own file system
//! outlive the server (see [`index`](super::index)).

use core::hash::{Hash, Hasher};
use core::time::Duration;
use std::collections::hash_map::DefaultHasher;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Instant;

use super::index::{Index, Known, MOST, Scope, random};
use super::meta::Key;

/// Number of rows. In each row, a new entry replaces the oldest.
const ROWS: usize = MOST / ROW;
const ROW: usize = 8;

/// The index is written if at least this many bytes would have to be read again without it.
const WORTH: u64 = 16 << 20;
/// The minimum time between two writes of the index while the server runs.
const PERIOD: Duration = Duration::from_secs(10 * 60);

/// Known checksums, 16 bytes each. The memory is reserved at the start, when a failure is reported; the system provides
/// a page of it when it is first used.
#[derive(Debug)]
pub(super) struct Crcs {
    table: Mutex<Table>,
    loaded: Once,
}

#[derive(Debug)]
struct Table {
    /// Part of every hash, so that nobody can search for collisions.
    secret: [u64; 2],
    rows: Vec<[Entry; ROW]>,
    /// Entries of files within it may outlive the server.
    scope: Option<Scope>,
    /// Bytes of the files whose entries should be in the index but are not.
    unsaved: u64,
    /// While the server runs, the index is not written before this.
    next: Instant,
}

/// Hash (0: none), checksum, and whether it may outlive the server. A tuple, because `vec!` gets zeroed memory from the
/// system without touching it only for types that the standard library knows.
type Entry = (u64, u32, bool);

impl Default for Crcs {
    fn default() -> Self {
        Self::with_rows(ROWS)
    }
}

impl Crcs {
    fn with_rows(count: usize) -> Self {
        let rows = vec![[(0, 0, false); ROW]; count];
        let table = Table { secret: random(), rows, scope: None, unsaved: 0, next: Instant::now() + PERIOD };
        Self { table: Mutex::new(table), loaded: Once::new() }
    }

    /// Before the first use: loads the checksums of an earlier server, and determines whose entries may outlive this
    /// one.
    pub(super) fn load(&self, scope: impl FnOnce() -> Option<Scope>, index: impl FnOnce(Scope) -> Option<Index>) {
        self.loaded.call_once(|| {
            let mut table = self.table();
            table.scope = scope();
            if let Some(index) = table.scope.and_then(index) {
                table.secret = index.secret();
                index.known().for_each(|Known { hash, crc }| table.put((hash, crc, true)));
            }
        });
    }

    /// The CRC-32C of this version of a file.
    pub(super) fn of(&self, key: &Key) -> Option<u32> {
        let table = self.table();
        let hash = table.hash(key);
        table.rows[table.row(hash)].iter().find(|(known, ..)| *known == hash).map(|&(_, crc, _)| crc)
    }

    /// Remembers the checksum of this version; `None` forgets it. True if it is time to write the index.
    pub(super) fn note(&self, key: &Key, crc: Option<u32>) -> bool {
        let mut table = self.table();
        let hash = table.hash(key);
        let row = table.row(hash);
        let old = table.rows[row].iter().position(|(known, ..)| *known == hash);
        let Some(crc) = crc else {
            old.into_iter().for_each(|at| table.rows[row][at] = (0, 0, false));
            return false;
        };
        let lasting = table.scope.is_some_and(|scope| scope.device == key.dev());
        if lasting && old.is_none_or(|at| table.rows[row][at] != (hash, crc, true)) {
            table.unsaved = table.unsaved.saturating_add(key.size());
        }
        table.put((hash, crc, lasting));
        let due = table.unsaved >= WORTH && Instant::now() >= table.next;
        if due {
            table.next = Instant::now() + PERIOD;
        }
        due
    }

    /// Writes the index if that is worth it. After a failure, the next call tries again.
    pub(super) fn save(&self, write: impl FnOnce(&Index) -> bool) {
        let (index, unsaved) = {
            let table = self.table();
            let Some(scope) = table.scope.filter(|_| table.unsaved >= WORTH) else { return };
            // The oldest first, because loading puts each entry at the front of its row.
            let lasting = table.rows.iter().flat_map(|row| row.iter().rev()).filter(|&&(.., lasting)| lasting);
            let known = lasting.map(|&(hash, crc, _)| Known { hash, crc });
            (Index::new(scope.boot, table.secret, known), table.unsaved)
        };
        if write(&index) {
            let mut table = self.table();
            table.unsaved = table.unsaved.saturating_sub(unsaved);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Never 0. Another release of Rust may hash differently; then entries of the index are not found.
    fn hash(&self, key: &Key) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.secret, key).hash(&mut hasher);
        hasher.finish().max(1)
    }

    /// The number of the row for `hash`.
    fn row(&self, hash: u64) -> usize {
        usize::try_from(hash % self.rows.len() as u64).unwrap_or(0)
    }

    /// Puts an entry at the front of its row; a new one replaces the oldest.
    fn put(&mut self, entry: Entry) {
        let at = self.row(entry.0);
        let row = &mut self.rows[at];
        let at = row.iter().position(|(known, ..)| *known == entry.0).unwrap_or(ROW - 1);
        row[..=at].rotate_right(1);
        row[0] = entry;
    }
}

#[cfg(test)]
mod tests {
    use super::super::meta::Meta;
    use super::*;

    /// The keys of versions of a file that differ in length.
    fn keys(lengths: impl Iterator<Item = u64>) -> Vec<Key> {
        let dir = tempfile::tempdir().unwrap();
        let key = |length: u64| {
            let file = std::fs::File::create(dir.path().join("f")).unwrap();
            file.set_len(length).unwrap();
            Meta::of(&file).unwrap().key
        };
        lengths.map(key).collect()
    }

    #[test]
    fn checksums_are_known_until_newer_ones_need_their_place() {
        let rows = 128;
        let crcs = Crcs::with_rows(rows);
        let keys = keys(0..3000);
        assert_eq!(crcs.of(&keys[0]), None);
        for (number, key) in (0..).zip(&keys) {
            crcs.note(key, None);
            crcs.note(key, Some(number));
            assert_eq!(crcs.of(key), Some(number));
        }
        let known = |keys: &[Key]| keys.iter().filter(|key| crcs.of(key).is_some()).count();
        assert!(known(&keys) <= rows * ROW && known(&keys) > rows * ROW * 9 / 10);
        assert!(known(&keys[2700..]) > 290);
        crcs.note(&keys[2999], Some(7));
        assert_eq!(crcs.of(&keys[2999]), Some(7));
        crcs.note(&keys[2999], None);
        assert_eq!(crcs.of(&keys[2999]), None);
    }

    /// The content of the index, if it is worth writing; `done`: whether the write succeeds.
    fn saved(crcs: &Crcs, done: bool) -> Option<Index> {
        let mut saved = None;
        crcs.save(|index| {
            saved = Index::parse(index.bytes().to_vec(), BOOT);
            done
        });
        saved
    }

    const BOOT: [u8; 16] = [1; 16];

    #[test]
    fn an_index_is_due_after_16_mib_and_has_only_files_within_its_scope() {
        let keys = keys([1, WORTH - 1].into_iter());
        let scope = |device: u64| Some(Scope { boot: BOOT, device });
        let crcs = Crcs::with_rows(8);
        crcs.load(|| scope(keys[0].dev()), |_| None);
        crcs.table().next = Instant::now();
        assert!(!crcs.note(&keys[1], Some(1)));
        assert!(!crcs.note(&keys[1], Some(1)), "the same does not count twice");
        assert!(saved(&crcs, true).is_none());
        assert!(crcs.note(&keys[0], Some(0)));
        assert!(!crcs.note(&keys[0], Some(5)), "not before the period is over");
        assert!(saved(&crcs, false).is_some(), "a failed write");
        let index = saved(&crcs, true).unwrap();
        assert!(saved(&crcs, true).is_none());

        let next = Crcs::with_rows(8);
        next.load(|| scope(1), |_| Some(index));
        assert_eq!([0, 1].map(|at| next.of(&keys[at])), [Some(5), Some(1)]);
        // The oldest entry of a row is still the oldest.
        let row = Crcs::with_rows(1);
        row.load(|| scope(keys[0].dev()), |_| None);
        let more = self::keys(WORTH..WORTH + 9);
        more[..8].iter().for_each(|key| _ = row.note(key, Some(1)));
        let next = Crcs::with_rows(1);
        next.load(|| scope(1), |_| saved(&row, true));
        next.note(&more[8], Some(1));
        assert_eq!(more.iter().position(|key| next.of(key).is_none()), Some(0));
        // On another file system, and on one that reuses inode numbers, no entry may outlive the server.
        for outside in [scope(keys[0].dev() + 1), None] {
            let other = Crcs::with_rows(8);
            other.load(|| outside, |_| None);
            more.iter().for_each(|key| _ = other.note(key, Some(2)));
            assert!(saved(&other, true).is_none());
        }
    }
}
