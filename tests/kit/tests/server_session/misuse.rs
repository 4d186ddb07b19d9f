//! Calls out of order are bugs of the driver: they return `InvalidState` and change nothing.

use skiff_kit::sans_io::{body, message};
use skiff_proto::reply::Tag;
use skiff_proto::server::{Answer, Limits, ServerEvent};
use skiff_proto::store::{Space, Stat};
use skiff_proto::{ErrorCode, Instant, InvalidState};

use super::*;

/// A state, how to get there, and the calls that are allowed in it.
type Case = (&'static str, fn(&mut Session), &'static [&'static str]);

/// A call, in words and in code.
type Call = (&'static str, fn(&mut Session) -> Result<(), InvalidState>);

const READ: Answer = Answer::Read { length: 9, size: 9, tag: Tag::UNKNOWN };

/// Every call that can be out of order, with arguments that fit some state.
const CALLS: &[Call] = &[
    ("answer done", |session| session.answer(Answer::Done)),
    ("answer port", |session| session.answer(Answer::Port(1))),
    ("answer stat", |session| session.answer(Answer::Stat(Stat { size: 0, mtime: None, crc: None }))),
    ("answer resume", |session| session.answer(Answer::Resume { offset: 0, crc: 0 })),
    ("answer sum", |session| session.answer(Answer::Sum { length: 0, crc: 0 })),
    ("answer space", |session| session.answer(Answer::Space(Space { total: 0, free: 0 }))),
    ("answer read", |session| session.answer(READ)),
    ("answer list", |session| session.answer(Answer::List { omitted: 0 })),
    ("answer ls", |session| session.answer(Answer::Ls { length: 3 })),
    ("answer empty ls", |session| session.answer(Answer::Ls { length: 0 })),
    ("answer write", |session| session.answer(Answer::Write { crc: 0 })),
    ("answer stored", |session| session.answer(Answer::Stored { size: 0, crc: None })),
    ("refuse", |session| session.refuse(ErrorCode::Io.into())),
    ("defer", Session::defer),
    ("put back", Session::put_back),
    ("answer deferred", |session| session.answer_deferred(Ok(Answer::Done)).map(|_| ())),
    ("refuse deferred", |session| session.answer_deferred(Err(ErrorCode::Io.into())).map(|_| ())),
    ("answer deferred with a port", |session| session.answer_deferred(Ok(Answer::Port(1))).map(|_| ())),
    ("send", |session| put(session, b"1").map(drop).map_err(|_| InvalidState)),
    ("advance", |session| session.opaque().ok_or(InvalidState)?.advance(1)),
    ("advance too far", |session| session.opaque().ok_or(InvalidState)?.advance(1_000_000)),
    ("finish", Session::finish),
    ("abort", |session| session.abort(ErrorCode::Io)),
    ("supply crc", |session| session.supply_crc(Some(1))),
];

/// Sends `command`, takes the request and gives the answer.
fn answered(session: &mut Session, command: &str, answer: Answer) {
    asked(session, command);
    session.answer(answer).unwrap();
}

fn asked(session: &mut Session, command: &str) {
    feed(session, message(command));
    take_request(session);
}

const STATES: &[Case] = &[
    ("a new connection", |_| {}, &[]),
    ("part of a length", |session| feed(session, b"00000"), &[]),
    ("part of a command", |session| feed(session, b"0000000004pi"), &[]),
    ("part of a command that is too long", |session| feed(session, b"0000000200xx"), &[]),
    ("a reply is queued", |session| feed(session, b"0000000004ping"), &[]),
    ("a request is not taken", |session| feed(session, b"0000000006stat x"), &[]),
    ("a request behind a reply", |session| feed(session, b"0000000004ping0000000006stat x"), &[]),
    ("get", |session| asked(session, "get a"), &["answer port", "refuse", "put back"]),
    ("put", |session| asked(session, "put a"), &["answer port", "refuse", "put back"]),
    ("ls", |session| asked(session, "ls"), &["answer ls", "answer empty ls", "refuse", "put back"]),
    ("list", |session| asked(session, "list"), &["answer list", "refuse", "put back"]),
    ("stat", |session| asked(session, "stat a"), &["answer stat", "refuse", "put back"]),
    ("read", |session| asked(session, "read 0 * a"), &["answer read", "refuse", "put back"]),
    ("a read that is too short", |session| asked(session, "read 0 8 a"), &["refuse", "put back"]),
    ("resume", |session| asked(session, "resume 1 a"), &["answer resume", "refuse", "put back"]),
    ("write", |session| asked(session, "write 0 9 - a"), &["answer write", "refuse", "put back"]),
    ("a write beyond its size", |session| asked(session, "write 9 1 - a"), &["refuse", "put back"]),
    ("sum", |session| asked(session, "sum 0 * a"), &["answer sum", "refuse", "put back"]),
    ("remove", |session| asked(session, "remove a"), &["answer done", "refuse", "defer", "put back"]),
    ("rename", |session| asked(session, "rename a\nb"), &["answer done", "refuse", "defer", "put back"]),
    ("mkdir", |session| asked(session, "mkdir a"), &["answer done", "refuse", "defer", "put back"]),
    ("rmdir", |session| asked(session, "rmdir a"), &["answer done", "refuse", "defer", "put back"]),
    ("space", |session| asked(session, "space"), &["answer space", "refuse", "put back"]),
    ("an answer that is queued", |session| answered(session, "remove a", Answer::Done), &[]),
    (
        "deferred",
        |session| {
            asked(session, "remove a");
            session.defer().unwrap();
        },
        &["answer deferred", "refuse deferred"],
    ),
    (
        "deferred behind a reply",
        |session| {
            asked(session, "remove a");
            session.defer().unwrap();
            asked(session, "remove a");
            session.defer().unwrap();
            session.answer_deferred(Ok(Answer::Done)).unwrap();
        },
        // Not yet: `Ok(false)`.
        &["answer deferred", "refuse deferred"],
    ),
    ("the head of a read is queued", |session| answered(session, "read 0 * a", READ), &["abort", "supply crc"]),
    (
        "a read between messages",
        |session| {
            answered(session, "read 0 * a", READ);
            sent(session);
        },
        &["send", "abort", "supply crc"],
    ),
    (
        "part of a length is queued",
        |session| {
            answered(session, "read 0 * a", READ);
            sent(session);
            let mut room = [0; 4];
            assert_eq!(session.send(&mut room, |_| Ok::<_, ()>(0)), Ok(4));
        },
        &["abort", "supply crc"],
    ),
    (
        "payload of a read",
        |session| {
            answered(session, "read 0 * a", READ);
            sent(session);
            put(session, b"1").unwrap();
        },
        &["send", "advance", "abort", "supply crc"],
    ),
    (
        "the end of a read",
        |session| {
            answered(session, "read 0 * a", READ);
            sent(session);
            put(session, b"123456789").unwrap();
        },
        &["finish", "abort", "supply crc"],
    ),
    (
        "a list between messages",
        |session| {
            answered(session, "list", Answer::List { omitted: 0 });
            sent(session);
        },
        &["send", "finish", "abort", "supply crc"],
    ),
    ("the length of ls is queued", |session| answered(session, "ls", Answer::Ls { length: 3 }), &["abort"]),
    (
        "the names of ls",
        |session| {
            answered(session, "ls", Answer::Ls { length: 3 });
            sent(session);
        },
        &["send", "finish", "abort"],
    ),
    (
        "zeros",
        |session| {
            answered(session, "read 0 * a", READ);
            sent(session);
            put(session, b"1").unwrap();
            session.abort(ErrorCode::Io).unwrap();
        },
        &[],
    ),
    ("the beginning of a body", |session| start_write(session, "write 0 9 - a"), &["refuse"]),
    (
        "payload of a write",
        |session| {
            start_write(session, "write 0 9 - a");
            feed(session, b"0000000004");
        },
        &["refuse"],
    ),
    (
        "payload beyond the size",
        |session| {
            start_write(session, "write 0 0 - a");
            feed(session, b"0000000004");
        },
        &["refuse"],
    ),
    (
        "the trailer of a write",
        |session| {
            start_write(session, "write 0 9 - a");
            feed(session, b"00000000000000000015crc32c ");
        },
        &["refuse"],
    ),
    ("a refused body", |session| feed(session, message("write")), &[]),
    (
        "a commit is not taken",
        |session| {
            start_write(session, "write 0 0 - a");
            feed(session, body(b"", 0));
        },
        &[],
    ),
    (
        "a commit",
        |session| {
            start_write(session, "write 0 0 - a");
            feed(session, body(b"", 0));
            assert!(matches!(session.poll_event(), Some(ServerEvent::Commit { .. })));
        },
        &["answer stored", "refuse", "defer"],
    ),
    (
        "a discard is not taken",
        |session| {
            start_write(session, "write 0 0 - a");
            feed(session, body(b"", 1));
        },
        &[],
    ),
    ("closing", |session| feed(session, b"0000000004ping0000000004quit"), &[]),
    ("closed", |session| feed(session, b"0000000004quit"), &[]),
    ("the end of the stream", Session::handle_eof, &[]),
    ("a protocol error", |session| assert!(take(session, b"x").is_err()), &[]),
    (
        "reset",
        |session| {
            feed(session, b"0000000004ping");
            session.handle_timeout(Instant::from_millis(100_000));
        },
        &[],
    ),
];

#[test]
fn a_call_out_of_order_changes_nothing_in_any_state() {
    for (state, begin, allowed) in STATES {
        for (call, perform) in CALLS {
            let mut session = session();
            begin(&mut session);
            let before = format!("{session:?}");
            let outcome = perform(&mut session);
            assert_eq!(outcome.is_ok(), allowed.contains(call), "{call} in state `{state}`: {outcome:?}");
            if outcome.is_err() {
                assert_eq!(format!("{session:?}"), before, "{call} in state `{state}` changed something");
            }
        }
        for call in *allowed {
            assert!(CALLS.iter().any(|(name, _)| name == call), "{call}");
        }
    }
}

#[test]
fn a_request_that_was_put_back_is_given_again() {
    let mut session = session();
    asked(&mut session, "stat a");
    for _ in 0..2 {
        session.put_back().unwrap();
        take_request(&mut session);
    }
    session.refuse(ErrorCode::NotFound.into()).unwrap();
    assert_eq!(sent(&mut session), error(ErrorCode::NotFound));
}

#[test]
fn questions_change_nothing_in_any_state() {
    for (state, begin, _) in STATES {
        let mut session = session();
        begin(&mut session);
        let before = format!("{session:?}");
        _ = (
            session.payload_in(),
            session.want_read(),
            session.poll_close(),
            session.poll_timeout(),
            session.is_idle(),
        );
        _ = (session.left(), session.opaque().is_some(), session.is_sending(), session.is_receiving());
        _ = (session.has_output(), session.deferred());
        assert_eq!(session.poll_transmit(&mut []), 0, "{state}");
        _ = session.receive(&mut []);
        assert_eq!(format!("{session:?}"), before, "{state}");
    }
}

#[test]
fn what_a_state_wants_is_consistent() {
    for (state, begin, allowed) in STATES {
        let mut session = session();
        begin(&mut session);
        assert_eq!(session.opaque().is_some(), allowed.contains(&"advance"), "{state}");
        assert!(!(session.has_output() && session.is_idle()), "{state}");
        assert!(session.poll_close().is_none() || session.poll_event().is_none(), "{state}");
        assert!(session.payload_in().is_none() || session.is_receiving(), "{state}");
        assert!(!session.is_in_data() || session.is_sending(), "{state}");
        let has_output = session.has_output();
        assert_eq!(session.poll_transmit(&mut [0; 1]), usize::from(has_output), "{state}");
    }
}

#[test]
#[should_panic(expected = "BUF is too small")]
fn a_buffer_that_is_too_small_for_the_names_is_refused() {
    _ = Session::new(Limits::new(9));
}

#[test]
#[should_panic(expected = "name_max is 1 to 255")]
fn a_longest_name_of_zero_bytes_is_refused() {
    _ = Session::new(Limits::new(0));
}
