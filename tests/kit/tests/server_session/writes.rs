//! PROTOCOL §7: `write`, its body, its trailer.

use skiff_kit::memory::Operation;
use skiff_kit::reluctant::Changes;
use skiff_kit::sans_io::{Pace, body, message};
use skiff_proto::crc::crc32c;
use skiff_proto::server::{Answer, Close, Limits, ServerEvent};
use skiff_proto::{ErrorCode, Payload, ProtocolError};

use super::*;

#[test]
fn the_body_of_a_write_is_handed_past_the_session_and_judged_by_its_trailer() {
    let mut session = session();
    start_write(&mut session, "write 0 9 - d");
    assert!(session.is_receiving());
    assert_eq!((sent(&mut session).as_str(), session.payload_in()), ("", None));
    assert_eq!(receive(&mut session, b"000000000312"), Ok((12, b"12".to_vec())));
    assert_eq!(session.payload_in(), Some(Payload { remaining: 1 }));
    assert_eq!(receive(&mut session, b"30000000006456"), Ok((1, b"3".to_vec())), "to the end of a message");
    assert_eq!(session.payload_in(), None);
    assert_eq!(receive(&mut session, b"0000000006456789"), Ok((16, b"456789".to_vec())));
    feed(&mut session, b"00000000000000000015crc32c e3069283");
    assert!(!session.is_receiving());
    assert_eq!(session.poll_event(), Some(ServerEvent::Commit { size: 9, crc: Some(CHECK) }));
    assert_eq!((sent(&mut session).as_str(), session.poll_event()), ("", None));
    session.answer(Answer::Stored { size: 9, crc: Some(CHECK) }).unwrap();
    assert_eq!((sent(&mut session).as_str(), session.is_idle()), ("0000000013ok 9 e3069283", true));
}

#[test]
fn a_body_may_be_cut_into_data_messages_anywhere() {
    for first in 1..9 {
        for second in first + 1..=9 {
            let (mut connection, store) = server();
            connection.send(&message("write 0 9 - d"));
            for part in [&b"123456789"[..first], &b"123456789"[first..second], &b"123456789"[second..]] {
                if !part.is_empty() {
                    connection.send(&message(part));
                }
            }
            connection.send(&body(b"", CHECK));
            assert_eq!(received(&mut connection), "0000000013ok 9 e3069283");
            assert_eq!(store.files()["d"], b"123456789");
        }
    }
}

#[test]
fn an_empty_file_has_no_payload() {
    let mut session = session();
    start_write(&mut session, "write 0 0 - d");
    feed(&mut session, b"0000000000");
    assert_eq!(session.payload_in(), None);
    feed(&mut session, b"0000000015crc32c 00000000");
    assert_eq!(session.poll_event(), Some(ServerEvent::Commit { size: 0, crc: Some(0) }));
}

#[test]
fn bytes_beyond_size_are_never_handed_out() {
    for content in ["1234", "123456789", "123\u{0}"] {
        for cut in 1..content.len() {
            let mut session = session();
            start_write(&mut session, "write 0 3 - d");
            let (first, second) = content.as_bytes().split_at(cut);
            let wire = [message(first), body(second, crc32c(content.as_bytes())), message("ping")].concat();
            let mut delivered = Vec::new();
            let rest = pour(&mut session, &wire, &mut delivered);
            assert_eq!((delivered.as_slice(), rest), (&content.as_bytes()[..3], &b"0000000004ping"[..]));
            assert_eq!(session.poll_event(), Some(ServerEvent::Discard));
            feed(&mut session, rest);
            assert_eq!(sent(&mut session), error(ErrorCode::Mismatch) + "0000000002ok");
        }
    }
}

#[test]
fn a_huge_data_message_hands_out_no_more_than_size() {
    let mut session = session();
    start_write(&mut session, "write 0 3 - d");
    let mut delivered = Vec::new();
    pour(&mut session, b"9999999999abc", &mut delivered);
    assert_eq!((delivered.as_slice(), session.payload_in()), (&b"abc"[..], None));
    feed(&mut session, vec![b'x'; 100_000]);
    assert_eq!(session.payload_in(), None);
}

#[test]
fn a_body_continues_behind_what_is_staged() {
    let mut session = session();
    feed(&mut session, message("write 4 9 - d"));
    take_request(&mut session);
    session.answer(Answer::Write { crc: 0xf63a_f4ee }).unwrap();
    let mut delivered = Vec::new();
    pour(&mut session, &body(b"56789", CHECK), &mut delivered);
    assert_eq!(
        (delivered.as_slice(), session.poll_event()),
        (&b"56789"[..], Some(ServerEvent::Commit { size: 9, crc: Some(CHECK) }))
    );
}

#[test]
fn a_body_whose_bytes_are_all_staged_is_a_trailer() {
    let mut session = session();
    feed(&mut session, message("write 9 9 - d"));
    take_request(&mut session);
    session.answer(Answer::Write { crc: CHECK }).unwrap();
    feed(&mut session, body(b"", CHECK));
    assert_eq!(session.poll_event(), Some(ServerEvent::Commit { size: 9, crc: Some(CHECK) }));
}

#[test]
fn wrong_totals_and_wrong_checksums_are_a_mismatch() {
    for (content, crc) in [("12345678", crc32c(b"12345678")), ("", 0), ("123456789", CHECK ^ 1), ("1234567890", CHECK)]
    {
        let (mut connection, store) = server();
        store.put_file("d", b"good");
        connection.send(&[message("write 0 9 - d"), body(content.as_bytes(), crc), message("ping")].concat());
        assert_eq!(received(&mut connection), error(ErrorCode::Mismatch) + "0000000002ok", "{content}");
        assert_eq!((store.files()["d"].as_slice(), store.stages()), (&b"good"[..], 0));
    }
}

#[test]
fn a_trailer_that_is_neither_form_is_a_mismatch() {
    for trailer in [
        "",
        " ",
        "ok",
        "crc32c",
        "crc32c ",
        "crc32c e306928",
        "crc32c E3069283",
        "crc32c e3069283 ",
        "crc32c  e3069283",
        "CRC32C e3069283",
        "crc32c e3069283\n",
        "crc32ce3069283",
        "aborted io",
        "Abort io",
        " abort io",
        "\u{0}",
    ] {
        let (mut connection, store) = server();
        connection.send(&[message("write 0 9 - d"), message("123456789"), message(""), message(trailer)].concat());
        assert_eq!((received(&mut connection), store.stages()), (error(ErrorCode::Mismatch), 0), "{trailer:?}");
    }
    let (mut connection, _) = server();
    connection.send(
        &[message("write 0 1 - d"), message("1"), message(""), message(b"crc32c \xff\xff\xff\xff\xff\xff\xff\xff")]
            .concat(),
    );
    assert_eq!(received(&mut connection), error(ErrorCode::Mismatch));
}

#[test]
fn an_abort_is_answered_with_its_code_and_the_servers_own_text() {
    let aborts = ErrorCode::ALL.iter().map(|code| (format!("abort {code} what\tthe client says"), *code));
    let other = ["abort", "abort ", "abort x", "abort frobnicated by hand", "abort IO x", "abort  io", "abort io\n"];
    for (trailer, code) in aborts.chain(other.map(|trailer| (trailer.into(), ErrorCode::Io))) {
        let (mut connection, store) = server();
        store.put_file("d", b"good");
        let wire = [message("write 0 9 - d"), message("123"), message(""), message(&trailer), message("ping")];
        connection.send(&wire.concat());
        assert_eq!(received(&mut connection), error(code) + "0000000002ok", "{trailer:?}");
        assert_eq!((store.files()["d"].as_slice(), store.stages()), (&b"good"[..], 0));
    }
}

#[test]
fn an_abort_of_a_whole_body_is_an_abort() {
    let (mut connection, store) = server();
    connection.send(&[message("write 0 1 - d"), message("1"), message(""), message("abort cancelled x")].concat());
    assert_eq!((received(&mut connection), store.files().len()), (error(ErrorCode::Cancelled), 0));
}

#[test]
fn a_trailer_of_512_bytes_is_read() {
    let (mut connection, _) = server();
    let trailer = format!("abort denied {}", "x".repeat(499));
    assert_eq!(trailer.len(), 512);
    connection.send(&[message("write 0 9 - d"), message(""), message(trailer), message("ping")].concat());
    assert_eq!(received(&mut connection), error(ErrorCode::Denied) + "0000000002ok");
}

#[test]
fn a_longer_trailer_ends_the_connection() {
    for accepted in [true, false] {
        let mut session = session();
        feed(&mut session, message("write 0 9 - d"));
        take_request(&mut session);
        if accepted {
            session.answer(Answer::Write { crc: 0 }).unwrap();
        } else {
            session.refuse(ErrorCode::Busy.into()).unwrap();
            assert_eq!(sent(&mut session), error(ErrorCode::Busy));
        }
        assert_eq!(take(&mut session, b"00000000000000000513"), Err(ProtocolError::TooLong { length: 513 }));
        // What was staged is not the file.
        assert_eq!(session.poll_event(), accepted.then_some(ServerEvent::Discard));
        assert_eq!((sent(&mut session), session.poll_close()), (error(ErrorCode::TooLong), Some(Close::Gracefully)));
    }
}

#[test]
fn a_bad_length_inside_a_body_ends_the_connection_and_keeps_what_is_staged() {
    let (mut connection, store) = server();
    connection.send(b"0000000013write 0 9 - d00000000041234-000000001");
    assert_eq!((received(&mut connection), connection.end()), (error(ErrorCode::BadLength), Some(Close::Gracefully)));
    assert_eq!((connection.error(), store.staged_bytes("d")), (Some(ProtocolError::BadLength), Some(b"1234".to_vec())));
}

#[test]
fn the_end_of_the_stream_at_every_place_of_a_body_keeps_what_is_staged() {
    let wire = [message("write 0 9 - d"), message("1234"), message("56789"), body(b"", CHECK)].concat();
    for end in 23..=wire.len() {
        let (mut connection, store) = server();
        store.put_file("d", b"good");
        connection.send(&wire[..end]);
        connection.close();
        assert_eq!(connection.end(), Some(Close::Gracefully));
        if end == wire.len() {
            assert_eq!(received(&mut connection), "0000000013ok 9 e3069283");
            assert_eq!((store.files()["d"].as_slice(), store.stages()), (&b"123456789"[..], 0));
            continue;
        }
        let staged = end.saturating_sub(33).min(4) + end.saturating_sub(47).min(5);
        assert_eq!((received(&mut connection).as_str(), store.files()["d"].as_slice()), ("", &b"good"[..]));
        let expected = (staged > 0).then(|| b"123456789"[..staged].to_vec());
        assert_eq!(store.staged_bytes("d"), expected, "{end}");
    }
}

#[test]
fn the_end_of_the_stream_inside_a_refused_body_closes() {
    let wire = [message("write 0 9 - .."), body(b"123456789", CHECK)].concat();
    for end in 24..=wire.len() {
        let (mut connection, _) = server();
        connection.send(&wire[..end]);
        connection.close();
        assert_eq!((received(&mut connection), connection.end()), (refused(NameError::Dots), Some(Close::Gracefully)));
    }
}

#[test]
fn a_refused_write_is_answered_before_its_body_and_its_body_is_discarded() {
    let mut session = session();
    feed(&mut session, message("write 0 9 - d"));
    take_request(&mut session);
    session.refuse(ErrorCode::NoSpace.into()).unwrap();
    assert_eq!(sent(&mut session), error(ErrorCode::NoSpace));
    for piece in [message("1234"), message("more than nine bytes"), message(""), message("crc32c -")] {
        feed(&mut session, piece);
        assert_eq!((session.payload_in(), sent(&mut session).as_str(), session.poll_event()), (None, "", None));
    }
    feed(&mut session, b"0000000004ping");
    assert_eq!(sent(&mut session), "0000000002ok");
}

#[test]
fn a_refused_body_may_be_cut_short_with_abort() {
    let (mut connection, _) = server();
    connection.send(&[message("write 0 9 - .."), message(""), message("abort cancelled x"), message("ping")].concat());
    assert_eq!(received(&mut connection), refused(NameError::Dots) + "0000000002ok");
}

#[test]
fn a_write_that_fails_in_the_middle_is_refused_once_and_the_rest_discarded() {
    for appends in 0..3 {
        let (mut connection, store) = server();
        store.put_file("d", b"good");
        store.fail(Operation::Append, appends, ErrorCode::NoSpace);
        connection.send(&message("write 0 9 - d"));
        for piece in ["123", "456", "789"] {
            connection.send(&message(piece));
        }
        assert_eq!(received(&mut connection), error(ErrorCode::NoSpace));
        connection.send(&[body(b"", CHECK), message("ping")].concat());
        assert_eq!(received(&mut connection), "0000000002ok");
        assert_eq!((store.files()["d"].as_slice(), store.stages()), (&b"good"[..], 0));
    }
}

#[test]
fn a_commit_that_fails_keeps_the_old_file() {
    for changes in [Changes::AtOnce, Changes::Batched] {
        let (mut connection, store) = server_with(limits(), Pace { changes, ..Pace::default() });
        store.put_file("d", b"good");
        store.fail(Operation::Commit, 0, ErrorCode::Io);
        connection.send(&[message("write 0 9 - d"), body(b"123456789", CHECK), message("ping")].concat());
        assert_eq!(received(&mut connection), error(ErrorCode::Io) + "0000000002ok");
        assert_eq!(store.files()["d"], b"good");
    }
}

#[test]
fn a_commit_may_take_a_while() {
    let (mut connection, store) = server();
    store.set_pending_commits(5);
    store.set_append_max(2);
    connection.send(&[message("write 0 9 - d"), body(b"123456789", CHECK)].concat());
    assert_eq!(received(&mut connection), "0000000013ok 9 e3069283");
    assert_eq!(store.files()["d"], b"123456789");
}

#[test]
fn a_body_without_a_checksum_is_taken_only_by_a_server_that_says_so_and_from_the_beginning() {
    for (nocrc, offset, content, expected) in [
        (true, 0, "123456789", "0000000006ok 9 -".to_owned()),
        (true, 0, "12345678", error(ErrorCode::Mismatch)),
        (true, 4, "56789", error(ErrorCode::Unsupported)),
        (false, 0, "123456789", error(ErrorCode::Unsupported)),
        (false, 4, "56789", error(ErrorCode::Unsupported)),
    ] {
        let limits = Limits { nocrc, ..limits() };
        let (mut connection, store) = server_with(limits, Pace::default());
        let mut first: Connection<BUF> = Connection::new(limits, store.clone(), Pace::default());
        first.send(&[message("write 0 9 - d"), message("1234")].concat());
        first.close();
        let wire = [
            message(format!("write {offset} 9 - d")),
            message(content),
            message(""),
            message("crc32c -"),
            message("ping"),
        ];
        connection.send(&wire.concat());
        assert_eq!(received(&mut connection), format!("{expected}0000000002ok"), "{nocrc} {offset} {content}");
        assert_eq!((store.files().len(), store.stages()), (usize::from(expected.contains("ok")), 0));
    }
}

#[test]
fn a_refused_write_changes_nothing_that_is_staged() {
    let (mut connection, store) = server();
    let mut first: Connection<BUF> = Connection::new(limits(), store.clone(), Pace::default());
    first.send(&[message("write 0 9 - d"), message("1234")].concat());
    first.close();
    for command in ["write 5 9 - d", "write 3 9 - d", "write 5 4 - d", "write 4 9 x d"] {
        connection.send(&[message(command), body(b"56789", CHECK)].concat());
        assert_eq!(store.staged_bytes("d").unwrap(), b"1234", "{command}");
    }
    store.set_capacity(8);
    connection.send(&[message("write 0 9 - d"), body(b"123456789", CHECK)].concat());
    assert_eq!(store.staged_bytes("d").unwrap(), b"1234");
    connection.send(&message("remove d"));
    connection.take_output();
    connection.send(&message("resume 8 d"));
    connection.send(&message("resume 3 d"));
    assert_eq!(received(&mut connection), "0000000013ok 4 f63af4ee0000000013ok 0 00000000");
}
