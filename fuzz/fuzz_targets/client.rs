//! A client session against a hostile server: any bytes in any pieces.
#![no_main]

use core::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use skiff_proto::client::{ClientEvent, ClientSession};
use skiff_proto::command::{Command, Request};
use skiff_proto::{ErrorCode, Instant, Name, Payload};

#[derive(Arbitrary, Debug)]
enum Step {
    Hello,
    Ask(u8),
    Input(Vec<u8>),
    Reply(Vec<u8>),
    Say(u8),
    Write,
    Abort,
    Wait(u16),
    Eof,
}

const SAYINGS: [&str; 12] = [
    "skiff/1 server=x commands=ping name-max=255",
    "-1",
    "ok",
    "ok 5 5 a",
    "ok 5 - -",
    "ok 0 00000000",
    "error not-found no",
    "crc32c 00000000",
    "crc32c -",
    "abort io x",
    "62346",
    "",
];

fuzz_target!(|steps: Vec<Step>| {
    let name = Name::parse(b"a", 255).expect("a name");
    let mut session: ClientSession<600, 8> = ClientSession::new(Duration::from_secs(60));
    let mut input = Vec::new();
    let mut asked: usize = 0;
    let mut answered: usize = 0;
    let mut now = 1;
    for step in steps {
        let command = match step {
            Step::Hello => Some(Command::Hello { version_1: true }),
            Step::Ask(which) => Some(Command::Request(match which % 8 {
                0 => Request::Get { name },
                1 => Request::Ls,
                2 => Request::List { dir: None },
                3 => Request::Read { offset: 0, length: None, name },
                4 => Request::Resume { size: 5, name },
                5 => Request::Remove { name },
                6 => Request::Space,
                _ => Request::Stat { name },
            })),
            Step::Write => Some(Command::Request(Request::Write { offset: 0, size: 5, mtime: None, name })),
            Step::Input(bytes) => {
                input.extend(bytes);
                None
            }
            Step::Reply(bytes) => {
                input.extend(format!("{:010}", bytes.len()).into_bytes());
                input.extend(bytes);
                None
            }
            Step::Say(which) => {
                let text = SAYINGS[usize::from(which) % SAYINGS.len()];
                input.extend(format!("{:010}{text}", text.len()).into_bytes());
                None
            }
            Step::Abort => {
                _ = session.abort(ErrorCode::Cancelled);
                None
            }
            Step::Wait(millis) => {
                now += u64::from(millis);
                session.handle_timeout(Instant::from_millis(now));
                None
            }
            Step::Eof => {
                _ = session.handle_eof();
                None
            }
        };
        if let Some(command) = command {
            asked += usize::from(session.request(&command).is_ok());
        }
        let mut turns = 0;
        loop {
            turns += 1;
            assert!(turns < 10_000 + input.len() * 4, "the session does not come to rest");
            let mut out = [0; 64];
            if session.poll_transmit(&mut out) > 0 {
                continue;
            }
            match session.poll_event() {
                Ok(None) => {}
                Ok(Some(event)) => {
                    // What announces a body is answered by its end.
                    let announces = matches!(event, ClientEvent::Read { .. } | ClientEvent::List | ClientEvent::Ls);
                    answered += usize::from(!announces);
                    assert!(answered <= asked);
                    continue;
                }
                Err(_) => return,
            }
            if let Some(payload) = session.payload_out() {
                let Payload::Send { .. } = payload else { panic!("out is out") };
                session.advance_out(1).expect("one byte of payload");
                continue;
            }
            if session.is_sending() && !session.has_output() {
                match session.unannounced() {
                    Some(left) if left > 0 => session.start_data(left.min(3)).expect("there is so much"),
                    _ => session.finish().expect("it is through"),
                }
                continue;
            }
            if let Some(payload) = session.payload_in() {
                let n = payload.clamp(input.len());
                let mut bytes: Vec<u8> = input.drain(..n).collect();
                if n > 0 {
                    session.advance_in(&mut bytes).expect("as many as were asked for");
                    continue;
                }
            } else {
                match session.handle_input(&input) {
                    Ok(0) => {}
                    Ok(n) => {
                        input.drain(..n);
                        continue;
                    }
                    Err(_) => return,
                }
            }
            break;
        }
    }
});
