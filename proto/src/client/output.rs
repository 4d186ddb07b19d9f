//! What goes out: commands and the body of a `write`.

use super::{ClientSession, Expect, Peer};
use crate::body::{BodySender, Framing, Payload, transmit};
use crate::command::{Command, Request};
use crate::crc::Crc32c;
use crate::error::{ErrorCode, InvalidState};
use crate::frame::{HEADER_LEN, encode_header};

impl<const BUF: usize, const QUEUE: usize> ClientSession<BUF, QUEUE> {
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
}
