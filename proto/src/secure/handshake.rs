//! The handshake NNpsk0 of the Noise Protocol Framework, revision 34, with empty payloads.
//!
//! ```text
//! initiator (client): psk, e        message 1: e, tag
//! responder (server): e, ee         message 2: e, tag
//! ```
//!
//! The prologue is mixed into the hash only, not into the keys, so nothing may be used before the peer's tag is
//! verified.

use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};
use zeroize::Zeroizing;

use super::aead::{Aead, Pattern};
use super::hash::{Bytes, hash, hkdf};
use super::keys::Psk;
use crate::message::{Forged, TAG};

/// Bytes of a handshake message: a public key and a tag.
pub(super) const MESSAGE: usize = 32 + TAG;

/// A handshake message.
pub(super) type Message = [u8; MESSAGE];

/// The keys of both directions.
pub(super) struct Split {
    pub(super) from_client: Zeroizing<Bytes>,
    pub(super) from_server: Zeroizing<Bytes>,
    #[cfg(test)]
    pub(super) hash: Bytes,
}

/// The symmetric state of Noise, with its cipher key.
struct Symmetric {
    pattern: Pattern,
    chaining: Zeroizing<Bytes>,
    hash: Bytes,
    key: Zeroizing<Bytes>,
}

impl Symmetric {
    /// The state after the token `psk`.
    fn new(pattern: Pattern, psk: &Psk, prologue: &[&[u8]; 3]) -> Self {
        let name = hash(&[pattern.as_str().as_bytes()]);
        let mut state = Self {
            pattern,
            chaining: Zeroizing::new(name),
            hash: hash(&[&name, prologue[0], prologue[1], prologue[2]]),
            key: Zeroizing::new([0; 32]),
        };
        let [chaining, mixed, key] = hkdf(&state.chaining, &*psk.0);
        (state.chaining, state.key) = (chaining, key);
        state.mix_hash(&*mixed);
        state
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&[&self.hash, data]);
    }

    fn mix_key(&mut self, input: &Bytes) {
        let [chaining, key] = hkdf(&self.chaining, input);
        (self.chaining, self.key) = (chaining, key);
    }

    /// The token `e`, with the key of a PSK handshake.
    fn mix_public(&mut self, public: &Bytes) {
        self.mix_hash(public);
        self.mix_key(public);
    }

    /// The token `ee`. The shared secret is all zeros if the peer's key is of low order: refused.
    fn mix_shared(&mut self, secret: &Bytes, public: &Bytes) -> Result<(), Forged> {
        let shared = Zeroizing::new(x25519(*secret, *public));
        if shared.iter().fold(0, |or, byte| or | byte) == 0 {
            return Err(Forged);
        }
        self.mix_key(&shared);
        Ok(())
    }

    /// The tag of an empty payload.
    fn seal<A: Aead>(&mut self) -> [u8; TAG] {
        let tag = A::new(self.pattern, &self.key).seal(&self.pattern.nonce(0), &self.hash, &mut []);
        self.mix_hash(&tag);
        tag
    }

    /// Verifies the tag of an empty payload, without mixing it in.
    fn verify<A: Aead>(&self, tag: &[u8; TAG]) -> Result<(), Forged> {
        A::new(self.pattern, &self.key).open(&self.pattern.nonce(0), &self.hash, &mut tag.clone())
    }

    fn split(&self) -> Split {
        let [from_client, from_server] = hkdf(&self.chaining, b"");
        Split {
            from_client,
            from_server,
            #[cfg(test)]
            hash: self.hash,
        }
    }
}

/// A message 1 with a public key whose secret need not be known.
#[cfg(test)]
pub(super) fn message_with(psk: &Psk, prologue: &[&[u8]; 3], public: &Bytes) -> Message {
    let mut state = Symmetric::new(Pattern::ChaChaPoly, psk, prologue);
    state.mix_public(public);
    join(public, &state.seal::<super::ChaChaPoly>())
}

fn join(public: &Bytes, tag: &[u8; TAG]) -> Message {
    let mut message = [0; MESSAGE];
    message[..32].copy_from_slice(public);
    message[32..].copy_from_slice(tag);
    message
}

fn cut(message: &Message) -> (Bytes, [u8; TAG]) {
    let (mut public, mut tag) = ([0; 32], [0; TAG]);
    public.copy_from_slice(&message[..32]);
    tag.copy_from_slice(&message[32..]);
    (public, tag)
}

/// The client, which has sent message 1.
pub(super) struct Initiator {
    state: Symmetric,
    secret: Zeroizing<Bytes>,
}

impl Initiator {
    /// Composes message 1. `secret` is fresh, unpredictable and used for nothing else.
    pub(super) fn new<A: Aead>(
        pattern: Pattern,
        psk: &Psk,
        prologue: &[&[u8]; 3],
        secret: Zeroizing<Bytes>,
    ) -> (Self, Message) {
        let mut state = Symmetric::new(pattern, psk, prologue);
        let public = x25519(*secret, X25519_BASEPOINT_BYTES);
        state.mix_public(&public);
        let tag = state.seal::<A>();
        (Self { state, secret }, join(&public, &tag))
    }

    /// Handles message 2.
    ///
    /// # Errors
    /// [`Forged`]: the server does not know the key, or the hello was altered.
    pub(super) fn finish<A: Aead>(mut self, message: &Message) -> Result<Split, Forged> {
        let (public, tag) = cut(message);
        self.state.mix_public(&public);
        self.state.mix_shared(&self.secret, &public)?;
        self.state.verify::<A>(&tag)?;
        self.state.mix_hash(&tag);
        Ok(self.state.split())
    }
}

/// The server, which has verified message 1: the client knows the key.
pub(super) struct Responder {
    state: Symmetric,
    public: Bytes,
    /// The tag of message 1. It is mixed in with the reply: hashing it earlier would reveal by its time whether the key
    /// is valid.
    tag: [u8; TAG],
}

impl Responder {
    /// Verifies message 1 without arithmetic on the curve: a client without a key costs only hashes and a tag.
    ///
    /// # Errors
    /// [`Forged`]: the client does not know the key, or answers a different hello.
    pub(super) fn new<A: Aead>(
        pattern: Pattern,
        psk: &Psk,
        prologue: &[&[u8]; 3],
        message: &Message,
    ) -> Result<Self, Forged> {
        let (public, tag) = cut(message);
        let mut state = Symmetric::new(pattern, psk, prologue);
        state.mix_public(&public);
        state.verify::<A>(&tag)?;
        Ok(Self { state, public, tag })
    }

    /// Composes message 2. `secret` is fresh, unpredictable and used for nothing else.
    ///
    /// # Errors
    /// [`Forged`]: the client's public key is of low order.
    pub(super) fn reply<A: Aead>(mut self, secret: &Bytes) -> Result<(Message, Split), Forged> {
        self.state.mix_hash(&self.tag);
        let public = x25519(*secret, X25519_BASEPOINT_BYTES);
        self.state.mix_public(&public);
        self.state.mix_shared(secret, &self.public)?;
        let tag = self.state.seal::<A>();
        Ok((join(&public, &tag), self.state.split()))
    }
}
