//! The shared parts of the tests of the responder and the drives: a small store in memory, and a script for both
//! drives.
#![allow(dead_code, unused_macros, unused_imports, reason = "each test uses its part")]

mod script;

pub(crate) use script::everything;
use skiff_kit::memory::{Layout, MemoryStore};
pub(crate) use skiff_kit::sans_io::message;

/// Both ends of a connection that will be protected. Always the same, so that what one connection has sent verifies on
/// the next.
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

/// An empty store without directories, with 12 KiB of room.
pub(crate) fn store() -> MemoryStore {
    let store = MemoryStore::new(Layout::Flat);
    store.set_capacity(12_288);
    store
}

/// Bytes that don't repeat soon.
pub(crate) fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251).to_le_bytes()[0]).collect()
}

/// The messages of `wire`, one after the other.
pub(crate) fn messages(wire: &[u8]) -> Vec<String> {
    let payloads = skiff_kit::sans_io::payloads(wire).unwrap();
    payloads.into_iter().map(|payload| String::from_utf8_lossy(payload).into_owned()).collect()
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
