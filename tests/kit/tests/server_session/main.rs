//! The server's session, byte by byte: one test for each rule of `docs/PROTOCOL.md` that concerns it.
//!
//! | module | section |
//! |---|---|
//! | `messages` | 1: lengths, long commands, end of stream, pipelining |
//! | `classic` | 3, 4: `get`, `put`, `ls`, `quit`, the hello |
//! | `extended` | 5, 6: commands, replies, errors |
//! | `writes` | 7: `write`, its body, its trailer |
//! | `reads` | 7: the bodies of `read` and `list` |
//! | `batches` | 7: deferred answers |
//! | `clocks` | 5: timeouts |
//! | `misuse` | calls out of order change nothing |
//! | `vectors` | every wire vector |
//! | `sizes` | memory of a session |
#![expect(clippy::unwrap_used, reason = "also the helpers of tests are tests")]

mod batches;
mod classic;
mod clocks;
mod extended;
mod messages;
mod misuse;
mod reads;
mod sizes;
mod vectors;
mod writes;

use core::convert::Infallible;

use skiff_kit::memory::{Layout, MemoryStore};
use skiff_kit::sans_io::{Connection, Pace, message};
use skiff_proto::command::{Request, command_len};
use skiff_proto::message::HEADER_LEN;
use skiff_proto::server::{Answer, Limits, ServerEvent, ServerSession};
use skiff_proto::{ErrorCode, Instant, NameError, ProtocolError, Refusal, SendError};

/// Names of 8 bytes, so commands of 88.
const NAME_MAX: u16 = 8;
const BUF: usize = command_len(NAME_MAX as usize);

/// CRC-32C of `123456789`.
const CHECK: u32 = 0xe306_9283;

type Session = ServerSession<BUF>;

fn limits() -> Limits {
    Limits { server: "skiff/0", ..Limits::new(NAME_MAX) }
}

/// A session whose clock stands at one millisecond.
fn session() -> Session {
    session_with(limits())
}

fn session_with(limits: Limits) -> Session {
    let mut session = Session::new(limits);
    session.handle_timeout(Instant::from_millis(1));
    session
}

/// Hands `bytes` over and expects all of them to be taken.
#[track_caller]
fn feed(session: &mut Session, bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    assert_eq!(take(session, bytes), Ok(bytes.len()), "\"{}\"", bytes.escape_ascii());
}

/// Hands over `bytes`, in which no payload is expected; how many were taken.
#[track_caller]
fn take(session: &mut Session, bytes: &[u8]) -> Result<usize, ProtocolError> {
    let (taken, payload) = receive(session, bytes)?;
    assert!(payload.is_empty(), "payload: \"{}\"", payload.escape_ascii());
    Ok(taken)
}

/// Hands over `bytes`: how many were taken, and the payload among them.
fn receive(session: &mut Session, bytes: &[u8]) -> Result<(usize, Vec<u8>), ProtocolError> {
    let mut input = bytes.to_vec();
    let received = session.receive(&mut input)?;
    let (taken, payload, at) = (received.taken, received.payload.to_vec(), received.at);
    assert_eq!(&bytes[at..at + payload.len()], payload, "payload lies where it says");
    assert!(at + payload.len() <= taken);
    Ok((taken, payload))
}

/// Sends `payload` of a body in one call, through a room that just holds it; what went out, as text.
fn put(session: &mut Session, payload: &[u8]) -> Result<String, SendError<Infallible>> {
    let mut room = vec![0; payload.len() + if session.is_in_data() { 0 } else { HEADER_LEN }];
    let n = session.send(&mut room, |room| {
        room[..payload.len()].copy_from_slice(payload);
        Ok(payload.len())
    })?;
    Ok(room[..n].escape_ascii().to_string())
}

/// Everything that the session sends now, payload excepted.
fn sent(session: &mut Session) -> String {
    let mut sent = Vec::new();
    let mut out = [0; 100];
    loop {
        let n = session.poll_transmit(&mut out);
        if n == 0 {
            return sent.escape_ascii().to_string();
        }
        sent.extend(&out[..n]);
    }
}

/// The reply `error CODE TEXT` with the code's own text.
fn error(code: ErrorCode) -> String {
    refused(code)
}

/// The reply to what is refused, with its text: a code, or what is wrong with a name.
fn refused(why: impl Into<Refusal>) -> String {
    let why = why.into();
    reply(format!("error {} {}", why.code, why.text))
}

/// A reply as [`sent`] shows it.
fn reply(payload: impl AsRef<[u8]>) -> String {
    message(payload).escape_ascii().to_string()
}

/// Takes the request that waits.
#[track_caller]
fn take_request(session: &mut Session) {
    let event = session.poll_event();
    assert!(matches!(event, Some(ServerEvent::Request(_))), "{event:?}");
}

/// Sends the `write` in `command` and accepts it.
#[track_caller]
fn start_write(session: &mut Session, command: &str) {
    feed(session, message(command));
    let event = session.poll_event();
    assert!(matches!(event, Some(ServerEvent::Request(Request::Write { .. }))), "{event:?}");
    session.answer(Answer::Write { crc: 0 }).unwrap();
}

/// Hands over what can be, with payload into `delivered`. Returns what is left.
fn pour<'a>(session: &mut Session, bytes: &'a [u8], delivered: &mut Vec<u8>) -> &'a [u8] {
    let mut rest = bytes;
    loop {
        match receive(session, rest) {
            Err(_) => return &[],
            Ok((0, _)) => return rest,
            Ok((taken, payload)) => {
                delivered.extend(payload);
                rest = &rest[taken..];
            }
        }
    }
}

/// A whole server with an empty store, and the store.
fn server() -> (Connection<BUF>, MemoryStore) {
    server_with(limits(), Pace::default())
}

fn server_with(limits: Limits, pace: Pace) -> (Connection<BUF>, MemoryStore) {
    let store = MemoryStore::new(Layout::Tree);
    (Connection::new(limits, store.clone(), pace), store)
}

/// What a client gets from a whole server, as text.
fn received(connection: &mut Connection<BUF>) -> String {
    connection.take_output().escape_ascii().to_string()
}
