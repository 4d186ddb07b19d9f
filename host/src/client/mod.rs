//! A client of any skiff server, extended or classic: one control connection, driven by the caller's task.
//!
//! | module | what is in it |
//! |---|---|
//! | `dial`, `line`, `serial`, `connection`, `event` | the TCP connection or serial line under a [`skiff_proto::client::ClientSession`] |
//! | `commands` | short commands, one by one and pipelined |
//! | `listing` | `list`, `tree` and `ls`, with every name checked |
//! | `files`, `passes` | the files of one call, over one or more connections |
//! | `download` | many `read`s on one connection, one file over several sessions, and the local files they become |
//! | `upload` | many `write`s on one connection, and the local files they come from |
//! | `file` | one file, to and from a path or memory |
//! | `reader`, `writer`, `wait` | one file as a stream |
//! | `data` | data connections of the classic `get` and `put` |
//! | `local`, `checksum` | partial files, numbered names, putting in place |
//! | `error`, `name`, `text`, `cancel`, `job` | types that the other modules use |
//!
//! A [`Client`] needs a tokio runtime with I/O and time, of any flavour, and starts no tasks or threads. Local files
//! are read and written where the caller runs. Nothing is printed.
//!
//! The first command without a body is sent in one write with the question for extended commands (PROTOCOL §4), so a
//! one-shot `get` costs one round trip after the connect.
//!
//! If an operation leaves the connection unusable ([`Error::Lost`], [`Error::Cancelled`] in a download, a dropped
//! future), the next operation reconnects to the same address.
//!
//! ```no_run
//! # async fn run() -> Result<(), skiff_host::client::Error> {
//! use skiff_host::client::{Client, Options};
//!
//! let mut client = Client::connect("localhost", 50000, Options::default()).await?;
//! client.put("notes.txt", "notes.txt").await?;
//! client.get("notes.txt", "copy.txt").await?;
//! client.put_bytes("led", "on").await?;
//! let config = client.get_bytes("config.json", 64 << 10).await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Client::read`] and [`Client::write`] open a file as a stream. [`Client::download`] and [`Client::upload`] transfer
//! many files at once, with options and an observer:
//!
//! ```no_run
//! # async fn run(client: &mut skiff_host::client::Client) -> Result<(), skiff_host::client::Error> {
//! use skiff_host::client::{Download, DownloadOptions};
//!
//! let entries = client.list(None).await?.entries;
//! let jobs = entries.iter().map(|entry| Download::new(&entry.name, entry.name.replace('/', "_"))).collect();
//! for result in client.download(jobs, &DownloadOptions { resume: true, ..Default::default() }, &mut ()).await {
//!     println!("{} bytes", result?.size);
//! }
//! # Ok(())
//! # }
//! ```

mod access;
mod cancel;
mod checksum;
mod commands;
mod connection;
mod data;
mod dial;
mod download;
mod error;
mod event;
mod file;
mod files;
mod job;
mod line;
mod listing;
mod local;
mod name;
mod passes;
mod reader;
#[cfg(all(feature = "serial", unix))]
mod serial;
mod text;
mod upload;
mod wait;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

use core::net::SocketAddr;
use core::num::NonZeroU64;
use core::time::Duration;
use std::sync::Arc;

use connection::{Connection, Incoming, Patience};
use dial::resolve;

use crate::address::DEFAULT_PORT;
#[cfg(all(feature = "serial", unix))]
use crate::address::SerialPort;

pub use access::Access;
pub use cancel::CancelToken;
#[cfg(feature = "cli")]
pub(crate) use checksum::{checksum_of, checksums_of};
pub use commands::{Staged, Sum};
#[cfg(feature = "cli")]
pub(crate) use dial::on_thread;
pub use error::Error;
pub use event::HelloInfo;
pub use job::{Download, DownloadOptions, Existing, Observer, Received, Sent, Source, Target, Upload, UploadOptions};
pub use listing::{EntryError, Listing, RefusedEntry, RemoteEntry};
pub use local::{is_partial, local_path};
pub use reader::Reader;
pub use skiff_proto::client::Peer;
pub use skiff_proto::command::{Verb, Verbs};
pub use skiff_proto::identity::KeyId;
pub use skiff_proto::reply::Tag;
pub use skiff_proto::store::{Space, Stat};
pub use skiff_proto::{ErrorCode, NameError, ProtocolError};
pub use text::{is_dangerous, sanitize};
pub use writer::Writer;

/// Options of a [`Client`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Timeout for connecting to each address of the host. Default: 10 s.
    pub connect_timeout: Duration,
    /// Timeout for a server that owes something and makes no progress, and for reconnecting after a lost connection.
    /// Default: 60 s.
    pub idle: Duration,
    /// Timeout for a server that works on one `sum`, `copy`, `resume` or the end of a `write` and sends nothing.
    /// Default: 300 s.
    pub work: Duration,
    /// Maximum number of reconnects in a row; progress resets the count. The client also gives up after `idle`.
    /// Default: no limit.
    pub retries: u32,
    /// The pause before the first reconnect. It doubles each time, up to 16 times as long. Default: 500 ms.
    pub retry_delay: Duration,
    /// Use only portable system calls. Other systems always do. Default: false.
    pub portable: bool,
    /// The longest listing accepted from a server, in bytes. Default: 64 MiB.
    pub list_limit: u64,
    /// The key of the client. Default: none, unprotected.
    pub access: Access,
    /// Downloads and uploads of files take at most so many bytes a second, each session. Default: no limit.
    pub rate: Option<NonZeroU64>,
    /// Cancels the operations of this client.
    pub cancel: CancelToken,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            work: Duration::from_secs(300),
            retries: u32::MAX,
            retry_delay: Duration::from_millis(500),
            portable: false,
            list_limit: 64 << 20,
            access: Access::default(),
            rate: None,
            cancel: CancelToken::new(),
        }
    }
}

/// One control connection to a server.
#[derive(Debug)]
pub struct Client {
    /// `host:port` as the caller gave it.
    address: Arc<str>,
    peer: line::Peer,
    namesakes: Vec<SocketAddr>,
    options: Options,
    /// `None` after an operation that left it unusable.
    connection: Option<Box<Connection>>,
    /// What the server said on an earlier connection; the inner `None`: it is classic.
    hello: Option<Option<HelloInfo>>,
    /// How often it has reconnected.
    reconnects: u64,
}

impl Client {
    /// Connects to `port` of `host`, a name or an IP address. Tries every address that it resolves to, in the system's
    /// order and 250 ms apart (RFC 8305), and uses the first one that answers. Data connections and later reconnects go
    /// to that address only.
    ///
    /// # Errors
    /// [`Error::Connect`] with the error of the last address; [`Error::Cancelled`].
    pub async fn connect(host: &str, port: u16, options: Options) -> Result<Self, Error> {
        Self::connect_to(host, Some(port), options).await
    }

    /// The same without a port: a name that ends in `.local` has the port of the server that the host announces by mDNS
    /// (with the feature `mdns`). If it announces none or several, and for all other hosts, the port is
    /// [`DEFAULT_PORT`].
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_announced(host: &str, options: Options) -> Result<Self, Error> {
        Self::connect_to(host, None, options).await
    }

    async fn connect_to(host: &str, port: Option<u16>, options: Options) -> Result<Self, Error> {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let address = |port: u16| -> Arc<str> {
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }.into()
        };
        let asked = address(port.unwrap_or(DEFAULT_PORT));
        let (peers, namesakes) = resolve(host, port, &asked, &options.cancel).await?;
        let address = peers.first().map_or(asked, |peer| address(peer.port()));
        let (connection, peer) = Connection::open(&peers, &address, &options).await?;
        let peer = line::Peer::Network(peer);
        let connection = Some(Box::new(connection));
        Ok(Self { address, peer, namesakes, options, connection, hello: None, reconnects: 0 })
    }

    /// Opens a session over a serial line (PROTOCOL §9), for this process alone. A later reconnect waits for the port
    /// if it was unplugged. Classic transfers fail with [`Error::NeedsExtended`].
    ///
    /// # Errors
    /// [`Error::Connect`] if the port can't be used; [`Error::Mute`] if nothing answers within
    /// [`Options::connect_timeout`]; [`Error::Cancelled`].
    #[cfg(all(feature = "serial", unix))]
    pub async fn connect_serial(port: SerialPort, options: Options) -> Result<Self, Error> {
        let connection = Connection::open_serial(&port, &options).await?;
        let (address, peer) = (port.to_string().into(), line::Peer::Serial(port));
        let connection = Some(Box::new(connection));
        Ok(Self { address, peer, namesakes: Vec::new(), options, connection, hello: None, reconnects: 0 })
    }

    /// `host:port` as the caller gave it, an IPv6 address in brackets; `serial:PATH:BAUD` for a serial line.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The address of the server; `None` over a serial line.
    #[must_use]
    pub const fn remote_addr(&self) -> Option<SocketAddr> {
        match self.peer {
            line::Peer::Network(peer) => Some(peer),
            #[cfg(all(feature = "serial", unix))]
            line::Peer::Serial(_) => None,
        }
    }

    /// One address of each other host with the same name that mDNS has found on other networks (with the feature
    /// `mdns`).
    #[must_use]
    pub fn namesakes(&self) -> &[SocketAddr] {
        &self.namesakes
    }

    /// The kind of server; [`Peer::Unknown`] before the first operation.
    #[must_use]
    pub fn peer(&self) -> Peer {
        match self.known() {
            None => Peer::Unknown,
            Some(None) => Peer::Classic,
            Some(Some(_)) => Peer::Extended,
        }
    }

    /// The server's hello; `None` before the first operation, and from a classic server.
    #[must_use]
    pub fn hello_info(&self) -> Option<&HelloInfo> {
        self.known().flatten()
    }

    #[expect(clippy::option_option, reason = "not asked yet and classic are two things")]
    fn known(&self) -> Option<Option<&HelloInfo>> {
        let now = self.connection.as_ref().and_then(|connection| connection.hello());
        now.or_else(|| self.hello.as_ref().map(Option::as_ref))
    }

    /// How often it has reconnected since it was created. It does so on its own when an operation finds the connection
    /// closed.
    #[must_use]
    pub const fn reconnects(&self) -> u64 {
        self.reconnects
    }

    /// The KEYID that protects the connection; `None` if it is not protected.
    #[must_use]
    pub fn key_id(&self) -> Option<&KeyId> {
        self.options.access.key_id()
    }

    /// Cancels operations of this client: [`Options::cancel`].
    #[must_use]
    pub fn cancel_token(&self) -> CancelToken {
        self.options.cancel.clone()
    }

    /// Requests the hello, unless it is known already. `None`: a classic server.
    ///
    /// # Errors
    /// Connection errors.
    pub async fn hello(&mut self) -> Result<Option<&HelloInfo>, Error> {
        if self.known().is_none() {
            self.ready().await?;
            let asked = self.settle().await;
            self.closing_on_error(asked)?;
        }
        Ok(self.known().flatten())
    }

    /// Sets [`Options::rate`]. A connection keeps the rate that it has: if that changes, the next command reconnects.
    pub fn set_rate(&mut self, rate: Option<NonZeroU64>) {
        if core::mem::replace(&mut self.options.rate, rate).is_some_and(|old| Some(old) != rate) {
            self.disconnect();
        }
    }

    /// Says `quit` and closes the connection.
    pub async fn quit(mut self) {
        if let Some(connection) = self.connection.take().filter(|connection| connection.is_idle()) {
            connection.close(Duration::from_secs(1)).await;
        }
    }

    /// A connection that is ready for commands, with the question for extended commands queued if it is new.
    async fn ready(&mut self) -> Result<&mut Connection, Error> {
        let connection = self.connected().await?;
        connection.ask()?;
        if connection.is_to_be_protected() {
            let protected = self.settle().await;
            self.closing_on_error(protected)?;
        }
        // It is there: only an error takes it away.
        self.connection.as_deref_mut().ok_or(Error::Cancelled)
    }

    /// True if the next command is the first one of a connection: then its loss does not mean that an idle connection
    /// was closed.
    fn is_fresh(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| connection.hello().is_none())
    }

    /// A connection on which nothing is under way.
    async fn connected(&mut self) -> Result<&mut Connection, Error> {
        if self.options.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if self.connection.as_mut().is_some_and(|connection| !connection.is_idle() || connection.is_stale()) {
            self.disconnect();
        }
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connection = Connection::again(&self.peer, &self.address, &self.options).await?;
                self.reconnects += 1;
                Box::new(connection)
            }
        };
        let connection = self.connection.insert(connection);
        if let Some(rate) = self.options.rate {
            connection.set_rate(rate);
        }
        Ok(connection)
    }

    /// The connection, and how long to wait for it.
    fn parts(&mut self) -> Option<(&mut Connection, Patience<'_>)> {
        let patience = Patience { cancel: Some(&self.options.cancel), idle: self.options.idle, until: None };
        Some((self.connection.as_mut()?, patience))
    }

    /// Waits for all outstanding replies, for operations that need only the hello.
    async fn settle(&mut self) -> Result<(), Error> {
        let Some((connection, patience)) = self.parts() else { return Ok(()) };
        loop {
            while !matches!(connection.poll()?, Incoming::Nothing) {}
            if connection.owed() == 0 {
                return Ok(());
            }
            // The session answers the hello of a server by itself if the connection is to be protected.
            connection.drain();
            connection.exchange(patience).await?;
        }
    }

    /// Drops the connection, for example because the server restarts. The next command makes another one. What is known
    /// about the server is kept.
    pub fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Some(hello) = connection.hello()
        {
            self.hello = Some(hello.cloned());
        }
    }

    /// True if a command failed with `error` because the server had closed the connection while it was idle: then
    /// nothing has happened, and the command may be sent again. `fresh`: the connection was new.
    fn was_closed(&mut self, error: Option<&Error>, fresh: bool) -> bool {
        let heard = self.connection.as_ref().is_some_and(|connection| connection.has_heard());
        let closed = matches!(error, Some(Error::Lost { .. })) && !fresh && !heard;
        if closed {
            self.disconnect();
        }
        closed
    }

    /// An error of the connection makes it unusable.
    fn closing_on_error<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() {
            self.disconnect();
        }
        result
    }
}
