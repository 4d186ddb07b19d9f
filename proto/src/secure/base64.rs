//! Base64 of 32 bytes with the standard alphabet and padding, in constant time: no branch or table index depends on a
//! digit.
//!
//! This is our own code because a library would take 1.5 KiB of a device's flash.

use zeroize::Zeroizing;

use super::hash::Bytes;

/// Bytes of the text.
pub(super) const LEN: usize = 44;

/// -1 if `first <= value <= last`, else 0.
const fn within(value: i32, first: u8, last: u8) -> i32 {
    ((first as i32 - 1 - value) & (value - last as i32 - 1)) >> 31
}

/// The value of a digit; -1 if it is not a digit.
const fn value(digit: u8) -> i32 {
    let digit = digit as i32;
    (within(digit, b'A', b'Z') & (digit - 64))
        + (within(digit, b'a', b'z') & (digit - 70))
        + (within(digit, b'0', b'9') & (digit + 5))
        + (within(digit, b'+', b'+') & 63)
        + (within(digit, b'/', b'/') & 64)
        - 1
}

/// The digit of a value below 64.
const fn digit(value: i32) -> u8 {
    let digit = (within(value, 0, 25) & (value + b'A' as i32))
        + (within(value, 26, 51) & (value + b'a' as i32 - 26))
        + (within(value, 52, 61) & (value + b'0' as i32 - 52))
        + (within(value, 62, 62) & b'+' as i32)
        + (within(value, 63, 63) & b'/' as i32);
    digit.to_le_bytes()[0]
}

pub(super) fn decode(text: &str) -> Option<Zeroizing<Bytes>> {
    let digits = text.as_bytes().strip_suffix(b"=").filter(|digits| digits.len() == LEN - 1)?;
    let mut bytes = Zeroizing::new([0; 32]);
    let mut places = bytes.iter_mut();
    let (mut bits, mut count, mut flaws) = (0, 0, 0);
    for &digit in digits {
        let value = value(digit);
        flaws |= value >> 31;
        bits = bits << 6 | value & 63;
        count += 6;
        if count >= 8 {
            count -= 8;
            *places.next()? = (bits >> count).to_le_bytes()[0];
            bits &= (1 << count) - 1;
        }
    }
    // What is left over has to be 0: there is one text for each key.
    (flaws | bits == 0).then_some(bytes)
}

pub(super) fn encode(bytes: &Bytes) -> Zeroizing<[u8; LEN]> {
    let mut text = Zeroizing::new([b'='; LEN]);
    let (mut bits, mut count) = (0, 0);
    let mut rest = bytes.iter();
    for place in &mut text[..LEN - 1] {
        if count < 6 {
            bits = bits << 8 | i32::from(*rest.next().unwrap_or(&0));
            count += 8;
        }
        count -= 6;
        *place = digit(bits >> count & 63);
        bits &= (1 << count) - 1;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_has_its_value_and_nothing_else_is_one() {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for byte in 0..=u8::MAX {
            let expected = alphabet.iter().position(|digit| *digit == byte).map_or(-1, |at| i32::try_from(at).unwrap());
            assert_eq!(value(byte), expected, "{byte}");
            assert!(expected < 0 || digit(expected) == byte);
        }
    }

    #[test]
    fn texts_are_those_of_rfc_4648() {
        for (bytes, text) in [
            ([0; 32], "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            ([0xff; 32], "//////////////////////////////////////////8="),
            (core::array::from_fn(|at| [0xfb, 0xef, 0xbe][at % 3]), "++++++++++++++++++++++++++++++++++++++++++8="),
            (*b"0123456789abcdefghijklmnopqrstuv", "MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY="),
        ] {
            assert_eq!(core::str::from_utf8(&*encode(&bytes)), Ok(text));
            assert_eq!(decode(text).as_deref(), Some(&bytes));
        }
        for flaw in [
            "",
            "=",
            "AAAA",
            "//////////////////////////////////////////9=",
            "///////////////////////////////////////////=",
        ] {
            assert_eq!(decode(flaw), None, "{flaw}");
        }
    }
}
