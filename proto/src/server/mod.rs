//! The server's side of one control connection.
//!
//! | state | waits for | left by |
//! |---|---|---|
//! | `Length` | the ten digits of the next command | a length |
//! | `Command` | the command's payload | its last byte |
//! | `Excess` | the end of a command that is too long | its last byte |
//! | `Overlong` | room for the reply to it | `poll_transmit` |
//! | `Parsed` | room for a reply, then the driver to take the event | `poll_event` |
//! | `Asked` | the driver's answer | `answer`, `refuse`, `defer` |
//! | `Sending` | the driver to move a body or listing out | `finish`, `abort` |
//! | `Padding` | room for the zeros that fill up a message that can't be finished | `poll_transmit` |
//! | `Receiving` | the body of a `write` | its trailer, `refuse` |
//! | `Draining` | the end of a refused body | its trailer |
//! | `Judged` | the driver to take the verdict on a body | `poll_event` |
//! | `Failed` | room for the reply to a protocol violation | `poll_transmit` |
//! | `Closed` | queued replies to go out | |
//!
//! The driver's loop, for any transport:
//!
//! ```
//! # use skiff_proto::server::*; use skiff_proto::{Instant, ErrorCode};
//! # fn store(_: &[u8]) {}
//! # fn read_file(_: &mut [u8]) -> Result<usize, ErrorCode> { Ok(0) }
//! # let (mut input, mut room, now) = (*b"0000000004ping", [0; 64], Instant::from_millis(1));
//! let mut session: ServerSession<{ skiff_proto::command::command_len(64) }> = ServerSession::new(Limits::new(64));
//! session.handle_timeout(now);
//! let received = session.receive(&mut input)?; // payload of a `write`, in place in the input
//! store(received.payload);
//! let taken = received.taken;
//! match session.poll_event() {
//!     Some(ServerEvent::Request(_request)) => session.refuse(ErrorCode::Unsupported.into())?,
//!     Some(ServerEvent::Commit { .. } | ServerEvent::Discard | ServerEvent::Flush) | None => {}
//! }
//! let mut n = session.poll_transmit(&mut room);
//! if session.is_sending() && !session.has_output() {
//!     n += session.send(&mut room[n..], read_file).unwrap_or(0); // payload of a `read`, with its framing
//! }
//! assert_eq!((taken, &room[..n]), (14, &b"0000000002ok"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod clock;
mod input;
mod output;

use core::time::Duration;

use heapless::Vec;

use crate::body::{BodyReceiver, BodySender, Ending, Framing};
use crate::cipher::{Cipher, Guard, Plain};
use crate::command::{Request, Verbs};
use crate::error::{ErrorCode, InvalidState, ProtocolError};
use crate::identity::{KeyId, NOBODY, StageOwner};
use crate::message::Messages;
use crate::reply::{Hello, Reply, Tag};
use crate::time::{Clock, MinRate};

/// The longest command, in bytes, that is read to its end before it is refused.
pub const MAX_EXCESS: u64 = 65_536;

/// For how long, and up to how many bytes, input is discarded after [`Close::Gracefully`] (PROTOCOL §1).
pub const LINGER_TIME: Duration = Duration::from_secs(1);
/// See [`LINGER_TIME`].
pub const LINGER_BYTES: usize = 64 * 1024;

/// The limits of a session, and the properties of the server for the hello.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Limits {
    /// The longest name in bytes, 1 to 255. The session's buffer must have room for
    /// [`command_len`](crate::command::command_len) of it.
    pub name_max: u16,
    /// Product/version for the hello reply, at most 80 bytes, no spaces.
    pub server: &'static str,
    /// The name of this server, for the hello reply: at most 32 bytes, no spaces.
    pub host: Option<&'static str>,
    /// The extended verbs that the server accepts. A [`Responder`](crate::responder::Responder) removes those that its
    /// store does not support.
    pub verbs: Verbs,
    /// A connection without progress ends after this time. Whole seconds.
    pub idle: Duration,
    /// The minimum progress while a body is outstanding.
    pub min_rate: MinRate,
    /// Accept bodies without a checksum (PROTOCOL §7).
    pub nocrc: bool,
    /// The longest data message of a `read` in bytes, at least 1. A message that can't be finished is filled up with
    /// zeros, so this is also the maximum number of wasted bytes if the store fails.
    pub data_max: u32,
}

impl Limits {
    /// All verbs, 60 s idle, the default minimum rate, checksums required, data messages of 64 KiB.
    #[must_use]
    pub const fn new(name_max: u16) -> Self {
        Self {
            name_max,
            server: concat!("skiff/", env!("CARGO_PKG_VERSION")),
            host: None,
            verbs: Verbs::ALL,
            idle: Duration::from_secs(60),
            min_rate: MinRate::DEFAULT,
            nocrc: false,
            data_max: 65_536,
        }
    }
}

/// An event: what the driver has to do next.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ServerEvent<'a> {
    /// Execute the request and give the [`Answer`], or [`ServerSession::refuse`] it.
    Request(Request<'a>),
    /// The body of the last accepted `write` is complete and verified: put the file in place, durably, then answer
    /// [`Answer::Stored`] (or [`ServerSession::defer`] it).
    Commit {
        /// The size of the whole file in bytes.
        size: u64,
        /// Its CRC-32C; `None` if the client sent none.
        crc: Option<u32>,
    },
    /// The body of the last accepted `write` is wrong or was aborted: drop the stage. Needs no answer.
    Discard,
    /// A command is waiting behind deferred answers: make the batch durable now and answer. Repeated until that is
    /// done.
    Flush,
}

/// The driver's answer to a request. Each variant fits the requests named there; a wrong one is [`InvalidState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Answer {
    /// `remove`, `rename`, `mkdir`, `rmdir`: done, and durable.
    Done,
    /// `get`, `put`: the port to connect to. Not 0.
    Port(u16),
    /// `stat`
    Stat(crate::store::Stat),
    /// `resume`: the number of staged bytes, and their CRC.
    Resume {
        /// Bytes.
        offset: u64,
        /// Their CRC-32C.
        crc: u32,
    },
    /// `sum`: the checksum of the range.
    Sum {
        /// Bytes of the range.
        length: u64,
        /// Their CRC-32C.
        crc: u32,
    },
    /// `space`, in bytes.
    Space(crate::store::Space),
    /// `read`: a body of exactly `length` bytes follows. See [`clamp_range`](crate::store::clamp_range).
    Read {
        /// Bytes that will be sent.
        length: u64,
        /// Bytes of the whole file.
        size: u64,
        /// The version's tag.
        tag: Tag,
    },
    /// `list`, `tree`: a body of unknown length follows.
    List {
        /// Entries that it omits because their names can't be sent.
        omitted: u64,
    },
    /// `ls`: `length` bytes of names and line ends follow, in one message.
    Ls {
        /// Bytes, at most [`MAX_LENGTH`](crate::message::MAX_LENGTH).
        length: u64,
    },
    /// `write`: a stage is open; the body may follow. `crc` is that of the bytes that are already staged.
    Write {
        /// CRC-32C of the first OFFSET bytes.
        crc: u32,
    },
    /// [`ServerEvent::Commit`], `copy`: the file is in place and durable. The CRC is that of the event, or the store's
    /// own.
    Stored {
        /// Bytes of the file.
        size: u64,
        /// CRC-32C of its content.
        crc: Option<u32>,
    },
}

/// How a driver closes the connection, as returned by [`ServerSession::poll_close`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Close {
    /// Send FIN, then discard input, for at most [`LINGER_TIME`] or [`LINGER_BYTES`].
    Gracefully,
    /// Reset, so that the peer does not take an incomplete transfer for complete.
    Reset,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Length,
    Command,
    Excess,
    Overlong,
    Parsed,
    Asked(Kind),
    Sending { body: BodySender, kind: Body },
    Padding { remaining: u64, kind: Body, code: ErrorCode },
    Receiving { body: BodyReceiver, write: Write },
    Draining(BodyReceiver),
    Judged(Verdict),
    Failed(ErrorCode),
    Closed(Close),
}

/// The kind of the request in progress, which determines the valid answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Port,
    Ls,
    List,
    Stat,
    Read { offset: u64, length: Option<u64> },
    Resume { size: u64 },
    Sum,
    Write(Write),
    Change,
    Copy,
    Space,
    Commit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Write {
    offset: u64,
    size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Commit { size: u64, crc: Option<u32> },
    Discard,
}

/// The kind of payload being sent, which determines how it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// Data messages, end and trailer.
    Extended,
    /// The one message of a classic `ls`.
    Ls,
}

#[derive(Debug, Clone, Copy)]
enum Out {
    Reply(Reply),
    Framing(Framing),
}

/// The state of a parked session. See [`ServerSession::park`].
pub struct Parked<C: Cipher = Plain> {
    clock: Clock,
    guard: Option<<C::Server as Guard>::Parked>,
}

/// The server's side of one control connection, without I/O. `BUF` is the command buffer: at least
/// [`command_len`](crate::command::command_len) of the longest name.
///
/// Payload stays in the driver's memory: [`receive`](Self::receive) returns it in place, and [`send`](Self::send) lets
/// the driver fill it in. `C` is the connection's cipher, by default none.
#[derive(Debug)]
pub struct ServerSession<const BUF: usize, C: Cipher = Plain> {
    limits: Limits,
    clock: Clock,
    messages: Messages<C::Server>,
    buffer: Vec<u8, BUF>,
    state: State,
    /// The output in progress.
    out: Option<Out>,
    /// A reply that waits for the deferred replies before it.
    reply: Option<Reply>,
    deferred: u16,
    ended: bool,
    error: Option<ProtocolError>,
}

impl<const BUF: usize, C: Cipher> ServerSession<BUF, C> {
    /// A session at the beginning of a connection.
    ///
    /// # Panics
    /// If `BUF` is too small for names of `limits.name_max` bytes, or for the commands of the cipher. In a `static`,
    /// this is a compile error.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        assert!(limits.name_max >= 1 && limits.name_max as usize <= crate::name::MAX_NAME, "name_max is 1 to 255");
        assert!(BUF >= crate::command::command_len(limits.name_max as usize), "BUF is too small for name_max");
        assert!(BUF >= <C::Server as Guard>::COMMAND_LEN, "BUF is too small for the cipher's commands");
        Self {
            limits,
            clock: Clock::new(),
            messages: Messages::new(),
            buffer: Vec::new(),
            state: State::Length,
            out: None,
            reply: None,
            deferred: 0,
            ended: false,
            error: None,
        }
    }

    /// The limits that the session was created with.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How the peer broke the protocol, if it did.
    #[must_use]
    pub const fn error(&self) -> Option<ProtocolError> {
        self.error
    }

    /// From now on, the session accepts only these verbs.
    pub(crate) const fn restrict(&mut self, verbs: Verbs) {
        self.limits.verbs = self.limits.verbs.and(verbs);
    }

    /// True if nothing is in progress: no command has begun, no answer is outstanding, nothing is queued. A server that
    /// shuts down closes such a connection at once.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        matches!(self.state, State::Length)
            && self.messages.is_at_boundary()
            && self.out.is_none()
            && self.reply.is_none()
            && self.deferred == 0
    }

    /// Reduces an [idle](Self::is_idle) session to the state that [`ServerSession::resume`] needs to restore it:
    /// between two commands, a server needs no session for a connection. `None` if something is in progress, or before
    /// the handshake of a connection that is to be protected. Do not use the session after this.
    #[must_use]
    pub fn park(&mut self) -> Option<Parked<C>> {
        if !self.is_idle() || self.ended || self.error.is_some() {
            return None;
        }
        let guard = match self.messages.cipher() {
            Some(guard) => Some(guard.park()?),
            None => None,
        };
        Some(Parked { clock: self.clock, guard })
    }

    /// Restores a parked session with its clock. Pass the same `limits` as before.
    ///
    /// # Panics
    /// As [`ServerSession::new`].
    #[must_use]
    pub fn resume(limits: Limits, parked: Parked<C>) -> Self {
        let mut session = Self::new(limits);
        session.clock = parked.clock;
        if let Some(guard) = parked.guard {
            session.messages.protect(Guard::resume(guard));
        }
        session
    }

    /// Admits only clients with a key, and protects the connection with it (PROTOCOL §8). Call it at the beginning of a
    /// connection, before any input.
    ///
    /// # Errors
    /// [`InvalidState`] unless the session [is idle](Self::is_idle) and unprotected.
    pub fn protect(&mut self, guard: C::Server) -> Result<(), InvalidState> {
        if !self.is_idle() || self.messages.cipher().is_some() {
            return Err(InvalidState);
        }
        self.messages.protect(guard);
        Ok(())
    }

    /// The state of the connection's protection, active or not yet.
    #[must_use]
    pub const fn guard(&self) -> Option<&C::Server> {
        self.messages.cipher()
    }

    #[cfg(all(test, feature = "secure"))]
    pub(crate) fn guard_mut(&mut self) -> Option<&mut C::Server> {
        self.messages.cipher_mut()
    }

    /// Whose key protects the connection; `None` if it is not protected.
    #[must_use]
    pub fn client(&self) -> Option<&KeyId> {
        self.messages.cipher()?.client()
    }

    /// Who owns the stages that the connection writes.
    #[must_use]
    pub fn stage_owner(&self) -> StageOwner {
        self.messages.cipher().map_or(NOBODY, Guard::stage_owner)
    }

    /// Returns how to close the connection, once it is time; `None` while there is still something to do.
    #[must_use]
    pub const fn poll_close(&self) -> Option<Close> {
        match self.state {
            State::Closed(Close::Reset) => Some(Close::Reset),
            State::Closed(close) if self.out.is_none() && self.reply.is_none() && self.deferred == 0 => Some(close),
            _ => None,
        }
    }

    /// Advances everything that needs neither input nor the driver.
    fn settle(&mut self) {
        loop {
            if self.out.is_none() && self.deferred == 0 {
                self.out = self.reply.take().map(Out::Reply);
            }
            match self.state {
                State::Overlong if self.reply.is_none() => self.refuse_excess(),
                State::Failed(code) if self.reply.is_none() => {
                    self.reply = Some(Reply::Error(code.into()));
                    self.state = State::Closed(Close::Gracefully);
                }
                State::Parsed if self.out.is_none() && self.reply.is_none() => {
                    if !self.answer_itself() {
                        return;
                    }
                }
                State::Padding { remaining: 0, kind, code } if self.out.is_none() => {
                    self.state = State::Length;
                    if kind == Body::Extended {
                        self.out = Some(Out::Framing(Framing::End(Ending::Abort(code))));
                    }
                }
                State::Length | State::Command | State::Excess | State::Receiving { .. } | State::Draining(_)
                    if self.ended =>
                {
                    self.state = State::Closed(Close::Gracefully);
                }
                _ => return,
            }
        }
    }
}

impl Kind {
    const fn of(request: &Request<'_>) -> Self {
        match *request {
            Request::Get { .. } | Request::Put { .. } => Self::Port,
            Request::Ls => Self::Ls,
            Request::List { .. } | Request::Tree { .. } => Self::List,
            Request::Stat { .. } => Self::Stat,
            Request::Read { offset, length, .. } => Self::Read { offset, length },
            Request::Resume { size, .. } => Self::Resume { size },
            Request::Write { offset, size, .. } => Self::Write(Write { offset, size }),
            Request::Sum { .. } => Self::Sum,
            Request::Remove { .. } | Request::Rename { .. } | Request::Mkdir { .. } | Request::Rmdir { .. } => {
                Self::Change
            }
            Request::Copy { .. } => Self::Copy,
            Request::Space => Self::Space,
        }
    }
}

impl Limits {
    fn hello(&self) -> Hello<'_> {
        Hello {
            server: self.server,
            host: self.host,
            commands: self.verbs,
            name_max: self.name_max,
            idle: Some(u32::try_from(self.idle.as_secs()).unwrap_or(u32::MAX)),
            nocrc: self.nocrc,
        }
    }
}

// Without keys it is a clock.
impl<C: Cipher> Clone for Parked<C>
where
    <C::Server as Guard>::Parked: Copy,
{
    fn clone(&self) -> Self {
        *self
    }
}

impl<C: Cipher> Copy for Parked<C> where <C::Server as Guard>::Parked: Copy {}

impl<C: Cipher> core::fmt::Debug for Parked<C> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Parked").field("clock", &self.clock).finish_non_exhaustive()
    }
}
