//! Events from the server, owned.

use skiff_proto::client::{BodyError, ClientEvent};
use skiff_proto::command::Verbs;
use skiff_proto::reply::{Hello, RemoteError};

use super::error::Error;

/// An event of the session that borrows nothing from it.
pub(super) type Event = skiff_proto::client::Event<HelloInfo, Error, Error>;

/// The server's hello (PROTOCOL §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloInfo {
    /// Product and version. Not yet safe for a terminal.
    pub server: String,
    /// The name of this server, if it has one. Not yet safe for a terminal.
    pub host: Option<String>,
    /// The extended commands it accepts.
    pub commands: Verbs,
    /// The longest name, in bytes.
    pub name_max: u16,
    /// Seconds without progress after which it closes a connection, if announced.
    pub idle: Option<u32>,
    /// It accepts and sends bodies without a checksum.
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
        BodyError::Mismatch => Error::Mismatch { what: "the checksum does not match".to_owned() },
        BodyError::Length { announced, received } => {
            Error::Mismatch { what: format!("received {received} bytes instead of the announced {announced}") }
        }
        BodyError::Aborted(error) => {
            Error::Aborted { code: error.code, word: error.word.to_owned(), text: error.text.to_owned() }
        }
    }
}
