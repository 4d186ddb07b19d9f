//! The blocking drives, a thread at each end of pipes that hold a byte or a few.
#![cfg(feature = "embedded-io")]
#![expect(clippy::unwrap_used, reason = "also the helpers of tests are tests")]

mod drive_support;

use core::cell::Cell;
use core::fmt;
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use drive_support::{BUF, NAME_MAX, body, content, everything, message, messages, name, store};
use embedded_io::{ErrorKind, ErrorType, Read, Write};
use skiff_kit::memory::{MemoryStore, Operation};
use skiff_proto::cipher::Cipher;
use skiff_proto::client::{BodyError, ClientEvent, Peer};
use skiff_proto::command::{Command, Request, VERSION};
use skiff_proto::drive::{Client, DriveError, serve};
use skiff_proto::responder::list_room;
use skiff_proto::server::{Close, Limits, ServerSession};
use skiff_proto::{ErrorCode, Instant, ProtocolError};

/// Longer than anything here takes: two ends that wait for each other fail the test.
const DEADLOCK: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Pipe {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    closed: bool,
}

/// One end of two pipes.
struct End {
    rx: Arc<Pipe>,
    tx: Arc<Pipe>,
    room: usize,
    unflushed: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Broken(ErrorKind);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl core::error::Error for Broken {}

impl embedded_io::Error for Broken {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

impl ErrorType for End {
    type Error = Broken;
}

impl Read for End {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        assert!(!self.unflushed, "it waits for an answer to what it has not flushed");
        let state = self.rx.state.lock().unwrap();
        let wait = |state: &mut State| state.bytes.is_empty() && !state.closed;
        let (mut state, late) = self.rx.changed.wait_timeout_while(state, DEADLOCK, wait).unwrap();
        assert!(!late.timed_out(), "deadlock in read");
        let n = state.bytes.len().min(buffer.len());
        for (byte, from) in buffer.iter_mut().zip(state.bytes.drain(..n)) {
            *byte = from;
        }
        self.rx.changed.notify_all();
        Ok(n)
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let state = self.tx.state.lock().unwrap();
        let wait = |state: &mut State| state.bytes.len() >= self.room && !state.closed;
        let (mut state, late) = self.tx.changed.wait_timeout_while(state, DEADLOCK, wait).unwrap();
        assert!(!late.timed_out(), "deadlock in write");
        if state.closed {
            return Err(Broken(ErrorKind::BrokenPipe));
        }
        let n = bytes.len().min(self.room - state.bytes.len());
        state.bytes.extend(&bytes[..n]);
        self.unflushed = true;
        self.tx.changed.notify_all();
        Ok(n)
    }

    fn flush(&mut self) -> Result<(), Broken> {
        self.unflushed = false;
        Ok(())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        for pipe in [&self.rx, &self.tx] {
            // A thread that has failed has a lock poisoned; its own message is the one to see.
            if let Ok(mut state) = pipe.state.lock() {
                state.closed = true;
            }
            pipe.changed.notify_all();
        }
    }
}

/// Client and server; `there` bytes go in one direction before somebody has to read, `back` in the other.
fn pipes(there: usize, back: usize) -> (End, End) {
    let (a, b) = (Arc::new(Pipe::default()), Arc::new(Pipe::default()));
    let end = |rx: &Arc<Pipe>, tx: &Arc<Pipe>, room| End { rx: rx.clone(), tx: tx.clone(), room, unflushed: false };
    (end(&b, &a, there), end(&a, &b, back))
}

fn clock() -> Instant {
    Instant::from_millis(1)
}

fn session() -> ServerSession<BUF> {
    ServerSession::new(Limits::new(NAME_MAX))
}

fn client(end: End) -> Client<End, fn() -> Instant, 300> {
    Client::new(end, Duration::from_secs(10), clock)
}

type Served = thread::JoinHandle<Result<Close, DriveError<Broken>>>;

/// Serves `end` on a thread of its own, through `scratch` bytes.
fn server(end: End, store: &MemoryStore, scratch: usize) -> Served {
    server_of(session(), end, store, scratch)
}

fn server_of<C: Cipher<Server: Send> + 'static>(
    mut session: ServerSession<BUF, C>,
    mut end: End,
    store: &MemoryStore,
    scratch: usize,
) -> Served {
    let mut store = store.clone();
    thread::spawn(move || serve(&mut end, &mut session, &mut store, &mut vec![0; scratch], clock))
}

#[test]
fn a_client_does_everything_over_the_smallest_pipes() {
    for (there, back) in [(1, 1), (7, 1), (1, 64), (64, 7), (4096, 4096)] {
        let store = store();
        let (near, far) = pipes(there, back);
        let served = server(far, &store, list_room(NAME_MAX));
        let mut client = client(near);
        everything!(client);
        assert_eq!(served.join().unwrap(), Ok(Close::Gracefully));
        assert_eq!(store.content("kept").unwrap(), content(5000));
        assert_eq!(store.content("gone"), None);
    }
}

#[cfg(feature = "secure")]
mod protected {
    use super::*;
    use drive_support::ends;
    use skiff_proto::secure::Noise;

    const RECORD_MAX: u16 = 700;
    const RECORD: usize = RECORD_MAX as usize;

    fn session() -> ServerSession<BUF, Noise> {
        let mut session = ServerSession::new(Limits::new(NAME_MAX));
        session.protect(ends(RECORD_MAX).1).unwrap();
        session
    }

    fn client<const N: usize>(end: End) -> Client<End, fn() -> Instant, 400, Noise, N> {
        let mut client = Client::new(end, Duration::from_secs(10), clock as fn() -> Instant);
        client.session().protect(ends(RECORD_MAX).0).unwrap();
        client
    }

    #[test]
    fn a_protected_client_does_everything_over_the_smallest_pipes() {
        for (there, back, scratch) in [(1, 1, RECORD), (7, 1, 800), (1, 64, RECORD), (64, 7, 4096), (4096, 4096, 9000)]
        {
            let store = store();
            let (near, far) = pipes(there, back);
            let served = server_of(session(), far, &store, scratch);
            let mut client = client::<RECORD>(near);
            everything!(client);
            assert_eq!(served.join().unwrap(), Ok(Close::Gracefully));
            assert_eq!(store.content("kept").unwrap(), content(5000));
            assert_eq!(store.content("gone"), None);
        }
    }

    #[test]
    fn a_buffer_that_can_not_hold_a_record_is_refused_before_it_is_needed() {
        let (near, mut far) = pipes(4096, 4096);
        let mut scratch = [0; RECORD - 1];
        let served = serve(&mut far, &mut session(), &mut store(), &mut scratch, clock);
        assert_eq!(served, Err(DriveError::InvalidState));
        let served = server_of(session(), far, &store(), RECORD);
        let mut client = client::<{ RECORD - 1 }>(near);
        assert!(matches!(client.request(&Command::Hello { version: VERSION }), Ok(ClientEvent::Hello(Some(_)))));
        for command in [Command::Ping, Command::Quit] {
            assert_eq!(client.send(&command), Err(DriveError::InvalidState));
        }
        drop(client);
        assert_eq!(served.join().unwrap(), Ok(Close::Gracefully));
    }

    #[test]
    fn a_server_without_the_secret_gets_no_request() {
        let (near, far) = pipes(64, 64);
        let served = server(far, &store(), 256);
        let mut client = client::<RECORD>(near);
        let hello = client.request(&Command::Hello { version: VERSION });
        assert_eq!(hello, Err(DriveError::Protocol(ProtocolError::NotProtected)));
        assert_eq!(client.request(&Command::Ping), Err(DriveError::InvalidState));
        drop(client);
        assert_eq!(served.join().unwrap(), Ok(Close::Gracefully));
    }
}

#[test]
fn a_lost_connection_keeps_what_came_and_the_next_one_goes_on() {
    for room in [1, 7, 64] {
        let store = store();
        let bytes = content(1000);
        let write = |offset| Command::Request(Request::Write { offset, size: 1000, mtime: None, name: name("f") });
        let (near, far) = pipes(room, room);
        let served = server(far, &store, 256);
        let mut lost = client(near);
        lost.request(&Command::Hello { version: VERSION }).unwrap();
        lost.send(&write(0)).unwrap();
        lost.write(&bytes[..300]).unwrap();
        drop(lost);
        assert_eq!(served.join().unwrap(), Ok(Close::Gracefully));
        assert_eq!(store.staged_len("f"), Some((300, false)));
        assert_eq!(store.content("f"), None);

        let (near, far) = pipes(room, room);
        let served = server(far, &store, 256);
        let mut client = client(near);
        client.request(&Command::Hello { version: VERSION }).unwrap();
        let resume = Request::Resume { size: 1000, name: name("f") };
        let ClientEvent::Resume { offset: 300, crc: Some(crc) } = client.request(&Command::Request(resume)).unwrap()
        else {
            panic!("nothing is staged")
        };
        client.send(&write(300)).unwrap();
        client.session().continue_crc(crc).unwrap();
        client.write(&bytes[300..]).unwrap();
        assert!(matches!(client.finish().unwrap(), ClientEvent::Stored { size: 1000, .. }));
        drop(client);
        assert_eq!(served.join().unwrap(), Ok(Close::Gracefully));
        assert_eq!(store.content("f").unwrap(), bytes);
    }
}

#[test]
fn a_client_that_sends_all_before_it_reads_is_answered_in_order() {
    let wire = [
        message(b"write 0 1 - a"),
        body(b"1", 1),
        message(b""),
        message(b"rename a\nb"),
        message(b"write 0 3 - ../d"),
        body(b"abc", 2),
        message(b"read 0 * b"),
        message(b"remove b"),
        message(b"stat b"),
        message(b"ls"),
        message(b"quit"),
    ]
    .concat();
    for there in [1, 7, 64] {
        // It has to be able to send without reading, so the way back holds all the replies.
        let (mut near, far) = pipes(there, 4096);
        let served = server(far, &store(), 256);
        near.write_all(&wire).unwrap();
        near.flush().unwrap();
        assert_eq!(served.join().unwrap(), Ok(Close::Gracefully));
        let mut out = vec![0; 4096];
        let n = near.read(&mut out).unwrap();
        let replies = messages(&out[..n]);
        assert_eq!(replies[0], "ok 1 90f599e3");
        assert_eq!(replies[1], "ok");
        assert!(replies[2].starts_with("error bad-name "));
        assert!(replies[3].starts_with("ok 1 1 "));
        assert_eq!(replies[4..8], ["1", "", "crc32c 90f599e3", "ok"]);
        assert!(replies[8].starts_with("error not-found "));
        assert_eq!(replies[9..], [""]);
    }
}

#[test]
fn a_refusal_waits_until_the_body_is_through() {
    // Half duplex: nothing is said while the other side talks. On pipes of a byte anything else would stand still.
    let store = store();
    store.set_stage_max(100);
    let (near, far) = pipes(1, 1);
    let served = server(far, &store, 256);
    let mut client = client(near);
    client.request(&Command::Hello { version: VERSION }).unwrap();
    let write = Request::Write { offset: 0, size: 3000, mtime: None, name: name("f") };
    client.send(&Command::Request(write)).unwrap();
    for piece in content(3000).chunks(100) {
        client.write(piece).unwrap();
    }
    let event = client.finish().unwrap();
    assert!(matches!(event, ClientEvent::Refused(error) if error.code == Some(ErrorCode::NoSpace)));
    assert_eq!(client.request(&Command::Ping).unwrap(), ClientEvent::Done);
    drop(client);
    assert_eq!(served.join().unwrap(), Ok(Close::Gracefully));
}

#[test]
fn failures_of_the_store_reach_the_client() {
    let store = store();
    store.put_file("f", &content(2000));
    let (near, far) = pipes(7, 7);
    let served = server(far, &store, 256);
    let mut client = client(near);
    client.request(&Command::Hello { version: VERSION }).unwrap();
    store.set_read_max(1000);
    let read = Command::Request(Request::Read { offset: 0, length: None, name: name("f") });
    assert!(matches!(client.request(&read).unwrap(), ClientEvent::Read { length: 2000, .. }));
    let event = client.reply().unwrap();
    assert!(matches!(event, ClientEvent::BodyEnd(Err(BodyError::Aborted(error))) if error.code == Some(ErrorCode::Io)));
    store.set_pending_commits(5);
    store.fail(Operation::Commit, 0, ErrorCode::NoSpace);
    client.send(&Command::Request(Request::Write { offset: 0, size: 1, mtime: None, name: name("f") })).unwrap();
    client.write(&[7]).unwrap();
    let event = client.finish().unwrap();
    assert!(matches!(event, ClientEvent::Refused(error) if error.code == Some(ErrorCode::NoSpace)));
    assert_eq!(client.request(&Command::Ping).unwrap(), ClientEvent::Done);
    drop(client);
    assert_eq!(served.join().unwrap(), Ok(Close::Gracefully));
    assert_eq!(store.content("f").unwrap(), content(2000));
}

/// What a server sends to a peer that has said `wire` and then goes.
fn heard(wire: &[u8]) -> (Vec<String>, Result<Close, DriveError<Broken>>) {
    let (mut near, far) = pipes(4096, 4096);
    let rx = near.rx.clone();
    near.write_all(wire).unwrap();
    near.tx.state.lock().unwrap().closed = true;
    let closed = server(far, &store(), 256).join().unwrap();
    let out: Vec<u8> = rx.state.lock().unwrap().bytes.drain(..).collect();
    (messages(&out), closed)
}

#[test]
fn a_peer_that_breaks_the_protocol_hears_why_and_is_closed() {
    let (replies, closed) = heard(b"GET / HTTP/1.1\r\n\r\n");
    assert!(replies[0].starts_with("error bad-length "));
    assert_eq!((replies.len(), closed), (1, Ok(Close::Gracefully)));
    let (replies, closed) = heard(&[message(b"ping"), b"0000070000".to_vec(), vec![b'x'; 1000]].concat());
    assert_eq!(replies[0], "ok");
    assert!(replies[1].starts_with("error too-long "));
    assert_eq!((replies.len(), closed), (2, Ok(Close::Gracefully)));
    // The end inside a command, and before anything.
    assert_eq!(heard(b"0000000004pi"), (vec![], Ok(Close::Gracefully)));
    assert_eq!(heard(b""), (vec![], Ok(Close::Gracefully)));
}

#[test]
fn a_scratch_that_can_not_hold_a_line_is_refused_at_once() {
    let (near, mut far) = pipes(1, 1);
    let mut scratch = vec![0; list_room(NAME_MAX) - 1];
    let closed = serve(&mut far, &mut session(), &mut store(), &mut scratch, clock);
    assert_eq!(closed, Err(DriveError::InvalidState));
    drop(near);
}

#[test]
fn an_error_of_the_stream_ends_both_sides() {
    let (mut near, far) = pipes(4096, 1);
    let served = server(far, &store(), 256);
    near.write_all(&message(b"space")).unwrap();
    near.flush().unwrap();
    let mut one = [0];
    near.read(&mut one).unwrap();
    drop(near);
    assert_eq!(served.join().unwrap(), Err(DriveError::Stream(Broken(ErrorKind::BrokenPipe))));

    let (near, far) = pipes(1, 1);
    drop(far);
    let mut client = client(near);
    assert_eq!(client.request(&Command::Ping), Err(DriveError::Stream(Broken(ErrorKind::BrokenPipe))));
}

/// A client that has the whole of the server's side before it, and what comes of `request`.
fn told(wire: &[u8], request: &Command<'_>) -> Result<Vec<u8>, DriveError<Broken>> {
    let (near, mut far) = pipes(4096, 1 << 20);
    far.write_all(wire).unwrap();
    far.tx.state.lock().unwrap().closed = true;
    let mut client = client(near);
    client.request(request)?;
    let mut all = Vec::new();
    let mut piece = [0; 100];
    loop {
        match client.read(&mut piece)? {
            0 => break,
            n => all.extend_from_slice(&piece[..n]),
        }
    }
    match client.reply()? {
        ClientEvent::BodyEnd(Ok(_)) => Ok(all),
        event => panic!("{event:?}"),
    }
}

#[test]
fn a_hostile_server_is_given_up() {
    let list = Command::Request(Request::List { dir: None });
    let read = Command::Request(Request::Read { offset: 0, length: Some(3), name: name("f") });
    let good = [message(b"ok"), message(b"1"), message(b""), message(b"crc32c 90f599e3")].concat();
    assert_eq!(told(&good, &list), Ok(b"1".to_vec()));
    for cut in 0..good.len() {
        assert_eq!(told(&good[..cut], &list), Err(DriveError::Protocol(ProtocolError::UnexpectedEnd)), "{cut}");
    }
    assert_eq!(told(b"HTTP/1.1 400 Bad Request", &list), Err(DriveError::Protocol(ProtocolError::BadLength)));
    assert_eq!(told(&message(b"ok 4 9 -"), &read), Err(DriveError::Protocol(ProtocolError::BadReply)));
    assert_eq!(told(b"0000000000", &list), Err(DriveError::Protocol(ProtocolError::BadReply)));
    let endless = [&message(b"ok")[..], b"00000000000000000600"].concat();
    assert_eq!(told(&endless, &list), Err(DriveError::Protocol(ProtocolError::TooLong { length: 600 })));
}

#[test]
fn a_classic_server_is_asked_nothing_that_it_does_not_know() {
    let (near, mut far) = pipes(4096, 4096);
    far.write_all(&[message(b"-1"), message(b"a\nb")].concat()).unwrap();
    let mut client = client(near);
    assert_eq!(client.request(&Command::Hello { version: VERSION }).unwrap(), ClientEvent::Hello(None));
    assert_eq!(client.session().peer(), Peer::Classic);
    assert_eq!(client.request(&Command::Ping), Err(DriveError::InvalidState));
    let write = Request::Write { offset: 0, size: 1, mtime: None, name: name("f") };
    assert_eq!(client.send(&Command::Request(write)), Err(DriveError::InvalidState));
    assert_eq!(client.request(&Command::Request(Request::Ls)).unwrap(), ClientEvent::Ls);
    let mut names = [0; 9];
    assert_eq!(client.read(&mut names), Ok(3));
    assert_eq!(client.read(&mut names), Ok(0));
    assert_eq!(client.reply().unwrap(), ClientEvent::LsEnd);
    assert_eq!(client.reply(), Err(DriveError::InvalidState));
    assert_eq!(client.read(&mut names), Err(DriveError::InvalidState));
}

/// A stream that says `TimedOut` instead of waiting, one second later each time.
struct Impatient<'a> {
    now: &'a Cell<u64>,
    input: VecDeque<u8>,
    output: Vec<u8>,
    room: usize,
}

impl ErrorType for Impatient<'_> {
    type Error = Broken;
}

impl Read for Impatient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        let n = self.input.len().min(buffer.len());
        if n == 0 {
            self.now.set(self.now.get() + 1000);
            return Err(Broken(ErrorKind::TimedOut));
        }
        for (byte, from) in buffer.iter_mut().zip(self.input.drain(..n)) {
            *byte = from;
        }
        Ok(n)
    }
}

impl Write for Impatient<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let n = bytes.len().min(self.room - self.output.len());
        if n == 0 {
            self.now.set(self.now.get() + 1000);
            return Err(Broken(ErrorKind::Interrupted));
        }
        self.output.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> Result<(), Broken> {
        Ok(())
    }
}

#[test]
fn a_stream_with_time_outs_of_its_own_leaves_the_decision_to_the_session() {
    let store = &mut store();
    for (input, room, seconds, close, said) in [
        (message(b"ping"), 99, 60, Close::Gracefully, "ok"),
        (message(b"write 0 4 - f"), 99, 30, Close::Gracefully, "error timeout no progress for too long"),
        // Nobody takes the replies; a second command waits behind them.
        ([message(b"ping"), message(b"ping")].concat(), 5, 60, Close::Reset, ""),
        ([message(b"ping"), message(b"quit")].concat(), 5, 60, Close::Reset, ""),
    ] {
        let now = Cell::new(1000);
        let mut stream = Impatient { now: &now, input: input.into(), output: Vec::new(), room };
        let clock = || Instant::from_millis(now.get());
        assert_eq!(serve(&mut stream, &mut session(), store, &mut [0; 200], clock), Ok(close));
        assert_eq!(now.get(), 1000 + seconds * 1000);
        if !said.is_empty() {
            assert_eq!(messages(&stream.output), [said]);
        }
    }
    let now = Cell::new(1000);
    let stream = Impatient { now: &now, input: VecDeque::new(), output: Vec::new(), room: 99 };
    let clock = || Instant::from_millis(now.get());
    let mut client: Client<_, _, 300> = Client::new(stream, Duration::from_secs(10), clock);
    assert_eq!(client.request(&Command::Ping), Err(DriveError::Timeout));
    assert_eq!(now.get(), 11_000);
}
