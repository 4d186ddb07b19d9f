//! Drives a client session over a stream.
//!
//! Commands and bodies are collected in `out`, so that many leave in one write. Input is read into `input` in large
//! pieces and used there, payload without another copy. Waiting always covers both directions: a server may stop
//! reading while it answers (PROTOCOL §1).

use core::future::poll_fn;
use core::net::SocketAddr;
use core::num::NonZeroU64;
use core::ops::Range;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::io;
use std::sync::Arc;

use skiff_proto::client::ClientSession;
use skiff_proto::command::{Command, MAX_COMMAND, VERSION};
use skiff_proto::crc::Crc32c;
use skiff_proto::error::{ErrorCode, InvalidState};
use skiff_proto::identity::KeyId;
use skiff_proto::message::HEADER_LEN;
use skiff_proto::{ProtocolError, SendError};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::ReadBuf;
use tokio::time::{Instant, sleep_until, timeout};

use super::Options;
use super::cancel::CancelToken;
use super::dial::{closed_early, connect_any};
use super::error::{Error, SAID_MAX};
use super::event::{Event, HelloInfo, owned};
use super::line::{Line, Peer};
#[cfg(all(feature = "serial", unix))]
use super::serial::{OpenError, SerialStream};
use crate::protection::Protection;

/// Bytes that are sent in one write, or read from a file at a time. Buffers are mapped; only the used part takes
/// memory.
pub(super) const BUFFER: usize = 256 << 10;

/// The longest data message.
const DATA_MAX: u32 = 256 << 10;

/// Size of the input buffer: the larger it is, the fewer wake-ups during a large transfer.
const INPUT: usize = 1 << 20;

/// Space kept free in `out` for the framing around payload: any command, or the longest trailer.
const MARGIN: usize = 1024;

/// The most bytes between one event or payload and the next: the longest reply that is read to its end, and more than
/// any framing. What exceeds it is the tail of a body that has no end.
const MAX_FRAMING: usize = 128 << 10;

/// Timeout for the answer to the question of PROTOCOL §4.
const HELLO: Duration = Duration::from_secs(10);

/// Maximum number of commands before the hello: a classic server would only ignore them.
const BEFORE_HELLO: usize = 17;

/// How many commands may be without a reply: enough for a server that makes two batches of some hundred files durable in
/// turn. Their places make the session large, so it lies in memory of its own.
const QUEUE: usize = 1024;

type Session = ClientSession<1024, QUEUE, Protection>;

/// What [`Connection::poll`] found.
#[derive(Debug)]
pub(super) enum Incoming {
    Event(Event),
    /// Payload, at this place of [`Connection::input`]. Good until the next exchange.
    Payload(Range<usize>),
    /// All input has been used.
    Nothing,
}

/// How long to wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience<'a> {
    /// Cancels the wait.
    pub(super) cancel: Option<&'a CancelToken>,
    /// Timeout without any byte moving.
    pub(super) idle: Duration,
    /// Total timeout.
    pub(super) until: Option<Instant>,
}

pub(super) struct Connection {
    stream: Line,
    address: Arc<str>,
    /// Whose key protects it, or is to protect it.
    key: Option<KeyId>,
    session: Box<Session>,
    hello: Option<Option<HelloInfo>>,
    asked: bool,
    out: Vec<u8>,
    sent: usize,
    len: usize,
    input: Vec<u8>,
    start: usize,
    end: usize,
    write_error: Option<io::Error>,
    /// Bytes used since the last event or payload.
    framing: usize,
    /// Something was received since the oldest command without a reply.
    heard: bool,
    progress: Instant,
    /// Bytes that one exchange may move, each way.
    quota: usize,
    /// Bytes moved so far, both ways.
    moved: u64,
    pace: Option<Pace>,
}

/// The rate that the user limits a transfer to.
struct Pace {
    rate: NonZeroU64,
    /// Bytes moved at the last check.
    moved: u64,
    /// When the next bytes may go.
    next: Instant,
}

impl core::fmt::Debug for Connection {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).field("session", &self.session).finish()
    }
}

impl Connection {
    /// Connects to a server that was connected to before.
    pub(super) async fn again(peer: &Peer, address: &Arc<str>, options: &Options) -> Result<Self, Error> {
        match peer {
            Peer::Network(peer) => Ok(Self::open(&[*peer], address, options).await?.0),
            #[cfg(all(feature = "serial", unix))]
            Peer::Serial(port) => Self::open_serial(port, options).await,
        }
    }

    /// Opens a session over a serial line.
    #[cfg(all(feature = "serial", unix))]
    pub(super) async fn open_serial(port: &crate::address::SerialPort, options: &Options) -> Result<Self, Error> {
        let address = format!("{} at {} baud", port.path, port.baud);
        match SerialStream::open(port, options.connect_timeout, &options.cancel).await {
            Ok(stream) => Self::over(Line::Serial(stream), &address.into(), options),
            Err(OpenError::Port(error)) => Err(Error::Connect { address, source: Arc::new(error) }),
            Err(OpenError::Mute) => Err(Error::Mute { address }),
            Err(OpenError::Cancelled) => Err(Error::Cancelled),
        }
    }

    /// Connects to the first of `peers` that answers, each within the time of `options`, and returns which one that is.
    pub(super) async fn open(
        peers: &[SocketAddr],
        address: &Arc<str>,
        options: &Options,
    ) -> Result<(Self, SocketAddr), Error> {
        let Options { connect_timeout, cancel, .. } = options;
        let (peer, stream) = connect_any(peers, *connect_timeout, cancel).await.map_err(|error| match error {
            Some(error) => Error::Connect { address: address.to_string(), source: Arc::new(closed_early(error)) },
            None => Error::Cancelled,
        })?;
        // It finds a dead peer even in the middle of a transfer. It is not vital: errors are ignored.
        let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(20)).with_interval(Duration::from_secs(10));
        _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        Ok((Self::over(Line::Tcp(stream), address, options)?, peer))
    }

    fn over(stream: Line, address: &Arc<str>, options: &Options) -> Result<Self, Error> {
        let access = &options.access;
        let mut session = Box::new(Session::new(Duration::MAX));
        session.set_data_max(DATA_MAX);
        let failed = |source| Error::Connect { address: address.to_string(), source: Arc::new(source) };
        if let Some(handshake) = access.handshake().map_err(failed)? {
            session.protect(handshake).map_err(|error| failed(io::Error::other(error)))?;
        }
        Ok(Self {
            stream,
            address: Arc::clone(address),
            key: access.key_id().copied(),
            session,
            hello: None,
            asked: false,
            out: vec![0; BUFFER + MARGIN],
            sent: 0,
            len: 0,
            input: vec![0; INPUT],
            start: 0,
            end: 0,
            write_error: None,
            framing: 0,
            heard: false,
            progress: Instant::now(),
            quota: usize::MAX,
            moved: 0,
            pace: None,
        })
    }

    /// True if nothing is under way. An operation that was dropped in the middle leaves something behind.
    pub(super) fn is_idle(&self) -> bool {
        self.session.owed() == 0
            && !self.session.is_sending()
            && !self.session.has_output()
            && self.pending() == 0
            && self.start == self.end
            && self.write_error.is_none()
    }

    /// True if the server has closed an idle connection, or has sent something unrequested.
    pub(super) fn is_stale(&mut self) -> bool {
        self.progress.elapsed() >= Duration::from_millis(500) && self.stream.is_stale()
    }

    /// What the server is, once it has answered: the outer `None` is "not yet", the inner "classic".
    #[expect(clippy::option_option, reason = "not asked yet and classic are two things")]
    pub(super) const fn hello(&self) -> Option<Option<&HelloInfo>> {
        match &self.hello {
            Some(hello) => Some(hello.as_ref()),
            None => None,
        }
    }

    /// Puts the question for extended commands first, once.
    pub(super) fn ask(&mut self) -> Result<(), Error> {
        if !self.asked {
            self.asked = true;
            self.request(&Command::Hello { version: VERSION })?;
        }
        Ok(())
    }

    /// True if the handshake has to be through before the first command.
    pub(super) const fn is_to_be_protected(&self) -> bool {
        self.key.is_some() && self.hello.is_none()
    }

    /// True if there is room for `commands` more, here and in the session.
    pub(super) fn can_request(&self, commands: usize) -> bool {
        let limit = if self.hello.is_some() { QUEUE } else { BEFORE_HELLO };
        self.session.can_request()
            && self.session.owed() + commands <= limit
            && self.room() >= commands * (HEADER_LEN + MAX_COMMAND)
    }

    /// Queues a command.
    pub(super) fn request(&mut self, command: &Command<'_>) -> Result<(), Error> {
        if self.session.owed() == 0 && self.pending() == 0 {
            self.progress = Instant::now();
            self.heard = false;
        }
        self.session.request(command).map_err(|error| self.misused(error))?;
        self.drain();
        Ok(())
    }

    /// Moves the output of the session into `out`.
    pub(super) fn drain(&mut self) {
        self.len += self.session.poll_transmit(&mut self.out[self.len..]);
    }

    /// Bytes in `out` that have not gone out.
    pub(super) const fn pending(&self) -> usize {
        self.len - self.sent
    }

    /// Bytes of room in `out`.
    pub(super) fn room(&self) -> usize {
        self.out.len() - self.len
    }

    /// Sends payload of the body of a `write`, which `fill` writes into the room that it is given. False if there is no room.
    pub(super) fn send_payload(&mut self, fill: impl FnOnce(&mut [u8]) -> Result<usize, Error>) -> Result<bool, Error> {
        self.drain();
        // Leave room for the framing after it.
        let room = self.room().saturating_sub(MARGIN / 2);
        // A short piece of a large file would misalign every later read and write.
        let is_scrap = room < BUFFER / 4 && self.session.left().is_some_and(|left| left > room as u64);
        if self.session.has_output() || (is_scrap && !self.session.is_in_data()) {
            return Ok(false);
        }
        match self.session.send(&mut self.out[self.len..self.len + room], fill) {
            Ok(n) => {
                self.len += n;
                Ok(n > 0)
            }
            Err(SendError::Fill(error)) => Err(error),
            Err(SendError::InvalidState) => Err(self.misused(InvalidState)),
        }
    }

    /// The session, for the body of a `write`. Send what it queues with [`Connection::drain`].
    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// True if something has come since the oldest command without a reply: the connection was not closed while idle.
    pub(super) const fn has_heard(&self) -> bool {
        self.heard
    }

    /// How many replies are owed.
    pub(super) fn owed(&self) -> usize {
        self.session.owed()
    }

    /// What came, for the range of [`Incoming::Payload`].
    pub(super) fn input(&self, range: Range<usize>) -> &[u8] {
        &self.input[range]
    }

    /// The checksum of the bytes of the present `read` so far.
    pub(super) fn body_crc(&self) -> Crc32c {
        self.session.body_crc().unwrap_or_default()
    }

    /// Uses what has come, up to the next thing that the operation has to know.
    pub(super) fn poll(&mut self) -> Result<Incoming, Error> {
        loop {
            let asked = self.hello.is_none();
            if let Some(event) = self.session.poll_event().map_err(|source| protocol(&self.address, source))? {
                match owned(event) {
                    Event::Hello(hello) => {
                        if self.wants_key() {
                            return Err(Error::KeyNeeded { address: self.address.to_string() });
                        }
                        self.hello = Some(hello);
                    }
                    Event::Refused(Error::Refused { code: Some(ErrorCode::Denied), .. })
                        if let Some(key) = self.key.filter(|_| asked) =>
                    {
                        return Err(Error::KeyRefused { address: self.address.to_string(), key: key.to_string() });
                    }
                    // Without an answer to the question nothing else makes sense.
                    Event::Refused(error) if asked => return Err(error),
                    event => {
                        self.framing = 0;
                        return Ok(Incoming::Event(event));
                    }
                }
                continue;
            }
            if self.start == self.end {
                return Ok(Incoming::Nothing);
            }
            let received = match self.session.receive(&mut self.input[self.start..self.end]) {
                Ok(received) => received,
                Err(source) => return Err(self.violated(source)),
            };
            let range = self.start + received.at..self.start + received.at + received.payload.len();
            self.start += received.taken;
            if received.taken == 0 {
                // The rest of a record is missing.
                return Ok(Incoming::Nothing);
            }
            if !range.is_empty() {
                self.framing = 0;
                return Ok(Incoming::Payload(range));
            }
            self.framing += received.taken;
            if self.framing > MAX_FRAMING {
                let source = ProtocolError::TooLong { length: self.framing as u64 };
                return Err(protocol(&self.address, source));
            }
        }
    }

    /// The error for input that the session does not accept.
    fn violated(&self, source: ProtocolError) -> Error {
        let address = self.address.to_string();
        let asked = self.hello.is_none();
        match source {
            ProtocolError::BadLength if asked => {
                let lines = self.input[self.start..self.end].split(|byte| matches!(byte, b'\r' | b'\n'));
                let said = lines.into_iter().next().unwrap_or_default();
                Error::NotSkiff { address, said: said[..said.len().min(SAID_MAX)].to_vec() }
            }
            // The bytes before are verified, and the transfer can be resumed from there.
            ProtocolError::Forged if !asked => Error::Lost {
                address,
                source: Arc::new(io::Error::new(io::ErrorKind::InvalidData, "a message was changed on the way")),
            },
            source => protocol(&address, source),
        }
    }

    /// True if the server talks only to clients with a key, and this one has none.
    fn wants_key(&self) -> bool {
        #[cfg(feature = "secure")]
        let wants_key = self.key.is_none() && self.session.wants_key();
        #[cfg(not(feature = "secure"))]
        let wants_key = false;
        wants_key
    }

    /// Limits transfers to `rate` bytes a second.
    pub(super) fn set_rate(&mut self, rate: NonZeroU64) {
        if self.pace.is_none() {
            // An eighth of a second at a time.
            self.quota = usize::try_from(rate.get() / 8).unwrap_or(usize::MAX).max(512);
            // What lies in the socket has used the line already.
            self.stream.limit_input(self.quota.clamp(8 << 10, 4 << 20));
            self.pace = Some(Pace { rate, moved: self.moved, next: Instant::now() });
        }
    }

    /// Waits until the rate allows further bytes, or until it is cancelled.
    pub(super) async fn pace(&mut self, cancel: Option<&CancelToken>) {
        let Some(pace) = &mut self.pace else { return };
        let bytes = self.moved - core::mem::replace(&mut pace.moved, self.moved);
        #[expect(clippy::cast_precision_loss, reason = "a pause need not be exact")]
        let time = Duration::try_from_secs_f64(bytes as f64 / pace.rate.get() as f64).unwrap_or_default();
        let now = Instant::now();
        // A pause does not earn a burst.
        pace.next = pace.next.max(now.checked_sub(Duration::from_millis(250)).unwrap_or(now)) + time;
        let next = pace.next;
        tokio::select! {
            () = cancelled(cancel) => {}
            () = sleep_until(next) => self.progress = Instant::now(),
        }
    }

    /// Sends and receives until something has moved.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Timeout`], [`Error::Mute`], [`Error::Cancelled`]. After any of them but the last, the
    /// connection can't be used any more.
    pub(super) async fn exchange(&mut self, patience: Patience<'_>) -> Result<(), Error> {
        if patience.cancel.is_some_and(CancelToken::is_cancelled) {
            return Err(Error::Cancelled);
        }
        let asked = self.hello.is_none();
        let deadline = self.deadline(&patience);
        let moved = tokio::select! {
            biased;
            moved = poll_fn(|cx| self.poll_exchange(cx)) => moved,
            () = cancelled(patience.cancel) => return Err(Error::Cancelled),
            () = expired(deadline) => {
                if asked && patience.until.is_none() {
                    return Err(Error::Mute { address: self.address.to_string() });
                }
                return Err(Error::Timeout { address: self.address.to_string(), after: self.progress.elapsed() });
            }
        };
        self.progress = Instant::now();
        moved.map_err(|source| {
            let source = if asked { closed_early(source) } else { source };
            Error::Lost { address: self.address.to_string(), source: Arc::new(source) }
        })
    }

    /// When [`Connection::exchange`] gives up if nothing moves.
    pub(super) fn deadline(&self, patience: &Patience<'_>) -> Option<Instant> {
        // Every skiff server, of either kind, answers the hello at once.
        let idle = if self.hello.is_none() { patience.idle.min(HELLO) } else { patience.idle };
        let deadline = self.progress.checked_add(idle);
        deadline.into_iter().chain(patience.until).min()
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut moved = false;
        while self.sent < self.len && self.write_error.is_none() {
            let end = self.len.min(self.sent.saturating_add(self.quota));
            match self.stream.poll_write(cx, &self.out[self.sent..end]) {
                Poll::Ready(Ok(0)) => self.write_error = Some(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => {
                    self.sent += n;
                    self.moved += n as u64;
                    moved = true;
                    if self.pace.is_some() {
                        break;
                    }
                }
                // What the server said before it closed still lies in the socket: read on.
                Poll::Ready(Err(error)) => self.write_error = Some(error),
                Poll::Pending => break,
            }
        }
        if self.sent == self.len {
            (self.sent, self.len) = (0, 0);
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 && self.input.len() - self.end < BUFFER {
            // The beginning of a record: the rest has to fit behind it.
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let room = (self.input.len() - self.end).min(self.quota);
        let mut buffer = ReadBuf::new(&mut self.input[self.end..self.end + room]);
        let read = match self.stream.poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(Ok(())) => {
                let n = buffer.filled().len();
                self.end += n;
                self.moved += n as u64;
                self.heard = true;
                Ok(())
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending if moved => Ok(()),
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(read.map_err(|error| self.write_error.take().unwrap_or(error)))
    }

    /// From now on, closing discards what the socket has not sent yet.
    pub(super) fn reset(&self) {
        self.stream.reset();
    }

    /// Sends what is queued, for at most `limit`, and closes.
    pub(super) async fn close(mut self, limit: Duration) {
        _ = self.session.request(&Command::Quit);
        self.drain();
        let flush = poll_fn(|cx| {
            while self.sent < self.len {
                match ready!(self.stream.poll_write(cx, &self.out[self.sent..self.len])) {
                    Ok(n) if n > 0 => self.sent += n,
                    _ => break,
                }
            }
            self.stream.poll_flush(cx)
        });
        _ = timeout(limit, flush).await;
    }

    /// Aborts the body that is being sent, because it was refused or cancelled.
    pub(super) fn abort(&mut self, code: ErrorCode) {
        _ = self.session.abort(code);
        self.drain();
    }

    /// A call out of order is a bug here; it ends the operation, not the program.
    pub(super) fn misused(&self, error: InvalidState) -> Error {
        debug_assert!(false, "{error}");
        Error::Lost { address: self.address.to_string(), source: Arc::new(io::Error::other(error)) }
    }
}

/// Waits for the token; forever without one.
pub(super) async fn cancelled(cancel: Option<&CancelToken>) {
    match cancel {
        Some(cancel) => cancel.cancelled().await,
        None => core::future::pending().await,
    }
}

fn protocol(address: &str, source: ProtocolError) -> Error {
    if source == ProtocolError::NotProtected {
        return Error::Unprotected { address: address.to_owned() };
    }
    Error::Protocol { address: address.to_owned(), source }
}

async fn expired(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => core::future::pending().await,
    }
}
