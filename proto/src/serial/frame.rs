//! Frames, written whole and read byte by byte.

use crate::crc::Crc32c;

/// Bytes of a frame before its payload.
const HEAD: u8 = 13;
const HEAD_LEN: usize = HEAD as usize;
/// Bytes of the checksum, which comes first.
const CHECK: usize = 4;
/// Maximum payload of a frame.
pub(super) const PAYLOAD: u16 = 240;
const PAYLOAD_LEN: usize = PAYLOAD as usize;
/// The longest frame on the line: delimiter, the code byte of COBS, head, payload, delimiter.
pub const FRAME_MAX: usize = HEAD_LEN + PAYLOAD_LEN + 3;
/// The byte before and after each frame; never inside one.
pub(super) const DELIMITER: u8 = 0;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The client opens a session.
    Open = b'O' as isize,
    /// The server accepts it.
    Accept = b'A' as isize,
    /// Payload; without any, only an acknowledgement.
    Data = b'D' as isize,
    /// Something was lost: the other end sends everything from `ack` on again, and acknowledges what it has received.
    Repeat = b'R' as isize,
    /// The session does not exist, or no longer.
    Close = b'C' as isize,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Open, Self::Accept, Self::Data, Self::Repeat, Self::Close];
}

/// The fields before the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) session: u16,
    pub(super) seq: u16,
    pub(super) ack: u16,
    pub(super) window: u16,
}

impl Head {
    fn parse(bytes: [u8; HEAD_LEN]) -> Option<Self> {
        let [_, _, _, _, kind, s0, s1, q0, q1, a0, a1, w0, w1] = bytes;
        Some(Self {
            kind: Kind::ALL.into_iter().find(|known| *known as u8 == kind)?,
            session: u16::from_be_bytes([s0, s1]),
            seq: u16::from_be_bytes([q0, q1]),
            ack: u16::from_be_bytes([a0, a1]),
            window: u16::from_be_bytes([w0, w1]),
        })
    }

    /// Writes a frame with `payload`, at most [`PAYLOAD`] bytes in two parts, and returns its length.
    pub(super) fn encode(self, payload: [&[u8]; 2], out: &mut [u8; FRAME_MAX]) -> usize {
        let mut at = 2 + CHECK;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&[self.kind as u8]);
        for number in [self.session, self.seq, self.ack, self.window] {
            put(&number.to_be_bytes());
        }
        payload.into_iter().for_each(&mut put);
        let mut crc = Crc32c::new();
        crc.update(&out[2 + CHECK..at]);
        out[2..2 + CHECK].copy_from_slice(&crc.value().to_be_bytes());
        // COBS: each zero becomes the distance to the next one. A frame is too short to need a second code byte.
        let mut distance = 1;
        for byte in out[2..at].iter_mut().rev() {
            if *byte == 0 {
                (*byte, distance) = (distance, 1);
            } else {
                distance += 1;
            }
        }
        (out[0], out[1], out[at]) = (DELIMITER, distance, DELIMITER);
        at + 1
    }
}

/// The result of a byte from the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// Nothing yet.
    Nothing,
    /// A byte of payload. It is verified only at the end of the frame.
    Payload {
        /// Its place in the payload.
        at: u8,
        byte: u8,
    },
    /// A valid frame, with the length of its payload.
    Frame(Head, u8),
    /// Bytes between two delimiters that are not a frame.
    Garbage,
}

/// Reads frames byte by byte. The payload is not kept here.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Bytes up to the next code byte; 0 if that is the next one.
    left: u8,
    /// The next code byte stands for a zero.
    zero: bool,
    /// Not a frame; ignored up to the next delimiter.
    garbage: bool,
    /// Bytes of the frame so far.
    len: u8,
    head: [u8; HEAD_LEN],
    crc: Crc32c,
}

impl Decoder {
    pub(super) const fn new() -> Self {
        Self { left: 0, zero: false, garbage: false, len: 0, head: [0; HEAD_LEN], crc: Crc32c::new() }
    }

    /// The head of the frame that is being read, once it is complete. It is verified only at the end of the frame.
    pub(super) fn head(&self) -> Option<Head> {
        if usize::from(self.len) >= HEAD_LEN { Head::parse(self.head) } else { None }
    }

    const fn payload_len(&self) -> u8 {
        self.len.saturating_sub(HEAD)
    }

    /// Takes a byte from the line.
    pub(super) fn push(&mut self, byte: u8) -> Item {
        if byte == DELIMITER {
            let ended = core::mem::replace(self, Self::new());
            return ended.end();
        }
        if self.garbage {
            return Item::Nothing;
        }
        if self.left > 0 {
            self.left -= 1;
            return self.take(byte);
        }
        self.left = byte - 1;
        if core::mem::replace(&mut self.zero, true) { self.take(0) } else { Item::Nothing }
    }

    fn take(&mut self, byte: u8) -> Item {
        let at = usize::from(self.len);
        if at >= HEAD_LEN + PAYLOAD_LEN {
            self.garbage = true;
            return Item::Nothing;
        }
        self.len += 1;
        if at >= CHECK {
            self.crc.update(&[byte]);
        }
        match self.head.get_mut(at) {
            Some(place) => {
                *place = byte;
                Item::Nothing
            }
            None => Item::Payload { at: self.payload_len() - 1, byte },
        }
    }

    /// Classifies the bytes before a delimiter.
    fn end(self) -> Item {
        let [c0, c1, c2, c3, ..] = self.head;
        let is_right = u32::from_be_bytes([c0, c1, c2, c3]) == self.crc.value();
        match self.head() {
            Some(head) if is_right && !self.garbage && self.left == 0 => Item::Frame(head, self.payload_len()),
            // Two delimiters in a row.
            _ if !self.zero => Item::Nothing,
            _ => Item::Garbage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn decoded(line: &[u8]) -> Vec<(Head, Vec<u8>)> {
        let (mut decoder, mut payload, mut frames) = (Decoder::new(), Vec::new(), Vec::new());
        for byte in line {
            match decoder.push(*byte) {
                Item::Nothing => {}
                Item::Payload { at, byte } => {
                    assert_eq!(usize::from(at), payload.len());
                    payload.push(byte);
                }
                Item::Frame(head, len) => {
                    assert_eq!(usize::from(len), payload.len());
                    frames.push((head, core::mem::take(&mut payload)));
                }
                Item::Garbage => payload.clear(),
            }
        }
        frames
    }

    #[test]
    fn a_frame_of_any_length_and_content_is_read_back() {
        for len in 0..=PAYLOAD_LEN {
            for fill in [|_| 0, |_| 1, |_| 255, |i: usize| u8::try_from(i * 7 % 256).unwrap()] {
                let payload: Vec<u8> = (0..len).map(fill).collect();
                let head = Head { kind: Kind::Data, session: 0x0100, seq: 0, ack: 0xff00, window: 1 };
                let mut out = [0xaa; FRAME_MAX];
                let (first, second) = payload.split_at(len / 3);
                let n = head.encode([first, second], &mut out);
                assert_eq!(n, len + HEAD_LEN + 3);
                assert!(out[0] == 0 && out[n - 1] == 0 && !out[1..n - 1].contains(&0));
                assert_eq!(decoded(&out[..n]), [(head, payload)]);
            }
        }
    }

    #[test]
    fn a_frame_with_one_wrong_missing_or_additional_byte_is_none() {
        let head = Head { kind: Kind::Data, session: 7, seq: 0, ack: 300, window: 512 };
        let mut out = [0; FRAME_MAX];
        let n = head.encode([b"one\0two", b"\0\0"], &mut out);
        for at in 1..n - 1 {
            for bit in 0..8 {
                let mut line = out[..n].to_vec();
                line[at] ^= 1 << bit;
                assert!(decoded(&line).is_empty(), "{at} {bit}");
            }
            let mut line = out[..n].to_vec();
            line.remove(at);
            assert!(decoded(&line).is_empty(), "without {at}");
            line.insert(at, out[at]);
            assert_eq!(decoded(&line).len(), 1);
            line.insert(at, out[at]);
            assert!(decoded(&line).is_empty(), "twice {at}");
        }
    }

    #[test]
    fn text_between_frames_does_not_matter() {
        let head = Head { kind: Kind::Close, session: 7, seq: 0, ack: 0, window: 0 };
        let mut out = [0; FRAME_MAX];
        let n = head.encode([b"", b""], &mut out);
        let line = [b"boot: 1.2\r\n", &out[..n], b"warning: hot\n", &out[..n], &[5; 1000], &out[..n]].concat();
        assert_eq!(decoded(&line).len(), 3);
    }
}
