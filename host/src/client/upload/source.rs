//! Local files and bytes to upload, or whose first part is compared.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Cursor, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use skiff_proto::crc::Crc32c;

use crate::client::cancel::CancelToken;
use crate::client::checksum::checksum;
use crate::client::error::Error;
use crate::client::job::Source;
use crate::client::local::at;

/// An open regular file to upload, or bytes in memory.
#[derive(Debug)]
pub(super) struct Input {
    content: Content,
    path: PathBuf,
    size: u64,
    modified: Option<SystemTime>,
    spooled: bool,
}

#[derive(Debug)]
enum Content {
    File(File),
    Memory(Cursor<Arc<[u8]>>),
    Noise(Noise),
}

/// Bytes that follow from their position, so that any part can be sent again.
#[derive(Debug)]
struct Noise {
    position: u64,
    size: u64,
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        let mut filled = 0;
        while filled < count {
            let at = self.position + filled as u64;
            // SplitMix64 of the word's number.
            let mut word = (at / 8 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let bytes = (word ^ (word >> 31)).to_le_bytes();
            let part = &bytes[(at % 8) as usize..];
            let part = &part[..part.len().min(count - filled)];
            buffer[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Noise {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        }
        .ok_or(ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Memory(bytes) => bytes.read(buffer),
            Self::Noise(noise) => noise.read(buffer),
        }
    }
}

impl Seek for Content {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Memory(bytes) => bytes.seek(to),
            Self::Noise(noise) => noise.seek(to),
        }
    }
}

impl Input {
    /// Opens a source, at its first byte.
    pub(super) fn open(source: &Source) -> Result<Self, Error> {
        let unnamed = Path::new("input");
        let made =
            |content, size| Ok(Self { content, path: unnamed.to_path_buf(), size, modified: None, spooled: true });
        let (path, file, spooled) = match source {
            Source::Path(path) => (path.as_path(), open(path), false),
            Source::File(file) => (unnamed, file.try_clone().and_then(|mut file| file.rewind().map(|()| file)), true),
            Source::Bytes(bytes) => {
                return made(Content::Memory(Cursor::new(Arc::clone(bytes))), bytes.len() as u64);
            }
            Source::Noise(size) => return made(Content::Noise(Noise { position: 0, size: *size }), *size),
        };
        let file = file.map_err(at(path))?;
        let meta = file.metadata().map_err(at(path))?;
        if !meta.is_file() {
            return Err(at(path)(io::Error::new(ErrorKind::InvalidInput, "not a regular file")));
        }
        let spool = if is_made_up(&file, &meta) { spool(&file).map_err(at(path))? } else { None };
        let (file, meta, spooled) = match spool {
            Some((file, meta)) => (file, meta, true),
            None => (file, meta, spooled),
        };
        let modified = meta.modified().ok();
        Ok(Self { content: Content::File(file), path: path.to_path_buf(), size: meta.len(), modified, spooled })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes, when it was opened.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Seconds since 1970-01-01 UTC.
    pub(super) fn mtime(&self) -> Option<u64> {
        let modified = self.modified.filter(|_| !self.spooled)?;
        Some(modified.duration_since(UNIX_EPOCH).ok()?.as_secs())
    }

    pub(super) fn seek(&mut self, offset: u64) -> Result<(), Error> {
        self.content.seek(SeekFrom::Start(offset)).map(drop).map_err(at(&self.path))
    }

    /// Reads what is next; 0 at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            match self.content.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result.map_err(at(&self.path)),
            }
        }
    }

    /// True if the file has not changed since it was opened.
    pub(super) fn is_unchanged(&self) -> bool {
        let same = |meta: Metadata| meta.len() == self.size && meta.modified().ok() == self.modified;
        match &self.content {
            Content::File(file) => file.metadata().is_ok_and(same),
            Content::Memory(_) | Content::Noise(_) => true,
        }
    }

    /// Fails unless the bytes that were read, with the checksum `read`, are still the beginning of the file: a log may
    /// grow while it is sent. A file that was written to is read once more.
    pub(super) async fn confirm(&mut self, read: Crc32c, cancel: &CancelToken) -> Result<(), Error> {
        if self.is_unchanged() {
            return Ok(());
        }
        let now = self.checksum(self.size, cancel).await?;
        if now.is_some_and(|now| now.value() == read.value()) { Ok(()) } else { Err(self.changed()) }
    }

    /// The checksum of the first `length` bytes; `None` if there are fewer.
    pub(super) async fn checksum(&mut self, length: u64, cancel: &CancelToken) -> Result<Option<Crc32c>, Error> {
        checksum(&mut self.content, &self.path, length, cancel).await
    }

    pub(super) fn changed(&self) -> Error {
        Error::Changed { path: self.path.clone() }
    }
}

/// True for a file whose reported length may be wrong: files in /proc report 0 bytes, files in /sys 4096.
fn is_made_up(file: &File, meta: &Metadata) -> bool {
    #[cfg(target_os = "linux")]
    {
        const SYSFS: i128 = 0x6265_6572;
        if meta.len() == 4096 && rustix::fs::fstatfs(file).is_ok_and(|fs| i128::from(fs.f_type) == SYSFS) {
            return true;
        }
    }
    _ = file;
    meta.len() == 0
}

/// Copies the content of a file to a temporary file, whose length is known; `None` if it is empty.
fn spool(mut file: &File) -> io::Result<Option<(File, Metadata)>> {
    let mut start = [0; 4096];
    let n = loop {
        match file.read(&mut start) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            n => break n?,
        }
    };
    if n == 0 {
        return Ok(None);
    }
    let mut copy = tempfile::tempfile()?;
    copy.write_all(&start[..n])?;
    io::copy(&mut file, &mut copy)?;
    copy.rewind()?;
    let meta = copy.metadata()?;
    Ok(Some((copy, meta)))
}

/// Opens a file for reading; a FIFO does not make it wait.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;

        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        options.custom_flags(flags.bits().cast_signed());
    }
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_of_any_size_is_the_same_at_each_reading_and_ends() {
        let size = 1 << 40;
        let mut input = Input::open(&Source::Noise(size)).unwrap();
        assert_eq!(input.size(), size);
        let mut whole = [0; 64];
        assert_eq!(input.read(&mut whole).unwrap(), 64);
        for start in 0..64 {
            input.seek(start as u64).unwrap();
            let mut part = [0; 7];
            let count = input.read(&mut part).unwrap().min(64 - start);
            assert_eq!(part[..count], whole[start..start + count]);
        }
        input.seek(size - 3).unwrap();
        assert_eq!((input.read(&mut whole).unwrap(), input.read(&mut whole).unwrap()), (3, 0));
    }
}
