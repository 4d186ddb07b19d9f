//! Bodies: data messages, the empty message that ends them, and the trailer (PROTOCOL §7).
//!
//! Both sides of the wire use these two machines: a server receives the body of a `write` and sends those of `read` and
//! `list`, a client the other way round.

use heapless::Vec;

use crate::crc::Crc32c;
use crate::error::{ErrorCode, InvalidState, ProtocolError};
use crate::frame::{HEADER_LEN, HeaderDecoder, MAX_LENGTH, encode_header};
use crate::reply::{RemoteError, parse_crc};
use crate::text::Text;

/// The longest trailer a receiver reads, in bytes.
pub const MAX_TRAILER: usize = 512;

/// Payload that the driver has to move now, with the best means it has, and report with `advance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Out to the peer.
    Send {
        /// Bytes to the next framing.
        remaining: u64,
    },
    /// In from the peer.
    Receive {
        /// Bytes to the next framing.
        remaining: u64,
    },
}

impl Payload {
    /// How much of `len` bytes of memory this payload can use: the safe way from a `u64` to a `usize`.
    #[must_use]
    pub fn clamp(self, len: usize) -> usize {
        let (Self::Send { remaining } | Self::Receive { remaining }) = self;
        usize::try_from(remaining).map_or(len, |remaining| remaining.min(len))
    }
}

/// What a body's trailer says.
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

/// Framing that goes out between payload: shared by both sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// The length of a data message.
    Data(u64),
    /// The empty message and `crc32c CRC`.
    End(Option<u32>),
    /// The empty message and `abort CODE TEXT`.
    Abort(ErrorCode),
}

impl Framing {
    pub(crate) fn encode(self, text: &mut Text<'_>) {
        match self {
            Self::Data(length) => _ = text.bytes(&encode_header(length)),
            Self::End(crc) => {
                let len = 7 + if crc.is_some() { 8 } else { 1 };
                _ = text.bytes(&encode_header(0)).bytes(&encode_header(len)).str("crc32c ").crc(crc);
            }
            Self::Abort(code) => {
                let len = 7 + code.as_str().len() + code.text().len();
                let text = text.bytes(&encode_header(0)).bytes(&encode_header(len as u64));
                _ = text.str("abort ").str(code.as_str()).str(" ").str(code.text());
            }
        }
    }
}

/// Copies what is left of a message that `write` formats, from byte `sent` on, into `out`. Returns the bytes copied and
/// whether the message is through; `sent` is moved on, and back to 0 at the end.
pub(crate) fn transmit(out: &mut [u8], sent: &mut u16, write: impl FnOnce(&mut Text<'_>)) -> (usize, bool) {
    let mut buffer = [0; HEADER_LEN + crate::reply::MAX_REPLY];
    let mut text = Text::new(&mut buffer);
    write(&mut text);
    let len = text.len();
    let left = &buffer[usize::from(*sent).min(len)..len];
    let n = left.len().min(out.len());
    out[..n].copy_from_slice(&left[..n]);
    if n == left.len() {
        *sent = 0;
        (n, true)
    } else {
        *sent += u16::try_from(n).unwrap_or(0);
        (n, false)
    }
}

/// Receives a body: hands framing in, payload past it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyReceiver {
    head: HeaderDecoder,
    state: Receiving,
    /// Bytes that data messages have carried so far.
    total: u64,
    /// Bytes that may still be delivered; what comes beyond them is counted and thrown away.
    room: u64,
    crc: Crc32c,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Length,
    Data { remaining: u64 },
    TrailerLength,
    Trailer { remaining: u16 },
}

impl BodyReceiver {
    /// A receiver that delivers up to `room` bytes; `crc` is that of what came before them.
    pub(crate) const fn new(room: u64, crc: Crc32c) -> Self {
        Self { head: HeaderDecoder::new(), state: Receiving::Length, total: 0, room, crc }
    }

    /// A receiver that throws everything away.
    pub(crate) const fn drain() -> Self {
        Self::new(0, Crc32c::new())
    }

    /// From now on everything is thrown away.
    pub(crate) const fn discard_rest(&mut self) {
        self.room = 0;
    }

    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    pub(crate) const fn crc(&self) -> Crc32c {
        self.crc
    }

    pub(crate) const fn crc_mut(&mut self) -> &mut Crc32c {
        &mut self.crc
    }

    /// Bytes the driver has to move before framing follows.
    pub(crate) fn payload(&self) -> Option<u64> {
        match self.state {
            Receiving::Data { remaining } => Some(remaining.min(self.room)).filter(|&n| n > 0),
            _ => None,
        }
    }

    /// The driver moved `n` bytes of payload.
    pub(crate) fn advance(&mut self, n: u64) -> Result<(), InvalidState> {
        if n > self.payload().unwrap_or(0) {
            return Err(InvalidState);
        }
        self.room -= n;
        self.pass(n);
        Ok(())
    }

    /// Bytes of framing (or of payload to be thrown away) that are known to be missing.
    pub(crate) fn want_read(&self) -> usize {
        match self.state {
            Receiving::Length | Receiving::TrailerLength => self.head.missing(),
            Receiving::Data { remaining } => usize::try_from(remaining).unwrap_or(usize::MAX),
            Receiving::Trailer { remaining } => remaining.into(),
        }
    }

    /// Takes framing; stops where payload begins. True with the trailer in `buffer` (its first bytes, if it does not
    /// fit) at the end of the body.
    pub(crate) fn handle_input<const N: usize>(
        &mut self,
        input: &[u8],
        buffer: &mut Vec<u8, N>,
    ) -> Result<(usize, bool), ProtocolError> {
        let mut taken = 0;
        loop {
            let rest = &input[taken..];
            match self.state {
                Receiving::Length => {
                    let (n, length) = self.head.push(rest)?;
                    taken += n;
                    self.state = match length {
                        None => return Ok((taken, false)),
                        Some(0) => Receiving::TrailerLength,
                        Some(remaining) => Receiving::Data { remaining },
                    };
                }
                Receiving::Data { remaining } => {
                    if self.payload().is_some() || rest.is_empty() {
                        return Ok((taken, false));
                    }
                    let n = remaining.min(rest.len() as u64);
                    self.pass(n);
                    taken += Payload::Receive { remaining: n }.clamp(rest.len());
                }
                Receiving::TrailerLength => {
                    let (n, length) = self.head.push(rest)?;
                    taken += n;
                    let Some(length) = length else {
                        return Ok((taken, false));
                    };
                    let remaining = u16::try_from(length).ok().filter(|&n| usize::from(n) <= MAX_TRAILER);
                    let remaining = remaining.ok_or(ProtocolError::TooLong { length })?;
                    buffer.clear();
                    self.state = Receiving::Trailer { remaining };
                }
                Receiving::Trailer { remaining } => {
                    let n = rest.len().min(remaining.into());
                    let fits = n.min(N - buffer.len());
                    _ = buffer.extend_from_slice(&rest[..fits]);
                    let remaining = remaining - u16::try_from(n).unwrap_or(remaining);
                    self.state = Receiving::Trailer { remaining };
                    return Ok((taken + n, remaining == 0));
                }
            }
        }
    }

    fn pass(&mut self, n: u64) {
        self.total = self.total.saturating_add(n);
        if let Receiving::Data { remaining } = &mut self.state {
            *remaining -= n;
            if *remaining == 0 {
                self.state = Receiving::Length;
            }
        }
    }
}

/// Sends a body: the driver cuts it into data messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodySender {
    /// Bytes of the body that no data message has announced yet; `None` if the whole is not known beforehand.
    unannounced: Option<u64>,
    /// Bytes of the current data message that have not gone out.
    remaining: u64,
    crc: Crc32c,
    /// The CRC that the driver supplied in place of the one that `filter` computes; the inner `None` is `-`.
    supplied: Option<Option<u32>>,
}

impl BodySender {
    /// A body of `length` bytes (`None`: not known beforehand); `crc` is that of what came before it.
    pub(crate) const fn new(length: Option<u64>, crc: Crc32c) -> Self {
        Self { unannounced: length, remaining: 0, crc, supplied: None }
    }

    /// Bytes of the current data message that are still to be moved.
    pub(crate) const fn remaining(&self) -> u64 {
        self.remaining
    }

    pub(crate) const fn crc_mut(&mut self) -> &mut Crc32c {
        &mut self.crc
    }

    pub(crate) const fn crc(&self) -> Crc32c {
        self.crc
    }

    pub(crate) const fn supply_crc(&mut self, crc: Option<u32>) {
        self.supplied = Some(crc);
    }

    pub(crate) const fn is_opaque(&self) -> bool {
        self.supplied.is_some()
    }

    /// Bytes that no data message has announced yet.
    pub(crate) const fn unannounced(&self) -> Option<u64> {
        self.unannounced
    }

    /// Begins a data message of `n` bytes.
    pub(crate) fn start_data(&mut self, n: u64) -> Result<Framing, InvalidState> {
        if n == 0 || n > MAX_LENGTH || self.remaining > 0 || self.unannounced.is_some_and(|left| n > left) {
            return Err(InvalidState);
        }
        if let Some(left) = &mut self.unannounced {
            *left -= n;
        }
        self.remaining = n;
        Ok(Framing::Data(n))
    }

    /// The driver moved `n` bytes of payload.
    pub(crate) const fn advance(&mut self, n: u64) -> Result<(), InvalidState> {
        match self.remaining.checked_sub(n) {
            Some(remaining) => self.remaining = remaining,
            None => return Err(InvalidState),
        }
        Ok(())
    }

    /// The end of a body that has gone out whole.
    pub(crate) fn finish(&self) -> Result<Framing, InvalidState> {
        if self.remaining > 0 || self.unannounced.is_some_and(|left| left > 0) {
            return Err(InvalidState);
        }
        Ok(Framing::End(self.supplied.unwrap_or(Some(self.crc.value()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_beyond_the_room_are_counted_and_thrown_away() {
        let mut buffer: Vec<u8, 16> = Vec::new();
        let mut receiver = BodyReceiver::new(3, Crc32c::new());
        let wire = b"0000000005helloXX";
        let (taken, done) = receiver.handle_input(wire, &mut buffer).unwrap();
        assert_eq!((taken, done, receiver.payload()), (10, false, Some(3)));
        receiver.advance(3).unwrap();
        assert_eq!(receiver.advance(1), Err(InvalidState));
        assert_eq!(receiver.handle_input(b"lo00000", &mut buffer).unwrap(), (7, false));
        assert_eq!(receiver.total(), 5);
        assert_eq!(receiver.handle_input(b"000000000000007crc32c ", &mut buffer).unwrap(), (22, true));
        assert_eq!(Trailer::parse(&buffer), Trailer::Malformed);
    }

    #[test]
    fn a_trailer_beyond_its_limit_ends_the_connection() {
        let mut buffer: Vec<u8, 16> = Vec::new();
        let mut receiver = BodyReceiver::drain();
        assert_eq!(
            receiver.handle_input(b"00000000000000000513", &mut buffer),
            Err(ProtocolError::TooLong { length: 513 })
        );
        let mut receiver = BodyReceiver::drain();
        receiver.handle_input(b"00000000000000000512abort io ", &mut buffer).unwrap();
        assert_eq!(receiver.handle_input(&[b'x'; 600], &mut buffer).unwrap(), (503, true));
        assert!(matches!(Trailer::parse(&buffer), Trailer::Abort(RemoteError { code: Some(ErrorCode::Io), .. })));
    }

    #[test]
    fn a_body_is_announced_once_and_ends_only_when_it_is_whole() {
        let mut sender = BodySender::new(Some(5), Crc32c::new());
        assert_eq!(sender.start_data(0), Err(InvalidState));
        assert_eq!(sender.start_data(6), Err(InvalidState));
        assert_eq!(sender.start_data(3), Ok(Framing::Data(3)));
        assert_eq!(sender.start_data(2), Err(InvalidState));
        assert_eq!(sender.finish(), Err(InvalidState));
        sender.advance(3).unwrap();
        assert_eq!(sender.finish(), Err(InvalidState));
        assert_eq!(sender.start_data(2), Ok(Framing::Data(2)));
        assert_eq!(sender.advance(3), Err(InvalidState));
        sender.advance(2).unwrap();
        assert_eq!(sender.finish(), Ok(Framing::End(Some(0))));
    }

    #[test]
    fn every_abort_fits_its_message() {
        for &code in ErrorCode::ALL {
            let mut out = [0; 300];
            let mut text = Text::new(&mut out);
            Framing::Abort(code).encode(&mut text);
            let len = text.finish().unwrap();
            let (framing, trailer) = out[..len].split_at(20);
            assert_eq!(&framing[..10], b"0000000000");
            assert_eq!(framing[10..], encode_header(trailer.len() as u64));
            assert!(matches!(Trailer::parse(trailer), Trailer::Abort(error) if error.code == Some(code)));
        }
    }
}
