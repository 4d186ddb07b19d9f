//! What has come from the server, owned.

use skiff_proto::client::{BodyError, ClientEvent};
use skiff_proto::command::Verbs;
use skiff_proto::reply::{Hello, RemoteError};

use super::error::Error;

/// An event of the session that borrows nothing from it.
pub(super) type Event = skiff_proto::client::Event<HelloInfo, Error, Error>;

/// What a server told of itself in the hello reply (PROTOCOL §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloInfo {
    /// Product and version. Not yet safe for a terminal.
    pub server: String,
    /// Which one of several servers it is, if it says. Not yet safe for a terminal.
    pub host: Option<String>,
    /// The extended commands it accepts.
    pub commands: Verbs,
    /// The longest name, in bytes.
    pub name_max: u16,
    /// Seconds without progress after which it closes the connection, if it says so.
    pub idle: Option<u32>,
    /// It takes and sends bodies without a checksum.
    pub nocrc: bool,
}

impl From<Hello<'_>> for HelloInfo {
    fn from(hello: Hello<'_>) -> Self {
        let Hello { server, host, commands, name_max, idle, nocrc } = hello;
        Self { server: server.to_owned(), host: host.map(str::to_owned), commands, name_max, idle, nocrc }
    }
}

pub(super) fn owned(event: ClientEvent<'_>) -> Event {
    event.map(HelloInfo::from, |error| refused(&error), broken)
}

/// `error CODE TEXT` as an error.
pub(super) fn refused(error: &RemoteError<'_>) -> Error {
    Error::Refused { code: error.code, word: error.word.to_owned(), text: error.text.to_owned() }
}

fn broken(error: BodyError<'_>) -> Error {
    match error {
        BodyError::Mismatch => Error::Mismatch { what: "the checksum differs".to_owned() },
        BodyError::Length { announced, received } => {
            Error::Mismatch { what: format!("{received} bytes came where {announced} were announced") }
        }
        BodyError::Aborted(error) => {
            Error::Aborted { code: error.code, word: error.word.to_owned(), text: error.text.to_owned() }
        }
    }
}
