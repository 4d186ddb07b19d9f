//! What goes out, and payload in both directions.

use super::{Body, Out, ServerSession, State};
use crate::body::{Payload, transmit};
use crate::error::{ErrorCode, InvalidState};
use crate::frame::encode_header;

impl<const BUF: usize> ServerSession<BUF> {
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

    /// True if framing or a reply is queued for [`ServerSession::poll_transmit`].
    #[must_use]
    pub const fn has_output(&self) -> bool {
        self.out.is_some() || matches!(self.state, State::Padding { .. })
    }
}
