//! The strings of a vector, and matching against them.

use std::fmt;

use super::{Loose, Problem};

/// A message that a server sends in one step, with wildcards.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// The literal length; `None` for `<len>`.
    length: Option<u64>,
    payload: Vec<Piece>,
    loose: Loose,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(Vec<u8>),
    Any(Wildcard),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wildcard {
    Port,
    Text,
    Mtime,
    Crc,
    Tag,
}

/// The strings of a line, one after the other. Wildcards are separate pieces; the caller handles `<len>`.
pub(super) fn pieces(strings: &str) -> Result<Vec<Piece>, Problem> {
    let mut pieces = Vec::new();
    let mut rest = strings.trim();
    while !rest.is_empty() {
        let inner = rest.strip_prefix('"').ok_or_else(|| Problem(format!("a string was expected: {rest}")))?;
        let (bytes, after) = unescape(inner)?;
        rest = after.trim_start();
        let mut times = 1;
        if let Some(after) = rest.strip_prefix('*') {
            let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            times = after[..end].parse().map_err(|_| Problem::new("`*` without a number"))?;
            rest = after[end..].trim_start();
        }
        pieces.extend(core::iter::repeat_n(Piece::Literal(bytes), times));
    }
    Ok(pieces)
}

/// The bytes up to the closing quotation mark, and what follows it.
fn unescape(text: &str) -> Result<(Vec<u8>, &str), Problem> {
    let mut bytes = Vec::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Ok((bytes, &text[at + 1..])),
            '\\' => match chars.next().map(|(_, escape)| escape) {
                Some('n') => bytes.push(b'\n'),
                Some('r') => bytes.push(b'\r'),
                Some('t') => bytes.push(b'\t'),
                Some(same @ ('\\' | '"')) => bytes.extend(same.to_string().bytes()),
                Some('x') => {
                    let hex: String = chars.by_ref().take(2).map(|(_, digit)| digit).collect();
                    bytes.push(u8::from_str_radix(&hex, 16).map_err(|_| Problem(format!("\\x{hex}")))?);
                }
                _ => return Err(Problem::new("an escape that is not known")),
            },
            char if char.is_ascii() => bytes.extend(char.to_string().bytes()),
            _ => return Err(Problem::new("a character that is not ASCII")),
        }
    }
    Err(Problem::new("a string without an end"))
}

/// The bytes that a client sends, which have no wildcards.
pub(super) fn literal(pieces: &[Piece]) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => bytes.extend(literal),
            Piece::Any(_) => return Err(Problem::new("a wildcard in what the client sends")),
        }
    }
    Ok(bytes)
}

impl Pattern {
    pub(super) fn parse(strings: &str, loose: Loose) -> Result<Self, Problem> {
        let all = literal(&pieces(strings)?)?;
        let (length, payload) = match all.strip_prefix(b"<len>") {
            Some(payload) => (None, payload),
            None => {
                let (length, payload) = all.split_at_checked(10).ok_or(Problem::new("a message without a length"))?;
                let length = parse_length(length).ok_or(Problem::new("a length that is not ten digits"))?;
                (Some(length), payload)
            }
        };
        let pattern = Self { length, payload: with_wildcards(payload), loose };
        let fixed = pattern.payload.iter().all(|piece| matches!(piece, Piece::Literal(_)));
        match length {
            Some(length) if fixed && length != payload.len() as u64 => {
                Err(Problem::new("the length is not that of the payload"))
            }
            None if fixed => Err(Problem::new("`<len>` of a payload that is known")),
            _ => Ok(pattern),
        }
    }

    /// A pattern for a payload of any length, with the wildcards of the vectors: `ok 4 4 <tag>`.
    #[must_use]
    pub fn payload(text: &str) -> Self {
        Self { length: None, payload: with_wildcards(text.as_bytes()), loose: Loose::No }
    }

    /// True if the server chooses a port here.
    #[must_use]
    pub fn announces_a_port(&self) -> bool {
        self.payload.contains(&Piece::Any(Wildcard::Port))
    }

    /// A payload that matches: with this port, and in a trailer this checksum.
    #[must_use]
    pub fn example(&self, port: u16, crc: u32) -> Vec<u8> {
        let mut payload = Vec::new();
        for piece in &self.payload {
            match piece {
                Piece::Literal(bytes) => payload.extend(bytes),
                Piece::Any(Wildcard::Port) => payload.extend(port.to_string().bytes()),
                Piece::Any(Wildcard::Text) => payload.extend(b"some text"),
                Piece::Any(Wildcard::Tag) => payload.extend(b"7f3"),
                Piece::Any(Wildcard::Crc) if payload == b"crc32c " => payload.extend(format!("{crc:08x}").bytes()),
                Piece::Any(Wildcard::Crc | Wildcard::Mtime) => payload.push(b'-'),
            }
        }
        payload
    }

    /// Compares a whole message, including its length.
    ///
    /// # Errors
    /// The expected and the actual message.
    pub fn check(&self, message: &[u8]) -> Result<(), Problem> {
        let differs = || Problem(format!("expected {self}, got \"{}\"", message.escape_ascii()));
        let (length, payload) = message.split_at_checked(10).ok_or_else(differs)?;
        let length = parse_length(length).ok_or_else(differs)?;
        if length != payload.len() as u64 {
            return Err(differs());
        }
        let exact = self.length.is_none_or(|expected| expected == length) && matches(&self.payload, payload);
        if exact || self.matches_loosely(payload) { Ok(()) } else { Err(differs()) }
    }

    fn matches_loosely(&self, payload: &[u8]) -> bool {
        match (self.loose, self.payload.as_slice()) {
            (Loose::AnyOrder, [Piece::Literal(expected)]) => {
                let sorted = |lines: &[u8]| {
                    let mut lines: Vec<Vec<u8>> = lines.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
                    lines.sort();
                    lines
                };
                let end = payload.iter().rposition(|&byte| byte != b'\n').map_or(0, |at| at + 1);
                sorted(&payload[..end]) == sorted(expected)
            }
            _ => false,
        }
    }
}

/// Splits a payload at its wildcards.
fn with_wildcards(payload: &[u8]) -> Vec<Piece> {
    const WORDS: [(&[u8], Wildcard); 5] = [
        (b"<port>", Wildcard::Port),
        (b"<text>", Wildcard::Text),
        (b"<mtime>", Wildcard::Mtime),
        (b"<crc>", Wildcard::Crc),
        (b"<tag>", Wildcard::Tag),
    ];
    let mut pieces = Vec::new();
    let mut plain = Vec::new();
    let mut rest = payload;
    while let Some((&byte, after)) = rest.split_first() {
        if let Some((word, wildcard)) = WORDS.iter().find(|(word, _)| rest.starts_with(word)) {
            if !plain.is_empty() {
                pieces.push(Piece::Literal(core::mem::take(&mut plain)));
            }
            pieces.push(Piece::Any(*wildcard));
            rest = &rest[word.len()..];
        } else {
            plain.push(byte);
            rest = after;
        }
    }
    if !plain.is_empty() {
        pieces.push(Piece::Literal(plain));
    }
    pieces
}

fn matches(pieces: &[Piece], text: &[u8]) -> bool {
    match pieces.split_first() {
        None => text.is_empty(),
        Some((Piece::Literal(literal), rest)) => {
            text.strip_prefix(literal.as_slice()).is_some_and(|after| matches(rest, after))
        }
        Some((Piece::Any(wildcard), rest)) => {
            (0..=text.len()).any(|n| wildcard.accepts(&text[..n]) && matches(rest, &text[n..]))
        }
    }
}

impl Wildcard {
    fn accepts(self, text: &[u8]) -> bool {
        let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        match self {
            Self::Port => {
                digits(text)
                    && text[0] != b'0'
                    && core::str::from_utf8(text).is_ok_and(|text| text.parse::<u16>().is_ok())
            }
            Self::Text => core::str::from_utf8(text).is_ok_and(|text| !text.chars().any(char::is_control)),
            Self::Mtime => text == b"-" || digits(text),
            Self::Crc => text == b"-" || text.len() == 8 && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
            Self::Tag => {
                text == b"-"
                    || (1..=32).contains(&text.len()) && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'z'))
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.length {
            Some(length) => write!(f, "\"{length:010}")?,
            None => f.write_str("\"<len>")?,
        }
        for piece in &self.payload {
            match piece {
                Piece::Literal(bytes) => write!(f, "{}", bytes.escape_ascii())?,
                Piece::Any(wildcard) => write!(f, "<{}>", format!("{wildcard:?}").to_lowercase())?,
            }
        }
        f.write_str("\"")
    }
}

/// Parses ten digits.
pub(super) fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.len() != 10 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(strings: &str) -> Pattern {
        Pattern::parse(strings, Loose::No).unwrap()
    }

    #[test]
    fn escapes_and_repeats_are_read_as_the_readme_says() {
        let all = literal(&pieces(r#""a\n\r\t\\\"\x01\xff" "b"*3 "c" "#).unwrap()).unwrap();
        assert_eq!(all, b"a\n\r\t\\\"\x01\xffbbbc");
        for bad in [r#""a"#, r#"a"#, r#""\q""#, r#""\xg0""#, r#""a"*"#, "\"á\""] {
            assert!(pieces(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn wildcards_match_what_they_stand_for_and_nothing_else() {
        for (strings, yes, no) in [
            (
                r#""<len>" "<port>""#,
                &["000000000562346", "00000000011"][..],
                &["00000000010", "000000000565536", "000000000201"][..],
            ),
            (
                r#""<len>" "ok 4 4 <tag>""#,
                &["0000000008ok 4 4 -", "0000000010ok 4 4 0az"],
                &["0000000007ok 4 4 ", "0000000008ok 4 4 A"],
            ),
            (
                r#""<len>" "ok 9 <mtime> <crc>""#,
                &["0000000008ok 9 - -", "0000000016ok 9 17 e3069283"],
                &["0000000008ok 9 - x"],
            ),
            (
                r#""<len>" "error io <text>""#,
                &["0000000012error io a b"],
                &["0000000011error io a\n", "0000000007error x"],
            ),
            (r#""0000000002" "ok""#, &["0000000002ok"], &["0000000003ok", "0000000003oko", "ok"]),
        ] {
            for yes in yes {
                assert_eq!(pattern(strings).check(yes.as_bytes()), Ok(()), "{strings} {yes}");
            }
            for no in no {
                assert!(pattern(strings).check(no.as_bytes()).is_err(), "{strings} {no}");
            }
        }
    }

    #[test]
    fn a_pattern_whose_length_is_wrong_is_refused() {
        assert!(Pattern::parse(r#""0000000003" "ok""#, Loose::No).is_err());
        assert!(Pattern::parse(r#""<len>" "ok""#, Loose::No).is_err());
        assert!(Pattern::parse(r#""000000000" "#, Loose::No).is_err());
    }

    #[test]
    fn names_of_a_classic_listing_may_come_in_any_order_with_line_ends_behind_them() {
        let listing = Pattern::parse(r#""0000000007" "a.t\nb.t""#, Loose::AnyOrder).unwrap();
        for yes in ["0000000007a.t\nb.t", "0000000007b.t\na.t", "0000000009b.t\na.t\n\n"] {
            assert_eq!(listing.check(yes.as_bytes()), Ok(()));
        }
        for no in ["0000000003a.t", "0000000008a.t\n\nb.t", "0000000011a.t\nb.t\nb.t"] {
            assert!(listing.check(no.as_bytes()).is_err());
        }
    }
}
