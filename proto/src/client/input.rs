//! What comes in: replies and the framing of bodies.

use super::{BodyError, ClientEvent, ClientSession, End, Expect, Peer, State};
use crate::body::{BodyReceiver, Payload, Trailer};
use crate::command::parse_number;
use crate::crc::Crc32c;
use crate::error::{InvalidState, ProtocolError};
use crate::reply::{Hello, RemoteError, Tag, Words};
use crate::store::{Space, Stat};

impl<const BUF: usize, const QUEUE: usize> ClientSession<BUF, QUEUE> {
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
        let port = u16::try_from(parse_number(payload.trim_ascii())?).ok().filter(|&port| port > 0)?;
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
            // An older server says nothing more; what is no number is a word of a later version.
            ClientEvent::List { omitted: words.number().unwrap_or(0) }
        }
        Expect::Hello | Expect::Port | Expect::Ls => return None,
    };
    Some((event, state))
}

impl<'a> RemoteError<'a> {
    /// Parses a whole reply as `error CODE TEXT`; `None` if it is something else. For the payload of a classic `ls`.
    #[must_use]
    pub fn parse_reply(payload: &'a [u8]) -> Option<Self> {
        Self::parse(payload, "error ")
    }
}
