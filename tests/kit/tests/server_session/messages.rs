//! PROTOCOL §1.

use skiff_kit::sans_io::{body, message, payloads};
use skiff_proto::command::Request;
use skiff_proto::server::{Answer, Close, ServerEvent};
use skiff_proto::{ErrorCode, Name, ProtocolError};

use super::*;

#[test]
fn an_empty_message_is_ignored_however_often_it_comes() {
    let mut session = session();
    feed(&mut session, b"0000000000000000000000000000000000000004ping0000000000");
    assert_eq!(sent(&mut session), "0000000002ok");
    assert!(session.is_idle());
}

#[test]
fn every_byte_that_is_no_digit_spoils_a_length_at_every_place() {
    for at in 0..10 {
        for bad in [b'+', b'-', b' ', b'_', b'\n', b'x', b'/', b':', 0, 0x80, 0xff] {
            let mut length = *b"0000000004";
            length[at] = bad;
            let mut session = session();
            assert_eq!(take(&mut session, &length), Err(ProtocolError::BadLength), "{at} {bad}");
            assert_eq!(sent(&mut session), "0000000039error bad-length a length is ten digits");
            assert_eq!(session.poll_close(), Some(Close::Gracefully));
        }
    }
}

#[test]
fn after_a_bad_length_every_call_returns_the_same_error_and_nothing_is_answered() {
    let mut session = session();
    assert_eq!(session.poll_close(), None);
    assert_eq!(take(&mut session, b"0000000004ping+000000004"), Err(ProtocolError::BadLength));
    assert_eq!(session.poll_close(), None, "two replies are on their way");
    for input in [&b"0000000004ping"[..], b"", b"x"] {
        assert_eq!(take(&mut session, input), Err(ProtocolError::BadLength));
    }
    assert_eq!(sent(&mut session), format!("0000000002ok{}", error(ErrorCode::BadLength)));
    assert_eq!(take(&mut session, b"0000000004ping"), Err(ProtocolError::BadLength));
    session.handle_eof();
    assert_eq!(session.poll_event(), None);
    assert_eq!((sent(&mut session).as_str(), session.poll_close()), ("", Some(Close::Gracefully)));
    assert_eq!(session.want_read(), 0);
}

#[test]
fn a_bad_length_is_answered_behind_replies_that_have_not_gone_out() {
    // Two replies wait: there is no room for a third one, so the session must not read further.
    let wire = [message("ping"), message([b'x'; 89]), b"+000000004".to_vec()].concat();
    let mut session = session();
    let mut rest = wire.as_slice();
    let mut replies = String::new();
    for _ in 0..10 {
        match take(&mut session, rest) {
            Ok(taken) => rest = &rest[taken..],
            Err(error) => assert_eq!(error, ProtocolError::BadLength),
        }
        replies += &sent(&mut session);
    }
    let expected = format!("0000000002ok{}{}", error(ErrorCode::TooLong), error(ErrorCode::BadLength));
    assert_eq!(replies, expected);
    assert_eq!(session.poll_close(), Some(Close::Gracefully));
}

#[test]
fn a_command_may_have_72_bytes_and_two_names() {
    let mut session = session();
    feed(&mut session, message([b'x'; 88]));
    assert_eq!(sent(&mut session), error(ErrorCode::BadCommand));
    feed(&mut session, message([b'x'; 89]));
    assert_eq!(sent(&mut session), "0000000023error too-long too long");
}

#[test]
fn the_longest_commands_of_all_fit() {
    let mut session = session();
    let max = u64::MAX;
    feed(&mut session, message(format!("write {max} {max} {max} 12345678")));
    let Some(ServerEvent::Request(Request::Write { offset, size, mtime, name })) = session.poll_event() else {
        panic!("no write");
    };
    assert_eq!((offset, size, mtime, name.as_str()), (max, max, Some(max), "12345678"));
    session.refuse(ErrorCode::Range.into()).unwrap();
    feed(&mut session, body(b"", 0));
    feed(&mut session, message("rename 12345678\nabcdefgh"));
    sent(&mut session);
    let Some(ServerEvent::Request(Request::Rename { from, to })) = session.poll_event() else {
        panic!("no rename");
    };
    assert_eq!((from.as_str(), to.as_str()), ("12345678", "abcdefgh"));
}

#[test]
fn a_command_that_is_too_long_is_read_to_its_end_and_the_connection_stays_usable() {
    for length in [89, 1000, 65_535, 65_536] {
        let mut session = session();
        let wire = [message(vec![b'x'; length]), message("ping")].concat();
        feed(&mut session, &wire[..wire.len() - 14]);
        assert_eq!(sent(&mut session), error(ErrorCode::TooLong));
        feed(&mut session, &wire[wire.len() - 14..]);
        assert_eq!((sent(&mut session).as_str(), session.poll_close()), ("0000000002ok", None));
    }
}

#[test]
fn nothing_is_answered_before_a_command_that_is_too_long_has_ended() {
    let mut session = session();
    feed(&mut session, &message([b'x'; 200])[..209]);
    assert_eq!((sent(&mut session).as_str(), session.want_read()), ("", 1));
}

#[test]
fn get_and_put_that_are_too_long_are_answered_minus_one_in_any_letter_case() {
    for verb in ["get", "put", "GET", "Put"] {
        let mut session = session();
        feed(&mut session, message(format!("{verb} {}", "x".repeat(200))));
        assert_eq!(sent(&mut session), "0000000002-1", "{verb}");
    }
    for other in ["gets", "stat", "get-"] {
        let mut session = session();
        feed(&mut session, message(format!("{other} {}", "x".repeat(200))));
        assert_eq!(sent(&mut session), error(ErrorCode::TooLong), "{other}");
    }
}

#[test]
fn a_write_that_is_too_long_is_still_followed_by_its_body() {
    let mut session = session();
    feed(&mut session, message(format!("write 0 3 - {}", "x".repeat(200))));
    assert_eq!(sent(&mut session), error(ErrorCode::TooLong));
    feed(&mut session, b"0000000011remove keep00000000000000000015crc32c 00000000");
    assert_eq!((sent(&mut session).as_str(), session.poll_event()), ("", None));
    feed(&mut session, b"0000000004ping");
    assert_eq!(sent(&mut session), "0000000002ok");
}

#[test]
fn beyond_65536_bytes_the_connection_ends_even_for_get() {
    for (length, bytes) in
        [(65_537, "0000065537"), (9_999_999_999, "9999999999get "), (4_294_967_300, "4294967300write ")]
    {
        let mut session = session();
        assert_eq!(take(&mut session, bytes.as_bytes()), Err(ProtocolError::TooLong { length }));
        assert_eq!(take(&mut session, b"0000000004ping"), Err(ProtocolError::TooLong { length }));
        assert_eq!(sent(&mut session), error(ErrorCode::TooLong));
        assert_eq!(session.poll_close(), Some(Close::Gracefully));
    }
}

#[test]
fn input_is_taken_in_pieces_of_any_size() {
    for size in 1..40 {
        let mut session = session();
        let mut replies = String::new();
        for piece in b"0000000004ping00000000000000000009stat name".chunks(size) {
            let taken = take(&mut session, piece).unwrap();
            replies += &sent(&mut session);
            feed(&mut session, &piece[taken..]);
        }
        assert_eq!(replies + &sent(&mut session), "0000000002ok");
        let name = Name::parse(b"name", 8).unwrap();
        assert_eq!(session.poll_event(), Some(ServerEvent::Request(Request::Stat { name })));
    }
}

#[test]
fn the_hint_what_to_read_never_goes_beyond_the_message() {
    let mut session = session();
    let wire = b"0000000004ping0000000089";
    let mut at = 0;
    let mut hints = Vec::new();
    while at < wire.len() {
        let hint = session.want_read();
        hints.push(hint);
        let end = wire.len().min(at + hint.div_ceil(2));
        feed(&mut session, &wire[at..end]);
        at = end;
        sent(&mut session);
    }
    assert_eq!(hints, [10, 5, 2, 1, 4, 2, 1, 10, 5, 2, 1]);
    assert_eq!(session.want_read(), 89);
}

#[test]
fn replies_go_out_through_a_buffer_of_one_byte() {
    let mut session = session();
    feed(&mut session, message("get /skiff/1"));
    let mut whole = String::new();
    let mut out = [0; 1];
    while session.poll_transmit(&mut out) == 1 {
        whole.push(out[0].into());
        assert_eq!(session.poll_transmit(&mut []), 0);
    }
    assert!(whole.starts_with("0000000134skiff/1 server=skiff/0 "), "{whole}");
    assert_eq!(whole.len(), 144);
    assert!(session.is_idle());
}

#[test]
fn a_thousand_commands_may_be_sent_ahead() {
    let (mut connection, _) = server();
    connection.set_room(0);
    for _ in 0..500 {
        connection.send(b"0000000004ping0000000006stat x");
    }
    assert_eq!(connection.output(), b"");
    connection.set_room(usize::MAX);
    let expected = format!("0000000002ok{}", error(ErrorCode::NotFound)).repeat(500);
    assert_eq!(received(&mut connection), expected);
}

#[test]
fn a_session_reads_no_further_than_it_can_answer() {
    let mut session = session();
    let wire = message("ping").repeat(1000);
    let taken = take(&mut session, &wire).unwrap();
    assert_eq!(taken, 28, "one reply is queued, one command waits");
    assert_eq!((take(&mut session, &wire[taken..]), session.want_read()), (Ok(0), 0));
    let mut out = [0; 12];
    assert_eq!((session.poll_transmit(&mut out), session.want_read()), (12, 10));
}

#[test]
fn the_end_of_the_stream_at_every_place_leaves_the_commands_before_it_answered() {
    let commands =
        [message("ping"), message(""), message("stat x"), message([b'y'; 100]), message("get"), message("ls")];
    let replies = [
        "0000000002ok".into(),
        String::new(),
        error(ErrorCode::NotFound),
        error(ErrorCode::TooLong),
        reply("-1"),
        reply(""),
    ];
    let wire = commands.concat();
    for end in 0..=wire.len() {
        for room in [0, usize::MAX] {
            let (mut connection, _) = server();
            connection.set_room(room);
            connection.send(&wire[..end]);
            connection.close();
            connection.set_room(usize::MAX);
            let mut boundary = 0;
            let whole = commands.iter().take_while(|command| {
                boundary += command.len();
                boundary <= end
            });
            let expected = replies[..whole.count()].concat();
            assert_eq!(
                (received(&mut connection), connection.end()),
                (expected, Some(Close::Gracefully)),
                "{end} {room}"
            );
            assert_eq!(connection.error(), None);
        }
    }
}

#[test]
fn the_end_of_the_stream_behind_a_command_that_is_too_long_does_not_swallow_its_answer() {
    let mut session = session();
    // All three are complete, but the first reply has not been sent yet.
    let wire = [message("ping"), message([b'x'; 100]), message([b'y'; 100])].concat();
    let mut rest = wire.as_slice();
    let taken = take(&mut session, rest).unwrap();
    rest = &rest[taken..];
    if rest.is_empty() {
        session.handle_eof();
    }
    let mut replies = String::new();
    for _ in 0..3 {
        replies += &sent(&mut session);
        let taken = take(&mut session, rest).unwrap();
        rest = &rest[taken..];
        if rest.is_empty() {
            session.handle_eof();
        }
    }
    assert_eq!(replies, format!("0000000002ok{0}{0}", error(ErrorCode::TooLong)));
    assert_eq!(session.poll_close(), Some(Close::Gracefully));
}

#[test]
fn the_end_of_the_stream_while_the_driver_works_lets_it_finish() {
    let mut session = session();
    feed(&mut session, b"0000000006stat x");
    take_request(&mut session);
    session.handle_eof();
    assert_eq!(session.poll_close(), None);
    session.refuse(ErrorCode::Io.into()).unwrap();
    assert_eq!(session.poll_close(), None);
    assert_eq!((sent(&mut session), session.poll_close()), (error(ErrorCode::Io), Some(Close::Gracefully)));
}

#[test]
fn a_client_that_has_closed_its_side_still_gets_the_whole_body() {
    let (mut connection, store) = server();
    store.put_file("f", &[b'z'; 5000]);
    connection.set_room(100);
    connection.send(b"0000000010read 0 * f");
    connection.close();
    assert_eq!(connection.end(), None);
    connection.set_room(usize::MAX);
    assert_eq!(connection.end(), Some(Close::Gracefully));
    let output = connection.take_output();
    let payloads = payloads(&output).unwrap();
    assert_eq!((payloads.len(), payloads[1].len()), (4, 5000));
}

#[test]
fn quit_ends_the_connection_behind_the_replies_and_nothing_after_it_is_read() {
    let mut session = session();
    let wire = b"0000000004ping0000000008quit now0000000004ping";
    assert_eq!(take(&mut session, wire), Ok(32));
    assert_eq!(session.poll_close(), None);
    assert_eq!((sent(&mut session).as_str(), session.poll_close()), ("0000000002ok", Some(Close::Gracefully)));
    assert_eq!((take(&mut session, &wire[32..]), session.want_read()), (Ok(0), 0));
    assert_eq!((sent(&mut session).as_str(), session.poll_event()), ("", None));
}

#[test]
fn a_command_cut_off_by_the_end_of_the_stream_has_no_effect() {
    let (mut connection, store) = server();
    store.put_file("a", b"x");
    connection.send(b"0000000008remove ");
    connection.close();
    assert_eq!((received(&mut connection).as_str(), connection.end()), ("", Some(Close::Gracefully)));
    assert_eq!(store.files().len(), 1);
}

#[test]
fn an_answer_without_a_wait_is_sent_at_once() {
    let mut session = session();
    feed(&mut session, b"0000000005space");
    take_request(&mut session);
    assert!(!session.has_output());
    session.answer(Answer::Space(skiff_proto::store::Space { total: 10, free: u64::MAX })).unwrap();
    assert!(session.has_output());
    assert_eq!(sent(&mut session), "0000000026ok 10 18446744073709551615");
    assert!(!session.has_output() && session.is_idle());
}
