//! The server's session, byte by byte: one test for each rule of `docs/PROTOCOL.md` that concerns it.
//!
//! | module | section |
//! |---|---|
//! | `messages` | 1: lengths, long commands, end of stream, pipelining |
//! | `classic` | 3, 4: `get`, `put`, `ls`, `quit`, the hello |
//! | `extended` | 5, 6: commands, replies, errors |
//! | `bodies` | 7: bodies in both directions, trailers, `write` |
//! | `batches` | 7: answers that are put off |
//! | `clocks` | 5: timeouts |
//! | `misuse` | calls out of order change nothing |
#![expect(clippy::unwrap_used, reason = "also the helpers of tests are tests")]

mod batches;
mod bodies;
mod classic;
mod clocks;
mod extended;
mod messages;
mod misuse;

use skiff_proto::command::{Request, command_len};
use skiff_proto::server::{Answer, Limits, ServerEvent, ServerSession};
use skiff_proto::{ErrorCode, Instant, NameError, Payload, Refusal};
use skiff_tests::memory::{Layout, MemoryStore};
use skiff_tests::sans_io::{Connection, Pace, message};

/// Names of 8 bytes, so commands of 88.
const NAME_MAX: u16 = 8;
const BUF: usize = command_len(NAME_MAX as usize);

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
    assert_eq!(session.handle_input(bytes), Ok(bytes.len()), "\"{}\"", bytes.escape_ascii());
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

/// Hands over what can be, moving payload out of the way into `delivered`. Returns what is left.
fn pour<'a>(session: &mut Session, bytes: &'a [u8], delivered: &mut Vec<u8>) -> &'a [u8] {
    let mut rest = bytes;
    loop {
        let Ok(taken) = session.handle_input(rest) else {
            return &[];
        };
        rest = &rest[taken..];
        let moved = match session.payload() {
            Some(payload @ Payload::Receive { .. }) => payload.clamp(rest.len()),
            _ => 0,
        };
        let mut payload = rest[..moved].to_vec();
        session.filter(&mut payload);
        delivered.extend(&payload);
        if moved > 0 {
            session.advance(moved as u64).unwrap();
        }
        rest = &rest[moved..];
        if taken + moved == 0 {
            return rest;
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
