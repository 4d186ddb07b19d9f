//! Test files with reproducible content, and checks of what arrived.

use core::time::Duration;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use skiff_proto::crc::Crc32c;

/// The buffer size for reading and writing files.
const PIECE: usize = 256 * 1024;

/// A file that changed less than this ago could change again unnoticed: a bit more than 2 s.
const SETTLED: Duration = Duration::from_millis(2100);

/// A file of the bench.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) crc: u32,
}

impl Content {
    /// Writes a file of `size` pseudorandom bytes, which depend on `seed`.
    pub(crate) fn create(path: &Path, size: u64, seed: u64) -> Result<Self> {
        let mut file = File::create(path).with_context(|| path.display().to_string())?;
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut piece = vec![0; PIECE];
        let mut crc = Crc32c::new();
        let mut left = size;
        while left > 0 {
            for word in piece.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
            let n = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            file.write_all(&piece[..n]).with_context(|| path.display().to_string())?;
            crc.update(&piece[..n]);
            left -= n as u64;
        }
        Ok(Self { path: path.to_owned(), size, crc: crc.value() })
    }

    /// Its name among the files that are served.
    pub(crate) fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// An error unless `path` has this content.
    pub(crate) fn check(&self, path: &Path) -> Result<()> {
        let (size, crc) = sum(path).with_context(|| path.display().to_string())?;
        self.compare(size, crc).with_context(|| path.display().to_string())
    }

    fn compare(&self, size: u64, crc: u32) -> Result<()> {
        ensure!(size == self.size, "{size} bytes instead of {}", self.size);
        ensure!(crc == self.crc, "the content differs");
        Ok(())
    }

    /// Waits until the file has been unchanged long enough for host-serv to remember its checksum.
    pub(crate) fn settle(&self) -> Result<()> {
        let changed = fs::metadata(&self.path).and_then(|meta| meta.modified());
        let age = changed.with_context(|| self.path.display().to_string())?.elapsed().unwrap_or_default();
        std::thread::sleep(SETTLED.saturating_sub(age));
        Ok(())
    }

    /// Reads it back into the page cache, from which the kernel may have evicted it.
    pub(crate) fn warm(&self) -> Result<()> {
        sum(&self.path).map(drop).with_context(|| self.path.display().to_string())
    }
}

/// Many small files in a directory.
#[derive(Debug, Clone)]
pub(crate) struct Many {
    pub(crate) dir: PathBuf,
    pub(crate) files: Vec<Content>,
}

impl Many {
    /// Creates `count` files of `size` bytes, `f0000` and so on, in a new directory.
    pub(crate) fn create(dir: &Path, count: u32, size: u64) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let file = |number| Content::create(&dir.join(format!("f{number:04}")), size, u64::from(number) + 1);
        let files = (0..count).map(file).collect::<Result<_>>()?;
        Ok(Self { dir: dir.to_owned(), files })
    }

    /// An error unless `dir` has all of them, and nothing else.
    pub(crate) fn check(&self, dir: &Path) -> Result<()> {
        for file in &self.files {
            file.check(&dir.join(file.path.file_name().unwrap_or_default()))?;
        }
        let there = fs::read_dir(dir)?.count();
        ensure!(there == self.files.len(), "{there} files in {}, not {}", dir.display(), self.files.len());
        Ok(())
    }

    /// Reads them back into the page cache.
    pub(crate) fn warm(&self) -> Result<()> {
        self.files.iter().try_for_each(Content::warm)
    }
}

/// Length and CRC-32C of a file.
fn sum(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; PIECE];
    let (mut size, mut crc) = (0, Crc32c::new());
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((size, crc.value())),
            n => {
                size += n as u64;
                crc.update(&piece[..n]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_the_same_in_every_run_and_differs_with_the_seed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let first = Content::create(&path, 300_000, 1).unwrap();
        assert_eq!(Content::create(&path, 300_000, 1).unwrap(), first);
        first.check(&path).unwrap();
        let other = Content::create(&path, 300_000, 2).unwrap();
        assert_ne!(other.crc, first.crc);
        assert!(first.check(&path).is_err());
    }

    #[test]
    fn a_file_that_is_short_or_missing_or_one_too_many_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let many = Many::create(&dir.path().join("many"), 3, 10).unwrap();
        many.check(&many.dir).unwrap();
        fs::write(many.dir.join("extra"), "").unwrap();
        assert!(many.check(&many.dir).is_err());
        fs::remove_file(many.dir.join("extra")).unwrap();
        fs::write(many.dir.join("f0001"), "short").unwrap();
        assert!(many.check(&many.dir).is_err());
        fs::remove_file(many.dir.join("f0001")).unwrap();
        assert!(many.check(&many.dir).is_err());
    }
}
