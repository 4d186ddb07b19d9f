//! The [`Store`] trait over entries and blocks.

use skiff_proto::crc::Crc32c;
use skiff_proto::identity::StageOwner;
use skiff_proto::reply::Tag;
use skiff_proto::store::{self, Entry as Listed, EntryKind, Space, Stat, Store};
use skiff_proto::{ErrorCode, Name, NameError, Refusal};

use super::entry::Kind;
use super::{RamFile, RamStage, RamStore};

impl<const NAME: usize, const BLOCK: usize> RamStore<'_, NAME, BLOCK> {
    /// A flat store has no names with `/`, and none longer than its entries.
    fn check(name: Name<'_>) -> Result<(), Refusal> {
        let name = name.as_str();
        if name.contains('/') {
            return Err(Refusal::new(ErrorCode::BadName, "this store has no directories"));
        }
        if name.len() > NAME { Err(NameError::TooLong.into()) } else { Ok(()) }
    }

    fn file(&self, name: Name<'_>) -> Result<usize, Refusal> {
        Self::check(name)?;
        Ok(self.find(Kind::File, name).ok_or(ErrorCode::NotFound)?)
    }

    /// The closed stage of a name.
    fn closed_stage(&self, name: Name<'_>) -> Result<Option<usize>, Refusal> {
        match self.find(Kind::Stage, name) {
            Some(at) if self.is_open(at) => Err(ErrorCode::Busy.into()),
            found => Ok(found),
        }
    }

    /// # Errors
    /// `no-space` for a file of `size` bytes if its first `kept` blocks are those of `entry`.
    fn check_size(&self, size: u64, kept: u64, entry: Option<usize>) -> Result<(), Refusal> {
        if u32::try_from(size).is_err() {
            return Err(ErrorCode::NoSpace.into());
        }
        // An entry whose blocks are not kept gives them back.
        let back = entry.map_or(0, |at| self.blocks_of(at)) - kept;
        let blocks = Self::blocks_for(size).saturating_sub(kept).saturating_sub(back);
        self.check_room(blocks, entry)
    }

    fn crc(&self, at: usize) -> u32 {
        let mut crc = Crc32c::new();
        self.pieces(at).for_each(|piece| crc.update(piece));
        crc.value()
    }

    fn is_current(&self, stage: &RamStage<'_>) -> Result<usize, Refusal> {
        let current = stage.handle.version.get() == stage.version && self.entries[stage.entry].kind == Kind::Stage;
        if current { Ok(stage.entry) } else { Err(ErrorCode::Io.into()) }
    }

    /// Makes a stage the file of its name.
    fn put_in_place(&mut self, at: usize, old: Option<usize>, crc: Option<u32>) {
        if let Some(old) = old {
            self.pass(old);
        }
        let entry = &mut self.entries[at];
        entry.kind = Kind::File;
        entry.crc = crc;
    }
}

impl<'m, const NAME: usize, const BLOCK: usize> Store for RamStore<'m, NAME, BLOCK> {
    type File = RamFile<'m>;
    type Stage = RamStage<'m>;
    type Cursor = usize;

    const WAITS: bool = false;

    fn open(&mut self, name: Name<'_>) -> store::Result<(RamFile<'m>, Stat)> {
        let at = self.file(name)?;
        Ok((self.open_file(at), self.entries[at].stat()))
    }

    fn tag(&mut self, file: &RamFile<'m>) -> Tag {
        Tag::from_number(self.boot.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(file.version.into()))
    }

    fn read_at(&mut self, file: &mut RamFile<'m>, offset: u64, buffer: &mut [u8]) -> store::Result<usize> {
        if file.handle.version.get() != file.version {
            return Err(ErrorCode::Changed.into());
        }
        let entry = &self.entries[file.entry];
        let Some(offset) = u32::try_from(offset).ok().filter(|&offset| offset < entry.len) else {
            return Ok(0);
        };
        let (mut offset, len) = (offset as usize, entry.len as usize);
        let first = entry.first;
        let mut read = 0;
        while read < buffer.len() && offset < len {
            let index = u32::try_from(offset / BLOCK).unwrap_or(u32::MAX);
            if index < file.index {
                (file.block, file.index) = (first, 0);
            }
            while file.index < index {
                file.block = self.after(file.block);
                file.index += 1;
            }
            let block = self.blocks.get(usize::from(file.block)).ok_or(ErrorCode::Io)?;
            let bytes = &block[offset % BLOCK..];
            let n = bytes.len().min(len - offset).min(buffer.len() - read);
            buffer[read..read + n].copy_from_slice(&bytes[..n]);
            read += n;
            offset += n;
        }
        Ok(read)
    }

    fn stat(&mut self, name: Name<'_>) -> store::Result<Stat> {
        Ok(self.entries[self.file(name)?].stat())
    }

    fn staged(&mut self, name: Name<'_>, owner: StageOwner, size: u64) -> store::Result<(u64, u32)> {
        Self::check(name)?;
        self.sweep();
        let stage = self.closed_stage(name)?;
        match stage.filter(|&at| self.entries[at].owner == owner && (1..=size).contains(&self.entries[at].len.into())) {
            Some(at) => {
                self.check_size(size, self.blocks_of(at), stage)?;
                Ok((self.entries[at].len.into(), self.crc(at)))
            }
            None => Ok(self.check_size(size, 0, stage).map(|()| (0, 0))?),
        }
    }

    fn stage(
        &mut self,
        name: Name<'_>,
        owner: StageOwner,
        offset: u64,
        size: u64,
        mtime: Option<u64>,
    ) -> store::Result<(RamStage<'m>, u32)> {
        Self::check(name)?;
        if offset > size {
            return Err(ErrorCode::Range.into());
        }
        self.sweep();
        let stage = self.closed_stage(name)?;
        let continues = |at: usize| self.entries[at].owner == owner && u64::from(self.entries[at].len) == offset;
        if offset > 0 && !stage.is_some_and(continues) {
            return Err(ErrorCode::Mismatch.into());
        }
        let kept = stage.filter(|_| offset > 0).map_or(0, |at| self.blocks_of(at));
        self.check_size(size, kept, stage)?;
        let at = match stage {
            Some(at) if offset > 0 => at,
            Some(at) => {
                self.truncate(at);
                at
            }
            None => self.take_entry()?,
        };
        let blocks = Self::blocks_for(size);
        self.make_room(blocks.saturating_sub(kept), Some(at))?;
        self.entries[at].set_name(name);
        self.entries[at].mtime = mtime;
        self.entries[at].owner = owner;
        let crc = self.crc(at);
        Ok((self.open_stage(at, blocks), crc))
    }

    fn stage_new(&mut self, _: Name<'_>, size: u64) -> store::Result<RamStage<'m>> {
        self.sweep();
        self.check_size(size, 0, None)?;
        let at = self.take_entry()?;
        let blocks = Self::blocks_for(size);
        self.make_room(blocks, Some(at))?;
        Ok(self.open_stage(at, blocks))
    }

    fn append(&mut self, stage: &mut RamStage<'m>, bytes: &[u8]) -> store::Result<usize> {
        let at = self.is_current(stage)?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let len = self.entries[at].len;
        let room = self.tail(at)?;
        let n = bytes.len().min(room.len());
        room[..n].copy_from_slice(&bytes[..n]);
        self.entries[at].len = u32::try_from(n).ok().and_then(|n| len.checked_add(n)).ok_or(ErrorCode::NoSpace)?;
        Ok(n)
    }

    fn discard(&mut self, stage: RamStage<'m>) {
        if let Ok(at) = self.is_current(&stage) {
            self.release(at);
        }
    }

    fn commit(&mut self, stage: &mut RamStage<'m>, crc: Option<u32>) -> store::Result<()> {
        let at = self.is_current(stage)?;
        let old = self.find(Kind::File, self.entries[at].name().ok_or(ErrorCode::Io)?);
        self.put_in_place(at, old, crc);
        Ok(())
    }

    fn commit_new(&mut self, stage: &mut RamStage<'m>, name: Name<'_>) -> store::Result<()> {
        Self::check(name)?;
        let at = self.is_current(stage)?;
        if self.find(Kind::File, name).is_some() {
            return Err(ErrorCode::Exists.into());
        }
        self.entries[at].set_name(name);
        self.put_in_place(at, None, None);
        Ok(())
    }

    fn remove(&mut self, name: Name<'_>) -> store::Result<()> {
        let at = self.file(name)?;
        self.pass(at);
        Ok(())
    }

    fn rename(&mut self, from: Name<'_>, to: Name<'_>) -> store::Result<()> {
        Self::check(to)?;
        let at = self.file(from)?;
        match self.find(Kind::File, to) {
            Some(old) if old == at => return Ok(()),
            Some(old) => self.pass(old),
            None => {}
        }
        self.entries[at].set_name(to);
        Ok(())
    }

    fn list(&mut self, dir: Option<Name<'_>>) -> store::Result<usize> {
        // There are no directories.
        if dir.is_some() { Err(ErrorCode::NotFound.into()) } else { Ok(0) }
    }

    fn next_entry(&mut self, cursor: &mut usize, show: &mut dyn FnMut(Listed<'_>)) -> store::Result<bool> {
        while let Some(entry) = self.entries.get(*cursor) {
            *cursor += 1;
            if let (Kind::File, Some(name)) = (entry.kind, entry.name()) {
                show(Listed { name, kind: EntryKind::File(entry.stat()) });
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The free space is the room that a `write` could get by dropping interrupted ones.
    fn space(&mut self) -> store::Result<Space> {
        self.sweep();
        Ok(Space { total: self.blocks.len() as u64 * BLOCK as u64, free: self.room(None) * BLOCK as u64 })
    }
}
