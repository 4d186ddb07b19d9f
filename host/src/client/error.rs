//! Errors, by who caused them.

use core::time::Duration;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skiff_proto::transfer::TransferError;
use skiff_proto::{ErrorCode, NameError, ProtocolError};

use super::text::sanitize;

/// Why an operation failed. Text from the server, names and paths are shown with [`sanitize`] applied, so an error can
/// be printed to a terminal.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection could be made to any address of the host.
    #[error("can't connect to {address}: {source}")]
    Connect {
        /// `host:port` as the caller gave it.
        address: String,
        /// The error of the last address that was tried.
        source: Arc<io::Error>,
    },
    /// The connection was lost.
    #[error("connection to {address} lost: {source}")]
    Lost {
        /// `host:port` as the caller gave it.
        address: String,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
    /// The server owed a response and made no progress.
    #[error("timed out: {address} made no progress for {} s", after.as_secs())]
    Timeout {
        /// `host:port` as the caller gave it.
        address: String,
        /// For how long.
        after: Duration,
    },
    /// The connection was accepted, but nothing was received: another kind of server may be listening there.
    #[error("no response from {address}; is a skiff server running there?")]
    Mute {
        /// `host:port` as the caller gave it.
        address: String,
    },
    /// The first bytes from the server can't be a reply: something else listens there.
    #[error("{address} answers, but is not a skiff server{}", quoted(said))]
    NotSkiff {
        /// `host:port` as the caller gave it.
        address: String,
        /// The first line that it sent, at most 60 bytes. Not yet safe for a terminal.
        said: Vec<u8>,
    },
    /// The server violated the protocol.
    #[error("{address} violated the protocol: {source}")]
    Protocol {
        /// `host:port` as the caller gave it.
        address: String,
        /// How.
        source: ProtocolError,
    },
    /// The server talks only to clients that have a key.
    #[error("{address} requires a key; give one with --key FILE or SKIFF_KEY")]
    KeyNeeded {
        /// `host:port` as the caller gave it.
        address: String,
    },
    /// The server does not accept the key.
    #[error(
        "{address} rejected the key {key}: it belongs to another server or was revoked; ask the server's owner for a new one"
    )]
    KeyRefused {
        /// `host:port` as the caller gave it.
        address: String,
        /// The KEYID.
        key: String,
    },
    /// The client has a key, but the server does not encrypt. Nothing but the hello was sent.
    #[error("{address} does not encrypt, so nothing was sent; start it with --secret, or omit the key")]
    Unprotected {
        /// `host:port` as the caller gave it.
        address: String,
    },
    /// The server refused the command.
    #[error("{}", refusal(*code, word, text))]
    Refused {
        /// The code; `None` for one that this version does not know.
        code: Option<ErrorCode>,
        /// The code as received. Not yet safe for a terminal.
        word: String,
        /// The text from the server. Not yet safe for a terminal.
        text: String,
    },
    /// `-1` to a classic `get` or `put`: no such file, or not now. The server does not say which.
    #[error("the server refused (a classic server gives no reason: no such file, or not allowed)")]
    ClassicRefused,
    /// The server aborted a file or listing in the middle.
    #[error("the server aborted the transfer: {}", refusal(*code, word, text))]
    Aborted {
        /// The code; `None` for one that this version does not know.
        code: Option<ErrorCode>,
        /// The code as received. Not yet safe for a terminal.
        word: String,
        /// The text from the server. Not yet safe for a terminal.
        text: String,
    },
    /// The server has only the classic commands.
    #[error("{what} needs a server with the extended commands; this one is classic and knows get, put, ls and quit")]
    NeedsExtended {
        /// What was requested, such as `stat` or `continuing a transfer`.
        what: &'static str,
    },
    /// A name that is not valid on a server.
    #[error("bad name {}: {source}", sanitize(name))]
    BadName {
        /// The name. Not yet safe for a terminal.
        name: String,
        /// The rule that it breaks.
        source: NameError,
    },
    /// A name that can't be sent to a classic server.
    #[error("bad name {}: a classic server accepts only ASCII names without white space", sanitize(name))]
    ClassicName {
        /// The name. Not yet safe for a terminal.
        name: String,
    },
    /// A name that is not valid for a local file on this system.
    #[error("the name {} can't be used on this system", sanitize(name))]
    LocalName {
        /// The name. Not yet safe for a terminal.
        name: String,
    },
    /// A classic server may corrupt content that is not UTF-8 text, so it is sent only on request.
    #[error("{}: not UTF-8 text; a classic server may corrupt it", shown(path))]
    NotText {
        /// The local file.
        path: PathBuf,
    },
    /// The local file system returned an error.
    #[error("{}: {source}", shown(path))]
    Local {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
    /// The local file changed while it was sent.
    #[error("{}: the file changed during the upload", shown(path))]
    Changed {
        /// The local file.
        path: PathBuf,
    },
    /// The received file does not match the server's: checksum or length differ. Nothing was saved.
    #[error("verification failed: {what}")]
    Mismatch {
        /// What differs.
        what: String,
    },
    /// A classic data connection did not deliver a complete file, or did not accept it. Nothing was saved.
    #[error("data connection: {source}")]
    Transfer {
        /// Why not.
        source: TransferError,
    },
    /// A classic data connection could not be made, or was lost.
    #[error("data connection to {address}: {source}")]
    Data {
        /// The server's address and the announced port.
        address: String,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// A listing longer than [`Options::list_limit`](super::Options::list_limit), or a file longer than the limit of
    /// [`Target::Memory`](super::Target::Memory).
    #[error("the {what} is longer than {limit} bytes")]
    TooLong {
        /// `listing` or `file`.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// The caller cancelled the operation.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// The server's error code, if it refused or aborted with one that this version knows.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } | Self::Aborted { code, .. } => *code,
            _ => None,
        }
    }

    /// True if the connection was lost or never made: a retry may succeed.
    #[must_use]
    pub const fn is_connection(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. }
                | Self::Lost { .. }
                | Self::Timeout { .. }
                | Self::Mute { .. }
                // The server has waited for too long and closes.
                | Self::Refused { code: Some(ErrorCode::Timeout), .. }
        )
    }

    /// True if a local file could not be written for lack of space.
    #[must_use]
    pub fn is_local_space(&self) -> bool {
        let is_space = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        matches!(self, Self::Local { source, .. } if is_space(source.kind()))
    }
}

impl From<Error> for io::Error {
    /// Uses the closest [`io::ErrorKind`]; the [`Error`] itself is inside.
    fn from(error: Error) -> Self {
        use io::ErrorKind as Kind;

        let kind = match &error {
            Error::Connect { source, .. }
            | Error::Lost { source, .. }
            | Error::Local { source, .. }
            | Error::Data { source, .. } => source.kind(),
            Error::Timeout { .. } | Error::Mute { .. } => Kind::TimedOut,
            Error::NotSkiff { .. } | Error::Protocol { .. } | Error::Mismatch { .. } | Error::Transfer { .. } => {
                Kind::InvalidData
            }
            Error::KeyNeeded { .. } | Error::KeyRefused { .. } | Error::Unprotected { .. } => Kind::PermissionDenied,
            Error::NeedsExtended { .. } => Kind::Unsupported,
            Error::BadName { .. } | Error::ClassicName { .. } | Error::LocalName { .. } => Kind::InvalidInput,
            Error::Refused { code, .. } | Error::Aborted { code, .. } => match code {
                Some(ErrorCode::NotFound) => Kind::NotFound,
                Some(ErrorCode::Exists) => Kind::AlreadyExists,
                Some(ErrorCode::IsDirectory) => Kind::IsADirectory,
                Some(ErrorCode::NoSpace) => Kind::StorageFull,
                Some(ErrorCode::Busy) => Kind::ResourceBusy,
                Some(ErrorCode::Denied) => Kind::PermissionDenied,
                Some(ErrorCode::ReadOnly) => Kind::ReadOnlyFilesystem,
                _ => Kind::Other,
            },
            _ => Kind::Other,
        };
        Self::new(kind, error)
    }
}

/// A path for output. It may contain a name from a server.
fn shown(path: &Path) -> String {
    sanitize(&path.to_string_lossy()).into_owned()
}

/// The longest beginning of a foreign answer that [`Error::NotSkiff`] keeps, in bytes.
pub(super) const SAID_MAX: usize = 60;

/// What a foreign server said, if it said something: ` (it says "SSH-2.0-OpenSSH_9.6")`.
fn quoted(said: &[u8]) -> String {
    if said.is_empty() { String::new() } else { format!(" (it says \"{}\")", said.escape_ascii()) }
}

/// One line for people: the standard text of the code if the server adds nothing to it.
fn refusal(code: Option<ErrorCode>, word: &str, text: &str) -> String {
    match code {
        Some(ErrorCode::NotFound) => "no such file or directory on the server".to_owned(),
        Some(code) if text.is_empty() => format!("{} ({code})", code.text()),
        _ if text.is_empty() => sanitize(word).into_owned(),
        _ => format!("{} ({})", sanitize(text), sanitize(word)),
    }
}
