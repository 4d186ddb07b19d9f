//! A store in memory: the model that other stores are compared with, and a test double that fails on demand.
//!
//! A [`MemoryStore`] is a handle; its clones share one content, so that several connections serve the same files and a
//! test can observe them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skiff_proto::command::Verbs;
use skiff_proto::crc::crc32c;
use skiff_proto::identity::{NOBODY, StageOwner};
use skiff_proto::reply::Tag;
use skiff_proto::store::{self, Entry, EntryKind, Space, Staging, Stat, Store};
use skiff_proto::{ErrorCode, Name};

mod content;

use content::{Content, Fault, Staged, Version};

/// Whether the store has directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Names are single components.
    Flat,
    /// Names may have several components.
    Tree,
}

/// The calls of [`Store`] that a test can make fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the calls")]
pub enum Operation {
    Open,
    ReadAt,
    Stat,
    Staged,
    Stage,
    StageUnnamed,
    Append,
    Commit,
    CommitNew,
    Remove,
    Rename,
    Mkdir,
    Rmdir,
    List,
    NextEntry,
    Space,
}

/// See the module documentation.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    shared: Arc<Mutex<Content>>,
}

/// A file that is open for reading: it continues to show the version that it was opened with.
#[derive(Debug)]
pub struct MemoryFile(Version);

/// A version that is being written. Dropping it simulates a lost connection.
#[derive(Debug)]
pub struct MemoryStage {
    shared: Arc<Mutex<Content>>,
    number: u64,
}

/// A listing. It shows the entries that exist when it reaches them.
#[derive(Debug)]
pub struct MemoryCursor {
    dir: Option<String>,
    /// Entries below the directory are shown too.
    whole: bool,
    /// The entry that was shown last: whether it is a directory, and its name.
    last: Option<(bool, String)>,
}

impl MemoryStore {
    /// An empty store with room for everything.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        Self { shared: Arc::new(Mutex::new(Content::new(layout))) }
    }

    /// Adds a file, as if it had always existed.
    pub fn put_file(&self, name: &str, content: &[u8]) {
        let mut inner = self.lock();
        let version = inner.version(content.to_vec(), None, None);
        inner.make_parents(name);
        inner.files.insert(name.into(), version);
    }

    /// Creates a directory and its parents.
    pub fn put_directory(&self, name: &str) {
        let mut inner = self.lock();
        inner.make_parents(name);
        inner.directories.insert(name.into());
    }

    /// From now on every listing omits this many entries because their names can't be sent.
    pub fn omit(&self, count: u64) {
        self.lock().omitted = count;
    }

    /// All files and their content.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.lock().files.iter().map(|(name, version)| (name.clone(), version.content.to_vec())).collect()
    }

    /// The content of one file.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        self.lock().files.get(name).map(|version| version.content.to_vec())
    }

    /// All directories.
    #[must_use]
    pub fn directories(&self) -> BTreeSet<String> {
        self.lock().directories.clone()
    }

    /// The bytes that are staged under `name`, open or not.
    #[must_use]
    pub fn staged_bytes(&self, name: &str) -> Option<Vec<u8>> {
        let inner = self.lock();
        inner.stage_of(name).map(|number| inner.stages[&number].bytes.clone())
    }

    /// How many bytes are staged under `name`, and whether a writer holds the stage.
    #[must_use]
    pub fn staged_len(&self, name: &str) -> Option<(usize, bool)> {
        let inner = self.lock();
        inner.stage_of(name).map(|number| &inner.stages[&number]).map(|stage| (stage.bytes.len(), stage.open))
    }

    /// How many stages there are, with and without a name.
    #[must_use]
    pub fn stages(&self) -> usize {
        self.lock().stages.len()
    }

    /// Limits the total size of files and staged bytes.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = bytes;
    }

    /// Refuses all changes from now on.
    pub fn set_read_only(&self) {
        self.lock().read_only = true;
    }

    /// Limits each append to `bytes` (at least one).
    pub fn set_append_max(&self, bytes: usize) {
        self.lock().append_max = bytes.max(1);
    }

    /// Makes appends fail with `no-space` if the stage would exceed `bytes`.
    pub fn set_stage_max(&self, bytes: usize) {
        self.lock().stage_max = bytes;
    }

    /// Makes reads beyond `offset` fail with `io`.
    pub fn set_read_max(&self, offset: u64) {
        self.lock().read_max = offset;
    }

    /// Makes every file report this size when it is opened.
    pub fn set_claimed_size(&self, bytes: Option<u64>) {
        self.lock().claimed_size = bytes;
    }

    /// Makes `staged`, `append` and `read_at` return invalid answers: more than the size, nothing, more than the room.
    pub fn set_nonsense(&self) {
        self.lock().nonsense = true;
    }

    /// How often [`Store::settle`] was called.
    #[must_use]
    pub fn settled(&self) -> usize {
        self.lock().settled
    }

    /// Makes every commit pending for this many calls.
    pub fn set_pending_commits(&self, calls: u32) {
        self.lock().pending = calls;
    }

    /// Makes the call of `operation` after `skip` more calls fail, once.
    pub fn fail(&self, operation: Operation, skip: u32, code: ErrorCode) {
        self.lock().faults.push(Fault { operation, skip, code });
    }

    /// Simulates a restart of the server: no stage is open, and those without a name are gone.
    pub fn restart(&self) {
        let mut inner = self.lock();
        inner.stages.retain(|_, stage| stage.name.is_some());
        for stage in inner.stages.values_mut() {
            stage.open = false;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        lock(&self.shared)
    }

    fn stage_at(&self, number: u64) -> MemoryStage {
        MemoryStage { shared: Arc::clone(&self.shared), number }
    }
}

fn lock(shared: &Mutex<Content>) -> MutexGuard<'_, Content> {
    // A test that failed while it held the lock has already been reported.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for MemoryStage {
    fn drop(&mut self) {
        let mut inner = lock(&self.shared);
        let Some(stage) = inner.stages.get_mut(&self.number) else {
            return;
        };
        stage.open = false;
        if stage.name.is_none() || stage.bytes.is_empty() {
            inner.stages.remove(&self.number);
        }
    }
}

impl Store for MemoryStore {
    type File = MemoryFile;
    type Stage = MemoryStage;
    type Cursor = MemoryCursor;

    const VERBS: Verbs = Verbs::ALL;

    fn open(&mut self, name: Name<'_>) -> store::Result<(MemoryFile, Stat)> {
        let mut inner = self.lock();
        inner.fault(Operation::Open)?;
        let claimed = inner.claimed_size;
        let version = inner.find(name)?;
        let stat = version.stat();
        Ok((MemoryFile(version.clone()), Stat { size: claimed.unwrap_or(stat.size), ..stat }))
    }

    fn tag(&mut self, file: &MemoryFile) -> Tag {
        Tag::from_number(file.0.tag)
    }

    fn read_at(&mut self, file: &mut MemoryFile, offset: u64, buffer: &mut [u8]) -> store::Result<usize> {
        let mut inner = self.lock();
        inner.fault(Operation::ReadAt)?;
        if offset + buffer.len() as u64 > inner.read_max {
            return Err(ErrorCode::Io.into());
        }
        let left = usize::try_from(offset).ok().and_then(|offset| file.0.content.get(offset..)).unwrap_or_default();
        let n = left.len().min(buffer.len());
        buffer[..n].copy_from_slice(&left[..n]);
        Ok(if inner.nonsense { usize::MAX } else { n })
    }

    fn stat(&mut self, name: Name<'_>) -> store::Result<Stat> {
        let mut inner = self.lock();
        inner.fault(Operation::Stat)?;
        Ok(inner.find(name)?.stat())
    }

    fn staged(&mut self, name: Name<'_>, owner: StageOwner, size: u64) -> store::Result<(u64, u32)> {
        let mut inner = self.lock();
        inner.fault(Operation::Staged)?;
        if inner.nonsense {
            return Ok((size + 1, 0));
        }
        let stage = inner.check_write(name, 0, size)?;
        let kept = stage.filter(|&(number, len)| inner.stages[&number].owner == owner && len <= size);
        // Starting over frees the staged bytes.
        let free = inner.free().saturating_add(if kept.is_none() { stage.map_or(0, |(_, len)| len) } else { 0 });
        if size - kept.map_or(0, |(_, len)| len) > free {
            return Err(ErrorCode::NoSpace.into());
        }
        Ok(kept.map_or((0, 0), |(number, len)| (len, crc32c(&inner.stages[&number].bytes))))
    }

    fn stage(
        &mut self,
        Staging { name, offset, size, mtime, owner }: Staging<'_>,
    ) -> store::Result<(MemoryStage, u32)> {
        let mut inner = self.lock();
        inner.fault(Operation::Stage)?;
        let stage = inner.check_write(name, offset, size)?;
        let len = stage.map_or(0, |(_, len)| len);
        let continues = stage.is_some_and(|(number, len)| inner.stages[&number].owner == owner && len == offset);
        if offset > 0 && !continues {
            return Err(ErrorCode::Mismatch.into());
        }
        let free = inner.free().saturating_add(if offset == 0 { len } else { 0 });
        if size - offset > free {
            return Err(ErrorCode::NoSpace.into());
        }
        let pending = inner.pending;
        let (number, bytes) = match stage {
            Some((number, _)) => (number, inner.stages.remove(&number).map(|stage| stage.bytes).unwrap_or_default()),
            None => (inner.new_stage(), Vec::new()),
        };
        let bytes = if offset == 0 { Vec::new() } else { bytes };
        let crc = crc32c(&bytes);
        let name = Some(name.as_str().into());
        inner.stages.insert(number, Staged { name, owner, size, mtime, bytes, open: true, pending });
        drop(inner);
        Ok((self.stage_at(number), crc))
    }

    fn stage_new(&mut self, _: Name<'_>, size: u64) -> store::Result<MemoryStage> {
        let mut inner = self.lock();
        inner.fault(Operation::StageUnnamed)?;
        inner.check_writable()?;
        if size > inner.free() {
            return Err(ErrorCode::NoSpace.into());
        }
        let (number, pending) = (inner.new_stage(), inner.pending);
        let stage =
            Staged { name: None, owner: NOBODY, size: u64::MAX, mtime: None, bytes: Vec::new(), open: true, pending };
        inner.stages.insert(number, stage);
        drop(inner);
        Ok(self.stage_at(number))
    }

    /// # Panics
    /// If the bytes exceed the size that the stage was opened with, which a session never permits (PROTOCOL §7).
    fn append(&mut self, stage: &mut MemoryStage, bytes: &[u8]) -> store::Result<usize> {
        let mut inner = self.lock();
        inner.fault(Operation::Append)?;
        if inner.nonsense {
            return Ok(0);
        }
        let n = bytes.len().min(inner.append_max);
        let (free, stage_max) = (inner.free(), inner.stage_max);
        let stage = inner.stages.get_mut(&stage.number).ok_or(ErrorCode::Io)?;
        assert!((stage.bytes.len() + n) as u64 <= stage.size, "bytes beyond SIZE reached the store");
        if n as u64 > free || stage.bytes.len() + n > stage_max {
            return Err(ErrorCode::NoSpace.into());
        }
        stage.bytes.extend(&bytes[..n]);
        Ok(n)
    }

    fn discard(&mut self, stage: MemoryStage) {
        self.lock().stages.remove(&stage.number);
    }

    fn commit(&mut self, stage: &mut MemoryStage, crc: Option<u32>) -> store::Result<()> {
        let mut inner = self.lock();
        inner.check_pending(stage.number)?;
        inner.fault(Operation::Commit)?;
        let name = inner.stages.get(&stage.number).and_then(|stage| stage.name.clone()).ok_or(ErrorCode::Io)?;
        Ok(inner.put_in_place(stage.number, &name, crc)?)
    }

    fn commit_new(&mut self, stage: &mut MemoryStage, name: Name<'_>) -> store::Result<()> {
        let mut inner = self.lock();
        inner.check_pending(stage.number)?;
        inner.fault(Operation::CommitNew)?;
        inner.check(name)?;
        if inner.files.contains_key(name.as_str()) || inner.directories.contains(name.as_str()) {
            return Err(ErrorCode::Exists.into());
        }
        Ok(inner.put_in_place(stage.number, name.as_str(), None)?)
    }

    fn remove(&mut self, name: Name<'_>) -> store::Result<()> {
        let mut inner = self.lock();
        inner.fault(Operation::Remove)?;
        inner.find(name)?;
        inner.check_writable()?;
        inner.files.remove(name.as_str());
        Ok(())
    }

    fn rename(&mut self, from: Name<'_>, to: Name<'_>) -> store::Result<()> {
        let mut inner = self.lock();
        inner.fault(Operation::Rename)?;
        inner.check(to)?;
        if inner.directories.contains(from.as_str()) {
            return Ok(inner.move_directory(from, to)?);
        }
        inner.find(from)?;
        inner.check_target(to)?;
        if let Some(version) = inner.files.remove(from.as_str()) {
            inner.make_parents(to.as_str());
            inner.files.insert(to.as_str().into(), version);
        }
        Ok(())
    }

    fn mkdir(&mut self, name: Name<'_>) -> store::Result<()> {
        let mut inner = self.lock();
        inner.fault(Operation::Mkdir)?;
        if inner.layout == Layout::Flat {
            return Err(ErrorCode::Unsupported.into());
        }
        if inner.files.contains_key(name.as_str()) || inner.directories.contains(name.as_str()) {
            return Err(ErrorCode::Exists.into());
        }
        inner.check_parents(name)?;
        if name.parent().is_some_and(|parent| !inner.directories.contains(parent.as_str())) {
            return Err(ErrorCode::NotFound.into());
        }
        inner.check_writable()?;
        inner.directories.insert(name.as_str().into());
        Ok(())
    }

    fn rmdir(&mut self, name: Name<'_>) -> store::Result<()> {
        let mut inner = self.lock();
        inner.fault(Operation::Rmdir)?;
        if inner.layout == Layout::Flat {
            return Err(ErrorCode::Unsupported.into());
        }
        if !inner.directories.contains(name.as_str()) {
            return Err(ErrorCode::NotFound.into());
        }
        let inside = format!("{name}/");
        let mut names = inner.files.keys().chain(&inner.directories);
        if names.any(|name| name.starts_with(&inside)) {
            return Err(ErrorCode::NotEmpty.into());
        }
        inner.check_writable()?;
        inner.directories.remove(name.as_str());
        Ok(())
    }

    fn list(&mut self, dir: Option<Name<'_>>) -> store::Result<MemoryCursor> {
        let mut inner = self.lock();
        inner.fault(Operation::List)?;
        if let Some(dir) = dir {
            inner.check(dir)?;
            if !inner.directories.contains(dir.as_str()) {
                return Err(ErrorCode::NotFound.into());
            }
        }
        Ok(MemoryCursor { dir: dir.map(|dir| dir.as_str().into()), whole: false, last: None })
    }

    fn tree(&mut self, dir: Option<Name<'_>>) -> store::Result<MemoryCursor> {
        Ok(MemoryCursor { whole: true, ..self.list(dir)? })
    }

    fn omitted(&mut self, _: &mut MemoryCursor) -> store::Result<u64> {
        Ok(self.lock().omitted)
    }

    fn next_entry(&mut self, cursor: &mut MemoryCursor, show: &mut dyn FnMut(Entry<'_>)) -> store::Result<bool> {
        let mut inner = self.lock();
        inner.fault(Operation::NextEntry)?;
        let files = inner.files.iter().map(|(name, version)| (false, name, EntryKind::File(version.stat())));
        let directories = inner.directories.iter().map(|name| (true, name, EntryKind::Directory { mtime: None }));
        let next = if cursor.whole {
            // In the order of names a directory comes before what is in it.
            let dir = cursor.dir.as_ref().map(|dir| format!("{dir}/")).unwrap_or_default();
            let last = cursor.last.as_ref().map(|(_, name)| name);
            let is_left = |name: &String| name.starts_with(&dir) && last.is_none_or(|last| name > last);
            files.chain(directories).filter(|(_, name, _)| is_left(name)).min_by_key(|&(_, name, _)| name)
        } else {
            let last = cursor.last.as_ref().map(|(is_directory, name)| (*is_directory, name));
            files.chain(directories).find(|&(is_directory, name, _)| {
                let dir = name.rsplit_once('/').map(|(dir, _)| dir);
                dir == cursor.dir.as_deref() && last.is_none_or(|last| (is_directory, name) > last)
            })
        };
        let Some((is_directory, name, kind)) = next else {
            return Ok(false);
        };
        cursor.last = Some((is_directory, name.clone()));
        let name = Name::parse(name.as_bytes(), skiff_proto::name::MAX_NAME).map_err(|_| ErrorCode::Io)?;
        show(Entry { name, kind });
        Ok(true)
    }

    /// # Panics
    /// If a stage without a name is open: the drives, which call this, have no data connections.
    fn settle(&mut self) {
        let mut inner = self.lock();
        assert!(inner.stages.values().all(|stage| stage.name.is_some()), "a stage without a name was kept");
        inner.settled += 1;
    }

    fn space(&mut self) -> store::Result<Space> {
        let mut inner = self.lock();
        inner.fault(Operation::Space)?;
        Ok(Space { total: inner.capacity, free: inner.free() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name<'_> {
        Name::parse(text.as_bytes(), 255).unwrap()
    }

    fn code<T>(result: store::Result<T>) -> ErrorCode {
        result.err().expect("a refusal").refusal().code
    }

    fn write(store: &mut MemoryStore, to: &str, content: &[u8]) {
        let (mut stage, _) =
            store.stage(Staging { mtime: Some(7), ..Staging::new(name(to), content.len() as u64) }).unwrap();
        assert_eq!(store.append(&mut stage, content), Ok(content.len()));
        assert_eq!(store.commit(&mut stage, Some(crc32c(content))), Ok(()));
    }

    #[test]
    fn a_lost_stage_stays_and_resumes_only_at_its_length() {
        let mut store = MemoryStore::new(Layout::Flat);
        let (mut stage, _) = store.stage(Staging::new(name("d"), 9)).unwrap();
        store.append(&mut stage, b"1234").unwrap();
        assert_eq!(code(store.stage(Staging::new(name("d"), 9))), ErrorCode::Busy);
        assert_eq!(code(store.staged(name("d"), NOBODY, 9)), ErrorCode::Busy);
        drop(stage);
        store.restart();
        assert_eq!(store.staged(name("d"), NOBODY, 9), Ok((4, 0xf63a_f4ee)));
        assert_eq!(store.staged(name("d"), NOBODY, 3), Ok((0, 0)));
        assert_eq!(code(store.stage(Staging::new(name("d"), 9).at(5))), ErrorCode::Mismatch);
        assert_eq!(code(store.stage(Staging::new(name("d"), 4).at(5))), ErrorCode::Range);
        let (mut stage, crc) = store.stage(Staging::new(name("d"), 9).at(4)).unwrap();
        assert_eq!(crc, 0xf63a_f4ee);
        store.append(&mut stage, b"56789").unwrap();
        assert_eq!(store.commit(&mut stage, Some(1)), Ok(()));
        drop(stage);
        assert_eq!(store.files()["d"], b"123456789");
        assert_eq!(store.stages(), 0);
    }

    #[test]
    fn an_open_file_keeps_showing_the_version_it_was_opened_with() {
        let mut store = MemoryStore::new(Layout::Flat);
        write(&mut store, "a", b"old");
        let (mut file, stat) = store.open(name("a")).unwrap();
        let tag = store.tag(&file);
        write(&mut store, "a", b"newer");
        let mut buffer = [0; 8];
        assert_eq!(store.read_at(&mut file, 1, &mut buffer), Ok(2));
        assert_eq!((&buffer[..2], stat.size, stat.mtime), (&b"ld"[..], 3, Some(7)));
        let (file, _) = store.open(name("a")).unwrap();
        assert_ne!(store.tag(&file), tag);
    }

    #[test]
    fn a_full_store_keeps_the_old_file() {
        let mut store = MemoryStore::new(Layout::Flat);
        store.put_file("a", b"0123456789");
        store.set_capacity(15);
        assert_eq!(code(store.stage(Staging::new(name("a"), 6))), ErrorCode::NoSpace);
        assert_eq!(code(store.staged(name("a"), NOBODY, 6)), ErrorCode::NoSpace);
        let (mut stage, _) = store.stage(Staging::new(name("b"), 5)).unwrap();
        store.append(&mut stage, b"12345").unwrap();
        assert_eq!(store.space(), Ok(Space { total: 15, free: 0 }));
        drop(stage);
        // Starting over frees the staged bytes.
        assert_eq!(store.staged(name("b"), NOBODY, 4), Ok((0, 0)));
        assert!(store.stage(Staging::new(name("b"), 4)).is_ok());
    }

    #[test]
    fn a_new_file_never_replaces_one() {
        let mut store = MemoryStore::new(Layout::Flat);
        store.put_file("a", b"old");
        let mut stage = store.stage_new(name("a"), 1).unwrap();
        store.append(&mut stage, b"x").unwrap();
        assert_eq!(store.commit_new(&mut stage, name("a")), Err(ErrorCode::Exists.into()));
        assert_eq!(store.commit_new(&mut stage, name("a(1)")), Ok(()));
        assert_eq!((store.files()["a"].as_slice(), store.files()["a(1)"].as_slice()), (&b"old"[..], &b"x"[..]));
        drop(store.stage_new(name("a"), 1).unwrap());
        assert_eq!(store.stages(), 0);
    }

    #[test]
    fn directories_are_made_on_the_way_and_removed_only_when_empty() {
        let mut store = MemoryStore::new(Layout::Tree);
        write(&mut store, "d/e/f", b"1");
        assert_eq!(code(store.mkdir(name("d"))), ErrorCode::Exists);
        assert_eq!(code(store.mkdir(name("d/e/f/g"))), ErrorCode::Exists);
        assert_eq!(code(store.mkdir(name("x/y"))), ErrorCode::NotFound);
        assert_eq!(code(store.rmdir(name("d"))), ErrorCode::NotEmpty);
        assert_eq!(code(store.rmdir(name("d/e/f"))), ErrorCode::NotFound);
        assert_eq!(code(store.stat(name("d"))), ErrorCode::IsDirectory);
        assert_eq!(code(store.stat(name("d/e/f/g"))), ErrorCode::NotFound);
        assert_eq!(code(store.stage(Staging::new(name("d/e"), 1))), ErrorCode::IsDirectory);
        assert_eq!(code(store.stage(Staging::new(name("d/e/f/g"), 1))), ErrorCode::Exists);
        assert_eq!(code(store.rename(name("d/e/f"), name("d"))), ErrorCode::IsDirectory);
        store.rename(name("d/e/f"), name("g")).unwrap();
        store.rmdir(name("d/e")).unwrap();
        store.rmdir(name("d")).unwrap();
        assert_eq!(code(store.list(Some(name("g"))).map(drop)), ErrorCode::NotFound);
        assert_eq!(store.files().len(), 1);
    }

    #[test]
    fn a_fault_strikes_once_and_where_it_was_asked_for() {
        let mut store = MemoryStore::new(Layout::Flat);
        store.put_file("a", b"x");
        store.fail(Operation::Stat, 1, ErrorCode::Io);
        assert!(store.open(name("a")).is_ok() && store.stat(name("a")).is_ok());
        assert_eq!(code(store.stat(name("a"))), ErrorCode::Io);
        assert!(store.stat(name("a")).is_ok());
    }
}
