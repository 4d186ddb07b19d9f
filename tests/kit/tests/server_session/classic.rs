//! PROTOCOL §3 and §4.

use core::time::Duration;

use skiff_kit::memory::{Layout, MemoryStore, Operation};
use skiff_kit::sans_io::{Connection, DataConnection, Pace, message};
use skiff_kit::vector::DataEnd;
use skiff_proto::command::{Request, Verb, Verbs};
use skiff_proto::server::{Answer, Close, Limits, ServerEvent};
use skiff_proto::store::Store as _;
use skiff_proto::{ErrorCode, InvalidState, Name};

use super::*;

/// Sends a classic command and connects to the PORT in the reply.
#[track_caller]
fn connect(connection: &mut Connection<BUF>, command: &str) -> DataConnection {
    connection.send(&message(command));
    let reply = received(connection);
    let port = reply.get(10..).and_then(|port| port.parse().ok());
    port.and_then(|port| connection.connect_data(port)).unwrap_or_else(|| panic!("{reply}"))
}

#[test]
fn classic_words_may_be_separated_by_any_white_space() {
    for command in ["get a.txt", "GET\ta.txt", " gEt \r\n a.txt\x0b\x0c"] {
        let mut session = session();
        feed(&mut session, message(command));
        let Some(ServerEvent::Request(Request::Get { name })) = session.poll_event() else {
            panic!("{command:?}");
        };
        assert_eq!(name.as_str(), "a.txt");
        session.answer(Answer::Port(62346)).unwrap();
        assert_eq!(sent(&mut session), "000000000562346");
    }
}

#[test]
fn malformed_transfers_and_bad_names_are_answered_minus_one() {
    let bad =
        ["get", "put", "get ", "get a b", "get ../x", "get /x", "get a\\b", "get .", "put ..", "put x/", "put \\"];
    for command in bad.into_iter().chain(["get 123456789", "put .skiff-a", "GET\x01", "get a\x01"]) {
        let mut session = session();
        feed(&mut session, message(command));
        let expected = if command == "GET\x01" { error(ErrorCode::BadCommand) } else { "0000000002-1".into() };
        assert_eq!((sent(&mut session), session.poll_event()), (expected, None), "{command:?}");
    }
    let mut session = session();
    feed(&mut session, b"0000000005get \xff");
    assert_eq!(sent(&mut session), "0000000002-1");
}

#[test]
fn a_refused_transfer_is_minus_one_whatever_the_reason() {
    for code in ErrorCode::ALL {
        for command in ["get a", "put a"] {
            let mut session = session();
            feed(&mut session, message(command));
            take_request(&mut session);
            session.refuse((*code).into()).unwrap();
            assert_eq!(sent(&mut session), "0000000002-1");
        }
    }
}

#[test]
fn port_zero_is_never_announced() {
    let mut session = session();
    feed(&mut session, message("put a"));
    take_request(&mut session);
    assert_eq!(session.answer(Answer::Port(0)), Err(InvalidState));
    session.answer(Answer::Port(1)).unwrap();
    assert_eq!(sent(&mut session), "00000000011");
}

#[test]
fn put_keeps_the_last_component_of_the_path_that_was_typed() {
    for (path, kept) in [("a", "a"), ("../docs/b.txt", "b.txt"), ("C:\\x\\y", "y"), ("very/long/directories/c", "c")] {
        let mut session = session();
        feed(&mut session, message(format!("put {path}")));
        let Some(ServerEvent::Request(Request::Put { name })) = session.poll_event() else {
            panic!("{path}");
        };
        assert_eq!(name.as_str(), kept);
    }
}

#[test]
fn put_never_replaces_but_numbers() {
    let (mut connection, store) = server();
    for _ in 0..3 {
        let mut data = connect(&mut connection, "put r.t");
        data.send(b"0000000001");
        data.send(b"x");
        assert_eq!(data.end(), None);
        data.shut_down();
        assert_eq!(data.end(), Some(DataEnd::Closed));
    }
    assert!(store.files().keys().eq(["r(1).t", "r(2).t", "r.t"]));
}

#[test]
fn put_stores_only_after_the_end_of_the_stream_and_only_what_was_announced() {
    for (wire, stored) in [
        ("0000000003abc", Some("abc")),
        ("0000000000", Some("")),
        ("0000000005olá!\n", Some("olá!\n")),
        ("0000000006olá!\n", Some("olá!\n")),
        ("0000000003ab", None),
        ("0000000003abcd", None),
        ("00000", None),
        ("", None),
        ("+000000003abc", None),
    ] {
        let (mut connection, store) = server();
        let mut data = connect(&mut connection, "put f");
        for byte in wire.as_bytes() {
            data.send(&[*byte]);
        }
        assert!(store.files().is_empty(), "{wire}");
        data.shut_down();
        assert_eq!(data.end(), Some(if stored.is_some() { DataEnd::Closed } else { DataEnd::Reset }), "{wire}");
        let expected = stored.map(|content| ("f".into(), content.into()));
        assert_eq!(store.files(), expected.into_iter().collect(), "{wire}");
        assert_eq!(store.stages(), 0);
    }
}

#[test]
fn a_put_that_is_no_text_is_taken_by_its_bytes() {
    for (wire, end) in [
        (&b"0000000003\xff\xfe\xfd"[..], DataEnd::Closed),
        (b"0000000002\xff\xfe\xfd", DataEnd::Reset),
        (b"0000000002\xc3\xa1\xc3", DataEnd::Reset),
        (b"0000000003\xc3\xa1\xc3", DataEnd::Closed),
    ] {
        let (mut connection, store) = server();
        let mut data = connect(&mut connection, "put f");
        data.send(wire);
        data.shut_down();
        assert_eq!((data.end(), store.stages()), (Some(end), 0), "{}", wire.escape_ascii());
        assert_eq!(store.files().get("f").map(Vec::as_slice), (end == DataEnd::Closed).then_some(&wire[10..]));
    }
}

#[test]
fn a_put_that_can_not_be_stored_resets_its_connection() {
    for operation in [Operation::Append, Operation::CommitNew] {
        let (mut connection, store) = server();
        let mut data = connect(&mut connection, "put f");
        store.fail(operation, 0, ErrorCode::NoSpace);
        data.send(b"0000000001x");
        data.shut_down();
        assert_eq!((data.end(), store.stages(), store.files().len()), (Some(DataEnd::Reset), 0, 0));
    }
}

#[test]
fn get_sends_one_message_and_closes() {
    let (mut connection, store) = server();
    store.put_file("d/f", b"hello\n");
    store.put_file("empty", b"");
    let mut data = connect(&mut connection, "get d/f");
    assert_eq!((data.take_output(), data.end()), (b"0000000006hello\n".to_vec(), Some(DataEnd::Closed)));
    let mut data = connect(&mut connection, "get empty");
    assert_eq!((data.take_output(), data.end()), (b"0000000000".to_vec(), Some(DataEnd::Closed)));
    connection.send(&message("get d"));
    connection.send(&message("get none"));
    assert_eq!(received(&mut connection), "0000000002-10000000002-1");
}

#[test]
fn a_get_whose_file_fails_resets_its_connection() {
    let (mut connection, store) = server();
    store.put_file("f", &[b'x'; 1000]);
    store.fail(Operation::ReadAt, 1, ErrorCode::Io);
    let data = connect(&mut connection, "get f");
    assert_eq!(data.end(), Some(DataEnd::Reset));
}

#[test]
fn a_transfer_continues_after_quit_and_commands_work_during_it() {
    let (mut connection, store) = server();
    let mut data = connect(&mut connection, "put f");
    data.send(b"0000000003a");
    connection.send(&message("ping"));
    assert_eq!(received(&mut connection), "0000000002ok");
    connection.send(&message("quit"));
    assert_eq!(connection.end(), Some(Close::Gracefully));
    data.send(b"bc");
    data.shut_down();
    assert_eq!((data.end(), store.files()["f"].as_slice()), (Some(DataEnd::Closed), &b"abc"[..]));
}

#[test]
fn ls_of_nothing_is_an_empty_message() {
    let (mut connection, _) = server();
    connection.send(b"0000000002ls0000000004ping");
    assert_eq!(received(&mut connection), "00000000000000000002ok");
}

#[test]
fn ls_shows_plain_files_of_the_root_in_one_message() {
    let (mut connection, store) = server();
    for file in ["a", "b b", ".c", "olá", "d/e", "f"] {
        store.put_file(file, b"");
    }
    for command in ["ls", "LS", " ls\n"] {
        connection.send(&message(command));
        assert_eq!(received(&mut connection), "0000000003a\\nf", "{command:?}");
    }
    connection.send(&message("ls now"));
    assert_eq!(received(&mut connection), error(ErrorCode::BadCommand));
}

#[test]
fn ls_of_a_store_that_can_not_be_listed_is_an_error() {
    let (mut connection, store) = server();
    store.fail(Operation::List, 0, ErrorCode::Io);
    connection.send(&message("ls"));
    assert_eq!(received(&mut connection), "0000000027error io the storage failed");
}

#[test]
fn ls_keeps_its_length_when_the_store_changes_between_counting_and_sending() {
    for (added, removed, names) in [
        (None, None, "aa\\nb\\nccc"),
        (None, Some("b"), "aa\\nccc\\n\\n"),
        (None, Some("aa"), "b\\nccc\\n\\n\\n"),
        (Some("abc"), None, "aa\\nabc\\nb"),
        (Some("aaaaa"), None, "aa\\naaaaa"),
        (Some("zz"), None, "aa\\nb\\nccc"),
    ] {
        let (mut connection, store) = server();
        for file in ["aa", "b", "ccc"] {
            store.put_file(file, b"");
        }
        connection.set_room(10);
        connection.send(&message("ls"));
        assert_eq!(connection.output(), b"0000000008");
        if let Some(name) = added {
            store.put_file(name, b"");
        }
        if let Some(name) = removed {
            store.clone().remove(Name::parse(name.as_bytes(), 8).unwrap()).unwrap();
        }
        connection.set_room(usize::MAX);
        assert_eq!(received(&mut connection), format!("0000000008{names}"), "{added:?} {removed:?}");
        connection.send(&message("ping"));
        assert_eq!(received(&mut connection), "0000000002ok");
    }
}

#[test]
fn ls_that_fails_while_it_is_sent_is_filled_up_with_line_ends() {
    let mut session = session();
    feed(&mut session, b"0000000002ls");
    take_request(&mut session);
    session.answer(Answer::Ls { length: 5 }).unwrap();
    assert!(!session.is_in_data());
    assert_eq!(session.finish(), Err(InvalidState), "the length is still queued");
    assert_eq!(sent(&mut session), "0000000005");
    assert!(session.is_in_data());
    assert_eq!(put(&mut session, b"ab").unwrap(), "ab");
    session.finish().unwrap();
    assert_eq!(sent(&mut session), "\\n\\n\\n");
    feed(&mut session, b"0000000004ping");
    assert_eq!(sent(&mut session), "0000000002ok");
}

#[test]
fn ls_of_more_than_a_message_can_hold_is_no_answer() {
    let mut session = session();
    feed(&mut session, b"0000000002ls");
    take_request(&mut session);
    assert_eq!(session.answer(Answer::Ls { length: 10_000_000_000 }), Err(InvalidState));
    session.answer(Answer::Ls { length: 9_999_999_999 }).unwrap();
    assert_eq!(sent(&mut session), "9999999999");
}

#[test]
fn the_hello_says_what_the_server_is() {
    let mut session = session();
    feed(&mut session, b"0000000012get /skiff/1");
    assert_eq!(
        sent(&mut session),
        "0000000134skiff/1 server=skiff/0 \
         commands=ping,list,tree,stat,read,resume,write,sum,remove,rename,copy,mkdir,rmdir,space,quit name-max=8 idle=60"
    );
}

#[test]
fn the_hello_names_only_the_verbs_that_the_server_accepts() {
    let verbs = [Verb::Sum, Verb::Mkdir, Verb::Rmdir, Verb::Resume].into_iter().fold(Verbs::ALL, Verbs::without);
    let mut session =
        session_with(Limits { verbs, nocrc: true, idle: Duration::from_secs(5), host: Some("pump-7"), ..limits() });
    feed(&mut session, message("GET /skiff/1"));
    let hello = "skiff/1 server=skiff/0 host=pump-7 commands=ping,list,tree,stat,read,write,remove,rename,copy,space,quit name-max=8 idle=5 nocrc=1";
    assert_eq!(sent(&mut session), reply(hello));
    for command in ["sum 0 * a", "mkdir a", "rmdir ..", "resume 1 a", "sum"] {
        feed(&mut session, message(command));
        assert_eq!(sent(&mut session), error(ErrorCode::Unsupported), "{command}");
    }
}

#[test]
fn other_versions_are_answered_minus_one() {
    for version in ["0", "2", "11", "01", "", "x", "1/"] {
        let mut session = session();
        feed(&mut session, message(format!("get /skiff/{version}")));
        assert_eq!(sent(&mut session), "0000000002-1", "{version}");
    }
}

#[test]
fn a_name_that_is_numbered_beyond_the_longest_is_not_stored() {
    let long = "x".repeat(255);
    let store = MemoryStore::new(Layout::Tree);
    store.put_file(&long, b"old");
    let mut connection: Connection = Connection::new(Limits::new(255), store.clone(), Pace::default());
    connection.send(&message(format!("put {long}")));
    let port = String::from_utf8(connection.take_output()).unwrap()[10..].parse().unwrap();
    let mut data = connection.connect_data(port).unwrap();
    data.send(b"0000000001x");
    data.shut_down();
    assert_eq!((data.end(), store.files().len(), store.stages()), (Some(DataEnd::Reset), 1, 0));
}
