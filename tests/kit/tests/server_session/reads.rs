//! PROTOCOL §7: the bodies of `read` and `list`.

use skiff_kit::memory::{Layout, MemoryStore, Operation};
use skiff_kit::reluctant::{Changes, Reluctant};
use skiff_kit::sans_io::{Pace, body, message, payloads};
use skiff_proto::crc::crc32c;
use skiff_proto::reply::Tag;
use skiff_proto::responder::{NoServices, Responder};
use skiff_proto::server::{Answer, Limits};
use skiff_proto::{ErrorCode, InvalidState, SendError};

use super::*;

/// Begins a `read` whose reply and body have the given LENGTH.
fn start_read(session: &mut Session, length: u64) {
    feed(session, message("read 0 * a"));
    take_request(session);
    session.answer(Answer::Read { length, size: length, tag: Tag::UNKNOWN }).unwrap();
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
        let output = connection.take_output();
        let payloads = payloads(&output).unwrap();
        let [b"ok", data @ .., b"", trailer] = &payloads[..] else { panic!("{}", output.escape_ascii()) };
        assert_eq!(String::from_utf8_lossy(&data.concat()), lines.concat());
        assert_eq!(String::from_utf8_lossy(trailer), format!("crc32c {crc:08x}"));
    }
}

#[test]
fn a_list_is_whole_though_the_store_is_not_always_ready() {
    let memory = MemoryStore::new(Layout::Flat);
    let names: Vec<_> = (10..30).map(|number| format!("f{number}")).collect();
    names.iter().for_each(|name| memory.put_file(name, b""));
    let lines: String = names.iter().map(|name| format!("0 - - {name}\n")).collect();
    for seed in 0..20 {
        let (mut store, mut session) = (Reluctant::new(memory.clone(), Changes::Random(seed)), session());
        let (mut responder, mut output) = (Responder::new(), Vec::new());
        assert_eq!(responder.receive(&mut session, &mut store, &mut message("list")), 14);
        for _ in 0..1000 {
            _ = responder.step(&mut session, &mut store, &mut NoServices);
            let mut room = [0; 4096];
            let n = responder.transmit(&mut session, &mut store, &mut room);
            output.extend_from_slice(&room[..n]);
        }
        let payloads = payloads(&output).unwrap();
        let [b"ok", data @ .., b"", _] = &payloads[..] else { panic!("{}", output.escape_ascii()) };
        assert_eq!(String::from_utf8_lossy(&data.concat()), lines, "{seed}");
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
    for number in 10..30 {
        store.put_file(&format!("f{number}"), b"");
    }
    // Not all lines go into one data message.
    store.fail(Operation::NextEntry, 18, ErrorCode::Io);
    connection.send(&[message("list"), message("ping")].concat());
    let output = connection.take_output();
    let payloads = payloads(&output).unwrap();
    let [b"ok", first, .., b"", b"abort io the storage failed", b"ok"] = &payloads[..] else {
        panic!("{}", output.escape_ascii())
    };
    assert!(first.starts_with(b"0 - - f10\n"), "{}", first.escape_ascii());
}
