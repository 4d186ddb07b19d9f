//! Attacks on a protected connection by a client without a key, by a client without the right, and by an attacker on
//! the path: all fail.
#![cfg(feature = "secure")]
#![expect(clippy::unwrap_used, reason = "also the helpers of tests are tests")]

mod drive_support;

use core::time::Duration;

use drive_support::{body, message, messages, name};
use skiff_proto::client::{ClientEvent, ClientSession};
use skiff_proto::command::{Command, Request, VERSION, Verb};
use skiff_proto::secure::{Entropy, Key, KeyId, Login, MAX_SECURE, Noise, Secret, Security};
use skiff_proto::server::{Close, Limits, ServerEvent, ServerSession};
use skiff_proto::{ErrorCode, Instant, InvalidState, ProtocolError};

type Server = ServerSession<200, Noise>;
type Client = ClientSession<600, 4, Noise>;

const DENIED: &str = "error denied permission denied";

fn secret() -> Secret {
    Secret::new([7; 32])
}

fn key(id: &str) -> Key {
    secret().key(KeyId::parse(id.as_bytes()).unwrap())
}

fn security(nonce: u8) -> Security {
    Security {
        secret: secret(),
        min_generation: 3,
        nonce: [nonce; 16],
        entropy: Entropy::Random([1; 32]),
        record_max: 600,
        accepted: Instant::from_millis(1000),
    }
}

fn server(nonce: u8) -> Server {
    let mut server = ServerSession::new(Limits::new(64));
    server.protect(security(nonce).guard().unwrap()).unwrap();
    server.handle_timeout(Instant::from_millis(1000));
    server
}

fn client(key: Key) -> Client {
    let mut client = ClientSession::new(Duration::MAX);
    client.protect(Login { key, ephemeral: [2; 32] }.start()).unwrap();
    client.request(&Command::Hello { version: VERSION }).unwrap();
    client
}

/// What the server answers to bytes in clear, and that nothing of them reaches its driver.
fn tell(server: &mut Server, wire: &[u8]) -> Vec<String> {
    let mut wire = wire.to_vec();
    let (mut input, mut out) = (&mut wire[..], Vec::new());
    loop {
        let taken = server.receive(input).map_or(0, |received| {
            assert!(received.payload.is_empty());
            received.taken
        });
        input = &mut input[taken..];
        assert_eq!(server.poll_event(), None);
        let mut room = [0; 700];
        let n = server.poll_transmit(&mut room);
        out.extend_from_slice(&room[..n]);
        if taken == 0 && n == 0 {
            return messages(&out);
        }
    }
}

fn sent(client: &mut Client) -> Vec<u8> {
    let mut room = [0; 700];
    let n = client.poll_transmit(&mut room);
    room[..n].to_vec()
}

fn received(server: &mut Server) -> Vec<u8> {
    let mut room = [0; 700];
    let n = server.poll_transmit(&mut room);
    room[..n].to_vec()
}

/// The hello of a server, and what a client says to it: `secure PATTERN KEYID HEX1`.
fn secure(server: &mut Server, key: Key) -> (Client, String) {
    let hello = tell(server, &message(b"get /skiff/1"));
    let mut client = client(key);
    sent(&mut client);
    client.receive(&mut message(hello[0].as_bytes())).unwrap();
    assert_eq!(client.poll_event(), Ok(None));
    let command = messages(&sent(&mut client)).remove(0);
    (client, command)
}

/// Client and server behind their handshake.
fn protected(id: &str) -> (Client, Server) {
    let mut server = server(1);
    let (mut client, command) = secure(&mut server, key(id));
    server.receive(&mut message(command.as_bytes())).unwrap();
    client.receive(&mut received(&mut server)).unwrap();
    assert!(matches!(client.poll_event(), Ok(Some(ClientEvent::Hello(Some(_))))));
    (client, server)
}

/// What the server answers a protected client.
fn asked(client: &mut Client, server: &mut Server, command: &Command<'_>) -> Result<String, String> {
    client.request(command).unwrap();
    let mut wire = sent(client);
    while client.is_sending() {
        client.abort(ErrorCode::Cancelled).unwrap();
        wire.extend(sent(client));
    }
    let mut input = &mut wire[..];
    loop {
        let taken = server.receive(input).unwrap().taken;
        if let Some(event) = server.poll_event() {
            assert!(matches!(event, ServerEvent::Request(_)));
            return Ok(format!("{event:?}"));
        }
        input = &mut input[taken..];
        let mut reply = received(server);
        if !reply.is_empty() {
            client.receive(&mut reply).unwrap();
            return Err(format!("{:?}", client.poll_event().unwrap().unwrap()));
        }
        assert!(taken > 0);
    }
}

#[test]
fn before_the_handshake_a_stranger_learns_the_hello_and_nothing_else() {
    let mut server = server(1);
    let hello = tell(&mut server, &message(b"get /skiff/1")).remove(0);
    assert!(hello.ends_with(&format!(" record-max=600 nonce={}", "01".repeat(16))), "{hello}");
    assert_eq!(tell(&mut server, &message(b"GET /skiff/1")), [hello]);
    assert_eq!(tell(&mut server, &message(b"get /skiff/2")), ["-1"]);
    for command in ["get a", "get", "put a", "PUT ../b", "get ../x"] {
        assert_eq!(tell(&mut server, &message(command.as_bytes())), ["-1"], "{command}");
    }
    for verb in Verb::ALL {
        if matches!(verb, Verb::Quit | Verb::Secure) {
            continue;
        }
        for words in ["", " ", " a", " 0 * a", " 0 1 - a", " 9 a"] {
            let mut wire = message(format!("{}{words}", verb.as_str()).as_bytes());
            if verb.has_body() {
                wire.extend(body(b"0123456789", 4));
            }
            assert_eq!(tell(&mut server, &wire), [DENIED], "{}{words}", verb.as_str());
        }
    }
    for command in ["ls", "ls a", "PING", "frob", " ", "Secure", "secured x"] {
        assert_eq!(tell(&mut server, &message(command.as_bytes())), [DENIED], "{command}");
    }
    assert!(server.client().is_none() && server.park().is_none());
    assert_eq!(server.poll_close(), None);
    assert!(tell(&mut server, &message(b"quit")).is_empty());
    assert_eq!(server.poll_close(), Some(Close::Gracefully));
}

#[test]
fn a_client_without_a_key_is_told_that_the_server_wants_one() {
    for (mut server, wants) in [(server(1), true), (ServerSession::new(Limits::new(64)), false)] {
        let mut client: Client = ClientSession::new(Duration::MAX);
        client.request(&Command::Hello { version: VERSION }).unwrap();
        server.receive(&mut sent(&mut client)).unwrap();
        client.receive(&mut received(&mut server)).unwrap();
        assert!(matches!(client.poll_event(), Ok(Some(ClientEvent::Hello(Some(_))))));
        assert_eq!(client.wants_key(), wants);
    }
}

#[test]
fn a_server_without_a_secret_does_not_know_secure_and_goes_on() {
    let mut server: Server = ServerSession::new(Limits::new(64));
    let wire = [message(b"secure x"), message(b"ping"), message(b"get /skiff/1")].concat();
    let replies = tell(&mut server, &wire);
    assert_eq!(replies[..2], ["error unsupported this server can not do that", "ok"]);
    assert!(!replies[2].contains("noise") && !replies[2].contains("secure"));
    assert_eq!(server.poll_close(), None);
}

#[test]
fn a_handshake_that_goes_wrong_is_answered_as_the_table_says_and_the_connection_is_closed() {
    const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
    const UNSUPPORTED: &str = "error unsupported this server can not do that";
    const BAD: &str = "error bad-command no such command, or its arguments are wrong";
    let hex = "0f".repeat(48);
    let right = secure(&mut server(1), key("rw.alice.3")).1;
    let of = |id: &str| secure(&mut server(1), key(id)).1;
    let other = secure(&mut server(2), key("rw.alice.3")).1;
    let digits = &right[right.len() - 96..];
    for (command, expected) in [
        ("secure".into(), BAD),
        ("secure ".into(), UNSUPPORTED),
        (right.replace("ChaChaPoly", "AESGCM"), UNSUPPORTED),
        (right.replace("Noise", "noise"), UNSUPPORTED),
        (format!("secure {PATTERN}"), BAD),
        (format!("secure {PATTERN} rw.a.3"), BAD),
        (format!("{right} "), BAD),
        (format!("{right} x"), BAD),
        (right.replace(" rw", "  rw"), BAD),
        (right[..right.len() - 2].into(), BAD),
        (format!("{right}00"), BAD),
        (right.replace(digits, &digits.to_uppercase()), BAD),
        (right.replace(digits, &"g".repeat(96)), BAD),
        (format!("secure {PATTERN} rw.a.0 {hex}"), BAD),
        (format!("secure {PATTERN} rw.a.03 {hex}"), BAD),
        (format!("secure {PATTERN} rw.A.3 {hex}"), BAD),
        (format!("secure {PATTERN} rw.0123456789abcdefg.3 {hex}"), BAD),
        (format!("secure {PATTERN} r-.a.3 {hex}"), BAD),
        // Nobody learns what was wrong with these.
        (format!("secure {PATTERN} rw.alice.3 {hex}"), DENIED),
        (format!("secure {PATTERN} xx.alice.3 {hex}"), DENIED),
        (right.replace("alice", "mallory"), DENIED),
        (right.replace("rw", "ro"), DENIED),
        (right.replace("alice.3", "alice.4"), DENIED),
        (of("rw.alice.2"), DENIED),
        (secure(&mut server(1), Secret::new([8; 32]).key(KeyId::parse(b"rw.alice.3").unwrap())).1, DENIED),
        // A recorded first message: the nonce of this connection is another one.
        (other, DENIED),
    ] {
        let mut server = server(1);
        tell(&mut server, &message(b"get /skiff/1"));
        let wire = [message(command.as_bytes()), message(b"ping")].concat();
        assert_eq!(tell(&mut server, &wire), [expected], "{command}");
        assert_eq!((server.poll_close(), server.client()), (Some(Close::Gracefully), None), "{command}");
    }
    let mut server = server(1);
    assert_eq!(tell(&mut server, &message(right.as_bytes())), [DENIED], "no hello before");
    assert_eq!(server.poll_close(), Some(Close::Gracefully));
}

#[test]
fn a_role_that_nobody_knows_is_denied_even_with_a_right_key() {
    let mut server = server(1);
    let (_, command) = secure(&mut server, key("rw.alice.3"));
    // The key of `xx.alice.3`, which only the owner of the secret can make, stands in for `rw.alice.3`: here by a
    // second implementation, which is the vector's.
    let psk = {
        use blake2::Blake2sMac256;
        use blake2::digest::{KeyInit, Mac};
        let mut hash = <Blake2sMac256 as KeyInit>::new(&[7; 32].into());
        Mac::update(&mut hash, b"skiff/1 psk xx.alice.3");
        <[u8; 32]>::from(hash.finalize().into_bytes())
    };
    let hello = tell(&mut server, &message(b"get /skiff/1")).remove(0);
    let asked = command[..command.len() - 97].replace("rw.", "xx.");
    let prologue = [hello.as_bytes(), b"\n", asked.as_bytes()].concat();
    let pattern = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s".parse().unwrap();
    let client = snow::Builder::new(pattern).psk(0, &psk).unwrap().prologue(&prologue).unwrap();
    let mut first = [0; 48];
    client.build_initiator().unwrap().write_message(b"", &mut first).unwrap();
    let hex: String = first.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(tell(&mut server, &message(format!("{asked} {hex}").as_bytes())), [DENIED]);
    assert_eq!(server.poll_close(), Some(Close::Gracefully));
}

#[test]
fn no_bit_of_a_handshake_message_can_be_changed() {
    let right = secure(&mut server(1), key("rw.alice.3")).1;
    for bit in 0..right.len() * 8 {
        let mut changed = right.clone().into_bytes();
        changed[bit / 8] ^= 1 << (bit % 8);
        let mut server = server(1);
        tell(&mut server, &message(b"get /skiff/1"));
        let replies = tell(&mut server, &message(&changed));
        assert!(replies.len() <= 1 && replies.iter().all(|reply| reply.starts_with("error ")), "{bit}: {replies:?}");
        assert_eq!(server.client(), None, "{bit}");
    }
    let mut replying = server(1);
    let (_, command) = secure(&mut replying, key("rw.alice.3"));
    replying.receive(&mut message(command.as_bytes())).unwrap();
    let reply = received(&mut replying);
    for bit in 0..reply.len() * 8 {
        let (mut client, _) = secure(&mut server(1), key("rw.alice.3"));
        let mut changed = reply.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let failed = client.receive(&mut changed).is_err();
        let event = client.poll_event();
        assert!(failed || matches!(event, Err(_) | Ok(None)), "{bit}: {event:?}");
        assert!(!client.can_request() && sent(&mut client).is_empty(), "{bit}");
    }
}

#[test]
fn a_hello_that_was_stripped_or_altered_ends_the_connection_before_anything_is_said() {
    let hello = tell(&mut server(1), &message(b"get /skiff/1")).remove(0);
    let right = secure(&mut server(1), key("rw.alice.3")).1;
    let word = |key: &str| hello.split(' ').find(|word| word.starts_with(key)).unwrap();
    let without = |key: &str| hello.replace(&format!(" {}", word(key)), "");
    let with = |from: &str, to: &str| hello.replace(from, to);
    // What a client sees that it can't accept.
    for altered in [
        "-1".into(),
        "ok".into(),
        "skiff/2 x".into(),
        without("noise="),
        without("record-max="),
        without("nonce="),
        with("noise=Noise", "noise=noise"),
        with("record-max=600", "record-max=599"),
        with("record-max=600", "record-max=65536"),
        with("record-max=600", "record-max="),
        with("nonce=01", "nonce="),
        with("nonce=01", "nonce=0G"),
        format!("{hello} record-max=700"),
        format!("{hello} nonce={}", "02".repeat(16)),
        format!("{hello} {}", "x".repeat(600)),
    ] {
        let mut client = client(key("rw.alice.3"));
        sent(&mut client);
        let failed = client.receive(&mut message(altered.as_bytes())).err();
        let failed = failed.or_else(|| client.poll_event().err());
        assert!(matches!(failed, Some(ProtocolError::NotProtected | ProtocolError::BadReply)), "{altered}: {failed:?}");
        assert!(sent(&mut client).is_empty() && !client.can_request());
        assert_eq!(client.request(&Command::Ping), Err(InvalidState));
        assert_eq!(client.keep_alive(), Err(InvalidState));
    }
    // What only the handshake can tell.
    for altered in
        [with("60 ", "61 "), format!("{hello} x=y"), with("01", "02"), with("record-max=600", "record-max=700")]
    {
        let mut client = client(key("rw.alice.3"));
        sent(&mut client);
        client.receive(&mut message(altered.as_bytes())).unwrap();
        assert_eq!(client.poll_event(), Ok(None));
        let command = messages(&sent(&mut client)).remove(0);
        assert_ne!(command, right);
        let mut server = server(1);
        tell(&mut server, &message(b"get /skiff/1"));
        assert_eq!(tell(&mut server, &message(command.as_bytes())), [DENIED], "{altered}");
    }
}

#[test]
fn any_other_reply_to_secure_is_a_failure_and_nothing_goes_out_in_clear() {
    for reply in
        ["ok", "ok 00", "-1", "oK", "skiff/1 x", &format!("ok {}", "0f".repeat(48)), "error denied no", "error x"]
    {
        let (mut client, _) = secure(&mut server(1), key("rw.alice.3"));
        assert!(!client.can_request());
        for command in [Command::Ping, Command::Quit, Command::Hello { version: VERSION }] {
            assert_eq!(client.request(&command), Err(InvalidState), "nothing behind `secure`");
        }
        client.receive(&mut message(reply.as_bytes())).unwrap();
        match client.poll_event() {
            Ok(Some(ClientEvent::Refused(error))) => assert_eq!((&reply[..6], error.text.len() < 3), ("error ", true)),
            other => assert!(matches!(other, Err(ProtocolError::Forged | ProtocolError::NotProtected)), "{other:?}"),
        }
        assert!(client.poll_event().is_err() && client.receive(&mut [0]).is_err());
        assert_eq!(client.request(&Command::Ping), Err(InvalidState));
        assert!(sent(&mut client).is_empty());
    }
    // A client with a key says nothing but the hello and `quit` before.
    let mut client: Client = ClientSession::new(Duration::MAX);
    client.protect(Login { key: key("rw.alice.3"), ephemeral: [2; 32] }.start()).unwrap();
    for command in [Command::Ping, Command::Request(Request::Ls), Command::Hello { version: 2 }] {
        assert_eq!(client.request(&command), Err(InvalidState));
    }
    // The stream ends in the middle.
    let (mut client, _) = secure(&mut server(1), key("rw.alice.3"));
    assert_eq!(client.handle_eof(), Err(ProtocolError::UnexpectedEnd));
}

#[test]
fn a_reply_before_secure_has_gone_out_does_not_become_what_the_client_sends() {
    let hello = tell(&mut server(1), &message(b"get /skiff/1")).remove(0);
    for part in [0, 1, 20] {
        let mut client = client(key("rw.alice.3"));
        sent(&mut client);
        client.receive(&mut message(hello.as_bytes())).unwrap();
        let (mut room, mut out) = ([0; 700], Vec::new());
        // `secure` has gone out in part, or not at all.
        let n = client.poll_transmit(&mut room[..part]);
        out.extend_from_slice(&room[..n]);
        assert_eq!(client.receive(&mut message(b"remove notes")).err(), Some(ProtocolError::UnexpectedReply));
        let n = client.poll_transmit(&mut room);
        out.extend_from_slice(&room[..n]);
        assert!(out.is_empty() || out[10..].starts_with(b"secure Noise_"), "{}", out.escape_ascii());
        assert!(!out.windows(5).any(|part| part == b"notes"));
        assert_eq!(client.poll_event().err(), Some(ProtocolError::UnexpectedReply));
    }
}

#[test]
fn what_lies_behind_secure_in_clear_is_a_forged_record() {
    let mut server = server(1);
    let (_, command) = secure(&mut server, key("rw.alice.3"));
    let mut wire = [message(command.as_bytes()), message(b"remove a")].concat();
    let taken = server.receive(&mut wire).unwrap().taken;
    assert_eq!(taken, 10 + command.len(), "nothing is read before the reply has gone out");
    assert!(received(&mut server).starts_with(b"0000000099ok "));
    assert_eq!(server.receive(&mut wire[taken..]), Err(ProtocolError::Forged));
    assert_eq!((server.poll_close(), server.poll_event()), (Some(Close::Reset), None));
    assert!(received(&mut server).is_empty());
}

#[test]
fn after_the_handshake_classic_transfers_and_another_secure_are_refused() {
    let (mut client, mut server) = protected("rw.alice.3");
    assert_eq!(server.client().unwrap().client(), "alice");
    assert_eq!(asked(&mut client, &mut server, &Command::Ping), Err("Done".into()));
    for request in [Request::Get { name: name("a") }, Request::Put { name: name("a") }] {
        assert_eq!(asked(&mut client, &mut server, &Command::Request(request)), Err("ClassicRefused".into()));
    }
    let refused = asked(&mut client, &mut server, &Command::Request(Request::Ls)).unwrap_err();
    assert!(refused.starts_with("Refused") && refused.contains("Unsupported"), "{refused}");
    for (command, reply) in [("secure", "error bad-command"), ("frob", "error bad-command")] {
        let (_, mut server) = protected("rw.alice.3");
        let answered = raw(&mut server, command.as_bytes());
        assert!(answered.starts_with(reply), "{command}: {answered}");
        assert_eq!(server.poll_close(), None);
    }
    assert!(
        asked(&mut client, &mut server, &Command::Hello { version: VERSION }).unwrap_err().contains("name_max: 64")
    );
    assert!(client.wants_key(), "the hello is the same");
}

/// What a server behind its handshake answers to a message of any content.
fn raw(server: &mut Server, payload: &[u8]) -> String {
    let mut peer = snow_client(payload);
    server.receive(&mut peer.0).unwrap();
    let reply = received(server);
    let mut text = vec![0; reply.len()];
    let n = peer.1.read_message(&reply[10..], &mut text).unwrap();
    String::from_utf8(text[..n].to_vec()).unwrap()
}

/// The first record of `payload` on the connection of [`protected`], by `snow` with the same ephemeral secret.
fn snow_client(payload: &[u8]) -> (Vec<u8>, snow::TransportState) {
    let mut server = server(1);
    let hello = tell(&mut server, &message(b"get /skiff/1")).remove(0);
    let (_, command) = secure(&mut server, key("rw.alice.3"));
    let prologue = [hello.as_bytes(), b"\n", &command.as_bytes()[..command.len() - 97]].concat();
    let mut out = [0; Key::TEXT_LEN];
    let psk = {
        use base64ct::{Base64, Encoding};
        let mut psk = [0; 32];
        Base64::decode(key("rw.alice.3").encode(&mut out).rsplit(' ').next().unwrap(), &mut psk).unwrap();
        psk
    };
    let client = snow::Builder::new("Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s".parse().unwrap());
    let client = client.psk(0, &psk).unwrap().prologue(&prologue).unwrap();
    let mut client = client.fixed_ephemeral_key_for_testing_only(&[2; 32]).build_initiator().unwrap();
    client.write_message(b"", &mut [0; 48]).unwrap();
    server.receive(&mut message(command.as_bytes())).unwrap();
    let reply = String::from_utf8(received(&mut server)).unwrap();
    let second: Vec<u8> =
        (13..reply.len()).step_by(2).map(|at| u8::from_str_radix(&reply[at..at + 2], 16).unwrap()).collect();
    client.read_message(&second, &mut []).unwrap();
    let mut client = client.into_transport_mode().unwrap();
    let mut record = vec![0; payload.len() + 16];
    client.write_message(payload, &mut record).unwrap();
    (message(&record), client)
}

#[test]
fn the_role_ro_changes_nothing() {
    let name = name("a");
    for (request, changes) in [
        (Request::List { dir: None }, false),
        (Request::Stat { name }, false),
        (Request::Read { offset: 0, length: None, name }, false),
        (Request::Sum { offset: 0, length: None, name }, false),
        (Request::Space, false),
        (Request::Resume { size: 1, name }, true),
        (Request::Write { offset: 0, size: 1, mtime: None, name }, true),
        (Request::Remove { name }, true),
        (Request::Rename { from: name, to: name }, true),
        (Request::Mkdir { name }, true),
        (Request::Rmdir { name }, true),
    ] {
        let command = Command::Request(request);
        let (mut client, mut server) = protected("rw.alice.3");
        assert!(asked(&mut client, &mut server, &command).is_ok(), "{command:?}");
        let (mut client, mut server) = protected("ro.bob.9");
        let reply = asked(&mut client, &mut server, &command);
        assert_eq!(reply.is_err(), changes, "{command:?}");
        if let Err(reply) = reply {
            assert!(reply.contains("Denied"), "{reply}");
            assert_eq!(
                asked(&mut client, &mut server, &Command::Ping),
                Err("Done".into()),
                "the connection stays usable"
            );
        }
    }
}

#[test]
fn the_handshake_has_to_be_through_in_ten_seconds_whatever_else_happens() {
    let mut server = server(1);
    for second in 1..10 {
        server.handle_timeout(Instant::from_millis(1000 + second * 1000));
        assert_eq!(tell(&mut server, &message(b"ping")), [DENIED]);
        assert_eq!(server.poll_timeout(), Some(Instant::from_millis(11_000)));
    }
    server.handle_timeout(Instant::from_millis(10_999));
    assert_eq!(server.poll_close(), None);
    server.handle_timeout(Instant::from_millis(11_000));
    assert_eq!(server.poll_close(), Some(Close::Gracefully));
    assert!(received(&mut server).is_empty());
    // A peer that does not read the reply is not through.
    let mut stuck = self::server(1);
    let (_, command) = secure(&mut stuck, key("rw.alice.3"));
    stuck.receive(&mut message(command.as_bytes())).unwrap();
    stuck.poll_transmit(&mut [0; 50]);
    assert_eq!(stuck.client(), None);
    stuck.handle_timeout(Instant::from_millis(11_000));
    assert_eq!(stuck.poll_close(), Some(Close::Reset));
    // In the middle of a body that is discarded.
    let mut draining = self::server(1);
    tell(&mut draining, &message(b"write 0 9 - a"));
    tell(&mut draining, b"0000009999xxxx");
    draining.handle_timeout(Instant::from_millis(11_000));
    assert!(draining.poll_close().is_some());
    // One that is through has its idle time.
    let (_, mut through) = protected("rw.alice.3");
    through.handle_timeout(Instant::from_millis(60_999));
    assert_eq!((through.poll_close(), through.poll_timeout()), (None, Some(Instant::from_millis(61_000))));
}

#[test]
fn a_server_reads_the_longest_secure_whatever_its_name_max() {
    let mut server: ServerSession<MAX_SECURE, Noise> = ServerSession::new(Limits::new(1));
    server.protect(security(1).guard().unwrap()).unwrap();
    let id = "ro.0123456789abcdef.4294967295";
    server.receive(&mut message(b"get /skiff/1")).unwrap();
    let mut room = [0; 700];
    let n = server.poll_transmit(&mut room);
    let mut client = client(key(id));
    sent(&mut client);
    client.receive(&mut room[..n]).unwrap();
    assert_eq!(client.poll_event(), Ok(None));
    let mut command = sent(&mut client);
    assert_eq!(command.len(), 10 + MAX_SECURE);
    server.receive(&mut command).unwrap();
    let n = server.poll_transmit(&mut room);
    client.receive(&mut room[..n]).unwrap();
    assert!(matches!(client.poll_event(), Ok(Some(ClientEvent::Hello(_)))));
    assert_eq!(server.client().unwrap().generation(), u32::MAX);
}

#[test]
fn every_cut_of_a_handshake_is_the_same_handshake() {
    let (_, whole) = secure(&mut server(1), key("rw.alice.3"));
    for cut in 0..10 + whole.len() {
        let mut server = server(1);
        let (mut client, command) = secure(&mut server, key("rw.alice.3"));
        let mut wire = message(command.as_bytes());
        let (first, second) = wire.split_at_mut(cut);
        server.receive(first).unwrap();
        server.receive(second).unwrap();
        let mut reply = Vec::new();
        while server.has_output() {
            assert_eq!(server.client(), None, "the reply is not out");
            let mut room = vec![0; cut.max(1)];
            let n = server.poll_transmit(&mut room);
            reply.extend_from_slice(&room[..n]);
        }
        assert!(server.client().is_some());
        for byte in &mut reply {
            client.receive(core::slice::from_mut(byte)).unwrap();
        }
        assert!(matches!(client.poll_event(), Ok(Some(ClientEvent::Hello(_)))), "{cut}");
    }
}
