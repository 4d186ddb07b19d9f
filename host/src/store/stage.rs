//! Stages: begin a write, resume an interrupted one, append.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError};

use core::sync::atomic::Ordering;
use core::task::Poll;
use core::time::Duration;

use rustix::io::Errno;
use skiff_proto::crc::Crc32c;
use skiff_proto::identity::{NOBODY, StageOwner};
use skiff_proto::name::{MAX_NAME, Name, NameBuf};
use skiff_proto::store::Staging;
use skiff_proto::{ErrorCode, Refusal};

use super::file::read_at;
use super::link::create_nameless;
use super::meta::Meta;
use super::owner::{Owner, Sum as Known};
use super::refusal::{refuse, refuse_io};
use super::room::{Promise, Room};
use super::slot::{Slot, StageId, UNNAMED_PREFIX};
use super::{DirStore, Inner};

/// Bytes read at once when staged bytes are summed.
const SUM_BUFFER: usize = 256 * 1024;

/// A version of a file that is being written. Dropping it keeps the bytes for a later write of the same name, unless it
/// has no name or nothing was appended.
#[derive(Debug)]
pub struct Stage {
    pub(super) store: DirStore,
    pub(super) slot: Arc<Slot>,
    pub(super) file: std::fs::File,
    pub(super) owner: Arc<Owner>,
    pub(super) what: What,
    pub(super) len: u64,
    size: u64,
    pub(super) mtime: Option<u64>,
    /// Its position in the order in which the store's stages were opened.
    pub(super) order: u64,
    /// It contains bytes that were appended before it was opened.
    pub(super) resumed: bool,
    /// All its bytes are durable.
    pub(super) synced: bool,
    /// It is in place or discarded: nothing is left to do.
    pub(super) done: bool,
    /// Its promise of room, if that is a large one.
    promise: Option<Arc<Promise>>,
}

/// The purpose and the location of a stage.
#[derive(Debug)]
pub(super) enum What {
    /// A version of this file, by this owner.
    Named(Box<NameBuf<MAX_NAME>>, StageId, StageOwner),
    /// A file that gets its name later; in the slot, it has this number.
    Numbered(u64),
    /// A file that gets its name later and has none at all now.
    Nameless,
}

impl Stage {
    /// Its writer, which tells a connection that it was evicted.
    #[must_use]
    pub const fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }

    /// The number of staged bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a length in bytes, not a collection")]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// The final number of bytes; for a classic `put`, as announced.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The name that it is for; `None` for a classic `put`.
    #[must_use]
    pub fn name(&self) -> Option<Name<'_>> {
        match &self.what {
            What::Named(name, ..) => Some(name.as_name()),
            What::Numbered(_) | What::Nameless => None,
        }
    }

    /// True if another writer of this name has taken over: then appending and committing fail with `busy`, and dropping
    /// does nothing.
    #[must_use]
    pub fn is_evicted(&self) -> bool {
        self.owner.is_evicted()
    }

    /// Begins to append by other means than [`DirStore::append`], such as splice.
    ///
    /// # Errors
    /// `busy` if another writer has taken over.
    pub fn writing(&mut self) -> Result<Writing<'_>, Refusal> {
        if self.done {
            return Err(Refusal::new(ErrorCode::Io, "the file is in place already"));
        }
        self.owner.begin()?;
        Ok(Writing { stage: self })
    }

    /// Its file name in the slot, if it has one.
    pub(super) fn with_path<T>(&self, use_it: impl FnOnce(&str) -> T) -> Option<T> {
        match &self.what {
            What::Named(_, id, owner) => Some(use_it(id.file_name(*owner).as_str())),
            What::Numbered(number) => Some(use_it(&format!("{UNNAMED_PREFIX}{number}"))),
            What::Nameless => None,
        }
    }

    /// Records that it is no longer in its slot.
    pub(super) fn leave_slot(&self) {
        if let What::Named(_, id, _) = self.what {
            self.slot.set_owner(id, NOBODY);
        }
        self.slot.unstage(self.len);
    }

    /// Removes the staged bytes.
    fn remove(&mut self) {
        _ = self.with_path(|path| self.slot.remove(path));
        self.leave_slot();
        self.store.0.room.ask_again();
    }
}

/// The right to append to a stage by other means than [`DirStore::append`]. While it exists, nobody can take over the
/// stage.
#[derive(Debug)]
pub struct Writing<'a> {
    stage: &'a mut Stage,
}

impl Writing<'_> {
    /// The file to write to, at [`Writing::offset`].
    #[must_use]
    pub const fn file(&self) -> &std::fs::File {
        &self.stage.file
    }

    /// The offset of the next byte.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.stage.len
    }

    /// How many bytes may be written: no limit for a classic `put`, whose length may count characters.
    #[must_use]
    pub fn room(&self) -> u64 {
        match self.stage.what {
            What::Named(..) => self.stage.size.saturating_sub(self.stage.len),
            What::Numbered(_) | What::Nameless => u64::MAX - self.stage.len,
        }
    }

    /// Records that `n` bytes have been written at [`Writing::offset`], at most [`Writing::room`].
    pub fn appended(&mut self, n: u64) {
        let n = n.min(self.room());
        let promised = n.min(self.stage.size.saturating_sub(self.stage.len));
        self.stage.len += n;
        self.stage.slot.stage(n);
        self.stage.store.0.room.append(n, promised);
        if let Some(promise) = &self.stage.promise {
            promise.append(promised);
        }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.stage.owner.finish();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let store = self.store.clone();
        store.0.room.release(self.size.saturating_sub(self.len));
        match self.what {
            What::Named(_, id, _) => {
                let owner = self.owner.clone();
                store.0.owners.leave(id, &owner, || {
                    if !self.done && self.len == 0 {
                        self.remove();
                    }
                });
            }
            What::Numbered(_) | What::Nameless if !self.done => self.remove(),
            What::Numbered(_) | What::Nameless => {}
        }
    }
}

impl DirStore {
    /// Where a `write` of `size` bytes to `name` by `owner` can begin: the number of bytes staged from an interrupted
    /// one, and their CRC-32C; (0, 0) if they belong to another owner. Fails as that `write` would. Reads the staged
    /// bytes, which may take long.
    ///
    /// # Errors
    /// As [`DirStore::stage`].
    pub fn staged(&self, name: Name<'_>, owner: StageOwner, size: u64) -> Result<(u64, u32), Refusal> {
        let mut staged = self.begin_staged(name, owner, size)?;
        loop {
            if let Poll::Ready(sum) = self.sum_staged(&mut staged, &mut || false) {
                return sum;
            }
        }
    }

    /// The first half of [`DirStore::staged`], which does not read yet.
    ///
    /// # Errors
    /// As [`DirStore::stage`].
    pub fn begin_staged(&self, name: Name<'_>, owner: StageOwner, size: u64) -> Result<Staged, Refusal> {
        self.check_target(name)?;
        let id = StageId::of(name.as_str());
        let slot = self.slot()?;
        self.0.owners.check_idle(id)?;
        let entered = self.0.owners.entered();
        let there = slot.owner_of(id);
        let found = match slot.open(id.file_name(there).as_str()) {
            Ok((file, meta)) => Some((file, meta.size())),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(refuse(errno)),
        };
        let is_new = found.is_none();
        let staged = found.as_ref().map_or(0, |(_, len)| *len);
        let sum = found.filter(|(_, len)| *len <= size && there == owner).map(|(file, len)| Sum::new(file, len));
        match &sum {
            Some(_) => self.check_room(&slot, id, size - staged, 0)?,
            None => self.check_room(&slot, id, size, staged)?,
        }
        if is_new {
            self.check_inodes(&slot, id)?;
        }
        Ok(Staged { id, entered, sum })
    }

    /// The second half of [`DirStore::staged`]. Reads on until `pause` is true; then it is pending.
    ///
    /// # Errors
    /// `io`.
    pub fn sum_staged(
        &self,
        staged: &mut Staged,
        pause: &mut dyn FnMut() -> bool,
    ) -> Poll<Result<(u64, u32), Refusal>> {
        let Some(sum) = &mut staged.sum else { return Poll::Ready(Ok((0, 0))) };
        let mut buffer = Vec::new();
        while sum.piece(&mut buffer)? {
            if pause() {
                return Poll::Pending;
            }
        }
        let known = (sum.len, sum.crc.value());
        self.0.owners.note_sum(staged.id, staged.entered, known);
        Poll::Ready(Ok(known))
    }

    /// Begins a `write`: after `offset` bytes that are already staged, or with 0 from the start. Returns the stage and
    /// the CRC-32C of the staged bytes; unless [`DirStore::staged`] was called just before, it has to read them, which
    /// may take long. Missing parents are created at the commit.
    ///
    /// # Errors
    /// `read-only`; `denied` (hidden names, a device or the like of that name, no permission); `is-directory`; `exists`
    /// if a parent is a file; `range` if `offset` is beyond `size`; `busy` while another stage of this name is open;
    /// `mismatch` if `offset` is neither 0 nor the staged length, or the stage belongs to another owner; `no-space`, `io`.
    pub fn stage(&self, Staging { name, offset, size, mtime, owner }: Staging<'_>) -> Result<(Stage, u32), Refusal> {
        self.check_target(name)?;
        if offset > size {
            return Err(ErrorCode::Range.into());
        }
        let kept = Box::new(name.try_into()?);
        let slot = self.slot()?;
        let id = StageId::of(name.as_str());
        let writer = Owner::new();
        let known = self.0.owners.enter(id, &writer)?;
        // From here on no other writer opens or drops this stage.
        let what = What::Named(kept, id, owner);
        let (file, crc) = self.open_stage(&slot, (id, owner), &writer, offset, size, known).inspect_err(|_| {
            self.0.owners.leave(id, &writer, || {});
        })?;
        Ok((self.new_stage(slot, file, writer, what, offset, size, mtime), crc))
    }

    /// Begins a classic `put`: a stage without a name. `size` is the announced length: bytes, or fewer characters.
    ///
    /// # Errors
    /// `read-only`, `denied`, `no-space`, `io`.
    pub fn stage_unnamed(&self, size: u64) -> Result<Stage, Refusal> {
        if self.0.options.read_only {
            return Err(ErrorCode::ReadOnly.into());
        }
        let slot = self.slot()?;
        self.make_room(&slot, StageId::of(""), size, 0)?;
        let (file, what) = match self.0.nameless.then(|| create_nameless(slot.as_fd())).flatten() {
            Some(file) => (file, What::Nameless),
            None => loop {
                let number = self.0.serial.fetch_add(1, Ordering::Relaxed);
                match slot.create(&format!("{UNNAMED_PREFIX}{number}")) {
                    Ok(file) => break (file, What::Numbered(number)),
                    Err(Errno::EXIST) => {}
                    Err(Errno::NOSPC | Errno::DQUOT) if self.drop_oldest(&slot, StageId::of(""))? => {}
                    Err(errno) => return Err(refuse_slot(errno)),
                }
            },
        };
        Ok(self.new_stage(slot, file, Owner::new(), what, 0, size, None))
    }

    /// Whether a classic `put` to `name` can succeed. (It does not matter whether the name is taken.)
    ///
    /// # Errors
    /// `read-only`, `denied`.
    pub fn check_put(&self, name: Name<'_>) -> Result<(), Refusal> {
        self.check_change(name)
    }

    /// How long the writer of `name` has received nothing; `None` if there is no writer.
    #[must_use]
    pub fn stage_owner_silent_for(&self, name: Name<'_>) -> Option<Duration> {
        self.0.owners.silent_for(StageId::of(name.as_str()))
    }

    /// Takes the stage of `name` from its writer if the writer has received nothing for `patience`: the staged bytes
    /// stay, and the writer appends and commits nothing more. True if `name` has no writer now.
    #[must_use]
    pub fn take_over(&self, name: Name<'_>, patience: Duration) -> bool {
        self.0.owners.take_over(StageId::of(name.as_str()), patience)
    }

    /// Appends `bytes` and returns how many were accepted, at least one.
    ///
    /// # Errors
    /// `busy` if another writer has taken over: drop the stage. `no-space`, `io`; `range` beyond the stage's size.
    pub fn append(&self, stage: &mut Stage, bytes: &[u8]) -> Result<usize, Refusal> {
        let mut writing = stage.writing()?;
        let len = usize::try_from(writing.room()).map_or(bytes.len(), |room| room.min(bytes.len()));
        if len == 0 {
            return if bytes.is_empty() { Ok(0) } else { Err(ErrorCode::Range.into()) };
        }
        self.check_append(writing.stage, len as u64)?;
        let n = loop {
            match writing.file().write_at(&bytes[..len], writing.offset()) {
                Ok(0) => return Err(ErrorCode::Io.into()),
                Ok(n) => break n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(refuse_io(&error)),
            }
        };
        writing.appended(n as u64);
        Ok(n)
    }

    /// Whether the room for `len` bytes, which was promised to the stage, is still there.
    pub(super) fn check_append(&self, stage: &Stage, len: u64) -> Result<(), Refusal> {
        if let Some(promise) = stage.promise.as_ref().filter(|promise| promise.is_lent())
            && !self.0.room.has_beside(self.0.confine.root(), stage.slot.staged(), len, promise).map_err(refuse)?
        {
            return Err(Refusal::new(ErrorCode::NoSpace, "too slow: the room was needed for others"));
        }
        Ok(())
    }

    /// Drops the staged bytes; does nothing if another writer has taken them over.
    pub fn discard(&self, mut stage: Stage) {
        // No takeover in between: either this writer holds the stage, or it has lost it already.
        if !stage.done && stage.owner.begin().is_ok() {
            stage.remove();
            stage.done = true;
            stage.owner.finish();
        }
    }

    /// Opens the file of a stage. The caller is its writer.
    fn open_stage(
        &self,
        slot: &Slot,
        (id, owner): (StageId, StageOwner),
        writer: &Owner,
        offset: u64,
        size: u64,
        known: Option<Known>,
    ) -> Result<(std::fs::File, u32), Refusal> {
        let there = slot.owner_of(id);
        let name = id.file_name(owner);
        let name = name.as_str();
        if offset > 0 {
            if there != owner {
                return Err(ErrorCode::Mismatch.into());
            }
            let (file, meta) = slot.open(name).map_err(|errno| match errno {
                Errno::NOENT => ErrorCode::Mismatch.into(),
                errno => refuse(errno),
            })?;
            if meta.size() != offset {
                return Err(ErrorCode::Mismatch.into());
            }
            self.make_room(slot, id, size - offset, 0)?;
            if let Some((_, crc)) = known.filter(|&(len, _)| len == offset) {
                return Ok((file, crc));
            }
            // Reading may take longer than another writer's patience.
            writer.begin()?;
            let mut sum = Sum::new(file, offset);
            let mut buffer = Vec::new();
            let read = loop {
                match sum.piece(&mut buffer) {
                    Ok(true) => {}
                    read => break read,
                }
            };
            writer.finish();
            read?;
            return Ok((sum.file, sum.crc.value()));
        }
        if slot.has_most_names() {
            self.drop_oldest(slot, id)?;
        }
        if there != owner {
            self.clear_stage(slot, id, there, size)?;
            slot.set_owner(id, owner);
        }
        loop {
            match slot.create(name) {
                Ok(file) => {
                    self.make_room(slot, id, size, 0).inspect_err(|_| _ = slot.remove(name))?;
                    slot.count_name();
                    return Ok((file, 0));
                }
                Err(Errno::EXIST) => break,
                // No inode is free, or there is no room for the name.
                Err(Errno::NOSPC | Errno::DQUOT) if self.drop_oldest(slot, id)? => {}
                Err(errno) => return Err(refuse_slot(errno)),
            }
        }
        // A new file, not the old one cut: its old bytes cost nothing, and no one who read them sees them change.
        self.clear_stage(slot, id, owner, size)?;
        Ok((slot.create(name).map_err(refuse)?, 0))
    }

    /// Removes the bytes that `owner` has staged, if any, for a write of `size` bytes that begins from the start.
    fn clear_stage(&self, slot: &Slot, id: StageId, owner: StageOwner, size: u64) -> Result<(), Refusal> {
        let name = id.file_name(owner);
        let Ok(meta) = Meta::at(slot, name.as_str()) else { return Ok(()) };
        self.make_room(slot, id, size, meta.size())?;
        slot.remove(name.as_str()).map_err(refuse)?;
        slot.unstage(meta.size());
        self.0.room.ask_again();
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a stage")]
    fn new_stage(
        &self,
        slot: Arc<Slot>,
        file: std::fs::File,
        owner: Arc<Owner>,
        what: What,
        len: u64,
        size: u64,
        mtime: Option<u64>,
    ) -> Stage {
        let promise = self.0.room.promise(size - len);
        let order = self.0.serial.fetch_add(1, Ordering::Relaxed);
        let store = self.clone();
        let (resumed, synced, done) = (len > 0, false, false);
        Stage { store, slot, file, owner, what, len, size, mtime, order, resumed, synced, done, promise }
    }

    /// See [`Inner::claimed`].
    fn slot(&self) -> Result<Arc<Slot>, Refusal> {
        self.0.claimed().map_err(|errno| match errno {
            Errno::NOENT => Refusal::new(ErrorCode::Io, "the directory that is served has been removed"),
            _ => refuse(errno),
        })
    }

    /// Whether [`DirStore::make_room`] would succeed.
    fn check_room(&self, slot: &Slot, id: StageId, need: u64, freed: u64) -> Result<(), Refusal> {
        let short = self.0.room.missing(self.0.confine.root(), slot.staged(), need, freed).map_err(refuse)?;
        if short > slot.staged() || (short > 0 && self.droppable(slot, id)?.0 < short) {
            return Err(ErrorCode::NoSpace.into());
        }
        Ok(())
    }

    /// Ensures that `need` more bytes can be appended, given that the `freed` bytes now staged for `id` are dropped
    /// first. Drops interrupted writes of other names, oldest first, if that helps.
    fn make_room(&self, slot: &Slot, id: StageId, need: u64, freed: u64) -> Result<(), Refusal> {
        let room = &self.0.room;
        let missing = || room.missing(self.0.confine.root(), slot.staged(), need, freed).map_err(refuse);
        let mut short = missing()?;
        while short > 0 {
            // Nothing is looked through for what could not help.
            if short > slot.staged() {
                return Err(ErrorCode::NoSpace.into());
            }
            let (total, oldest) = self.droppable(slot, id)?;
            if total < short {
                return Err(ErrorCode::NoSpace.into());
            }
            let mut removed = false;
            for (old, size) in oldest {
                if short > 0 && self.0.owners.if_idle(old, || slot.remove_stage(old)) == Some(Ok(())) {
                    removed = true;
                    slot.unstage(size);
                    room.ask_again();
                    short = missing()?;
                }
            }
            if !removed {
                // None of them can be.
                return Err(ErrorCode::NoSpace.into());
            }
        }
        Ok(())
    }

    /// Whether a file could be created in the staging directory, if necessary after [`DirStore::drop_oldest`].
    fn check_inodes(&self, slot: &Slot, id: StageId) -> Result<(), Refusal> {
        let is_full = Room::lacks_inodes(self.0.confine.root()).map_err(refuse)?;
        if is_full && self.droppable(slot, id)?.1.is_empty() { Err(ErrorCode::NoSpace.into()) } else { Ok(()) }
    }

    /// Drops the oldest interrupted writes of names other than that of `id`, a few at once, to free their inodes.
    /// False if there are none.
    pub(super) fn drop_oldest(&self, slot: &Slot, id: StageId) -> Result<bool, Refusal> {
        let (_, oldest) = self.droppable(slot, id)?;
        let mut dropped = false;
        for (old, size) in oldest {
            if self.0.owners.if_idle(old, || slot.remove_stage(old)) == Some(Ok(())) {
                slot.unstage(size);
                dropped = true;
            }
        }
        self.0.room.ask_again();
        Ok(dropped)
    }

    /// Makes room for a new directory or name by [`DirStore::drop_oldest`].
    pub(super) fn make_inodes(&self) -> bool {
        self.slot().and_then(|slot| self.drop_oldest(&slot, StageId::of(""))).unwrap_or(false)
    }

    /// Interrupted writes that could be dropped for a write of `id`: their total bytes, and some of them, oldest first.
    fn droppable(&self, slot: &Slot, id: StageId) -> Result<(u64, Vec<(StageId, u64)>), Refusal> {
        slot.oldest(|other| other != id && self.0.owners.is_idle(other)).map_err(refuse)
    }
}

impl Inner {
    /// The staging directory: claimed at the first call, and again if it was removed while the server runs.
    pub(super) fn claimed(&self) -> Result<Arc<Slot>, Errno> {
        let root = self.confine.root();
        let mut claimed = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = claimed.as_ref().filter(|slot| !slot.is_gone(root)) {
            return Ok(slot.clone());
        }
        let slot = Slot::claim(root, self.options.stage_age)?;
        // Known facts about stages concerned those in another directory.
        self.owners.forget_sums();
        Ok(claimed.insert(Arc::new(slot)).clone())
    }
}

/// The answer for a file that can't be created in the staging directory.
fn refuse_slot(errno: Errno) -> Refusal {
    match errno {
        Errno::NOENT => Refusal::new(ErrorCode::Io, "the staging directory has just been removed"),
        _ => refuse(errno),
    }
}

/// Staged bytes whose checksum is being computed.
#[derive(Debug)]
pub struct Staged {
    id: StageId,
    entered: u64,
    /// `None` if there are no staged bytes to continue from.
    sum: Option<Sum>,
}

impl Staged {
    /// The number of staged bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a length in bytes, not a collection")]
    pub fn len(&self) -> u64 {
        self.sum.as_ref().map_or(0, |sum| sum.len)
    }
}

/// The CRC-32C of the first `len` bytes of a file.
#[derive(Debug)]
struct Sum {
    file: std::fs::File,
    len: u64,
    done: u64,
    crc: Crc32c,
}

impl Sum {
    const fn new(file: std::fs::File, len: u64) -> Self {
        Self { file, len, done: 0, crc: Crc32c::new() }
    }

    /// Reads the next bytes into `buffer`, which lasts for a turn only; false if there are none left.
    fn piece(&mut self, buffer: &mut Vec<u8>) -> Result<bool, Refusal> {
        let left = usize::try_from(self.len - self.done).map_or(SUM_BUFFER, |left| left.min(SUM_BUFFER));
        if left == 0 {
            return Ok(false);
        }
        buffer.resize(left, 0);
        let n = read_at(&self.file, self.done, buffer)?;
        if n == 0 {
            return Err(ErrorCode::Io.into());
        }
        self.crc.update(&buffer[..n]);
        self.done += n as u64;
        Ok(true)
    }
}
