//! Records: sealed messages, with a key and a counter for each direction.

use zeroize::Zeroizing;

use super::aead::{Aead, Pattern};
use super::handshake::Split;
use super::hash::Bytes;
use crate::message::{Forged, Records, TAG};

/// The least and the greatest `record-max`.
pub(super) const RECORD_MAX: core::ops::RangeInclusive<u16> = 600..=u16::MAX;

/// A key without its cipher: what a parked session keeps.
pub(super) struct Key(Zeroizing<Bytes>);

/// One direction.
struct Direction<A> {
    cipher: A,
    /// The number of the next message.
    next: u64,
}

/// Both directions of a connection.
pub(super) struct Transport<A> {
    pattern: Pattern,
    record_max: u16,
    incoming: Direction<A>,
    outgoing: Direction<A>,
}

impl<A: Aead> Transport<A> {
    /// The server's side.
    pub(super) fn server(pattern: Pattern, record_max: u16, keys: &Split) -> Self {
        Self::new(pattern, record_max, &keys.from_client, &keys.from_server)
    }

    /// The client's side.
    pub(super) fn client(pattern: Pattern, record_max: u16, keys: &Split) -> Self {
        Self::new(pattern, record_max, &keys.from_server, &keys.from_client)
    }

    fn new(pattern: Pattern, record_max: u16, incoming: &Bytes, outgoing: &Bytes) -> Self {
        let direction = |key| Direction { cipher: A::new(pattern, key), next: 0 };
        Self { pattern, record_max, incoming: direction(incoming), outgoing: direction(outgoing) }
    }

    pub(super) const fn pattern(&self) -> Pattern {
        self.pattern
    }

    /// Keeps the keys and drops the expanded ones of their ciphers.
    pub(super) fn park(&self) -> Transport<Key> {
        self.map(|cipher| Key(Zeroizing::new(*cipher.key())))
    }

    #[cfg(test)]
    pub(super) fn set_counters(&mut self, next: u64) {
        (self.incoming.next, self.outgoing.next) = (next, next);
    }
}

impl Transport<Key> {
    pub(super) fn resume<A: Aead>(&self) -> Transport<A> {
        self.map(|key| A::new(self.pattern, &key.0))
    }
}

impl<A> Transport<A> {
    fn map<B>(&self, make: impl Fn(&A) -> B) -> Transport<B> {
        let direction = |of: &Direction<A>| Direction { cipher: make(&of.cipher), next: of.next };
        Transport {
            pattern: self.pattern,
            record_max: self.record_max,
            incoming: direction(&self.incoming),
            outgoing: direction(&self.outgoing),
        }
    }
}

impl<A: Aead> Records for Transport<A> {
    fn is_active(&self) -> bool {
        true
    }

    fn record_max(&self) -> usize {
        self.record_max.into()
    }

    fn open(&mut self, record: &mut [u8]) -> Result<(), Forged> {
        let direction = &mut self.incoming;
        if direction.next >= self.pattern.messages() {
            return Err(Forged);
        }
        direction.cipher.open(&self.pattern.nonce(direction.next), b"", record)?;
        direction.next += 1;
        Ok(())
    }

    fn seal(&self, record: &mut [u8]) {
        if let Some((text, tag)) = record.split_last_chunk_mut::<TAG>() {
            *tag = self.outgoing.cipher.seal(&self.pattern.nonce(self.outgoing.next), b"", text);
        }
    }

    fn sent(&mut self) {
        self.outgoing.next += 1;
    }

    fn is_spent(&self) -> bool {
        self.outgoing.next >= self.pattern.messages()
    }
}
