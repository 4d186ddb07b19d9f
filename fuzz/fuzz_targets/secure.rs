//! A server with a secret. Bytes from a client without a key have no effect; if a client's bytes are changed in
//! transit, only those before the change have an effect. Both hold however the stream is split.
#![no_main]

use std::sync::OnceLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use skiff_fuzz::conversation::{Conversation, Told, converse, pieces};
use skiff_fuzz::script::Script;
use skiff_proto::client::ClientSession;
use skiff_proto::command::{Command, Request, VERSION, command_len};
use skiff_proto::secure::{Entropy, KeyId, Login, Noise, Secret, Security};
use skiff_proto::server::{Limits, ServerSession};
use skiff_proto::{Instant, Name};

fn server() -> ServerSession<{ command_len(64) }, Noise> {
    let security = Security {
        secret: Secret::new([7; 32]),
        min_generation: 1,
        nonce: [1; 16],
        entropy: Entropy::Random([1; 32]),
        record_max: 600,
        accepted: Instant::ZERO,
    };
    let mut server = ServerSession::new(Limits::new(64));
    server.protect(security.guard().expect("record-max is long enough")).expect("the connection begins");
    server
}

/// The bytes of an honest client, and their effect.
fn honest() -> (Vec<u8>, Told) {
    let key = Secret::new([7; 32]).key(KeyId::parse(b"rw.alice.1").expect("a KEYID"));
    let mut client: ClientSession<600, 4, Noise> = ClientSession::new(Duration::MAX);
    client.protect(Login { key, ephemeral: [2; 32] }.start()).expect("the connection begins");
    let mut server = Conversation::new(server());
    let (mut wire, mut heard) = (Vec::new(), 0);
    let name = Name::parse(b"f", 64).expect("a name");
    for command in [
        Command::Hello { version: VERSION },
        Command::Ping,
        Command::Request(Request::Write { offset: 0, size: 90, mtime: None, name }),
        Command::Request(Request::Read { offset: 0, length: None, name }),
        Command::Request(Request::Remove { name }),
    ] {
        client.request(&command).expect("the client may ask");
        while client.owed() > 0 {
            let mut room = [0; 700];
            let mut n = client.poll_transmit(&mut room);
            if n == 0 && client.is_sending() {
                n = match client.left() {
                    Some(0) => client.finish().map(|()| 0).expect("all is sent"),
                    _ => client.send(&mut room[..60], |room| Ok::<_, ()>(room.len())).expect("a body is sent"),
                };
            }
            wire.extend_from_slice(&room[..n]);
            server.feed(&room[..n]);
            let mut input = server.told.out[heard..].to_vec();
            heard += client.receive(&mut input).expect("an honest server").taken;
            _ = client.poll_event().expect("an honest server");
        }
    }
    (wire, server.end())
}

// What kind, the number of cuts, the cuts; then the changes (position, kind), or what the stranger sends.
fuzz_target!(|data: &[u8]| {
    static HONEST: OnceLock<(Vec<u8>, Told)> = OnceLock::new();
    let (wire, honest) = HONEST.get_or_init(honest);
    let mut script = Script::new(data);
    let is_stranger = script.byte() % 2 == 0;
    let cuts: Vec<usize> = (0..script.byte() % 8).map(|_| usize::from(script.byte())).collect();
    let mut input = wire.clone();
    if is_stranger {
        input.truncate(10 + "get /skiff/1".len());
        input.extend_from_slice(script.rest());
    } else {
        for change in script.rest().chunks_exact(3) {
            let at = usize::from(change[0]) << 8 | usize::from(change[1]);
            let at = at % (input.len() + 1);
            match change[2] {
                0 => input.truncate(at),
                1..=9 => _ = input.drain(at..(at + usize::from(change[2])).min(input.len())),
                10..=19 => input.extend_from_within(at..),
                20..=29 => input.rotate_left(at),
                mask if at < input.len() => input[at] ^= mask,
                _ => {}
            }
        }
    }
    let whole = converse(server(), [&input[..]].into_iter());
    assert!(honest.events.starts_with(&whole.events), "{:?}", whole.events);
    assert!(honest.payload.starts_with(&whole.payload));
    assert!(!is_stranger || input.starts_with(wire) || whole.events.is_empty());
    assert_eq!(converse(server(), pieces(&input, &cuts).into_iter()), whole);
    assert_eq!(converse(server(), input.chunks(1)), whole);
});
