//! Commits: make the files durable, rename each, then make the directories durable.
//!
//! This order keeps the guarantee of PROTOCOL §7 when power fails: no name refers to bytes that are not on the disk,
//! and no answer is given before the name is on the disk, too. Several files share the cost: one call before the
//! renames and one after them make everything on the file system durable.

use std::fs::File;
use std::io::{Seek, SeekFrom};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, fchmod, fchown, futimens, openat, renameat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use skiff_proto::name::Name;
use skiff_proto::store::Stat;
use skiff_proto::{ErrorCode, Refusal};

use super::DirStore;
use super::confine::{Directory, Place};
use super::link::{link_nameless, rename_new};
use super::meta::Meta;
use super::parents::Parents;
use super::refusal::{refuse, refuse_io};
use super::stage::{Stage, What};

/// Up to this number, files are made durable one by one. One call for everything also waits for the writes of other
/// programs; on an idle ext4, 4 files one by one took 1.6 ms, and 6 together 1.1 ms.
const FEW: usize = 4;

/// How often to create directories again that others remove at the same time.
const TRIES: u32 = 256;

/// One file of a batch.
struct Item<'a> {
    stage: &'a mut Stage,
    crc: Option<u32>,
    /// The index of its directory, or why it is not stored.
    parent: Result<usize, Refusal>,
}

impl DirStore {
    /// Puts one stage in place: [`Store::commit`](skiff_proto::store::Store::commit). A replaced file's
    /// permissions are kept; a link is replaced, not its target.
    ///
    /// # Errors
    /// `is-directory`, `denied`, `exists` if a parent is a file, `no-space`, `io`; `busy` if another writer has taken
    /// over. Only `io` of the last step, when the directory can't be made durable, leaves the new file in place.
    pub fn commit(&self, stage: &mut Stage, crc: Option<u32>) -> Result<Stat, Refusal> {
        self.commit_all(core::iter::once((stage, crc))).pop().unwrap_or_else(|| Err(ErrorCode::Io.into()))
    }

    /// Puts several stages in place together, in order, and returns when all are durable. Returns the answers in the
    /// same order. A refused stage is discarded and does not prevent the others, unless the disk fails.
    ///
    /// It holds one open file per stage and one per directory.
    #[must_use]
    pub fn commit_batch(&self, mut stages: Vec<(Stage, Option<u32>)>) -> Vec<Result<Stat, Refusal>> {
        let answers = self.commit_all(stages.iter_mut().map(|(stage, crc)| (stage, *crc)));
        for ((stage, _), answer) in stages.into_iter().zip(&answers) {
            if answer.is_err() {
                self.discard(stage);
            }
        }
        answers
    }

    /// Puts an unnamed stage in place under `name`, in one step that fails if anything has the name:
    /// [`Store::commit_new`](skiff_proto::store::Store::commit_new).
    ///
    /// # Errors
    /// `exists`: try the next number with the same stage. Otherwise as [`DirStore::commit`], and `read-only`.
    pub fn commit_new(&self, stage: &mut Stage, name: Name<'_>) -> Result<Stat, Refusal> {
        self.check_change(name)?;
        if stage.done || matches!(stage.what, What::Named(..)) {
            return Err(Refusal::new(ErrorCode::Io, "not an unnamed stage"));
        }
        let using = self.0.moves.enter([name]);
        let mut parents = Parents::new(self);
        let put = self.put_new(stage, name, &mut parents);
        if put.is_err() {
            parents.unmake();
        }
        put?;
        drop(using);
        let synced = parents.sync(None);
        let stat = self.finish(stage, None);
        synced.map_err(sync_refused).map(|()| stat)
    }

    fn put_new(&self, stage: &mut Stage, name: Name<'_>, parents: &mut Parents<'_>) -> Result<(), Refusal> {
        // The first look spares the disk; the link itself is what decides.
        let parent = parents.open_or_make(name.parent())?;
        if !matches!(self.0.confine.place(parents.at(parent), name).map_err(refuse)?, Place::Free) {
            return Err(ErrorCode::Exists.into());
        }
        parents.inherited(parent).give(&stage.file);
        if !stage.synced {
            self.0.sync.data(&stage.file).map_err(sync_refused)?;
            stage.synced = true;
        }
        match self.link(stage, parents.at(parent), name.file_name()) {
            Err(Errno::XDEV) => {
                let copy = self.copy_over(stage, parents.at(parent), None)?;
                let dir = parents.at(parent);
                rename_new(dir, &copy, dir, name.file_name(), self.0.confine.is_native()).map_err(|errno| {
                    _ = unlinkat(dir, &copy, AtFlags::empty());
                    refuse(errno)
                })?;
            }
            linked => linked.map_err(refuse)?,
        }
        parents.change(parent);
        Ok(())
    }

    fn commit_all<'a>(&self, stages: impl Iterator<Item = (&'a mut Stage, Option<u32>)>) -> Vec<Result<Stat, Refusal>> {
        let stages: Vec<_> = stages.collect();
        let using = self.0.moves.enter(stages.iter().filter_map(|(stage, _)| stage.name()));
        let mut parents = Parents::new(self);
        // From `begin` on, no other writer takes a stage over.
        let mut items: Vec<Item<'a>> = stages
            .into_iter()
            .map(|(stage, crc)| {
                let parent = if stage.done { Err(ErrorCode::Io.into()) } else { stage.owner.begin() };
                let began = parent.is_ok();
                let parent = parent.and_then(|()| self.prepare(stage, &mut parents));
                if began && parent.is_err() {
                    stage.owner.finish();
                }
                Item { stage, crc, parent }
            })
            .collect();
        let everything = self.sync_data(&mut items);
        for item in &mut items {
            if let Ok(parent) = item.parent {
                match self.put_or_remake(item.stage, parent, &mut parents) {
                    Ok(parent) => parents.change(parent),
                    Err(refusal) => item.refuse(refusal),
                }
            }
        }
        if items.iter().any(|item| item.parent.is_err()) {
            parents.unmake();
        }
        drop(using);
        let synced = parents.sync(everything.as_ref());
        items
            .into_iter()
            .map(|item| {
                item.parent?;
                let stat = self.finish(item.stage, item.crc);
                // Not durable: the name refers to the new file, but a power cut may bring the old one back.
                synced.map_err(sync_refused).map(|()| stat)
            })
            .collect()
    }

    /// Finds the directory for a stage, and sets the times and permissions of the file.
    fn prepare(&self, stage: &Stage, parents: &mut Parents<'_>) -> Result<usize, Refusal> {
        let name = name_of(stage)?;
        let parent = parents.open_or_make(name.parent())?;
        let replaced = self.replaced(parents.at(parent), name)?;
        if replaced.is_none() {
            parents.inherited(parent).give(&stage.file);
        }
        dress(&stage.file, replaced.as_ref(), stage.mtime);
        Ok(parent)
    }

    /// The file that a commit to `name` will replace.
    fn replaced(&self, dir: &Directory<'_>, name: Name<'_>) -> Result<Option<Meta>, Refusal> {
        match self.0.confine.place(dir, name).map_err(refuse)? {
            Place::Free | Place::Dangling => Ok(None),
            Place::File(meta) | Place::Link(meta) => Ok(Some(meta)),
            Place::Directory => Err(ErrorCode::IsDirectory.into()),
            Place::Foreign => Err(ErrorCode::Denied.into()),
        }
    }

    /// Makes the staged bytes durable. If that was done for the whole file system, returns the file with which it can
    /// be done again.
    fn sync_data(&self, items: &mut [Item<'_>]) -> Option<File> {
        let syncer = &self.0.sync;
        let ready = items.iter().filter(|item| item.parent.is_ok()).count();
        let whole = ready > FEW && syncer.has_everything();
        for item in items.iter_mut().filter(|item| item.parent.is_ok()) {
            // Bytes appended before this stage was opened may have failed to reach the disk then: only a sync of this file
            // reports that.
            if !whole || item.stage.resumed {
                match syncer.data(&item.stage.file) {
                    Ok(()) => item.stage.synced = true,
                    Err(errno) => item.refuse(sync_refused(errno)),
                }
            }
        }
        if !whole {
            return None;
        }
        // The stage that was opened first gets every error since then.
        let oldest = items.iter().filter(|item| item.parent.is_ok()).min_by_key(|item| item.stage.order)?;
        match syncer.everything(&oldest.stage.file) {
            Ok(()) => oldest.stage.file.try_clone().ok(),
            Err(errno) => {
                items.iter_mut().filter(|item| item.parent.is_ok()).for_each(|item| item.refuse(sync_refused(errno)));
                None
            }
        }
    }

    /// Renames a stage to its name; if the open directory has been removed, in a new one. Returns the directory.
    fn put_or_remake(&self, stage: &mut Stage, mut parent: usize, parents: &mut Parents<'_>) -> Result<usize, Refusal> {
        for _ in 0..TRIES {
            match self.put(stage, parents.at(parent)) {
                Err(refusal) if refusal.code == ErrorCode::NotFound => {
                    parents.forget();
                    parent = parents.open_or_make(name_of(stage)?.parent())?;
                }
                put => return put.map(|()| parent),
            }
        }
        Err(Refusal::new(ErrorCode::Io, "the directory or the staged bytes keep being removed"))
    }

    /// Renames a stage to its name.
    fn put(&self, stage: &mut Stage, dir: &Directory<'_>) -> Result<(), Refusal> {
        let name = name_of(stage)?;
        // Again: something may have taken the name meanwhile.
        let replaced = self.replaced(dir, name)?;
        let renamed = stage.with_path(|path| renameat(&stage.slot, path, dir, name.file_name()));
        match renamed.unwrap_or(Err(Errno::INVAL)) {
            Err(Errno::XDEV) => {
                let name = name.file_name().to_owned();
                let copy = self.copy_over(stage, dir, replaced.as_ref())?;
                renameat(dir, &copy, dir, &name).map_err(|errno| {
                    _ = unlinkat(dir, &copy, AtFlags::empty());
                    refuse(errno)
                })
            }
            renamed => renamed.map_err(refuse),
        }
    }

    /// Copies a stage, durably, to a directory on another file system, from where it can be renamed. Returns the name
    /// of the copy. From then on, the copy is the stage.
    fn copy_over(&self, stage: &mut Stage, dir: &Directory<'_>, replaced: Option<&Meta>) -> Result<String, Refusal> {
        if stage.slot.is_gone(self.0.confine.root()) {
            return Err(Refusal::new(ErrorCode::Io, "the staging directory has been removed"));
        }
        // No other running store has the number, so a file of this name is a leftover.
        let path = stage.with_path(str::to_owned).unwrap_or_else(|| format!("new-{}", stage.order));
        let copy = format!(".skiff-{}-{path}", stage.slot.number());
        match unlinkat(dir, &copy, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(refuse(errno)),
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(dir, &copy, flags, Mode::from_raw_mode(0o666)).map_err(refuse)?);
        let copied = stage.file.seek(SeekFrom::Start(0)).and_then(|_| std::io::copy(&mut stage.file, &mut file));
        let durable = copied.map_err(|error| refuse_io(&error)).and_then(|_| {
            dress(&file, replaced, stage.mtime);
            self.0.sync.data(&file).map_err(sync_refused)
        });
        if let Err(refusal) = durable {
            _ = unlinkat(dir, &copy, AtFlags::empty());
            return Err(refusal);
        }
        _ = stage.with_path(|path| stage.slot.remove(path));
        stage.file = file;
        Ok(copy)
    }

    /// Gives an unnamed stage its name, if nothing has it.
    fn link(&self, stage: &Stage, dir: &Directory<'_>, name: &str) -> Result<(), Errno> {
        match stage.with_path(|path| rename_new(&*stage.slot, path, dir, name, self.0.confine.is_native())) {
            Some(renamed) => renamed,
            None => link_nameless(&stage.file, dir, name),
        }
    }

    /// Finishes the accounting for a stage that is in place.
    fn finish(&self, stage: &mut Stage, crc: Option<u32>) -> Stat {
        stage.done = true;
        stage.owner.finish();
        stage.leave_slot();
        if let What::Named(_, id, _) = stage.what {
            self.0.owners.leave(id, &stage.owner, || {});
        }
        // After the rename: that counts as a change of the file.
        Meta::of(&stage.file).map_or(Stat { size: stage.len, mtime: None, crc }, |meta| {
            self.note_crc(&meta.key, crc);
            meta.stat(crc)
        })
    }
}

impl Item<'_> {
    fn refuse(&mut self, refusal: Refusal) {
        self.stage.owner.finish();
        self.parent = Err(refusal);
    }
}

fn name_of(stage: &Stage) -> Result<Name<'_>, Refusal> {
    stage.name().ok_or(Refusal::new(ErrorCode::Io, "a stage without a name"))
}

/// The answer when something could not be made durable.
fn sync_refused(errno: Errno) -> Refusal {
    match errno {
        // Network file systems find out only now.
        Errno::NOSPC | Errno::DQUOT => ErrorCode::NoSpace.into(),
        _ => Refusal::new(ErrorCode::Io, "the file could not be written to the disk"),
    }
}

/// Gives a file the permissions (and, as far as the system permits, the owner) of the file that it replaces, and its
/// time. Failures are ignored, because the content matters more.
fn dress(file: &File, replaced: Option<&Meta>, mtime: Option<u64>) {
    if let Some(old) = replaced
        && let Ok(new) = Meta::of(file)
    {
        let owner = (old.uid != new.uid && geteuid().is_root()).then(|| Uid::from_raw(old.uid));
        let group = (old.gid != new.gid).then(|| Gid::from_raw(old.gid));
        if owner.is_some() || group.is_some() {
            _ = fchown(file, owner, group);
        }
        if old.mode != new.mode {
            _ = fchmod(file, Mode::from_raw_mode(old.mode as rustix::fs::RawMode));
        }
    }
    if let Some(seconds) = mtime.and_then(|mtime| i64::try_from(mtime).ok()) {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
            last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 },
        };
        _ = futimens(file, &times);
    }
}
