//! Files that are open for reading.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use skiff_proto::name::Name;
use skiff_proto::reply::Tag;
use skiff_proto::store::{Stat, Sum};
use skiff_proto::{ErrorCode, Refusal};

use super::DirStore;
use super::meta::{Key, Meta};
use super::refusal::refuse_io;

/// A file that is open for reading: the version that had its name when it was opened, even after it has been replaced.
#[derive(Debug)]
pub struct File {
    file: std::fs::File,
    meta: Meta,
    crc: Option<u32>,
    settled: bool,
}

impl File {
    /// Its stat when it was opened.
    #[must_use]
    pub fn stat(&self) -> Stat {
        self.meta.stat(self.crc)
    }

    /// Sets the checksum of the whole file, if it is known, without reading it.
    pub(crate) const fn settle_sum(&self, sum: &mut Sum) {
        match self.crc {
            Some(crc) => sum.finish(crc),
            None => sum.forget(),
        }
    }

    /// The open file, for sendfile. Pass an offset with every read: the file's position is not used.
    #[must_use]
    pub const fn as_file(&self) -> &std::fs::File {
        &self.file
    }

    /// The version that was opened.
    #[must_use]
    pub const fn key(&self) -> Key {
        self.meta.key
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl DirStore {
    /// Opens a file: [`Store::open`](skiff_proto::store::Store::open).
    ///
    /// # Errors
    /// `not-found` (devices, FIFOs and sockets too), `is-directory`, `denied`, `io`.
    pub fn open(&self, name: Name<'_>) -> Result<(File, Stat), Refusal> {
        self.check_read(name)?;
        let (file, meta) = self.0.confine.open_file(name)?;
        let file = File { file, meta, crc: self.0.crcs().of(&meta.key), settled: meta.is_settled() };
        let stat = file.stat();
        Ok((file, stat))
    }

    /// The tag of the version that `file` refers to: `-` if it was written less than 2 s before it was opened, because
    /// another version written at the same moment may have the same times.
    #[must_use]
    pub fn tag(&self, file: &File) -> Tag {
        if file.settled { file.meta.key.tag() } else { Tag::UNKNOWN }
    }

    /// Reads at `offset` into `buffer` and returns the number of bytes. 0 only at the end of the file.
    ///
    /// # Errors
    /// `changed` if it has been truncated since it was opened; `io`.
    pub fn read_at(&self, file: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, Refusal> {
        match read_at(&file.file, offset, buffer)? {
            0 if offset < file.meta.size() && !buffer.is_empty() => Err(ErrorCode::Changed.into()),
            n => Ok(n),
        }
    }

    /// The properties of a file that are known without reading it.
    ///
    /// # Errors
    /// `not-found`, `is-directory`, `denied`, `io`.
    pub fn stat(&self, name: Name<'_>) -> Result<Stat, Refusal> {
        self.check_read(name)?;
        let confine = &self.0.confine;
        let meta = confine.look(name).map_err(|errno| confine.nothing(name, errno))?.served()?;
        Ok(meta.stat(self.0.crcs().of(&meta.key)))
    }

    /// Remembers the CRC-32C of a whole file, which the caller has read since it was opened, for `stat` and `list`.
    /// Does nothing if the file changed meanwhile or may have changed.
    pub fn remember_crc(&self, file: &File, crc: u32) {
        if file.settled && Meta::of(&file.file).is_ok_and(|now| now.key == file.meta.key) {
            self.note_crc(&file.meta.key, Some(crc));
        }
    }

    /// Remembers the checksum of a version, and saves all if it is time. See [`Crcs::note`](super::crcs::Crcs::note).
    pub(super) fn note_crc(&self, key: &Key, crc: Option<u32>) {
        if self.0.crcs().note(key, crc) {
            let store = self.clone();
            _ = std::thread::Builder::new().name("checksums".to_owned()).spawn(move || store.0.save_crcs());
        }
    }
}

/// One read at `offset`, repeated if a signal interrupts it.
pub(super) fn read_at(file: &std::fs::File, offset: u64, buffer: &mut [u8]) -> Result<usize, Refusal> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result.map_err(|error| refuse_io(&error)),
        }
    }
}
