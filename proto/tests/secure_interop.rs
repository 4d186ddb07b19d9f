//! The handshake and records against `snow`, an independent implementation of Noise, in both roles and both patterns.
#![cfg(feature = "secure-aes")]
#![expect(clippy::unwrap_used, reason = "also the helpers of tests are tests")]

mod drive_support;

use core::time::Duration;

use drive_support::message;
use skiff_proto::Instant;
use skiff_proto::client::{ClientEvent, ClientSession};
use skiff_proto::command::{Command, VERSION};
use skiff_proto::message::{Forged, TAG};
use skiff_proto::secure::{Aead, Client, Entropy, Key, KeyId, Login, Noise, Pattern, Portable, Secret, Security};
use skiff_proto::server::{Close, Limits, ServerSession};

/// [`Portable`], but with AES preferred, as on a processor with instructions for it.
struct AesFirst(Portable);

impl Aead for AesFirst {
    fn patterns() -> &'static [Pattern] {
        &[Pattern::AesGcm, Pattern::ChaChaPoly]
    }

    fn new(pattern: Pattern, key: &[u8; 32]) -> Self {
        Self(Portable::new(pattern, key))
    }

    fn key(&self) -> &[u8; 32] {
        self.0.key()
    }

    fn seal(&self, nonce: &[u8; 12], associated: &[u8], text: &mut [u8]) -> [u8; TAG] {
        self.0.seal(nonce, associated, text)
    }

    fn open(&self, nonce: &[u8; 12], associated: &[u8], record: &mut [u8]) -> Result<(), Forged> {
        self.0.open(nonce, associated, record)
    }
}

const ID: &[u8] = b"ro.peer-1.4294967295";

fn secret() -> Secret {
    Secret::new([9; 32])
}

fn key() -> Key {
    secret().key(KeyId::parse(ID).unwrap())
}

/// The 32 bytes of a key, from its text form, as a peer without this crate gets them.
fn psk() -> [u8; 32] {
    use base64ct::{Base64, Encoding};
    let mut out = [0; Key::TEXT_LEN];
    let mut psk = [0; 32];
    Base64::decode(key().encode(&mut out).rsplit(' ').next().unwrap(), &mut psk).unwrap();
    psk
}

fn snow<'a>(pattern: Pattern, psk: &'a [u8; 32], prologue: &'a [u8]) -> snow::Builder<'a> {
    snow::Builder::new(pattern.as_str().parse().unwrap()).psk(0, psk).unwrap().prologue(prologue).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Sends a record of `text` in each direction and compares the result.
fn seal(peer: &mut snow::TransportState, text: &[u8]) -> Vec<u8> {
    let mut record = vec![0; text.len() + 16];
    assert_eq!(peer.write_message(text, &mut record).unwrap(), record.len());
    message(&record)
}

fn open(peer: &mut snow::TransportState, wire: &[u8]) -> Vec<u8> {
    let mut text = vec![0; wire.len() - 10];
    let n = peer.read_message(&wire[10..], &mut text).unwrap();
    text.truncate(n);
    text
}

#[test]
fn a_server_understands_a_client_that_uses_snow() {
    for pattern in [Pattern::ChaChaPoly, Pattern::AesGcm] {
        let mut server: ServerSession<200, Noise<Portable>> = ServerSession::new(Limits::new(64));
        let security = Security {
            secret: secret(),
            min_generation: u32::MAX,
            nonce: [3; 16],
            entropy: Entropy::Pool([4; 32]),
            record_max: 600,
            accepted: Instant::ZERO,
        };
        server.protect(security.guard().unwrap()).unwrap();
        let mut room = [0; 1024];
        server.receive(&mut message(b"get /skiff/1")).unwrap();
        let n = server.poll_transmit(&mut room);
        let asked = format!("secure {} {}", pattern.as_str(), core::str::from_utf8(ID).unwrap());
        let prologue = [&room[10..n], b"\n", asked.as_bytes()].concat();
        let psk = psk();
        let mut client = snow(pattern, &psk, &prologue).build_initiator().unwrap();
        let mut first = [0; 48];
        assert_eq!(client.write_message(b"", &mut first).unwrap(), 48);
        server.receive(&mut message(format!("{asked} {}", hex(&first)).as_bytes())).unwrap();
        let n = server.poll_transmit(&mut room);
        let second = core::str::from_utf8(&room[10..n]).unwrap().strip_prefix("ok ").unwrap();
        client.read_message(&unhex(second), &mut []).unwrap();
        let mut client = client.into_transport_mode().unwrap();
        assert_eq!(server.client().unwrap().client(), "peer-1");
        assert_eq!(server.guard().unwrap().pattern(), Some(pattern));
        for _ in 0..3 {
            let mut wire = [seal(&mut client, b"ping"), seal(&mut client, b""), seal(&mut client, b"mkdir d")].concat();
            let (mut input, mut replies) = (&mut wire[..], Vec::new());
            while !input.is_empty() {
                let taken = server.receive(input).unwrap().taken;
                input = &mut input[taken..];
                let n = server.poll_transmit(&mut room);
                replies.extend_from_slice(&room[..n]);
            }
            for reply in [&b"ok"[..], b"error denied this key may only read"] {
                let (wire, rest) = replies.split_at(10 + reply.len() + 16);
                assert_eq!(open(&mut client, wire), reply);
                replies = rest.to_vec();
            }
        }
        server.receive(&mut seal(&mut client, b"quit")).unwrap();
        assert_eq!(server.poll_close(), Some(Close::Gracefully));
    }
}

#[test]
fn a_client_understands_a_server_that_uses_snow() {
    fn check<A: Aead>(only: Option<Pattern>, pattern: Pattern) {
        let mut client: ClientSession<600, 4, Noise<A>> = ClientSession::new(Duration::MAX);
        let handshake = Login { key: key(), ephemeral: [5; 32] }.start();
        client.protect(only.into_iter().fold(handshake, Client::only)).unwrap();
        client.request(&Command::Hello { version: VERSION }).unwrap();
        let mut room = [0; 1024];
        _ = client.poll_transmit(&mut room);
        let patterns = [Pattern::ChaChaPoly.as_str(), Pattern::AesGcm.as_str()].join(",");
        let hello = format!("skiff/1 noise={patterns} record-max=65535 x=y nonce={}", "0f".repeat(16));
        client.receive(&mut message(hello.as_bytes())).unwrap();
        assert_eq!(client.poll_event(), Ok(None));
        let n = client.poll_transmit(&mut room);
        let (asked, first) = core::str::from_utf8(&room[10..n]).unwrap().rsplit_once(' ').unwrap();
        let prologue = [hello.as_bytes(), b"\n", asked.as_bytes()].concat();
        let psk = psk();
        let mut server = snow(pattern, &psk, &prologue).build_responder().unwrap();
        server.read_message(&unhex(first), &mut []).unwrap();
        let mut second = [0; 48];
        server.write_message(b"", &mut second).unwrap();
        client.receive(&mut message(format!("ok {}", hex(&second)).as_bytes())).unwrap();
        let Ok(Some(ClientEvent::Hello(Some(hello)))) = client.poll_event() else { panic!() };
        assert_eq!((hello.server, hello.name_max), ("", 255));
        assert_eq!(client.handshake().unwrap().pattern(), Some(pattern));
        let mut server = server.into_transport_mode().unwrap();
        for _ in 0..3 {
            client.request(&Command::Ping).unwrap();
            let n = client.poll_transmit(&mut room);
            assert_eq!(open(&mut server, &room[..n]), b"ping");
            client.receive(&mut seal(&mut server, b"ok")).unwrap();
            assert_eq!(client.poll_event(), Ok(Some(ClientEvent::Done)));
        }
    }
    check::<Portable>(None, Pattern::ChaChaPoly);
    check::<AesFirst>(None, Pattern::AesGcm);
    check::<AesFirst>(Some(Pattern::ChaChaPoly), Pattern::ChaChaPoly);
}
