use std::sync::{Arc, Mutex, MutexGuard};

use heapless::{String, Vec};
use skiff_proto::crc::{Crc32c, crc32c};
use skiff_proto::identity::{NOBODY, StageOwner};
use skiff_proto::reply::Tag;
use skiff_proto::store::{self, Entry, EntryKind, Space, Stat, Store, StoreError};
use skiff_proto::{ErrorCode, Name, Refusal};

const FILES: usize = 8;
const STAGES: usize = 3;
const SIZE: usize = 8192;

/// Eight files and three stages of 8 KiB, flat, in memory that is never asked for again. Copies show the same store.
#[derive(Clone, Default)]
pub(crate) struct RamStore(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    files: [Option<Content>; FILES],
    stages: [Option<Staged>; STAGES],
    version: u32,
    faults: Faults,
    settled: usize,
}

/// What goes wrong, or slowly.
pub(crate) struct Faults {
    /// No append beyond that many bytes of a stage: `no-space`.
    pub(crate) append_limit: usize,
    /// An append takes no more at once.
    pub(crate) append_most: usize,
    /// No read beyond that offset: `io`.
    pub(crate) read_limit: u64,
    /// A commit is pending that often.
    pub(crate) pending: u32,
    /// Commits fail.
    pub(crate) commit: Option<ErrorCode>,
    /// Every file seems that long to `open`.
    pub(crate) size: Option<u64>,
    /// The files' checksums are not known.
    pub(crate) no_crc: bool,
    /// `read_at`, `staged` and `append` answer what no store may.
    pub(crate) nonsense: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            append_limit: usize::MAX,
            append_most: usize::MAX,
            read_limit: u64::MAX,
            pending: 0,
            commit: None,
            size: None,
            no_crc: false,
            nonsense: false,
        }
    }
}

struct Content {
    name: String<255>,
    bytes: Vec<u8, SIZE>,
    mtime: Option<u64>,
    version: u32,
}

struct Staged {
    name: Option<String<255>>,
    owner: StageOwner,
    bytes: Vec<u8, SIZE>,
    mtime: Option<u64>,
    open: bool,
}

/// A file of a certain version.
pub(crate) struct File {
    slot: usize,
    version: u32,
}

/// An open stage. Dropped, a named one stays.
pub(crate) struct Stage {
    store: RamStore,
    slot: usize,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let mut inner = self.store.lock();
        let slot = &mut inner.stages[self.slot];
        match slot {
            Some(staged) if staged.name.is_some() => staged.open = false,
            _ => *slot = None,
        }
    }
}

impl RamStore {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Changes what goes wrong.
    pub(crate) fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock().faults);
    }

    /// How often nothing was put off any longer.
    pub(crate) fn settled(&self) -> usize {
        self.lock().settled
    }

    pub(crate) fn insert(&self, name: &str, bytes: &[u8]) {
        self.lock().put(name, bytes, None);
    }

    pub(crate) fn take_away(&self, name: &str) {
        let mut inner = self.lock();
        let slot = inner.find(name).unwrap();
        inner.files[slot] = None;
    }

    pub(crate) fn content(&self, name: &str) -> Option<std::vec::Vec<u8>> {
        let inner = self.lock();
        inner.find(name).map(|slot| inner.file(slot).bytes.to_vec())
    }

    /// Bytes staged for `name`, and whether somebody is writing it.
    pub(crate) fn staged_len(&self, name: &str) -> Option<(usize, bool)> {
        let inner = self.lock();
        inner.find_stage(name).and_then(|slot| inner.stages[slot].as_ref()).map(|s| (s.bytes.len(), s.open))
    }
}

impl Inner {
    fn find(&self, name: &str) -> Option<usize> {
        self.files.iter().position(|file| file.as_ref().is_some_and(|file| file.name == name))
    }

    fn find_stage(&self, name: &str) -> Option<usize> {
        let is_it = |staged: &Staged| staged.name.as_ref().is_some_and(|n| n == name);
        self.stages.iter().position(|staged| staged.as_ref().is_some_and(is_it))
    }

    fn file(&self, slot: usize) -> &Content {
        self.files[slot].as_ref().unwrap()
    }

    fn stat(&self, slot: usize) -> Stat {
        let file = self.file(slot);
        let crc = (!self.faults.no_crc).then(|| crc32c(&file.bytes));
        Stat { size: self.faults.size.unwrap_or(file.bytes.len() as u64), mtime: file.mtime, crc }
    }

    fn put(&mut self, name: &str, bytes: &[u8], mtime: Option<u64>) {
        self.version += 1;
        let slot = self.find(name).or_else(|| self.files.iter().position(Option::is_none)).unwrap();
        let name = String::try_from(name).unwrap();
        let bytes = Vec::from_slice(bytes).unwrap();
        self.files[slot] = Some(Content { name, bytes, mtime, version: self.version });
    }

    fn check(&self, name: &str, owner: StageOwner, offset: u64, size: u64) -> Result<Option<usize>, Refusal> {
        if offset > size {
            return Err(ErrorCode::Range.into());
        }
        let slot = self.find_stage(name);
        let staged = slot.and_then(|slot| self.stages[slot].as_ref());
        if staged.is_some_and(|staged| staged.open) {
            return Err(ErrorCode::Busy.into());
        }
        if offset > 0 && staged.is_none_or(|staged| staged.owner != owner || staged.bytes.len() as u64 != offset) {
            return Err(ErrorCode::Mismatch.into());
        }
        if size > SIZE as u64 {
            return Err(ErrorCode::NoSpace.into());
        }
        Ok(slot)
    }
}

impl Store for RamStore {
    fn settle(&mut self) {
        let mut inner = self.lock();
        assert!(inner.stages.iter().flatten().all(|stage| stage.name.is_some()), "a stage without a name was kept");
        inner.settled += 1;
    }

    type File = File;
    type Stage = Stage;
    type Cursor = usize;

    fn open(&mut self, name: Name<'_>) -> store::Result<(File, Stat)> {
        let inner = self.lock();
        let slot = inner.find(name.as_str()).ok_or(ErrorCode::NotFound)?;
        Ok((File { slot, version: inner.file(slot).version }, inner.stat(slot)))
    }

    fn tag(&mut self, file: &File) -> Tag {
        Tag::from_number(file.version.into())
    }

    fn read_at(&mut self, file: &mut File, offset: u64, buffer: &mut [u8]) -> store::Result<usize> {
        let inner = self.lock();
        let content = inner.files[file.slot].as_ref().filter(|content| content.version == file.version);
        let content = content.ok_or(ErrorCode::Changed)?;
        if offset + buffer.len() as u64 > inner.faults.read_limit {
            return Err(ErrorCode::Io.into());
        }
        let rest = content.bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(if inner.faults.nonsense { usize::MAX } else { n })
    }

    fn stat(&mut self, name: Name<'_>) -> store::Result<Stat> {
        let inner = self.lock();
        inner.find(name.as_str()).map(|slot| inner.stat(slot)).ok_or(ErrorCode::NotFound.into())
    }

    fn staged(&mut self, name: Name<'_>, owner: StageOwner, size: u64) -> store::Result<(u64, u32)> {
        let inner = self.lock();
        if inner.faults.nonsense {
            return Ok((size + 1, 0));
        }
        let slot = inner.check(name.as_str(), owner, 0, size)?;
        let staged = slot.and_then(|slot| inner.stages[slot].as_ref());
        let staged = staged.filter(|staged| staged.owner == owner && staged.bytes.len() as u64 <= size);
        Ok(staged.map_or((0, 0), |staged| (staged.bytes.len() as u64, crc32c(&staged.bytes))))
    }

    fn stage(
        &mut self,
        name: Name<'_>,
        owner: StageOwner,
        offset: u64,
        size: u64,
        mtime: Option<u64>,
    ) -> store::Result<(Stage, u32)> {
        let mut inner = self.lock();
        let slot = inner.check(name.as_str(), owner, offset, size)?;
        let free = || inner.stages.iter().position(Option::is_none);
        let slot = slot.or_else(free).ok_or(ErrorCode::NoSpace)?;
        let staged = inner.stages[slot].get_or_insert_with(|| Staged {
            name: Some(String::try_from(name.as_str()).unwrap()),
            owner,
            bytes: Vec::new(),
            mtime,
            open: true,
        });
        staged.open = true;
        (staged.owner, staged.mtime) = (owner, mtime);
        staged.bytes.truncate(usize::try_from(offset).unwrap());
        let crc = crc32c(&staged.bytes);
        drop(inner);
        Ok((Stage { store: self.clone(), slot }, crc))
    }

    fn stage_new(&mut self, _name: Name<'_>, _size: u64) -> store::Result<Stage> {
        let mut inner = self.lock();
        let slot = inner.stages.iter().position(Option::is_none).ok_or(ErrorCode::NoSpace)?;
        inner.stages[slot] = Some(Staged { name: None, owner: NOBODY, bytes: Vec::new(), mtime: None, open: true });
        drop(inner);
        Ok(Stage { store: self.clone(), slot })
    }

    fn append(&mut self, stage: &mut Stage, bytes: &[u8]) -> store::Result<usize> {
        let mut inner = self.lock();
        if inner.faults.nonsense {
            return Ok(0);
        }
        let limit = inner.faults.append_limit.min(SIZE);
        let n = bytes.len().min(inner.faults.append_most);
        let staged = inner.stages[stage.slot].as_mut().unwrap();
        if staged.bytes.len() + n > limit {
            return Err(ErrorCode::NoSpace.into());
        }
        staged.bytes.extend_from_slice(&bytes[..n]).unwrap();
        Ok(n)
    }

    fn discard(&mut self, stage: Stage) {
        self.lock().stages[stage.slot] = None;
    }

    fn commit(&mut self, stage: &mut Stage, crc: Option<u32>) -> store::Result<()> {
        let mut inner = self.lock();
        if inner.faults.pending > 0 {
            inner.faults.pending -= 1;
            return Err(StoreError::NotYet);
        }
        if let Some(code) = inner.faults.commit {
            return Err(code.into());
        }
        let staged = inner.stages[stage.slot].take().unwrap();
        if let Some(crc) = crc {
            let mut own = Crc32c::new();
            own.update(&staged.bytes);
            assert_eq!(own.value(), crc);
        }
        inner.put(&staged.name.unwrap(), &staged.bytes, staged.mtime);
        Ok(())
    }

    fn commit_new(&mut self, _stage: &mut Stage, _name: Name<'_>) -> store::Result<()> {
        Err(ErrorCode::Unsupported.into())
    }

    fn remove(&mut self, name: Name<'_>) -> store::Result<()> {
        let mut inner = self.lock();
        let slot = inner.find(name.as_str()).ok_or(ErrorCode::NotFound)?;
        inner.files[slot] = None;
        Ok(())
    }

    fn rename(&mut self, from: Name<'_>, to: Name<'_>) -> store::Result<()> {
        let mut inner = self.lock();
        let slot = inner.find(from.as_str()).ok_or(ErrorCode::NotFound)?;
        if let Some(old) = inner.find(to.as_str()).filter(|&old| old != slot) {
            inner.files[old] = None;
        }
        inner.files[slot].as_mut().unwrap().name = String::try_from(to.as_str()).unwrap();
        Ok(())
    }

    fn list(&mut self, dir: Option<Name<'_>>) -> store::Result<usize> {
        if dir.is_some() { Err(ErrorCode::NotFound.into()) } else { Ok(0) }
    }

    fn next_entry(&mut self, cursor: &mut usize, show: &mut dyn FnMut(Entry<'_>)) -> store::Result<bool> {
        let inner = self.lock();
        while *cursor < FILES {
            let slot = *cursor;
            *cursor += 1;
            if let Some(file) = &inner.files[slot] {
                let name = Name::parse(file.name.as_bytes(), 255).unwrap();
                show(Entry { name, kind: EntryKind::File(inner.stat(slot)) });
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn space(&mut self) -> store::Result<Space> {
        let free = self.lock().files.iter().filter(|file| file.is_none()).count();
        Ok(Space { total: (FILES * SIZE) as u64, free: (free * SIZE) as u64 })
    }
}
