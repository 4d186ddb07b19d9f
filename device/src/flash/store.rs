//! The [`Store`] trait over journal and blocks.

use skiff_proto::identity::StageOwner;
use skiff_proto::reply::Tag;
use skiff_proto::store::{self, Entry as Listed, EntryKind, Space, Stat, Store};
use skiff_proto::{ErrorCode, Name, Refusal};

use super::file::stat;
use super::layout::{Kind, Record};
use super::room::Need;
use super::{Flash, FlashFile, FlashStage, FlashStore};

impl<F: Flash, const NAME: usize, const PAGE: usize> FlashStore<'_, F, NAME, PAGE> {
    /// A flat store has no names with `/`, and none longer than its slots.
    fn check(name: Name<'_>) -> Result<&[u8], Refusal> {
        let name = name.as_str();
        if name.contains('/') || name.len() > NAME { Err(ErrorCode::BadName.into()) } else { Ok(name.as_bytes()) }
    }

    fn file(&mut self, name: Name<'_>) -> Result<(usize, Record), Refusal> {
        Ok(self.find(Kind::File, Self::check(name)?)?.ok_or(ErrorCode::NotFound)?)
    }

    /// The interrupted write of a name: its entry and its record.
    fn interrupted(&mut self, name: &[u8]) -> Result<Option<(usize, Record)>, Refusal> {
        self.settle_dropped();
        if self.slot_of(name).is_some() {
            return Err(ErrorCode::Busy.into());
        }
        self.find(Kind::Stage, name)
    }

    /// Files are shorter than 4 GiB.
    fn short(size: u64) -> Result<u32, Refusal> {
        Ok(u32::try_from(size).map_err(|_| ErrorCode::NoSpace)?)
    }

    /// The room needed to write a file of `size` bytes, resuming `record`.
    fn need(&self, size: u32, record: Option<&Record>) -> Need {
        let blocks = self.layout.blocks_for(size);
        let Some(record) = record else {
            return Need { blocks, keep: None };
        };
        // The last block is copied if it is not full and something is to come.
        let there = if record.size == size { blocks } else { record.size / self.layout.payload() };
        Need { blocks: blocks - there, keep: Some(record.id) }
    }

    /// Puts a stage in place under `name`; if `None`, under its own.
    fn put_in_place(&mut self, at: usize, name: Option<&[u8]>, old: Option<Record>) -> Result<(), Refusal> {
        self.close_page(at)?;
        self.flush()?;
        let record = self.slots[at].record(Kind::File, old.map_or(0, |old| old.id));
        self.append_stage(record, at, name)?;
        // Now the new file is there: nothing below fails.
        let copied = self.slots[at].copied;
        self.give_if(copied);
        self.free(at);
        if let Some(old) = old {
            self.give_version(&old);
        }
        _ = self.clean();
        Ok(())
    }
}

impl<'m, F: Flash, const NAME: usize, const PAGE: usize> Store for FlashStore<'m, F, NAME, PAGE> {
    type File = FlashFile;
    type Stage = FlashStage<'m>;
    type Cursor = usize;

    const WAITS: bool = false;

    fn open(&mut self, name: Name<'_>) -> store::Result<(FlashFile, Stat)> {
        let (_, record) = self.file(name)?;
        Ok((FlashFile::new(&record), stat(&record)))
    }

    fn tag(&mut self, file: &FlashFile) -> Tag {
        file.tag()
    }

    fn read_at(&mut self, file: &mut FlashFile, offset: u64, buffer: &mut [u8]) -> store::Result<usize> {
        Ok(self.read_file(file, offset, buffer)?)
    }

    fn stat(&mut self, name: Name<'_>) -> store::Result<Stat> {
        Ok(stat(&self.file(name)?.1))
    }

    fn staged(&mut self, name: Name<'_>, owner: StageOwner, size: u64) -> store::Result<(u64, u32)> {
        let found = self.interrupted(Self::check(name)?)?;
        let fitting = |record: &Record| record.is_owned_by(owner) && u64::from(record.size) <= size;
        let fitting = found.map(|(_, record)| record).filter(fitting);
        self.check_room(self.need(Self::short(size)?, fitting.as_ref()))?;
        Ok(fitting.map_or((0, 0), |record| (record.size.into(), record.crc)))
    }

    fn stage(
        &mut self,
        name: Name<'_>,
        owner: StageOwner,
        offset: u64,
        size: u64,
        mtime: Option<u64>,
    ) -> store::Result<(FlashStage<'m>, u32)> {
        let name = Self::check(name)?;
        if offset > size {
            return Err(ErrorCode::Range.into());
        }
        let found = self.interrupted(name)?;
        let kept = found.map(|(_, record)| record).filter(|_| offset > 0);
        if offset > 0 && !kept.is_some_and(|record| record.is_owned_by(owner) && u64::from(record.size) == offset) {
            return Err(ErrorCode::Mismatch.into());
        }
        let size = Self::short(size)?;
        let need = self.need(size, kept.as_ref());
        self.check_room(need)?;
        let slot = self.free_slot()?;
        if let (Some((at, _)), None) = (found, kept) {
            self.end_version(at)?;
        }
        self.make_room(need)?;
        let id = kept.map_or(0, |record| record.id);
        let id = if id == 0 { self.new_id() } else { id };
        let stage = self.open_slot(slot, id, name, self.layout.blocks_for(size));
        (self.slots[slot].mtime, self.slots[slot].owner) = (mtime, owner);
        if let Some(record) = kept
            && let Err(refusal) = self.reopen(slot, &record, size)
        {
            self.slots[slot].listed = true;
            self.end_stage(slot);
            return Err(refusal.into());
        }
        let crc = self.slots[slot].crc.value();
        Ok((stage, crc))
    }

    fn stage_new(&mut self, _: Name<'_>, size: u64) -> store::Result<FlashStage<'m>> {
        self.settle_dropped();
        let need = self.need(Self::short(size)?, None);
        self.check_room(need)?;
        let slot = self.free_slot()?;
        self.make_room(need)?;
        let id = self.new_id();
        Ok(self.open_slot(slot, id, &[], need.blocks))
    }

    fn append(&mut self, stage: &mut FlashStage<'m>, bytes: &[u8]) -> store::Result<usize> {
        let at = self.slot(stage)?;
        self.write_stage(at, bytes)?;
        Ok(bytes.len())
    }

    fn discard(&mut self, stage: FlashStage<'m>) {
        if let Ok(at) = self.slot(&stage) {
            self.end_stage(at);
        }
    }

    fn commit(&mut self, stage: &mut FlashStage<'m>, crc: Option<u32>) -> store::Result<()> {
        let at = self.slot(stage)?;
        let slot = &self.slots[at];
        // The checksum of the caller's bytes is not that of the bytes here.
        if slot.name.is_empty() || crc.is_some_and(|crc| crc != slot.crc.value()) {
            return Err(ErrorCode::Io.into());
        }
        let name = slot.name.clone();
        let old = self.find(Kind::File, &name)?;
        Ok(self.put_in_place(at, None, old.map(|(_, record)| record))?)
    }

    fn commit_new(&mut self, stage: &mut FlashStage<'m>, name: Name<'_>) -> store::Result<()> {
        let name = Self::check(name)?;
        let at = self.slot(stage)?;
        if self.find(Kind::File, name)?.is_some() {
            return Err(ErrorCode::Exists.into());
        }
        Ok(self.put_in_place(at, Some(name), None)?)
    }

    fn remove(&mut self, name: Name<'_>) -> store::Result<()> {
        let (at, _) = self.file(name)?;
        Ok(self.end_version(at)?)
    }

    fn rename(&mut self, from: Name<'_>, to: Name<'_>) -> store::Result<()> {
        let name = Self::check(to)?;
        let (at, record) = self.file(from)?;
        let old = self.find(Kind::File, name)?;
        if old.is_some_and(|(old, _)| old == at) {
            return Ok(());
        }
        let old = old.map(|(_, record)| record);
        self.append(Record { over: old.map_or(0, |old| old.id), ..record }, name)?;
        if let Some(old) = old {
            self.give_version(&old);
        }
        _ = self.clean();
        Ok(())
    }

    fn list(&mut self, dir: Option<Name<'_>>) -> store::Result<usize> {
        // There are no directories.
        if dir.is_some() { Err(ErrorCode::NotFound.into()) } else { Ok(0) }
    }

    fn next_entry(&mut self, cursor: &mut usize, show: &mut dyn FnMut(Listed<'_>)) -> store::Result<bool> {
        while let Some(&entry) = self.entries.get(*cursor) {
            *cursor += 1;
            if entry.id != 0 && !entry.is_stage {
                let (record, len) = self.load(entry.place)?;
                show(Listed { name: self.name_in_page(len)?, kind: EntryKind::File(stat(&record)) });
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn settle(&mut self) {
        self.settle_dropped();
    }

    /// The free space is the room that a `write` could get by dropping interrupted ones.
    fn space(&mut self) -> store::Result<Space> {
        self.settle_dropped();
        let free = self.room(None)?.unwrap_or(0);
        let bytes = |blocks: u32| u64::from(blocks) * u64::from(self.layout.payload());
        Ok(Space { total: bytes(self.total()), free: bytes(free.min(self.total())) })
    }
}
