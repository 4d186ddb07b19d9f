//! The server's side of one control connection.
//!
//! | state | what it waits for | leaves it by |
//! |---|---|---|
//! | `Length` | the ten digits of the next command | a length |
//! | `Command` | the command's payload | its last byte |
//! | `Excess` | the end of a command that is too long | its last byte |
//! | `Parsed` | room for a reply, then the driver to take the event | `poll_event` |
//! | `Asked` | the driver's answer | `answer`, `refuse`, `defer` |
//! | `Sending` | the driver to move a body or listing out | `finish`, `abort` |
//! | `Padding` | room for what fills up a message that can't be finished | `poll_transmit` |
//! | `Receiving` | the body of a `write` | its trailer, `refuse` |
//! | `Draining` | the end of a refused body | its trailer |
//! | `Judged` | the driver to take the verdict on a body | `poll_event` |
//! | `Failed` | room for the reply to a broken protocol | `poll_transmit` |
//! | `Closed` | queued replies to go out | |
//!
//! The driver's loop, whatever moves its bytes:
//!
//! ```
//! # use skiff_proto::server::*; use skiff_proto::{Instant, Payload, ErrorCode};
//! # fn moved(_: Payload) -> u64 { 0 }
//! # let (input, mut out, now) = (&b"0000000004ping"[..], [0; 64], Instant::from_millis(1));
//! let mut session: ServerSession<{ skiff_proto::command::command_len(64) }> = ServerSession::new(Limits::new(64));
//! session.handle_timeout(now);
//! let taken = session.handle_input(input)?; // framing only: it stops where payload begins
//! if let Some(payload) = session.payload() {
//!     session.advance(moved(payload))?; // straight from the socket to the store, or back
//! }
//! match session.poll_event() {
//!     Some(ServerEvent::Request(_request)) => session.refuse(ErrorCode::Unsupported.into())?,
//!     Some(ServerEvent::Commit { .. } | ServerEvent::Discard | ServerEvent::Flush) | None => {}
//! }
//! let n = session.poll_transmit(&mut out);
//! assert_eq!((taken, &out[..n]), (14, &b"0000000002ok"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use core::time::Duration;

use heapless::Vec;

use crate::body::{BodyReceiver, BodySender, Framing, Payload, Trailer, transmit};
use crate::command::{BadCommand, Command, Request, Verbs, has_body, is_classic_transfer};
use crate::crc::Crc32c;
use crate::error::{ErrorCode, InvalidState, ProtocolError, Refusal};
use crate::frame::{HeaderDecoder, MAX_LENGTH, encode_header};
use crate::reply::{Hello, Reply, Tag};
use crate::time::{Clock, Instant, MinRate};

/// The longest command that is read to its end before it is refused, in bytes.
pub const MAX_EXCESS: u64 = 65_536;

/// What a session allows, and what it tells of the server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest name in bytes, 1 to 255. The session's buffer must have room for
    /// [`command_len`](crate::command::command_len) of it.
    pub name_max: u16,
    /// Product/version for the hello reply, at most 80 bytes, no spaces.
    pub server: &'static str,
    /// The extended verbs that the server accepts.
    pub verbs: Verbs,
    /// A connection without progress ends after this time. Whole seconds.
    pub idle: Duration,
    /// The least progress while a body is outstanding.
    pub min_rate: MinRate,
    /// Bodies without a checksum are taken (PROTOCOL §7).
    pub nocrc: bool,
}

impl Limits {
    /// All verbs, 60 s idle, the default minimum rate, checksums required.
    #[must_use]
    pub const fn new(name_max: u16) -> Self {
        Self {
            name_max,
            server: concat!("skiff/", env!("CARGO_PKG_VERSION")),
            verbs: Verbs::ALL,
            idle: Duration::from_secs(60),
            min_rate: MinRate::DEFAULT,
            nocrc: false,
        }
    }
}

/// What the driver has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum ServerEvent<'a> {
    /// Carry this out and give the [`Answer`], or [`ServerSession::refuse`] it.
    Request(Request<'a>),
    /// The body of the `write` that was accepted last is whole and right: put it in place, durably, then answer
    /// [`Answer::Stored`] (or [`ServerSession::defer`] it).
    Commit {
        /// The size of the whole file in bytes.
        size: u64,
        /// Its CRC-32C; `None` if the client sent none.
        crc: Option<u32>,
    },
    /// The body of the `write` that was accepted last is not the file: drop what is staged. Needs no answer.
    Discard,
    /// A command waits behind deferred answers: make the batch durable now and give them. Comes again until it is done.
    Flush,
}

/// The driver's answer to a request. Each fits one or a few requests; any other is [`InvalidState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// `remove`, `rename`, `mkdir`, `rmdir`: done, and durable.
    Done,
    /// `get`, `put`: connect there. Not 0.
    Port(u16),
    /// `stat`
    Stat(crate::store::Stat),
    /// `resume`: that much is staged, with this CRC.
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
    /// `list`: a body follows, as long as it gets.
    List,
    /// `ls`: `length` bytes of names and line ends follow, in one message.
    Ls {
        /// Bytes, at most [`MAX_LENGTH`].
        length: u64,
    },
    /// `write`: a stage is open; the body may come. `crc` is that of the bytes that are staged already.
    Write {
        /// CRC-32C of the first OFFSET bytes.
        crc: u32,
    },
    /// [`ServerEvent::Commit`]: the file is in place and durable. The CRC is the one of the event, or the store's own.
    Stored {
        /// Bytes of the file.
        size: u64,
        /// CRC-32C of its content.
        crc: Option<u32>,
    },
}

/// How a driver ends the connection once [`ServerSession::poll_close`] says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// Send FIN, then discard what still comes, for at most 1 s or 64 KiB (PROTOCOL §1).
    Gracefully,
    /// Reset: the peer must not take what it has got for the whole.
    Reset,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Length,
    Command { remaining: u32 },
    Excess { remaining: u32 },
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

/// What the driver was asked, as far as it decides which answers fit.
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

/// What kind of payload goes out: it decides how it ends.
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

/// The server's side of one control connection, without I/O. `BUF` is the command buffer: at least
/// [`command_len`](crate::command::command_len) of the longest name.
///
/// Commands, replies and the framing of bodies pass through it; payload goes past it, moved by the driver.
#[derive(Debug)]
pub struct ServerSession<const BUF: usize> {
    limits: Limits,
    clock: Clock,
    head: HeaderDecoder,
    buffer: Vec<u8, BUF>,
    state: State,
    /// What goes out now, and how much of it has.
    out: Option<Out>,
    sent: u16,
    /// A reply that waits until the deferred ones before it are given.
    reply: Option<Reply>,
    deferred: u16,
    ended: bool,
    error: Option<ProtocolError>,
}

impl<const BUF: usize> ServerSession<BUF> {
    /// A session at the beginning of a connection.
    ///
    /// # Panics
    /// If `BUF` is too small for names of `limits.name_max` bytes; in a `static`, that is when it is compiled.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        assert!(limits.name_max >= 1 && limits.name_max as usize <= crate::name::MAX_NAME, "name_max is 1 to 255");
        assert!(BUF >= crate::command::command_len(limits.name_max as usize), "BUF is too small for name_max");
        Self {
            limits,
            clock: Clock::new(),
            head: HeaderDecoder::new(),
            buffer: Vec::new(),
            state: State::Length,
            out: None,
            sent: 0,
            reply: None,
            deferred: 0,
            ended: false,
            error: None,
        }
    }

    /// What the session was made with.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes bytes from the network: framing, commands, and the payload of refused bodies. Returns how many it took; it
    /// stops where payload begins that the driver has to move, and while it waits for the driver or for room to reply.
    /// What it leaves must be offered again.
    ///
    /// # Errors
    /// The peer broke the protocol. The driver goes on with [`ServerSession::poll_event`] and
    /// [`ServerSession::poll_transmit`] until [`ServerSession::poll_close`] tells it to close; every later call returns
    /// the same error.
    pub fn handle_input(&mut self, input: &[u8]) -> Result<usize, ProtocolError> {
        let mut taken = 0;
        loop {
            if let Some(error) = self.error {
                return Err(error);
            }
            let rest = &input[taken..];
            let n = match self.take(rest) {
                Ok(n) => n,
                Err(error) => {
                    self.fail(error);
                    return Err(error);
                }
            };
            self.clock.moved(n);
            taken += n;
            self.settle();
            if n == 0 || taken == input.len() {
                return self.error.map_or(Ok(taken), Err);
            }
        }
    }

    /// One step of input within one state.
    fn take(&mut self, input: &[u8]) -> Result<usize, ProtocolError> {
        match &mut self.state {
            State::Length => {
                let (n, length) = self.head.push(input)?;
                match length {
                    None | Some(0) => {}
                    Some(length) => {
                        let remaining = u32::try_from(length).ok().filter(|&n| u64::from(n) <= MAX_EXCESS);
                        let remaining = remaining.ok_or(ProtocolError::TooLong { length })?;
                        self.buffer.clear();
                        self.state = if remaining as usize <= BUF {
                            State::Command { remaining }
                        } else {
                            State::Excess { remaining }
                        };
                    }
                }
                Ok(n)
            }
            State::Command { remaining } | State::Excess { remaining } => {
                let n = input.len().min(*remaining as usize);
                let fits = n.min(BUF - self.buffer.len());
                _ = self.buffer.extend_from_slice(&input[..fits]);
                *remaining -= u32::try_from(n).unwrap_or(*remaining);
                Ok(n)
            }
            State::Receiving { body, write } => {
                let (n, done) = body.handle_input(input, &mut self.buffer)?;
                if done {
                    let (body, write) = (*body, *write);
                    self.judge(&body, write);
                }
                Ok(n)
            }
            State::Draining(body) => {
                let (n, done) = body.handle_input(input, &mut self.buffer)?;
                if done {
                    self.state = State::Length;
                }
                Ok(n)
            }
            State::Parsed
            | State::Asked(_)
            | State::Sending { .. }
            | State::Padding { .. }
            | State::Judged(_)
            | State::Failed(_)
            | State::Closed(_) => Ok(0),
        }
    }

    /// The body of an accepted write is through.
    fn judge(&mut self, body: &BodyReceiver, write: Write) {
        let whole = body.total() == write.size - write.offset;
        let refused = match Trailer::parse(&self.buffer) {
            Trailer::Crc(Some(crc)) if whole && crc == body.crc().value() => {
                self.state = State::Judged(Verdict::Commit { size: write.size, crc: Some(crc) });
                return;
            }
            Trailer::Crc(None) if !self.limits.nocrc || write.offset > 0 => ErrorCode::Unsupported,
            Trailer::Crc(None) if whole => {
                self.state = State::Judged(Verdict::Commit { size: write.size, crc: None });
                return;
            }
            Trailer::Abort(error) => error.code.unwrap_or(ErrorCode::Io),
            Trailer::Crc(_) | Trailer::Malformed => ErrorCode::Mismatch,
        };
        self.reply = Some(Reply::Error(refused.into()));
        self.state = State::Judged(Verdict::Discard);
    }

    /// The peer broke the protocol: say so if it can still be said, then close.
    fn fail(&mut self, error: ProtocolError) {
        self.error = Some(error);
        let code = match error {
            ProtocolError::TooLong { .. } => ErrorCode::TooLong,
            _ => ErrorCode::BadLength,
        };
        self.state = match (self.state, error) {
            _ if self.reply.is_some() => State::Failed(code),
            // A trailer has been announced, so the body has come to its end: it can't be continued.
            (State::Receiving { .. }, ProtocolError::TooLong { .. }) => State::Judged(Verdict::Discard),
            _ => State::Closed(Close::Gracefully),
        };
        self.reply = self.reply.or(Some(Reply::Error(code.into())));
        self.settle();
    }

    /// The peer has sent everything it will. To be called once all input before it has been taken.
    ///
    /// At a message boundary the session answers what it was asked and closes; inside a command, that command has no
    /// effect; inside a body the connection counts as lost, and the driver keeps what is staged (PROTOCOL §1, §7).
    pub fn handle_eof(&mut self) {
        self.ended = true;
        self.settle();
    }

    /// Tells the session the time. To be called at every turn of the driver's loop before anything else, so that progress
    /// is put down at the right moment.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clock.tick(now);
        if self.is_working() {
            self.clock.restart();
            return;
        }
        let (idle, rate) = self.patience();
        // What is to be closed gracefully stays so, however often the time is told.
        if self.poll_close().is_some() || !self.clock.is_expired(idle, rate) {
            return;
        }
        self.state = match self.state {
            State::Receiving { .. } => {
                self.reply = Some(Reply::Error(ErrorCode::Timeout.into()));
                self.clock.restart();
                State::Closed(Close::Gracefully)
            }
            // A peer that does not read gets no more time for it.
            State::Length | State::Command { .. } | State::Excess { .. } | State::Draining(_)
                if self.out.is_none() && self.reply.is_none() =>
            {
                State::Closed(Close::Gracefully)
            }
            _ => State::Closed(Close::Reset),
        };
        self.settle();
    }

    /// When [`ServerSession::handle_timeout`] is due at the latest; `None` while the server itself works.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_working() || self.poll_close().is_some() {
            return None;
        }
        let (idle, rate) = self.patience();
        Some(self.clock.next(idle, rate))
    }

    /// The peer has made progress elsewhere, on a data connection of its own: that counts for this one too (PROTOCOL §3).
    pub const fn handle_progress(&mut self) {
        self.clock.restart();
    }

    /// The clock stands still: the peer waits for us.
    const fn is_working(&self) -> bool {
        // With a reply queued, deferred ones wait for the peer to read.
        (self.deferred > 0 && self.out.is_none())
            || matches!(self.state, State::Asked(_) | State::Judged(_))
            || (matches!(self.state, State::Parsed) && self.out.is_none())
    }

    fn patience(&self) -> (Duration, Option<MinRate>) {
        let body = matches!(
            self.state,
            State::Receiving { .. } | State::Draining(_) | State::Sending { .. } | State::Padding { .. }
        );
        (self.limits.idle, body.then_some(self.limits.min_rate))
    }

    /// The next thing for the driver to do. A request is handed out once; its name lies in the session's buffer.
    pub fn poll_event(&mut self) -> Option<ServerEvent<'_>> {
        if self.deferred > 0 && self.waits_for_deferred() {
            return Some(ServerEvent::Flush);
        }
        match self.state {
            State::Parsed if self.out.is_none() && self.reply.is_none() => {
                let command = Command::parse(&self.buffer, self.limits.name_max.into(), self.limits.verbs);
                // `settle` has answered everything else itself.
                let Ok(Command::Request(request)) = command else {
                    return None;
                };
                self.state = State::Asked(Kind::of(&request));
                Some(ServerEvent::Request(request))
            }
            State::Judged(Verdict::Commit { size, crc }) => {
                self.state = State::Asked(Kind::Commit);
                Some(ServerEvent::Commit { size, crc })
            }
            State::Judged(Verdict::Discard) => {
                self.state = if self.error.is_some() { State::Closed(Close::Gracefully) } else { State::Length };
                self.settle();
                Some(ServerEvent::Discard)
            }
            _ => None,
        }
    }

    /// True if nothing goes on before the deferred answers are given.
    fn waits_for_deferred(&self) -> bool {
        self.reply.is_some()
            || matches!(self.state, State::Closed(_))
            || (matches!(self.state, State::Parsed) && self.out.is_none() && !self.is_change())
    }

    /// True if the command in the buffer is one that a driver may put into the batch.
    fn is_change(&self) -> bool {
        let verbs: [&[u8]; 5] = [b"write ", b"remove ", b"rename ", b"mkdir ", b"rmdir "];
        verbs.iter().any(|verb| self.buffer.starts_with(verb))
    }

    /// Answers the request or commit that was taken last.
    ///
    /// # Errors
    /// [`InvalidState`] if nothing was asked or the answer does not fit; nothing has changed then.
    pub fn answer(&mut self, answer: Answer) -> Result<(), InvalidState> {
        let State::Asked(kind) = self.state else {
            return Err(InvalidState);
        };
        let (reply, next) = match (kind, answer) {
            (Kind::Change, Answer::Done) => (Some(Reply::Done), State::Length),
            (Kind::Port, Answer::Port(port)) if port > 0 => (Some(Reply::Port(port)), State::Length),
            (Kind::Stat, Answer::Stat(stat)) => {
                (Some(Reply::Stat { size: stat.size, mtime: stat.mtime, crc: stat.crc }), State::Length)
            }
            (Kind::Resume { size }, Answer::Resume { offset, crc }) if offset <= size => {
                (Some(Reply::Summed { number: offset, crc: Some(crc) }), State::Length)
            }
            (Kind::Sum, Answer::Sum { length, crc }) => {
                (Some(Reply::Summed { number: length, crc: Some(crc) }), State::Length)
            }
            (Kind::Space, Answer::Space(space)) => {
                (Some(Reply::Space { total: space.total, free: space.free }), State::Length)
            }
            (Kind::Read { offset, length: asked }, Answer::Read { length, size, tag })
                if offset <= size && length <= size - offset && asked.is_none_or(|asked| length <= asked) =>
            {
                let body = BodySender::new(Some(length), Crc32c::new());
                (Some(Reply::Read { length, size, tag }), State::Sending { body, kind: Body::Extended })
            }
            (Kind::List, Answer::List) => {
                let body = BodySender::new(None, Crc32c::new());
                (Some(Reply::Done), State::Sending { body, kind: Body::Extended })
            }
            (Kind::Ls, Answer::Ls { length: 0 }) => {
                self.out = Some(Out::Framing(Framing::Data(0)));
                (None, State::Length)
            }
            (Kind::Ls, Answer::Ls { length }) if length <= MAX_LENGTH => {
                let mut body = BodySender::new(Some(length), Crc32c::new());
                self.out = Some(Out::Framing(body.start_data(length)?));
                (None, State::Sending { body, kind: Body::Ls })
            }
            (Kind::Write(write), Answer::Write { crc }) => {
                let room = write.size.checked_sub(write.offset).ok_or(InvalidState)?;
                (None, State::Receiving { body: BodyReceiver::new(room, Crc32c::from_value(crc)), write })
            }
            (Kind::Commit, Answer::Stored { size, crc }) => (Some(Reply::Summed { number: size, crc }), State::Length),
            _ => return Err(InvalidState),
        };
        self.reply = reply;
        self.state = next;
        self.clock.restart();
        self.settle();
        Ok(())
    }

    /// Refuses the request or commit that was taken last, or the rest of the `write` whose body is coming in (the driver
    /// then drops its stage itself). A refused `write` is read to its trailer and thrown away.
    ///
    /// # Errors
    /// [`InvalidState`] if there is nothing to refuse.
    pub fn refuse(&mut self, refusal: Refusal) -> Result<(), InvalidState> {
        let (reply, next) = match self.state {
            State::Asked(Kind::Port) => (Reply::ClassicRefusal, State::Length),
            State::Asked(Kind::Write(_)) => (Reply::Error(refusal), State::Draining(BodyReceiver::drain())),
            State::Asked(_) => (Reply::Error(refusal), State::Length),
            State::Receiving { mut body, .. } => {
                body.discard_rest();
                (Reply::Error(refusal), State::Draining(body))
            }
            _ => return Err(InvalidState),
        };
        self.reply = Some(reply);
        self.state = next;
        self.clock.restart();
        self.settle();
        Ok(())
    }

    /// Puts off the answer to a commit, `remove`, `rename`, `mkdir` or `rmdir`, so that several become durable together.
    /// The session goes on with the next command; the driver owes one [`ServerSession::answer_deferred`] for each, in
    /// order, within 100 ms and as soon as no further input is waiting (PROTOCOL §7).
    ///
    /// # Errors
    /// [`InvalidState`] if no such request was taken last.
    pub fn defer(&mut self) -> Result<(), InvalidState> {
        if !matches!(self.state, State::Asked(Kind::Commit | Kind::Change)) || self.deferred == u16::MAX {
            return Err(InvalidState);
        }
        self.deferred += 1;
        self.state = State::Length;
        self.settle();
        Ok(())
    }

    /// How many answers are put off.
    #[must_use]
    pub const fn deferred(&self) -> u16 {
        self.deferred
    }

    /// Gives the oldest deferred answer: [`Answer::Stored`], [`Answer::Done`] or a refusal. False if the reply before it
    /// has not gone out yet: call again after [`ServerSession::poll_transmit`].
    ///
    /// # Errors
    /// [`InvalidState`] if none is owed or the answer does not fit.
    pub fn answer_deferred(&mut self, answer: Result<Answer, Refusal>) -> Result<bool, InvalidState> {
        let reply = match answer {
            Ok(Answer::Stored { size, crc }) => Reply::Summed { number: size, crc },
            Ok(Answer::Done) => Reply::Done,
            Ok(_) => return Err(InvalidState),
            Err(refusal) => Reply::Error(refusal),
        };
        if self.deferred == 0 {
            return Err(InvalidState);
        }
        if self.out.is_some() {
            return Ok(false);
        }
        self.out = Some(Out::Reply(reply));
        self.deferred -= 1;
        if self.deferred == 0 {
            self.clock.restart();
        }
        Ok(true)
    }

    /// Writes queued framing and replies into `out`; says how many bytes. 0: nothing is queued, or `out` is empty.
    pub fn poll_transmit(&mut self, out: &mut [u8]) -> usize {
        let mut written = 0;
        while written < out.len() {
            let room = &mut out[written..];
            if let Some(message) = self.out {
                let (n, done) = transmit(room, &mut self.sent, |text| match message {
                    Out::Reply(reply) => {
                        let mut payload = [0; crate::reply::MAX_REPLY];
                        let mut inner = crate::text::Text::new(&mut payload);
                        reply.encode(&self.limits.hello(), &mut inner);
                        let len = inner.len();
                        _ = text.bytes(&encode_header(len as u64)).bytes(&payload[..len]);
                    }
                    Out::Framing(framing) => framing.encode(text),
                });
                written += n;
                if done {
                    self.out = None;
                }
            } else if let State::Padding { remaining, kind, code } = self.state {
                let n = Payload::Send { remaining }.clamp(room.len());
                // A listing is filled up with line ends, a body with zeros.
                room[..n].fill(if kind == Body::Ls { b'\n' } else { 0 });
                written += n;
                let remaining = remaining - n as u64;
                self.state = State::Padding { remaining, kind, code };
            } else {
                break;
            }
            self.settle();
        }
        self.clock.moved(written);
        written
    }

    /// The payload that the driver has to move now. `None` while framing is queued, so that a header never comes late.
    #[must_use]
    pub fn payload(&self) -> Option<Payload> {
        match &self.state {
            State::Sending { body, .. } if self.out.is_none() && body.remaining() > 0 => {
                Some(Payload::Send { remaining: body.remaining() })
            }
            State::Receiving { body, .. } => body.payload().map(|remaining| Payload::Receive { remaining }),
            _ => None,
        }
    }

    /// True while a body or listing is being sent: the driver owes [`ServerSession::start_data`] or
    /// [`ServerSession::finish`].
    #[must_use]
    pub const fn is_sending(&self) -> bool {
        matches!(self.state, State::Sending { .. })
    }

    /// True while the body of an accepted `write` is coming in.
    #[must_use]
    pub const fn is_receiving(&self) -> bool {
        matches!(self.state, State::Receiving { .. })
    }

    /// True while the body of a refused `write` is read and thrown away. A driver that can't send and receive at the same
    /// time holds the refusal back until this is over: a peer that sends its whole body before it reads would wait
    /// for us, and we for it.
    #[must_use]
    pub const fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining(_))
    }

    /// Bytes of the body going out that no data message has announced yet; `None` for a listing, or if nothing is sent.
    #[must_use]
    pub const fn unannounced(&self) -> Option<u64> {
        match &self.state {
            State::Sending { body, .. } => body.unannounced(),
            _ => None,
        }
    }

    /// The checksum of the payload that [`ServerSession::filter`] has seen so far.
    #[must_use]
    pub const fn crc(&self) -> Option<u32> {
        match &self.state {
            State::Sending { body, .. } => Some(body.crc().value()),
            State::Receiving { body, .. } => Some(body.crc().value()),
            _ => None,
        }
    }

    /// True if the payload may be moved without the session seeing it (sendfile, splice): its checksum is not needed, or
    /// was supplied beforehand.
    #[must_use]
    pub const fn is_opaque(&self) -> bool {
        match &self.state {
            State::Sending { body, kind } => body.is_opaque() || matches!(kind, Body::Ls),
            _ => false,
        }
    }

    /// Shows the session payload that goes out or has come in, in order and once: it computes the checksum (later a
    /// cipher works here, in place). The driver must call it for all payload of extended bodies unless
    /// [`ServerSession::is_opaque`].
    pub fn filter(&mut self, bytes: &mut [u8]) {
        match &mut self.state {
            State::Sending { body, kind: Body::Extended } if !body.is_opaque() => body.crc_mut().update(bytes),
            State::Receiving { body, .. } => body.crc_mut().update(bytes),
            _ => {}
        }
    }

    /// Supplies the checksum of the body that is being sent, in place of the one that `filter` computes. `None`: `-`, not
    /// computed, which a server does only if it is told to and says `nocrc=1`.
    ///
    /// # Errors
    /// [`InvalidState`] if no body is being sent.
    pub const fn supply_crc(&mut self, crc: Option<u32>) -> Result<(), InvalidState> {
        match &mut self.state {
            State::Sending { body, kind: Body::Extended } => body.supply_crc(crc),
            _ => return Err(InvalidState),
        }
        Ok(())
    }

    /// The driver has moved `n` bytes of the payload.
    ///
    /// # Errors
    /// [`InvalidState`] if that is more than [`ServerSession::payload`] said.
    pub fn advance(&mut self, n: u64) -> Result<(), InvalidState> {
        match &mut self.state {
            State::Sending { body, .. } if self.out.is_none() => body.advance(n)?,
            State::Receiving { body, .. } => body.advance(n)?,
            _ => return Err(InvalidState),
        }
        self.clock.moved(usize::try_from(n).unwrap_or(usize::MAX));
        if let State::Sending { body, kind: Body::Ls } = &self.state
            && body.remaining() == 0
        {
            self.state = State::Length;
            self.settle();
        }
        Ok(())
    }

    /// Begins a data message of `n` bytes of the body that is being sent.
    ///
    /// # Errors
    /// [`InvalidState`] if none is being sent, the message before is not through, `n` is 0 or more than is left.
    pub fn start_data(&mut self, n: u64) -> Result<(), InvalidState> {
        match &mut self.state {
            State::Sending { body, kind: Body::Extended } if self.out.is_none() => {
                self.out = Some(Out::Framing(body.start_data(n)?));
                Ok(())
            }
            _ => Err(InvalidState),
        }
    }

    /// Ends the body that is being sent: the empty message and the checksum. A classic listing is filled up with line
    /// ends.
    ///
    /// # Errors
    /// [`InvalidState`] if none is being sent, framing is queued, or bytes that were announced are missing.
    pub fn finish(&mut self) -> Result<(), InvalidState> {
        if self.out.is_some() {
            return Err(InvalidState);
        }
        match &self.state {
            State::Sending { body, kind: Body::Extended } => {
                self.out = Some(Out::Framing(body.finish()?));
                self.state = State::Length;
                self.settle();
                Ok(())
            }
            State::Sending { kind: Body::Ls, .. } => self.abort(ErrorCode::Io),
            _ => Err(InvalidState),
        }
    }

    /// Gives up the body that is being sent: fills up the data message with zeros, then sends `abort CODE` (a classic
    /// listing is filled up with line ends).
    ///
    /// # Errors
    /// [`InvalidState`] if none is being sent.
    pub fn abort(&mut self, code: ErrorCode) -> Result<(), InvalidState> {
        let State::Sending { body, kind } = &self.state else {
            return Err(InvalidState);
        };
        self.state = State::Padding { remaining: body.remaining(), kind: *kind, code };
        self.settle();
        Ok(())
    }

    /// A hint for the driver: how many bytes the session can use before payload follows. Reading no more than this lets
    /// splice follow; a driver of small files reads ahead and feeds what is left over to the payload itself. 0 while
    /// the session does not read.
    #[must_use]
    pub fn want_read(&self) -> usize {
        match &self.state {
            State::Length => self.head.missing(),
            State::Command { remaining } | State::Excess { remaining } => *remaining as usize,
            State::Receiving { body, .. } | State::Draining(body) => body.want_read(),
            _ => 0,
        }
    }

    /// True if nothing is under way: no command begun, none owed an answer, nothing queued. A server that shuts down
    /// closes such a connection at once.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        matches!(self.state, State::Length)
            && self.head.is_empty()
            && self.out.is_none()
            && self.reply.is_none()
            && self.deferred == 0
    }

    /// True if framing or a reply is queued for [`ServerSession::poll_transmit`].
    #[must_use]
    pub const fn has_output(&self) -> bool {
        self.out.is_some() || matches!(self.state, State::Padding { .. })
    }

    /// Tells the driver to close the connection, and how; `None` while there is still something to do.
    #[must_use]
    pub const fn poll_close(&self) -> Option<Close> {
        match self.state {
            State::Closed(Close::Reset) => Some(Close::Reset),
            State::Closed(close) if self.out.is_none() && self.reply.is_none() && self.deferred == 0 => Some(close),
            _ => None,
        }
    }

    /// Moves everything on that needs neither input nor the driver.
    fn settle(&mut self) {
        loop {
            if self.out.is_none() && self.deferred == 0 {
                self.out = self.reply.take().map(Out::Reply);
            }
            match self.state {
                State::Command { remaining: 0 } => self.state = State::Parsed,
                State::Excess { remaining: 0 } if self.reply.is_none() => self.refuse_excess(),
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
                        self.out = Some(Out::Framing(Framing::Abort(code)));
                    }
                }
                State::Length
                | State::Command { .. }
                | State::Excess { remaining: 1.. }
                | State::Receiving { .. }
                | State::Draining(_)
                    if self.ended =>
                {
                    self.state = State::Closed(Close::Gracefully);
                }
                _ => return,
            }
        }
    }

    /// A command that was longer than the buffer.
    fn refuse_excess(&mut self) {
        self.reply = Some(if is_classic_transfer(&self.buffer) {
            Reply::ClassicRefusal
        } else {
            Reply::Error(ErrorCode::TooLong.into())
        });
        self.after_refusal();
    }

    /// The state behind a command that was refused without asking the driver.
    fn after_refusal(&mut self) {
        self.state = State::Length;
        if has_body(&self.buffer) {
            self.state = State::Draining(BodyReceiver::drain());
            self.clock.restart();
        }
    }

    /// Answers the command in the buffer if that needs nobody else. False if the driver has to be asked.
    fn answer_itself(&mut self) -> bool {
        match Command::parse(&self.buffer, self.limits.name_max.into(), self.limits.verbs) {
            Ok(Command::Request(_)) => return false,
            Ok(Command::Quit) => {
                self.state = State::Closed(Close::Gracefully);
                return true;
            }
            Ok(Command::Ping) => self.reply = Some(Reply::Done),
            Ok(Command::Hello { version_1: true }) => self.reply = Some(Reply::Hello),
            Ok(Command::Hello { version_1: false }) | Err(BadCommand::Classic) => {
                self.reply = Some(Reply::ClassicRefusal);
            }
            Err(BadCommand::Extended(code)) => self.reply = Some(Reply::Error(code.into())),
        }
        self.after_refusal();
        true
    }
}

impl Kind {
    const fn of(request: &Request<'_>) -> Self {
        match *request {
            Request::Get { .. } | Request::Put { .. } => Self::Port,
            Request::Ls => Self::Ls,
            Request::List { .. } => Self::List,
            Request::Stat { .. } => Self::Stat,
            Request::Read { offset, length, .. } => Self::Read { offset, length },
            Request::Resume { size, .. } => Self::Resume { size },
            Request::Write { offset, size, .. } => Self::Write(Write { offset, size }),
            Request::Sum { .. } => Self::Sum,
            Request::Remove { .. } | Request::Rename { .. } | Request::Mkdir { .. } | Request::Rmdir { .. } => {
                Self::Change
            }
            Request::Space => Self::Space,
        }
    }
}

impl Limits {
    fn hello(&self) -> Hello<'_> {
        Hello {
            server: self.server,
            commands: self.verbs,
            name_max: self.name_max,
            idle: Some(u32::try_from(self.idle.as_secs()).unwrap_or(u32::MAX)),
            nocrc: self.nocrc,
        }
    }
}
