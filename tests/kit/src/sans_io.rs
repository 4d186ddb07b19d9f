//! A server without I/O: a [`ServerSession`] and a [`MemoryStore`], driven in memory by a loop as plain as it gets.
//!
//! The test is the network and the clock: it hands bytes over in the pieces it likes, takes what comes back, says how much
//! the client reads, and sets the time. [`Server`] is a [`Link`](crate::vector::Link), for the vectors.

use core::time::Duration;
use std::collections::VecDeque;

use skiff_proto::command::command_len;
use skiff_proto::message::HEADER_LEN;
use skiff_proto::name::MAX_NAME;
use skiff_proto::reply::MAX_LIST_LINE;
use skiff_proto::server::{Close, Limits, ServerEvent, ServerSession};
use skiff_proto::{Instant, InvalidState, ProtocolError, SendError};

use crate::memory::MemoryStore;
use crate::vector::Problem;

mod answered;
mod data;
mod desk;
mod link;

pub use answered::Answered;
pub use data::DataConnection;
use desk::{Desk, Step};
pub use link::Server;

/// The buffer of a session that takes the longest names.
pub const BUF: usize = command_len(MAX_NAME);

/// A message: the length, then the payload.
#[must_use]
pub fn message(payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut message = format!("{:010}", payload.len()).into_bytes();
    message.extend(payload);
    message
}

/// A body in one data message (none if `content` is empty), with the trailer `crc32c CRC`.
#[must_use]
pub fn body(content: &[u8], crc: u32) -> Vec<u8> {
    let mut body = if content.is_empty() { Vec::new() } else { message(content) };
    body.extend(message(""));
    body.extend(message(format!("crc32c {crc:08x}")));
    body
}

/// The payloads of the messages that `bytes` consists of.
///
/// # Errors
/// The bytes are not whole messages.
pub fn payloads(bytes: &[u8]) -> Result<Vec<&[u8]>, Problem> {
    let mut payloads = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let problem = || Problem::new(format!("no whole message: \"{}\"", rest.escape_ascii()));
        let (length, after) = rest.split_at_checked(10).ok_or_else(problem)?;
        if !length.iter().all(u8::is_ascii_digit) {
            return Err(problem());
        }
        let length = core::str::from_utf8(length).ok().and_then(|length| length.parse().ok()).ok_or_else(problem)?;
        let (payload, after) = after.split_at_checked(length).ok_or_else(problem)?;
        payloads.push(payload);
        rest = after;
    }
    Ok(payloads)
}

/// How a driver moves bytes and carries out changes.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The most bytes offered to the session at a time.
    pub input: usize,
    /// The most bytes taken from the session, or of payload moved, at a time.
    pub output: usize,
    /// The longest data message of a body that is sent.
    pub data: u32,
    /// When changes are made durable and answered.
    pub changes: Changes,
}

/// When changes are made durable and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changes {
    /// One by one.
    AtOnce,
    /// In batches (PROTOCOL §7): when no input waits, or before something that could observe them.
    Batched,
}

impl Pace {
    const fn limits(self, limits: Limits) -> Limits {
        Limits { data_max: self.data, ..limits }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { input: 4096, output: 4096, data: 65_536, changes: Changes::AtOnce }
    }
}

/// A control connection to a server in memory, whatever its driver.
pub trait Control {
    /// A connection to a server with `store`.
    fn open(limits: Limits, store: MemoryStore, pace: Pace) -> Self;

    /// The client sends `bytes`; the server does what it can with them.
    fn send(&mut self, bytes: &[u8]);

    /// The client ends its sending side.
    fn close(&mut self);

    /// What the client has received and not read; a test takes it from the front.
    fn output(&mut self) -> &mut Vec<u8>;

    /// How the server has ended the connection.
    fn end(&self) -> Option<Close>;

    /// The client connects to a PORT; `None` if it was not announced, or is used already.
    fn connect_data(&mut self, port: u16) -> Option<DataConnection>;
}

/// One control connection to a server in memory.
#[derive(Debug)]
pub struct Connection<const N: usize = BUF> {
    session: ServerSession<N>,
    desk: Desk,
    pace: Pace,
    now: Instant,
    /// On the way from the client.
    input: VecDeque<u8>,
    input_end: InputEnd,
    /// On the way to the client: a message of a listing is made in one piece.
    pending: Vec<u8>,
    /// What the client has received.
    output: Vec<u8>,
    /// How much more the client reads.
    room: usize,
    end: Option<Close>,
    error: Option<ProtocolError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputEnd {
    Open,
    /// The client has closed; the session has not been told.
    Closed,
    Told,
}

impl<const N: usize> Connection<N> {
    /// A connection to a server with `store`; the clock stands at one millisecond.
    #[must_use]
    pub fn new(limits: Limits, store: MemoryStore, pace: Pace) -> Self {
        Self {
            session: ServerSession::new(pace.limits(limits)),
            desk: Desk::new(store),
            pace,
            now: Instant::from_millis(1),
            input: VecDeque::new(),
            input_end: InputEnd::Open,
            pending: Vec::new(),
            output: Vec::new(),
            room: usize::MAX,
            end: None,
            error: None,
        }
    }

    /// The client sends `bytes`; the server does what it can with them.
    pub fn send(&mut self, bytes: &[u8]) {
        self.input.extend(bytes);
        self.run();
    }

    /// The client ends its sending side.
    pub fn close(&mut self) {
        self.input_end = InputEnd::Closed;
        self.run();
    }

    /// Lets time pass.
    pub fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.run();
    }

    /// The client reads no more than `bytes` from now on.
    pub fn set_room(&mut self, bytes: usize) {
        self.room = bytes;
        self.run();
    }

    /// Everything that the client has received and the test has not taken.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// Takes everything that the client has received.
    pub fn take_output(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.output)
    }

    /// How the server has ended the connection.
    #[must_use]
    pub const fn end(&self) -> Option<Close> {
        self.end
    }

    /// How the client has broken the protocol.
    #[must_use]
    pub const fn error(&self) -> Option<ProtocolError> {
        self.error
    }

    /// The session itself.
    #[must_use]
    pub const fn session(&self) -> &ServerSession<N> {
        &self.session
    }

    /// The client connects to a PORT; `None` if it was not announced, or is used already.
    pub fn connect_data(&mut self, port: u16) -> Option<DataConnection> {
        let promise = self.desk.ports.remove(&port)?;
        Some(DataConnection::new(promise, self.desk.store.clone()))
    }

    /// Goes on until nothing moves any more.
    pub fn run(&mut self) {
        while self.end.is_none() && self.turn() {}
        // As a server with many connections does it.
        if let Some(parked) = self.session.park() {
            self.session = ServerSession::resume(*self.session.limits(), parked);
        }
    }

    fn turn(&mut self) -> bool {
        self.session.handle_timeout(self.now);
        let mut moved = self.take_input();
        moved |= self.serve();
        moved |= self.send_payload();
        moved |= self.give_deferred();
        moved |= self.transmit();
        self.end = self.session.poll_close().filter(|close| *close == Close::Reset || self.pending.is_empty());
        if self.end.is_some() {
            self.desk.hang_up();
            return false;
        }
        // No input waits: the batch is due.
        moved || self.desk.carry_out_batch()
    }

    fn take_input(&mut self) -> bool {
        if self.input.is_empty() {
            if self.input_end == InputEnd::Closed {
                self.input_end = InputEnd::Told;
                self.session.handle_eof();
                return true;
            }
            return false;
        }
        let mut offered: Vec<u8> = self.input.iter().take(self.pace.input.max(1)).copied().collect();
        let received = match self.session.receive(&mut offered) {
            Ok(received) => received,
            Err(error) => {
                self.error = Some(error);
                self.input.clear();
                return true;
            }
        };
        self.input.drain(..received.taken);
        if !received.payload.is_empty()
            && let Err(refusal) = self.desk.append(received.payload)
        {
            // The last byte may have ended the body's payload, but never the body.
            self.session.refuse(refusal).expect("the body is not through");
        }
        received.taken > 0
    }

    fn serve(&mut self) -> bool {
        let step = match self.session.poll_event() {
            None => self.desk.poll_commit(),
            Some(ServerEvent::Request(request)) => self.desk.request(&request, self.pace.changes),
            Some(ServerEvent::Commit { size, crc }) => self.desk.commit(size, crc, self.pace.changes),
            Some(ServerEvent::Discard) => {
                self.desk.discard();
                return true;
            }
            Some(ServerEvent::Flush) => return self.desk.carry_out_batch(),
        };
        let fits = match step {
            Step::Answer(answer) => self.session.answer(answer),
            Step::Refuse(refusal) => self.session.refuse(refusal),
            Step::Defer => self.session.defer(),
            Step::Wait => return true,
            Step::Nothing => return false,
        };
        fits.expect("the answer fits the request");
        true
    }

    fn send_payload(&mut self) -> bool {
        if !self.session.is_sending() || self.session.has_output() || !self.pending.is_empty() {
            return false;
        }
        let most = self.pace.output.max(1).min(self.room);
        if most == 0 {
            return false;
        }
        let mut room = vec![0; if self.session.left().is_none() { HEADER_LEN + MAX_LIST_LINE } else { most }];
        let (session, desk) = (&mut self.session, &mut self.desk);
        let sent = match session.left() {
            Some(0) => Ok(0),
            _ => session.send(&mut room, |room| desk.payload(room)),
        };
        let outcome = match sent {
            Ok(0) if session.left() == Some(0) || self.desk.is_sent() => self.session.finish(),
            Ok(n) => {
                self.pending.extend(&room[..n]);
                return n > 0;
            }
            Err(SendError::Fill(refusal)) => self.session.abort(refusal.code),
            Err(SendError::InvalidState) => Err(InvalidState),
        };
        outcome.expect("a body is being sent");
        true
    }

    fn give_deferred(&mut self) -> bool {
        let mut moved = false;
        while let Some(&answer) = self.desk.owed.front() {
            if !self.session.answer_deferred(answer).expect("an answer is owed") {
                break;
            }
            self.desk.owed.pop_front();
            moved = true;
        }
        moved
    }

    fn transmit(&mut self) -> bool {
        let mut out = vec![0; self.pace.output.max(1).min(self.room)];
        let n = if self.pending.is_empty() {
            self.session.poll_transmit(&mut out)
        } else {
            let n = out.len().min(self.pending.len());
            out.splice(..n, self.pending.drain(..n));
            n
        };
        self.output.extend(&out[..n]);
        self.room -= n;
        n > 0
    }
}

impl<const N: usize> Control for Connection<N> {
    fn open(limits: Limits, store: MemoryStore, pace: Pace) -> Self {
        Self::new(limits, store, pace)
    }

    fn send(&mut self, bytes: &[u8]) {
        self.send(bytes);
    }

    fn close(&mut self) {
        self.close();
    }

    fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    fn end(&self) -> Option<Close> {
        self.end
    }

    fn connect_data(&mut self, port: u16) -> Option<DataConnection> {
        self.connect_data(port)
    }
}
