//! Jobs: what is transferred, the options, and the results.

use core::fmt;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::Error;

/// A file to download.
#[derive(Debug)]
pub struct Download {
    /// Its name on the server.
    pub name: String,
    /// Where it goes.
    pub target: Target,
    /// Mtime to set on the local file, in seconds since 1970-01-01 UTC, if known from a listing. Otherwise it is
    /// requested (`stat`, in the same write as `read`), unless [`DownloadOptions::mtime`] is off.
    pub mtime: Option<u64>,
}

impl Download {
    /// Downloads `name` to the local file `path` and keeps an existing file.
    #[must_use]
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), target: Target::File { path: path.into(), existing: Existing::Keep }, mtime: None }
    }
}

/// Where a downloaded file goes.
pub enum Target {
    /// A local file. It appears when it is complete and verified, never before.
    File {
        /// Its path. The partial file lies in the same directory.
        path: PathBuf,
        /// What happens to an existing file.
        existing: Existing,
    },
    /// A stream, such as standard output. Written data can't be taken back if the checksum turns out wrong at the end:
    /// then the result is an error. After a lost connection it resumes only if the server's TAG says that the file is
    /// unchanged.
    Writer(Box<dyn Write + Send>),
    /// Memory: [`Received::bytes`]. A file of more than `limit` bytes is the error [`Error::TooLong`].
    Memory {
        /// Maximum number of bytes.
        limit: u64,
    },
    /// Nowhere: received, verified and discarded.
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

/// What happens if the local file exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Keep it; the new one is saved as `name(1).ext`, then `name(2).ext`.
    Keep,
    /// Replace it in one step.
    Replace,
}

/// Options of a download.
#[derive(Debug, Clone)]
pub struct DownloadOptions {
    /// Resume from partial files of an earlier run. (After a connection lost within this call, transfers always
    /// resume.) Default: false.
    pub resume: bool,
    /// Set the server's mtimes on the local files. Default: true.
    pub mtime: bool,
    /// Create missing local directories. Default: false.
    pub parents: bool,
    /// Sync a file to the disk before it is reported as received. Default: false.
    pub fsync: bool,
    /// Number of parallel sessions, each with its own connection, over which ranges of each larger file are downloaded.
    /// Helps with servers that send slowly over lossy links; takes up to 2 MiB of memory for each session. If the
    /// server has fewer free sessions, those are used. A classic server has no ranges. Default: 1.
    pub sessions: u32,
}

impl Default for DownloadOptions {
    fn default() -> Self {
        Self { resume: false, mtime: true, parents: false, fsync: false, sessions: 1 }
    }
}

/// A downloaded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its local path; not always the requested one, since an existing file may have been kept. `None` unless the
    /// target was [`Target::File`].
    /// [`Target::File`].
    pub path: Option<PathBuf>,
    /// Its content. `None` unless the target was [`Target::Memory`].
    pub bytes: Option<Vec<u8>>,
    /// Size of the whole file in bytes.
    pub size: u64,
    /// Bytes that an interrupted run had received already.
    pub resumed: u64,
    /// True if the received bytes match the server's checksum. False from a classic server, and from one that sends
    /// `-`.
    pub verified: bool,
    /// CRC-32C of the whole content; `None` from a classic server.
    pub crc: Option<u32>,
    /// Mtime in seconds since 1970-01-01 UTC, if known.
    pub mtime: Option<u64>,
    /// Number of sessions that delivered a part of it: [`DownloadOptions::sessions`].
    pub sessions: u32,
}

/// A file to upload.
#[derive(Debug)]
pub struct Upload {
    /// The source.
    pub source: Source,
    /// Its name on the server.
    pub name: String,
}

impl Upload {
    /// Uploads the local file `path` as `name`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, name: impl Into<String>) -> Self {
        Self { source: Source::Path(path.into()), name: name.into() }
    }
}

/// Where an upload comes from.
pub enum Source {
    /// A regular file, opened when its turn comes.
    Path(PathBuf),
    /// An open regular file, sent from its first byte whatever its cursor; a spooled pipe, for example. No mtime is
    /// sent.
    File(File),
    /// Bytes in memory. No mtime is sent.
    Bytes(Arc<[u8]>),
    /// This many bytes that no link can compress, made while they are sent. No mtime is sent.
    Noise(u64),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::File(file) => f.debug_tuple("File").field(file).finish(),
            Self::Noise(size) => f.debug_tuple("Noise").field(size).finish(),
            Self::Bytes(bytes) => f.debug_struct("Bytes").field("len", &bytes.len()).finish_non_exhaustive(),
        }
    }
}

/// Options of an upload.
#[derive(Debug, Clone)]
pub struct UploadOptions {
    /// Resume from what the server has staged from an earlier run. (After a connection lost within this call, transfers
    /// always resume.) Default: false.
    pub resume: bool,
    /// Send the files' mtimes. Default: true.
    pub mtime: bool,
    /// Send content that is not UTF-8 text to a classic server too, with its length in bytes. Default: false.
    pub force: bool,
    /// Omit checksums, if the server allows it (`nocrc=1`). Default: false.
    pub no_crc: bool,
}

impl Default for UploadOptions {
    fn default() -> Self {
        Self { resume: false, mtime: true, force: false, no_crc: false }
    }
}

/// An uploaded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Size of the whole file in bytes.
    pub size: u64,
    /// Bytes that the server had staged already from an interrupted run.
    pub resumed: u64,
    /// CRC-32C of the whole content; `None` if it was not computed.
    pub crc: Option<u32>,
    /// True if the server confirmed that it is stored durably. A classic server does not confirm.
    pub confirmed: bool,
}

/// Observes transfers. The default methods do nothing; none may block for long.
///
/// `job` is the index of the job in the list that the operation was given.
pub trait Observer: Send {
    /// A file begins: `size` bytes, of which the first `offset` are there already. Called again for the same job if it
    /// restarts, for example after a lost connection: progress then counts from `offset`.
    fn started(&mut self, job: usize, name: &str, size: u64, offset: u64) {
        _ = (job, name, size, offset);
    }

    /// `bytes` more of the file were transferred.
    fn progress(&mut self, job: usize, bytes: u64) {
        _ = (job, bytes);
    }

    /// A download ended. Called once for every job, in any order.
    fn received(&mut self, job: usize, result: &Result<Received, Error>) {
        _ = (job, result);
    }

    /// An upload ended. Called once for every job, in any order.
    fn sent(&mut self, job: usize, result: &Result<Sent, Error>) {
        _ = (job, result);
    }

    /// The connection was lost. The client reconnects after a pause, for the `attempt`th time (from 1).
    fn retrying(&mut self, attempt: u32, error: &Error) {
        _ = (attempt, error);
    }
}

impl Observer for () {}
