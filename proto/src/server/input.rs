//! Input: framing, commands, and their bodies.

use super::{Close, MAX_EXCESS, ServerSession, State, Verdict, Write};
use crate::body::{BodyReceiver, Part, Payload, Trailer};
use crate::cipher::Cipher;
use crate::error::{ErrorCode, ProtocolError};
use crate::message::{Piece, Received};
use crate::reply::Reply;

impl<const BUF: usize, C: Cipher> ServerSession<BUF, C> {
    /// Consumes input from the network: framing and commands, up to the next payload of an accepted `write`, which it
    /// returns in place in `input`, already counted and checksummed. The driver stores it (or [refuses](Self::refuse)
    /// the rest), then calls again with the rest of the input.
    ///
    /// It stops early while it waits for the driver or for room to reply. On a protected connection, it consumes a
    /// record only when the whole record is in `input`: offer at least [`ServerSession::want_read`] bytes.
    ///
    /// # Errors
    /// The peer broke the protocol. The driver continues with [`ServerSession::poll_event`] and
    /// [`ServerSession::poll_transmit`] until [`ServerSession::poll_close`] returns how to close; every later call
    /// returns the same error.
    pub fn receive<'i>(&mut self, input: &'i mut [u8]) -> Result<Received<'i>, ProtocolError> {
        let all = (input.as_ptr().addr(), input.len());
        let mut rest = input;
        loop {
            if let Some(error) = self.error {
                return Err(error);
            }
            let before = rest.len();
            let payload = if before > 0 && self.takes_input() {
                self.take(&mut rest).inspect_err(|&error| self.fail(error))?
            } else {
                None
            };
            let arrived = self.messages.arrived(before - rest.len(), rest.len());
            self.clock.moved(arrived);
            if let Some(payload) = payload {
                return Ok(Received::new(all, rest, Some(payload)));
            }
            self.settle();
            if rest.is_empty() || before == rest.len() {
                return self.error.map_or(Ok(Received::new(all, rest, None)), Err);
            }
        }
    }

    /// True in the states in which the session expects bytes from the peer.
    const fn takes_input(&self) -> bool {
        matches!(
            self.state,
            State::Length | State::Command | State::Excess | State::Receiving { .. } | State::Draining(_)
        )
    }

    /// Takes one piece of a message; returns payload for the driver.
    fn take<'i>(&mut self, input: &mut &'i mut [u8]) -> Result<Option<&'i mut [u8]>, ProtocolError> {
        let Some(piece) = self.messages.receive(input)? else { return Ok(None) };
        match &mut self.state {
            State::Receiving { body, write } => match body.handle_piece(piece, &mut self.buffer)? {
                Part::Payload(payload) => return Ok(Some(payload).filter(|payload| !payload.is_empty())),
                Part::Trailer => {
                    let (body, write) = (*body, *write);
                    self.judge(&body, write);
                }
            },
            State::Draining(body) => {
                if matches!(body.handle_piece(piece, &mut self.buffer)?, Part::Trailer) {
                    self.state = State::Length;
                }
            }
            _ => self.take_command(&piece)?,
        }
        Ok(None)
    }

    fn take_command(&mut self, piece: &Piece<'_>) -> Result<(), ProtocolError> {
        match piece.begins {
            Some(0) => return Ok(()),
            Some(length) if length > MAX_EXCESS => return Err(ProtocolError::TooLong { length }),
            Some(length) => {
                self.buffer.clear();
                self.state = if length <= BUF as u64 { State::Command } else { State::Excess };
            }
            None => {}
        }
        let fits = piece.bytes.len().min(BUF - self.buffer.len());
        _ = self.buffer.extend_from_slice(&piece.bytes[..fits]);
        if piece.ends {
            self.state = if matches!(self.state, State::Command) { State::Parsed } else { State::Overlong };
        }
        Ok(())
    }

    /// Handles the end of the body of an accepted write.
    pub(super) fn judge(&mut self, body: &BodyReceiver, write: Write) {
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

    /// Handles a protocol violation: sends an error if that is still possible, then closes.
    pub(super) fn fail(&mut self, error: ProtocolError) {
        self.error = Some(error);
        if matches!(error, ProtocolError::Forged | ProtocolError::Spent) {
            self.state = State::Closed(Close::Reset);
            return;
        }
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

    /// Records that the peer has closed its sending side. Call it once all input before that has been consumed.
    ///
    /// At a message boundary the session answers the requests before it and closes; inside a command, that command has
    /// no effect; inside a body the connection counts as lost, and the driver keeps the staged bytes (PROTOCOL §1, §7).
    pub fn handle_eof(&mut self) {
        self.ended = true;
        self.settle();
    }

    /// How many bytes the session can use next: the rest of a length, of a message or, on a protected connection, of a
    /// record. A driver that reads no more than this never has to buffer input. 0 while the session does not read.
    #[must_use]
    pub fn want_read(&self) -> usize {
        if self.takes_input() { self.messages.want_read() } else { 0 }
    }

    /// Number of payload bytes of a `write` that come next, if known: a driver may read exactly that many directly to
    /// their destination. `None` on a protected connection.
    #[must_use]
    pub fn payload_in(&self) -> Option<Payload> {
        let State::Receiving { body, .. } = &self.state else { return None };
        body.payload(&self.messages).map(|remaining| Payload { remaining })
    }
}
