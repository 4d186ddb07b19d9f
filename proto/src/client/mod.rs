//! The client's side of one control connection.
//!
//! | state | waits for | left by |
//! |---|---|---|
//! | `Length` | the ten digits of the next reply | a length |
//! | `Reply` | the reply's payload | its last byte |
//! | `Parsed` | the driver to take the event | `poll_event` |
//! | `Listing` | the driver to move the names of a classic `ls` | their last character |
//! | `Body` | the body of a `read` or `list` | its trailer |
//! | `Ended` | the driver to take the end of the body or listing | `poll_event` |
//!
//! Sending is independent: the session sends requests, and the body of a `write`, while earlier replies are still
//! outstanding. A client that pipelines must keep reading (PROTOCOL §1).

mod input;
mod output;

use core::time::Duration;

use heapless::{Deque, Vec};

use crate::body::{BodyReceiver, BodySender, Framing};
use crate::cipher::{Cipher, Plain};
use crate::command::{Command, Request};
use crate::error::{ErrorCode, InvalidState, ProtocolError};
use crate::message::Messages;
use crate::reply::{Hello, RemoteError, Tag};
use crate::store::{Space, Stat};
use crate::time::{Clock, Instant};

/// What kind of server answered the hello request (PROTOCOL §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Peer {
    /// The hello has not been sent, or not been answered yet.
    Unknown,
    /// The server supports only get, put, ls and quit.
    Classic,
    /// The server supports the extended commands.
    Extended,
}

/// An [`Event`] as the session returns it: text in it is borrowed from the session's buffer.
pub type ClientEvent<'a> = Event<Hello<'a>, RemoteError<'a>, BodyError<'a>>;

/// A reply, or the end of a body. Each request gets exactly one reply event, in order. If it announces a body, one
/// [`Event::BodyEnd`] follows; after [`Event::Ls`], one [`Event::LsEnd`].
///
/// `H`, `R` and `B` are the types that hold text from the server: borrowed in [`ClientEvent`]; a driver with a heap can
/// make them owned with [`Event::map`].
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Event<H, R, B> {
    /// The answer to [`Command::Hello`]; `None` from a classic server.
    Hello(Option<H>),
    /// `error CODE TEXT`
    Refused(R),
    /// `-1` to `get` or `put`.
    ClassicRefused,
    /// An extended command that was sent right after the hello request reached a classic server, which ignored it.
    Ignored,
    /// `get`, `put`: connect to this port of the server's address.
    Port(u16),
    /// `ping`, `remove`, `rename`, `mkdir`, `rmdir`.
    Done,
    /// `stat`
    Stat(Stat),
    /// `resume`: that many bytes are staged, with this CRC.
    Resume {
        /// Bytes.
        offset: u64,
        /// Their CRC-32C.
        crc: Option<u32>,
    },
    /// `sum`: the checksum of a range.
    Sum {
        /// Bytes of the range.
        length: u64,
        /// Their CRC-32C.
        crc: Option<u32>,
    },
    /// `space`
    Space(Space),
    /// `write`: stored, and durable.
    Stored {
        /// Bytes of the file.
        size: u64,
        /// CRC-32C of its content; `None` if it was not computed.
        crc: Option<u32>,
    },
    /// `read`: a body of `length` bytes follows.
    Read {
        /// Bytes of the body.
        length: u64,
        /// Bytes of the whole file.
        size: u64,
        /// The version's tag.
        tag: Tag,
    },
    /// `list`: a body follows.
    List {
        /// Files and directories that the listing omits, because their names can't be sent.
        omitted: u64,
    },
    /// `ls`: names follow, joined by LF. They may turn out to be an `error CODE TEXT` (names have no spaces):
    /// [`RemoteError::parse_reply`].
    Ls,
    /// The end of the body. Only `Ok(Some(_))` means that it is verified.
    BodyEnd(Result<Option<u32>, B>),
    /// The end of the names of `ls`.
    LsEnd,
}

impl<H, R, B> Event<H, R, B> {
    /// The same event with other types for the text in it.
    pub fn map<H2, R2, B2>(
        self,
        hello: impl FnOnce(H) -> H2,
        refused: impl FnOnce(R) -> R2,
        body: impl FnOnce(B) -> B2,
    ) -> Event<H2, R2, B2> {
        match self {
            Self::Hello(answer) => Event::Hello(answer.map(hello)),
            Self::Refused(error) => Event::Refused(refused(error)),
            Self::ClassicRefused => Event::ClassicRefused,
            Self::Ignored => Event::Ignored,
            Self::Port(port) => Event::Port(port),
            Self::Done => Event::Done,
            Self::Stat(stat) => Event::Stat(stat),
            Self::Resume { offset, crc } => Event::Resume { offset, crc },
            Self::Sum { length, crc } => Event::Sum { length, crc },
            Self::Space(space) => Event::Space(space),
            Self::Stored { size, crc } => Event::Stored { size, crc },
            Self::Read { length, size, tag } => Event::Read { length, size, tag },
            Self::List { omitted } => Event::List { omitted },
            Self::Ls => Event::Ls,
            Self::BodyEnd(end) => Event::BodyEnd(end.map_err(body)),
            Self::LsEnd => Event::LsEnd,
        }
    }
}

/// Why a body is incomplete or wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum BodyError<'a> {
    /// The checksum differs, or is malformed.
    Mismatch,
    /// Fewer or more bytes than announced.
    Length {
        /// Bytes announced.
        announced: u64,
        /// Bytes received.
        received: u64,
    },
    /// The server aborted it.
    Aborted(RemoteError<'a>),
}

#[derive(Debug, Clone, Copy)]
enum State {
    Length,
    Reply,
    Parsed,
    Listing { characters: u64, tail: u8 },
    Body { body: BodyReceiver, length: Option<u64> },
    Ended(End),
}

#[derive(Debug, Clone, Copy)]
enum End {
    Listing,
    Body { body: BodyReceiver, length: Option<u64> },
}

/// What kind of reply a request will get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Hello,
    /// The reply to `secure`, for the [`Expect::Hello`] after it.
    Secure,
    Port,
    Ls,
    Done,
    Stat,
    Resume {
        size: u64,
    },
    Sum,
    Space,
    Read {
        offset: u64,
        length: Option<u64>,
    },
    List,
    Write,
    Copy,
}

/// The client's side of one control connection, without I/O.
///
/// `BUF` is the size of the two message buffers: at least
/// [`command_message_len`](crate::command::command_message_len) of the longest name that will be sent. Longer replies
/// are truncated, so use at least 300, or 400 for a protected connection, because the hello must fit. `QUEUE` is how
/// many requests may be outstanding.
///
/// Payload stays in the driver's memory: [`receive`](Self::receive) returns it in place, and [`send`](Self::send) lets
/// the driver fill it in. `C` is the connection's cipher, by default none.
#[derive(Debug)]
pub struct ClientSession<const BUF: usize, const QUEUE: usize, C: Cipher = Plain> {
    peer: Peer,
    clock: Clock,
    idle: Duration,
    data_max: u32,
    messages: Messages<C::Client>,
    buffer: Vec<u8, BUF>,
    state: State,
    expected: Deque<Expect, QUEUE>,
    /// The command that goes out, if `queued`: empty for a keep-alive.
    command: Vec<u8, BUF>,
    queued: bool,
    framing: Option<Framing>,
    body: Option<BodySender>,
    padding: Option<(u64, ErrorCode)>,
    quit: bool,
    error: Option<ProtocolError>,
    #[cfg(feature = "secure")]
    wants_key: bool,
}

impl<const BUF: usize, const QUEUE: usize, C: Cipher> ClientSession<BUF, QUEUE, C> {
    /// A session at the beginning of a connection. It times out if a reply is outstanding and the server makes no
    /// progress for `idle`.
    #[must_use]
    pub const fn new(idle: Duration) -> Self {
        Self {
            peer: Peer::Unknown,
            clock: Clock::new(),
            idle,
            data_max: 65_536,
            messages: Messages::new(),
            buffer: Vec::new(),
            state: State::Length,
            expected: Deque::new(),
            command: Vec::new(),
            queued: false,
            framing: None,
            body: None,
            padding: None,
            quit: false,
            error: None,
            #[cfg(feature = "secure")]
            wants_key: false,
        }
    }

    /// Protects the connection (PROTOCOL §8). Call it at the beginning of a connection, before the first
    /// [`Command::Hello`].
    ///
    /// The only command that the session then accepts is [`Command::Hello`]. When the reply arrives, it performs the
    /// handshake itself, and reports [`ClientEvent::Hello`] when the connection is protected. If that fails, the
    /// session fails with [`ProtocolError::NotProtected`] or [`ProtocolError::Forged`] (after [`ClientEvent::Refused`]
    /// if the server has refused the key): no command is sent in clear.
    ///
    /// # Errors
    /// [`InvalidState`] unless this is the beginning of a connection.
    pub fn protect(&mut self, handshake: C::Client) -> Result<(), InvalidState> {
        if self.owes() || self.peer != Peer::Unknown || self.messages.cipher().is_some() {
            return Err(InvalidState);
        }
        self.messages.protect(handshake);
        Ok(())
    }

    /// The longest data message of a `write`, in bytes; 65,536 by default. As
    /// [`Limits::data_max`](crate::server::Limits::data_max) of a server.
    pub const fn set_data_max(&mut self, bytes: u32) {
        self.data_max = bytes;
    }

    /// The state of the connection's protection, active or not yet.
    #[must_use]
    pub const fn handshake(&self) -> Option<&C::Client> {
        self.messages.cipher()
    }

    #[cfg(all(test, feature = "secure"))]
    pub(crate) fn handshake_mut(&mut self) -> Option<&mut C::Client> {
        self.messages.cipher_mut()
    }

    /// True if the server has announced that it serves only clients with a key.
    #[cfg(feature = "secure")]
    #[must_use]
    pub const fn wants_key(&self) -> bool {
        self.wants_key
    }

    /// True if the connection is to be protected and is not yet.
    fn awaits_protection(&self) -> bool {
        self.messages.cipher().is_some() && !self.messages.is_sealed()
    }

    /// What is known of the server.
    #[must_use]
    pub const fn peer(&self) -> Peer {
        self.peer
    }

    /// How many requests are waiting for their reply (or its body).
    #[must_use]
    pub fn owed(&self) -> usize {
        self.expected.len()
    }

    /// True if [`ClientSession::request`] would accept a command now: the last one has been sent, including its body,
    /// and the queue has room.
    #[must_use]
    pub fn can_request(&self) -> bool {
        let shakes_hands = self.awaits_protection() && !self.expected.is_empty();
        !self.has_output()
            && self.body.is_none()
            && !self.expected.is_full()
            && !self.quit
            && self.error.is_none()
            && !shakes_hands
    }

    /// True if something is queued for [`ClientSession::poll_transmit`].
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.queued || self.framing.is_some() || self.padding.is_some()
    }

    /// Sets the session's time, in every iteration of the driver's loop. True if a reply is outstanding and the server
    /// has made no progress for too long.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        self.clock.tick(now);
        self.owes() && self.clock.is_expired(self.idle, None)
    }

    /// When [`ClientSession::handle_timeout`] is due at the latest; `None` if nothing is outstanding.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.owes().then(|| self.clock.next(self.idle, None))
    }

    fn owes(&self) -> bool {
        !self.expected.is_empty() || self.body.is_some() || self.has_output()
    }
}

impl Expect {
    /// `None` for `quit`, which has no reply.
    const fn of(command: &Command<'_>) -> Option<Self> {
        Some(match *command {
            Command::Hello { .. } => Self::Hello,
            Command::Ping => Self::Done,
            Command::Quit => return None,
            Command::Request(request) => match request {
                Request::Get { .. } | Request::Put { .. } => Self::Port,
                Request::Ls => Self::Ls,
                Request::List { .. } | Request::Tree { .. } => Self::List,
                Request::Stat { .. } => Self::Stat,
                Request::Read { offset, length, .. } => Self::Read { offset, length },
                Request::Resume { size, .. } => Self::Resume { size },
                Request::Write { .. } => Self::Write,
                Request::Copy { .. } => Self::Copy,
                Request::Sum { .. } => Self::Sum,
                Request::Remove { .. } | Request::Rename { .. } | Request::Mkdir { .. } | Request::Rmdir { .. } => {
                    Self::Done
                }
                Request::Space => Self::Space,
            },
        })
    }

    const fn is_classic(self) -> bool {
        matches!(self, Self::Hello | Self::Port | Self::Ls)
    }
}
