//! The client's session, byte by byte: the output for each command, the meaning of each reply, replies that do not fit,
//! and calls out of order.

#![expect(clippy::unwrap_used, reason = "also the helpers of tests are tests")]

use core::time::Duration;

use skiff_proto::client::{ClientEvent, ClientSession, Peer};
use skiff_proto::command::{Command, Request, VERSION, command_len, command_message_len};
use skiff_proto::{ErrorCode, Instant, InvalidState, Name, ProtocolError, SendError};

const BUF: usize = 120;
const IDLE: Duration = Duration::from_secs(60);
/// `123456789` and its CRC-32C.
const TEXT: &[u8] = b"123456789";
const CHECK: &str = "crc32c e3069283";

type Session = ClientSession<BUF, 3>;

fn name(text: &str) -> Name<'_> {
    Name::parse(text.as_bytes(), 255).unwrap()
}

fn stat() -> Request<'static> {
    Request::Stat { name: name("a") }
}

fn message(payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    [format!("{:010}", payload.len()).as_bytes(), payload].concat()
}

fn body(pieces: &[&[u8]], trailer: &str) -> Vec<u8> {
    let data = pieces.iter().flat_map(message);
    data.chain(message("")).chain(message(trailer)).collect()
}

/// A session that has not asked what the server is; the clock stands at one millisecond.
fn unknown() -> Session {
    let mut session = Session::new(IDLE);
    assert!(!session.handle_timeout(Instant::from_millis(1)));
    session
}

/// A session whose server knows all commands.
fn extended() -> Session {
    greeted("skiff/1 server=x commands=ping name-max=255", Peer::Extended)
}

/// A session whose server knows get, put, ls and quit.
fn classic() -> Session {
    greeted("-1", Peer::Classic)
}

fn greeted(reply: &str, peer: Peer) -> Session {
    let mut session = unknown();
    assert_eq!(session.peer(), Peer::Unknown);
    session.request(&Command::Hello { version: VERSION }).unwrap();
    assert_eq!(sent(&mut session), "0000000012get /skiff/1");
    feed(&mut session, &message(reply));
    assert!(matches!(session.poll_event(), Ok(Some(ClientEvent::Hello(_)))));
    assert_eq!((session.peer(), session.owed()), (peer, 0));
    session
}

/// Everything that the session sends by itself now.
fn sent(session: &mut Session) -> String {
    let mut sent = Vec::new();
    let mut out = [0; 7];
    loop {
        let n = session.poll_transmit(&mut out);
        if n == 0 {
            return sent.escape_ascii().to_string();
        }
        sent.extend_from_slice(&out[..n]);
    }
}

/// Sends a request, which goes out at once.
fn ask(session: &mut Session, request: Request<'_>) -> String {
    session.request(&Command::Request(request)).unwrap();
    sent(session)
}

/// Hands `bytes` over: the payload among them. All of them are taken.
fn feed(session: &mut Session, bytes: &[u8]) -> Vec<u8> {
    let (taken, payload) = receive(session, bytes).unwrap();
    assert_eq!(taken, bytes.len(), "\"{}\"", bytes.escape_ascii());
    payload
}

fn receive(session: &mut Session, bytes: &[u8]) -> Result<(usize, Vec<u8>), ProtocolError> {
    let mut input = bytes.to_vec();
    let (mut at, mut payload) = (0, Vec::new());
    loop {
        let received = session.receive(&mut input[at..])?;
        assert_eq!(
            &bytes[at + received.at..][..received.payload.len()],
            received.payload,
            "payload lies where it says"
        );
        payload.extend_from_slice(received.payload);
        if received.taken == 0 {
            return Ok((at, payload));
        }
        at += received.taken;
    }
}

/// The event that has come, as text.
fn event(session: &mut Session) -> String {
    match session.poll_event() {
        Ok(Some(event)) => format!("{event:?}"),
        Ok(None) => "-".into(),
        Err(error) => format!("{error:?}"),
    }
}

/// What the server says to `request`, and then the event.
fn answer(request: Request<'_>, reply: &str) -> String {
    let mut session = extended();
    ask(&mut session, request);
    assert_eq!((event(&mut session), session.owed()), ("-".into(), 1));
    feed(&mut session, &message(reply));
    event(&mut session)
}

#[test]
fn the_room_for_a_command_is_that_of_the_longest_one() {
    assert_eq!((command_len(8), command_len(255)), (88, 582));
    assert_eq!((command_message_len(8), command_message_len(255)), (98, 592));
}

#[test]
fn each_command_is_a_message_and_each_reply_an_event() {
    let (read, sum) = (
        |offset, length| Request::Read { offset, length, name: name("a") },
        |offset, length| Request::Sum { offset, length, name: name("a") },
    );
    let write = Request::Write { offset: 0, size: 0, mtime: Some(7), name: name("a") };
    for (request, command, reply, event) in [
        (Request::Get { name: name("a") }, "get a", "65535", "Port(65535)"),
        (Request::Get { name: name("a") }, "get a", " 1 ", "Port(1)"),
        (Request::Put { name: name("a") }, "put a", "-1", "ClassicRefused"),
        (stat(), "stat a", "ok 5 6 00000007", "Stat(Stat { size: 5, mtime: Some(6), crc: Some(7) })"),
        (stat(), "stat a", "ok 5 - - new", "Stat(Stat { size: 5, mtime: None, crc: None })"),
        (Request::Resume { size: 5, name: name("a") }, "resume 5 a", "ok 5 -", "Resume { offset: 5, crc: None }"),
        (sum(1, None), "sum 1 * a", "ok 5 00000001", "Sum { length: 5, crc: Some(1) }"),
        (Request::Space, "space", "ok 9 5", "Space(Space { total: 9, free: 5 })"),
        (Request::Remove { name: name("a") }, "remove a", "ok", "Done"),
        (Request::Rename { from: name("a"), to: name("b") }, "rename a\\nb", "ok", "Done"),
        (Request::Mkdir { name: name("a") }, "mkdir a", "ok", "Done"),
        (Request::Rmdir { name: name("a") }, "rmdir a", "ok later", "Done"),
        (read(2, None), "read 2 * a", "ok 3 5 x", "Read { length: 3, size: 5, tag: x }"),
        (read(2, Some(3)), "read 2 3 a", "ok 3 9 -", "Read { length: 3, size: 9, tag: - }"),
        (Request::List { dir: None }, "list", "ok", "List { omitted: 0 }"),
        (Request::List { dir: Some(name("a")) }, "list a", "ok 3", "List { omitted: 3 }"),
        (Request::List { dir: None }, "list", "ok x", "List { omitted: 0 }"),
        (write, "write 0 0 7 a", "error io no", "Refused(RemoteError { code: Some(Io), word: \"io\", text: \"no\" })"),
        (write, "write 0 0 7 a", "ok 0 -", "Stored { size: 0, crc: None }"),
    ] {
        let mut session = extended();
        assert_eq!(ask(&mut session, request), message(command.replace("\\n", "\n")).escape_ascii().to_string());
        assert_eq!(answer(request, reply), event, "{command}: {reply}");
    }
}

#[test]
fn a_reply_that_does_not_fit_ends_the_connection() {
    let read = Request::Read { offset: 2, length: Some(3), name: name("a") };
    for (request, replies) in [
        (Request::Remove { name: name("a") }, &["okay", "no", "OK", "error"][..]),
        (stat(), &["ok", "ok 1", "ok 1 -", "ok x - -", "ok 1 x -", "ok 1 - 1", "ok  1 - -", "-1"]),
        (Request::Resume { size: 5, name: name("a") }, &["ok", "ok 1", "ok 6 -", "ok 1 x"]),
        (Request::Sum { offset: 0, length: None, name: name("a") }, &["ok 1", "ok x -", "ok"]),
        (Request::Space, &["ok 1", "ok", "ok 1 x"]),
        (read, &["ok 3 5", "ok 3 4 x", "ok 4 9 x", "ok 3 5 X", "ok 1 1 x", "ok 18446744073709551615 9 x"]),
        (Request::Get { name: name("a") }, &["0", "65536", "x", "1 2", "", "ok", "-2"]),
    ] {
        for reply in replies.iter().filter(|reply| !reply.is_empty()) {
            let mut session = extended();
            ask(&mut session, request);
            feed(&mut session, &message(reply));
            assert_eq!(event(&mut session), "BadReply", "{request:?}: {reply}");
        }
    }
    for reply in ["ok", "skiff/1", "skiff/2 server=x commands=ping name-max=255"] {
        let mut session = unknown();
        session.request(&Command::Hello { version: VERSION }).unwrap();
        sent(&mut session);
        feed(&mut session, &message(reply));
        assert_eq!(event(&mut session), "BadReply", "{reply}");
        assert!(!session.can_request());
        assert_eq!(receive(&mut session, b"0"), Err(ProtocolError::BadReply), "and it stays so");
        assert_eq!(session.handle_eof(), Err(ProtocolError::BadReply));
    }
}

#[test]
fn a_reply_to_nothing_or_of_a_wrong_length_ends_the_connection() {
    let mut session = extended();
    assert_eq!(receive(&mut session, b"0000000002"), Err(ProtocolError::UnexpectedReply));
    for (wire, error) in [
        ("0000000000", ProtocolError::BadReply),
        ("0000065537", ProtocolError::BadReply),
        ("00000000x1", ProtocolError::BadLength),
    ] {
        let mut session = extended();
        ask(&mut session, stat());
        assert_eq!(receive(&mut session, wire.as_bytes()), Err(error), "{wire}");
    }
    // The longest one loses its end.
    let mut session = extended();
    ask(&mut session, Request::Remove { name: name("a") });
    feed(&mut session, &message(format!("ok {}", "x".repeat(65_533))));
    assert_eq!((event(&mut session).as_str(), session.owed()), ("Done", 0));
}

#[test]
fn requests_go_out_ahead_and_replies_come_in_order_at_every_split() {
    let wire = [message("ok 1 - -"), message("ok 5 9"), message("error not-found no")].concat();
    for split in 0..wire.len() {
        let mut session = extended();
        for request in [stat(), Request::Space, stat()] {
            ask(&mut session, request);
        }
        assert_eq!((session.owed(), session.can_request()), (3, false), "there is no room to remember a fourth");
        assert_eq!(session.request(&Command::Ping), Err(InvalidState));
        let mut events = Vec::new();
        for part in [&wire[..split], &wire[split..]] {
            let mut part = part;
            loop {
                let (taken, _) = receive(&mut session, part).unwrap();
                part = &part[taken..];
                match event(&mut session) {
                    none if none == "-" => break,
                    event => events.push(event),
                }
            }
            assert!(part.is_empty());
        }
        assert_eq!(events.len(), 3, "{split}");
        assert!(events[0].starts_with("Stat") && events[1].starts_with("Space") && events[2].contains("NotFound"));
    }
}

#[test]
fn a_body_is_judged_by_its_length_and_its_trailer_at_every_split() {
    let whole = "BodyEnd(Ok(Some(3808858755)))";
    for (pieces, trailer, length, expected) in [
        (&[TEXT][..], CHECK, 9, whole),
        (&[&TEXT[..4], &TEXT[4..]], CHECK, 9, whole),
        (&[TEXT], "crc32c -", 9, "BodyEnd(Ok(None))"),
        (&[TEXT], "crc32c e3069284", 9, "BodyEnd(Err(Mismatch))"),
        (&[TEXT], "crc32c e306928", 9, "BodyEnd(Err(Mismatch))"),
        (&[TEXT], "crc", 9, "BodyEnd(Err(Mismatch))"),
        (&[TEXT], CHECK, 10, "BodyEnd(Err(Length { announced: 10, received: 9 }))"),
        // What is too much is counted, and not delivered.
        (&[TEXT, b"0"], CHECK, 9, "BodyEnd(Err(Length { announced: 9, received: 10 }))"),
        (
            &[b"12"],
            "abort io no",
            9,
            "BodyEnd(Err(Aborted(RemoteError { code: Some(Io), word: \"io\", text: \"no\" })))",
        ),
        (&[TEXT], "abort", 9, "BodyEnd(Err(Aborted(RemoteError { code: None, word: \"\", text: \"\" })))"),
        (&[], "crc32c 00000000", 0, "BodyEnd(Ok(Some(0)))"),
    ] {
        let wire = body(pieces, trailer);
        for split in 0..wire.len() {
            let mut session = extended();
            ask(&mut session, Request::Read { offset: 0, length: None, name: name("a") });
            feed(&mut session, &message(format!("ok {length} {length} x")));
            assert!(event(&mut session).starts_with("Read"));
            assert_eq!(session.owed(), 1, "the body is still to come");
            let mut payload = feed(&mut session, &wire[..split]);
            payload.extend(feed(&mut session, &wire[split..]));
            let delivered = pieces.concat();
            assert_eq!(payload, delivered[..delivered.len().min(length)]);
            assert_eq!(session.body_crc().map(|crc| crc.value()), Some(skiff_proto::crc::crc32c(&payload)));
            assert_eq!((event(&mut session).as_str(), session.owed()), (expected, 0), "{trailer}, {split}");
            assert!(session.body_crc().is_none() && session.can_request());
        }
    }
    let mut session = extended();
    ask(&mut session, Request::List { dir: None });
    feed(&mut session, &message("ok"));
    event(&mut session);
    feed(&mut session, &message(""));
    assert_eq!(receive(&mut session, b"0000000513"), Err(ProtocolError::TooLong { length: 513 }));
}

#[test]
fn payload_that_is_moved_past_the_session_is_not_verified() {
    let mut session = extended();
    assert!(session.opaque_in().is_none() && session.payload_in().is_none());
    ask(&mut session, Request::Read { offset: 0, length: None, name: name("a") });
    feed(&mut session, &message("ok 9 9 x"));
    event(&mut session);
    assert!(session.opaque_in().is_none(), "no data message has begun");
    session.handle_timeout(Instant::from_millis(30_001));
    assert_eq!(feed(&mut session, b"00000000041"), b"1");
    assert_eq!(session.payload_in().map(|payload| payload.remaining), Some(3));
    session.handle_timeout(Instant::from_millis(50_001));
    let mut opaque = session.opaque_in().unwrap();
    assert_eq!((opaque.remaining(), opaque.advance(4)), (3, Err(InvalidState)));
    opaque.advance(2).unwrap();
    assert_eq!((opaque.remaining(), opaque.advance(1), opaque.remaining()), (1, Ok(()), 0));
    assert!(session.opaque_in().is_none());
    assert_eq!(session.poll_timeout(), Some(Instant::from_millis(110_001)), "that was progress");
    // Eight bytes are announced, and five have room.
    feed(&mut session, b"0000000008");
    session.opaque_in().unwrap().advance(2).unwrap();
    assert_eq!(session.opaque_in().map(|opaque| opaque.remaining()), Some(3));
    assert_eq!(feed(&mut session, b"789xyz"), b"789");
    feed(&mut session, &[message(""), message(CHECK)].concat());
    assert_eq!(event(&mut session), "BodyEnd(Err(Length { announced: 9, received: 12 }))");

    ask(&mut session, Request::Read { offset: 0, length: None, name: name("a") });
    feed(&mut session, &message("ok 9 9 x"));
    event(&mut session);
    feed(&mut session, b"0000000009");
    session.opaque_in().unwrap().advance(9).unwrap();
    feed(&mut session, &[message(""), message("crc32c 00000000")].concat());
    assert_eq!(event(&mut session), "BodyEnd(Ok(None))");
}

#[test]
fn the_names_of_ls_are_counted_in_characters() {
    for (names, characters) in [("a", 1), ("ab\nc", 4), ("ä", 1), ("ä€𝄞b", 4), ("\u{ff}\u{7ff}\u{800}\u{fffd}", 4)]
    {
        let mut wire = format!("{characters:010}{names}").into_bytes();
        let len = wire.len();
        wire.extend(message("ok"));
        for split in 0..len {
            let mut session = extended();
            assert_eq!(ask(&mut session, Request::Ls), "0000000002ls");
            ask(&mut session, Request::Remove { name: name("a") });
            let (mut taken, mut payload, mut events) = (0, Vec::new(), Vec::new());
            for end in [split, wire.len()] {
                loop {
                    let (n, more) = receive(&mut session, &wire[taken..end]).unwrap();
                    taken += n;
                    payload.extend(more);
                    match event(&mut session) {
                        none if none == "-" => break,
                        event => events.push(event),
                    }
                    if events.len() == 1 {
                        assert!(session.payload_in().is_some_and(|left| left.remaining > 0), "names are to come");
                    }
                }
            }
            assert_eq!((taken, payload.as_slice()), (wire.len(), names.as_bytes()), "{names}, {split}");
            assert_eq!(events, ["Ls", "LsEnd", "Done"], "{names}, {split}");
        }
    }
    let mut session = extended();
    ask(&mut session, Request::Ls);
    feed(&mut session, &message(""));
    assert_eq!(
        [event(&mut session), event(&mut session), event(&mut session)],
        ["Ls".to_owned(), "LsEnd".into(), "-".into()]
    );
    assert_eq!((session.owed(), session.can_request()), (0, true));
}

#[test]
fn a_classic_server_is_asked_for_nothing_that_it_does_not_know() {
    let mut session = classic();
    for request in [stat(), Request::Space, Request::Write { offset: 0, size: 1, mtime: None, name: name("a") }] {
        assert_eq!(session.request(&Command::Request(request)), Err(InvalidState), "{request:?}");
    }
    assert_eq!(session.request(&Command::Ping), Err(InvalidState));
    assert_eq!(ask(&mut session, Request::Get { name: name("a") }), "0000000005get a");
    feed(&mut session, &message("-1"));
    assert_eq!(event(&mut session), "ClassicRefused");
    // What was sent behind the question is ignored by it.
    let mut session = unknown();
    session.request(&Command::Hello { version: VERSION }).unwrap();
    sent(&mut session);
    ask(&mut session, stat());
    ask(&mut session, Request::Get { name: name("a") });
    let wire = [message("-1"), message("4711")].concat();
    assert_eq!(receive(&mut session, &wire).unwrap().0, 12);
    assert_eq!(event(&mut session), "Hello(None)");
    assert_eq!(receive(&mut session, &wire[12..]).unwrap().0, 0, "not before what is ignored is said");
    assert_eq!(event(&mut session), "Ignored");
    feed(&mut session, &wire[12..]);
    assert_eq!((event(&mut session).as_str(), session.owed()), ("Port(4711)", 0));
    // Nothing is known yet: a body could not be taken back.
    let write = Request::Write { offset: 0, size: 1, mtime: None, name: name("a") };
    assert_eq!(unknown().request(&Command::Request(write)), Err(InvalidState));
}

#[test]
fn the_body_of_a_write_goes_out_in_data_messages() {
    let mut session = extended();
    let write = Request::Write { offset: 4, size: 9, mtime: None, name: name("a") };
    session.request(&Command::Request(write)).unwrap();
    assert!(session.is_sending() && session.has_output() && !session.is_in_data() && !session.can_request());
    assert_eq!(session.left(), Some(5));
    assert_eq!(put(&mut session, b"5", 3), Err(SendError::InvalidState), "the command goes first");
    assert_eq!(sent(&mut session), "0000000013write 4 9 - a");
    session.continue_crc(skiff_proto::crc::crc32c(b"1234")).unwrap();
    assert_eq!(put(&mut session, b"5", 3).unwrap(), "00000000035");
    assert!(session.is_in_data());
    assert_eq!((session.left(), session.finish()), (Some(4), Err(InvalidState)));
    assert_eq!(session.keep_alive(), Err(InvalidState), "a body is being sent");
    let mut opaque = session.opaque().unwrap();
    assert_eq!((opaque.remaining(), opaque.wants_sum(), opaque.advance(3)), (2, true, Err(InvalidState)));
    opaque.sum(b"67");
    opaque.advance(2).unwrap();
    assert!(session.opaque().is_none() && !session.is_in_data());
    assert_eq!(session.finish(), Err(InvalidState), "two bytes have not been announced");
    assert_eq!(put(&mut session, b"89", 100).unwrap(), "000000000289");
    assert_eq!((session.left(), session.crc()), (Some(0), Some(0xe306_9283)));
    assert_eq!(put(&mut session, b"0", 1), Err(SendError::InvalidState), "all has been sent");
    session.finish().unwrap();
    assert!(!session.is_sending() && session.finish().is_err());
    assert_eq!(sent(&mut session), format!("0000000000{}", message(CHECK).escape_ascii()));
    feed(&mut session, &message("ok 9 e3069283"));
    assert_eq!(event(&mut session), "Stored { size: 9, crc: Some(3808858755) }");
}

/// Sends `payload` of a body, in messages of up to `most` bytes, through a room that just holds it.
fn put(session: &mut Session, payload: &[u8], most: u32) -> Result<String, SendError<()>> {
    let mut room = vec![0; payload.len() + if session.is_in_data() { 0 } else { 10 }];
    session.set_data_max(most);
    let n = session.send(&mut room, |room| {
        room.copy_from_slice(&payload[..room.len()]);
        Ok(room.len())
    })?;
    Ok(room[..n].escape_ascii().to_string())
}

#[test]
fn a_body_that_is_given_up_is_filled_with_zeros_and_aborted() {
    let write = Request::Write { offset: 0, size: 9, mtime: None, name: name("a") };
    let abort = format!("0000000000{}", message("abort io the storage failed").escape_ascii());
    for (when, zeros) in [("at once", 0), ("in a message", 8)] {
        let mut session = extended();
        ask(&mut session, write);
        if zeros > 0 {
            assert_eq!(put(&mut session, b"1", 9).unwrap(), "00000000091");
        }
        session.abort(ErrorCode::Io).unwrap();
        assert_eq!((session.is_sending(), session.abort(ErrorCode::Io)), (false, Err(InvalidState)));
        assert_eq!(sent(&mut session), format!("{}{abort}", "\\x00".repeat(zeros)), "{when}");
        assert!(session.can_request() && session.owed() == 1);
    }
}

#[test]
fn a_checksum_may_be_supplied_for_a_body_and_for_nothing_else() {
    let mut session = extended();
    assert_eq!((session.supply_crc(Some(1)), session.continue_crc(1)), (Err(InvalidState), Err(InvalidState)));
    assert_eq!((session.crc(), session.left(), session.is_in_data()), (None, None, false));
    assert!(session.opaque().is_none());
    for (crc, trailer) in [(Some(1), "crc32c 00000001"), (None, "crc32c -")] {
        ask(&mut session, Request::Write { offset: 0, size: 1, mtime: None, name: name("a") });
        session.supply_crc(crc).unwrap();
        assert_eq!((put(&mut session, b"1", 9).unwrap().as_str(), session.crc()), ("00000000011", None));
        session.finish().unwrap();
        assert_eq!(sent(&mut session), format!("0000000000{}", message(trailer).escape_ascii()));
    }
}

#[test]
fn a_keep_alive_is_an_empty_message_and_has_no_reply() {
    let mut session = extended();
    session.keep_alive().unwrap();
    assert_eq!((session.keep_alive(), session.request(&Command::Ping)), (Err(InvalidState), Err(InvalidState)));
    assert_eq!((sent(&mut session).as_str(), session.owed()), ("0000000000", 0));
    session.request(&Command::Quit).unwrap();
    assert_eq!((sent(&mut session).as_str(), session.owed(), session.can_request()), ("0000000004quit", 0, false));
    assert_eq!(session.handle_eof(), Ok(()));
}

#[test]
fn the_end_of_the_stream_is_expected_when_nothing_is_owed() {
    type Case = (&'static str, fn(&mut Session), bool);
    let cases: [Case; 10] = [
        ("nothing is owed", |_| {}, true),
        ("a reply is owed", |session| _ = ask(session, stat()), false),
        (
            "a reply has come",
            |session| {
                ask(session, stat());
                feed(session, &message("ok 1 - -"));
            },
            true,
        ),
        (
            "one of two has come",
            |session| {
                ask(session, stat());
                ask(session, stat());
                feed(session, &message("ok 1 - -"));
            },
            false,
        ),
        ("part of a length", |session| _ = feed(session, b"000"), false),
        (
            "part of a reply",
            |session| {
                ask(session, stat());
                feed(session, b"0000000008ok");
            },
            false,
        ),
        (
            "inside a body",
            |session| {
                ask(session, Request::List { dir: None });
                feed(session, &message("ok"));
                event(session);
            },
            false,
        ),
        (
            "a body has come",
            |session| {
                ask(session, Request::List { dir: None });
                feed(session, &message("ok"));
                event(session);
                feed(session, &body(&[], "crc32c 00000000"));
            },
            true,
        ),
        (
            "inside the names of ls",
            |session| {
                ask(session, Request::Ls);
                feed(session, b"0000000003");
                event(session);
                feed(session, b"a");
            },
            false,
        ),
        (
            "a body is being sent",
            |session| {
                ask(session, Request::Write { offset: 0, size: 0, mtime: None, name: name("a") });
                feed(session, &message("error io no"));
            },
            false,
        ),
    ];
    for (what, prepare, expected) in cases {
        let mut session = extended();
        prepare(&mut session);
        let end = if expected { Ok(()) } else { Err(ProtocolError::UnexpectedEnd) };
        assert_eq!(session.handle_eof(), end, "{what}");
        assert_eq!(session.handle_eof(), end, "{what}: again");
    }
    let mut session = unknown();
    session.request(&Command::Hello { version: VERSION }).unwrap();
    sent(&mut session);
    ask(&mut session, stat());
    feed(&mut session, &message("-1"));
    event(&mut session);
    assert_eq!(session.handle_eof(), Ok(()), "a classic server never answers that");
}

#[test]
fn a_server_that_owes_something_and_makes_no_progress_is_given_up() {
    let at = |seconds: u64| Instant::from_millis(1 + seconds * 1000);
    let mut session = extended();
    assert_eq!((session.poll_timeout(), session.handle_timeout(at(1000))), (None, false), "nothing is owed");
    session.request(&Command::Request(stat())).unwrap();
    assert_eq!(session.poll_timeout(), Some(at(1060)), "from the request on");
    session.handle_timeout(at(1030));
    sent(&mut session);
    assert_eq!((session.poll_timeout(), session.handle_timeout(at(1089))), (Some(at(1090)), false));
    feed(&mut session, b"0");
    assert_eq!((session.handle_timeout(at(1148)), session.handle_timeout(at(1149))), (false, true));
    // The body of a write is owed by the client itself: to the server's reading.
    let mut session = extended();
    ask(&mut session, Request::Write { offset: 0, size: 9, mtime: None, name: name("a") });
    feed(&mut session, &message("error io no"));
    event(&mut session);
    assert_eq!((session.owed(), session.poll_timeout()), (0, Some(at(60))));
    session.handle_timeout(at(20));
    put(&mut session, b"1", 9).unwrap();
    assert_eq!(session.poll_timeout(), Some(at(80)));
    session.abort(ErrorCode::Io).unwrap();
    assert_eq!(session.poll_timeout(), Some(at(80)), "zeros are to go out");
    sent(&mut session);
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn as_many_bytes_are_wanted_as_can_be_used() {
    let mut session = extended();
    assert_eq!(session.want_read(), 10);
    ask(&mut session, Request::Read { offset: 0, length: None, name: name("a") });
    feed(&mut session, b"0000");
    assert_eq!(session.want_read(), 6);
    feed(&mut session, b"000008");
    assert_eq!(session.want_read(), 8);
    feed(&mut session, b"ok 9 9 x");
    assert_eq!(session.want_read(), 0, "an event is to be taken");
    event(&mut session);
    assert_eq!(session.want_read(), 10);
    feed(&mut session, b"00000000041");
    assert_eq!(session.want_read(), 3);
}
