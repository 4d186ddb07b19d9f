//! A client session against a hostile server: any bytes in any pieces.
#![no_main]

use core::time::Duration;

use libfuzzer_sys::fuzz_target;
use skiff_fuzz::script::Script;
use skiff_proto::client::{ClientEvent, ClientSession};
use skiff_proto::command::{Command, Request, Verbs, VERSION};
use skiff_proto::{ErrorCode, Instant, Name};

/// Kinds of operations.
const KINDS: u8 = 9;

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

/// A body of a length that can be sent byte by byte.
fn is_short(command: &Command<'_>) -> bool {
    !matches!(command, Command::Request(Request::Write { offset, size, .. }) if size.saturating_sub(*offset) > 64)
}

fuzz_target!(|data: &[u8]| {
    let name = Name::parse(b"a", 255).expect("a name");
    let mut session: ClientSession<600, 8> = ClientSession::new(Duration::from_secs(60));
    let mut input = Vec::new();
    let mut asked: usize = 0;
    let mut answered: usize = 0;
    let mut now = 1;
    let mut script = Script::new(data);
    while let Some(operation) = script.next_of(KINDS) {
        let mut command = None;
        match operation {
            0 => command = Some(Command::Hello { version: VERSION }),
            1 => {
                command = Some(Command::Request(match script.byte() % 10 {
                    0 => Request::Get { name },
                    1 => Request::Ls,
                    2 => Request::List { dir: None },
                    3 => Request::Read { offset: 0, length: None, name },
                    4 => Request::Resume { size: 5, name },
                    5 => Request::Remove { name },
                    6 => Request::Space,
                    7 => Request::Tree { dir: None },
                    8 => Request::Copy { from: name, to: name },
                    _ => Request::Write { offset: 0, size: 5, mtime: None, name },
                }));
            }
            2 => command = Command::parse(script.piece(), 255, Verbs::ALL).ok().filter(is_short),
            3 => input.extend(script.piece()),
            4 => {
                let bytes = script.piece();
                input.extend(format!("{:010}", bytes.len()).into_bytes());
                input.extend(bytes);
            }
            5 => {
                let text = SAYINGS[usize::from(script.byte()) % SAYINGS.len()];
                input.extend(format!("{:010}{text}", text.len()).into_bytes());
            }
            6 => _ = session.abort(ErrorCode::Cancelled),
            7 => {
                now += u64::from(script.number());
                session.handle_timeout(Instant::from_millis(now));
            }
            _ => _ = session.handle_eof(),
        }
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
                    let announces = matches!(event, ClientEvent::Read { .. } | ClientEvent::List { .. } | ClientEvent::Ls);
                    answered += usize::from(!announces);
                    assert!(answered <= asked);
                    continue;
                }
                Err(_) => return,
            }
            if session.is_sending() && !session.has_output() {
                if session.left() == Some(0) {
                    session.finish().expect("it is through");
                } else {
                    session.set_data_max(3);
                    let sent = session.send(&mut out[..11], |room| Ok::<_, ()>(room.len()));
                    assert!(sent.expect("a body is sent") > 0);
                }
                continue;
            }
            match session.receive(&mut input) {
                Ok(received) if received.taken == 0 => assert!(received.payload.is_empty()),
                Ok(received) => {
                    let taken = received.taken;
                    input.drain(..taken);
                    continue;
                }
                Err(_) => return,
            }
            break;
        }
    }
});
