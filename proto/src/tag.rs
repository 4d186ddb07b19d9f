//! TAG: the version of a file (PROTOCOL §5).

use core::fmt;
use core::str::from_utf8;

/// TAG: changes whenever the content of a file changes; 1 to 32 of `0-9a-z`, or `-` where the store can't promise that.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    bytes: [u8; Self::MAX],
    len: u8,
}

impl Tag {
    const MAX: usize = 32;

    /// `-`: the store can't distinguish versions.
    pub const UNKNOWN: Self = Self { bytes: [0; Self::MAX], len: 0 };

    /// A tag of 13 characters from any number, `0-9a-z`.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        let mut tag = Self::UNKNOWN;
        tag.len = 13;
        let mut rest = number;
        for byte in tag.bytes[..13].iter_mut().rev() {
            *byte = b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % 36) as usize];
            rest /= 36;
        }
        tag
    }

    /// Parses a TAG; `None` if it is not valid.
    #[must_use]
    pub fn parse(word: &[u8]) -> Option<Self> {
        if word == b"-" {
            return Some(Self::UNKNOWN);
        }
        let valid = (1..=Self::MAX).contains(&word.len())
            && word.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase());
        if !valid {
            return None;
        }
        let mut tag = Self::UNKNOWN;
        tag.bytes[..word.len()].copy_from_slice(word);
        tag.len = u8::try_from(word.len()).ok()?;
        Some(tag)
    }

    /// True if two reads with this tag (and the same size) have the same content.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.len > 0
    }

    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        if self.is_known() { from_utf8(&self.bytes[..self.len as usize]).unwrap_or("-") } else { "-" }
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
