//! The directories of a run: one on a disk and one on a tmpfs, both removed at the end.
//!
//! Servers that do not run as root write there too, so everyone may write.

use core::cell::{Cell, OnceCell};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::args::Host;
use crate::content::{Content, Many};

/// Bytes of a tiny file: they fit into one block of TFTP.
const TINY: u64 = 500;

/// Bytes of a small file.
const SMALL: u64 = 1024;

/// Bytes of the file that many clients fetch at a time.
const MEDIUM: u64 = 16 << 20;

/// Bytes of the file that is sent over protected connections.
const SEALED: u64 = 512 << 20;

/// One of the two places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Medium {
    Disk,
    Memory,
}

/// The two places, and the files that are created there when a job first needs them.
#[derive(Debug)]
pub(crate) struct Site {
    disk: TempDir,
    memory: TempDir,
    size: u64,
    files: u32,
    big: OnceCell<Content>,
    medium: OnceCell<Content>,
    tiny: OnceCell<Content>,
    sealed: OnceCell<Content>,
    many_disk: OnceCell<Many>,
    many_memory: OnceCell<Many>,
    /// Directories that have been moved out of the way.
    put_away: Cell<u32>,
}

impl Site {
    pub(crate) fn new(args: &Host) -> Result<Self> {
        let disk = args.dir.clone().unwrap_or_else(std::env::temp_dir);
        Ok(Self {
            disk: place(&disk)?,
            memory: place(&args.shm)?,
            size: args.size << 20,
            files: args.files,
            big: OnceCell::new(),
            medium: OnceCell::new(),
            tiny: OnceCell::new(),
            sealed: OnceCell::new(),
            many_disk: OnceCell::new(),
            many_memory: OnceCell::new(),
            put_away: Cell::new(0),
        })
    }

    /// One of the two places.
    pub(crate) fn path(&self, medium: Medium) -> &Path {
        match medium {
            Medium::Disk => self.disk.path(),
            Medium::Memory => self.memory.path(),
        }
    }

    /// The directory that servers serve: `big`, `medium`, `tiny`, `sealed`, `many/` and those of [`Site::file`], as far
    /// as they have been created.
    pub(crate) fn served(&self, medium: Medium) -> Result<PathBuf> {
        self.directory(medium, "served")
    }

    /// A directory that everybody may write to.
    pub(crate) fn directory(&self, medium: Medium, name: &str) -> Result<PathBuf> {
        let path = self.path(medium).join(name);
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        open(&path)?;
        Ok(path)
    }

    /// The large file, on the disk.
    pub(crate) fn big(&self) -> Result<&Content> {
        made(&self.big, || self.file("big", self.size, 1))
    }

    /// The file that many clients fetch, on the disk.
    pub(crate) fn medium(&self) -> Result<&Content> {
        made(&self.medium, || self.file("medium", MEDIUM.min(self.size), 2))
    }

    /// The tiny file, on the disk.
    pub(crate) fn tiny(&self) -> Result<&Content> {
        made(&self.tiny, || self.file("tiny", TINY, 3))
    }

    /// The file for protected connections, on the disk.
    pub(crate) fn sealed(&self) -> Result<&Content> {
        made(&self.sealed, || self.file("sealed", SEALED.min(self.size), 4))
    }

    /// The small files.
    pub(crate) fn many(&self, medium: Medium) -> Result<&Many> {
        let cell = match medium {
            Medium::Disk => &self.many_disk,
            Medium::Memory => &self.many_memory,
        };
        made(cell, || Many::create(&self.served(medium)?.join("many"), self.files, SMALL))
    }

    /// Moves a directory out of the way, to be removed with the run.
    ///
    /// Removing it at once would slow down the creation of the next files: ext4 searches for inode numbers past those
    /// that were freed in the last minutes, one by one.
    pub(crate) fn put_away(&self, medium: Medium, path: &Path) -> Result<()> {
        let number = self.put_away.get();
        self.put_away.set(number + 1);
        let to = self.path(medium).join(format!("done-{number}"));
        fs::rename(path, &to).with_context(|| path.display().to_string())
    }

    /// Creates a file of `size` bytes in the served directory.
    pub(crate) fn file(&self, name: &str, size: u64, seed: u64) -> Result<Content> {
        let file = Content::create(&self.served(Medium::Disk)?.join(name), size, seed)?;
        file.settle()?;
        Ok(file)
    }
}

fn made<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if cell.get().is_none() {
        _ = cell.set(make()?);
    }
    cell.get().context("made just now")
}

fn place(dir: &Path) -> Result<TempDir> {
    let place = tempfile::Builder::new().prefix("skiff-bench-").tempdir_in(dir);
    let place = place.with_context(|| dir.display().to_string())?;
    open(place.path())?;
    Ok(place)
}

fn open(dir: &Path) -> Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o777)).with_context(|| dir.display().to_string())
}
