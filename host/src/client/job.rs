//! What is to be transferred, how, and what became of it.

use core::fmt;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::Error;

/// One file to be fetched.
#[derive(Debug)]
pub struct Download {
    /// The server's name of it.
    pub name: String,
    /// Where it goes.
    pub target: Target,
    /// Seconds since 1970-01-01 UTC to be set on the local file, if the caller knows it from a listing. Otherwise it is
    /// asked for (`stat`, in the same write as `read`), unless [`DownloadOptions::mtime`] is off.
    pub mtime: Option<u64>,
}

impl Download {
    /// Fetches `name` into the local file `path`, and keeps what is there already.
    #[must_use]
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), target: Target::File { path: path.into(), existing: Existing::Keep }, mtime: None }
    }
}

/// Where a fetched file goes.
pub enum Target {
    /// A local file. It appears when it is whole and verified, never before.
    File {
        /// Its path. The partial file lies in the same directory.
        path: PathBuf,
        /// What happens to a file that is there.
        existing: Existing,
    },
    /// A stream, as standard output. What has been written to it can't be taken back if the checksum turns out wrong at
    /// the end: then the result is an error. After a lost connection it goes on where it stopped only if the server's
    /// TAG says that the file is the same one.
    Writer(Box<dyn Write + Send>),
    /// Memory: [`Received::bytes`]. A file of more than `limit` bytes is an error, [`Error::TooLong`].
    Memory {
        /// Bytes at most.
        limit: u64,
    },
    /// Nowhere: it is received, verified and forgotten.
    Discard,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, existing } => {
                f.debug_struct("File").field("path", path).field("existing", existing).finish()
            }
            Self::Writer(_) => f.write_str("Writer"),
            Self::Memory { limit } => f.debug_struct("Memory").field("limit", limit).finish(),
            Self::Discard => f.write_str("Discard"),
        }
    }
}

/// What happens to a local file that is in the way of a fetched one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays; the new one is saved as `name(1).ext`, then `name(2).ext`.
    Keep,
    /// The new one takes its place in one step.
    Replace,
}

/// How files are fetched.
#[derive(Debug, Clone)]
pub struct DownloadOptions {
    /// Partial files that an earlier run left behind are continued. (After a connection lost within this call it always
    /// goes on where it stopped.) Default: false.
    pub resume: bool,
    /// The local files get the server's mtimes. Default: true.
    pub mtime: bool,
    /// Missing local directories are made. Default: false.
    pub parents: bool,
    /// A file is on the disk before it is reported as received. Default: false.
    pub fsync: bool,
    /// Each file but small ones comes over so many sessions at a time, each with a connection of its own, by ranges. For
    /// servers that send slowly over lines that lose packets; up to 2 MiB of memory for each session. One that has no more
    /// sessions to give is asked over those it gives. A classic server knows no ranges. Default: 1.
    pub sessions: u32,
}

impl Default for DownloadOptions {
    fn default() -> Self {
        Self { resume: false, mtime: true, parents: false, fsync: false, sessions: 1 }
    }
}

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Where it is; not always the path asked for, since an existing file may have been kept. `None` unless it went to
    /// [`Target::File`].
    pub path: Option<PathBuf>,
    /// Its content. `None` unless it went to [`Target::Memory`].
    pub bytes: Option<Vec<u8>>,
    /// Bytes of the whole file.
    pub size: u64,
    /// Bytes that were there already from an interrupted run.
    pub resumed: u64,
    /// True if the server's checksum covers what came. False from a classic server, and from one that sends `-`.
    pub verified: bool,
    /// CRC-32C of the whole content; `None` from a classic server.
    pub crc: Option<u32>,
    /// Seconds since 1970-01-01 UTC, as far as known.
    pub mtime: Option<u64>,
    /// Sessions that brought a part of it: [`DownloadOptions::sessions`].
    pub sessions: u32,
}

/// One file to be sent.
#[derive(Debug)]
pub struct Upload {
    /// What is sent.
    pub source: Source,
    /// The server's name for it.
    pub name: String,
}

impl Upload {
    /// Sends the local file `path` as `name`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, name: impl Into<String>) -> Self {
        Self { source: Source::Path(path.into()), name: name.into() }
    }
}

/// What is sent.
pub enum Source {
    /// A regular file, opened when its turn comes.
    Path(PathBuf),
    /// A regular file that is open, from its first byte whatever its cursor says: a pipe that was spooled, say. No mtime
    /// is sent.
    File(File),
    /// Bytes in memory. No mtime is sent.
    Bytes(Arc<[u8]>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::File(file) => f.debug_tuple("File").field(file).finish(),
            Self::Bytes(bytes) => f.debug_struct("Bytes").field("len", &bytes.len()).finish_non_exhaustive(),
        }
    }
}

/// How files are sent.
#[derive(Debug, Clone)]
pub struct UploadOptions {
    /// What the server still has staged from an interrupted run is continued. (After a connection lost within this call
    /// it always goes on where it stopped.) Default: false.
    pub resume: bool,
    /// The server is told the files' mtimes. Default: true.
    pub mtime: bool,
    /// To a classic server, content that is not UTF-8 text is sent too, with its length in bytes. Default: false.
    pub force: bool,
    /// Checksums are left out, if the server agrees (`nocrc=1`). Default: false.
    pub no_crc: bool,
}

impl Default for UploadOptions {
    fn default() -> Self {
        Self { resume: false, mtime: true, force: false, no_crc: false }
    }
}

/// A file that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Bytes of the whole file.
    pub size: u64,
    /// Bytes that the server had already from an interrupted run.
    pub resumed: u64,
    /// CRC-32C of the whole content; `None` if it was not computed.
    pub crc: Option<u32>,
    /// True if the server says that it is stored, durably. A classic server does not confirm.
    pub confirmed: bool,
}

/// Watches transfers. Every method does nothing unless implemented; none may block for long.
///
/// `job` is the index of the job in the list that the operation was given.
pub trait Observer: Send {
    /// A file begins: `size` bytes, the first `offset` of which are there already. Called again for the same job if it
    /// restarts, after a lost connection for example: progress then counts from `offset`.
    fn started(&mut self, job: usize, name: &str, size: u64, offset: u64) {
        _ = (job, name, size, offset);
    }

    /// `bytes` more of the file have come or gone.
    fn progress(&mut self, job: usize, bytes: u64) {
        _ = (job, bytes);
    }

    /// A file has been fetched, or not. Once for every job, in any order.
    fn received(&mut self, job: usize, result: &Result<Received, Error>) {
        _ = (job, result);
    }

    /// A file has been sent, or not. Once for every job, in any order.
    fn sent(&mut self, job: usize, result: &Result<Sent, Error>) {
        _ = (job, result);
    }

    /// The connection was lost. The client reconnects after a pause, for the `attempt`th time (from 1).
    fn retrying(&mut self, attempt: u32, error: &Error) {
        _ = (attempt, error);
    }
}

impl Observer for () {}
