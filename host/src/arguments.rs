//! Parses the numbers on both programs' command lines, with its own error messages.

use core::num::NonZeroU64;

use bytesize::ByteSize;
use clap::builder::{StringValueParser, TypedValueParser};

/// A parser of whole numbers from `least` to `most`. The error message omits `most` if it is [`u32::MAX`].
pub fn number<T>(least: u32, most: u32) -> impl TypedValueParser<Value = T>
where
    T: TryFrom<u32> + Clone + Send + Sync + 'static,
{
    StringValueParser::new().try_map(move |typed| {
        let number = typed.parse().ok().filter(|number| (least..=most).contains(number));
        number.and_then(|number: u32| T::try_from(number).ok()).ok_or_else(|| match most {
            u32::MAX => format!("must be a whole number, at least {least}"),
            most => format!("must be a whole number from {least} to {most}"),
        })
    })
}

/// Parses a number of bytes: `200K`, `1.5MiB`, `4096`.
///
/// # Errors
/// `typed` is not a number of bytes.
pub fn size(typed: &str) -> Result<ByteSize, &'static str> {
    typed.parse().map_err(|_| "not a number of bytes, such as 200K or 1.5MiB")
}

/// Like [`size`], where 0 makes no sense; also for rates in bytes per second.
///
/// # Errors
/// As [`size`]; or the number is 0.
pub fn bytes(typed: &str) -> Result<NonZeroU64, &'static str> {
    NonZeroU64::new(size(typed)?.as_u64()).ok_or("must be more than 0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_unit_or_none() {
        for (typed, expected) in [("4096", 4096), ("200K", 200_000), ("200k", 200_000), ("1.5MiB", 1_572_864)] {
            assert_eq!(bytes(typed).map(NonZeroU64::get), Ok(expected), "{typed}");
        }
        for bad in ["", "0", "x", "-1"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
