//! Remove, rename, mkdir and rmdir: each change is durable when the call returns.

use std::fs::File;
use std::os::fd::AsFd as _;

use rustix::fs::{Access, AtFlags, Dir, Mode, OFlags, accessat, openat, renameat, unlinkat};
use rustix::io::Errno;
use skiff_proto::name::{Name, RESERVED_PREFIX};
use skiff_proto::{ErrorCode, Refusal};

use super::DirStore;
use super::confine::{Confine, Directory, Place};
use super::link::rename_directory;
use super::meta::{Kind, Meta};
use super::parents::Parents;
use super::refusal::{refuse, refuse_parent};
use super::slot::Slot;

const OTHER_FILE_SYSTEM: Refusal =
    Refusal::new(ErrorCode::Denied, "the two names are on different file systems of the server");

/// A change to the names of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<N> {
    /// [`DirStore::remove`]
    Remove(N),
    /// [`DirStore::rename`], from and to.
    Rename(N, N),
    /// [`DirStore::mkdir`]
    Mkdir(N),
    /// [`DirStore::rmdir`]
    Rmdir(N),
}

impl<N> Change<N> {
    /// The same change with each name converted by `name`.
    pub fn map<'n, M>(&'n self, name: impl Fn(&'n N) -> M) -> Change<M> {
        match self {
            Self::Remove(file) => Change::Remove(name(file)),
            Self::Rename(from, to) => Change::Rename(name(from), name(to)),
            Self::Mkdir(dir) => Change::Mkdir(name(dir)),
            Self::Rmdir(dir) => Change::Rmdir(name(dir)),
        }
    }
}

impl<'n> Change<Name<'n>> {
    /// The names that the change affects.
    fn names(self) -> impl Iterator<Item = Name<'n>> {
        let (one, other) = match self {
            Self::Rename(from, to) => (from, Some(to)),
            Self::Remove(name) | Self::Mkdir(name) | Self::Rmdir(name) => (name, None),
        };
        core::iter::once(one).chain(other)
    }
}

const INTO_ITSELF: Refusal = Refusal::new(ErrorCode::IsDirectory, "a directory can't be moved into itself");

const LINK_ELSEWHERE: Refusal =
    Refusal::new(ErrorCode::Denied, "a symbolic link would point elsewhere in another directory");

impl DirStore {
    /// Executes several changes in order, each seeing the effect of the previous ones, and returns when all are
    /// durable. Returns the answers in the same order. A refused change does not prevent the others.
    #[must_use]
    pub fn change_batch(&self, changes: &[Change<Name<'_>>]) -> Vec<Result<(), Refusal>> {
        let mut parents = Parents::new(self);
        // Opened before anything is changed, to get every write error from then on.
        let everything = if changes.len() > 1 { self.sync_file() } else { None };
        let mut answers: Vec<_> = changes.iter().map(|change| self.change(*change, &mut parents)).collect();
        if let Err(errno) = parents.sync(everything.as_ref()) {
            answers.iter_mut().filter(|answer| answer.is_ok()).for_each(|answer| *answer = Err(refuse(errno)));
        }
        answers
    }

    /// Removes a file. If it is a link, removes the link.
    ///
    /// # Errors
    /// `not-found`, `is-directory`, `read-only`, `denied`, `io`.
    pub fn remove(&self, name: Name<'_>) -> Result<(), Refusal> {
        self.change_one(Change::Remove(name))
    }

    /// Renames a file and replaces `to` in one step; or a directory, which replaces nothing. Missing parents of `to` are
    /// created. A link stays a link, and can't move to another directory, where it would point elsewhere.
    ///
    /// # Errors
    /// `not-found`; `exists` if a parent of `to` is a file, or `to` is a file and `from` a directory; `is-directory` if `to`
    /// is one, if `from` is a link to one, and if `to` lies in `from`; `busy` if storing files below the directory takes too
    /// long; `read-only`, `denied`, `io`, `no-space`.
    pub fn rename(&self, from: Name<'_>, to: Name<'_>) -> Result<(), Refusal> {
        self.change_one(Change::Rename(from, to))
    }

    /// Creates a directory. Its parent must exist.
    ///
    /// # Errors
    /// `exists` if there is anything of this name, or the parent is a file; `not-found` if the parent does not exist;
    /// `read-only`, `denied`, `no-space`, `io`.
    pub fn mkdir(&self, name: Name<'_>) -> Result<(), Refusal> {
        self.change_one(Change::Mkdir(name))
    }

    /// Removes an empty directory; not a link to one.
    ///
    /// # Errors
    /// `not-found`, also if it is not a directory; `not-empty`, `read-only`, `denied`, `io`.
    pub fn rmdir(&self, name: Name<'_>) -> Result<(), Refusal> {
        self.change_one(Change::Rmdir(name))
    }

    fn change_one(&self, change: Change<Name<'_>>) -> Result<(), Refusal> {
        let mut parents = Parents::new(self);
        let changed = self.change(change, &mut parents);
        // Also after a refusal: that may have come when something was made already.
        let synced = parents.sync(None).map_err(refuse);
        changed.and(synced)
    }

    /// A file for making everything durable, if one call can do that.
    fn sync_file(&self) -> Option<File> {
        if !self.0.sync.has_everything() {
            return None;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = self.0.confine.directory(None).ok()?;
        openat(&root, ".", flags, Mode::empty()).ok().map(File::from)
    }

    /// Executes one change; the directories that it touches are not durable yet.
    fn change(&self, change: Change<Name<'_>>, parents: &mut Parents<'_>) -> Result<(), Refusal> {
        let using = self.0.moves.enter(change.names());
        parents.refresh();
        let changed = self.carry_out(change, parents, false);
        settle(changed, parents);
        match (change, changed) {
            // It renames a directory.
            (Change::Rename(from, to), Err(refusal))
                if refusal.code == ErrorCode::IsDirectory && self.is_directory(from) =>
            {
                drop(using);
                self.change_alone(change, [from, to], parents)
            }
            _ => changed,
        }
    }

    /// Renames a directory while no other change acts in it.
    fn change_alone(
        &self,
        change: Change<Name<'_>>,
        [from, to]: [Name<'_>; 2],
        parents: &mut Parents<'_>,
    ) -> Result<(), Refusal> {
        let _moving = self.0.moves.begin(from, to)?;
        parents.refresh();
        let changed = self.carry_out(change, parents, true);
        settle(changed, parents);
        changed
    }

    /// Whether a `rename` of this name renames a directory. A link to a directory does not count.
    fn is_directory(&self, name: Name<'_>) -> bool {
        let parent = self.0.confine.directory(name.parent());
        parent.and_then(|parent| Meta::at(&parent, name.file_name())).is_ok_and(|meta| meta.kind == Kind::Directory)
    }

    /// With `moves_directory`, no other change uses the two names of a `rename` or any name below them.
    fn carry_out(
        &self,
        change: Change<Name<'_>>,
        parents: &mut Parents<'_>,
        moves_directory: bool,
    ) -> Result<(), Refusal> {
        match change {
            Change::Remove(name) => {
                self.check_removal(name)?;
                let parent = parents.open(name.parent()).map_err(refuse)?;
                self.present(parents.at(parent), name)?;
                unlinkat(parents.at(parent), name.file_name(), AtFlags::empty()).map_err(refuse)?;
                self.0.room.ask_again();
                parents.change(parent);
                Ok(())
            }
            Change::Rename(from, to) => {
                self.check_removal(from)?;
                self.check_change(to)?;
                let source = parents.open(from.parent()).map_err(refuse)?;
                if moves_directory && self.has_directory(parents.at(source), from)? {
                    return self.move_directory(parents, source, from, to);
                }
                let moved = self.present(parents.at(source), from)?;
                self.rename_to(parents, source, from, to, &moved)
            }
            Change::Mkdir(name) => {
                self.check_change(name)?;
                let parent = parents.open(name.parent()).map_err(refuse_parent)?;
                parents.make(parent, name.file_name()).map_err(refuse)
            }
            Change::Rmdir(name) => {
                self.check_removal(name)?;
                let parent = parents.open(name.parent()).map_err(refuse)?;
                self.remove_directory(parents.at(parent), name)?;
                parents.change(parent);
                // It may be one of those that are open.
                parents.forget();
                Ok(())
            }
        }
    }

    fn rename_to(
        &self,
        parents: &mut Parents<'_>,
        source: usize,
        from: Name<'_>,
        to: Name<'_>,
        moved: &Meta,
    ) -> Result<(), Refusal> {
        let target = parents.open_or_make(to.parent())?;
        let (old, new) = (parents.at(source), parents.at(target));
        match self.0.confine.place(new, to).map_err(refuse)? {
            Place::Free | Place::Dangling | Place::File(_) | Place::Link(_) => {}
            Place::Directory => return Err(ErrorCode::IsDirectory.into()),
            Place::Foreign => return Err(ErrorCode::Denied.into()),
        }
        // The target of a link is relative to the directory of the link.
        if moved.kind == Kind::Link && from.parent() != to.parent() {
            return Err(LINK_ELSEWHERE);
        }
        renameat(old, from.file_name(), new, to.file_name()).map_err(|errno| match errno {
            Errno::XDEV => OTHER_FILE_SYSTEM,
            errno => refuse(errno),
        })?;
        // Two hard links to one file: rename succeeds and leaves both (POSIX). But not one link by two ways to it, nor by two
        // spellings of its name.
        if moved.links > 1
            && Meta::at(old, from.file_name()).is_ok_and(|left| left.key.same_file(&moved.key))
            && (from.file_name() != to.file_name() || !same(old, new))
            && Confine::are_entries([(old, from.file_name()), (new, to.file_name())]).map_err(refuse)?
        {
            unlinkat(old, from.file_name(), AtFlags::empty()).map_err(refuse)?;
        }
        // The new name first: a power cut in between leaves two names rather than none.
        parents.change(target);
        parents.change(source);
        Ok(())
    }

    /// Renames a directory.
    fn move_directory(
        &self,
        parents: &mut Parents<'_>,
        source: usize,
        from: Name<'_>,
        to: Name<'_>,
    ) -> Result<(), Refusal> {
        let mut above = core::iter::successors(to.parent(), |name| name.parent());
        if above.any(|above| above == from) {
            return Err(INTO_ITSELF);
        }
        let target = parents.open_or_make(to.parent())?;
        let (old, new) = (parents.at(source), parents.at(target));
        match self.0.confine.place(new, to).map_err(refuse)? {
            Place::Free => {}
            Place::Directory => return Err(ErrorCode::IsDirectory.into()),
            Place::File(_) | Place::Link(_) | Place::Dangling => return Err(ErrorCode::Exists.into()),
            Place::Foreign => return Err(ErrorCode::Denied.into()),
        }
        let native = self.0.confine.is_native();
        rename_directory(old, from.file_name(), new, to.file_name(), native).map_err(|errno| match errno {
            // Through a link or another mount.
            Errno::INVAL => INTO_ITSELF,
            Errno::XDEV => OTHER_FILE_SYSTEM,
            // Another program was faster.
            Errno::NOTEMPTY | Errno::ISDIR => ErrorCode::IsDirectory.into(),
            Errno::NOTDIR => ErrorCode::Exists.into(),
            errno => refuse(errno),
        })?;
        parents.change(target);
        parents.change(source);
        Ok(())
    }

    fn remove_directory(&self, parent: &Directory<'_>, name: Name<'_>) -> Result<(), Refusal> {
        let is_named = |meta| self.0.confine.is_name(parent, name.file_name(), &meta);
        if !Meta::at(parent, name.file_name()).and_then(is_named).map_err(refuse)? {
            return Err(ErrorCode::NotFound.into());
        }
        let remove = || unlinkat(parent, name.file_name(), AtFlags::REMOVEDIR);
        let removed = match remove() {
            Err(Errno::NOTEMPTY | Errno::EXIST) if self.remove_leftovers(name) => remove(),
            removed => removed,
        };
        removed.map_err(|errno| match errno {
            Errno::EXIST | Errno::NOTEMPTY => {
                self.log_unsendable(name);
                ErrorCode::NotEmpty.into()
            }
            errno => refuse(errno),
        })
    }

    /// Removes what stores left in a directory, if nothing else is in it: copies of stages after a power cut, because it is
    /// on another file system, and the checksums that a store of this directory has saved.
    fn remove_leftovers(&self, name: Name<'_>) -> bool {
        let leftovers = || -> Result<Vec<String>, Errno> {
            let mut leftovers = Vec::new();
            for entry in Dir::read_from(&self.0.confine.directory(Some(name))?)? {
                match entry?.file_name().to_str() {
                    Ok("." | "..") => {}
                    Ok(entry) if entry.starts_with(RESERVED_PREFIX) && leftovers.len() < 64 => {
                        leftovers.push(entry.to_owned());
                    }
                    _ => return Ok(Vec::new()),
                }
            }
            Ok(leftovers)
        };
        let (Ok(leftovers), Ok(dir)) = (leftovers(), self.0.confine.directory(Some(name))) else { return false };
        !leftovers.is_empty()
            && leftovers
                .iter()
                .all(|entry| unlinkat(&dir, entry, AtFlags::empty()).is_ok() || Slot::remove_ended(dir.as_fd(), entry))
    }

    /// Whether a directory, and no link to one, is at `name` now.
    fn has_directory(&self, parent: &Directory<'_>, name: Name<'_>) -> Result<bool, Refusal> {
        let is_directory = matches!(self.0.confine.place(parent, name).map_err(refuse)?, Place::Directory);
        Ok(is_directory && Meta::at(parent, name.file_name()).map_err(refuse)?.kind == Kind::Directory)
    }

    /// The file that is at `name` now, or that a link there leads to.
    fn present(&self, parent: &Directory<'_>, name: Name<'_>) -> Result<Meta, Refusal> {
        match self.0.confine.place(parent, name).map_err(refuse)? {
            Place::File(meta) => Ok(meta),
            Place::Link(_) => Meta::at(parent, name.file_name()).map_err(refuse),
            Place::Directory => Err(ErrorCode::IsDirectory.into()),
            Place::Free | Place::Dangling | Place::Foreign => Err(ErrorCode::NotFound.into()),
        }
    }

    /// Whether `name` can be shown: hidden names are not found.
    pub(super) fn check_read(&self, name: Name<'_>) -> Result<(), Refusal> {
        if name.is_hidden() && !self.0.options.hidden { Err(ErrorCode::NotFound.into()) } else { Ok(()) }
    }

    /// Whether `name` can be removed: hidden names are not found.
    fn check_removal(&self, name: Name<'_>) -> Result<(), Refusal> {
        if self.0.options.read_only {
            return Err(ErrorCode::ReadOnly.into());
        }
        self.check_read(name)
    }

    /// Whether `name` can be created or replaced: hidden names are denied.
    pub(super) fn check_change(&self, name: Name<'_>) -> Result<(), Refusal> {
        if self.0.options.read_only {
            return Err(ErrorCode::ReadOnly.into());
        }
        if name.is_hidden() && !self.0.options.hidden {
            return Err(Refusal::new(ErrorCode::Denied, "hidden names are not allowed here"));
        }
        Ok(())
    }

    /// Whether a `write` to `name` can succeed, before any of its bytes has arrived.
    pub(super) fn check_target(&self, name: Name<'_>) -> Result<(), Refusal> {
        self.check_change(name)?;
        let mut above = name.parent();
        let mut parent = self.0.confine.directory(above);
        if let Ok(parent) = &parent {
            match self.0.confine.place(parent, name).map_err(refuse)? {
                Place::Free | Place::Dangling | Place::File(_) | Place::Link(_) => {}
                Place::Directory => return Err(ErrorCode::IsDirectory.into()),
                Place::Foreign => return Err(ErrorCode::Denied.into()),
            }
        }
        // The directory in which something will be made.
        while let (Err(Errno::NOENT), Some(name)) = (&parent, above) {
            above = name.parent();
            parent = self.0.confine.directory(above);
        }
        accessat(parent.map_err(refuse_parent)?, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty())
            .map_err(refuse)
    }
}

/// The directories that a change has made stay, even if the next one fails; but not if it fails itself.
fn settle(changed: Result<(), Refusal>, parents: &mut Parents<'_>) {
    match changed {
        Ok(()) => parents.keep(),
        Err(_) => parents.unmake(),
    }
}

fn same(one: &Directory<'_>, other: &Directory<'_>) -> bool {
    matches!((Meta::of(one), Meta::of(other)), (Ok(one), Ok(other)) if one.kind == Kind::Directory && one.key.same_file(&other.key))
}
