//! Bodies: data messages, the empty message that ends them, and the trailer (PROTOCOL §7).
//!
//! Both sides use these two state machines: a server receives the body of a `write` and sends those of `read` and
//! `list`; a client sends the former and receives the latter.

use heapless::Vec;

use crate::crc::Crc32c;
use crate::error::{ErrorCode, InvalidState, ProtocolError};
use crate::message::{
    HEADER_LEN, MAX_LENGTH, Messages, Piece, Records, SendError, encode_header, message_len, split_off,
};
use crate::reply::{RemoteError, parse_crc};
use crate::time::Clock;

/// The longest trailer a receiver reads, in bytes.
pub const MAX_TRAILER: usize = 512;

/// The longest trailer that is sent, in bytes: see the test of all aborts.
const TRAILER: usize = 80;

/// Payload that the driver may move now: `remaining` bytes, up to the next framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Payload {
    /// Bytes.
    pub remaining: u64,
}

impl Payload {
    /// How much of `len` bytes of memory this payload can use: a safe conversion from `u64` to `usize`.
    #[must_use]
    pub fn clamp(self, len: usize) -> usize {
        usize::try_from(self.remaining).map_or(len, |remaining| remaining.min(len))
    }
}

/// The trailer of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trailer<'a> {
    /// `crc32c CRC`
    Crc(Option<u32>),
    /// `abort CODE TEXT`
    Abort(RemoteError<'a>),
    /// Neither.
    Malformed,
}

impl<'a> Trailer<'a> {
    pub(crate) fn parse(payload: &'a [u8]) -> Self {
        if let Some(crc) = payload.strip_prefix(b"crc32c ") {
            return parse_crc(crc).map_or(Self::Malformed, Self::Crc);
        }
        if payload == b"abort" {
            return Self::Abort(RemoteError { code: None, word: "", text: "" });
        }
        RemoteError::parse(payload, "abort ").map_or(Self::Malformed, Self::Abort)
    }
}

/// Messages that go out between payload: shared by both sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A length whose payload follows by [`BodySender::send`] or [`Opaque`].
    Length(u64),
    /// The empty message at the end of a body; its trailer follows.
    End(Ending),
    /// The trailer.
    Trailer(Ending),
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// `crc32c CRC`
    Crc(Option<u32>),
    /// `abort CODE TEXT`
    Abort(ErrorCode),
}

impl Framing {
    /// Writes as much as fits into `out`; returns the bytes written, and what must be sent next.
    pub(crate) fn transmit<C: Records>(self, messages: &mut Messages<C>, out: &mut [u8]) -> (usize, Option<Self>) {
        let (n, done) = match self {
            Self::Length(length) => messages.transmit_length(out, length),
            Self::End(_) => messages.transmit::<{ message_len(0) }>(out, |_| {}),
            Self::Trailer(ending) => messages.transmit::<{ message_len(TRAILER) }>(out, |text| match ending {
                Ending::Crc(crc) => _ = text.str("crc32c ").crc(crc),
                Ending::Abort(code) => _ = text.str("abort ").str(code.as_str()).str(" ").str(code.text()),
            }),
        };
        let next = match self {
            _ if !done => Some(self),
            Self::End(ending) => Some(Self::Trailer(ending)),
            Self::Length(_) | Self::Trailer(_) => None,
        };
        (n, next)
    }
}

/// Receives a body, message by message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyReceiver {
    /// The empty message has arrived: the next one is the trailer.
    ended: bool,
    /// Bytes received in data messages so far.
    total: u64,
    /// Bytes that may still be delivered; further payload is counted and discarded.
    room: u64,
    crc: Crc32c,
    /// Part of the body was moved past the session, so there is no checksum.
    opaque: bool,
}

/// A piece of a body.
pub(crate) enum Part<'i> {
    /// Payload to be delivered; may be empty.
    Payload(&'i mut [u8]),
    /// The end of the trailer, which lies in the buffer (its first bytes, if it does not fit).
    Trailer,
}

impl BodyReceiver {
    /// A receiver that delivers up to `room` bytes; `crc` is the checksum of the bytes before them.
    pub(crate) const fn new(room: u64, crc: Crc32c) -> Self {
        Self { ended: false, total: 0, room, crc, opaque: false }
    }

    /// A receiver that discards everything.
    pub(crate) const fn drain() -> Self {
        Self::new(0, Crc32c::new())
    }

    /// Discards everything from now on.
    pub(crate) const fn discard_rest(&mut self) {
        self.room = 0;
    }

    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    pub(crate) const fn crc(&self) -> Crc32c {
        self.crc
    }

    /// True if the checksum covers the whole body.
    pub(crate) const fn is_summed(&self) -> bool {
        !self.opaque
    }

    /// Bytes of payload that come next, if a plain data message has begun.
    pub(crate) fn payload<C: Records>(&self, messages: &Messages<C>) -> Option<u64> {
        let left = messages.remaining().filter(|_| !self.ended)?;
        Some(left.min(self.room)).filter(|&n| n > 0)
    }

    /// Takes a piece of one of the body's messages.
    pub(crate) fn handle_piece<'i, const N: usize>(
        &mut self,
        piece: Piece<'i>,
        buffer: &mut Vec<u8, N>,
    ) -> Result<Part<'i>, ProtocolError> {
        if self.ended {
            if let Some(length) = piece.begins {
                if length > MAX_TRAILER as u64 {
                    return Err(ProtocolError::TooLong { length });
                }
                buffer.clear();
            }
            let fits = piece.bytes.len().min(N - buffer.len());
            _ = buffer.extend_from_slice(&piece.bytes[..fits]);
            return Ok(if piece.ends { Part::Trailer } else { Part::Payload(&mut []) });
        }
        self.ended = piece.begins == Some(0);
        self.total = self.total.saturating_add(piece.bytes.len() as u64);
        let mut bytes = piece.bytes;
        let payload = split_off(&mut bytes, self.room);
        self.room -= payload.len() as u64;
        self.crc.update(payload);
        Ok(Part::Payload(payload))
    }
}

/// Sends a body: splits it into data messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodySender {
    /// Bytes of the body that no data message has announced yet; `None` if the total is not known beforehand.
    unannounced: Option<u64>,
    /// Bytes of the current data message that have not been sent.
    remaining: u64,
    crc: Crc32c,
    /// The CRC that the driver supplied instead of the computed one; the inner `None` is `-`.
    supplied: Option<Option<u32>>,
}

impl BodySender {
    /// A body of `length` bytes (`None`: not known beforehand); `crc` is the checksum of the bytes before it.
    pub(crate) const fn new(length: Option<u64>, crc: Crc32c) -> Self {
        Self { unannounced: length, remaining: 0, crc, supplied: None }
    }

    /// Bytes of the current data message still to be sent.
    pub(crate) const fn remaining(&self) -> u64 {
        self.remaining
    }

    pub(crate) const fn continue_crc(&mut self, crc: u32) {
        self.crc = Crc32c::from_value(crc);
    }

    /// The checksum of the bytes sent so far and of those before the body; `None` if the driver supplied one.
    pub(crate) const fn crc(&self) -> Option<u32> {
        if self.supplied.is_none() { Some(self.crc.value()) } else { None }
    }

    pub(crate) const fn supply_crc(&mut self, crc: Option<u32>) {
        self.supplied = Some(crc);
    }

    /// Bytes still to be sent; `None` if that is not known beforehand.
    pub(crate) fn left(&self) -> Option<u64> {
        Some(self.unannounced?.saturating_add(self.remaining))
    }

    /// Begins a data message of at most `most` bytes of a body whose length is known.
    pub(crate) fn begin(&mut self, most: u64) -> Option<Framing> {
        let left = self.unannounced.as_mut().filter(|left| **left > 0 && self.remaining == 0)?;
        self.remaining = most.clamp(1, MAX_LENGTH).min(*left);
        *left -= self.remaining;
        Some(Framing::Length(self.remaining))
    }

    /// Calls `fill` to write payload into `room`, and adds the framing around it. Returns the bytes of `room` that are
    /// used; 0 if the room is too short for a message, or nothing was filled in.
    ///
    /// If the length of the body is known, a plain message continues in the next calls and is up to `most` bytes long.
    /// Any other message is as long as the payload that was filled in.
    pub(crate) fn send<C: Records, E>(
        &mut self,
        messages: &mut Messages<C>,
        room: &mut [u8],
        most: u64,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, SendError<E>> {
        let (at, n) = self.plan(messages, room.len(), most)?;
        if n == 0 {
            return Ok(0);
        }
        let n = fill(&mut room[at..at + n]).map_err(SendError::Fill)?.min(n);
        Ok(self.filled(messages, room, n, most))
    }

    /// The position of the next payload in a room of `len` bytes, and its maximum length.
    fn plan<C: Records>(&self, messages: &Messages<C>, len: usize, most: u64) -> Result<(usize, usize), InvalidState> {
        if self.remaining > 0 {
            return Ok((0, Payload { remaining: self.remaining }.clamp(len)));
        }
        let length = Payload { remaining: self.next_length(messages, most) };
        if length.remaining == 0 {
            return Err(InvalidState);
        }
        Ok((HEADER_LEN, length.clamp(len.saturating_sub(messages.overhead()))))
    }

    /// The length of the next data message, as far as it is known.
    fn next_length<C: Records>(&self, messages: &Messages<C>, most: u64) -> u64 {
        self.unannounced.map_or(u64::MAX, |left| left.min(most.max(1))).min(messages.payload_max())
    }

    /// `n` bytes of payload are at the position that [`BodySender::plan`] returned. Returns the bytes of `room` that
    /// are used.
    fn filled<C: Records>(&mut self, messages: &mut Messages<C>, room: &mut [u8], n: usize, most: u64) -> usize {
        if n == 0 {
            return 0;
        }
        if self.remaining > 0 {
            self.sum(&room[..n]);
            self.remaining -= n as u64;
            return n;
        }
        self.sum(&room[HEADER_LEN..HEADER_LEN + n]);
        let length = self.next_length(messages, most);
        match &mut self.unannounced {
            Some(left) if !messages.is_sealed() => {
                *left -= length;
                self.remaining = length - n as u64;
                room[..HEADER_LEN].copy_from_slice(&encode_header(length));
                HEADER_LEN + n
            }
            left => {
                if let Some(left) = left {
                    *left -= n as u64;
                }
                messages.join(room, n)
            }
        }
    }

    fn sum(&mut self, bytes: &[u8]) {
        if self.supplied.is_none() {
            self.crc.update(bytes);
        }
    }

    /// The end of a body that has been sent completely.
    pub(crate) fn finish(&self) -> Result<Framing, InvalidState> {
        if self.remaining > 0 || self.unannounced.is_some_and(|left| left > 0) {
            return Err(InvalidState);
        }
        Ok(Framing::End(Ending::Crc(self.supplied.unwrap_or(Some(self.crc.value())))))
    }
}

/// Lets the driver move the payload of the current data message past the session, with sendfile or splice. Available
/// only on a plain connection.
#[derive(Debug)]
pub struct Opaque<'s> {
    body: &'s mut BodySender,
    clock: &'s mut Clock,
}

impl<'s> Opaque<'s> {
    /// `None` if no data message has begun, or the connection is sealed.
    pub(crate) fn new<C: Records>(
        body: &'s mut BodySender,
        messages: &Messages<C>,
        clock: &'s mut Clock,
    ) -> Option<Self> {
        (body.remaining > 0 && !messages.is_sealed()).then_some(Self { body, clock })
    }

    /// Bytes to the end of the message.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.body.remaining
    }

    /// True if the driver must pass the bytes to [`Opaque::sum`], because it has not supplied the body's checksum.
    #[must_use]
    pub const fn wants_sum(&self) -> bool {
        self.body.supplied.is_none()
    }

    /// Adds payload to the body's checksum: call it for all of it, in order and once, before or after it is moved.
    pub fn sum(&mut self, bytes: &[u8]) {
        self.body.sum(bytes);
    }

    /// Records that the driver has moved `n` bytes.
    ///
    /// # Errors
    /// [`InvalidState`] if that is more than [`Opaque::remaining`].
    pub fn advance(&mut self, n: u64) -> Result<(), InvalidState> {
        self.body.remaining = self.body.remaining.checked_sub(n).ok_or(InvalidState)?;
        self.clock.moved(usize::try_from(n).unwrap_or(usize::MAX));
        Ok(())
    }
}

/// Lets the driver move incoming payload past the session, with splice, or if the checksum is not needed. Available
/// only on a plain connection.
pub struct OpaqueIn<'s, C> {
    body: &'s mut BodyReceiver,
    messages: &'s mut Messages<C>,
    clock: &'s mut Clock,
}

impl<C> core::fmt::Debug for OpaqueIn<'_, C> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("OpaqueIn").field("body", &self.body).finish_non_exhaustive()
    }
}

impl<'s, C: Records> OpaqueIn<'s, C> {
    /// `None` unless payload comes next.
    pub(crate) fn new(body: &'s mut BodyReceiver, messages: &'s mut Messages<C>, clock: &'s mut Clock) -> Option<Self> {
        body.payload(messages).is_some().then_some(Self { body, messages, clock })
    }

    /// Bytes of payload that come next.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.body.payload(self.messages).unwrap_or(0)
    }

    /// Records that the driver has moved `n` bytes. This body is then not verified.
    ///
    /// # Errors
    /// [`InvalidState`] if that is more than [`OpaqueIn::remaining`].
    pub fn advance(&mut self, n: u64) -> Result<(), InvalidState> {
        if n > self.remaining() {
            return Err(InvalidState);
        }
        self.body.opaque = true;
        self.body.total = self.body.total.saturating_add(n);
        self.body.room -= n;
        self.messages.advance(n);
        self.clock.moved(usize::try_from(n).unwrap_or(usize::MAX));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cipher::Plain;

    /// What a receiver delivers of `wire`, and whether the trailer has come.
    fn receive(
        receiver: &mut BodyReceiver,
        wire: &[u8],
        buffer: &mut Vec<u8, 16>,
    ) -> Result<(usize, bool), ProtocolError> {
        let mut messages = Messages::<Plain>::new();
        let mut wire = std::vec::Vec::from(wire);
        let mut input = &mut wire[..];
        let mut delivered = 0;
        while let Some(piece) = messages.receive(&mut input)? {
            match receiver.handle_piece(piece, buffer)? {
                Part::Payload(payload) => delivered += payload.len(),
                Part::Trailer => return Ok((delivered, true)),
            }
        }
        Ok((delivered, false))
    }

    #[test]
    fn bytes_beyond_the_room_are_counted_and_discarded() {
        let mut buffer: Vec<u8, 16> = Vec::new();
        let mut receiver = BodyReceiver::new(3, Crc32c::new());
        assert_eq!(receive(&mut receiver, b"0000000005hello", &mut buffer), Ok((3, false)));
        assert_eq!((receiver.total(), receiver.crc().value()), (5, crate::crc::crc32c(b"hel")));
        assert_eq!(receive(&mut receiver, b"00000000000000000007crc32c ", &mut buffer), Ok((0, true)));
        assert_eq!(Trailer::parse(&buffer), Trailer::Malformed);
    }

    #[test]
    fn a_trailer_beyond_its_limit_ends_the_connection() {
        let mut buffer: Vec<u8, 16> = Vec::new();
        let too_long = Err(ProtocolError::TooLong { length: 513 });
        assert_eq!(receive(&mut BodyReceiver::drain(), b"00000000000000000513", &mut buffer), too_long);
        let mut longest = std::vec::Vec::from(b"00000000000000000512abort io ");
        longest.resize(20 + 512, b'x');
        assert_eq!(receive(&mut BodyReceiver::drain(), &longest, &mut buffer), Ok((0, true)));
        assert!(matches!(Trailer::parse(&buffer), Trailer::Abort(RemoteError { code: Some(ErrorCode::Io), .. })));
    }

    #[test]
    fn a_body_is_announced_once_and_ends_only_when_it_is_whole() {
        let mut messages = Messages::<Plain>::new();
        let mut sender = BodySender::new(Some(5), Crc32c::new());
        let mut room = [0; 12];
        let mut send = |sender: &mut BodySender, room: &mut [u8]| {
            sender.send(&mut messages, room, 3, |room| {
                room.fill(b'x');
                Ok::<_, ()>(room.len())
            })
        };
        assert_eq!(send(&mut sender, &mut room[..10]), Ok(0));
        assert_eq!((send(&mut sender, &mut room), &room), (Ok(12), b"0000000003xx"));
        assert_eq!((sender.finish(), sender.begin(9)), (Err(InvalidState), None));
        assert_eq!((send(&mut sender, &mut room), room[0]), (Ok(1), b'x'));
        assert_eq!(sender.finish(), Err(InvalidState));
        assert_eq!(sender.begin(9), Some(Framing::Length(2)));
        assert_eq!((send(&mut sender, &mut room), sender.left()), (Ok(2), Some(0)));
        assert_eq!(send(&mut sender, &mut room), Err(SendError::InvalidState));
        assert_eq!(sender.finish(), Ok(Framing::End(Ending::Crc(Some(crate::crc::crc32c(b"xxxxx"))))));
    }

    #[test]
    fn every_abort_fits_its_message() {
        for &code in ErrorCode::ALL {
            let mut messages = Messages::<Plain>::new();
            let mut out = [0; 300];
            let (n, next) = Framing::End(Ending::Abort(code)).transmit(&mut messages, &mut out);
            let (m, end) = next.unwrap().transmit(&mut messages, &mut out[n..]);
            let (framing, trailer) = out[..n + m].split_at(20);
            assert_eq!((&framing[..10], end), (&b"0000000000"[..], None));
            assert_eq!(framing[10..], encode_header(trailer.len() as u64));
            assert!(matches!(Trailer::parse(trailer), Trailer::Abort(error) if error.code == Some(code)));
        }
    }
}
