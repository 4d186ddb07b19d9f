//! The checksum of a local file.

use std::io::{ErrorKind, Read, Seek};
use std::path::Path;

use skiff_proto::crc::Crc32c;
use tokio::task::yield_now;

use super::cancel::CancelToken;
use super::connection::BUFFER;
use super::error::Error;
use super::local::at;

/// The checksum of the first `length` bytes of an open file, whatever its cursor; `None` if the file is shorter. Yields
/// to other tasks now and then.
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
        match reader.read(&mut buffer) {
            Ok(0) => return Ok((done == length).then_some(crc)),
            Ok(n) => {
                crc.update(&buffer[..n]);
                done += n as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(at(path)(error)),
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

/// Length and checksum of a local file as it is now.
///
/// # Errors
/// [`Error::Local`], [`Error::Changed`] if it gets shorter meanwhile, [`Error::Cancelled`].
#[cfg(feature = "cli")]
pub(crate) async fn checksum_of(path: &Path, cancel: &CancelToken) -> Result<(u64, u32), Error> {
    let mut file = std::fs::File::open(path).map_err(at(path))?;
    let size = file.metadata().map_err(at(path))?.len();
    match checksum(&mut file, path, size, cancel).await? {
        Some(crc) => Ok((size, crc.value())),
        None => Err(Error::Changed { path: path.to_owned() }),
    }
}
