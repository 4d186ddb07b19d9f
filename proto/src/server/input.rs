//! What comes in: framing, commands, and the bodies that go with them.

use super::{Close, MAX_EXCESS, ServerSession, State, Verdict, Write};
use crate::body::{BodyReceiver, Trailer};
use crate::error::{ErrorCode, ProtocolError};
use crate::reply::Reply;

impl<const BUF: usize> ServerSession<BUF> {
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
    pub(super) fn take(&mut self, input: &[u8]) -> Result<usize, ProtocolError> {
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

    /// The peer broke the protocol: say so if it can still be said, then close.
    pub(super) fn fail(&mut self, error: ProtocolError) {
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
}
