//! Input: replies and the framing of bodies.

use super::{BodyError, ClientEvent, ClientSession, End, Expect, Peer, State};
use crate::body::{BodyReceiver, OpaqueIn, Part, Payload, Trailer};
use crate::cipher::{Cipher, Handshake};
use crate::crc::Crc32c;
use crate::error::ProtocolError;
use crate::message::{Forged, Received, split_off};
use crate::reply::{Hello, RemoteError, Tag, Words};
use crate::store::{Space, Stat};
use crate::text::parse_number;

impl<const BUF: usize, const QUEUE: usize, C: Cipher> ClientSession<BUF, QUEUE, C> {
    /// Consumes input from the network: replies and framing, up to the next payload of a `read`, `list` or `ls`, which
    /// it returns in place in `input`, already counted and checksummed. Use it, then call again with the rest.
    ///
    /// It stops early while an event is pending. On a protected connection, it consumes a record only when the whole
    /// record is in `input`: offer at least [`ClientSession::want_read`] bytes.
    ///
    /// # Errors
    /// The server broke the protocol: the connection is unusable. Every later call returns the same error.
    pub fn receive<'i>(&mut self, input: &'i mut [u8]) -> Result<Received<'i>, ProtocolError> {
        let all = (input.as_ptr().addr(), input.len());
        let mut rest = input;
        loop {
            if let Some(error) = self.error {
                return Err(error);
            }
            let before = rest.len();
            let payload = if before > 0 && self.takes_input() {
                self.take(&mut rest).inspect_err(|&error| self.error = Some(error))?
            } else {
                None
            };
            let arrived = self.messages.arrived(before - rest.len(), rest.len());
            self.clock.moved(arrived);
            if payload.is_some() || rest.is_empty() || before == rest.len() {
                return Ok(Received::new(all, rest, payload));
            }
        }
    }

    /// True in the states in which the session expects bytes from the server.
    fn takes_input(&self) -> bool {
        match self.state {
            // Don't wait for replies that a classic server never sends.
            State::Length => {
                self.peer != Peer::Classic || self.expected.front().is_none_or(|expect| expect.is_classic())
            }
            State::Reply | State::Body { .. } => true,
            State::Listing { .. } => self.payload_in().is_some(),
            State::Parsed | State::Ended(_) => false,
        }
    }

    /// Takes one piece of a message; returns payload for the driver.
    fn take<'i>(&mut self, input: &mut &'i mut [u8]) -> Result<Option<&'i mut [u8]>, ProtocolError> {
        if let State::Listing { characters, tail } = &mut self.state {
            let payload = split_off(input, count_characters(input, characters, tail));
            if *characters == 0 && *tail == 0 {
                self.state = State::Ended(End::Listing);
            }
            return Ok(Some(payload));
        }
        // A protected connection has no classic listings: the reply is a record like any other.
        let is_ls = self.expected.front() == Some(&Expect::Ls) && !self.messages.is_sealed();
        if self.is_between_replies() && is_ls {
            if let Some(characters) = self.messages.receive_length(input)? {
                self.state = State::Listing { characters, tail: 0 };
            }
            return Ok(None);
        }
        let Some(piece) = self.messages.receive(input)? else { return Ok(None) };
        if let State::Body { body, length } = &mut self.state {
            match body.handle_piece(piece, &mut self.buffer)? {
                Part::Payload(payload) => return Ok(Some(payload).filter(|payload| !payload.is_empty())),
                Part::Trailer => self.state = State::Ended(End::Body { body: *body, length: *length }),
            }
            return Ok(None);
        }
        if let Some(length) = piece.begins {
            if self.expected.is_empty() {
                return Err(ProtocolError::UnexpectedReply);
            }
            // Only a listing may be long: an endless reply would be a denial of service.
            if length == 0 || length > crate::server::MAX_EXCESS {
                return Err(ProtocolError::BadReply);
            }
            // Both sides hash the whole hello.
            if length > BUF as u64 && self.awaits_protection() {
                return Err(ProtocolError::BadReply);
            }
        }
        // The reply to `secure` comes into the other buffer: this one keeps the hello.
        let is_secure = self.awaits_protection() && self.expected.front() == Some(&Expect::Secure);
        if is_secure && self.queued {
            // `secure` has not gone out yet: nothing may take its place.
            return Err(ProtocolError::UnexpectedReply);
        }
        let buffer = if is_secure { &mut self.command } else { &mut self.buffer };
        if piece.begins.is_some() {
            buffer.clear();
        }
        let fits = piece.bytes.len().min(BUF - buffer.len());
        _ = buffer.extend_from_slice(&piece.bytes[..fits]);
        self.state = if piece.ends { State::Parsed } else { State::Reply };
        if piece.ends && !is_secure && self.awaits_protection() {
            self.begin_handshake()?;
        }
        Ok(None)
    }

    const fn is_between_replies(&self) -> bool {
        matches!(self.state, State::Length)
    }

    /// Records that the server has ended its stream.
    ///
    /// # Errors
    /// [`ProtocolError::UnexpectedEnd`] if a reply or part of a body is missing.
    pub fn handle_eof(&mut self) -> Result<(), ProtocolError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let ignored = self.peer == Peer::Classic && self.expected.iter().all(|expect| !expect.is_classic());
        let whole =
            self.messages.is_at_boundary() && matches!(self.state, State::Length | State::Parsed | State::Ended(_));
        let parsed = usize::from(matches!(self.state, State::Parsed | State::Ended(_)));
        if whole && (ignored || self.expected.len() <= parsed) && self.body.is_none() {
            return Ok(());
        }
        self.error = Some(ProtocolError::UnexpectedEnd);
        Err(ProtocolError::UnexpectedEnd)
    }

    /// The next event, returned once. Text in it is borrowed from the session's buffer.
    ///
    /// # Errors
    /// The reply does not fit the request: the connection is unusable.
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
            State::Parsed if self.awaits_protection() => self.finish_handshake().map(Some),
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
                    End::Body { body, length } => ClientEvent::BodyEnd(self.verdict(&body, length)),
                }))
            }
            _ => Ok(None),
        }
    }

    /// The result of a body whose trailer is in the buffer.
    fn verdict(&self, body: &BodyReceiver, length: Option<u64>) -> Result<Option<u32>, BodyError<'_>> {
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
            Some(_) if !body.is_summed() => Ok(None),
            Some(crc) if crc != body.crc().value() => Err(BodyError::Mismatch),
            crc => Ok(crc),
        }
    }

    /// Answers the hello in the buffer with `secure`. [`ClientSession::poll_event`] handles a refusal.
    fn begin_handshake(&mut self) -> Result<(), ProtocolError> {
        if self.buffer.starts_with(b"error ") {
            return Ok(());
        }
        let handshake = self.messages.cipher_mut().filter(|_| Hello::parse(&self.buffer).is_some());
        let handshake = handshake.ok_or(ProtocolError::NotProtected)?;
        self.command.resize_default(BUF).map_err(|_| ProtocolError::NotProtected)?;
        let len = handshake.begin(&self.buffer, &mut self.command).ok_or(ProtocolError::NotProtected)?;
        self.command.truncate(len);
        self.queued = true;
        self.expected.clear();
        self.expected.push_back(Expect::Secure).map_err(|_| ProtocolError::NotProtected)?;
        self.state = State::Length;
        Ok(())
    }

    /// Handles the reply to `secure`, or a refusal before it: from now on the connection is protected, or unusable.
    fn finish_handshake(&mut self) -> Result<ClientEvent<'_>, ProtocolError> {
        self.state = State::Length;
        self.error = Some(ProtocolError::NotProtected);
        let is_secure = self.expected.pop_front() == Some(Expect::Secure);
        let reply = if is_secure { &self.command } else { &self.buffer };
        if let Some(error) = RemoteError::parse(reply, "error ") {
            return Ok(ClientEvent::Refused(error));
        }
        let handshake = self.messages.cipher_mut().filter(|_| is_secure).ok_or(ProtocolError::NotProtected)?;
        self.error = handshake.finish(reply).map_err(|Forged| ProtocolError::Forged).err();
        self.error.map_or(Ok(()), Err)?;
        self.peer = Peer::Extended;
        Ok(ClientEvent::Hello(Hello::parse(&self.buffer)))
    }

    /// The reply in the buffer.
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
            #[cfg(feature = "secure")]
            {
                self.wants_key = self.buffer.split(|&byte| byte == b' ').any(|word| word.starts_with(b"noise="));
            }
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

    /// Number of payload bytes that come next, if known: a driver may read exactly that many directly to their
    /// destination. `None` on a protected connection.
    #[must_use]
    pub fn payload_in(&self) -> Option<Payload> {
        let remaining = match &self.state {
            State::Body { body, .. } => body.payload(&self.messages)?,
            State::Listing { characters, tail } if self.expected.front() != Some(&Expect::Ls) => {
                Some(characters + u64::from(*tail)).filter(|&n| n > 0)?
            }
            _ => return None,
        };
        Some(Payload { remaining })
    }

    /// Lets the driver move payload of a `read` or `list` past the session, if payload comes next. That body then ends
    /// with [`ClientEvent::BodyEnd`] with `Ok(None)`: unverified. `None` on a protected connection.
    pub fn opaque_in(&mut self) -> Option<OpaqueIn<'_, C::Client>> {
        let State::Body { body, .. } = &mut self.state else { return None };
        OpaqueIn::new(body, &mut self.messages, &mut self.clock)
    }

    /// The checksum so far of the body that is being received; `None` if there is none.
    #[must_use]
    pub const fn body_crc(&self) -> Option<Crc32c> {
        match &self.state {
            State::Body { body, .. } | State::Ended(End::Body { body, .. }) => Some(body.crc()),
            _ => None,
        }
    }

    /// How many bytes the session can use next: the rest of a length, of a message or, on a protected connection, of a
    /// record. 0 while an event is pending.
    #[must_use]
    pub fn want_read(&self) -> usize {
        match &self.state {
            State::Length | State::Reply | State::Body { .. } => self.messages.want_read(),
            State::Listing { .. } | State::Parsed | State::Ended(_) => 0,
        }
    }
}

/// Counts down the characters of a classic listing; returns how many bytes of `bytes` belong to it. `tail`: the number
/// of bytes missing from the last character.
fn count_characters(bytes: &[u8], characters: &mut u64, tail: &mut u8) -> u64 {
    let mut taken = 0;
    for byte in bytes {
        match byte {
            0x80..=0xbf if *tail > 0 => *tail -= 1,
            _ if *characters == 0 => break,
            _ => {
                *characters -= 1;
                *tail = match byte {
                    0xc2..=0xdf => 1,
                    0xe0..=0xef => 2,
                    0xf0..=0xf4 => 3,
                    _ => 0,
                };
            }
        }
        taken += 1;
        if *characters == 0 && *tail == 0 {
            break;
        }
    }
    taken
}

/// A reply that is neither a refusal nor the hello, and the state after it. `None` if it does not fit.
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
            state = State::Body { body: BodyReceiver::new(length, Crc32c::new()), length: Some(length) };
            ClientEvent::Read { length, size, tag }
        }
        Expect::List => {
            state = State::Body { body: BodyReceiver::new(u64::MAX, Crc32c::new()), length: None };
            // An older server sends nothing more; a word that is not a number is from a later version.
            ClientEvent::List { omitted: words.number().unwrap_or(0) }
        }
        Expect::Hello | Expect::Secure | Expect::Port | Expect::Ls => return None,
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
