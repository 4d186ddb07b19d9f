//! PROTOCOL §1, §5, §7: timeouts.

use core::time::Duration;

use skiff_kit::sans_io::{body, message};
use skiff_proto::reply::Tag;
use skiff_proto::server::{Answer, Close, Limits, ServerEvent};
use skiff_proto::{ErrorCode, Instant, MinRate};

use super::*;

/// What happens to a session, in words and in calls.
type Case<'a> = (&'static str, &'a dyn Fn(&mut Session));

/// 60 s idle, 1,024 bytes in 30 s.
fn at(seconds: u64) -> Instant {
    Instant::from_millis(1 + seconds * 1000)
}

fn without_rate() -> Session {
    session_with(Limits { min_rate: MinRate::NONE, ..limits() })
}

#[test]
fn an_idle_connection_is_closed_without_a_message() {
    let mut session = session();
    assert_eq!(session.poll_timeout(), Some(at(60)));
    session.handle_timeout(Instant::from_millis(60_000));
    assert_eq!(session.poll_close(), None);
    session.handle_timeout(at(60));
    assert_eq!((sent(&mut session).as_str(), session.poll_close()), ("", Some(Close::Gracefully)));
}

#[test]
fn a_session_that_rests_is_made_again_with_its_clock() {
    let mut session = session();
    session.handle_timeout(at(50));
    feed(&mut session, b"0000000004ping");
    assert!(session.park().is_none(), "an answer is to be sent");
    assert_eq!(sent(&mut session), "0000000002ok");
    let rest = session.park().unwrap();
    assert_eq!(rest.poll_timeout(&limits()), at(110));
    let mut session = Session::resume(limits(), rest);
    assert_eq!(session.poll_timeout(), Some(at(110)));
    session.handle_timeout(at(109));
    assert_eq!(session.poll_close(), None);
    feed(&mut session, b"0");
    assert!(session.park().is_none(), "a message has begun");
    feed(&mut session, b"000000004ping");
    assert_eq!(sent(&mut session), "0000000002ok");
    let mut ended = Session::resume(limits(), session.park().unwrap());
    ended.handle_eof();
    assert!(ended.park().is_none(), "the peer has ended");
    let mut late = Session::resume(limits(), session.park().unwrap());
    late.handle_timeout(at(169));
    assert_eq!((sent(&mut late).as_str(), late.poll_close()), ("", Some(Close::Gracefully)));
    assert!(late.park().is_none());
}

#[test]
fn every_byte_in_either_direction_counts_from_its_moment() {
    let mut session = session();
    session.handle_timeout(at(50));
    feed(&mut session, b"0");
    assert_eq!(session.poll_timeout(), Some(at(110)));
    session.handle_timeout(at(109));
    feed(&mut session, b"000000004ping");
    session.handle_timeout(at(160));
    assert_eq!(session.poll_timeout(), Some(at(169)));
    assert_eq!(sent(&mut session), "0000000002ok");
    assert_eq!((session.poll_timeout(), session.poll_close()), (Some(at(220)), None));
}

#[test]
fn an_empty_message_keeps_the_connection_alive() {
    let mut session = session();
    for minute in 1..10 {
        session.handle_timeout(at(minute * 59));
        feed(&mut session, b"0000000000");
        assert_eq!(session.poll_close(), None);
    }
}

#[test]
fn a_clock_that_goes_backwards_does_no_harm() {
    let mut session = session();
    session.handle_timeout(at(50));
    session.handle_timeout(at(10));
    feed(&mut session, b"0000000000");
    assert_eq!(session.poll_timeout(), Some(at(110)));
}

#[test]
fn a_clock_may_begin_at_zero() {
    let mut session = Session::new(limits());
    session.handle_timeout(Instant::ZERO);
    assert_eq!(session.poll_timeout(), Some(Instant::from_millis(60_000)));
    session.handle_timeout(Instant::from_millis(60_000));
    assert_eq!(session.poll_close(), Some(Close::Gracefully));
}

#[test]
fn silence_inside_a_command_closes_without_a_message() {
    for part in [&b"00000"[..], b"0000000004pi", b"0000000100xxx", b"0000065536"] {
        let mut session = session();
        feed(&mut session, part);
        session.handle_timeout(at(60));
        let closed = (sent(&mut session), session.poll_close());
        assert_eq!(closed, (String::new(), Some(Close::Gracefully)), "{}", part.escape_ascii());
    }
}

#[test]
fn silence_inside_an_accepted_body_is_answered_timeout_and_keeps_what_is_staged() {
    let limits = Limits { min_rate: MinRate::NONE, ..limits() };
    for part in
        [&b""[..], b"00000", b"00000000041234", b"000000000412340000000000", b"0000000004123400000000000000000015crc"]
    {
        let (mut connection, store) = server_with(limits, Pace::default());
        connection.send(&[&message("write 0 9 - d"), part].concat());
        connection.wait(Duration::from_secs(59));
        assert_eq!(connection.end(), None);
        connection.wait(Duration::from_secs(1));
        assert_eq!((received(&mut connection), connection.end()), (error(ErrorCode::Timeout), Some(Close::Gracefully)));
        assert_eq!(store.staged_bytes("d"), (part.len() > 10).then(|| b"1234".to_vec()));
    }
}

#[test]
fn silence_inside_a_refused_body_closes_without_a_second_reply() {
    let mut session = without_rate();
    feed(&mut session, message("write 0 9 - .."));
    assert_eq!(sent(&mut session), refused(NameError::Dots));
    session.handle_timeout(at(60));
    assert_eq!((sent(&mut session).as_str(), session.poll_close()), ("", Some(Close::Gracefully)));
}

#[test]
fn a_client_that_does_not_read_is_reset() {
    let read = |session: &mut Session| {
        feed(session, message("read 0 * a"));
        take_request(session);
        session.answer(Answer::Read { length: 9, size: 9, tag: Tag::UNKNOWN }).unwrap();
    };
    let cases: [Case<'_>; 6] = [
        ("a reply", &|session| feed(session, message("ping"))),
        ("a command behind it", &|session| feed(session, [message("ping"), message("stat x")].concat())),
        ("a reply to quit", &|session| feed(session, [message("ping"), message("quit")].concat())),
        ("the head of a body", &read),
        ("a body", &|session| {
            read(session);
            sent(session);
            put(session, b"1").unwrap();
        }),
        ("zeros", &|session| {
            read(session);
            sent(session);
            put(session, b"1").unwrap();
            session.abort(ErrorCode::Io).unwrap();
        }),
    ];
    for (what, begin) in cases {
        let mut session = without_rate();
        session.handle_timeout(at(10));
        begin(&mut session);
        session.handle_timeout(at(69));
        assert_ne!(session.poll_close(), Some(Close::Reset), "{what}");
        session.handle_timeout(at(70));
        assert_eq!(session.poll_close(), Some(Close::Reset), "{what}");
        assert_eq!(session.poll_timeout(), None);
    }
}

#[test]
fn the_last_replies_of_a_timed_out_connection_get_an_idle_time_of_their_own() {
    let mut session = without_rate();
    start_write(&mut session, "write 0 9 - d");
    session.handle_timeout(at(60));
    assert_eq!((session.poll_close(), session.poll_timeout()), (None, Some(at(120))));
    session.handle_timeout(at(119));
    assert_eq!(session.poll_close(), None);
    session.handle_timeout(at(120));
    assert_eq!(session.poll_close(), Some(Close::Reset));
}

#[test]
fn the_clock_stands_still_while_the_server_works() {
    let cases: [Case<'_>; 4] = [
        ("a command waits for the driver", &|session| feed(session, message("stat a"))),
        ("the driver was asked", &|session| {
            feed(session, message("stat a"));
            take_request(session);
        }),
        ("a commit", &|session| {
            start_write(session, "write 0 0 - d");
            feed(session, body(b"", 0));
            assert!(matches!(session.poll_event(), Some(ServerEvent::Commit { .. })));
        }),
        ("a batch", &|session| {
            feed(session, message("remove a"));
            take_request(session);
            session.defer().unwrap();
        }),
    ];
    for (what, begin) in cases {
        let mut session = session();
        begin(&mut session);
        assert_eq!(session.poll_timeout(), None, "{what}");
        for hour in 1..5 {
            session.handle_timeout(at(hour * 3600));
            assert_eq!(session.poll_close(), None, "{what}");
        }
    }
}

#[test]
fn the_clock_begins_afresh_when_the_server_has_answered() {
    let mut session = session();
    feed(&mut session, message("stat a"));
    take_request(&mut session);
    session.handle_timeout(at(1000));
    session.refuse(ErrorCode::Io.into()).unwrap();
    assert_eq!(session.poll_timeout(), Some(at(1060)));
    session.handle_timeout(at(1059));
    assert_eq!(session.poll_close(), None);
}

#[test]
fn a_client_that_does_not_read_deferred_answers_is_not_waited_for_without_end() {
    let mut session = session();
    for _ in 0..2 {
        feed(&mut session, message("remove a"));
        take_request(&mut session);
        session.defer().unwrap();
    }
    assert_eq!(session.answer_deferred(Ok(Answer::Done)), Ok(true));
    // The first answer does not get out, and the second one waits behind it.
    assert_eq!(session.answer_deferred(Ok(Answer::Done)), Ok(false));
    session.handle_timeout(at(30));
    assert!(session.poll_timeout().is_some(), "the server waits for the client");
    session.handle_timeout(at(130));
    assert_eq!(session.poll_close(), Some(Close::Reset));
}

#[test]
fn progress_of_a_data_connection_counts_for_its_control_connection() {
    let mut session = session();
    for minute in 1..10 {
        session.handle_progress(at(minute * 59));
        assert_eq!((session.poll_timeout(), session.poll_close()), (Some(at(minute * 59 + 60)), None));
        // Told late, after the time at which it would have been too late.
        session.handle_timeout(at(minute * 59 + 30));
        assert_eq!((session.poll_timeout(), session.poll_close()), (Some(at(minute * 59 + 60)), None));
    }
}

#[test]
fn a_body_has_to_make_the_least_progress_in_every_window() {
    for (bytes, ends) in [(0, true), (1000, true), (1023, true), (1024, false), (5000, false)] {
        let mut session = session();
        session.handle_timeout(at(20));
        start_write(&mut session, "write 0 99999 - d");
        feed(&mut session, b"0000099999");
        for second in 1..30 {
            session.handle_timeout(at(20 + second));
            if second == 15 {
                pour(&mut session, &vec![b'x'; bytes - usize::min(bytes, 10)], &mut Vec::new());
            }
        }
        assert_eq!(session.poll_timeout(), Some(at(50)));
        session.handle_timeout(at(50));
        let expected = if ends { error(ErrorCode::Timeout) } else { String::new() };
        assert_eq!(sent(&mut session), expected, "{bytes}");
    }
}

#[test]
fn every_window_of_a_body_counts_for_itself() {
    for (windows, end) in [([5000, 1023, 1024], 60), ([1024, 1024, 0], 90), ([1024, 5000, 1023], 90)] {
        let mut session = session();
        start_write(&mut session, "write 0 99999 - d");
        feed(&mut session, b"0000099999");
        let mut second = 0;
        for bytes in windows {
            if session.is_receiving() {
                // The ten bytes of the length count in the first window.
                let bytes = bytes - if second == 0 { 10 } else { 0 };
                pour(&mut session, &vec![b'x'; bytes], &mut Vec::new());
                session.handle_timeout(at(second + 29));
                assert!(session.is_receiving());
                second += 30;
                session.handle_timeout(at(second));
            }
        }
        assert_eq!((second, sent(&mut session)), (end, error(ErrorCode::Timeout)), "{windows:?}");
    }
}

#[test]
fn a_refused_body_has_to_make_progress_too() {
    let mut session = session();
    feed(&mut session, message("write 0 9 - .."));
    sent(&mut session);
    feed(&mut session, b"0000099999");
    for second in 1..30 {
        session.handle_timeout(at(second));
        feed(&mut session, b"x");
    }
    assert_eq!(session.poll_close(), None);
    session.handle_timeout(at(30));
    assert_eq!((sent(&mut session).as_str(), session.poll_close()), ("", Some(Close::Gracefully)));
}

#[test]
fn one_byte_now_and_then_holds_no_session() {
    let mut session = session();
    start_write(&mut session, "write 0 99999 - d");
    feed(&mut session, b"0000099999");
    let mut second = 0;
    while session.poll_close().is_none() && second < 100 {
        second += 1;
        session.handle_timeout(at(second));
        pour(&mut session, b"x", &mut Vec::new());
        sent(&mut session);
    }
    assert_eq!((second, session.poll_close()), (30, Some(Close::Gracefully)));
}

#[test]
fn a_client_that_reads_a_body_too_slowly_is_reset() {
    let mut session = session();
    feed(&mut session, message("read 0 * a"));
    take_request(&mut session);
    session.answer(Answer::Read { length: 99_999, size: 99_999, tag: Tag::UNKNOWN }).unwrap();
    sent(&mut session);
    for second in 1..30 {
        session.handle_timeout(at(second));
        put(&mut session, b"x").unwrap();
    }
    session.handle_timeout(at(30));
    assert_eq!(session.poll_close(), Some(Close::Reset));
}

#[test]
fn outside_a_body_there_is_no_least_progress() {
    let mut session = session();
    for second in 1..200 {
        session.handle_timeout(at(second * 30));
        feed(&mut session, b"0000000004ping");
        assert_eq!((sent(&mut session).as_str(), session.poll_close()), ("0000000002ok", None));
    }
}

#[test]
fn the_window_of_a_body_begins_with_it_also_if_it_is_refused() {
    let long = "y".repeat(100);
    for command in ["write 0 9 - d", "write 0 9 - ..", "write", &format!("write {long}")] {
        let mut session = session();
        // Nothing for 50 s, which is allowed, then the command.
        session.handle_timeout(at(50));
        feed(&mut session, message(command));
        if session.poll_event().is_some() {
            session.refuse(ErrorCode::Busy.into()).unwrap();
        }
        sent(&mut session);
        session.handle_timeout(at(51));
        assert_eq!(session.poll_close(), None, "{command}");
        feed(&mut session, body(b"123456789", 0));
        feed(&mut session, b"0000000004ping");
        assert_eq!(sent(&mut session), "0000000002ok");
    }
}

#[test]
fn the_window_of_a_body_begins_with_it_also_behind_other_bodies() {
    let mut session = session();
    for start in [0, 25, 50, 75] {
        session.handle_timeout(at(start));
        feed(&mut session, message("write 0 9 - .."));
        sent(&mut session);
        session.handle_timeout(at(start + 20));
        feed(&mut session, body(b"123456789", 0));
        assert_eq!(session.poll_close(), None, "{start}");
    }
}
