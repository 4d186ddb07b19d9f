//! Where the bytes of a download go, and the progress.

use core::time::Duration;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use skiff_proto::crc::Crc32c;
use skiff_proto::reply::Tag;

use super::ahead::Ahead;
use crate::client::error::Error;
use crate::client::job::{DownloadOptions, Existing, Target};
use crate::client::local::{Part, Version, at};

/// A file that has brought so many bytes is a long one: more than a thread costs.
const LONG: u64 = 4 << 20;

/// The bytes of a file being received.
///
/// A sink that is dropped before its commit leaves the partial file in place for a later run.
#[derive(Debug)]
pub(super) struct Sink {
    target: Target,
    /// Writes a long file: before `part`, which is to be complete when it is dropped and unlocked.
    ahead: Option<Ahead>,
    /// Created with the first byte.
    part: Option<Part>,
    /// What goes to memory.
    memory: Vec<u8>,
    offset: u64,
    crc: Crc32c,
    version: Option<(u64, Tag)>,
    /// Of the key under which all its bytes come.
    key: Option<u64>,
}

impl Sink {
    pub(super) const fn new(target: Target, key: Option<u64>) -> Self {
        Self { target, ahead: None, part: None, memory: Vec::new(), offset: 0, crc: Crc32c::new(), version: None, key }
    }

    /// The local file it will be; `None` if it will be none.
    pub(super) fn path(&self) -> Option<&Path> {
        match &self.target {
            Target::File { path, .. } => Some(path),
            Target::Writer(_) | Target::Memory { .. } | Target::Discard => None,
        }
    }

    /// Bytes it has.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Their checksum.
    pub(super) const fn crc(&self) -> Crc32c {
        self.crc
    }

    /// [`Access::fingerprint`](crate::client::Access::fingerprint) of the key under which they come.
    pub(super) const fn key(&self) -> Option<u64> {
        self.key
    }

    /// SIZE and TAG of the file that they are the beginning of.
    pub(super) const fn version(&self) -> Option<(u64, Tag)> {
        self.version
    }

    /// The bytes turned out to be the beginning of this version, too.
    pub(super) const fn set_version(&mut self, size: u64, tag: Tag) {
        self.version = Some((size, tag));
    }

    /// False if bytes have gone where they can't be taken back from.
    pub(super) const fn can_restart(&self) -> bool {
        self.offset == 0 || !matches!(self.target, Target::Writer(_))
    }

    /// Takes a partial file over that holds `offset` bytes.
    pub(super) fn adopt(&mut self, part: Part, offset: u64, crc: Crc32c) -> Result<(), Error> {
        if let Target::File { path, existing } = &self.target {
            part.protect(path, *existing).map_err(at(path))?;
        }
        self.part = Some(part);
        self.offset = offset;
        self.crc = crc;
        Ok(())
    }

    /// Takes more bytes. `crc` is that of all bytes with these, where the caller knows it.
    pub(super) fn write(&mut self, bytes: &[u8], crc: Option<Crc32c>, options: &DownloadOptions) -> Result<(), Error> {
        match &mut self.target {
            Target::File { path, existing } => {
                let part = match &mut self.part {
                    Some(part) => part,
                    None => self.part.insert(create(path, *existing, self.version, self.key, options)?),
                };
                let written = match &mut self.ahead {
                    Some(ahead) => ahead.write(bytes),
                    None => part.file.write_all(bytes),
                };
                written.map_err(at(path))?;
                if self.ahead.is_none() && self.offset >= LONG {
                    self.ahead = Ahead::start(&part.file).ok();
                }
            }
            Target::Writer(writer) => writer.write_all(bytes).map_err(at(Path::new("output")))?,
            Target::Memory { limit } => {
                let announced = self.version.map_or(0, |(size, _)| size);
                let size = announced.max(self.offset + bytes.len() as u64);
                if size > *limit {
                    return Err(Error::TooLong { what: "file", limit: *limit });
                }
                // The first time for the whole file. The server may claim any size, so it must not abort the program.
                let more = usize::try_from(size - self.offset).unwrap_or(usize::MAX);
                let reserved = self.memory.try_reserve_exact(more);
                reserved.map_err(|error| at(Path::new("memory"))(io::Error::new(ErrorKind::OutOfMemory, error)))?;
                self.memory.extend_from_slice(bytes);
            }
            Target::Discard => {}
        }
        self.offset += bytes.len() as u64;
        match crc {
            Some(crc) => self.crc = crc,
            None => self.crc.update(bytes),
        }
        Ok(())
    }

    /// Closes the partial file and leaves it in place.
    pub(super) fn close(&mut self) {
        self.ahead = None;
        self.part = None;
    }

    /// Forgets everything and removes the partial file.
    pub(super) fn reset(&mut self) {
        self.ahead = None;
        if let Some(part) = self.part.take() {
            part.discard();
        }
        self.memory = Vec::new();
        self.offset = 0;
        self.crc = Crc32c::new();
        self.version = None;
    }

    /// The file is complete: puts it in place and returns its path.
    pub(super) fn commit(
        &mut self,
        mtime: Option<u64>,
        options: &DownloadOptions,
        portable: bool,
    ) -> Result<Option<PathBuf>, Error> {
        match &mut self.target {
            Target::File { path, existing } => {
                if let Some(mut ahead) = self.ahead.take() {
                    ahead.finish().map_err(at(path))?;
                }
                let part = match self.part.take() {
                    Some(part) => part,
                    None => create(path, *existing, self.version, self.key, options)?,
                };
                let time = mtime.and_then(|mtime| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(mtime)));
                if let Some(time) = time {
                    // A file system may not be able to keep it; the content matters more.
                    _ = part.file.set_modified(time);
                }
                if options.fsync {
                    part.file.sync_all().map_err(at(path))?;
                }
                let path = part.commit(path, *existing, portable).map_err(at(path))?;
                if options.fsync {
                    sync_parent(&path).map_err(at(&path))?;
                }
                Ok(Some(path))
            }
            Target::Writer(writer) => writer.flush().map(|()| None).map_err(at(Path::new("output"))),
            Target::Memory { .. } | Target::Discard => Ok(None),
        }
    }

    /// The content of a file that went to memory.
    pub(super) fn take_bytes(&mut self) -> Option<Vec<u8>> {
        matches!(self.target, Target::Memory { .. }).then(|| core::mem::take(&mut self.memory))
    }
}

fn create(
    path: &Path,
    existing: Existing,
    version: Option<(u64, Tag)>,
    key: Option<u64>,
    options: &DownloadOptions,
) -> Result<Part, Error> {
    let (size, tag) = version.unwrap_or((0, Tag::UNKNOWN));
    Part::create(path, existing, Version { size, tag, key }, options.parents)
}

/// Makes a new name durable, where directories can be.
fn sync_parent(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(dir)?.sync_all()?;
    }
    Ok(())
}
