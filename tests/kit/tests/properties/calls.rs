//! Arbitrary calls of a driver.

use core::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use skiff_kit::sans_io::payloads;
use skiff_proto::command::command_len;
use skiff_proto::reply::Tag;
use skiff_proto::server::{Answer, Close, Limits, ServerSession};
use skiff_proto::store::{Space, Stat};
use skiff_proto::{ErrorCode, Instant};

use super::cases;
use super::input::any_bytes;

/// A call that a driver may make, in or out of order.
#[derive(Debug, Clone)]
enum Call {
    Input(Vec<u8>),
    End,
    Wait(u64),
    Event,
    Answer(Answer),
    Refuse,
    Defer,
    AnswerDeferred(Answer),
    RefuseDeferred,
    Send(usize, bool),
    Move(u64),
    Finish,
    Abort,
    SupplyCrc,
    Transmit(usize),
}

fn any_call() -> impl Strategy<Value = Call> {
    let answers = vec![
        Answer::Done,
        Answer::Port(7),
        Answer::Stat(Stat { size: 1, mtime: None, crc: None }),
        Answer::Resume { offset: 0, crc: 0 },
        Answer::Sum { length: 1, crc: 0 },
        Answer::Space(Space { total: 1, free: 1 }),
        Answer::Read { length: 5, size: 9, tag: Tag::UNKNOWN },
        Answer::Read { length: 1, size: 10, tag: Tag::UNKNOWN },
        Answer::List { omitted: 0 },
        Answer::List { omitted: u64::MAX },
        Answer::Ls { length: 0 },
        Answer::Ls { length: 5 },
        Answer::Write { crc: 0 },
        Answer::Stored { size: 3, crc: Some(0) },
    ];
    prop_oneof![
        8 => any_bytes().prop_map(Call::Input),
        1 => Just(Call::End),
        1 => (0..90_000u64).prop_map(Call::Wait),
        8 => Just(Call::Event),
        20 => select(answers.clone()).prop_map(Call::Answer),
        2 => Just(Call::Refuse),
        3 => Just(Call::Defer),
        2 => select(answers).prop_map(Call::AnswerDeferred),
        1 => Just(Call::RefuseDeferred),
        8 => ((0..20usize), any::<bool>()).prop_map(|(room, fill)| Call::Send(room, fill)),
        5 => (0..6u64).prop_map(Call::Move),
        3 => Just(Call::Finish),
        1 => Just(Call::Abort),
        1 => Just(Call::SupplyCrc),
        8 => (0..100usize).prop_map(Call::Transmit),
    ]
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn no_order_of_calls_panics_or_breaks_the_framing_of_what_is_sent(calls in vec(any_call(), 0..120)) {
        let mut session: ServerSession<{ command_len(64) }> = ServerSession::new(Limits::new(64));
        let mut now = Instant::from_millis(1);
        session.handle_timeout(now);
        let mut input: Vec<u8> = Vec::new();
        let mut output: Vec<u8> = Vec::new();
        let mut reset = false;
        for call in calls {
            match call {
                Call::Input(bytes) => {
                    input.extend(bytes);
                    // What the session says that it wants, it takes.
                    let hint = session.want_read().min(input.len());
                    if let Ok(received) = session.receive(&mut input[..hint]) {
                        prop_assert_eq!(received.taken, hint);
                        input.drain(..hint);
                    }
                    if let Ok(received) = session.receive(&mut input) {
                        let taken = received.taken;
                        prop_assert!(received.at + received.payload.len() <= taken);
                        input.drain(..taken);
                    }
                }
                Call::End => session.handle_eof(),
                Call::Wait(millis) => {
                    now = now.after(Duration::from_millis(millis));
                    let (due, before) = (session.poll_timeout(), session.poll_close());
                    session.handle_timeout(now);
                    // Nothing ends before it is due.
                    if due.is_none_or(|due| now < due) {
                        prop_assert_eq!(session.poll_close(), before);
                    }
                }
                Call::Event => _ = session.poll_event(),
                Call::Answer(answer) => _ = session.answer(answer),
                Call::Refuse => _ = session.refuse(ErrorCode::Busy.into()),
                Call::Defer => _ = session.defer(),
                Call::AnswerDeferred(answer) => _ = session.answer_deferred(Ok(answer)),
                Call::RefuseDeferred => _ = session.answer_deferred(Err(ErrorCode::Io.into())),
                Call::Send(room, fill) => {
                    let mut room = vec![b'p'; room];
                    let sent = session.send(&mut room, |room| fill.then_some(room.len()).ok_or(()));
                    output.extend(&room[..sent.unwrap_or(0)]);
                }
                Call::Move(n) => {
                    if let Some(mut opaque) = session.opaque() && opaque.advance(n).is_ok() {
                        output.extend((0..n).map(|_| b'p'));
                    }
                }
                Call::Finish => _ = session.finish(),
                Call::Abort => _ = session.abort(ErrorCode::Changed),
                Call::SupplyCrc => _ = session.supply_crc(Some(1)),
                Call::Transmit(n) => {
                    let mut out = vec![0; n];
                    let n = session.poll_transmit(&mut out);
                    output.extend(&out[..n]);
                }
            }
            prop_assert!(!reset || session.poll_close() == Some(Close::Reset), "a reset is final");
            reset |= session.poll_close() == Some(Close::Reset);
            if session.is_idle() || session.poll_close() == Some(Close::Gracefully) {
                prop_assert!(payloads(&output).is_ok(), "{}", output.escape_ascii());
            }
        }
    }
}
