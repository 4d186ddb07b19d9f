//! Output, and payload in both directions.

use super::{Body, Out, ServerSession, State};
use crate::body::{Opaque, Payload};
use crate::cipher::{Cipher, Guard, MAX_OFFER};
use crate::error::{ErrorCode, InvalidState, ProtocolError};
use crate::message::{SendError, message_len};
use crate::reply::{MAX_REPLY, Reply};

impl<const BUF: usize, C: Cipher> ServerSession<BUF, C> {
    /// Writes queued framing and replies into `out` and returns the number of bytes. 0: nothing is queued, or `out` is
    /// empty.
    pub fn poll_transmit(&mut self, out: &mut [u8]) -> usize {
        let mut written = 0;
        while written < out.len() && !(self.out.is_some() && self.is_spent()) {
            let room = &mut out[written..];
            if let Some(message) = self.out {
                let (n, next) = match message {
                    Out::Reply(Reply::Hello) if let Some(guard) = self.messages.cipher() => {
                        let mut offer = [0; MAX_OFFER];
                        let len = guard.offer(&mut offer);
                        let hello = self.limits.hello();
                        let (n, done) =
                            self.messages.transmit::<{ message_len(MAX_REPLY + MAX_OFFER) }>(room, |text| {
                                Reply::Hello.encode(&hello, text);
                                _ = text.bytes(&offer[..len]);
                            });
                        (n, if done { None } else { Some(message) })
                    }
                    Out::Reply(reply) => {
                        let hello = self.limits.hello();
                        let (n, done) = self
                            .messages
                            .transmit::<{ message_len(MAX_REPLY) }>(room, |text| reply.encode(&hello, text));
                        (n, if done { None } else { Some(message) })
                    }
                    Out::Framing(framing) => {
                        let (n, next) = framing.transmit(&mut self.messages, room);
                        (n, next.map(Out::Framing))
                    }
                };
                written += n;
                self.out = next;
            } else if let State::Padding { remaining, kind, code } = self.state {
                let n = Payload { remaining }.clamp(room.len());
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

    /// True if the key may not seal another message: the connection is reset instead.
    fn is_spent(&mut self) -> bool {
        let spent = self.messages.is_spent();
        if spent {
            (self.out, self.reply) = (None, None);
            self.fail(ProtocolError::Spent);
        }
        spent
    }

    /// True while a body or listing is being sent: the driver has to call [`ServerSession::send`] or
    /// [`ServerSession::finish`].
    #[must_use]
    pub const fn is_sending(&self) -> bool {
        matches!(self.state, State::Sending { .. })
    }

    /// True while the body of an accepted `write` is being received.
    #[must_use]
    pub const fn is_receiving(&self) -> bool {
        matches!(self.state, State::Receiving { .. })
    }

    /// True while the body of a refused `write` is read and discarded. A driver that can't send and receive at the same
    /// time delays the refusal until then: otherwise, if the peer sends its whole body before it reads, both would wait
    /// for each other.
    #[must_use]
    pub const fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining(_))
    }

    /// True while part of a data message (or `ls` reply) is still to be sent, so that payload comes next, not a length.
    #[must_use]
    pub const fn is_in_data(&self) -> bool {
        matches!(&self.state, State::Sending { body, .. } if body.remaining() > 0 && self.out.is_none())
    }

    /// Bytes of the body or `ls` reply that are still to be sent; `None` for a listing, or if nothing is sent.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        match &self.state {
            State::Sending { body, .. } => body.left(),
            _ => None,
        }
    }

    /// The checksum of the body so far; `None` if the driver supplied one.
    #[must_use]
    pub const fn crc(&self) -> Option<u32> {
        match &self.state {
            State::Sending { body, .. } => body.crc(),
            State::Receiving { body, .. } => Some(body.crc().value()),
            _ => None,
        }
    }

    /// Supplies the checksum of the body that is being sent, instead of the one that the session computes. `None` sends
    /// `-` (not computed), which is allowed only if the server is configured for it, with `nocrc=1` in its hello.
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

    /// Sends payload of the body, listing or `ls` reply: `fill` writes it into a part of `room` and returns the number
    /// of bytes; the session adds the framing around it, updates the checksum and, on a protected connection, seals
    /// the message. Returns the bytes of `room` to send; 0 if `fill` returned 0 or the room is too short.
    ///
    /// On a plain connection, a data message of a `read` may span several calls (see
    /// [`Limits::data_max`](super::Limits::data_max)). Any other message contains what one call fills in.
    ///
    /// # Errors
    /// [`SendError::InvalidState`] if nothing is being sent, framing is queued or all has been sent;
    /// [`SendError::Fill`] if `fill` failed. Nothing has changed then: [abort](Self::abort).
    pub fn send<E>(
        &mut self,
        room: &mut [u8],
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, SendError<E>> {
        if let Some(n) = self.send_length(room)? {
            return Ok(n);
        }
        let State::Sending { body, .. } = &mut self.state else { return Err(SendError::InvalidState) };
        let n = body.send(&mut self.messages, room, self.limits.data_max.into(), fill)?;
        self.sent(n);
        Ok(n)
    }

    /// Sends only a length, or part of it, if nothing else fits into `room`: the end of a ring buffer may split the
    /// digits.
    fn send_length(&mut self, room: &mut [u8]) -> Result<Option<usize>, InvalidState> {
        if self.out.is_some() || self.is_spent() {
            return Err(InvalidState);
        }
        let State::Sending { body, .. } = &mut self.state else { return Err(InvalidState) };
        let is_short = !room.is_empty() && room.len() <= self.messages.overhead() && !self.messages.is_sealed();
        if is_short && let Some(length) = body.begin(self.limits.data_max.into()) {
            self.out = Some(Out::Framing(length));
            return Ok(Some(self.poll_transmit(room)));
        }
        Ok(None)
    }

    fn sent(&mut self, n: usize) {
        self.clock.moved(n);
        if let State::Sending { body, kind: Body::Ls } = &self.state
            && body.left() == Some(0)
        {
            self.state = State::Length;
            self.settle();
        }
    }

    /// Lets the driver move the rest of the current data message past the session, once [`ServerSession::send`] has
    /// begun it. `None` on a protected connection, and while no data message has begun.
    pub fn opaque(&mut self) -> Option<Opaque<'_>> {
        match &mut self.state {
            State::Sending { body, kind: Body::Extended } if self.out.is_none() => {
                Opaque::new(body, &self.messages, &mut self.clock)
            }
            _ => None,
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

    /// Aborts the body that is being sent: fills up the data message with zeros, then sends `abort CODE` (a classic
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

    /// True if framing or a reply is queued for [`ServerSession::poll_transmit`].
    #[must_use]
    pub const fn has_output(&self) -> bool {
        self.out.is_some() || matches!(self.state, State::Padding { .. })
    }
}
