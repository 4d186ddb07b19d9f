//! The directories of a change: opened once, created if missing, made durable together.

use core::sync::atomic::Ordering;
use std::fs::File;

use rustix::fs::{AtFlags, Mode, mkdirat, unlinkat};
use rustix::io::Errno;
use skiff_proto::name::Name;
use skiff_proto::{ErrorCode, Refusal};

use super::DirStore;
use super::confine::Directory;
use super::inherit::Inherited;
use super::meta::Meta;
use super::refusal::{refuse, refuse_parent};

/// How often to create directories again that others remove at the same time.
const TRIES: u32 = 256;

/// The directories of one change or batch.
#[derive(Debug)]
pub(super) struct Parents<'a> {
    store: &'a DirStore,
    open: Vec<(Option<Box<str>>, Directory<'a>)>,
    /// What new files in them inherit, if that was requested.
    inherited: Vec<(usize, Inherited)>,
    /// Directories to be made durable, in this order.
    changed: Vec<usize>,
    /// New directories: the parent of each, and its name.
    made: Vec<(usize, Box<str>)>,
    /// Some directories that were created before stay.
    kept: bool,
    /// Counted in [`Inner::making`](super::Inner::making).
    making: bool,
    /// How many directories had been renamed when these were opened.
    moved: u64,
}

impl<'a> Parents<'a> {
    pub(super) fn new(store: &'a DirStore) -> Self {
        Self {
            store,
            open: Vec::new(),
            inherited: Vec::new(),
            changed: Vec::new(),
            made: Vec::new(),
            kept: false,
            making: false,
            moved: store.0.moves.moved(),
        }
    }

    /// An open directory.
    pub(super) fn at(&self, index: usize) -> &Directory<'a> {
        &self.open[index].1
    }

    /// What new files in an open directory inherit.
    pub(super) fn inherited(&mut self, index: usize) -> &Inherited {
        let known = self.inherited.iter().position(|(of, _)| *of == index);
        let at = known.unwrap_or_else(|| {
            self.inherited.push((index, Inherited::of(self.at(index))));
            self.inherited.len() - 1
        });
        &self.inherited[at].1
    }

    /// Opens a directory; creates it and its parents if they are missing.
    pub(super) fn open_or_make(&mut self, name: Option<Name<'_>>) -> Result<usize, Refusal> {
        for _ in 0..TRIES {
            let missing = match self.open(name) {
                Err(Errno::NOENT) => name.ok_or(ErrorCode::Io)?,
                opened => return opened.map_err(refuse_parent),
            };
            let above = self.open_or_make(missing.parent())?;
            match self.make(above, missing.file_name()) {
                // EEXIST: another writer was faster. It may not have made it durable yet: `open` finds out.
                Ok(()) | Err(Errno::EXIST) => {}
                // The one above has been removed meanwhile.
                Err(Errno::NOENT) => self.forget(),
                Err(errno) => return Err(refuse(errno)),
            }
        }
        Err(ErrorCode::NotFound.into())
    }

    /// Forgets which directories are open if any has been renamed since: their names may have changed.
    pub(super) fn refresh(&mut self) {
        let moved = self.store.0.moves.moved();
        if moved != self.moved {
            self.moved = moved;
            self.forget();
        }
    }

    /// Forgets which directories are open, because some are gone. Changed directories are still made durable.
    pub(super) fn forget(&mut self) {
        for (path, _) in self.open.iter_mut().filter(|(path, _)| path.is_some()) {
            // No directory has this name.
            *path = Some("".into());
        }
    }

    /// Opens a directory that exists.
    pub(super) fn open(&mut self, name: Option<Name<'_>>) -> Result<usize, Errno> {
        if let Some(index) = self.open.iter().position(|(path, _)| path.as_deref() == name.map(Name::as_str)) {
            return Ok(index);
        }
        let dir = self.store.0.confine.directory(name)?;
        let index = self.open.len();
        self.open.push((name.map(|name| name.as_str().into()), dir));
        // If another thread is making directories, this one or those above it may be among them and not yet
        // durable. What is put into it is only found after a crash if they are.
        if self.store.0.making.load(Ordering::SeqCst) > usize::from(self.making)
            && let Some(name) = name
        {
            let above = self.open(name.parent())?;
            self.change(above);
        }
        Ok(index)
    }

    /// Creates a directory in an open one.
    pub(super) fn make(&mut self, above: usize, name: &str) -> Result<(), Errno> {
        // Counted first: a thread that sees the directory sees the count.
        if !self.making {
            self.making = true;
            self.store.0.making.fetch_add(1, Ordering::SeqCst);
        }
        let mode = Mode::from_raw_mode(0o777);
        while let Err(errno) = mkdirat(self.at(above), name, mode) {
            if !matches!(errno, Errno::NOSPC | Errno::DQUOT) || !self.store.make_inodes() {
                return Err(errno);
            }
        }
        self.made.push((above, name.into()));
        self.change(above);
        Ok(())
    }

    /// Notes that entries of an open directory have changed.
    pub(super) fn change(&mut self, index: usize) {
        if !self.changed.contains(&index) {
            self.changed.push(index);
        }
    }

    /// Keeps the directories created so far.
    pub(super) fn keep(&mut self) {
        self.kept |= !self.made.is_empty();
        self.made.clear();
    }

    /// Removes directories that were created and are not used.
    pub(super) fn unmake(&mut self) {
        let open = &self.open;
        let mut made = core::mem::take(&mut self.made);
        made.reverse();
        made.retain(|(above, name)| unlinkat(&open[*above].1, &**name, AtFlags::REMOVEDIR).is_err());
        self.made = made;
    }

    /// Makes the changes durable: each directory individually or, given a file on the root's file system, all on that
    /// file system with one call.
    pub(super) fn sync(mut self, everything: Option<&File>) -> Result<(), Errno> {
        let syncer = &self.store.0.sync;
        let mut alone = core::mem::take(&mut self.changed);
        if let Some(file) = everything {
            let dev = Meta::of(file)?.dev();
            let is_there = |&index: &usize| Meta::of(&self.open[index].1).is_ok_and(|meta| meta.dev() == dev);
            let (there, elsewhere): (Vec<_>, Vec<_>) = alone.iter().partition(|index| is_there(index));
            if there.len() > 1 {
                syncer.everything(file)?;
                alone = elsewhere;
            }
        }
        alone.iter().try_for_each(|&index| syncer.directory(&self.open[index].1))?;
        // After a failure it is unknown what is durable: the count stays, so other threads sync for themselves.
        if self.making {
            self.making = false;
            self.store.0.making.fetch_sub(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

impl Drop for Parents<'_> {
    fn drop(&mut self) {
        // Nothing was created, or it has been removed again.
        if self.making && self.made.is_empty() && !self.kept {
            self.store.0.making.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
