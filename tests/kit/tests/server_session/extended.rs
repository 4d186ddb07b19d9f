//! PROTOCOL §5 and §6.

use skiff_kit::memory::{Layout, MemoryStore, Operation};
use skiff_kit::sans_io::{body, message};
use skiff_proto::command::{Request, Verb, Verbs};
use skiff_proto::reply::Tag;
use skiff_proto::server::{Answer, Limits, ServerEvent};
use skiff_proto::store::{Space, Stat};
use skiff_proto::{ErrorCode, InvalidState, Name, Refusal};

use super::*;

fn name(text: &str) -> Name<'_> {
    Name::parse(text.as_bytes(), NAME_MAX.into()).unwrap()
}

#[test]
fn commands_become_requests() {
    let (dir, file, spaced) = (name("d"), name("a/b"), name(" a  b "));
    for (command, request) in [
        ("list", Request::List { dir: None }),
        ("list d", Request::List { dir: Some(dir) }),
        ("tree", Request::Tree { dir: None }),
        ("tree d", Request::Tree { dir: Some(dir) }),
        ("stat a/b", Request::Stat { name: file }),
        ("stat  a  b ", Request::Stat { name: spaced }),
        ("read 0 * a/b", Request::Read { offset: 0, length: None, name: file }),
        ("read 007 018 a/b", Request::Read { offset: 7, length: Some(18), name: file }),
        ("sum 1 2 a/b", Request::Sum { offset: 1, length: Some(2), name: file }),
        ("sum 18446744073709551615 *  a  b ", Request::Sum { offset: u64::MAX, length: None, name: spaced }),
        ("resume 9 a/b", Request::Resume { size: 9, name: file }),
        ("write 0 9 - a/b", Request::Write { offset: 0, size: 9, mtime: None, name: file }),
        ("write 4 9 17 a/b", Request::Write { offset: 4, size: 9, mtime: Some(17), name: file }),
        ("remove a/b", Request::Remove { name: file }),
        ("rename a/b\n a  b ", Request::Rename { from: file, to: spaced }),
        ("copy a/b\n a  b ", Request::Copy { from: file, to: spaced }),
        ("mkdir d", Request::Mkdir { name: dir }),
        ("rmdir d", Request::Rmdir { name: dir }),
        ("space", Request::Space),
    ] {
        let mut session = session();
        feed(&mut session, message(command));
        assert_eq!(sent(&mut session), "");
        assert_eq!(session.poll_event(), Some(ServerEvent::Request(request)), "{command}");
        assert_eq!(session.poll_event(), None, "{command}");
    }
}

#[test]
fn what_is_no_command_is_bad_command_and_the_connection_goes_on() {
    for command in [
        " ",
        "\n",
        "x",
        "PING",
        "Stat a",
        "ping ",
        "ping x",
        " ping",
        "space ",
        "space x",
        "lists",
        "list\ta",
        "stat",
        "statx",
        "read",
        "read 0",
        "read 0 1",
        "read * 1 a",
        "read -1 1 a",
        "read +1 1 a",
        "read 0 ** a",
        "read 0  a",
        "read  0 1 a",
        "read 18446744073709551616 * a",
        "read 0x1 1 a",
        "sum",
        "sum 0 *",
        "sum 1.5 * a",
        "resume",
        "resume 1",
        "resume - a",
        "remove",
        "rename",
        "rename a",
        "rename a b",
        "copy a b",
        "trees",
        "mkdir",
        "rmdir",
        "crc32c 00000000",
        "writex",
        "Write 0 1 - a",
        " write 0 1 - a",
        "write\n",
    ] {
        let mut session = session();
        feed(&mut session, message(command));
        assert_eq!((sent(&mut session), session.poll_event()), (error(ErrorCode::BadCommand), None), "{command:?}");
        feed(&mut session, b"0000000004ping");
        assert_eq!(sent(&mut session), "0000000002ok", "{command:?}");
    }
    let mut without_secret = session();
    feed(&mut without_secret, message("secure x"));
    assert_eq!(sent(&mut without_secret), error(ErrorCode::Unsupported));
    for bytes in [&b"\xff"[..], b"stat\xff a", b"read \xff 1 a", b"\0"] {
        let mut session = session();
        feed(&mut session, message(bytes));
        assert_eq!(sent(&mut session), error(ErrorCode::BadCommand), "{bytes:?}");
    }
}

#[test]
fn a_name_that_breaks_a_rule_is_bad_name_in_every_command() {
    let bad = [
        ("", NameError::Empty),
        ("/a", NameError::Empty),
        ("a/", NameError::Empty),
        ("a//b", NameError::Empty),
        (".", NameError::Dots),
        ("..", NameError::Dots),
        ("a/../b", NameError::Dots),
        ("a\\b", NameError::Backslash),
        ("a\tb", NameError::Control),
        ("\x7f", NameError::Control),
        ("\u{85}", NameError::Control),
        (".skiff-", NameError::Reserved),
        ("d/.skiff-", NameError::TooLong),
        ("123456789", NameError::TooLong),
    ];
    for (bad, error) in bad {
        for command in [
            "list ",
            "tree ",
            "stat ",
            "read 0 * ",
            "sum 0 * ",
            "resume 1 ",
            "remove ",
            "mkdir ",
            "rename a\n",
            "copy a\n",
        ] {
            let mut session = session();
            feed(&mut session, message(format!("{command}{bad}")));
            assert_eq!((sent(&mut session), session.poll_event()), (refused(error), None), "{command}{bad:?}");
        }
        let mut session = session();
        feed(&mut session, message(format!("rename {bad}\na")));
        assert_eq!(sent(&mut session), refused(error), "rename {bad:?}");
    }
    for (bad, error) in [
        (&b"stat \xff"[..], NameError::NotUtf8),
        (b"stat \xed\xa0\x80", NameError::NotUtf8),
        (b"rename a\n\xc3", NameError::NotUtf8),
        (b"rename a\nb\nc", NameError::Control),
    ] {
        let mut session = session();
        feed(&mut session, message(bad));
        assert_eq!(sent(&mut session), refused(error), "{bad:?}");
    }
}

#[test]
fn a_malformed_command_comes_before_a_bad_name() {
    for command in ["read x * ..", "sum 0 x /", "resume - ..", "rename .. .."] {
        let mut session = session();
        feed(&mut session, message(command));
        assert_eq!(sent(&mut session), error(ErrorCode::BadCommand), "{command}");
    }
}

#[test]
fn every_write_has_a_body_whatever_is_wrong_with_it() {
    for (command, why) in [
        (&b"write"[..], Refusal::from(ErrorCode::BadCommand)),
        (b"write ", ErrorCode::BadCommand.into()),
        (b"write 0", ErrorCode::BadCommand.into()),
        (b"write 0 1", ErrorCode::BadCommand.into()),
        (b"write 0 1 -", ErrorCode::BadCommand.into()),
        (b"write 0 1 * a", ErrorCode::BadCommand.into()),
        (b"write x 1 - a", ErrorCode::BadCommand.into()),
        (b"write 0 18446744073709551616 - a", ErrorCode::BadCommand.into()),
        (b"write  0 1 - a", ErrorCode::BadCommand.into()),
        (b"write \xff", ErrorCode::BadCommand.into()),
        (b"write 0 1 - ", NameError::Empty.into()),
        (b"write 0 1 - ../a", NameError::Dots.into()),
        (b"write 0 1 - \xff", NameError::NotUtf8.into()),
        (b"write 0 1 - 123456789", NameError::TooLong.into()),
    ] {
        let mut session = session();
        feed(&mut session, message(command));
        assert_eq!(sent(&mut session), refused(why), "{:?}", command.escape_ascii());
        assert_eq!((session.payload_in(), session.is_receiving(), session.is_idle()), (None, false, false));
        feed(&mut session, body(b"0000000011remove keep", 0));
        assert_eq!((sent(&mut session).as_str(), session.poll_event()), ("", None));
        feed(&mut session, b"0000000004ping");
        assert_eq!(sent(&mut session), "0000000002ok");
    }
}

#[test]
fn a_write_whose_verb_the_server_leaves_out_has_a_body_too() {
    let mut session = session_with(Limits { verbs: Verbs::ALL.without(Verb::Write), ..limits() });
    feed(&mut session, message("write 0 1 - a"));
    assert_eq!(sent(&mut session), error(ErrorCode::Unsupported));
    feed(&mut session, [body(b"x", 0), message("ping")].concat());
    assert_eq!(sent(&mut session), "0000000002ok");
}

#[test]
fn each_answer_is_one_reply() {
    let stat = |mtime, crc| Answer::Stat(Stat { size: 9, mtime, crc });
    for (command, answer, reply) in [
        ("stat a", stat(Some(1_700_000_000), Some(0xe306_9283)), "0000000024ok 9 1700000000 e3069283"),
        ("stat a", stat(None, None), "0000000008ok 9 - -"),
        ("resume 9 a", Answer::Resume { offset: 4, crc: 0xf63a_f4ee }, "0000000013ok 4 f63af4ee"),
        ("resume 9 a", Answer::Resume { offset: 0, crc: 0 }, "0000000013ok 0 00000000"),
        ("sum 0 * a", Answer::Sum { length: 6, crc: 1 }, "0000000013ok 6 00000001"),
        ("remove a", Answer::Done, "0000000002ok"),
        ("rename a\nb", Answer::Done, "0000000002ok"),
        ("mkdir a", Answer::Done, "0000000002ok"),
        ("rmdir a", Answer::Done, "0000000002ok"),
        ("space", Answer::Space(Space { total: u64::MAX, free: 0 }), "0000000025ok 18446744073709551615 0"),
    ] {
        let mut session = session();
        feed(&mut session, message(command));
        take_request(&mut session);
        session.answer(answer).unwrap();
        assert_eq!((sent(&mut session).as_str(), session.is_idle()), (reply, true), "{command}");
    }
}

#[test]
fn ping_is_ok() {
    let mut session = session();
    feed(&mut session, b"0000000004ping");
    assert_eq!(sent(&mut session), "0000000002ok");
}

#[test]
fn every_request_can_be_refused_with_every_code() {
    for command in [
        "ls",
        "list",
        "stat a",
        "read 0 * a",
        "sum 0 * a",
        "resume 1 a",
        "remove a",
        "rename a\nb",
        "mkdir a",
        "rmdir a",
        "space",
    ] {
        for code in ErrorCode::ALL {
            let mut session = session();
            feed(&mut session, message(command));
            take_request(&mut session);
            session.refuse((*code).into()).unwrap();
            assert_eq!((sent(&mut session), session.is_idle()), (error(*code), true), "{command}");
        }
    }
}

#[test]
fn the_text_of_an_error_is_cut_at_200_bytes_and_never_inside_a_character() {
    static LONG: &str = concat!(
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
        "012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678é and more"
    );
    let mut session = session();
    feed(&mut session, message("stat a"));
    take_request(&mut session);
    session.refuse(Refusal::new(ErrorCode::Denied, LONG)).unwrap();
    assert_eq!(sent(&mut session), reply(format!("error denied {}", &LONG[..199])));
}

#[test]
fn an_answer_that_contradicts_the_request_is_not_sent() {
    let read = |length, size| Answer::Read { length, size, tag: Tag::UNKNOWN };
    for (command, answer) in [
        ("read 4 2 a", read(3, 9)),
        ("read 4 * a", read(6, 9)),
        ("read 4 * a", read(0, 3)),
        ("resume 9 a", Answer::Resume { offset: 10, crc: 0 }),
        ("stat a", Answer::Done),
        ("remove a", Answer::Stored { size: 0, crc: None }),
    ] {
        let mut session = session();
        feed(&mut session, message(command));
        take_request(&mut session);
        assert_eq!(session.answer(answer), Err(InvalidState), "{command}");
        session.refuse(ErrorCode::Io.into()).unwrap();
        assert_eq!(sent(&mut session), error(ErrorCode::Io));
    }
}

#[test]
fn a_command_sees_the_effect_of_those_before_it() {
    let (mut connection, store) = server();
    let commands = [
        [message("write 0 1 - a"), body(b"1", 0x90f5_99e3)].concat(),
        message("mkdir d"),
        message("rename a\nd/b"),
        message("stat a"),
        message("stat d/b"),
        message("rmdir d"),
        message("remove d/b"),
        message("rmdir d"),
        message("list d"),
    ];
    connection.send(&commands.concat());
    let expected = [
        "0000000013ok 1 90f599e3".into(),
        reply("ok"),
        reply("ok"),
        error(ErrorCode::NotFound),
        reply("ok 1 - 90f599e3"),
        error(ErrorCode::NotEmpty),
        reply("ok"),
        reply("ok"),
        error(ErrorCode::NotFound),
    ];
    assert_eq!(received(&mut connection), expected.concat());
    assert!(store.files().is_empty() && store.directories().is_empty());
}

#[test]
fn where_several_errors_apply_the_order_of_section_5_decides() {
    let (mut connection, store) = server();
    store.put_file("d/f", b"123456");
    store.set_capacity(6);
    for (command, code) in [
        ("read 9 * d", ErrorCode::IsDirectory),
        ("read 9 * x", ErrorCode::NotFound),
        ("read 7 * d/f", ErrorCode::Range),
        ("sum 7 0 d/f", ErrorCode::Range),
        ("resume 9 d", ErrorCode::IsDirectory),
        ("resume 9 d/f/x", ErrorCode::Exists),
        ("resume 9 x", ErrorCode::NoSpace),
        ("stat d", ErrorCode::IsDirectory),
        ("remove d", ErrorCode::IsDirectory),
        ("rename x\nd", ErrorCode::NotFound),
        ("rename d/f\nd", ErrorCode::IsDirectory),
        ("mkdir d", ErrorCode::Exists),
        ("mkdir x/y", ErrorCode::NotFound),
        ("rmdir d/f", ErrorCode::NotFound),
        ("rmdir d", ErrorCode::NotEmpty),
        ("list d/f", ErrorCode::NotFound),
    ] {
        connection.send(&message(command));
        assert_eq!(received(&mut connection), error(code), "{command}");
    }
    for (command, code) in [
        ("write 9 1 - d", ErrorCode::IsDirectory),
        ("write 9 1 - x", ErrorCode::Range),
        ("write 5 9 - x", ErrorCode::Mismatch),
        ("write 0 9 - x", ErrorCode::NoSpace),
        ("write 0 9 - d/f/x", ErrorCode::Exists),
    ] {
        connection.send(&[message(command), body(b"abc", 0)].concat());
        assert_eq!(received(&mut connection), error(code), "{command}");
    }
    assert_eq!((store.files().len(), store.stages()), (1, 0));
}

#[test]
fn a_flat_store_has_no_directories() {
    let store = MemoryStore::new(Layout::Flat);
    let mut connection: Connection<BUF> = Connection::new(limits(), store, Pace::default());
    for (command, code) in [
        ("mkdir d", ErrorCode::Unsupported),
        ("rmdir d", ErrorCode::Unsupported),
        ("list d", ErrorCode::NotFound),
        ("stat d/f", ErrorCode::BadName),
        ("rename a\nd/f", ErrorCode::BadName),
    ] {
        connection.send(&message(command));
        assert_eq!(received(&mut connection), error(code), "{command}");
    }
}

#[test]
fn a_second_writer_of_a_name_is_busy_until_the_first_is_gone() {
    let (mut first, store) = server();
    let mut second: Connection<BUF> = Connection::new(limits(), store.clone(), Pace::default());
    first.send(b"0000000013write 0 9 - d00000000041234");
    second.send(&message("resume 9 d"));
    second.send(&[message("write 0 1 - d"), body(b"1", 0x90f5_99e3)].concat());
    second.send(&[message("write 9 1 - d"), body(b"1", 0x90f5_99e3)].concat());
    let expected = [error(ErrorCode::Busy), error(ErrorCode::Busy), error(ErrorCode::Range)];
    assert_eq!(received(&mut second), expected.concat());
    first.close();
    assert_eq!(store.staged_bytes("d").unwrap(), b"1234");
    second.send(&message("resume 9 d"));
    second.send(&[message("write 4 9 - d"), body(b"56789", 0xe306_9283)].concat());
    assert_eq!(received(&mut second), "0000000013ok 4 f63af4ee0000000013ok 9 e3069283");
    assert_eq!(store.files()["d"], b"123456789");
}

#[test]
fn a_store_that_fails_is_answered_io_and_the_connection_goes_on() {
    for (command, operation) in [
        ("stat f", Operation::Stat),
        ("read 0 * f", Operation::Open),
        ("sum 0 * f", Operation::ReadAt),
        ("resume 1 f", Operation::Staged),
        ("remove f", Operation::Remove),
        ("rename f\ng", Operation::Rename),
        ("mkdir d", Operation::Mkdir),
        ("rmdir d", Operation::Rmdir),
        ("list", Operation::List),
        ("space", Operation::Space),
    ] {
        let (mut connection, store) = server();
        store.put_file("f", b"x");
        store.fail(operation, 0, ErrorCode::Io);
        connection.send(&[message(command), message("ping")].concat());
        assert_eq!(received(&mut connection), error(ErrorCode::Io) + "0000000002ok", "{command}");
        assert_eq!(store.files().len(), 1);
    }
}
