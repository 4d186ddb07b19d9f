//! The message layer: splits a byte stream into messages and joins messages into one (PROTOCOL §1).
//!
//! No code above this module handles a cipher or the ten digits of a length. Each session holds one `Messages`, generic
//! over the [`Records`] of its side:
//!
//! | connection | message on the wire | received | sent |
//! |---|---|---|---|
//! | plain (no cipher or no handshake yet) | ten digits, payload | in any pieces | in any pieces |
//! | sealed ([`Records::is_active`]) | ten digits, sealed payload, [`TAG`] | whole and verified | whole |
//!
//! The records of a plain connection are a type without values, so their branches take neither code nor memory.

use core::fmt;

use crate::error::{InvalidState, ProtocolError};
use crate::text::Text;

/// Bytes of a message's length on the wire.
pub const HEADER_LEN: usize = 10;

/// The longest payload ten digits can announce, in bytes.
pub const MAX_LENGTH: u64 = 9_999_999_999;

/// Bytes that sealing adds to each message: the authentication tag.
pub const TAG: usize = 16;

/// Bytes of a message with a payload of `payload` bytes, sealed or not.
pub(crate) const fn message_len(payload: usize) -> usize {
    HEADER_LEN + payload + TAG
}

/// The length field for a payload of `length` bytes.
///
/// `length` must be at most [`MAX_LENGTH`]: only the last ten digits of a larger number would fit. The callers in this
/// crate split bodies into messages and refuse longer files before this call.
#[must_use]
pub const fn encode_header(length: u64) -> [u8; HEADER_LEN] {
    debug_assert!(length <= MAX_LENGTH);
    let mut digits = [b'0'; HEADER_LEN];
    let mut rest = length;
    let mut at = HEADER_LEN;
    while rest > 0 && at > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    digits
}

/// Decodes a length that may arrive in any number of pieces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct HeaderDecoder {
    value: u64,
    digits: u8,
}

impl HeaderDecoder {
    /// A decoder at a message boundary.
    #[must_use]
    pub const fn new() -> Self {
        Self { value: 0, digits: 0 }
    }

    /// True between messages: no digit of the next length has arrived yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.digits == 0
    }

    /// Bytes that are still missing from the length.
    #[must_use]
    pub const fn missing(&self) -> usize {
        HEADER_LEN - self.digits as usize
    }

    /// Consumes bytes up to the end of the length; returns how many, and the length once it is complete.
    ///
    /// After it has returned a length the decoder is at the next boundary.
    ///
    /// # Errors
    /// [`ProtocolError::BadLength`] at the first byte that is not a digit.
    pub const fn push(&mut self, input: &[u8]) -> Result<(usize, Option<u64>), ProtocolError> {
        let missing = self.missing();
        let end = if input.len() < missing { input.len() } else { missing };
        let (mut value, mut taken) = (self.value, 0);
        while taken < end {
            let digit = input[taken].wrapping_sub(b'0');
            if digit > 9 {
                return Err(ProtocolError::BadLength);
            }
            value = value * 10 + digit as u64;
            taken += 1;
        }
        if taken == missing {
            *self = Self::new();
            return Ok((taken, Some(value)));
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most ten digits")]
        let digits = self.digits + taken as u8;
        *self = Self { value, digits };
        Ok((taken, None))
    }
}

/// Seals and opens the messages of one connection, in both directions, each with its own counter.
pub trait Records {
    /// True after the handshake. Until then messages are plain, and nothing is opened or sealed.
    fn is_active(&self) -> bool;

    /// The longest record (plaintext and tag) in bytes, at least 600. A server knows it before the handshake, too.
    fn record_max(&self) -> usize;

    /// Verifies and opens the next record in place; the plaintext is all but the last [`TAG`] bytes.
    ///
    /// # Errors
    /// [`Forged`]: no byte of the record may be used, and the connection is reset.
    fn open(&mut self, record: &mut [u8]) -> Result<(), Forged>;

    /// Seals the next outgoing message in place, with the tag in the last [`TAG`] bytes. The counter stays: the same
    /// message may be sealed again until [`Records::sent`].
    fn seal(&self, record: &mut [u8]);

    /// Advances the counter: the message that was sealed last has been sent.
    fn sent(&mut self);

    /// True if no further message may be sealed with this key.
    fn is_spent(&self) -> bool;
}

/// A record whose tag is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Forged;

/// Part of an incoming message, in the caller's memory; if the message is sealed, all of it, verified.
pub(crate) struct Piece<'i> {
    /// The message's length, with its first piece (which may be empty).
    pub(crate) begins: Option<u64>,
    pub(crate) bytes: &'i mut [u8],
    /// The message has ended with this piece.
    pub(crate) ends: bool,
}

/// The messages of one connection; `C` are its [`Records`].
pub(crate) struct Messages<C> {
    /// The length that is being received or, within a message, its remaining bytes.
    head: HeaderDecoder,
    within: bool,
    /// Bytes of the outgoing message that have been sent.
    sent: u16,
    /// Bytes of an incomplete record that were in the input the last time.
    seen: u16,
    cipher: Option<C>,
}

impl<C: Records> fmt::Debug for Messages<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Messages");
        debug.field("head", &self.head).field("within", &self.within).field("sent", &self.sent);
        debug.field("sealed", &self.is_sealed()).finish()
    }
}

impl<C: Records> Messages<C> {
    pub(crate) const fn new() -> Self {
        Self { head: HeaderDecoder::new(), within: false, sent: 0, seen: 0, cipher: None }
    }

    /// Messages are sealed in both directions as soon as `cipher` is active.
    pub(crate) fn protect(&mut self, cipher: C) {
        self.cipher = Some(cipher);
    }

    /// What protects the connection, or is to protect it.
    pub(crate) const fn cipher(&self) -> Option<&C> {
        self.cipher.as_ref()
    }

    pub(crate) const fn cipher_mut(&mut self) -> Option<&mut C> {
        self.cipher.as_mut()
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed().is_some()
    }

    /// True if no further message may go out.
    pub(crate) fn is_spent(&self) -> bool {
        self.sealed().is_some_and(Records::is_spent)
    }

    fn sealed(&self) -> Option<&C> {
        self.cipher.as_ref().filter(|cipher| cipher.is_active())
    }

    fn sealed_mut(&mut self) -> Option<&mut C> {
        self.cipher.as_mut().filter(|cipher| cipher.is_active())
    }

    /// True between two incoming messages.
    pub(crate) const fn is_at_boundary(&self) -> bool {
        self.head.is_empty() && !self.within
    }

    /// Bytes of the current incoming message that are still missing, if it is plain and has begun.
    pub(crate) fn remaining(&self) -> Option<u64> {
        if self.is_sealed() { None } else { self.incoming() }
    }

    /// Records that `n` bytes of the current plain message were moved past this layer.
    pub(crate) const fn advance(&mut self, n: u64) {
        let left = match self.incoming() {
            Some(left) => left.saturating_sub(n),
            None => 0,
        };
        self.set_incoming(left, left > 0);
    }

    /// Bytes of the current message that are still missing, if one has begun.
    const fn incoming(&self) -> Option<u64> {
        if self.within { Some(self.head.value) } else { None }
    }

    const fn set_incoming(&mut self, left: u64, within: bool) {
        self.head = HeaderDecoder { value: left, digits: 0 };
        self.within = within;
    }

    /// Bytes that must arrive before there is anything to use: the rest of the length, of a plain message (at least 1
    /// byte), or of a whole record.
    pub(crate) fn want_read(&self) -> usize {
        match self.incoming() {
            None => self.head.missing(),
            Some(left) => usize::try_from(left).unwrap_or(usize::MAX),
        }
    }

    /// Takes the next part of a message off the front of `input`: once the length is complete, the piece after it. The
    /// caller must offer the rest of `input` again.
    ///
    /// It takes nothing after the length of a sealed message until the whole record is in `input`.
    ///
    /// # Errors
    /// [`ProtocolError::BadLength`]; [`ProtocolError::Forged`].
    pub(crate) fn receive<'i>(&mut self, input: &mut &'i mut [u8]) -> Result<Option<Piece<'i>>, ProtocolError> {
        let (left, begins) = match self.incoming() {
            Some(left) => (left, None),
            None => match self.receive_length(input) {
                Ok(Some(length)) => (length, Some(length)),
                Ok(None) => return Ok(None),
                Err(_) if self.is_sealed() => return Err(ProtocolError::Forged),
                Err(error) => return Err(error),
            },
        };
        if let Some(cipher) = self.sealed_mut() {
            let record = usize::try_from(left).unwrap_or(usize::MAX);
            if record < TAG || record > cipher.record_max() {
                return Err(ProtocolError::Forged);
            }
            let Some(record) = input.split_off_mut(..record) else {
                self.set_incoming(left, true);
                return Ok(None);
            };
            cipher.open(record).map_err(|Forged| ProtocolError::Forged)?;
            self.set_incoming(0, false);
            let length = record.len() - TAG;
            return Ok(Some(Piece { begins: Some(length as u64), bytes: &mut record[..length], ends: true }));
        }
        let bytes = split_off(input, left);
        let left = left - bytes.len() as u64;
        self.set_incoming(left, left > 0);
        Ok(Some(Piece { begins, bytes, ends: left == 0 }))
    }

    /// How many of the bytes are new if `taken` bytes were taken and `left` remain in the input: the bytes of an
    /// incomplete record stay there, and count once.
    pub(crate) fn arrived(&mut self, taken: usize, left: usize) -> usize {
        if !self.is_sealed() {
            return taken;
        }
        let waiting = if self.within { left } else { 0 };
        let arrived = (taken + waiting).saturating_sub(self.seen.into());
        self.seen = u16::try_from(waiting).unwrap_or(u16::MAX);
        arrived
    }

    /// Takes a length off the front of `input` and leaves the payload after it to the caller: for the classic `ls`
    /// reply, whose length counts characters.
    ///
    /// # Errors
    /// [`ProtocolError::BadLength`].
    pub(crate) fn receive_length(&mut self, input: &mut &mut [u8]) -> Result<Option<u64>, ProtocolError> {
        let (n, length) = self.head.push(input)?;
        _ = input.split_off_mut(..n);
        Ok(length)
    }

    /// Copies the rest of a short message, whose payload `write` composes, into `out`. Returns the number of bytes
    /// copied and whether the message is complete; until then each call composes (and seals) it again. `N` is
    /// [`message_len`] of the longest payload.
    pub(crate) fn transmit<const N: usize>(
        &mut self,
        out: &mut [u8],
        write: impl FnOnce(&mut Text<'_>),
    ) -> (usize, bool) {
        let mut buffer = [0; N];
        let mut text = Text::new(&mut buffer[HEADER_LEN..N - TAG]);
        write(&mut text);
        let len = text.len();
        self.transmit_composed(out, &mut buffer, len)
    }

    /// The second half of [`Messages::transmit`]: `len` bytes of payload follow the place of the length.
    fn transmit_composed(&mut self, out: &mut [u8], buffer: &mut [u8], len: usize) -> (usize, bool) {
        let (head, payload) = buffer.split_at_mut(HEADER_LEN);
        let len = self.seal(payload, len);
        head.copy_from_slice(&encode_header(len as u64));
        let (n, done) = self.copy(&buffer[..HEADER_LEN + len], out);
        if done && let Some(cipher) = self.sealed_mut() {
            cipher.sent();
        }
        (n, done)
    }

    /// [`Messages::transmit`] of a payload that is already there.
    pub(crate) fn transmit_payload<const N: usize>(&mut self, out: &mut [u8], payload: &[u8]) -> (usize, bool) {
        if self.is_sealed() {
            return self.transmit::<N>(out, |text| _ = text.bytes(payload));
        }
        let sent = usize::from(self.sent);
        let head = encode_header(payload.len() as u64);
        let (head, rest) = (head.get(sent..).unwrap_or_default(), &payload[sent.saturating_sub(HEADER_LEN)..]);
        let n = head.len().min(out.len());
        out[..n].copy_from_slice(&head[..n]);
        let m = rest.len().min(out.len() - n);
        out[n..n + m].copy_from_slice(&rest[..m]);
        let done = n == head.len() && m == rest.len();
        self.sent = if done { 0 } else { self.sent + u16::try_from(n + m).unwrap_or(0) };
        (n + m, done)
    }

    /// [`Messages::transmit`] of only a length: the payload of a plain message follows by other means.
    pub(crate) fn transmit_length(&mut self, out: &mut [u8], length: u64) -> (usize, bool) {
        self.copy(&encode_header(length), out)
    }

    fn copy(&mut self, message: &[u8], out: &mut [u8]) -> (usize, bool) {
        let left = message.get(usize::from(self.sent)..).unwrap_or_default();
        let n = left.len().min(out.len());
        out[..n].copy_from_slice(&left[..n]);
        let done = n == left.len();
        self.sent = if done { 0 } else { self.sent + u16::try_from(n).unwrap_or(0) };
        (n, done)
    }

    /// Bytes that a message adds to its payload: length and tag.
    pub(crate) fn overhead(&self) -> usize {
        if self.is_sealed() { HEADER_LEN + TAG } else { HEADER_LEN }
    }

    /// The longest payload that a message may have, in bytes.
    pub(crate) fn payload_max(&self) -> u64 {
        self.sealed().map_or(MAX_LENGTH, |cipher| (cipher.record_max() - TAG) as u64)
    }

    /// Makes a message of the `len` bytes at [`HEADER_LEN`] of `room`: writes its length and seals it. Returns the
    /// bytes of the message. There are [`Messages::overhead`] bytes of `room` around the payload.
    pub(crate) fn join(&mut self, room: &mut [u8], len: usize) -> usize {
        let (head, payload) = room.split_at_mut(HEADER_LEN);
        let len = self.seal(payload, len);
        head.copy_from_slice(&encode_header(len as u64));
        if let Some(cipher) = self.sealed_mut() {
            cipher.sent();
        }
        HEADER_LEN + len
    }

    fn seal(&self, payload: &mut [u8], len: usize) -> usize {
        match self.sealed() {
            Some(cipher) => {
                cipher.seal(&mut payload[..len + TAG]);
                len + TAG
            }
            None => len,
        }
    }
}

/// Takes up to `n` bytes off the front of `input`.
pub(crate) fn split_off<'i>(input: &mut &'i mut [u8], n: u64) -> &'i mut [u8] {
    let n = usize::try_from(n).map_or(input.len(), |n| n.min(input.len()));
    input.split_off_mut(..n).unwrap_or_default()
}

/// The result of offering input to a session.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Received<'i> {
    /// Bytes of the input that were consumed. The caller must offer the rest again.
    pub taken: usize,
    /// Payload among them, verified as far as the connection allows: it belongs to the body that is being received.
    pub payload: &'i mut [u8],
    /// The position of the payload in the input.
    pub at: usize,
}

impl<'i> Received<'i> {
    /// The outcome for input of `len` bytes at the address `start`, of which `rest` is left.
    pub(crate) fn new((start, len): (usize, usize), rest: &[u8], payload: Option<&'i mut [u8]>) -> Self {
        let payload = payload.unwrap_or_default();
        let at = if payload.is_empty() { 0 } else { payload.as_ptr().addr() - start };
        Self { taken: len - rest.len(), payload, at }
    }
}

/// Why [`send`](crate::server::ServerSession::send) sent nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SendError<E> {
    /// No body is being sent, framing is queued, or all of the body has been sent.
    InvalidState,
    /// The caller's `fill` failed; nothing has changed.
    Fill(E),
}

impl<E> From<InvalidState> for SendError<E> {
    fn from(_: InvalidState) -> Self {
        Self::InvalidState
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_ten_digits() {
        assert_eq!(&encode_header(0), b"0000000000");
        assert_eq!(&encode_header(13), b"0000000013");
        assert_eq!(&encode_header(MAX_LENGTH), b"9999999999");
    }

    #[test]
    fn a_length_may_arrive_in_pieces() {
        for cut in 0..=HEADER_LEN {
            let wire = b"0000000711rest";
            let mut decoder = HeaderDecoder::new();
            let (first, early) = decoder.push(&wire[..cut]).unwrap();
            assert_eq!(first, cut);
            if cut == HEADER_LEN {
                assert_eq!(early, Some(711));
                continue;
            }
            assert_eq!(early, None);
            assert_eq!(decoder.missing(), HEADER_LEN - cut);
            assert_eq!(decoder.push(&wire[cut..]).unwrap(), (HEADER_LEN - cut, Some(711)));
            assert!(decoder.is_empty());
        }
    }

    #[test]
    fn signs_spaces_and_underscores_are_no_digits() {
        for bad in [&b"+000000005"[..], b" 000000005", b"0000_00005", b"-", b"000000000\n", b"\x00"] {
            assert_eq!(HeaderDecoder::new().push(bad), Err(ProtocolError::BadLength), "{bad:?}");
        }
    }
}
