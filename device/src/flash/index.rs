//! The table of files and stages in memory: a number and a position for each.

use skiff_proto::crc::crc32c;
use skiff_proto::{ErrorCode, Name, Refusal};

use super::layout::{Kind, RECORD, Record};
use super::{Flash, FlashStore};

/// A file or a stage with a valid record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// 0: free.
    pub(super) id: u32,
    /// The position of its record.
    pub(super) place: u32,
    /// The hash of its name.
    hash: u16,
    pub(super) is_stage: bool,
}

impl Entry {
    pub(super) const FREE: Self = Self { id: 0, place: 0, hash: 0, is_stage: false };
}

/// Names with different hashes are different; others have to be compared.
fn hash_of(name: &[u8]) -> u16 {
    let [a, b, ..] = crc32c(name).to_le_bytes();
    u16::from_le_bytes([a, b])
}

impl<F: Flash, const NAME: usize, const PAGE: usize> FlashStore<'_, F, NAME, PAGE> {
    /// The entry of a version.
    pub(super) fn entry_of(&self, id: u32) -> Option<usize> {
        self.entries.iter().position(|entry| entry.id == id && id != 0)
    }

    /// Files and stages that have a record.
    pub(super) fn listed(&self) -> usize {
        self.entries.iter().filter(|entry| entry.id != 0).count()
    }

    /// Finds the record of a name: its entry and its content.
    pub(super) fn find(&mut self, kind: Kind, name: &[u8]) -> Result<Option<(usize, Record)>, Refusal> {
        let hash = hash_of(name);
        for at in 0..self.entries.len() {
            let entry = self.entries[at];
            if entry.id == 0 || entry.hash != hash || entry.is_stage != (kind == Kind::Stage) {
                continue;
            }
            let (record, len) = self.load(entry.place)?;
            if self.page[RECORD..len] == *name {
                return Ok(Some((at, record)));
            }
        }
        Ok(None)
    }

    /// Applies the record at `place`, which is in `page`.
    ///
    /// # Errors
    /// `no-space` if the table is full.
    pub(super) fn heed(&mut self, record: Record, len: usize, place: u32) -> Result<(), Refusal> {
        for id in [record.over, if record.kind == Kind::Drop { record.id } else { 0 }] {
            if let Some(at) = self.entry_of(id) {
                self.entries[at] = Entry::FREE;
            }
        }
        if matches!(record.kind, Kind::File | Kind::Stage) {
            let free = || self.entries.iter().position(|entry| entry.id == 0);
            let at = self.entry_of(record.id).or_else(free).ok_or(ErrorCode::NoSpace)?;
            let hash = hash_of(&self.page[RECORD..len]);
            self.entries[at] = Entry { id: record.id, place, hash, is_stage: record.kind == Kind::Stage };
        }
        Ok(())
    }

    /// The name of the record in `page`.
    pub(super) fn name_in_page(&self, len: usize) -> Result<Name<'_>, Refusal> {
        Ok(Name::parse(&self.page[RECORD..len], NAME).map_err(|_| ErrorCode::Io)?)
    }
}
