//! Copies a file to a stage. The kernel copies; if the file system can share blocks, no bytes move through memory.

use core::task::Poll;

use skiff_proto::{ErrorCode, Refusal};

use super::DirStore;
use super::file::File;
use super::meta::Meta;
use super::refusal::refuse;
use super::stage::Stage;

/// Bytes between two checks of the clock.
const PIECE: u64 = 4 << 20;
/// The same if the bytes pass through memory.
const SMALL_PIECE: usize = 256 << 10;

impl DirStore {
    /// Appends the rest of `file` to `stage`, whose size is that of the file. Pending if `pause` becomes true before
    /// the end.
    ///
    /// # Errors
    /// `changed` if the file was changed since it was opened; those of [`DirStore::append`].
    pub fn copy(&self, file: &File, stage: &mut Stage, pause: &mut dyn FnMut() -> bool) -> Poll<Result<(), Refusal>> {
        let size = file.stat().size;
        let mut piece = Vec::new();
        let mut can_range = true;
        while stage.len() < size {
            let at = stage.len();
            if can_range {
                match self.copy_range(file, stage, (size - at).min(PIECE))? {
                    Some(0) => return Poll::Ready(Err(ErrorCode::Changed.into())),
                    Some(_) => {}
                    None => can_range = false,
                }
            } else {
                piece.resize(usize::try_from(size - at).map_or(SMALL_PIECE, |left| left.min(SMALL_PIECE)), 0);
                let n = self.read_at(file, at, &mut piece)?;
                let mut rest = &piece[..n];
                while !rest.is_empty() {
                    let n = self.append(stage, rest)?;
                    rest = &rest[n..];
                }
            }
            if stage.len() < size && pause() {
                return Poll::Pending;
            }
        }
        let now = Meta::of(file).map_err(refuse)?;
        Poll::Ready(if now.key.same_content(&file.key()) { Ok(()) } else { Err(ErrorCode::Changed.into()) })
    }

    /// Copies a piece in the kernel and returns its length; `None` if the kernel can't.
    #[cfg(target_os = "linux")]
    fn copy_range(&self, file: &File, stage: &mut Stage, len: u64) -> Result<Option<u64>, Refusal> {
        use rustix::fs::copy_file_range;
        use rustix::io::Errno;

        self.check_append(stage, len)?;
        let mut writing = stage.writing()?;
        let (mut from, mut to) = (writing.offset(), writing.offset());
        let len = usize::try_from(len.min(writing.room())).unwrap_or(usize::MAX);
        loop {
            return match copy_file_range(file, Some(&mut from), writing.file(), Some(&mut to), len) {
                Ok(n) => {
                    writing.appended(n as u64);
                    Ok(Some(n as u64))
                }
                Err(Errno::INTR) => continue,
                Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::FBIG)) => Err(refuse(errno)),
                // Two file systems, or one that does not support the call.
                Err(_) => Ok(None),
            };
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn copy_range(&self, _: &File, _: &mut Stage, _: u64) -> Result<Option<u64>, Refusal> {
        Ok(None)
    }
}
