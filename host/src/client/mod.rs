//! A client of any skiff server, extended or classic: one control connection, driven by the caller's task.
//!
//! | module | what is in it |
//! |---|---|
//! | `connection` | the TCP connection under a [`skiff_proto::client::ClientSession`] |
//! | `commands` | short commands, one by one and pipelined |
//! | `listing` | `list` and `ls`, with every name checked |
//! | `download`, `sink` | many `read`s on one connection, and the local files they become |
//! | `upload` | many `write`s on one connection |
//! | `classic` | `get` and `put` over data connections |
//! | `local` | partial files, numbered names, putting in place |
//! | `error`, `text`, `cancel`, `job` | what the rest speaks of |
//!
//! A [`Client`] needs a tokio runtime with I/O and time, of any flavour, and starts no tasks or threads. Local files are
//! read and written where the caller runs. Nothing is printed.
//!
//! The first command that has no body goes out in one write with the question for extended commands (PROTOCOL §4), so a
//! one-shot `get` costs one round trip behind the connect.
//!
//! After an operation that left the connection unusable ([`Error::Lost`], [`Error::Cancelled`] in a download, a future that
//! was dropped) the next one connects anew, to the same address.
//!
//! ```no_run
//! # async fn run() -> Result<(), skiff_host::client::Error> {
//! use skiff_host::client::{Client, Download, DownloadOptions, Options, Upload, UploadOptions};
//!
//! let mut client = Client::connect("localhost", 50000, Options::default()).await?;
//! let sent = client.upload(vec![Upload::new("notes.txt", "notes.txt")], &UploadOptions::default(), &mut ()).await;
//! for entry in client.list(None).await?.entries {
//!     println!("{} {}", entry.size, skiff_host::client::sanitize(&entry.name));
//! }
//! let got = client.download(vec![Download::new("notes.txt", "copy.txt")], &DownloadOptions::default(), &mut ()).await;
//! # Ok(())
//! # }
//! ```

mod cancel;
mod error;
mod job;
mod text;

use core::time::Duration;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use cancel::CancelToken;
pub use error::Error;
pub use job::{Download, DownloadOptions, Existing, Observer, Received, Sent, Source, Target, Upload, UploadOptions};
pub use skiff_proto::client::Peer;
pub use skiff_proto::command::Verbs;
pub use skiff_proto::store::{Space, Stat};
pub use skiff_proto::{ErrorCode, NameError, ProtocolError};
pub use text::{is_dangerous, sanitize};

/// How a [`Client`] behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a connect may take, each address of the host. Default: 10 s.
    pub connect_timeout: Duration,
    /// How long a server that owes something may make no progress. Default: 60 s.
    pub idle: Duration,
    /// How long a server may work on one `sum`, `resume` or the end of a `write` without a sign of life. Default: 300 s.
    pub work: Duration,
    /// How often a lost connection is made anew before a transfer is given up; bytes that came through start the count
    /// afresh. Default: 3.
    pub retries: u32,
    /// The pause before the first of these tries; it doubles each time. Default: 500 ms.
    pub retry_delay: Duration,
    /// The longest listing taken from a server, in bytes. Default: 64 MiB.
    pub list_limit: u64,
    /// Stops the operations of this client.
    pub cancel: CancelToken,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            work: Duration::from_secs(300),
            retries: 3,
            retry_delay: Duration::from_millis(500),
            list_limit: 64 << 20,
            cancel: CancelToken::new(),
        }
    }
}

/// What a server told of itself in the hello reply (PROTOCOL §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloInfo {
    /// Product and version. Not yet safe for a terminal.
    pub server: String,
    /// The extended commands it accepts.
    pub commands: Verbs,
    /// The longest name, in bytes.
    pub name_max: u16,
    /// Seconds without progress after which it closes the connection, if it says so.
    pub idle: Option<u32>,
    /// It takes and sends bodies without a checksum.
    pub nocrc: bool,
}

/// One file or directory of a listing. Its name keeps the rules of PROTOCOL §2 and lies in the directory that was
/// listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteEntry {
    /// The name, relative to the store's root, without a `/` at the end. Not yet safe for a terminal.
    pub name: String,
    /// Bytes; 0 for a directory.
    pub size: u64,
    /// Seconds since 1970-01-01 UTC, if the server says so.
    pub mtime: Option<u64>,
    /// CRC-32C of the content, if the server knows it without reading.
    pub crc: Option<u32>,
    /// True for a directory.
    pub is_dir: bool,
}

/// A line of a listing that was not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedEntry {
    /// The name or line as it came, what is no UTF-8 replaced. Not yet safe for a terminal.
    pub name: String,
    /// What is wrong with it.
    pub why: EntryError,
}

/// What is wrong with a line of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The name breaks the rules of PROTOCOL §2.
    #[error("{0}")]
    Name(NameError),
    /// It does not lie in the directory that was listed.
    #[error("it does not lie in the directory that was listed")]
    Elsewhere,
    /// The line is no `SIZE MTIME CRC NAME`.
    #[error("malformed line")]
    Malformed,
}

/// What `list` or `ls` brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Files and directories, in the server's order.
    pub entries: Vec<RemoteEntry>,
    /// Lines that were not used, the first 100 of them.
    pub refused: Vec<RefusedEntry>,
}

/// What a server still has staged from an interrupted `write`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staged {
    /// Bytes.
    pub offset: u64,
    /// Their CRC-32C.
    pub crc: Option<u32>,
}

/// The checksum of a file or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    /// Bytes that it covers.
    pub length: u64,
    /// Their CRC-32C.
    pub crc: Option<u32>,
}

/// One control connection to a server.
#[derive(Debug)]
pub struct Client {}

#[expect(unused_variables, reason = "stubs")]
impl Client {
    /// Connects to `port` of `host`, a name or an IP address: every address it resolves to is tried, in the system's
    /// order. Data connections and later reconnects go to the address that answered, and nowhere else.
    ///
    /// # Errors
    /// [`Error::Connect`] with what the last address said; [`Error::Cancelled`].
    pub async fn connect(host: &str, port: u16, options: Options) -> Result<Self, Error> {
        todo!()
    }

    /// `host:port` as the caller gave it, an IPv6 address in brackets.
    #[must_use]
    pub fn address(&self) -> &str {
        todo!()
    }

    /// The address that the connection goes to.
    #[must_use]
    pub fn remote_addr(&self) -> SocketAddr {
        todo!()
    }

    /// What kind of server it is, [`Peer::Unknown`] before the first operation.
    #[must_use]
    pub fn peer(&self) -> Peer {
        todo!()
    }

    /// Stops operations of this client: [`Options::cancel`].
    #[must_use]
    pub fn cancel_token(&self) -> CancelToken {
        todo!()
    }

    /// Asks the server what it is, unless that is known already. `None`: a classic one.
    ///
    /// # Errors
    /// Of the connection.
    pub async fn hello(&mut self) -> Result<Option<&HelloInfo>, Error> {
        todo!()
    }

    /// `ping`: says how long the answer took, without the time for a connect.
    ///
    /// # Errors
    /// Of the connection; [`Error::NeedsExtended`].
    pub async fn ping(&mut self) -> Result<Duration, Error> {
        todo!()
    }

    /// `list`: one directory, the root without `dir`. Needs memory for all of it; [`Client::list_with`] does not. To a
    /// classic server and without `dir` it is `ls`, so sizes are 0 and nothing else is known.
    ///
    /// # Errors
    /// As [`Client::list_with`].
    pub async fn list(&mut self, dir: Option<&str>) -> Result<Listing, Error> {
        todo!()
    }

    /// `list`: shows one entry after the other as they come. Whoever acts on them before the end must know that the
    /// listing may yet turn out wrong. Returns the lines that were not used, the first 100 of them.
    ///
    /// # Errors
    /// [`Error::Refused`], `not-found` for what is no directory; [`Error::TooLong`]; [`Error::Mismatch`];
    /// [`Error::Aborted`]; [`Error::NeedsExtended`]; of the connection.
    pub async fn list_with(
        &mut self,
        dir: Option<&str>,
        show: &mut dyn FnMut(RemoteEntry),
    ) -> Result<Vec<RefusedEntry>, Error> {
        todo!()
    }

    /// Classic `ls`, which extended servers know too: names of the root's files, nothing else about them (size 0).
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::Refused`], of the connection.
    pub async fn ls(&mut self) -> Result<Listing, Error> {
        todo!()
    }

    /// `stat`
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::BadName`], [`Error::NeedsExtended`], of the connection.
    pub async fn stat(&mut self, name: &str) -> Result<Stat, Error> {
        todo!()
    }

    /// `stat` of many files, pipelined; the results are in the order of the names.
    ///
    /// # Errors
    /// Those of a name are in its place. [`Error::NeedsExtended`] and those of the connection, from then on, too.
    pub async fn stat_many<S: AsRef<str>>(&mut self, names: &[S]) -> Vec<Result<Stat, Error>> {
        todo!()
    }

    /// `sum`: the checksum of `length` bytes (`None`: to the end) from `offset` on, computed by the server.
    ///
    /// # Errors
    /// As [`Client::stat`].
    pub async fn sum(&mut self, name: &str, offset: u64, length: Option<u64>) -> Result<Sum, Error> {
        todo!()
    }

    /// `resume`: what is staged of `name` for a `write` of `size` bytes, and whether such a write could begin.
    ///
    /// # Errors
    /// As [`Client::stat`].
    pub async fn resume(&mut self, name: &str, size: u64) -> Result<Staged, Error> {
        todo!()
    }

    /// `remove`. Not tried again after a lost connection: it may have happened.
    ///
    /// # Errors
    /// As [`Client::stat`].
    pub async fn remove(&mut self, name: &str) -> Result<(), Error> {
        todo!()
    }

    /// `remove` of many files, pipelined; the results are in the order of the names.
    ///
    /// # Errors
    /// As [`Client::stat_many`].
    pub async fn remove_many<S: AsRef<str>>(&mut self, names: &[S]) -> Vec<Result<(), Error>> {
        todo!()
    }

    /// `rename`: replaces `to` if it exists.
    ///
    /// # Errors
    /// As [`Client::stat`].
    pub async fn rename(&mut self, from: &str, to: &str) -> Result<(), Error> {
        todo!()
    }

    /// `mkdir`
    ///
    /// # Errors
    /// As [`Client::stat`]; `exists`.
    pub async fn mkdir(&mut self, name: &str) -> Result<(), Error> {
        todo!()
    }

    /// `mkdir` of many directories, pipelined and in their order; the results are in the order of the names.
    ///
    /// # Errors
    /// As [`Client::stat_many`].
    pub async fn mkdir_many<S: AsRef<str>>(&mut self, names: &[S]) -> Vec<Result<(), Error>> {
        todo!()
    }

    /// `rmdir`
    ///
    /// # Errors
    /// As [`Client::stat`]; `not-empty`.
    pub async fn rmdir(&mut self, name: &str) -> Result<(), Error> {
        todo!()
    }

    /// `space`
    ///
    /// # Errors
    /// As [`Client::stat`].
    pub async fn space(&mut self) -> Result<Space, Error> {
        todo!()
    }

    /// Fetches files, from an extended server pipelined on this connection, from a classic one one after the other. The
    /// results are in the order of the jobs.
    ///
    /// A lost connection is made anew and transfers go on where they stopped ([`Options::retries`]). When it is
    /// cancelled the file that is under way keeps its partial file for [`DownloadOptions::resume`], and the connection
    /// is made anew by the next operation.
    pub async fn download(
        &mut self,
        jobs: Vec<Download>,
        options: &DownloadOptions,
        observer: &mut dyn Observer,
    ) -> Vec<Result<Received, Error>> {
        todo!()
    }

    /// Sends files, to an extended server pipelined on this connection, to a classic one one after the other. The
    /// results are in the order of the jobs.
    ///
    /// A lost connection is made anew and transfers go on where they stopped ([`Options::retries`]). When it is
    /// cancelled the file that is under way is aborted, and the connection stays usable.
    pub async fn upload(
        &mut self,
        jobs: Vec<Upload>,
        options: &UploadOptions,
        observer: &mut dyn Observer,
    ) -> Vec<Result<Sent, Error>> {
        todo!()
    }

    /// Says `quit` and closes the connection.
    pub async fn quit(self) {
        todo!()
    }
}

/// The path of the server's `name` beneath the local directory `dir`, with its directories.
///
/// # Errors
/// [`Error::BadName`] if it breaks the rules of PROTOCOL §2; [`Error::LocalName`] if this system can't have such a file.
pub fn local_path(dir: &Path, name: &str) -> Result<PathBuf, Error> {
    _ = (dir, name);
    todo!()
}
