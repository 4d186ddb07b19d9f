//! One end of the link: a session, its two buffers and the frames to be sent.

use core::time::Duration;

use super::frame::{Decoder, FRAME_MAX, Head, Item, Kind, PAYLOAD};
use super::ring::Ring;
use crate::time::Instant;

/// The interval at which a client repeats the frame that opens a session.
const REOPEN: Duration = Duration::from_millis(500);

/// The state of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum State {
    /// There is none.
    Closed,
    /// The client waits for the server.
    Opening,
    /// The session is open.
    Open,
    /// The application has ended it. What it has written is still sent.
    Ending,
    /// The other end has ended it. Bytes that were received can still be read.
    Ended,
}

/// One end of a serial line (PROTOCOL §9) without I/O: bytes from the line go in, bytes for the line come out, and what
/// the application reads is what the application at the other end wrote.
///
/// `RX` is the size of the buffer for received bytes until they are read, and so the window of this end. `TX` is that
/// of the buffer for written bytes until they are acknowledged. Both are at most 32_767; 512 keeps a line of 115,200
/// baud busy.
///
/// Only a client needs a clock. A server repeats what the client requests again.
#[derive(Debug)]
pub struct Link<const RX: usize, const TX: usize> {
    state: State,
    session: u16,
    decoder: Decoder,
    /// Received and not read.
    input: Ring<RX>,
    /// The number of the next byte to be received.
    expected: u16,
    /// The number up to which the other end may send, as far as it knows.
    granted: u16,
    /// A gap was reported, and nothing in order has arrived since.
    gap: bool,
    /// Written and not acknowledged.
    output: Ring<TX>,
    /// The number of the first of these bytes.
    first: u16,
    /// How many of them have been sent.
    sent: u16,
    /// How many of them the other end accepts.
    window: u16,
    /// Pieces that do not fill a frame are sent too.
    flush: bool,
    /// Frames to be sent.
    due: Due,
    /// Server: a client that requests a session, with its window.
    caller: Option<(u16, u16)>,
    /// Client: when it repeats what was not answered, and how many milliseconds it waits.
    timer: Option<(Instant, u32)>,
    /// Client: it has asked what was received, and sends nothing until the answer.
    asking: bool,
    /// A frame of this session was received.
    used: bool,
}

#[derive(Debug)]
struct Due {
    /// An acknowledgement.
    report: bool,
    repeat: bool,
    open: bool,
    accept: bool,
    /// A close frame for a session that is not open.
    close: Option<u16>,
}

impl Due {
    const NOTHING: Self = Self { report: false, repeat: false, open: false, accept: false, close: None };
}

impl<const RX: usize, const TX: usize> Default for Link<RX, TX> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const RX: usize, const TX: usize> Link<RX, TX> {
    /// An end without a session.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(0 < RX && RX <= 32_767 && 0 < TX && TX <= 32_767) };
        Self {
            state: State::Closed,
            session: 0,
            decoder: Decoder::new(),
            input: Ring::new(),
            expected: 0,
            granted: 0,
            gap: false,
            output: Ring::new(),
            first: 0,
            sent: 0,
            window: 0,
            flush: false,
            due: Due::NOTHING,
            caller: None,
            timer: None,
            asking: false,
            used: false,
        }
    }

    /// Client: opens a session. `session` must be unpredictable. `patience` is how long the other end may be silent
    /// before it is asked what it has received: 1 s, longer on a slow line.
    pub fn open(&mut self, session: u16, patience: Duration, now: Instant) {
        self.begin(State::Opening, session, 0);
        self.due.open = true;
        self.timer = Some((now.after(REOPEN), u32::try_from(patience.as_millis()).unwrap_or(u32::MAX)));
    }

    /// Server: accepts the session that a client requests, in place of one that may still be open. False if none is
    /// requested.
    pub fn accept(&mut self) -> bool {
        let Some((session, window)) = self.caller.take() else { return false };
        self.begin(State::Open, session, window);
        self.due.accept = true;
        true
    }

    fn begin(&mut self, state: State, session: u16, window: u16) {
        (self.state, self.session, self.window) = (state, session, window);
        self.input.clear();
        self.output.clear();
        (self.expected, self.granted, self.first, self.sent) = (0, self.input.room(), 0, 0);
        (self.gap, self.flush, self.asking, self.used) = (false, false, false, false);
        (self.due, self.caller, self.timer) = (Due::NOTHING, None, None);
    }

    /// The state of the session.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Server: true if a client requests a session. One that was open is lost: the client will not use it again.
    #[must_use]
    pub const fn is_called(&self) -> bool {
        self.caller.is_some()
    }

    /// Ends the session once everything written has been received by the other end.
    pub fn end(&mut self) {
        self.flush = true;
        if matches!(self.state, State::Opening | State::Open) {
            self.state = State::Ending;
        }
    }

    /// Ends the session at once.
    pub fn abort(&mut self) {
        if matches!(self.state, State::Opening | State::Open | State::Ending) {
            self.due.close = Some(self.session);
        }
        self.state = State::Closed;
        (self.due.open, self.due.report, self.due.repeat) = (false, false, false);
    }

    /// Moves received bytes to `buffer`, and returns how many.
    pub fn read(&mut self, buffer: &mut [u8]) -> usize {
        let n = self.input.read(buffer);
        // A window that opens by a few bytes is not worth a frame.
        let opened = self.expected.wrapping_add(self.input.room()).wrapping_sub(self.granted);
        self.due.report |= self.state == State::Open && usize::from(opened) >= RX.div_ceil(2).min(usize::from(PAYLOAD));
        n
    }

    /// True if there are bytes to be read.
    #[must_use]
    pub const fn can_read(&self) -> bool {
        self.input.len() > 0
    }

    /// Takes bytes to be sent, and returns the number taken.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        self.flush = false;
        if self.state == State::Open { self.output.write(bytes) } else { 0 }
    }

    /// Sends everything written now, even if it does not fill a frame.
    pub fn flush(&mut self) {
        self.flush = true;
    }

    /// How many bytes were written and not acknowledged.
    #[must_use]
    pub const fn unacknowledged(&self) -> usize {
        self.output.len() as usize
    }

    /// True if everything written is on its way.
    #[must_use]
    pub const fn is_sent(&self) -> bool {
        self.sent == self.output.len()
    }

    /// Processes all of `line`, the bytes that the line has delivered.
    pub fn handle_input(&mut self, line: &[u8], now: Instant) {
        for byte in line {
            match self.decoder.push(*byte) {
                Item::Nothing => {}
                // Bytes beyond the end of the ring do not count until the frame has been verified.
                Item::Payload { at, byte } => {
                    if self.decoder.head().is_some_and(|head| self.is_next(&head)) {
                        self.input.put_ahead(u16::from(at), byte);
                    }
                }
                Item::Garbage if matches!(self.state, State::Open | State::Ending) => self.due.repeat = true,
                Item::Garbage => {}
                Item::Frame(head, len) => self.handle_frame(&head, u16::from(len), now),
            }
        }
    }

    /// True if the payload of this frame is the next to be received.
    fn is_next(&self, head: &Head) -> bool {
        self.state == State::Open && head.session == self.session && head.seq == self.expected
    }

    fn handle_frame(&mut self, head: &Head, len: u16, now: Instant) {
        if head.kind == Kind::Open {
            // A client repeats its request until it is answered.
            if self.state == State::Open && self.session == head.session && !self.used {
                self.due.accept = true;
            } else if self.timer.is_none() {
                self.caller = Some((head.session, head.window));
            }
            return;
        }
        let is_open = matches!(self.state, State::Opening | State::Open | State::Ending);
        if head.session != self.session || !is_open {
            // A client opens its own sessions, and ignores others.
            if head.kind != Kind::Close && self.timer.is_none() {
                self.due.close = Some(head.session);
            }
            return;
        }
        if let Some((at, patience)) = &mut self.timer {
            *at = now.after(Duration::from_millis(u64::from(*patience)));
        }
        match (head.kind, self.state) {
            (Kind::Close, _) => (self.state, self.due) = (State::Ended, Due::NOTHING),
            (Kind::Accept, State::Opening) => {
                self.state = State::Open;
                self.window = head.window;
                self.due.open = false;
            }
            (Kind::Accept | Kind::Open, _) | (_, State::Opening) => {}
            (Kind::Data | Kind::Repeat, _) => self.handle_data(head, len),
        }
    }

    fn handle_data(&mut self, head: &Head, len: u16) {
        self.used = true;
        let acknowledged = head.ack.wrapping_sub(self.first);
        if acknowledged <= self.output.len() {
            self.output.consume(acknowledged);
            self.first = head.ack;
            self.sent = self.sent.saturating_sub(acknowledged);
            self.window = head.window;
            if head.kind == Kind::Repeat || core::mem::replace(&mut self.asking, false) {
                self.sent = 0;
            }
        }
        self.due.report |= head.kind == Kind::Repeat;
        if len == 0 {
            return;
        }
        if self.is_next(head) && len <= self.input.room() {
            self.input.advance(len);
            self.expected = self.expected.wrapping_add(len);
            self.gap = false;
            self.due.report = true;
        } else if head.seq.wrapping_sub(self.expected).cast_signed() > 0 {
            self.due.repeat |= !core::mem::replace(&mut self.gap, true);
        } else {
            self.due.report = true;
        }
    }

    /// True if [`Link::poll_transmit`] has a frame.
    #[must_use]
    pub fn has_output(&self) -> bool {
        let due = &self.due;
        due.report || due.repeat || due.open || due.accept || due.close.is_some() || self.next() > 0 || self.is_over()
    }

    /// Writes the next frame for the line and returns its length; 0 if there is none.
    pub fn poll_transmit(&mut self, out: &mut [u8; FRAME_MAX]) -> usize {
        let len = self.next();
        let (kind, session, len) = if let Some(session) = self.due.close.take() {
            (Kind::Close, session, 0)
        } else if core::mem::take(&mut self.due.open) {
            (Kind::Open, self.session, 0)
        } else if core::mem::take(&mut self.due.accept) {
            (Kind::Accept, self.session, 0)
        } else if core::mem::take(&mut self.due.repeat) {
            (Kind::Repeat, self.session, 0)
        } else if self.due.report || len > 0 {
            (Kind::Data, self.session, len)
        } else if self.is_over() {
            self.state = State::Closed;
            (Kind::Close, self.session, 0)
        } else {
            return 0;
        };
        if matches!(kind, Kind::Data | Kind::Repeat) {
            self.due.report = false;
        }
        let window = self.input.room();
        let head = Head { kind, session, seq: self.first.wrapping_add(self.sent), ack: self.expected, window };
        if session == self.session {
            self.granted = self.expected.wrapping_add(window);
        }
        let n = head.encode(self.output.slices(self.sent, len), out);
        self.sent += len;
        n
    }

    /// True if a session that the application has ended has nothing left to send.
    const fn is_over(&self) -> bool {
        matches!(self.state, State::Ending) && self.output.len() == 0
    }

    /// The payload of the next frame, in bytes; 0 if it has to wait.
    fn next(&self) -> u16 {
        if !matches!(self.state, State::Open | State::Ending) || self.asking {
            return 0;
        }
        let waiting = self.output.len() - self.sent;
        let len = waiting.min(self.window.saturating_sub(self.sent)).min(PAYLOAD);
        let is_last = len == waiting && (self.flush || self.output.room() == 0);
        let is_whole = len == PAYLOAD || is_last;
        // Less than a frame because of the window: only if nothing else is left.
        let is_stuck = self.sent == 0 && len < waiting;
        if is_whole || is_stuck { len } else { 0 }
    }

    /// Client: when to call [`Link::handle_timeout`] at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let is_waiting = matches!(self.state, State::Opening | State::Open | State::Ending);
        self.timer.filter(|_| is_waiting).map(|(at, _)| at)
    }

    /// Client: repeats what was not answered in time.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Some((_, patience)) = self.timer.filter(|(at, _)| now >= *at) else { return };
        let delay = match self.state {
            State::Opening => {
                self.due.open = true;
                REOPEN
            }
            State::Open | State::Ending => {
                (self.due.repeat, self.asking) = (true, true);
                Duration::from_millis(u64::from(patience))
            }
            State::Closed | State::Ended => return,
        };
        self.timer = Some((now.after(delay), patience));
    }
}
