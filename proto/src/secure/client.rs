//! The client's part of PROTOCOL §8: from the hello to a protected connection, or to an error.

use core::fmt;

use zeroize::{Zeroize, Zeroizing};

use super::aead::{Aead, Pattern};
use super::handshake::Initiator;
use super::hash::Bytes;
use super::keys::Key;
use super::records::{RECORD_MAX, Transport};
use super::unhex;
use crate::cipher::Handshake;
use crate::message::{Forged, Records};
use crate::text::Text;
use crate::text::parse_number;

/// The key and the randomness with which a client protects one connection. See
/// [`ClientSession::protect`](crate::client::ClientSession::protect).
pub struct Login {
    /// The client's key.
    pub key: Key,
    /// 32 unpredictable bytes from a generator that is suitable for keys, used for nothing else.
    pub ephemeral: [u8; 32],
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({})", self.key.id())
    }
}

impl Login {
    /// Consumes the login to protect one connection.
    #[must_use]
    pub fn start<A: Aead>(mut self) -> Client<A> {
        let ephemeral = Zeroizing::new(self.ephemeral);
        self.ephemeral.zeroize();
        Client(State::Waiting { key: self.key, ephemeral, only: None })
    }
}

/// The client session's state of the connection's protection.
pub struct Client<A>(State<A>);

enum State<A> {
    /// Before the hello reply.
    Waiting {
        key: Key,
        ephemeral: Zeroizing<Bytes>,
        only: Option<Pattern>,
    },
    /// `secure` has been sent.
    Asked {
        initiator: Initiator,
        pattern: Pattern,
        record_max: u16,
    },
    Protected(Transport<A>),
    Failed,
}

impl<A: Aead> Client<A> {
    const fn transport(&self) -> Option<&Transport<A>> {
        match &self.0 {
            State::Protected(transport) => Some(transport),
            _ => None,
        }
    }

    #[cfg(test)]
    pub(super) fn set_counters(&mut self, next: u64) {
        let State::Protected(transport) = &mut self.0 else { panic!() };
        transport.set_counters(next);
    }

    /// Before the connection: accepts only `pattern`.
    #[must_use]
    pub const fn only(mut self, pattern: Pattern) -> Self {
        if let State::Waiting { only, .. } = &mut self.0 {
            *only = Some(pattern);
        }
        self
    }

    /// The pattern of the connection, once it is protected.
    #[must_use]
    pub fn pattern(&self) -> Option<Pattern> {
        self.transport().map(Transport::pattern)
    }
}

/// The offer of a hello reply: the first pattern of the client's list that it has, or `only` this one, and
/// `record-max`. `None` unless the offer is complete.
fn offered<A: Aead>(hello: &[u8], only: Option<Pattern>) -> Option<(Pattern, u16)> {
    let value = |key: &[u8]| {
        let mut values = hello.split(|&byte| byte == b' ').skip(1).filter_map(|word| word.strip_prefix(key));
        // A key that occurs twice has no meaning.
        values.next().filter(|_| values.next().is_none())
    };
    let offers = |pattern: &&Pattern| {
        let noise = value(b"noise=").unwrap_or_default();
        noise.split(|&byte| byte == b',').any(|word| word == pattern.as_str().as_bytes())
    };
    let mut patterns = A::patterns().iter().filter(|pattern| only.is_none_or(|only| only == **pattern));
    let pattern = *patterns.find(offers)?;
    let record_max = u16::try_from(parse_number(value(b"record-max=")?)?).ok();
    let record_max = record_max.filter(|max| RECORD_MAX.contains(max))?;
    unhex::<16>(value(b"nonce=")?)?;
    Some((pattern, record_max))
}

impl<A: Aead> Handshake for Client<A> {
    fn begin(&mut self, hello: &[u8], out: &mut [u8]) -> Option<usize> {
        let State::Waiting { key, ephemeral, only } = core::mem::replace(&mut self.0, State::Failed) else {
            return None;
        };
        let (pattern, record_max) = offered::<A>(hello, only)?;
        let mut text = Text::new(out);
        text.str("secure ").str(pattern.as_str()).str(" ");
        key.id().encode(&mut text);
        let asked = text.finish()?;
        let prologue = [hello, b"\n", &out[..asked]];
        let (initiator, message) = Initiator::new::<A>(pattern, key.psk(), &prologue, ephemeral);
        let mut text = Text::new(&mut out[asked..]);
        let hex = text.str(" ").hex(&message).finish()?;
        self.0 = State::Asked { initiator, pattern, record_max };
        Some(asked + hex)
    }

    fn finish(&mut self, reply: &[u8]) -> Result<(), Forged> {
        let State::Asked { initiator, pattern, record_max } = core::mem::replace(&mut self.0, State::Failed) else {
            return Err(Forged);
        };
        let message = reply.strip_prefix(b"ok ").and_then(unhex).ok_or(Forged)?;
        let keys = initiator.finish::<A>(&message)?;
        self.0 = State::Protected(Transport::client(pattern, record_max, &keys));
        Ok(())
    }
}

impl<A: Aead> Records for Client<A> {
    fn is_active(&self) -> bool {
        matches!(self.0, State::Protected(_))
    }

    fn record_max(&self) -> usize {
        self.transport().map_or(0, Records::record_max)
    }

    fn open(&mut self, record: &mut [u8]) -> Result<(), Forged> {
        match &mut self.0 {
            State::Protected(transport) => transport.open(record),
            _ => Err(Forged),
        }
    }

    fn seal(&self, record: &mut [u8]) {
        if let Some(transport) = self.transport() {
            transport.seal(record);
        }
    }

    fn sent(&mut self) {
        if let State::Protected(transport) = &mut self.0 {
            transport.sent();
        }
    }

    fn is_spent(&self) -> bool {
        self.transport().is_some_and(Records::is_spent)
    }
}

impl<A> fmt::Debug for Client<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Waiting { .. } => "Waiting",
            State::Asked { .. } => "Asked",
            State::Protected(_) => "Protected",
            State::Failed => "Failed",
        })
    }
}
