//! Removes files created at startup if the server fails to start.

use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The files created or filled so far. Dropping this removes them, or truncates them again.
#[derive(Debug, Default)]
pub(super) struct Made {
    new: Vec<PathBuf>,
    filled: Vec<File>,
}

impl Made {
    /// Opens a file, or creates it. `how` gives the access, and whether an existing file is truncated.
    pub(super) fn open(&mut self, path: &Path, how: &mut OpenOptions) -> io::Result<File> {
        match how.clone().create_new(true).open(path) {
            Ok(file) => {
                self.new.push(path.to_owned());
                Ok(file)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => how.open(path),
            Err(error) => Err(error),
        }
    }

    /// Registers `file`, which was empty and will be filled.
    pub(super) fn fill(&mut self, file: &File) -> io::Result<()> {
        self.filled.push(file.try_clone()?);
        Ok(())
    }

    /// Keeps the files: the server has started.
    pub(super) fn keep(mut self) {
        self.new.clear();
        self.filled.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for file in &self.filled {
            _ = file.set_len(0);
        }
        for path in &self.new {
            _ = remove_file(path);
        }
    }
}
