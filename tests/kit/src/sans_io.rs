//! A server without I/O: a [`ServerSession`], a [`Responder`] and a [`MemoryStore`], driven in memory.
//!
//! The test is the network and the clock: it passes bytes in pieces of any size, takes the output, sets how much the
//! client reads, and sets the time. [`Server`] is a [`Link`](crate::vector::Link), for the vectors.

use core::task::Poll;
use core::time::Duration;
use std::collections::BTreeMap;

use skiff_proto::cipher::{Cipher, Plain};
use skiff_proto::command::command_len;
use skiff_proto::message::TAG;
use skiff_proto::name::MAX_NAME;
use skiff_proto::responder::{Responder, Services, Step, list_room};
use skiff_proto::secure::{Entropy, KeyId, Noise, Secret, Security};
use skiff_proto::server::{Close, Limits, ServerSession};
use skiff_proto::store::{Stat, Store as _};
use skiff_proto::{Instant, Name, ProtocolError, Refusal};

use crate::memory::{MemoryFile, MemoryStore};
use crate::reluctant::{Changes, Reluctant, ReluctantStage};
use crate::tunnel::{HELLO, Tunnel};
use crate::vector::Problem;

mod data;
mod link;

pub use data::DataConnection;
use data::Promise;
pub use link::Server;

/// The buffer size of a session that accepts the longest names.
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
/// The bytes are not complete messages.
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

/// How a driver moves bytes, and a store makes changes.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Maximum number of bytes offered to the session at a time.
    pub input: usize,
    /// Maximum number of bytes taken from the session, or of payload moved, at a time.
    pub output: usize,
    /// The longest data message of a body that is sent.
    pub data: u32,
    /// How the store makes changes.
    pub changes: Changes,
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

/// The store behind a connection.
type Store = Reluctant<MemoryStore>;

/// One control connection to a server in memory.
pub struct Connection<const N: usize = BUF, C: Cipher = Plain> {
    session: ServerSession<N, C>,
    /// The client's end, if the connection is sealed: the test sends and receives the content of the messages.
    tunnel: Option<Tunnel>,
    /// The number of bytes that arrive at a time over a sealed connection.
    segment: usize,
    responder: Responder<Store>,
    store: Store,
    /// The store itself.
    memory: MemoryStore,
    ports: Ports,
    pace: Pace,
    now: Instant,
    /// Bytes in flight from the client.
    input: Vec<u8>,
    input_end: InputEnd,
    /// Bytes in flight to the client: a line of a listing is composed in one piece.
    pending: Vec<u8>,
    /// What the client has received.
    output: Vec<u8>,
    /// How much more the client reads.
    room: usize,
    end: Option<Close>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputEnd {
    Open,
    /// The client has closed; the session does not know yet.
    Closed,
    Handled,
}

/// The data connections that the responder requests.
#[derive(Default)]
struct Ports {
    promises: BTreeMap<u16, Promise>,
    count: u16,
}

impl Ports {
    fn announce(&mut self, promise: Promise) -> Poll<Result<u16, Refusal>> {
        let port = 50_000 + self.count;
        self.count += 1;
        self.promises.insert(port, promise);
        Poll::Ready(Ok(port))
    }
}

impl Services<Store> for Ports {
    fn get(&mut self, _: Name<'_>, file: MemoryFile, stat: Stat) -> Poll<Result<u16, Refusal>> {
        self.announce(Promise::Get { file, size: stat.size })
    }

    fn put(
        &mut self,
        store: &mut Store,
        name: Name<'_>,
        stage: ReluctantStage<MemoryStore>,
    ) -> Poll<Result<u16, Refusal>> {
        store.discard(stage);
        self.announce(Promise::Put { name: name.as_str().into() })
    }
}

/// The longest record of sealed connections, as on a device.
pub const RECORD_MAX: u16 = 1014;

impl<const N: usize> Connection<N, Noise> {
    /// A sealed connection after its handshake. Bytes from the client arrive in pieces of `segment` bytes.
    ///
    /// # Panics
    /// If the handshake fails.
    #[must_use]
    pub fn sealed(limits: Limits, store: MemoryStore, pace: Pace, segment: usize) -> Self {
        let mut this = Self::new(limits, store, pace);
        let secret = Secret::new([7; 32]);
        let key = secret.key(KeyId::parse(b"rw.alice.1").expect("a KEYID"));
        let security = Security {
            nonce: secret.nonce(1, 1),
            secret,
            min_generation: 1,
            entropy: Entropy::Random([8; 32]),
            record_max: RECORD_MAX,
            accepted: this.now,
        };
        let guard = security.guard().expect("records of a right length");
        this.session.protect(guard).expect("a new session");
        let mut tunnel = Tunnel::new(key, [9; 32]);
        this.send(HELLO);
        let command = tunnel.begin(&this.take_output()).expect("an offer");
        this.send(&command);
        tunnel.finish(&this.take_output()).expect("the right key");
        (this.tunnel, this.segment) = (Some(tunnel), segment.max(1));
        this
    }
}

impl<const N: usize, C: Cipher> Connection<N, C> {
    /// A connection to a server with `store`; the clock starts at one millisecond.
    #[must_use]
    pub fn new(limits: Limits, store: MemoryStore, pace: Pace) -> Self {
        Self {
            session: ServerSession::new(pace.limits(limits)),
            tunnel: None,
            segment: usize::MAX,
            responder: Responder::new(),
            store: Reluctant::new(store.clone(), pace.changes),
            memory: store,
            ports: Ports::default(),
            pace,
            now: Instant::from_millis(1),
            input: Vec::new(),
            input_end: InputEnd::Open,
            pending: Vec::new(),
            output: Vec::new(),
            room: usize::MAX,
            end: None,
        }
    }

    /// The client sends `bytes`; the server processes as much as it can.
    pub fn send(&mut self, bytes: &[u8]) {
        match &mut self.tunnel {
            None => self.input.extend(bytes),
            Some(tunnel) => {
                for segment in tunnel.seal(bytes).chunks(self.segment) {
                    self.input.extend(segment);
                    self.run();
                }
            }
        }
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
    pub fn error(&mut self) -> Option<ProtocolError> {
        self.session.receive(&mut []).err()
    }

    /// The session itself.
    #[must_use]
    pub const fn session(&self) -> &ServerSession<N, C> {
        &self.session
    }

    /// The client connects to a PORT; `None` if it was not announced, or is used already.
    pub fn connect_data(&mut self, port: u16) -> Option<DataConnection> {
        let promise = self.ports.promises.remove(&port)?;
        Some(DataConnection::new(promise, self.memory.clone()))
    }

    /// Continues until nothing moves any more.
    pub fn run(&mut self) {
        while self.end.is_none() && self.turn() {}
        // As a server with many connections does it.
        if let Some(parked) = self.session.park() {
            self.session = ServerSession::resume(*self.session.limits(), parked);
        }
    }

    fn turn(&mut self) -> bool {
        self.session.handle_timeout(self.now);
        let step = self.responder.step(&mut self.session, &mut self.store, &mut self.ports);
        let mut moved = step == Step::Progress;
        moved |= self.transmit();
        moved |= self.receive();
        self.end = self.session.poll_close().filter(|close| *close == Close::Reset || self.pending.is_empty());
        if self.end.is_some() {
            self.responder.close();
            self.store.flush();
            return false;
        }
        if moved {
            return true;
        }
        // No input waits: what is queued is due. What the client does not read keeps the store's results back.
        self.store.flush();
        let blocked = self.room == 0 && (self.session.has_output() || !self.pending.is_empty());
        self.responder.is_waiting(&self.session) && !blocked
    }

    fn receive(&mut self) -> bool {
        if self.input.is_empty() && self.input_end == InputEnd::Closed {
            self.input_end = InputEnd::Handled;
            self.session.handle_eof();
            return true;
        }
        // Of a record nothing is taken before it is whole.
        let least = if self.tunnel.is_some() { self.session.want_read() } else { 1 };
        let offered = self.input.len().min(self.pace.input.max(least));
        let before = self.error().is_none();
        let n = self.responder.receive(&mut self.session, &mut self.store, &mut self.input[..offered]);
        self.input.drain(..n);
        if self.error().is_some() {
            self.input.clear();
            return before;
        }
        n > 0
    }

    fn transmit(&mut self) -> bool {
        let most = self.pace.output.max(1).min(self.room);
        if self.pending.is_empty() && most > 0 {
            if self.session.has_output() {
                self.pending = vec![0; most];
                let n = self.session.poll_transmit(&mut self.pending);
                self.pending.truncate(n);
            } else if self.session.is_sending() {
                // Lines of a listing take their room in one piece, and always as much: so that they are cut alike.
                let is_list = self.session.left().is_none();
                if is_list || self.fill(most) == 0 {
                    let tag = if self.tunnel.is_some() { TAG } else { 0 };
                    self.fill(list_room(self.session.limits().name_max) + tag);
                }
            }
        }
        let n = most.min(self.pending.len());
        let sent = self.pending.drain(..n);
        match &mut self.tunnel {
            None => self.output.extend(sent),
            Some(tunnel) => {
                let sent: Vec<u8> = sent.collect();
                self.output.extend(tunnel.open(&sent).expect("records of the server"));
            }
        }
        self.room -= n;
        n > 0
    }

    /// Lets the responder send payload through a room of this size.
    fn fill(&mut self, room: usize) -> usize {
        self.pending = vec![0; room];
        let n = self.responder.transmit(&mut self.session, &mut self.store, &mut self.pending);
        self.pending.truncate(n);
        n
    }
}
