//! Names of files and directories: checked once, at the edge (PROTOCOL §2).

use core::fmt;

use heapless::String;

use crate::text::Text;

/// The longest name of the protocol, in bytes.
pub const MAX_NAME: usize = 255;

/// Components that begin with this are reserved for the server.
pub const RESERVED_PREFIX: &str = ".skiff-";

/// A name that follows the rules of PROTOCOL §2: one or more components joined by `/`, no `.`, no `..`, no control
/// character, no backslash, nothing reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Name<'a>(&'a str);

/// An owned [`Name`] of up to `N` bytes. It was checked when it was parsed, and is not checked again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NameBuf<const N: usize>(String<N, u8>);

impl<const N: usize> NameBuf<N> {
    /// The name.
    #[must_use]
    pub fn as_name(&self) -> Name<'_> {
        Name(&self.0)
    }
}

impl<const N: usize> TryFrom<Name<'_>> for NameBuf<N> {
    type Error = NameError;

    /// The only error is [`NameError::TooLong`].
    fn try_from(name: Name<'_>) -> Result<Self, NameError> {
        let mut text = String::new();
        text.push_str(name.as_str()).map_err(|_| NameError::TooLong)?;
        Ok(Self(text))
    }
}

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum NameError {
    /// It has no bytes, or an empty component (`a//b`, `/a`, `a/`).
    Empty,
    /// It has more bytes than the store accepts.
    TooLong,
    /// It is not UTF-8.
    NotUtf8,
    /// A component is `.` or `..`.
    Dots,
    /// It contains a control character (U+0000 to U+001F, U+007F to U+009F).
    Control,
    /// It contains a backslash.
    Backslash,
    /// A component begins with [`RESERVED_PREFIX`].
    Reserved,
}

impl<'a> Name<'a> {
    /// Checks `bytes` by the rules of PROTOCOL §2, with at most `max` bytes (and never more than [`MAX_NAME`]).
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn parse(bytes: &'a [u8], max: usize) -> Result<Self, NameError> {
        if bytes.is_empty() {
            return Err(NameError::Empty);
        }
        if bytes.len() > max.min(MAX_NAME) {
            return Err(NameError::TooLong);
        }
        let text = core::str::from_utf8(bytes).map_err(|_| NameError::NotUtf8)?;
        // U+0080 to U+009F are the only two-byte controls: 0xC2 0x80 to 0xC2 0x9F.
        if text.chars().any(char::is_control) {
            return Err(NameError::Control);
        }
        if bytes.contains(&b'\\') {
            return Err(NameError::Backslash);
        }
        for component in text.split('/') {
            match component {
                "" => return Err(NameError::Empty),
                "." | ".." => return Err(NameError::Dots),
                _ if component.starts_with(RESERVED_PREFIX) => return Err(NameError::Reserved),
                _ => {}
            }
        }
        Ok(Self(text))
    }

    /// The name under which a classic `put PATH` stores the file: the part after the last `/` or `\` (PROTOCOL §3).
    ///
    /// # Errors
    /// As [`Name::parse`], for that part.
    pub fn from_classic_path(path: &'a [u8], max: usize) -> Result<Self, NameError> {
        let start = path.iter().rposition(|&b| b == b'/' || b == b'\\').map_or(0, |at| at + 1);
        Self::parse(&path[start..], max)
    }

    /// The name as text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The components, from the root down.
    pub fn components(self) -> impl DoubleEndedIterator<Item = &'a str> {
        self.0.split('/')
    }

    /// The last component.
    #[must_use]
    pub fn file_name(self) -> &'a str {
        self.0.rsplit_once('/').map_or(self.0, |(_, last)| last)
    }

    /// The directory that holds it; `None` for a name in the root.
    #[must_use]
    pub fn parent(self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent))
    }

    /// True if a component begins with `.`: a server may omit such names.
    #[must_use]
    pub fn is_hidden(self) -> bool {
        self.components().any(|component| component.starts_with('.'))
    }

    /// True if a classic `ls` can show it: ASCII, no white space, not hidden, in the root (PROTOCOL §3).
    #[must_use]
    pub fn is_classic(self) -> bool {
        self.0.bytes().all(|b| b.is_ascii_graphic() && b != b'/') && !self.is_hidden()
    }

    /// The name with `(number)` before the last dot of its last component, as in `report(1).txt`; leading dots do not
    /// count. A classic `put` uses it if the name is taken (PROTOCOL §3). Written into `buffer`.
    ///
    /// # Errors
    /// [`NameError::TooLong`] if it has more than `max` bytes or `buffer` is too small.
    pub fn numbered<'b>(self, number: u32, max: usize, buffer: &'b mut [u8]) -> Result<Name<'b>, NameError> {
        let start = self.0.len() - self.file_name().len();
        let leading = self.file_name().bytes().take_while(|&b| b == b'.').count();
        let last = self.0.bytes().rposition(|b| b == b'.').filter(|at| *at >= start + leading);
        let (before, after) = self.0.as_bytes().split_at(last.unwrap_or(self.0.len()));
        let mut text = Text::new(buffer);
        text.bytes(before).str("(").num(number.into()).str(")").bytes(after);
        let len = text.finish().ok_or(NameError::TooLong)?;
        Name::parse(&buffer[..len], max)
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl NameError {
    /// What is wrong, in words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Empty => "empty name or component",
            Self::TooLong => "the name is too long",
            Self::NotUtf8 => "the name is not UTF-8",
            Self::Dots => "a component is . or ..",
            Self::Control => "a control character in the name",
            Self::Backslash => "a backslash in the name",
            Self::Reserved => "names that begin with .skiff- are the server's own",
        }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_pass() {
        for name in ["a", "a b.txt", "logs/2026/x.log", ".hidden", "...", "olá", "a:b", "x.skiff-y", "ﬁ\u{202e}x"] {
            assert_eq!(Name::parse(name.as_bytes(), MAX_NAME).map(Name::as_str), Ok(name));
        }
        assert!(Name::parse(&[b'x'; 255], MAX_NAME).is_ok());
    }

    #[test]
    fn a_name_is_kept_if_there_is_room() {
        let name = Name::parse(b"logs/1", MAX_NAME).unwrap();
        assert_eq!(NameBuf::<6>::try_from(name).unwrap().as_name(), name);
        assert_eq!(NameBuf::<5>::try_from(name), Err(NameError::TooLong));
    }

    #[test]
    fn bad_names_say_what_is_wrong() {
        for (name, error) in [
            (&b""[..], NameError::Empty),
            (b"/a", NameError::Empty),
            (b"a/", NameError::Empty),
            (b"a//b", NameError::Empty),
            (b".", NameError::Dots),
            (b"a/../b", NameError::Dots),
            (b"a\\b", NameError::Backslash),
            (b"a\nb", NameError::Control),
            (b"a\x7f", NameError::Control),
            ("a\u{85}b".as_bytes(), NameError::Control),
            (b"\xff", NameError::NotUtf8),
            (b"\xed\xa0\x80", NameError::NotUtf8),
            (b".skiff-stage/x", NameError::Reserved),
            (b"d/.skiff-", NameError::Reserved),
            (&[b'x'; 256], NameError::TooLong),
        ] {
            assert_eq!(Name::parse(name, MAX_NAME), Err(error), "{name:?}");
        }
        assert_eq!(Name::parse(b"12345", 4), Err(NameError::TooLong));
    }

    #[test]
    fn a_classic_path_keeps_its_last_component() {
        for (path, name) in [("../docs/teste.txt", "teste.txt"), ("C:\\x\\y.bin", "y.bin"), ("a", "a")] {
            assert_eq!(Name::from_classic_path(path.as_bytes(), MAX_NAME).unwrap().as_str(), name);
        }
        for path in ["..", "a/", "x/..", "\\"] {
            assert!(Name::from_classic_path(path.as_bytes(), MAX_NAME).is_err());
        }
    }

    #[test]
    fn numbers_go_before_the_last_dot() {
        for (name, number, numbered) in [
            ("report.txt", 1, "report(1).txt"),
            ("report", 2, "report(2)"),
            ("a.tar.gz", 10, "a.tar(10).gz"),
            (".profile", 1, ".profile(1)"),
            ("..a.b", 3, "..a(3).b"),
            ("d.x/file", 7, "d.x/file(7)"),
            ("end.", u32::MAX, "end(4294967295)."),
        ] {
            let mut buffer = [0; 300];
            let name = Name::parse(name.as_bytes(), MAX_NAME).unwrap();
            assert_eq!(name.numbered(number, MAX_NAME, &mut buffer).unwrap().as_str(), numbered);
        }
        let long = [b'x'; 255];
        let name = Name::parse(&long, MAX_NAME).unwrap();
        assert_eq!(name.numbered(1, MAX_NAME, &mut [0; 300]), Err(NameError::TooLong));
        assert_eq!(name.numbered(1, MAX_NAME, &mut [0; 10]), Err(NameError::TooLong));
    }

    #[test]
    fn classic_listings_show_plain_names_only() {
        for (name, shown) in
            [("a.txt", true), ("a b", false), (".x", false), ("olá", false), ("d/a", false), ("(~!)", true)]
        {
            assert_eq!(Name::parse(name.as_bytes(), MAX_NAME).unwrap().is_classic(), shown, "{name}");
        }
    }
}
