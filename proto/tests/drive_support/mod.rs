//! What the tests of the responder and the drives share: a small store in RAM, with faults, and a client's session that
//! both drives go through.
#![allow(dead_code, unused_macros, unused_imports, reason = "each test uses its part")]

mod script;
mod store;

pub(crate) use store::{Faults, RamStore};

/// Both ends of a connection that will be protected. Always the same, so that what one connection has sent verifies on the
/// next.
#[cfg(feature = "secure")]
pub(crate) fn ends(record_max: u16) -> Ends<skiff_proto::secure::Noise> {
    use skiff_proto::secure::{Entropy, KeyId, Login, Secret, Security};

    let secret = Secret::new([7; 32]);
    let key = secret.key(KeyId::parse(b"rw.alice.1").unwrap());
    let security = Security {
        nonce: secret.nonce(1, 1),
        secret,
        min_generation: 1,
        entropy: Entropy::Random([1; 32]),
        record_max,
        accepted: skiff_proto::Instant::ZERO,
    };
    (Login { key, ephemeral: [2; 32] }.start(), security.guard().unwrap())
}

/// What protects a connection: the client's end and the server's.
pub(crate) type Ends<C> = (<C as skiff_proto::cipher::Cipher>::Client, <C as skiff_proto::cipher::Cipher>::Server);

/// Names of 64 bytes.
pub(crate) const NAME_MAX: u16 = 64;
/// The session's buffer for them.
pub(crate) const BUF: usize = skiff_proto::command::command_len(NAME_MAX as usize);

pub(crate) fn name(text: &str) -> skiff_proto::Name<'_> {
    skiff_proto::Name::parse(text.as_bytes(), 255).unwrap()
}

/// Bytes that don't repeat soon.
pub(crate) fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251).to_le_bytes()[0]).collect()
}

/// A message, its length in front.
pub(crate) fn message(payload: &[u8]) -> Vec<u8> {
    [format!("{:010}", payload.len()).as_bytes(), payload].concat()
}

/// The messages of `wire`, one after the other.
pub(crate) fn messages(mut wire: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while !wire.is_empty() {
        let length: usize = core::str::from_utf8(&wire[..10]).unwrap().parse().unwrap();
        all.push(String::from_utf8_lossy(&wire[10..10 + length]).into_owned());
        wire = &wire[10 + length..];
    }
    all
}

/// The body of a `write`, in data messages of at most `chunk` bytes.
pub(crate) fn body(bytes: &[u8], chunk: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    for piece in bytes.chunks(chunk) {
        wire.extend(message(piece));
    }
    wire.extend(message(b""));
    wire.extend(message(format!("crc32c {:08x}", skiff_proto::crc::crc32c(bytes)).as_bytes()));
    wire
}
pub(crate) use script::everything;
