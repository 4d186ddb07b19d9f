//! PROTOCOL §7: bodies, trailers, `write`.

use skiff_proto::crc::crc32c;
use skiff_proto::reply::Tag;
use skiff_proto::server::{Answer, Close, Limits, ServerEvent};
use skiff_proto::{ErrorCode, InvalidState, Payload, ProtocolError, SendError};
use skiff_tests::memory::Operation;
use skiff_tests::sans_io::{Changes, Pace, body, message, payloads};

use super::*;

/// CRC-32C of `123456789`.
const CHECK: u32 = 0xe306_9283;

/// Begins a `read` whose reply and body have the given LENGTH.
fn start_read(session: &mut Session, length: u64) {
    feed(session, message("read 0 * a"));
    take_request(session);
    session.answer(Answer::Read { length, size: length, tag: Tag::UNKNOWN }).unwrap();
}

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
fn a_refused_write_is_answered_before_its_body_and_its_body_is_thrown_away() {
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
fn a_write_that_fails_in_the_middle_is_refused_once_and_the_rest_thrown_away() {
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

#[test]
fn a_body_that_is_sent_is_cut_by_its_limit_and_ends_with_its_checksum() {
    let mut session = session_with(Limits { data_max: 5, ..limits() });
    start_read(&mut session, 9);
    assert!(session.is_sending() && session.opaque().is_none());
    assert_eq!(put(&mut session, b"1"), Err(SendError::InvalidState), "the reply is still queued");
    assert_eq!(sent(&mut session), "0000000008ok 9 9 -");
    assert_eq!((session.left(), session.is_in_data()), (Some(9), false));
    assert_eq!(put(&mut session, b"1234").unwrap(), "00000000051234");
    assert_eq!((session.left(), session.is_in_data()), (Some(5), true));
    assert_eq!(session.finish(), Err(InvalidState), "five bytes are missing");
    assert_eq!(put(&mut session, b"5").unwrap(), "5");
    assert_eq!((session.left(), session.is_in_data()), (Some(4), false));
    assert_eq!(put(&mut session, b"6789").unwrap(), "00000000046789");
    assert_eq!(put(&mut session, b"0"), Err(SendError::InvalidState), "all has been sent");
    session.finish().unwrap();
    assert_eq!(sent(&mut session), "00000000000000000015crc32c e3069283");
    assert!(session.is_idle());
}

#[test]
fn payload_goes_out_through_rooms_of_any_size() {
    for size in 1..30 {
        let mut session = session_with(Limits { data_max: 5, ..limits() });
        start_read(&mut session, 9);
        sent(&mut session);
        let mut wire: Vec<u8> = Vec::new();
        let mut rest = &b"123456789"[..];
        while session.left() != Some(0) || session.has_output() {
            let mut room = vec![0; size];
            let mut n = session.poll_transmit(&mut room);
            if n == 0 {
                let sent = session.send(&mut room, |room| {
                    let n = room.len().min(rest.len());
                    room[..n].copy_from_slice(&rest[..n]);
                    rest = &rest[n..];
                    Ok::<_, Infallible>(n)
                });
                n = sent.unwrap();
                assert!(n > 0, "{size}");
            }
            wire.extend(&room[..n]);
        }
        assert_eq!(wire, b"00000000051234500000000046789", "{size}");
    }
}

#[test]
fn a_fill_that_fails_or_has_nothing_changes_nothing() {
    for begun in [false, true] {
        let mut session = session();
        start_read(&mut session, 9);
        sent(&mut session);
        if begun {
            put(&mut session, b"1").unwrap();
        }
        let before = format!("{session:?}");
        let mut room = [0; 20];
        assert_eq!(session.send(&mut room, |_| Err(7)), Err(SendError::Fill(7)));
        assert_eq!(session.send(&mut room, |_| Ok::<_, ()>(0)), Ok(0));
        assert_eq!(session.send(&mut [], |room| Ok::<_, ()>(room.len())), Ok(0));
        assert_eq!(format!("{session:?}"), before);
    }
}

#[test]
fn a_body_of_no_bytes_is_its_end() {
    let mut session = session();
    start_read(&mut session, 0);
    assert_eq!((sent(&mut session).as_str(), session.left()), ("0000000008ok 0 0 -", Some(0)));
    session.finish().unwrap();
    assert_eq!(sent(&mut session), "00000000000000000015crc32c 00000000");
}

#[test]
fn no_message_is_longer_than_ten_digits_can_say() {
    let mut session = session_with(Limits { data_max: u32::MAX, ..limits() });
    start_read(&mut session, u64::MAX);
    assert_eq!(sent(&mut session), reply(format!("ok {0} {0} -", u64::MAX)));
    assert_eq!(put(&mut session, b"1").unwrap(), "42949672951");
    let mut opaque = session.opaque().unwrap();
    assert_eq!(opaque.remaining(), 4_294_967_294);
    assert_eq!(opaque.advance(4_294_967_295), Err(InvalidState));
    opaque.advance(4_294_967_294).unwrap();
    assert_eq!(session.left(), Some(u64::MAX - 4_294_967_295));
}

#[test]
fn a_body_that_can_not_continue_is_filled_up_with_zeros_and_aborted() {
    let trailer = "abort changed the file changed while it was read";
    for moved in 1..=4 {
        let mut session = session_with(Limits { data_max: 4, ..limits() });
        start_read(&mut session, 9);
        sent(&mut session);
        put(&mut session, &b"1234"[..moved]).unwrap();
        session.abort(ErrorCode::Changed).unwrap();
        assert_eq!((session.is_in_data(), session.is_sending()), (false, false));
        let zeros = "\\x00".repeat(4 - moved);
        assert_eq!(sent(&mut session), format!("{zeros}0000000000{}", reply(trailer)), "{moved}");
        assert!(session.is_idle());
        feed(&mut session, b"0000000004ping");
        assert_eq!(sent(&mut session), "0000000002ok");
    }
}

#[test]
fn a_body_may_be_aborted_before_and_between_its_data_messages() {
    for moved in [0, 4] {
        let mut session = session_with(Limits { data_max: 4, ..limits() });
        start_read(&mut session, 9);
        if moved > 0 {
            sent(&mut session);
            put(&mut session, &b"1234"[..moved]).unwrap();
        }
        session.abort(ErrorCode::Io).unwrap();
        let head = if moved == 0 { "0000000008ok 9 9 -" } else { "" };
        assert_eq!(sent(&mut session), format!("{head}0000000000{}", reply("abort io the storage failed")));
    }
}

#[test]
fn zeros_go_out_through_a_buffer_of_any_size() {
    for size in 1..20 {
        let mut session = session_with(Limits { data_max: 50, ..limits() });
        start_read(&mut session, 100);
        sent(&mut session);
        put(&mut session, b"\0").unwrap();
        session.abort(ErrorCode::Io).unwrap();
        let mut wire = b"0000000050\0".to_vec();
        let mut out = vec![0xff; size];
        loop {
            let n = session.poll_transmit(&mut out);
            wire.extend(&out[..n]);
            if n == 0 {
                break;
            }
        }
        let payloads = payloads(&wire).unwrap();
        assert_eq!(payloads, [&[0; 50][..], b"", b"abort io the storage failed"]);
    }
}

#[test]
fn payload_may_be_moved_past_the_session_and_a_checksum_supplied() {
    for (crc, trailer) in [(None, "crc32c e3069283"), (Some(Some(7)), "crc32c 00000007"), (Some(None), "crc32c -")] {
        let mut session = session();
        start_read(&mut session, 9);
        if let Some(crc) = crc {
            session.supply_crc(crc).unwrap();
        }
        sent(&mut session);
        assert!(session.opaque().is_none(), "no message has begun");
        assert_eq!(put(&mut session, b"123").unwrap(), "0000000009123");
        let mut opaque = session.opaque().unwrap();
        assert_eq!((opaque.remaining(), opaque.wants_sum()), (6, crc.is_none()));
        opaque.sum(b"4567");
        opaque.advance(2).unwrap();
        opaque.sum(b"89");
        opaque.advance(4).unwrap();
        assert!(session.opaque().is_none());
        assert_eq!(session.crc(), crc.is_none().then_some(CHECK));
        session.finish().unwrap();
        assert_eq!(sent(&mut session), format!("0000000000{}", reply(trailer)));
    }
}

#[test]
fn read_sends_what_the_range_says() {
    let (mut connection, store) = server();
    store.put_file("f", b"hello\n");
    for (command, length, content) in [
        ("read 0 * f", 6, "hello\n"),
        ("read 0 6 f", 6, "hello\n"),
        ("read 0 7 f", 6, "hello\n"),
        ("read 4 1 f", 1, "o"),
        ("read 5 18446744073709551615 f", 1, "\n"),
        ("read 6 * f", 0, ""),
        ("read 3 0 f", 0, ""),
    ] {
        connection.send(&message(command));
        let expected =
            [message(format!("ok {length} 6 0000000000001")), body(content.as_bytes(), crc32c(content.as_bytes()))];
        assert_eq!(received(&mut connection), expected.concat().escape_ascii().to_string(), "{command}");
    }
    connection.send(&message("sum 4 1 f"));
    connection.send(&message("sum 6 * f"));
    assert_eq!(received(&mut connection), "0000000013ok 1 6da8fc170000000013ok 0 00000000");
}

#[test]
fn a_file_replaced_while_it_is_read_arrives_as_it_was() {
    let (mut reader, store) = server_with(limits(), Pace { data: 4, output: 4, ..Pace::default() });
    store.put_file("f", b"123456789");
    reader.set_room(60);
    reader.send(&message("read 0 * f"));
    let mut writer: Connection<BUF> = Connection::new(limits(), store.clone(), Pace::default());
    writer.send(&[message("write 0 1 - f"), body(b"1", 0x90f5_99e3)].concat());
    assert_eq!(received(&mut writer), "0000000013ok 1 90f599e3");
    reader.set_room(usize::MAX);
    let output = reader.take_output();
    let payloads = payloads(&output).unwrap();
    assert_eq!(payloads[1..], [&b"1234"[..], b"5678", b"9", b"", b"crc32c e3069283"]);
}

#[test]
fn a_read_that_fails_in_the_middle_keeps_the_framing() {
    for reads in 0..3 {
        let (mut connection, store) = server_with(limits(), Pace { data: 6, output: 3, ..Pace::default() });
        store.put_file("f", b"123456789");
        store.fail(Operation::ReadAt, reads, ErrorCode::Io);
        connection.send(&[message("read 0 * f"), message("ping")].concat());
        let data: &[u8] = [&[0; 6], b"123\0\0\0", b"123456"][reads as usize];
        let last: &[&[u8]] = if reads == 2 { &[&[0; 3]] } else { &[] };
        let output = connection.take_output();
        let expected =
            [&[&b"ok 9 9 0000000000001"[..], data], last, &[b"", b"abort io the storage failed", b"ok"]].concat();
        assert_eq!(payloads(&output).unwrap(), expected);
    }
}

#[test]
fn list_is_as_many_data_messages_as_the_driver_likes() {
    let mut session = session();
    feed(&mut session, b"0000000004list");
    take_request(&mut session);
    session.answer(Answer::List { omitted: 0 }).unwrap();
    assert_eq!((sent(&mut session).as_str(), session.left()), ("0000000002ok", None));
    let mut all = Vec::new();
    for number in 0..1000 {
        let line = format!("{number} - - f{number}\n").into_bytes();
        assert_eq!(put(&mut session, &line).unwrap(), reply(&line));
        all.extend(line);
    }
    session.finish().unwrap();
    assert_eq!(sent(&mut session), format!("00000000000000000015crc32c {:08x}", crc32c(&all)));
}

#[test]
fn list_shows_hidden_files_and_directories_but_nothing_staged() {
    let (mut connection, store) = server();
    for (file, content) in [("a b", "123456789"), (".h", ""), ("d/x", "1"), ("olá", "")] {
        let crc = crc32c(content.as_bytes());
        connection
            .send(&[message(format!("write 0 {} 17 {file}", content.len())), body(content.as_bytes(), crc)].concat());
    }
    connection.take_output();
    let mut other: Connection<BUF> = Connection::new(limits(), store, Pace::default());
    other.send(&[message("write 0 9 - staged"), message("1234")].concat());
    for (command, lines) in [
        ("list", &["0 17 00000000 .h\n", "9 17 e3069283 a b\n", "0 17 00000000 olá\n", "0 - - d/\n"][..]),
        ("list d", &["1 17 90f599e3 d/x\n"]),
    ] {
        connection.send(&message(command));
        let crc = crc32c(lines.concat().as_bytes());
        let mut expected = message("ok");
        expected.extend(lines.iter().flat_map(message));
        expected.extend(body(b"", crc));
        assert_eq!(received(&mut connection), expected.escape_ascii().to_string());
    }
}

#[test]
fn list_of_nothing_is_an_empty_body() {
    let (mut connection, _) = server();
    connection.send(&message("list"));
    assert_eq!(received(&mut connection), "0000000002ok00000000000000000015crc32c 00000000");
}

#[test]
fn a_list_that_fails_in_the_middle_is_aborted() {
    let (mut connection, store) = server();
    store.put_file("a", b"");
    store.put_file("b", b"");
    store.fail(Operation::NextEntry, 1, ErrorCode::Io);
    connection.send(&[message("list"), message("ping")].concat());
    let output = connection.take_output();
    let expected: [&[u8]; 5] = [b"ok", b"0 - - a\n", b"", b"abort io the storage failed", b"ok"];
    assert_eq!(payloads(&output).unwrap(), expected);
}
