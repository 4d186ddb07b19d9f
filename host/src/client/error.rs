//! What can go wrong, by whose fault.

use core::time::Duration;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skiff_proto::transfer::TransferError;
use skiff_proto::{ErrorCode, NameError, ProtocolError};

use super::text::sanitize;

/// Why an operation failed. What a server said, names and paths are shown with [`sanitize`] applied, so the text of an
/// error may go to a terminal.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection came about, at any address of the host.
    #[error("can not connect to {address}: {source}")]
    Connect {
        /// `host:port` as the caller gave it.
        address: String,
        /// What the last address tried said.
        source: Arc<io::Error>,
    },
    /// The connection broke.
    #[error("connection to {address} lost: {source}")]
    Lost {
        /// `host:port` as the caller gave it.
        address: String,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// The server owed something and made no progress.
    #[error("{address} has made no progress for {} s", after.as_secs())]
    Timeout {
        /// `host:port` as the caller gave it.
        address: String,
        /// For how long.
        after: Duration,
    },
    /// The connection was made, but nothing ever came: perhaps another kind of server listens there.
    #[error("no response from {address}; is a skiff server running there?")]
    Mute {
        /// `host:port` as the caller gave it.
        address: String,
    },
    /// The server broke the protocol.
    #[error("{address} breaks the protocol: {source}")]
    Protocol {
        /// `host:port` as the caller gave it.
        address: String,
        /// How.
        source: ProtocolError,
    },
    /// The server talks only to clients that have a key.
    #[error("{address} talks only to clients with a key: give one with --key FILE or SKIFF_KEY")]
    KeyNeeded {
        /// `host:port` as the caller gave it.
        address: String,
    },
    /// The server does not accept the key.
    #[error("{address} refuses the key {key}: it is another server's, or was revoked; ask its owner for a new one")]
    KeyRefused {
        /// `host:port` as the caller gave it.
        address: String,
        /// The KEYID.
        key: String,
    },
    /// The client has a key, and the server does not protect connections: nothing but the hello was sent.
    #[error(
        "{address} does not encrypt, so the key is of no use and nothing was sent: start it with --secret, or leave out the key"
    )]
    Unprotected {
        /// `host:port` as the caller gave it.
        address: String,
    },
    /// The server said no.
    #[error("{}", refusal(*code, word, text))]
    Refused {
        /// The code; `None` for one that this version does not know.
        code: Option<ErrorCode>,
        /// The code as it came. Not yet safe for a terminal.
        word: String,
        /// What the server says of it. Not yet safe for a terminal.
        text: String,
    },
    /// `-1` to a classic `get` or `put`: no such file, or not now. The server does not say which.
    #[error("the server refused (classic servers do not say why: no such file, or not allowed)")]
    ClassicRefused,
    /// The server gave up in the middle of a file or listing.
    #[error("the server gave up: {}", refusal(*code, word, text))]
    Aborted {
        /// The code; `None` for one that this version does not know.
        code: Option<ErrorCode>,
        /// The code as it came. Not yet safe for a terminal.
        word: String,
        /// What the server says of it. Not yet safe for a terminal.
        text: String,
    },
    /// The server knows get, put, ls and quit only.
    #[error("{what} needs a server with the extended commands; this one is classic and knows get, put, ls and quit")]
    NeedsExtended {
        /// What was asked for, as `stat` or `continuing a transfer`.
        what: &'static str,
    },
    /// A name that can't be a file's name on a server.
    #[error("bad name {}: {source}", sanitize(name))]
    BadName {
        /// The name. Not yet safe for a terminal.
        name: String,
        /// The rule that it breaks.
        source: NameError,
    },
    /// A name that can't be said to a classic server.
    #[error("bad name {}: a classic server takes names of ASCII without white space only", sanitize(name))]
    ClassicName {
        /// The name. Not yet safe for a terminal.
        name: String,
    },
    /// A name that can't be a local file's on this system.
    #[error("the name {} can not be used on this system", sanitize(name))]
    LocalName {
        /// The name. Not yet safe for a terminal.
        name: String,
    },
    /// A classic server may damage what is not UTF-8 text, so it is sent only if asked for.
    #[error("{}: not UTF-8 text, which a classic server may damage", shown(path))]
    NotText {
        /// The local file.
        path: PathBuf,
    },
    /// The local file system said no.
    #[error("{}: {source}", shown(path))]
    Local {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// The local file changed while it was sent.
    #[error("{}: the file changed while it was sent", shown(path))]
    Changed {
        /// The local file.
        path: PathBuf,
    },
    /// What came is not what the server has: the checksum or the length differs. Nothing was saved.
    #[error("verification failed: {what}")]
    Mismatch {
        /// What differs.
        what: String,
    },
    /// A classic data connection did not bring a whole file, or did not take it. Nothing was saved.
    #[error("data connection: {source}")]
    Transfer {
        /// Why not.
        source: TransferError,
    },
    /// A classic data connection could not be made or broke.
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
    /// The caller stopped it.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// The server's code, if it said no or gave up with one that this version knows.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } | Self::Aborted { code, .. } => *code,
            _ => None,
        }
    }

    /// True if the connection was lost or never made: trying again may help.
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
}

impl From<Error> for io::Error {
    /// The kind is the nearest that there is; the [`Error`] itself is inside.
    fn from(error: Error) -> Self {
        use io::ErrorKind as Kind;

        let kind = match &error {
            Error::Connect { source, .. }
            | Error::Lost { source, .. }
            | Error::Local { source, .. }
            | Error::Data { source, .. } => source.kind(),
            Error::Timeout { .. } | Error::Mute { .. } => Kind::TimedOut,
            Error::Protocol { .. } | Error::Mismatch { .. } | Error::Transfer { .. } => Kind::InvalidData,
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

/// A path for people. It may be made of a name that a server sent.
fn shown(path: &Path) -> String {
    sanitize(&path.to_string_lossy()).into_owned()
}

/// One line for people: the code's own sentence where the server adds nothing to it.
fn refusal(code: Option<ErrorCode>, word: &str, text: &str) -> String {
    match code {
        Some(ErrorCode::NotFound) => "no such file or directory on the server".to_owned(),
        Some(code) if text.is_empty() => format!("{} ({code})", code.text()),
        _ if text.is_empty() => sanitize(word).into_owned(),
        _ => format!("{} ({})", sanitize(text), sanitize(word)),
    }
}
