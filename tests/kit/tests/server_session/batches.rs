//! PROTOCOL §7: several changes become durable together, and their replies are held until then.

use skiff_kit::reluctant::Changes;
use skiff_kit::sans_io::{Pace, body, message};
use skiff_proto::command::Request;
use skiff_proto::server::{Answer, Close, ServerEvent};
use skiff_proto::{ErrorCode, InvalidState, ProtocolError};

use super::*;

const STORED: Answer = Answer::Stored { size: 0, crc: Some(0) };

/// A session that owes answers to `count` changes, and nothing else.
fn with_deferred(count: usize) -> Session {
    let mut session = session();
    for at in 0..count {
        feed(&mut session, message(format!("remove {at}")));
        take_request(&mut session);
        session.defer().unwrap();
    }
    assert_eq!((usize::from(session.deferred()), sent(&mut session).as_str()), (count, ""));
    session
}

/// Gives a deferred answer that there is room for.
#[track_caller]
fn give(session: &mut Session, answer: Result<Answer, ErrorCode>) {
    assert_eq!(session.answer_deferred(answer.map_err(Into::into)), Ok(true));
}

#[test]
fn commits_and_changes_can_be_put_off() {
    let mut session = session();
    for command in ["remove a", "rename a\nb", "mkdir a", "rmdir a"] {
        feed(&mut session, message(command));
        take_request(&mut session);
        session.defer().unwrap();
    }
    start_write(&mut session, "write 0 0 - d");
    feed(&mut session, body(b"", 0));
    assert_eq!(session.poll_event(), Some(ServerEvent::Commit { size: 0, crc: Some(0) }));
    session.defer().unwrap();
    assert_eq!((session.deferred(), sent(&mut session).as_str(), session.is_idle()), (5, "", false));
    assert_eq!(session.poll_event(), None, "nothing waits: the driver may wait for more");
    let mut replies = String::new();
    for answer in [Ok(Answer::Done), Err(ErrorCode::NotFound), Ok(Answer::Done), Err(ErrorCode::NotEmpty), Ok(STORED)] {
        give(&mut session, answer);
        replies += &sent(&mut session);
    }
    let (not_found, not_empty) = (error(ErrorCode::NotFound), error(ErrorCode::NotEmpty));
    assert_eq!(replies, format!("0000000002ok{not_found}0000000002ok{not_empty}0000000013ok 0 00000000"));
    assert!(session.is_idle());
}

#[test]
fn nothing_else_can_be_put_off() {
    for command in
        ["get a", "put a", "ls", "list", "stat a", "read 0 * a", "resume 1 a", "sum 0 * a", "write 0 1 - a", "space"]
    {
        let mut session = session();
        feed(&mut session, message(command));
        take_request(&mut session);
        assert_eq!(session.defer(), Err(InvalidState), "{command}");
    }
}

#[test]
fn one_deferred_answer_goes_out_at_a_time() {
    let mut session = with_deferred(2);
    give(&mut session, Ok(Answer::Done));
    assert_eq!((session.answer_deferred(Ok(Answer::Done)), session.deferred()), (Ok(false), 1));
    let mut out = [0; 11];
    assert_eq!(session.poll_transmit(&mut out), 11);
    assert_eq!(session.answer_deferred(Ok(Answer::Done)), Ok(false), "one byte is missing");
    assert_eq!(sent(&mut session), "k");
    give(&mut session, Ok(Answer::Done));
    assert_eq!(
        (session.answer_deferred(Ok(Answer::Done)), sent(&mut session).as_str()),
        (Err(InvalidState), "0000000002ok")
    );
}

#[test]
fn an_answer_of_another_kind_does_not_stand_for_a_deferred_one() {
    let mut session = with_deferred(1);
    for answer in [Answer::Port(1), Answer::List { omitted: 0 }, Answer::Write { crc: 0 }, Answer::Ls { length: 0 }] {
        assert_eq!(session.answer_deferred(Ok(answer)), Err(InvalidState));
    }
    assert_eq!(session.deferred(), 1);
}

#[test]
fn a_command_that_could_observe_the_batch_waits_until_it_is_flushed() {
    for command in ["stat a", "list", "ls", "get a", "put a", "read 0 * a", "sum 0 * a", "resume 1 a", "space"] {
        let mut session = with_deferred(2);
        feed(&mut session, message(command));
        assert_eq!(session.poll_event(), Some(ServerEvent::Flush), "{command}");
        give(&mut session, Ok(Answer::Done));
        assert_eq!(session.poll_event(), None, "{command}: the answer has to go out first");
        assert_eq!(sent(&mut session), "0000000002ok");
        assert_eq!(session.poll_event(), Some(ServerEvent::Flush), "{command}: one is still owed");
        give(&mut session, Err(ErrorCode::Io));
        assert_eq!(sent(&mut session), error(ErrorCode::Io));
        take_request(&mut session);
    }
}

#[test]
fn changes_join_the_batch() {
    let mut session = with_deferred(1);
    for command in ["remove a", "rename a\nb", "mkdir a", "rmdir a", "write 0 1 - a"] {
        feed(&mut session, message(command));
        take_request(&mut session);
        if command.starts_with("write") {
            session.answer(Answer::Write { crc: 0 }).unwrap();
            assert!(session.is_receiving());
        } else {
            session.defer().unwrap();
        }
    }
    assert_eq!(session.deferred(), 5);
}

#[test]
fn replies_behind_a_batch_wait_for_it() {
    for (command, reply) in [
        ("ping", "0000000002ok".into()),
        ("x", error(ErrorCode::BadCommand)),
        ("get", "0000000002-1".into()),
        ("get /skiff/2", "0000000002-1".into()),
        ("stat ..", refused(NameError::Dots)),
        ("remove ..", refused(NameError::Dots)),
        (
            "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy",
            error(ErrorCode::TooLong),
        ),
    ] {
        let mut session = with_deferred(2);
        feed(&mut session, message(command));
        assert_eq!((sent(&mut session).as_str(), session.poll_event()), ("", Some(ServerEvent::Flush)), "{command}");
        give(&mut session, Ok(Answer::Done));
        assert_eq!(sent(&mut session), "0000000002ok");
        give(&mut session, Ok(STORED));
        assert_eq!(sent(&mut session), format!("0000000013ok 0 00000000{reply}"), "{command}");
        assert!(session.is_idle());
    }
}

#[test]
fn a_change_that_is_refused_at_once_waits_behind_the_batch() {
    let mut session = with_deferred(1);
    feed(&mut session, message("remove a"));
    take_request(&mut session);
    session.refuse(ErrorCode::NotFound.into()).unwrap();
    assert_eq!((sent(&mut session).as_str(), session.poll_event()), ("", Some(ServerEvent::Flush)));
    give(&mut session, Ok(Answer::Done));
    assert_eq!(sent(&mut session), format!("0000000002ok{}", error(ErrorCode::NotFound)));
}

#[test]
fn a_write_refused_behind_a_batch_is_drained_and_answered_in_order() {
    let mut session = with_deferred(1);
    feed(&mut session, message("write 0 9 - d"));
    take_request(&mut session);
    session.refuse(ErrorCode::Busy.into()).unwrap();
    assert_eq!((sent(&mut session).as_str(), session.poll_event()), ("", Some(ServerEvent::Flush)));
    give(&mut session, Ok(Answer::Done));
    assert_eq!(sent(&mut session), format!("0000000002ok{}", error(ErrorCode::Busy)));
    feed(&mut session, [body(b"123456789", 0), message("ping")].concat());
    assert_eq!(sent(&mut session), "0000000002ok");
}

#[test]
fn a_verdict_behind_a_batch_is_answered_in_order() {
    let mut session = with_deferred(1);
    start_write(&mut session, "write 0 9 - d");
    feed(&mut session, body(b"", 0));
    assert_eq!(session.poll_event(), Some(ServerEvent::Flush));
    give(&mut session, Ok(Answer::Done));
    assert_eq!(session.poll_event(), Some(ServerEvent::Discard));
    assert_eq!(sent(&mut session), format!("0000000002ok{}", error(ErrorCode::Mismatch)));
}

#[test]
fn quit_and_the_end_of_the_stream_flush_the_batch_and_close_behind_its_answers() {
    for ending in ["quit", "end", "cut off", "lost body"] {
        let mut session = with_deferred(2);
        match ending {
            "quit" => feed(&mut session, message("quit")),
            "cut off" => feed(&mut session, b"0000000004pi"),
            "lost body" => start_write(&mut session, "write 0 1 - d"),
            _ => {}
        }
        if ending != "quit" {
            session.handle_eof();
        }
        assert_eq!((session.poll_close(), session.poll_event()), (None, Some(ServerEvent::Flush)), "{ending}");
        give(&mut session, Ok(Answer::Done));
        assert_eq!((session.poll_close(), sent(&mut session).as_str()), (None, "0000000002ok"));
        assert_eq!((session.poll_close(), session.poll_event()), (None, Some(ServerEvent::Flush)));
        give(&mut session, Ok(Answer::Done));
        assert_eq!((session.poll_close(), session.poll_event()), (None, None));
        assert_eq!((sent(&mut session).as_str(), session.poll_close()), ("0000000002ok", Some(Close::Gracefully)));
    }
}

#[test]
fn a_protocol_error_is_answered_behind_the_batch() {
    let mut session = with_deferred(1);
    assert_eq!(take(&mut session, b"x"), Err(ProtocolError::BadLength));
    assert_eq!((session.poll_close(), session.poll_event()), (None, Some(ServerEvent::Flush)));
    give(&mut session, Ok(Answer::Done));
    assert_eq!(sent(&mut session), format!("0000000002ok{}", error(ErrorCode::BadLength)));
    assert_eq!(session.poll_close(), Some(Close::Gracefully));
}

#[test]
fn a_protocol_error_behind_a_reply_that_waits_for_the_batch_is_answered_too() {
    for (command, reply) in [("ping", "0000000002ok".into()), ("write", error(ErrorCode::BadCommand))] {
        let mut session = with_deferred(1);
        let wire = [message(command), b"x".to_vec()].concat();
        let first = take(&mut session, &wire);
        assert_eq!(session.poll_event(), Some(ServerEvent::Flush));
        give(&mut session, Ok(Answer::Done));
        let mut replies = sent(&mut session);
        if let Ok(taken) = first {
            assert_eq!(take(&mut session, &wire[taken..]), Err(ProtocolError::BadLength));
        }
        replies += &sent(&mut session);
        assert_eq!(replies, format!("0000000002ok{reply}{}", error(ErrorCode::BadLength)), "{command}");
    }
}

#[test]
fn a_driver_may_answer_at_once_behind_a_batch() {
    let mut session = with_deferred(1);
    feed(&mut session, message("remove a"));
    take_request(&mut session);
    session.answer(Answer::Done).unwrap();
    assert_eq!((sent(&mut session).as_str(), session.poll_event()), ("", Some(ServerEvent::Flush)));
    give(&mut session, Err(ErrorCode::NotFound));
    assert_eq!(sent(&mut session), format!("{}0000000002ok", error(ErrorCode::NotFound)));
}

#[test]
fn the_last_deferred_answer_may_be_given_while_a_request_waits() {
    let mut session = with_deferred(1);
    feed(&mut session, message("write 0 1 - d"));
    take_request(&mut session);
    give(&mut session, Ok(Answer::Done));
    session.answer(Answer::Write { crc: 0 }).unwrap();
    assert_eq!(sent(&mut session), "0000000002ok");
    let mut delivered = Vec::new();
    pour(&mut session, &body(b"1", 0x90f5_99e3), &mut delivered);
    assert_eq!(session.poll_event(), Some(ServerEvent::Commit { size: 1, crc: Some(0x90f5_99e3) }));
}

#[test]
fn a_batch_has_a_largest_size() {
    let mut session = session();
    for _ in 0..u16::MAX {
        feed(&mut session, message("remove a"));
        take_request(&mut session);
        session.defer().unwrap();
    }
    feed(&mut session, message("remove a"));
    assert!(matches!(session.poll_event(), Some(ServerEvent::Request(Request::Remove { .. }))));
    assert_eq!((session.defer(), session.deferred()), (Err(InvalidState), u16::MAX));
    session.answer(Answer::Done).unwrap();
    assert_eq!(session.poll_event(), Some(ServerEvent::Flush));
}

#[test]
fn a_batch_is_answered_when_no_further_input_waits() {
    let pace = Pace { changes: Changes::Batched, ..Pace::default() };
    let (mut connection, store) = server_with(limits(), pace);
    for number in 0..10 {
        connection.send(&[message(format!("write 0 1 - f{number}")), body(b"1", 0x90f5_99e3)].concat());
        assert_eq!(received(&mut connection), "0000000013ok 1 90f599e3");
    }
    assert_eq!(store.files().len(), 10);
}

#[test]
fn a_batched_conversation_reads_like_one_answered_step_by_step() {
    let files = (0..50).map(|number| {
        let write = [message(format!("write 0 1 - f{number}")), body(b"1", 0x90f5_99e3)].concat();
        let rename = message(format!("rename f{number}\ng{}", number % 7));
        let remove = message(format!("remove g{}", number % 5));
        let again = [message("write 0 1 - same"), body(b"1", 0x90f5_99e3)].concat();
        [
            write,
            message("ping"),
            rename,
            remove,
            again.clone(),
            again,
            message("stat f1"),
            message("write 0 0 - .."),
            body(b"", 0),
        ]
        .concat()
    });
    let wire = files.collect::<Vec<_>>().concat();
    let outputs = [Changes::AtOnce, Changes::Batched].map(|changes| {
        let (mut connection, store) = server_with(limits(), Pace { changes, ..Pace::default() });
        connection.send(&wire);
        connection.close();
        assert_eq!(connection.end(), Some(Close::Gracefully));
        (received(&mut connection), store.files())
    });
    assert_eq!(outputs[0], outputs[1]);
}
