//! One classic data connection: a length, the bytes, the end of the stream (PROTOCOL §3).
//!
//! It is a separate state machine, because several run at once and outlive the control connection. [`Outgoing`] sends a
//! file, [`Incoming`] receives one; server and client use both.
//!
//! The original programs announce a number of characters, not of bytes. So an incoming file is complete if it has the
//! announced number of bytes, or is UTF-8 text with that number of characters.

use core::fmt;
use core::str::from_utf8;
use core::time::Duration;

use crate::body::Payload;
use crate::cipher::Plain;
use crate::error::{ErrorCode, InvalidState, ProtocolError, Refusal};
use crate::message::{HeaderDecoder, Messages};
use crate::name::{MAX_NAME, Name};
use crate::store::{Result as Stored, Store, StoreError};
use crate::time::{Clock, Instant, MinRate};

/// How long a `get` or `put` waits for a data connection before it is answered `-1`.
pub const PORT_WAIT: Duration = Duration::from_secs(30);

/// How long a port stays open for its client. `wanted`: another request is waiting for a data connection.
#[must_use]
pub const fn port_lifetime(wanted: bool) -> Duration {
    Duration::from_secs(if wanted { 5 } else { 30 })
}

/// The maximum number of numbered names that a classic `put` tries.
pub const NUMBERS: u32 = 100_000;

/// The name that a classic `put` tries after `number` others.
///
/// # Errors
/// `bad-name`: it is too long.
pub fn numbered<'b>(name: Name<'b>, number: u32, buffer: &'b mut [u8; MAX_NAME]) -> Result<Name<'b>, Refusal> {
    if number == 0 { Ok(name) } else { Ok(name.numbered(number, MAX_NAME, buffer)?) }
}

/// Puts the stage of a classic `put` in place under `name` or the first numbered name that is free (PROTOCOL §3): tries
/// up to `tries` names starting at `number` (0 is `name` itself), and increments `number`.
///
/// # Errors
/// [`StoreError::NotYet`]: call again with the same `number`; this is also the result if none of the names tried was
/// free. Otherwise the reason why the file is not stored.
pub fn commit_numbered<S: Store>(
    store: &mut S,
    stage: &mut S::Stage,
    name: Name<'_>,
    number: &mut u32,
    tries: u32,
) -> Stored<()> {
    let mut buffer = [0; MAX_NAME];
    for _ in 0..tries {
        match store.commit_new(stage, numbered(name, *number, &mut buffer)?) {
            Err(StoreError::Refused(refusal)) if refusal.code == ErrorCode::Exists && *number < NUMBERS => *number += 1,
            result => return result,
        }
    }
    Err(StoreError::NotYet)
}

/// Why a data connection has to be reset: the file that was received or sent is incomplete or wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum TransferError {
    /// The peer broke the protocol.
    Protocol(ProtocolError),
    /// The stream ended too early.
    Short {
        /// Bytes (or characters) announced.
        announced: u64,
        /// Bytes received.
        received: u64,
    },
    /// More bytes arrived than were announced.
    Long {
        /// Bytes (or characters) announced.
        announced: u64,
    },
    /// Too little was received or sent for too long.
    Timeout,
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(error) => error.fmt(f),
            Self::Short { announced, received } => write!(f, "only {received} bytes of {announced} came"),
            Self::Long { announced } => write!(f, "more came than the {announced} bytes announced"),
            Self::Timeout => f.write_str("the data connection made no progress for too long"),
        }
    }
}

impl core::error::Error for TransferError {}

/// The clock of one data connection.
#[derive(Debug, Clone, Copy)]
struct Watch {
    clock: Clock,
    idle: Duration,
    rate: MinRate,
}

impl Watch {
    const fn new(idle: Duration, rate: MinRate) -> Self {
        Self { clock: Clock::new(), idle, rate }
    }

    fn tick(&mut self, now: Instant) -> Result<(), TransferError> {
        self.clock.tick(now);
        if self.clock.is_expired(self.idle, Some(self.rate)) { Err(TransferError::Timeout) } else { Ok(()) }
    }

    fn next(&self) -> Instant {
        self.clock.next(self.idle, Some(self.rate))
    }
}

/// Sends one file: its length, then the bytes, which the driver moves. Create it when the connection is established.
#[derive(Debug)]
pub struct Outgoing {
    watch: Watch,
    announced: u64,
    remaining: u64,
    messages: Messages<Plain>,
    headed: bool,
}

impl Outgoing {
    /// A file of `bytes` bytes whose length is announced as `announced`: the same number, or that of its characters.
    #[must_use]
    pub const fn new(bytes: u64, announced: u64, idle: Duration, rate: MinRate) -> Self {
        Self { watch: Watch::new(idle, rate), announced, remaining: bytes, messages: Messages::new(), headed: false }
    }

    /// Writes the length into `out` and returns the number of bytes. Send it in one write with the first bytes of the
    /// file.
    pub fn poll_transmit(&mut self, out: &mut [u8]) -> usize {
        if self.headed {
            return 0;
        }
        let (n, done) = self.messages.transmit_length(out, self.announced);
        self.headed = done;
        self.watch.clock.moved(n);
        n
    }

    /// The bytes that the driver has to move now; `None` before the length has been sent and at the end.
    #[must_use]
    pub fn payload(&self) -> Option<Payload> {
        (self.headed && self.remaining > 0).then_some(Payload { remaining: self.remaining })
    }

    /// Records that the driver has moved `n` bytes.
    ///
    /// # Errors
    /// [`InvalidState`] if that is more than [`Outgoing::payload`] returned.
    pub fn advance(&mut self, n: u64) -> Result<(), InvalidState> {
        if !self.headed || n > self.remaining {
            return Err(InvalidState);
        }
        self.remaining -= n;
        self.watch.clock.moved(usize::try_from(n).unwrap_or(usize::MAX));
        Ok(())
    }

    /// True once everything has been sent: the driver then ends the stream.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.headed && self.remaining == 0
    }

    /// Tells the time.
    ///
    /// # Errors
    /// [`TransferError::Timeout`]: reset the connection.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), TransferError> {
        self.watch.tick(now)
    }

    /// When [`Outgoing::handle_timeout`] is due at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        self.watch.next()
    }
}

/// Receives one file: its length, then the bytes up to the end of the stream.
#[derive(Debug)]
pub struct Incoming {
    watch: Watch,
    head: HeaderDecoder,
    announced: Option<u64>,
    received: u64,
    characters: Characters,
}

impl Incoming {
    /// A receiver at the beginning of the connection.
    #[must_use]
    pub const fn new(idle: Duration, rate: MinRate) -> Self {
        Self {
            watch: Watch::new(idle, rate),
            head: HeaderDecoder::new(),
            announced: None,
            received: 0,
            characters: Characters::new(),
        }
    }

    /// Takes the length from the network and returns the number of bytes taken. Everything after it is payload.
    ///
    /// # Errors
    /// [`TransferError::Protocol`]: reset the connection.
    pub fn handle_input(&mut self, input: &[u8]) -> Result<usize, TransferError> {
        if self.announced.is_some() {
            return Ok(0);
        }
        let (n, length) = self.head.push(input).map_err(TransferError::Protocol)?;
        self.announced = length;
        self.watch.clock.moved(n);
        Ok(n)
    }

    /// The announced length: bytes, or characters of a text.
    #[must_use]
    pub const fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// Bytes received after the length.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Payload that the driver has to move: everything up to the end of the stream, at most this many bytes. `None`
    /// before the length is known.
    #[must_use]
    pub fn payload(&self) -> Option<Payload> {
        let most = self.announced?.saturating_mul(4).saturating_add(1);
        Some(Payload { remaining: most.saturating_sub(self.received).max(1) })
    }

    /// Counts received payload: call it for all of it, in order and once. The payload is not a complete file until
    /// [`Incoming::handle_eof`] succeeds.
    ///
    /// # Errors
    /// [`TransferError::Long`]: reset the connection and drop the stage.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        let announced = self.announced.unwrap_or(0);
        self.received = self.received.saturating_add(bytes.len() as u64);
        self.characters.update(bytes);
        self.watch.clock.moved(bytes.len());
        if self.received > announced && self.characters.count().is_none_or(|count| count > announced) {
            return Err(TransferError::Long { announced });
        }
        Ok(())
    }

    /// The stream has ended. `Ok`: the file is complete, with that many bytes.
    ///
    /// # Errors
    /// [`TransferError::Short`]: it is not; reset the connection and drop the stage.
    pub fn handle_eof(&self) -> Result<u64, TransferError> {
        let received = self.received;
        let Some(announced) = self.announced else {
            return Err(TransferError::Protocol(ProtocolError::UnexpectedEnd));
        };
        if received == announced || self.characters.whole() == Some(announced) {
            return Ok(received);
        }
        Err(TransferError::Short { announced, received })
    }

    /// Tells the time.
    ///
    /// # Errors
    /// [`TransferError::Timeout`]: reset the connection.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), TransferError> {
        self.watch.tick(now)
    }

    /// When [`Incoming::handle_timeout`] is due at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        self.watch.next()
    }
}

/// Counts the characters of UTF-8 text that comes in pieces: what the original programs announce as the length.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Characters {
    count: u64,
    /// The beginning of an incomplete character.
    tail: [u8; 4],
    tail_len: u8,
    valid: bool,
}

impl Default for Characters {
    fn default() -> Self {
        Self::new()
    }
}

impl Characters {
    /// A counter at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self { count: 0, tail: [0; 4], tail_len: 0, valid: true }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while self.valid && self.tail_len > 0 && !rest.is_empty() {
            self.tail[usize::from(self.tail_len)] = rest[0];
            self.tail_len += 1;
            rest = &rest[1..];
            match from_utf8(&self.tail[..self.tail_len.into()]) {
                Ok(_) => {
                    self.count += 1;
                    self.tail_len = 0;
                }
                Err(error) => self.valid = error.error_len().is_none() && self.tail_len < 4,
            }
        }
        if !self.valid || rest.is_empty() {
            return;
        }
        let (good, bad) = match from_utf8(rest) {
            Ok(_) => (rest, &[][..]),
            Err(error) => {
                self.valid = error.error_len().is_none();
                rest.split_at(error.valid_up_to())
            }
        };
        // A character is a byte that continues none.
        self.count += good.iter().filter(|&&byte| byte & 0xc0 != 0x80).count() as u64;
        if self.valid {
            self.tail[..bad.len()].copy_from_slice(bad);
            self.tail_len = u8::try_from(bad.len()).unwrap_or(0);
        }
    }

    /// The characters so far, without an incomplete one; `None` if it is not UTF-8.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        self.valid.then_some(self.count)
    }

    /// The characters of the whole text; `None` if it is not UTF-8 or ends inside a character.
    #[must_use]
    pub fn whole(&self) -> Option<u64> {
        self.count().filter(|_| self.tail_len == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    fn receive(wire: &[u8]) -> Result<u64, TransferError> {
        let mut incoming = Incoming::new(IDLE, MinRate::DEFAULT);
        let taken = incoming.handle_input(wire)?;
        incoming.advance(&wire[taken..])?;
        incoming.handle_eof()
    }

    #[test]
    fn a_file_is_whole_by_its_bytes_or_by_its_characters() {
        assert_eq!(receive(b"0000000006hello\n"), Ok(6));
        assert_eq!(receive("0000000005olá!\n".as_bytes()), Ok(6));
        assert_eq!(receive("0000000006olá!\n".as_bytes()), Ok(6));
        assert_eq!(receive(b"0000000000"), Ok(0));
        assert_eq!(receive(b"0000000003\xff\xfe\xfd"), Ok(3));
    }

    #[test]
    fn anything_else_is_no_file() {
        assert_eq!(receive(b"0000000003abcd"), Err(TransferError::Long { announced: 3 }));
        assert_eq!(receive(b"0000000003ab"), Err(TransferError::Short { announced: 3, received: 2 }));
        assert_eq!(receive(b"0000000003\xff\xfe\xfd\xfc"), Err(TransferError::Long { announced: 3 }));
        // The third character has only begun.
        assert_eq!(receive(b"0000000002ol\xc3"), Err(TransferError::Short { announced: 2, received: 3 }));
        assert_eq!(receive(b"00000"), Err(TransferError::Protocol(ProtocolError::UnexpectedEnd)));
        assert_eq!(receive(b"+000000005"), Err(TransferError::Protocol(ProtocolError::BadLength)));
    }

    #[test]
    fn characters_are_counted_across_every_cut() {
        let text = "aé€😀z";
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let mut characters = Characters::new();
                for part in [&text.as_bytes()[..first], &text.as_bytes()[first..second], &text.as_bytes()[second..]] {
                    characters.update(part);
                }
                assert_eq!(characters.whole(), Some(5));
            }
        }
        for bad in [&b"a\x80"[..], b"\xc3(", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf"] {
            for cut in 0..=bad.len() {
                let mut characters = Characters::new();
                characters.update(&bad[..cut]);
                characters.update(&bad[cut..]);
                assert_eq!(characters.whole(), None, "{bad:?}");
            }
        }
    }

    #[test]
    fn the_length_goes_out_first_in_any_pieces() {
        let mut outgoing = Outgoing::new(3, 3, IDLE, MinRate::DEFAULT);
        let mut wire = String::new();
        while outgoing.payload().is_none() {
            let mut out = [0; 3];
            let n = outgoing.poll_transmit(&mut out);
            wire.push_str(from_utf8(&out[..n]).unwrap());
        }
        assert_eq!(wire, "0000000003");
        assert_eq!(outgoing.advance(4), Err(InvalidState));
        outgoing.advance(3).unwrap();
        assert!(outgoing.is_done());
    }

    #[test]
    fn one_byte_now_and_then_is_no_progress() {
        let mut incoming = Incoming::new(IDLE, MinRate::DEFAULT);
        incoming.handle_timeout(Instant::from_millis(1)).unwrap();
        incoming.handle_input(b"0000100000").unwrap();
        for second in 1..30 {
            incoming.handle_timeout(Instant::from_millis(second * 1000)).unwrap();
            incoming.advance(b"x").unwrap();
        }
        assert_eq!(incoming.handle_timeout(Instant::from_millis(30_001)), Err(TransferError::Timeout));
    }
}
