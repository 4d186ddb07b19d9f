//! Checksums that are known: of files that were stored or read whole while the server runs.

use core::hash::BuildHasher;
use std::collections::hash_map::RandomState;
use std::sync::{Mutex, PoisonError};

use super::meta::Key;

/// So many at most, one a place: a newer one takes the place of an older one.
const PLACES: usize = 1024;

/// Known checksums, 16 bytes each; no memory before the first.
#[derive(Debug, Default)]
pub(super) struct Crcs {
    hasher: RandomState,
    places: Mutex<Vec<(u64, u32)>>,
}

impl Crcs {
    /// The CRC-32C of this version of a file.
    pub(super) fn of(&self, key: &Key) -> Option<u32> {
        let hash = self.hash(key);
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let &(known, crc) = places.get(place(hash))?;
        (known == hash).then_some(crc)
    }

    /// Notes what is known of this version; `None`: nothing, and what was is forgotten.
    pub(super) fn note(&self, key: &Key, crc: Option<u32>) {
        let hash = self.hash(key);
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.is_empty() {
            if crc.is_none() {
                return;
            }
            places.resize(PLACES, (0, 0));
        }
        let entry = &mut places[place(hash)];
        match crc {
            Some(crc) => *entry = (hash, crc),
            None if entry.0 == hash => *entry = (0, 0),
            None => {}
        }
    }

    /// Keyed with a secret of this process: nobody can look for two versions with one hash.
    fn hash(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key).max(1)
    }
}

fn place(hash: u64) -> usize {
    usize::try_from(hash % PLACES as u64).unwrap_or(0)
}
