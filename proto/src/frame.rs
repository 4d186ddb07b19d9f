//! Message lengths: the ten digits in front of every payload (PROTOCOL §1).

use crate::error::ProtocolError;

/// Bytes of a message's length on the wire.
pub const HEADER_LEN: usize = 10;

/// The longest payload ten digits can announce, in bytes.
pub const MAX_LENGTH: u64 = 9_999_999_999;

/// The length field for a payload of `length` bytes.
///
/// `length` is at most [`MAX_LENGTH`]; only the last ten digits of a larger number would fit, so the callers in this
/// crate cut bodies into messages and refuse longer files before they get here.
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

/// Collects a length that may arrive in any number of pieces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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

    /// True between messages: no digit of the next length has come yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.digits == 0
    }

    /// Bytes that are still missing from the length.
    #[must_use]
    pub const fn missing(&self) -> usize {
        HEADER_LEN - self.digits as usize
    }

    /// Takes bytes up to the end of the length; says how many it took, and the length once it is whole.
    ///
    /// After it has returned a length the decoder is at the next boundary.
    ///
    /// # Errors
    /// [`ProtocolError::BadLength`] at the first byte that is not a digit.
    pub const fn push(&mut self, input: &[u8]) -> Result<(usize, Option<u64>), ProtocolError> {
        let mut taken = 0;
        while taken < input.len() {
            let byte = input[taken];
            if !byte.is_ascii_digit() {
                return Err(ProtocolError::BadLength);
            }
            taken += 1;
            self.value = self.value * 10 + (byte - b'0') as u64;
            self.digits += 1;
            if self.digits as usize == HEADER_LEN {
                let value = self.value;
                *self = Self::new();
                return Ok((taken, Some(value)));
            }
        }
        Ok((taken, None))
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
