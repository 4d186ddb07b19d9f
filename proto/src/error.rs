//! Errors, by cause: peer, caller, store (PROTOCOL §6).

use core::fmt;

use crate::name::NameError;

words! {
    /// The CODE of an `error` reply or an `abort` trailer, for programs (PROTOCOL §6).
    #[derive(Hash)]
    pub enum ErrorCode;

    /// The default text for this code.
    pub const fn text -> &'static str;

    /// A message length that is not ten digits.
    BadLength "bad-length" "a length is ten digits";
    /// An unknown or malformed command.
    BadCommand "bad-command" "no such command, or its arguments are wrong";
    /// A name that breaks the rules of PROTOCOL §2.
    BadName "bad-name" "this name is not allowed here";
    /// A command or trailer longer than the receiver reads.
    TooLong "too-long" "too long";
    /// No such file or directory.
    NotFound "not-found" "no such file or directory";
    /// The name is taken.
    Exists "exists" "it already exists";
    /// The name of a directory where a file is needed.
    IsDirectory "is-directory" "this is a directory";
    /// `rmdir` of a directory that is not empty.
    NotEmpty "not-empty" "the directory is not empty";
    /// An offset beyond the end.
    Range "range" "the offset is beyond the end";
    /// A checksum, total or offset does not match.
    Mismatch "mismatch" "checksum, length or offset do not match";
    /// The store is full.
    NoSpace "no-space" "no space left";
    /// Another connection is writing this name.
    Busy "busy" "another client is writing this file";
    /// Not permitted.
    Denied "denied" "permission denied";
    /// The server is read-only.
    ReadOnly "read-only" "this server is read-only";
    /// The file changed while it was read.
    Changed "changed" "the file changed while it was read";
    /// The storage failed.
    Io "io" "the storage failed";
    /// No progress for too long.
    Timeout "timeout" "no progress for too long";
    /// The server does not do this.
    Unsupported "unsupported" "this server can not do that";
    /// The sender cancelled it.
    Cancelled "cancelled" "cancelled";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal is a normal answer: it is sent as `error CODE TEXT`, or as `-1` to a classic command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Refusal {
    /// The code, for programs.
    pub code: ErrorCode,
    /// The text, for people: one line without control characters, at most 200 bytes.
    pub text: &'static str,
}

impl Refusal {
    /// A refusal with its own text. At most 200 bytes of `text` are sent.
    #[must_use]
    pub const fn new(code: ErrorCode, text: &'static str) -> Self {
        Self { code, text }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code, text: code.text() }
    }
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        Self { code: ErrorCode::BadName, text: error.text() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

impl core::error::Error for Refusal {}

/// The peer broke the protocol. This error is final: from then on the session always returns it, and the connection
/// ends once the queued output has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ProtocolError {
    /// A length that is not ten digits (PROTOCOL §1).
    BadLength,
    /// A message of more than 65,536 bytes in command position, or a trailer of more than 512.
    TooLong {
        /// The announced length in bytes.
        length: u64,
    },
    /// A record that does not verify, or is too short or too long: the connection is reset.
    Forged,
    /// The key may not seal another message: the connection is reset instead.
    Spent,
    /// The server does not offer the protection that the client's key needs, or refused it (client side).
    NotProtected,
    /// A reply that does not fit the command it answers (client side).
    BadReply,
    /// A reply without a request (client side).
    UnexpectedReply,
    /// The connection ended inside a message or a body, or with replies outstanding (client side).
    UnexpectedEnd,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadLength => f.write_str("a message length that is not ten digits"),
            Self::TooLong { length } => write!(f, "a message of {length} bytes where a short one belongs"),
            Self::Forged => f.write_str("a message that does not verify"),
            Self::Spent => f.write_str("too many messages for one key"),
            Self::NotProtected => f.write_str("the server does not protect the connection"),
            Self::BadReply => f.write_str("a reply that does not fit the command"),
            Self::UnexpectedReply => f.write_str("a reply that nobody asked for"),
            Self::UnexpectedEnd => f.write_str("the connection ended in the middle"),
        }
    }
}

impl core::error::Error for ProtocolError {}

/// The caller used a session out of order. Nothing has changed; this is a bug of the driver, not of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct InvalidState;

impl fmt::Display for InvalidState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the session is not in a state for this call")
    }
}

impl core::error::Error for InvalidState {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_parses_back_and_its_text_is_one_short_line() {
        assert_eq!(ErrorCode::ALL.len(), 19);
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::parse(code.as_str().as_bytes()), Some(code));
            assert!(code.text().len() <= 200 && !code.text().chars().any(char::is_control));
        }
        assert_eq!(ErrorCode::parse(b"BUSY"), None);
        assert_eq!(ErrorCode::parse(b""), None);
    }
}
