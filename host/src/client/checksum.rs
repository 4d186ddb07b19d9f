//! The checksum of a local file.

#[cfg(feature = "cli")]
use core::sync::atomic::{AtomicUsize, Ordering};
use std::io::{self, ErrorKind, Read, Seek};
use std::path::Path;
#[cfg(feature = "cli")]
use std::path::PathBuf;
#[cfg(feature = "cli")]
use std::sync::{Mutex, PoisonError};

use skiff_proto::crc::Crc32c;
use tokio::task::yield_now;

use super::cancel::CancelToken;
use super::connection::BUFFER;
use super::error::Error;
use super::local::at;

/// The checksum of the first `length` bytes of an open file, whatever its position; `None` if the file is shorter.
/// Yields to other tasks regularly.
pub(super) async fn checksum(
    file: &mut (impl Read + Seek),
    path: &Path,
    length: u64,
    cancel: &CancelToken,
) -> Result<Option<Crc32c>, Error> {
    file.rewind().map_err(at(path))?;
    let mut reader = file.take(length);
    let mut buffer = vec![0; BUFFER];
    let mut crc = Crc32c::new();
    let (mut done, mut pieces) = (0, 0_u32);
    loop {
        match piece(&mut reader, &mut buffer, &mut crc).map_err(at(path))? {
            0 => return Ok((done == length).then_some(crc)),
            n => done += n,
        }
        pieces += 1;
        if pieces.is_multiple_of(64) {
            yield_now().await;
        }
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
    }
}

/// Reads the next piece of a file into its checksum, and returns its length; 0 at the end.
fn piece(reader: &mut impl Read, buffer: &mut [u8], crc: &mut Crc32c) -> io::Result<u64> {
    loop {
        match reader.read(buffer) {
            Ok(n) => {
                crc.update(&buffer[..n]);
                return Ok(n as u64);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Length and checksum of a local file as it is now.
///
/// # Errors
/// [`Error::Local`], [`Error::Changed`] if it gets shorter in the meantime, [`Error::Cancelled`].
#[cfg(feature = "cli")]
pub(crate) async fn checksum_of(path: &Path, cancel: &CancelToken) -> Result<(u64, u32), Error> {
    let mut file = std::fs::File::open(path).map_err(at(path))?;
    let size = file.metadata().map_err(at(path))?.len();
    match checksum(&mut file, path, size, cancel).await? {
        Some(crc) => Ok((size, crc.value())),
        None => Err(Error::Changed { path: path.to_owned() }),
    }
}

/// Maximum number of files that are read at the same time; beyond it, the disk is the limit.
#[cfg(feature = "cli")]
const THREADS: usize = 8;

/// Length and checksum of each local file as it is now; `None` if it can't be read or changes meanwhile. Threads read
/// several files at a time.
///
/// # Errors
/// [`Error::Cancelled`].
#[cfg(feature = "cli")]
pub(crate) async fn checksums_of(paths: Vec<PathBuf>, cancel: &CancelToken) -> Result<Vec<Option<(u64, u32)>>, Error> {
    let (count, token) = (paths.len(), cancel.clone());
    let sums = super::on_thread("checksum", move || Ok(sum_all(&paths, &token))).await;
    if cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(sums.unwrap_or_else(|_| vec![None; count])) }
}

/// Distributes the files among threads, including this one.
#[cfg(feature = "cli")]
fn sum_all(paths: &[PathBuf], cancel: &CancelToken) -> Vec<Option<(u64, u32)>> {
    let next = AtomicUsize::new(0);
    let sums = Mutex::new(vec![None; paths.len()]);
    let work = || {
        let mut buffer = vec![0; BUFFER];
        while let Some((at, path)) = next_of(paths, &next).filter(|_| !cancel.is_cancelled()) {
            let sum = sum_file(path, &mut buffer, cancel);
            sums.lock().unwrap_or_else(PoisonError::into_inner)[at] = sum;
        }
    };
    std::thread::scope(|scope| {
        let more = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS).min(paths.len());
        // If a thread can't be started, fewer do the work.
        let threads: Vec<_> = (1..more).map(|_| std::thread::Builder::new().spawn_scoped(scope, work)).collect();
        work();
        drop(threads);
    });
    sums.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(feature = "cli")]
fn next_of<'a>(paths: &'a [PathBuf], next: &AtomicUsize) -> Option<(usize, &'a Path)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    paths.get(at).map(|path| (at, path.as_path()))
}

#[cfg(feature = "cli")]
fn sum_file(path: &Path, buffer: &mut [u8], cancel: &CancelToken) -> Option<(u64, u32)> {
    let mut file = std::fs::File::open(path).ok()?;
    let (mut len, mut crc) = (0, Crc32c::new());
    while !cancel.is_cancelled() {
        match piece(&mut file, buffer, &mut crc).ok()? {
            0 => return Some((len, crc.value())),
            n => len += n,
        }
    }
    None
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use skiff_proto::crc::crc32c;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn many_files_are_summed_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = |number: usize| dir.path().join(number.to_string());
        let content = |number: usize| number.to_le_bytes().repeat(number * number * 40);
        (0..30).filter(|number| *number != 7).for_each(|number| std::fs::write(path(number), content(number)).unwrap());
        let token = CancelToken::new();
        let sums = checksums_of((0..30).map(path).collect(), &token).await.unwrap();
        for (number, sum) in sums.into_iter().enumerate() {
            let content = content(number);
            assert_eq!(sum, (number != 7).then(|| (content.len() as u64, crc32c(&content))));
        }
        token.cancel();
        assert!(matches!(checksums_of(vec![path(1)], &token).await, Err(Error::Cancelled)));
    }
}
