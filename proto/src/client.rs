//! The client's side of one control connection.
//!
//! | state | what it waits for | leaves it by |
//! |---|---|---|
//! | `Length` | the ten digits of the next reply | a length |
//! | `Reply` | the reply's payload | its last byte |
//! | `Parsed` | the driver to take the event | `poll_event` |
//! | `Listing` | the driver to move the names of a classic `ls` | their last character |
//! | `Body` | the body of a `read` or `list` | its trailer |
//! | `Ended` | the driver to take the end of the body or listing | `poll_event` |
//!
//! Sending runs beside it: requests go out while earlier replies are still to come, and so does the body of a `write`. A
//! client that sends ahead must keep reading (PROTOCOL §1).

use core::time::Duration;

use heapless::{Deque, Vec};

use crate::body::{BodyReceiver, BodySender, Framing, Payload, Trailer, transmit};
use crate::command::{Command, Request};
use crate::crc::Crc32c;
use crate::error::{ErrorCode, InvalidState, ProtocolError};
use crate::frame::{HEADER_LEN, HeaderDecoder, encode_header};
use crate::reply::{Hello, RemoteError, Tag, Words};
use crate::store::{Space, Stat};
use crate::time::{Clock, Instant};

/// What kind of server answered the question of PROTOCOL §4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// It has not been asked, or has not answered yet.
    Unknown,
    /// It knows get, put, ls and quit.
    Classic,
    /// It knows the extended commands.
    Extended,
}

/// What has come from the server. Each request gets exactly one of these, in order; those that announce a body are
/// followed by one [`ClientEvent::BodyEnd`], [`ClientEvent::Ls`] by one [`ClientEvent::LsEnd`].
#[derive(Debug, PartialEq, Eq)]
pub enum ClientEvent<'a> {
    /// The answer to [`Command::Hello`]; `None` from a classic server.
    Hello(Option<Hello<'a>>),
    /// `error CODE TEXT`
    Refused(RemoteError<'a>),
    /// `-1` to `get` or `put`.
    ClassicRefused,
    /// An extended command that was sent behind the question went to a classic server, which ignored it.
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
    List,
    /// `ls`: names follow, joined by LF. They may turn out to be an `error CODE TEXT` (names have no spaces):
    /// [`RemoteError::parse_reply`].
    Ls,
    /// The body is through. Only `Ok(Some(_))` says that what came is what the server has.
    BodyEnd(Result<Option<u32>, BodyError<'a>>),
    /// The names of `ls` are through.
    LsEnd,
}

/// Why a body is not what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError<'a> {
    /// The checksum differs, or is malformed.
    Mismatch,
    /// Fewer or more bytes than announced.
    Length {
        /// Bytes announced.
        announced: u64,
        /// Bytes that came.
        received: u64,
    },
    /// The server gave up.
    Aborted(RemoteError<'a>),
}

#[derive(Debug, Clone, Copy)]
enum State {
    Length,
    Reply { remaining: u64 },
    Parsed,
    Listing { characters: u64, tail: u8 },
    Body { body: BodyReceiver, length: Option<u64>, supplied: Option<u32> },
    Ended(End),
}

#[derive(Debug, Clone, Copy)]
enum End {
    Listing,
    Body { body: BodyReceiver, length: Option<u64>, supplied: Option<u32> },
}

/// What kind of reply a request will get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Hello,
    Port,
    Ls,
    Done,
    Stat,
    Resume { size: u64 },
    Sum,
    Space,
    Read { offset: u64, length: Option<u64> },
    List,
    Write,
}

/// The client's side of one control connection, without I/O.
///
/// `BUF` is the size of the two message buffers: at least
/// [`command_message_len`](crate::command::command_message_len) of the longest name that will be sent; replies that
/// are longer lose their end, so 300 is a good least. `QUEUE` is how many requests may be without a reply.
#[derive(Debug)]
pub struct ClientSession<const BUF: usize, const QUEUE: usize> {
    peer: Peer,
    clock: Clock,
    idle: Duration,
    head: HeaderDecoder,
    buffer: Vec<u8, BUF>,
    state: State,
    expected: Deque<Expect, QUEUE>,
    command: Vec<u8, BUF>,
    sent: u16,
    framing: Option<Framing>,
    body: Option<BodySender>,
    padding: Option<(u64, ErrorCode)>,
    quit: bool,
    error: Option<ProtocolError>,
}

impl<const BUF: usize, const QUEUE: usize> ClientSession<BUF, QUEUE> {
    /// A session at the beginning of a connection. A server that owes a reply and makes no progress for `idle` is given
    /// up.
    #[must_use]
    pub const fn new(idle: Duration) -> Self {
        Self {
            peer: Peer::Unknown,
            clock: Clock::new(),
            idle,
            head: HeaderDecoder::new(),
            buffer: Vec::new(),
            state: State::Length,
            expected: Deque::new(),
            command: Vec::new(),
            sent: 0,
            framing: None,
            body: None,
            padding: None,
            quit: false,
            error: None,
        }
    }

    /// What is known of the server.
    #[must_use]
    pub const fn peer(&self) -> Peer {
        self.peer
    }

    /// How many requests wait for their reply (or its body).
    #[must_use]
    pub fn owed(&self) -> usize {
        self.expected.len()
    }

    /// True if [`ClientSession::request`] would take a command now: the last one has gone out, its body too, and there is
    /// room to remember it.
    #[must_use]
    pub fn can_request(&self) -> bool {
        !self.has_output() && self.body.is_none() && !self.expected.is_full() && !self.quit && self.error.is_none()
    }

    /// True if something is queued for [`ClientSession::poll_transmit`].
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.command.is_empty() || self.framing.is_some() || self.padding.is_some()
    }

    /// Queues a command. After a `write` the driver sends its body: [`ClientSession::start_data`] and so on, from the byte
    /// OFFSET on; [`ClientSession::continue_crc`] first, if OFFSET is not 0.
    ///
    /// # Errors
    /// [`InvalidState`] unless [`ClientSession::can_request`]; if the name does not fit or (classic) has white space;
    /// for a `write` before the server is known to be [`Peer::Extended`]; for an extended command to a classic server.
    pub fn request(&mut self, command: &Command<'_>) -> Result<(), InvalidState> {
        let expect = Expect::of(command);
        let allowed = match (expect, self.peer) {
            (Some(Expect::Write), peer) => peer == Peer::Extended,
            (Some(expect), Peer::Classic) => expect.is_classic(),
            _ => true,
        };
        if !allowed || !self.can_request() {
            return Err(InvalidState);
        }
        let mut message = [0; BUF];
        let len = command.encode(message.get_mut(HEADER_LEN..).ok_or(InvalidState)?).ok_or(InvalidState)?;
        message[..HEADER_LEN].copy_from_slice(&encode_header(len as u64));
        self.command.extend_from_slice(&message[..HEADER_LEN + len]).map_err(|_| InvalidState)?;
        if self.expected.is_empty() {
            self.clock.restart();
        }
        match expect {
            Some(expect) => _ = self.expected.push_back(expect),
            None => self.quit = true,
        }
        if let Command::Request(Request::Write { offset, size, .. }) = command {
            self.body = Some(BodySender::new(Some(size.saturating_sub(*offset)), Crc32c::new()));
        }
        Ok(())
    }

    /// Queues an empty message: it keeps an idle connection open.
    ///
    /// # Errors
    /// [`InvalidState`] while something else is queued or a body is being sent.
    pub fn keep_alive(&mut self) -> Result<(), InvalidState> {
        if self.has_output() || self.body.is_some() {
            return Err(InvalidState);
        }
        self.command.extend_from_slice(&encode_header(0)).map_err(|_| InvalidState)
    }

    /// Writes queued commands and framing into `out`; says how many bytes.
    pub fn poll_transmit(&mut self, out: &mut [u8]) -> usize {
        let mut written = 0;
        while written < out.len() {
            let room = &mut out[written..];
            if !self.command.is_empty() {
                let left = &self.command[usize::from(self.sent)..];
                let n = left.len().min(room.len());
                room[..n].copy_from_slice(&left[..n]);
                written += n;
                if n == left.len() {
                    self.command.clear();
                    self.sent = 0;
                } else {
                    self.sent += u16::try_from(n).unwrap_or(0);
                }
            } else if let Some(framing) = self.framing {
                let (n, done) = transmit(room, &mut self.sent, |text| framing.encode(text));
                written += n;
                if done {
                    self.framing = None;
                }
            } else if let Some((remaining, code)) = self.padding {
                let n = Payload::Send { remaining }.clamp(room.len());
                room[..n].fill(0);
                written += n;
                self.padding = Some((remaining - n as u64, code));
                if remaining == n as u64 {
                    self.padding = None;
                    self.framing = Some(Framing::Abort(code));
                }
            } else {
                break;
            }
        }
        self.clock.moved(written);
        written
    }

    /// True while the body of a `write` is being sent: the driver owes [`ClientSession::start_data`] or
    /// [`ClientSession::finish`].
    #[must_use]
    pub const fn is_sending(&self) -> bool {
        self.body.is_some()
    }

    /// Bytes of the body being sent that no data message has announced yet.
    #[must_use]
    pub const fn unannounced(&self) -> Option<u64> {
        match &self.body {
            Some(body) => body.unannounced(),
            None => None,
        }
    }

    /// The CRC of the bytes that are staged already, on which the body's goes on.
    ///
    /// # Errors
    /// [`InvalidState`] if no body is being sent.
    pub const fn continue_crc(&mut self, crc: u32) -> Result<(), InvalidState> {
        match &mut self.body {
            Some(body) => *body.crc_mut() = Crc32c::from_value(crc),
            None => return Err(InvalidState),
        }
        Ok(())
    }

    /// Supplies the checksum of the whole file in place of the one that [`ClientSession::filter_out`] computes; `None`:
    /// `-`, only for a server that says `nocrc=1` and with OFFSET 0.
    ///
    /// # Errors
    /// [`InvalidState`] if no body is being sent.
    pub const fn supply_crc(&mut self, crc: Option<u32>) -> Result<(), InvalidState> {
        match &mut self.body {
            Some(body) => body.supply_crc(crc),
            None => return Err(InvalidState),
        }
        Ok(())
    }

    /// Begins a data message of `n` bytes of the body.
    ///
    /// # Errors
    /// [`InvalidState`] if none is being sent, framing is queued, or `n` is 0 or more than is left.
    pub fn start_data(&mut self, n: u64) -> Result<(), InvalidState> {
        match &mut self.body {
            Some(body) if self.framing.is_none() && self.command.is_empty() => {
                self.framing = Some(body.start_data(n)?);
                Ok(())
            }
            _ => Err(InvalidState),
        }
    }

    /// The payload that the driver has to send now; `None` while framing is queued.
    #[must_use]
    pub fn payload_out(&self) -> Option<Payload> {
        let remaining = self.body.as_ref()?.remaining();
        (remaining > 0 && !self.has_output()).then_some(Payload::Send { remaining })
    }

    /// Shows the session payload that goes out, in order and once: it computes the checksum.
    pub fn filter_out(&mut self, bytes: &mut [u8]) {
        if let Some(body) = &mut self.body
            && !body.is_opaque()
        {
            body.crc_mut().update(bytes);
        }
    }

    /// The driver has sent `n` bytes of the payload.
    ///
    /// # Errors
    /// [`InvalidState`] if that is more than [`ClientSession::payload_out`] said.
    pub fn advance_out(&mut self, n: u64) -> Result<(), InvalidState> {
        if self.has_output() {
            return Err(InvalidState);
        }
        self.body.as_mut().ok_or(InvalidState)?.advance(n)?;
        self.clock.moved(usize::try_from(n).unwrap_or(usize::MAX));
        Ok(())
    }

    /// Ends the body: the empty message and the checksum.
    ///
    /// # Errors
    /// [`InvalidState`] if none is being sent, framing is queued or bytes are missing.
    pub fn finish(&mut self) -> Result<(), InvalidState> {
        match &self.body {
            Some(body) if !self.has_output() => {
                self.framing = Some(body.finish()?);
                self.body = None;
                Ok(())
            }
            _ => Err(InvalidState),
        }
    }

    /// Gives the body up: fills up the data message with zeros, then sends `abort CODE`. What to do when the server has
    /// refused the `write` early, too.
    ///
    /// # Errors
    /// [`InvalidState`] if none is being sent.
    pub fn abort(&mut self, code: ErrorCode) -> Result<(), InvalidState> {
        let body = self.body.take().ok_or(InvalidState)?;
        if body.remaining() > 0 {
            self.padding = Some((body.remaining(), code));
        } else if self.framing.is_none() {
            self.framing = Some(Framing::Abort(code));
        } else {
            self.padding = Some((0, code));
        }
        Ok(())
    }

    /// Takes bytes from the network: replies and the framing of bodies. Returns how many it took; it stops where payload
    /// begins and while an event waits to be taken.
    ///
    /// # Errors
    /// The server broke the protocol: the connection is of no further use. Every later call returns the same error.
    pub fn handle_input(&mut self, input: &[u8]) -> Result<usize, ProtocolError> {
        let mut taken = 0;
        loop {
            if let Some(error) = self.error {
                return Err(error);
            }
            let n = self.take(&input[taken..]).inspect_err(|&error| self.error = Some(error))?;
            self.clock.moved(n);
            taken += n;
            if n == 0 || taken == input.len() {
                return Ok(taken);
            }
        }
    }

    fn take(&mut self, input: &[u8]) -> Result<usize, ProtocolError> {
        match &mut self.state {
            State::Length => {
                // Replies that a classic server will never send must not be waited for.
                if self.peer == Peer::Classic && self.expected.front().is_some_and(|expect| !expect.is_classic()) {
                    return Ok(0);
                }
                let (n, length) = self.head.push(input)?;
                let Some(length) = length else { return Ok(n) };
                self.buffer.clear();
                self.state = match self.expected.front().ok_or(ProtocolError::UnexpectedReply)? {
                    Expect::Ls => State::Listing { characters: length, tail: 0 },
                    // Nothing but a listing is long: a reply without end would be an attack on our time.
                    _ if length == 0 || length > crate::server::MAX_EXCESS => return Err(ProtocolError::BadReply),
                    _ => State::Reply { remaining: length },
                };
                Ok(n)
            }
            State::Reply { remaining } => {
                let n = Payload::Receive { remaining: *remaining }.clamp(input.len());
                let fits = n.min(BUF - self.buffer.len());
                _ = self.buffer.extend_from_slice(&input[..fits]);
                *remaining -= n as u64;
                if *remaining == 0 {
                    self.state = State::Parsed;
                }
                Ok(n)
            }
            State::Body { body, length, supplied } => {
                let (n, done) = body.handle_input(input, &mut self.buffer)?;
                if done {
                    self.state = State::Ended(End::Body { body: *body, length: *length, supplied: *supplied });
                }
                Ok(n)
            }
            State::Listing { .. } | State::Parsed | State::Ended(_) => Ok(0),
        }
    }

    /// The server has sent everything it will.
    ///
    /// # Errors
    /// [`ProtocolError::UnexpectedEnd`] if it still owes something.
    pub fn handle_eof(&mut self) -> Result<(), ProtocolError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let ignored = self.peer == Peer::Classic && self.expected.iter().all(|expect| !expect.is_classic());
        let whole = self.head.is_empty() && matches!(self.state, State::Length | State::Parsed | State::Ended(_));
        let parsed = usize::from(matches!(self.state, State::Parsed | State::Ended(_)));
        if whole && (ignored || self.expected.len() <= parsed) && self.body.is_none() {
            return Ok(());
        }
        self.error = Some(ProtocolError::UnexpectedEnd);
        Err(ProtocolError::UnexpectedEnd)
    }

    /// The next thing that has come. Taken once; the text in it lies in the session's buffer.
    ///
    /// # Errors
    /// The reply does not fit what was asked: the connection is of no further use.
    pub fn poll_event(&mut self) -> Result<Option<ClientEvent<'_>>, ProtocolError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        match self.state {
            State::Length if self.peer == Peer::Classic => {
                if self.expected.front().is_some_and(|expect| !expect.is_classic()) {
                    self.expected.pop_front();
                    return Ok(Some(ClientEvent::Ignored));
                }
                Ok(None)
            }
            State::Parsed => self.reply().map(Some),
            State::Listing { characters: 0, tail: 0 } => {
                self.state = State::Ended(End::Listing);
                Ok(Some(ClientEvent::Ls))
            }
            State::Listing { .. } if self.expected.front() == Some(&Expect::Ls) => {
                // Announced once: what follows is payload, and only its end needs remembering.
                self.expected.pop_front();
                self.expected.push_front(Expect::List).map_err(|_| ProtocolError::BadReply)?;
                Ok(Some(ClientEvent::Ls))
            }
            State::Ended(end) => {
                self.expected.pop_front();
                self.state = State::Length;
                Ok(Some(match end {
                    End::Listing => ClientEvent::LsEnd,
                    End::Body { body, length, supplied } => ClientEvent::BodyEnd(self.verdict(&body, length, supplied)),
                }))
            }
            _ => Ok(None),
        }
    }

    /// What is to be thought of a body whose trailer lies in the buffer.
    fn verdict(
        &self,
        body: &BodyReceiver,
        length: Option<u64>,
        supplied: Option<u32>,
    ) -> Result<Option<u32>, BodyError<'_>> {
        let crc = match Trailer::parse(&self.buffer) {
            Trailer::Abort(error) => return Err(BodyError::Aborted(error)),
            Trailer::Malformed => return Err(BodyError::Mismatch),
            Trailer::Crc(crc) => crc,
        };
        let received = body.total();
        if let Some(announced) = length.filter(|&announced| announced != received) {
            return Err(BodyError::Length { announced, received });
        }
        match crc {
            Some(crc) if crc != supplied.unwrap_or(body.crc().value()) => Err(BodyError::Mismatch),
            crc => Ok(crc),
        }
    }

    /// The reply that lies in the buffer.
    fn reply(&mut self) -> Result<ClientEvent<'_>, ProtocolError> {
        self.state = State::Length;
        let expect = self.expected.pop_front().ok_or(ProtocolError::UnexpectedReply)?;
        if self.buffer.starts_with(b"error ") {
            let error = RemoteError::parse(&self.buffer, "error ").ok_or(ProtocolError::BadReply)?;
            return Ok(ClientEvent::Refused(error));
        }
        if self.buffer == b"-1" && matches!(expect, Expect::Hello | Expect::Port) {
            if expect == Expect::Port {
                return Ok(ClientEvent::ClassicRefused);
            }
            self.peer = Peer::Classic;
            return Ok(ClientEvent::Hello(None));
        }
        if matches!(expect, Expect::Read { .. } | Expect::List) {
            // The reply is not complete before its body.
            self.expected.push_front(expect).map_err(|_| ProtocolError::BadReply)?;
        }
        if expect == Expect::Hello {
            let hello = Hello::parse(&self.buffer);
            return match hello {
                Some(hello) => {
                    self.peer = Peer::Extended;
                    Ok(ClientEvent::Hello(Some(hello)))
                }
                None => Err(*self.error.insert(ProtocolError::BadReply)),
            };
        }
        match parse_reply(&self.buffer, expect) {
            Some((event, state)) => {
                self.state = state;
                Ok(event)
            }
            None => Err(*self.error.insert(ProtocolError::BadReply)),
        }
    }

    /// The payload that the driver has to take in now: of a `read` or `list`, or names of a classic `ls`.
    #[must_use]
    pub fn payload_in(&self) -> Option<Payload> {
        let remaining = match &self.state {
            State::Body { body, .. } => body.payload()?,
            State::Listing { characters, tail } if self.expected.front() != Some(&Expect::Ls) => {
                Some(characters + u64::from(*tail)).filter(|&n| n > 0)?
            }
            _ => return None,
        };
        Some(Payload::Receive { remaining })
    }

    /// Shows the session payload that has come in, in order and once, and reports it as moved: it computes the checksum,
    /// and counts the characters of a classic listing.
    ///
    /// # Errors
    /// [`InvalidState`] if that is more than [`ClientSession::payload_in`] said.
    pub fn advance_in(&mut self, bytes: &mut [u8]) -> Result<(), InvalidState> {
        match &mut self.state {
            State::Body { body, .. } => {
                body.advance(bytes.len() as u64)?;
                body.crc_mut().update(bytes);
            }
            State::Listing { characters, tail } => {
                if bytes.len() as u64 > *characters + u64::from(*tail) {
                    return Err(InvalidState);
                }
                for byte in bytes.iter() {
                    match byte {
                        0x80..=0xbf if *tail > 0 => *tail -= 1,
                        _ => {
                            *characters = characters.saturating_sub(1);
                            *tail = match byte {
                                0xc2..=0xdf => 1,
                                0xe0..=0xef => 2,
                                0xf0..=0xf4 => 3,
                                _ => 0,
                            };
                        }
                    }
                }
                if *characters == 0 && *tail == 0 {
                    self.state = State::Ended(End::Listing);
                }
            }
            _ => return Err(InvalidState),
        }
        self.clock.moved(bytes.len());
        Ok(())
    }

    /// Reports `n` bytes of a body as moved without showing them: the driver computes the checksum itself and supplies it
    /// with [`ClientSession::supply_crc_in`] before it feeds the trailer.
    ///
    /// # Errors
    /// [`InvalidState`] if no body comes in or that is more than [`ClientSession::payload_in`] said.
    pub fn advance_in_opaque(&mut self, n: u64) -> Result<(), InvalidState> {
        let State::Body { body, .. } = &mut self.state else { return Err(InvalidState) };
        body.advance(n)?;
        self.clock.moved(usize::try_from(n).unwrap_or(usize::MAX));
        Ok(())
    }

    /// The checksum of the body that is coming in, computed by the driver.
    ///
    /// # Errors
    /// [`InvalidState`] if no body comes in.
    pub const fn supply_crc_in(&mut self, crc: u32) -> Result<(), InvalidState> {
        let State::Body { supplied, .. } = &mut self.state else { return Err(InvalidState) };
        *supplied = Some(crc);
        Ok(())
    }

    /// Tells the session the time, at every turn of the driver's loop. True if the server owes something and has made no
    /// progress for too long.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        self.clock.tick(now);
        self.owes() && self.clock.is_expired(self.idle, None)
    }

    /// When [`ClientSession::handle_timeout`] is due at the latest; `None` if nothing is owed.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.owes().then(|| self.clock.next(self.idle, None))
    }

    fn owes(&self) -> bool {
        !self.expected.is_empty() || self.body.is_some() || self.has_output()
    }

    /// A hint: how many bytes the session can use before payload follows; 0 while an event waits to be taken.
    #[must_use]
    pub fn want_read(&self) -> usize {
        match &self.state {
            State::Length => self.head.missing(),
            State::Reply { remaining } => usize::try_from(*remaining).unwrap_or(usize::MAX),
            State::Body { body, .. } => body.want_read(),
            State::Listing { .. } | State::Parsed | State::Ended(_) => 0,
        }
    }
}

/// A reply that is neither a refusal nor the hello, and the state behind it. `None`: it does not fit.
fn parse_reply(payload: &[u8], expect: Expect) -> Option<(ClientEvent<'_>, State)> {
    if expect == Expect::Port {
        let port = core::str::from_utf8(payload).ok()?.trim_ascii().parse().ok().filter(|&port| port > 0)?;
        return Some((ClientEvent::Port(port), State::Length));
    }
    // What a later version adds behind the words of this one is passed over.
    let mut words = Words::parse(payload)?;
    let mut state = State::Length;
    let event = match expect {
        Expect::Done => ClientEvent::Done,
        Expect::Stat => ClientEvent::Stat(Stat { size: words.number()?, mtime: words.optional()?, crc: words.crc()? }),
        Expect::Resume { size } => {
            ClientEvent::Resume { offset: words.number().filter(|&offset| offset <= size)?, crc: words.crc()? }
        }
        Expect::Sum => ClientEvent::Sum { length: words.number()?, crc: words.crc()? },
        Expect::Space => ClientEvent::Space(Space { total: words.number()?, free: words.number()? }),
        Expect::Write => ClientEvent::Stored { size: words.number()?, crc: words.crc()? },
        Expect::Read { offset, length: asked } => {
            let (length, size, tag) = (words.number()?, words.number()?, Tag::parse(words.word()?)?);
            if offset.checked_add(length)? > size || asked.is_some_and(|asked| length > asked) {
                return None;
            }
            state =
                State::Body { body: BodyReceiver::new(length, Crc32c::new()), length: Some(length), supplied: None };
            ClientEvent::Read { length, size, tag }
        }
        Expect::List => {
            state = State::Body { body: BodyReceiver::new(u64::MAX, Crc32c::new()), length: None, supplied: None };
            ClientEvent::List
        }
        Expect::Hello | Expect::Port | Expect::Ls => return None,
    };
    Some((event, state))
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
                Request::List { .. } => Self::List,
                Request::Stat { .. } => Self::Stat,
                Request::Read { offset, length, .. } => Self::Read { offset, length },
                Request::Resume { size, .. } => Self::Resume { size },
                Request::Write { .. } => Self::Write,
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

impl<'a> RemoteError<'a> {
    /// Parses a whole reply as `error CODE TEXT`; `None` if it is something else. For the payload of a classic `ls`.
    #[must_use]
    pub fn parse_reply(payload: &'a [u8]) -> Option<Self> {
        Self::parse(payload, "error ")
    }
}
