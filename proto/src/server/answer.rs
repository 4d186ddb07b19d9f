//! Events for the driver, and the driver's answers.

use super::{Answer, Body, Close, Kind, Out, ServerEvent, ServerSession, State, Verdict};
use crate::body::{BodyReceiver, BodySender, Framing};
use crate::cipher::{Admission, Cipher, Guard};
use crate::command::{BadCommand, Command, VERSION, Verb, has_body, is_classic_transfer};
use crate::crc::Crc32c;
use crate::error::{ErrorCode, InvalidState, Refusal};
use crate::message::MAX_LENGTH;
use crate::reply::Reply;
use crate::text::Text;

impl<const BUF: usize, C: Cipher> ServerSession<BUF, C> {
    /// The next event for the driver. Each request is returned once; its name is borrowed from the session's buffer.
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

    /// Puts back the last request: [`ServerSession::poll_event`] returns it again. For a driver that has to do
    /// something else before it can execute the request.
    ///
    /// # Errors
    /// [`InvalidState`] if no request was taken, or it was answered; nothing has changed then.
    pub fn put_back(&mut self) -> Result<(), InvalidState> {
        match self.state {
            State::Asked(Kind::Commit) => Err(InvalidState),
            State::Asked(_) => {
                self.state = State::Parsed;
                Ok(())
            }
            _ => Err(InvalidState),
        }
    }

    /// True if the session is waiting for the deferred answers.
    pub(super) fn waits_for_deferred(&self) -> bool {
        self.reply.is_some()
            || matches!(self.state, State::Closed(_))
            || (matches!(self.state, State::Parsed) && self.out.is_none() && !self.is_change())
    }

    /// True if the command in the buffer may be part of the driver's batch.
    pub(super) fn is_change(&self) -> bool {
        Verb::of(&self.buffer).is_some_and(Verb::is_change)
    }

    /// Answers the last request or commit.
    ///
    /// # Errors
    /// [`InvalidState`] if no request waits or the answer does not fit; nothing has changed then.
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
            (Kind::List, Answer::List { omitted }) => {
                let body = BodySender::new(None, Crc32c::new());
                (Some(Reply::List { omitted }), State::Sending { body, kind: Body::Extended })
            }
            (Kind::Ls, Answer::Ls { length: 0 }) => {
                self.out = Some(Out::Framing(Framing::Length(0)));
                (None, State::Length)
            }
            (Kind::Ls, Answer::Ls { length }) if length <= MAX_LENGTH => {
                let mut body = BodySender::new(Some(length), Crc32c::new());
                self.out = body.begin(length).map(Out::Framing);
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

    /// Refuses the last request or commit, or the rest of the `write` that is being received (the driver then drops the
    /// stage itself). The session reads the body of a refused `write` to its trailer and discards it.
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

    /// Defers the answer to a commit, `remove`, `rename`, `mkdir` or `rmdir`, so that several become durable together.
    /// The session continues with the next command; the driver must call [`ServerSession::answer_deferred`] once for
    /// each, in order, within 100 ms and as soon as no further input is waiting (PROTOCOL §7).
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

    /// How many answers are deferred.
    #[must_use]
    pub const fn deferred(&self) -> u16 {
        self.deferred
    }

    /// Gives the oldest deferred answer: [`Answer::Stored`], [`Answer::Done`] or a refusal. False if the previous reply
    /// has not been sent yet: call again after [`ServerSession::poll_transmit`].
    ///
    /// # Errors
    /// [`InvalidState`] if none is deferred or the answer does not fit.
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

    /// Answers the command in the buffer if it does not need the driver. False if it does.
    pub(super) fn answer_itself(&mut self) -> bool {
        if self.is_stopped_by_guard() {
            return true;
        }
        match Command::parse(&self.buffer, self.limits.name_max.into(), self.limits.verbs) {
            Ok(Command::Request(_)) => return false,
            Ok(Command::Quit) => {
                self.state = State::Closed(Close::Gracefully);
                return true;
            }
            Ok(Command::Ping) => self.reply = Some(Reply::Done),
            Ok(Command::Hello { version: VERSION }) => self.reply = Some(Reply::Hello),
            Ok(Command::Hello { .. }) | Err(BadCommand::Classic) => {
                self.reply = Some(Reply::ClassicRefusal);
            }
            Err(BadCommand::Extended(refusal)) => self.reply = Some(Reply::Error(refusal)),
        }
        self.after_refusal();
        true
    }

    /// True if there is a guard and it has answered the command in the buffer, so that the command is not executed.
    fn is_stopped_by_guard(&mut self) -> bool {
        let Some(guard) = self.messages.cipher_mut() else { return false };
        let command = Command::parse(&self.buffer, self.limits.name_max.into(), self.limits.verbs);
        let hello = |out: &mut [u8]| {
            let mut text = Text::new(out);
            Reply::Hello.encode(&self.limits.hello(), &mut text);
            text.len()
        };
        match guard.admit(&self.buffer, &command, hello) {
            Admission::Granted => return false,
            Admission::Refused(_) if is_classic_transfer(&self.buffer) => {
                self.reply = Some(Reply::ClassicRefusal);
                self.after_refusal();
            }
            Admission::Refused(refusal) => {
                self.reply = Some(Reply::Error(refusal));
                self.after_refusal();
            }
            Admission::Closed(code) => {
                self.reply = Some(Reply::Error(code.into()));
                self.state = State::Closed(Close::Gracefully);
            }
            // The command stays in the buffer, so that nothing is read before the reply has gone out.
            #[cfg(feature = "secure")]
            Admission::Secured(message) => self.reply = Some(Reply::Secured(message)),
            Admission::Activated => self.state = State::Length,
        }
        true
    }

    /// A command that was longer than the buffer.
    pub(super) fn refuse_excess(&mut self) {
        self.reply = Some(if is_classic_transfer(&self.buffer) {
            Reply::ClassicRefusal
        } else {
            Reply::Error(ErrorCode::TooLong.into())
        });
        self.after_refusal();
    }

    /// The state after a command that was refused without asking the driver.
    pub(super) fn after_refusal(&mut self) {
        self.state = State::Length;
        if has_body(&self.buffer) {
            self.state = State::Draining(BodyReceiver::drain());
            self.clock.restart();
        }
    }
}
