//! The vector of PROTOCOL §8, byte for byte, and tests that need private items.

use core::time::Duration;
use std::borrow::ToOwned;
use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::vec::Vec;

use zeroize::Zeroizing;

use super::handshake::{Initiator, MESSAGE, Responder};
use super::hash::hash;
use super::records::Transport;
use super::*;
use crate::ProtocolError;
use crate::client::{ClientEvent, ClientSession};
use crate::command::{Command, Request, VERSION, Verb, Verbs};
use crate::message::{Forged, HEADER_LEN, Records, TAG};
use crate::name::Name;
use crate::server::{Answer, Close, Limits, ServerEvent, ServerSession};
use crate::time::Instant;

const VECTOR: &str = include_str!("../../../docs/vectors/secure/session.txt");

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// A line `NAME  VALUE` of the vector.
fn value(name: &str) -> String {
    let line = VECTOR.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in the vector")).trim().to_owned()
}

fn bytes<const N: usize>(name: &str) -> [u8; N] {
    unhex(&value(name)).try_into().unwrap()
}

/// The messages in clear, in their order: `C: "LENGTH" "PAYLOAD"`.
fn clear() -> Vec<(char, Vec<u8>)> {
    let messages = VECTOR.lines().filter_map(|line| {
        let (side, message) = line.split_once(": \"").filter(|(side, _)| side.len() == 1)?;
        let (length, payload) = message.strip_suffix('"')?.split_once("\" \"")?;
        Some((side.chars().next()?, [length, payload].concat().into_bytes()))
    });
    messages.collect()
}

/// The records of one side: what they say, and what they are on the wire.
fn records(side: char) -> Vec<(Vec<u8>, Vec<u8>)> {
    let records = VECTOR.lines().filter_map(|line| {
        let (number, rest) = line.strip_prefix(side)?.split_once(" \"")?;
        number.parse::<u32>().ok()?;
        let (text, rest) = rest.split_once('"')?;
        let (length, record) = rest.trim().split_once(' ')?;
        let wire = [length.as_bytes(), &unhex(record.trim())].concat();
        Some((text.replace("\\n", "\n").into_bytes(), wire))
    });
    records.collect()
}

fn secret() -> Secret {
    Secret::new(bytes("D"))
}

fn key_id() -> KeyId {
    KeyId::parse(value("KEYID").as_bytes()).unwrap()
}

fn security() -> Security {
    Security {
        secret: secret(),
        min_generation: 1,
        nonce: core::array::from_fn(|at| 0xc0 + u8::try_from(at).unwrap()),
        entropy: Entropy::Random(bytes("server e secret")),
        record_max: 1014,
        accepted: Instant::ZERO,
    }
}

type Server<A = ChaChaPoly> = ServerSession<200, Noise<A>>;
type Client<A = ChaChaPoly> = ClientSession<600, 4, Noise<A>>;

fn server(security: Security) -> Server {
    let verbs = [Verb::Sum, Verb::Remove, Verb::Rename, Verb::Mkdir, Verb::Rmdir, Verb::Space];
    let verbs = verbs.into_iter().fold(Verbs::ALL, Verbs::without);
    let mut server = ServerSession::new(Limits { server: "skiff/0.2", verbs, ..Limits::new(64) });
    server.protect(security.guard().unwrap()).unwrap();
    server
}

fn client() -> Client {
    let mut client = ClientSession::new(Duration::MAX);
    let login = Login { key: secret().key(key_id()), ephemeral: bytes("client e secret") };
    client.protect(login.start()).unwrap();
    client
}

fn from_server(server: &mut Server) -> Vec<u8> {
    let mut room = [0; 2048];
    let n = server.poll_transmit(&mut room);
    room[..n].to_vec()
}

fn from_client(client: &mut Client) -> Vec<u8> {
    let mut room = [0; 2048];
    let n = client.poll_transmit(&mut room);
    room[..n].to_vec()
}

#[test]
fn keys_and_handshake_are_those_of_the_vector() {
    assert_eq!(*secret().psk(value("KEYID").as_bytes()).0, bytes("PSK"));
    assert_eq!(hash(&[Pattern::ChaChaPoly.as_str().as_bytes()]), bytes("h0 = ck0          "));
    let messages = clear();
    let (hello, secure, reply) = (&messages[1].1[10..], &messages[2].1[10..], &messages[3].1[10..]);
    let (asked, message_1) = secure.split_at(secure.len() - 97);
    let prologue = [hello, b"\n", asked];
    assert_eq!(prologue.concat().len(), 246);
    let psk = secret().psk(value("KEYID").as_bytes());
    let ephemeral = Zeroizing::new(bytes("client e secret"));
    let (initiator, message) = Initiator::new::<ChaChaPoly>(Pattern::ChaChaPoly, &psk, &prologue, ephemeral);
    assert_eq!(message.to_vec(), unhex(core::str::from_utf8(&message_1[1..]).unwrap()));
    assert_eq!(message[..32], bytes::<32>("client e public"));
    let responder = Responder::new::<ChaChaPoly>(Pattern::ChaChaPoly, &psk, &prologue, &message).unwrap();
    let (message, server) = responder.reply::<ChaChaPoly>(&bytes("server e secret")).unwrap();
    assert_eq!(message.to_vec(), unhex(core::str::from_utf8(&reply[3..]).unwrap()));
    assert_eq!(message[..32], bytes::<32>("server e public"));
    let client = initiator.finish::<ChaChaPoly>(&message).unwrap();
    for keys in [server, client] {
        assert_eq!(keys.hash, bytes("handshake hash"));
        assert_eq!(*keys.from_client, bytes("k client to server"));
        assert_eq!(*keys.from_server, bytes("k server to client"));
    }
}

#[test]
fn another_record_max_in_the_hello_changes_both_tags_and_nothing_else() {
    let messages = clear();
    let hello = String::from_utf8(messages[1].1[10..].to_vec()).unwrap().replace("=1014", "=1040");
    let secure = &messages[2].1[10..];
    let prologue = [hello.as_bytes(), b"\n", &secure[..secure.len() - 97]];
    let psk = secret().psk(value("KEYID").as_bytes());
    let ephemeral = Zeroizing::new(bytes("client e secret"));
    let (_, message_1) = Initiator::new::<ChaChaPoly>(Pattern::ChaChaPoly, &psk, &prologue, ephemeral);
    let responder = Responder::new::<ChaChaPoly>(Pattern::ChaChaPoly, &psk, &prologue, &message_1).unwrap();
    let (message_2, _) = responder.reply::<ChaChaPoly>(&bytes("server e secret")).unwrap();
    let note = VECTOR.lines().find(|line| line.contains("record-max=1040")).unwrap();
    for (message, public, word) in
        [(message_1, "client e public", "message 1 "), (message_2, "server e public", "message 2 ")]
    {
        assert_eq!(message[..32], bytes::<32>(public));
        let tag = &note.split_once(word).unwrap().1[..2 * TAG];
        assert_eq!(message[32..].to_vec(), unhex(tag));
    }
}

#[test]
fn two_sessions_say_the_vector_byte_for_byte() {
    let messages = clear();
    let (mut client, mut server) = (client(), server(security()));
    client.request(&Command::Hello { version: VERSION }).unwrap();
    for at in [0, 2] {
        let mut up = from_client(&mut client);
        assert_eq!((at, &up), (at, &messages[at].1));
        let length = up.len();
        assert_eq!(server.receive(&mut up).unwrap().taken, length);
        let mut down = from_server(&mut server);
        assert_eq!((at, &down), (at, &messages[at + 1].1));
        client.receive(&mut down).unwrap();
        if at == 0 {
            assert!(!client.can_request());
            assert_eq!(client.poll_event(), Ok(None));
        }
    }
    let Ok(Some(ClientEvent::Hello(Some(hello)))) = client.poll_event() else { panic!() };
    assert_eq!(hello.name_max, 64);
    assert_eq!(server.client(), Some(&key_id()));
    let (up, down) = (records('C'), records('S'));
    let (mut sent_up, mut sent_down) = (Vec::new(), Vec::new());
    let mut ask = |client: &mut Client, server: &mut Server| {
        let mut wire = from_client(client);
        sent_up.extend_from_slice(&wire);
        let length = wire.len();
        assert_eq!(server.receive(&mut wire).unwrap().taken, length);
    };
    client.request(&Command::Ping).unwrap();
    ask(&mut client, &mut server);
    sent_down.extend(from_server(&mut server));
    let name = Name::parse(b"a.txt", 64).unwrap();
    client.request(&Command::Request(Request::Write { offset: 0, size: 6, mtime: None, name })).unwrap();
    ask(&mut client, &mut server);
    assert!(matches!(server.poll_event(), Some(ServerEvent::Request(_))));
    server.answer(Answer::Write { crc: 0 }).unwrap();
    let mut room = [0; 64];
    let fill = |room: &mut [u8]| {
        room[..6].copy_from_slice(b"hello\n");
        Ok::<_, ()>(6)
    };
    let n = client.send(&mut room, fill).unwrap();
    sent_up_extend(&mut server, &mut room[..n], &up[2].1, Some(b"hello\n"));
    client.finish().unwrap();
    let mut end = from_client(&mut client);
    assert_eq!(end, [&up[3].1[..], &up[4].1].concat());
    server.receive(&mut end).unwrap();
    assert_eq!(server.poll_event(), Some(ServerEvent::Commit { size: 6, crc: Some(0x353d_d8be) }));
    server.answer(Answer::Stored { size: 6, crc: Some(0x353d_d8be) }).unwrap();
    sent_down.extend(from_server(&mut server));
    client.request(&Command::Request(Request::Read { offset: 0, length: None, name })).unwrap();
    let mut read = from_client(&mut client);
    assert_eq!(read, up[5].1);
    server.receive(&mut read).unwrap();
    assert!(matches!(server.poll_event(), Some(ServerEvent::Request(_))));
    let tag = crate::reply::Tag::parse(b"1").unwrap();
    server.answer(Answer::Read { length: 6, size: 6, tag }).unwrap();
    sent_down.extend(from_server(&mut server));
    let n = server.send(&mut room, fill).unwrap();
    sent_down.extend_from_slice(&room[..n]);
    server.finish().unwrap();
    sent_down.extend(from_server(&mut server));
    assert_eq!(sent_down, down.iter().flat_map(|(_, wire)| wire.clone()).collect::<Vec<_>>());
    // The client understands all of it.
    let mut events = Vec::new();
    let (mut input, mut payload) = (&mut sent_down[..], Vec::new());
    loop {
        let received = client.receive(input).unwrap();
        payload.extend_from_slice(received.payload);
        let taken = received.taken;
        input = &mut input[taken..];
        match client.poll_event().unwrap() {
            Some(event) => events.push(format!("{event:?}")),
            None if taken == 0 => break,
            None => {}
        }
    }
    assert_eq!((&payload[..], events.len()), (&b"hello\n"[..], 4), "{events:?}");
    client.request(&Command::Quit).unwrap();
    let mut quit = from_client(&mut client);
    assert_eq!(quit, up[6].1);
    server.receive(&mut quit).unwrap();
    assert_eq!(server.poll_close(), Some(Close::Gracefully));
    assert_eq!(sent_up, [&up[0].1[..], &up[1].1].concat());
}

/// A record that the client has sent: it is the vector's, and the server takes it.
fn sent_up_extend(server: &mut Server, wire: &mut [u8], expected: &[u8], payload: Option<&[u8]>) {
    assert_eq!(wire, expected);
    assert_eq!(Some(&*server.receive(wire).unwrap().payload), payload);
}

/// Both ends of a handshake with `pattern`.
fn transports<A: Aead>(pattern: Pattern) -> (Transport<A>, Transport<A>) {
    let (psk, prologue) = (secret().psk(b"rw.a.1"), [&b"hello"[..], b"\n", b"secure"]);
    let (initiator, message) = Initiator::new::<A>(pattern, &psk, &prologue, Zeroizing::new([1; 32]));
    let responder = Responder::new::<A>(pattern, &psk, &prologue, &message).unwrap();
    let (message, server) = responder.reply::<A>(&[2; 32]).unwrap();
    let client = initiator.finish::<A>(&message).unwrap();
    (Transport::client(pattern, 600, &client), Transport::server(pattern, 600, &server))
}

#[test]
fn a_direction_carries_so_many_messages_and_its_sender_closes_before_the_next() {
    fn check<A: Aead>(pattern: Pattern, last: u64) {
        let (mut client, mut server) = transports::<A>(pattern);
        client.set_counters(last);
        server.set_counters(last);
        let mut record = [0; TAG + 4];
        client.seal(&mut record);
        assert!(!client.is_spent());
        client.sent();
        assert!(client.is_spent());
        assert_eq!(server.open(&mut record), Ok(()));
        client.seal(&mut record);
        assert_eq!(server.open(&mut record), Err(Forged), "a right tag, one message too many");
    }
    check::<ChaChaPoly>(Pattern::ChaChaPoly, u64::from(u32::MAX));
    #[cfg(feature = "secure-aes")]
    check::<Portable>(Pattern::AesGcm, (1 << 24) - 1);
}

/// Two sessions behind a handshake, whose next messages have the number `next`.
fn protected(next: u64) -> (Client, Server) {
    let (mut client, mut server) = (client(), server(security()));
    client.request(&Command::Hello { version: VERSION }).unwrap();
    for _ in 0..2 {
        server.receive(&mut from_client(&mut client)).unwrap();
        client.receive(&mut from_server(&mut server)).unwrap();
        _ = client.poll_event().unwrap();
    }
    server.guard_mut().unwrap().set_counters(next);
    client.handshake_mut().unwrap().set_counters(next);
    (client, server)
}

#[test]
fn sessions_reset_the_connection_before_one_message_too_many() {
    let (mut client, mut server) = protected(u64::from(u32::MAX));
    client.request(&Command::Ping).unwrap();
    server.receive(&mut from_client(&mut client)).unwrap();
    client.receive(&mut from_server(&mut server)).unwrap();
    assert_eq!(client.poll_event(), Ok(Some(ClientEvent::Done)));
    client.request(&Command::Ping).unwrap();
    assert_eq!(from_client(&mut client), b"");
    assert_eq!(client.poll_event(), Err(ProtocolError::Spent));
    // A server that owes one more reply than it may send.
    let (mut client, mut server) = protected(u64::from(u32::MAX) - 1);
    for _ in 0..2 {
        client.request(&Command::Ping).unwrap();
        server.receive(&mut from_client(&mut client)).unwrap();
    }
    let mut first = from_server(&mut server);
    assert_eq!(server.poll_close(), None);
    client.receive(&mut first).unwrap();
    let (mut client, mut server) = protected(u64::from(u32::MAX));
    let read = Request::Read { offset: 0, length: None, name: Name::parse(b"a", 9).unwrap() };
    client.request(&Command::Request(read)).unwrap();
    server.receive(&mut from_client(&mut client)).unwrap();
    assert!(server.poll_event().is_some());
    server.answer(Answer::Read { length: 6, size: 6, tag: crate::reply::Tag::UNKNOWN }).unwrap();
    assert_eq!(from_server(&mut server).len(), 10 + 8 + TAG);
    assert!(server.send(&mut [0; 64], |_| Ok::<_, ()>(6)).is_err());
    assert_eq!(server.poll_close(), Some(Close::Reset));
    assert_eq!(server.receive(&mut [0]), Err(ProtocolError::Spent));
}

#[test]
fn a_record_that_comes_slowly_is_progress_byte_by_byte() {
    let second = |n: usize| Instant::from_millis(1000 * (1 + n as u64));
    let (mut client, mut server) = protected(7);
    server.handle_timeout(second(0));
    let idle = usize::try_from(server.limits().idle.as_secs()).unwrap();
    client.request(&Command::Request(Request::Remove { name: Name::parse(&[b'n'; 64], 64).unwrap() })).unwrap();
    let mut record = from_client(&mut client);
    let (start, rest) = record.split_at_mut(HEADER_LEN);
    server.receive(start).unwrap();
    // What is there already is offered again each time; the last byte is missing.
    for n in 1..rest.len() {
        server.handle_timeout(second(n * idle / 10));
        assert_eq!(server.receive(&mut rest[..n]).unwrap().taken, 0);
        assert_eq!(server.poll_close(), None, "after {n} bytes");
    }
    let last = (rest.len() - 1) * idle / 10;
    assert!(last > 3 * idle);
    server.handle_timeout(second(last + idle - 1));
    // Nothing new.
    server.receive(&mut rest[..1]).unwrap();
    assert_eq!(server.poll_close(), None);
    server.handle_timeout(second(last + idle));
    assert!(server.poll_close().is_some());
}

#[test]
fn parked_connections_keep_keys_counters_client_and_nonce_in_few_bytes() {
    let (mut client, mut server) = protected(7);
    for _ in 0..3 {
        client.request(&Command::Hello { version: VERSION }).unwrap();
        server.receive(&mut from_client(&mut client)).unwrap();
        let mut reply = from_server(&mut server);
        client.receive(&mut reply).unwrap();
        let Ok(Some(ClientEvent::Hello(Some(_)))) = client.poll_event() else { panic!() };
        let parked = server.park().unwrap();
        server = ServerSession::resume(*server.limits(), parked);
        assert_eq!(server.client(), Some(&key_id()));
    }
    let text: Vec<u8> = clear()[1].1[10..].to_vec();
    let mut buffer = [0; 134];
    let len = crate::cipher::Guard::offer(server.guard().unwrap(), &mut buffer);
    assert!(text.ends_with(&buffer[..len]), "the nonce is the same for every hello of a connection");
    assert!(size_of::<crate::server::Parked<Noise>>() - size_of::<crate::server::Parked>() <= 136);
    let more = size_of::<Server>() - size_of::<ServerSession<200>>();
    assert!(more <= 144, "{more}");
}

#[test]
fn a_pool_gives_an_ephemeral_secret_that_depends_on_everything() {
    let with = |pool: u8, nonce: u8, secret: u8, message: u8| {
        let security = Security {
            secret: Secret::new([secret; 32]),
            nonce: [nonce; 16],
            entropy: Entropy::Pool([pool; 32]),
            ..security()
        };
        *security.ephemeral(&[message; MESSAGE])
    };
    let mut all = BTreeMap::new();
    for (pool, nonce, secret, message) in [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)] {
        all.insert(with(pool, nonce, secret, message), ());
    }
    assert_eq!(all.len(), 5);
    assert_eq!(*security().ephemeral(&[0; MESSAGE]), bytes("server e secret"));
}

#[test]
fn public_keys_of_low_order_are_refused_on_both_sides() {
    let psk = secret().psk(b"rw.a.1");
    let prologue = [&b"hello"[..], b"\n", b"secure"];
    // Zero, one, and the points of order 8 (RFC 7748, section 7), with the bit that is ignored too.
    let order_8 = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800";
    let mut one = [0; 32];
    one[0] = 1;
    let mut zero_with_high_bit = [0; 32];
    zero_with_high_bit[31] = 0x80;
    for public in [[0; 32], one, zero_with_high_bit, unhex(order_8).try_into().unwrap()] {
        // From somebody who knows the key: the tag is right.
        let message = handshake::message_with(&psk, &prologue, &public);
        let responder = Responder::new::<ChaChaPoly>(Pattern::ChaChaPoly, &psk, &prologue, &message).unwrap();
        assert!(responder.reply::<ChaChaPoly>(&[2; 32]).is_err());
        let ephemeral = Zeroizing::new([1; 32]);
        let (initiator, _) = Initiator::new::<ChaChaPoly>(Pattern::ChaChaPoly, &psk, &prologue, ephemeral);
        let mut message = [0; MESSAGE];
        message[..32].copy_from_slice(&public);
        assert_eq!(initiator.finish::<ChaChaPoly>(&message).err(), Some(Forged));
    }
}

#[test]
fn the_longest_secure_and_the_longest_offer_fit() {
    let id = KeyId::new(Role::ReadWrite, "0123456789abcdef", u32::MAX).unwrap();
    let longest = Pattern::ALL.iter().map(|pattern| pattern.as_str().len()).max().unwrap();
    assert_eq!(MAX_SECURE, format!("secure {} {id} ", "x".repeat(longest)).len() + 96);
    let patterns: Vec<_> = Pattern::ALL.iter().map(|pattern| pattern.as_str()).collect();
    let offer = format!(" noise={} record-max=65535 nonce={}", patterns.join(","), "0".repeat(32));
    assert_eq!(offer.len(), crate::cipher::MAX_OFFER);
}
