//! Replies: what a server answers, written and parsed (PROTOCOL §3 to §6).

use core::str::from_utf8;

use crate::command::Verbs;
use crate::error::{ErrorCode, Refusal};
use crate::name::{Name, NameError};
use crate::store::{Entry, EntryKind, Stat};
use crate::text::{Text, parse_number};

pub use crate::tag::Tag;

/// The longest reply text a server of this crate sends, in bytes, without its length. The hello of a server that offers
/// protection is up to [`MAX_OFFER`](crate::cipher::MAX_OFFER) bytes longer.
pub const MAX_REPLY: usize = 272;

/// The hello reply: the properties of a server (PROTOCOL §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Hello<'a> {
    /// `server`: product/version.
    pub server: &'a str,
    /// `host`: the server's name, if it has one.
    pub host: Option<&'a str>,
    /// `commands`: the extended verbs that it accepts.
    pub commands: Verbs,
    /// `name-max`: the longest name, in bytes.
    pub name_max: u16,
    /// `idle`: seconds without progress after which it closes the connection; `None` if not announced.
    pub idle: Option<u32>,
    /// `nocrc=1`: it accepts and sends bodies without a checksum.
    pub nocrc: bool,
}

/// The longest `host` of a hello reply, in bytes.
pub const MAX_HOST: usize = 32;

/// The longest line of a listing in bytes: SIZE, MTIME, CRC, a name of 255 bytes and the separators.
pub const MAX_LIST_LINE: usize = 20 + 1 + 20 + 1 + 8 + 1 + crate::name::MAX_NAME + 2;

/// Writes the line of a `list` body (`SIZE SP MTIME SP CRC SP NAME LF`, PROTOCOL §5) into `out`. Returns the number
/// of bytes.
/// `None` if it does not fit; [`MAX_LIST_LINE`] bytes always do.
#[must_use]
pub fn list_line(entry: &Entry<'_>, out: &mut [u8]) -> Option<usize> {
    let mut text = Text::new(out);
    let (stat, end) = match entry.kind {
        EntryKind::File(stat) => (stat, "\n"),
        EntryKind::Directory { mtime } => (Stat { size: 0, mtime, crc: None }, "/\n"),
    };
    text.num(stat.size).str(" ").or(stat.mtime, "-").str(" ").crc(stat.crc).str(" ");
    text.str(entry.name.as_str()).str(end);
    text.finish()
}

/// One line of a `list` body, without its LF, as a client sees it. The name is checked by the rules of PROTOCOL §2.
///
/// # Errors
/// `None` if this is not a line of a listing; the name's error if only the name is wrong.
pub fn parse_list_line(line: &[u8]) -> Result<Entry<'_>, Option<NameError>> {
    let mut words = Words(Some(line));
    let stat = (|| Some(Stat { size: words.number()?, mtime: words.optional()?, crc: words.crc()? }))();
    let (Some(stat), Some(name)) = (stat, words.0) else { return Err(None) };
    let (name, kind) = match name {
        [name @ .., b'/'] => (name, EntryKind::Directory { mtime: stat.mtime }),
        name => (name, EntryKind::File(stat)),
    };
    Ok(Entry { name: Name::parse(name, crate::name::MAX_NAME).map_err(Some)?, kind })
}

/// A reply that a server sends, made from a [`crate::server::Answer`]. It is small, because it waits in the session
/// until there is room to send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Hello,
    /// `-1`
    ClassicRefusal,
    Port(u16),
    /// `ok`
    Done,
    /// `ok` or `ok OMITTED`
    List {
        omitted: u64,
    },
    /// `ok SIZE MTIME CRC`
    Stat {
        size: u64,
        mtime: Option<u64>,
        crc: Option<u32>,
    },
    /// `ok LENGTH SIZE TAG`
    Read {
        length: u64,
        size: u64,
        tag: Tag,
    },
    /// `ok NUMBER CRC`: resume, write, sum
    Summed {
        number: u64,
        crc: Option<u32>,
    },
    /// `ok TOTAL FREE`
    Space {
        total: u64,
        free: u64,
    },
    /// `ok HEX2`
    #[cfg(feature = "secure")]
    Secured([u8; 48]),
    Error(Refusal),
}

impl Reply {
    /// Writes the reply's payload.
    pub(crate) fn encode(&self, hello: &Hello<'_>, text: &mut Text<'_>) {
        match *self {
            Self::Hello => hello.encode(text),
            Self::ClassicRefusal => _ = text.str("-1"),
            Self::Port(port) => _ = text.num(port.into()),
            Self::Done | Self::List { omitted: 0 } => _ = text.str("ok"),
            Self::List { omitted } => _ = text.str("ok ").num(omitted),
            Self::Stat { size, mtime, crc } => _ = text.str("ok ").num(size).str(" ").or(mtime, "-").str(" ").crc(crc),
            Self::Read { length, size, tag } => {
                _ = text.str("ok ").num(length).str(" ").num(size).str(" ").str(tag.as_str());
            }
            Self::Summed { number, crc } => _ = text.str("ok ").num(number).str(" ").crc(crc),
            Self::Space { total, free } => _ = text.str("ok ").num(total).str(" ").num(free),
            #[cfg(feature = "secure")]
            Self::Secured(message) => _ = text.str("ok ").hex(&message),
            Self::Error(refusal) => {
                _ = text.str("error ").str(refusal.code.as_str()).str(" ").cut(refusal.text, 200);
            }
        }
    }
}

impl<'a> Hello<'a> {
    fn encode(&self, text: &mut Text<'_>) {
        text.str("skiff/1 server=").cut(self.server, 80);
        if let Some(host) = self.host {
            text.str(" host=").cut(host, MAX_HOST);
        }
        text.str(" commands=");
        for (at, verb) in self.commands.iter().enumerate() {
            text.str(if at == 0 { "" } else { "," }).str(verb.as_str());
        }
        text.str(" name-max=").num(self.name_max.into());
        if let Some(idle) = self.idle {
            text.str(" idle=").num(idle.into());
        }
        if self.nocrc {
            text.str(" nocrc=1");
        }
    }

    /// Parses a hello reply. Unknown keys are ignored; missing keys get the weakest meaning.
    #[must_use]
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let rest = from_utf8(payload.strip_prefix(b"skiff/1 ")?).ok()?;
        let mut hello = Self { server: "", host: None, commands: Verbs::ALL, name_max: 255, idle: None, nocrc: false };
        for (key, value) in rest.split(' ').filter_map(|word| word.split_once('=')) {
            match key {
                "server" => hello.server = value,
                "host" => hello.host = Some(value),
                "commands" => {
                    hello.commands = Verbs::ALL
                        .iter()
                        .filter(|verb| !value.split(',').any(|word| word == verb.as_str()))
                        .fold(Verbs::ALL, Verbs::without);
                }
                "name-max" => {
                    let max = parse_number(value.as_bytes()).filter(|max| (1..=255).contains(max))?;
                    hello.name_max = u16::try_from(max).ok()?;
                }
                "idle" => hello.idle = parse_number(value.as_bytes()).and_then(|idle| u32::try_from(idle).ok()),
                "nocrc" => hello.nocrc = value == "1",
                _ => {}
            }
        }
        Some(hello)
    }
}

/// A refusal, as a client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RemoteError<'a> {
    /// The code; `None` if this version does not know it: then only that command has failed.
    pub code: Option<ErrorCode>,
    /// The code as received.
    pub word: &'a str,
    /// The server's text. Not yet safe for a terminal.
    pub text: &'a str,
}

impl<'a> RemoteError<'a> {
    /// Parses `error CODE TEXT` or, with the other prefix, a trailer's `abort CODE TEXT`.
    pub(crate) fn parse(payload: &'a [u8], prefix: &str) -> Option<Self> {
        let rest = payload.strip_prefix(prefix.as_bytes())?;
        // A text that is not UTF-8, or cut in the middle by a small buffer, keeps its good part.
        let rest = match from_utf8(rest) {
            Ok(rest) => rest,
            Err(error) => from_utf8(&rest[..error.valid_up_to()]).ok()?,
        };
        let (word, text) = rest.split_once(' ').unwrap_or((rest, ""));
        Some(Self { code: ErrorCode::parse(word.as_bytes()), word, text })
    }
}

/// The words after `ok`, as a client parses them.
pub(crate) struct Words<'a>(Option<&'a [u8]>);

impl<'a> Words<'a> {
    /// `None` if the payload is not an `ok` reply.
    pub(crate) fn parse(payload: &'a [u8]) -> Option<Self> {
        match payload.strip_prefix(b"ok")? {
            [] => Some(Self(None)),
            [b' ', rest @ ..] => Some(Self(Some(rest))),
            _ => None,
        }
    }

    pub(crate) fn word(&mut self) -> Option<&'a [u8]> {
        let rest = self.0?;
        let (word, after) = match rest.iter().position(|&byte| byte == b' ') {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        self.0 = after;
        Some(word)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        parse_number(self.word()?)
    }

    /// The outer `None`: malformed. The inner: `-`.
    #[expect(clippy::option_option, reason = "malformed and `-` are two things")]
    pub(crate) fn optional(&mut self) -> Option<Option<u64>> {
        let word = self.word()?;
        if word == b"-" { Some(None) } else { parse_number(word).map(Some) }
    }

    #[expect(clippy::option_option, reason = "malformed and `-` are two things")]
    pub(crate) fn crc(&mut self) -> Option<Option<u32>> {
        parse_crc(self.word()?)
    }
}

/// CRC: eight lowercase hex digits or `-`. The outer `None`: malformed.
#[expect(clippy::option_option, reason = "malformed and `-` are two things")]
pub(crate) fn parse_crc(word: &[u8]) -> Option<Option<u32>> {
    if word == b"-" {
        return Some(None);
    }
    if word.len() != 8 {
        return None;
    }
    let value = word.iter().try_fold(0_u32, |value, &byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u32::from(digit))
    })?;
    Some(Some(value))
}

#[cfg(test)]
mod tests {
    use std::{boxed::Box, string::String};

    use super::*;
    use crate::command::Verb;

    const HELLO: Hello<'static> = Hello {
        server: "skiff/0",
        host: Some("pump-7"),
        commands: Verbs::ALL,
        name_max: 64,
        idle: Some(60),
        nocrc: true,
    };

    fn encoded(reply: Reply) -> String {
        let mut out = [0; MAX_REPLY];
        let mut text = Text::new(&mut out);
        reply.encode(&HELLO, &mut text);
        let len = text.finish().unwrap();
        String::from_utf8(out[..len].to_vec()).unwrap()
    }

    #[test]
    fn replies_read_as_the_protocol_says() {
        assert_eq!(encoded(Reply::Port(62346)), "62346");
        assert_eq!(encoded(Reply::Stat { size: 9, mtime: None, crc: Some(0xe306_9283) }), "ok 9 - e3069283");
        assert_eq!(encoded(Reply::Summed { number: 0, crc: Some(0) }), "ok 0 00000000");
        assert_eq!(encoded(Reply::Read { length: 1, size: 2, tag: Tag::UNKNOWN }), "ok 1 2 -");
        assert_eq!(encoded(Reply::Error(ErrorCode::Busy.into())), "error busy another client is writing this file");
    }

    #[test]
    fn the_hello_reply_parses_back_and_unknown_keys_are_passed_over() {
        let text = encoded(Reply::Hello);
        assert_eq!(Hello::parse(text.as_bytes()), Some(HELLO));
        let hello = Hello::parse(b"skiff/1 x=1 commands=ping,frob name-max=12 y").unwrap();
        assert!(hello.commands.contains(Verb::Ping) && !hello.commands.contains(Verb::List));
        assert_eq!((hello.host, hello.name_max, hello.idle, hello.nocrc), (None, 12, None, false));
        for bad in [&b"skiff/2 x"[..], b"-1", b"skiff/1", b"skiff/1 name-max=0", b"skiff/1 name-max=256"] {
            assert_eq!(Hello::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_line_of_a_listing_parses_back() {
        let name = |text: &'static str| Name::parse(text.as_bytes(), 255).unwrap();
        let stat = Stat { size: 9, mtime: None, crc: Some(0xe306_9283) };
        for (entry, line) in [
            (Entry { name: name("a b"), kind: EntryKind::File(stat) }, "9 - e3069283 a b\n"),
            (Entry { name: name("d/e"), kind: EntryKind::Directory { mtime: Some(7) } }, "0 7 - d/e/\n"),
        ] {
            let mut out = [0; MAX_LIST_LINE];
            let len = list_line(&entry, &mut out).unwrap();
            assert_eq!(&out[..len], line.as_bytes());
            assert_eq!(parse_list_line(&out[..len - 1]), Ok(entry));
            assert_eq!(list_line(&entry, &mut out[..len - 1]), None);
        }
        assert_eq!(parse_list_line(b"0 - - ../x"), Err(Some(NameError::Dots)));
        assert_eq!(parse_list_line(b"0 - - "), Err(Some(NameError::Empty)));
        assert_eq!(parse_list_line(b"0 - -"), Err(None));
        assert_eq!(parse_list_line(b"x - - a"), Err(None));
        let longest = Name::parse(&[b'x'; 255], 255).unwrap();
        let stat = Stat { size: u64::MAX, mtime: Some(u64::MAX), crc: Some(0) };
        assert!(list_line(&Entry { name: longest, kind: EntryKind::File(stat) }, &mut [0; MAX_LIST_LINE]).is_some());
    }

    #[test]
    fn the_longest_reply_fits() {
        let long = "x".repeat(300);
        let text: &'static str = Box::leak(long.into_boxed_str());
        assert!(encoded(Reply::Error(Refusal::new(ErrorCode::BadCommand, text))).len() <= MAX_REPLY);
        let hello = Hello { server: text, host: Some(text), name_max: 255, idle: Some(u32::MAX), ..HELLO };
        let mut out = [0; MAX_REPLY];
        let mut writer = Text::new(&mut out);
        Reply::Hello.encode(&hello, &mut writer);
        assert!(writer.finish().is_some());
    }

    #[test]
    fn tags_and_checksums_are_strict() {
        assert_eq!(Tag::parse(b"0az").unwrap().as_str(), "0az");
        assert!(!Tag::parse(b"-").unwrap().is_known());
        assert_eq!(Tag::from_number(u64::MAX).as_str(), "3w5e11264sgsf");
        for bad in [&b""[..], b"A", b"a-", &[b'a'; 33]] {
            assert_eq!(Tag::parse(bad), None);
        }
        assert_eq!(parse_crc(b"e3069283"), Some(Some(0xe306_9283)));
        assert_eq!(parse_crc(b"-"), Some(None));
        for bad in [&b"E3069283"[..], b"e306928", b"e30692830", b""] {
            assert_eq!(parse_crc(bad), None);
        }
    }
}
