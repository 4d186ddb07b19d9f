//! Output: commands and the body of a `write`.

use super::{ClientSession, Expect, Peer};
use crate::body::{BodySender, Ending, Framing, Opaque, Payload};
use crate::cipher::Cipher;
use crate::command::{Command, MAX_COMMAND, Request, VERSION};
use crate::crc::Crc32c;
use crate::error::{ErrorCode, InvalidState, ProtocolError};
use crate::message::{SendError, message_len};

impl<const BUF: usize, const QUEUE: usize, C: Cipher> ClientSession<BUF, QUEUE, C> {
    /// Queues a command. After a `write` the driver sends its body: [`ClientSession::send`] and
    /// [`ClientSession::finish`], from byte OFFSET on; if OFFSET is not 0, [`ClientSession::continue_crc`] comes first.
    ///
    /// # Errors
    /// [`InvalidState`] unless [`ClientSession::can_request`]; if the name does not fit or (classic) has white space;
    /// for a `write` before the server is known to be [`Peer::Extended`]; for an extended command to a classic server;
    /// after [`ClientSession::protect`], for anything but the hello and `quit` until the connection is protected.
    pub fn request(&mut self, command: &Command<'_>) -> Result<(), InvalidState> {
        let expect = Expect::of(command);
        let allowed = match (expect, self.peer) {
            (Some(Expect::Write), peer) => peer == Peer::Extended,
            (Some(expect), Peer::Classic) => expect.is_classic(),
            _ => true,
        };
        let allowed = allowed
            && (!self.awaits_protection() || matches!(command, Command::Hello { version: VERSION } | Command::Quit));
        if !allowed || !self.can_request() {
            return Err(InvalidState);
        }
        self.command.resize_default(BUF).map_err(|_| InvalidState)?;
        let len = command.encode(&mut self.command);
        self.command.truncate(len.unwrap_or(0));
        len.ok_or(InvalidState)?;
        self.queued = true;
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
    /// [`InvalidState`] while something else is queued or a body is being sent; after [`ClientSession::protect`], until
    /// the connection is protected.
    pub fn keep_alive(&mut self) -> Result<(), InvalidState> {
        if self.has_output() || self.body.is_some() || self.awaits_protection() {
            return Err(InvalidState);
        }
        self.command.clear();
        self.queued = true;
        Ok(())
    }

    /// Writes queued commands and framing into `out` and returns the number of bytes.
    pub fn poll_transmit(&mut self, out: &mut [u8]) -> usize {
        let mut written = 0;
        while written < out.len() && !(self.has_output() && self.is_spent()) {
            let room = &mut out[written..];
            if self.queued {
                let (n, done) = self.messages.transmit_payload::<{ message_len(MAX_COMMAND) }>(room, &self.command);
                written += n;
                self.queued = !done;
            } else if let Some(framing) = self.framing {
                let (n, next) = framing.transmit(&mut self.messages, room);
                written += n;
                self.framing = next;
            } else if let Some((remaining, code)) = self.padding {
                let n = Payload { remaining }.clamp(room.len());
                room[..n].fill(0);
                written += n;
                self.padding = Some((remaining - n as u64, code));
                if remaining == n as u64 {
                    self.padding = None;
                    self.framing = Some(Framing::End(Ending::Abort(code)));
                }
            } else {
                break;
            }
        }
        self.clock.moved(written);
        written
    }

    /// True if the key may not seal another message: the connection is reset instead.
    fn is_spent(&mut self) -> bool {
        let spent = self.messages.is_spent();
        if spent {
            (self.queued, self.framing, self.padding, self.body) = (false, None, None, None);
            self.error = self.error.or(Some(ProtocolError::Spent));
        }
        spent
    }

    /// True while the body of a `write` is being sent: the driver has to call [`ClientSession::send`] or
    /// [`ClientSession::finish`].
    #[must_use]
    pub const fn is_sending(&self) -> bool {
        self.body.is_some()
    }

    /// True while part of a data message is still to be sent, so that payload comes next, not a length.
    #[must_use]
    pub fn is_in_data(&self) -> bool {
        !self.has_output() && self.body.as_ref().is_some_and(|body| body.remaining() > 0)
    }

    /// The checksum of the part of the file sent so far, including staged bytes; `None` if the driver supplied one.
    #[must_use]
    pub fn crc(&self) -> Option<u32> {
        self.body.as_ref()?.crc()
    }

    /// Bytes of the body that are still to be sent; `None` if none is being sent.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        self.body.as_ref()?.left()
    }

    /// Sets the CRC of the bytes that are already staged; the body's CRC continues from it.
    ///
    /// # Errors
    /// [`InvalidState`] if no body is being sent.
    pub const fn continue_crc(&mut self, crc: u32) -> Result<(), InvalidState> {
        match &mut self.body {
            Some(body) => body.continue_crc(crc),
            None => return Err(InvalidState),
        }
        Ok(())
    }

    /// Supplies the checksum of the whole file instead of the one that the session computes. `None` sends `-`: only for
    /// a server that announces `nocrc=1`, and only with OFFSET 0.
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

    /// Sends payload of the body: `fill` writes it into a part of `room` and returns the number of bytes. The session
    /// adds the framing, updates the checksum and, on a protected connection, seals the message. Returns the bytes of
    /// `room` to send; 0 if `fill` returned 0 or the room is too short.
    ///
    /// On a plain connection, a data message may span several calls (see [`ClientSession::set_data_max`]); on a
    /// protected one, each call produces one.
    ///
    /// # Errors
    /// [`SendError::InvalidState`] if nothing is being sent, something is queued or all has been sent;
    /// [`SendError::Fill`] if `fill` failed. Nothing has changed then: [abort](Self::abort).
    pub fn send<E>(
        &mut self,
        room: &mut [u8],
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, SendError<E>> {
        if self.has_output() || self.is_spent() {
            return Err(SendError::InvalidState);
        }
        let body = self.body.as_mut().ok_or(InvalidState)?;
        let n = body.send(&mut self.messages, room, self.data_max.into(), fill)?;
        self.clock.moved(n);
        Ok(n)
    }

    /// Lets the driver move the rest of the current data message past the session, once [`ClientSession::send`] has
    /// begun it. `None` on a protected connection, while something is queued and while no data message has begun.
    pub fn opaque(&mut self) -> Option<Opaque<'_>> {
        if self.has_output() {
            return None;
        }
        Opaque::new(self.body.as_mut()?, &self.messages, &mut self.clock)
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

    /// Gives up the body: fills up the data message with zeros, then sends `abort CODE`. Also call it when the server
    /// has refused the `write` early.
    ///
    /// # Errors
    /// [`InvalidState`] if none is being sent.
    pub fn abort(&mut self, code: ErrorCode) -> Result<(), InvalidState> {
        let body = self.body.take().ok_or(InvalidState)?;
        if body.remaining() > 0 {
            self.padding = Some((body.remaining(), code));
        } else if self.framing.is_none() {
            self.framing = Some(Framing::End(Ending::Abort(code)));
        } else {
            self.padding = Some((0, code));
        }
        Ok(())
    }
}
