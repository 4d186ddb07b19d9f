//! A cache of the checksums of files that were stored or read completely while the server runs.

use core::hash::BuildHasher;
use std::collections::hash_map::RandomState;
use std::sync::{Mutex, PoisonError};

use super::meta::Key;

/// Number of rows. In each row, a new entry replaces the oldest. 65,536 files take 1 MiB.
const ROWS: usize = 8192;
const ROW: usize = 8;

/// Known checksums, 16 bytes each. The memory is reserved at the start, when a failure is reported; the system provides
/// a page of it when it is first used.
#[derive(Debug)]
pub(super) struct Crcs {
    hasher: RandomState,
    rows: Mutex<Vec<[(u64, u32); ROW]>>,
}

impl Default for Crcs {
    fn default() -> Self {
        Self::with_rows(ROWS)
    }
}

impl Crcs {
    fn with_rows(count: usize) -> Self {
        Self { hasher: RandomState::new(), rows: Mutex::new(vec![[(0, 0); ROW]; count]) }
    }

    /// The CRC-32C of this version of a file.
    pub(super) fn of(&self, key: &Key) -> Option<u32> {
        let hash = self.hash(key);
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows[row(hash, &rows)].iter().find(|(known, _)| *known == hash).map(|&(_, crc)| crc)
    }

    /// Remembers the checksum of this version; `None` forgets it.
    pub(super) fn note(&self, key: &Key, crc: Option<u32>) {
        let hash = self.hash(key);
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let at = row(hash, &rows);
        let row = &mut rows[at];
        // To the front, from its old place or from that of the oldest.
        let at = row.iter().position(|(known, _)| *known == hash);
        if let Some(crc) = crc {
            row[..=at.unwrap_or(ROW - 1)].rotate_right(1);
            row[0] = (hash, crc);
        } else if let Some(at) = at {
            row[at] = (0, 0);
        }
    }

    /// Keyed with a secret of this process, so that collisions can't be searched for. Never 0.
    fn hash(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key).max(1)
    }
}

/// The number of the row for `hash`.
fn row<T>(hash: u64, rows: &[T]) -> usize {
    usize::try_from(hash % rows.len() as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::meta::Meta;
    use super::*;

    #[test]
    fn checksums_are_known_until_newer_ones_need_their_place() {
        let rows = 128;
        let crcs = Crcs::with_rows(rows);
        let dir = tempfile::tempdir().unwrap();
        let keys: Vec<Key> = (0..3000_u32)
            .map(|number| {
                // Files of different lengths are different versions.
                let file = std::fs::File::create(dir.path().join("f")).unwrap();
                file.set_len(number.into()).unwrap();
                Meta::of(&file).unwrap().key
            })
            .collect();
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
}
