//! Commands of a client, parsed and written (PROTOCOL §3 to §5).

use crate::error::{ErrorCode, Refusal};
use crate::name::{MAX_NAME, Name};
use crate::text::{Text, parse_number};

/// The bytes a server's command buffer needs for names of up to `name_max` bytes (PROTOCOL §1).
#[must_use]
pub const fn command_len(name_max: usize) -> usize {
    72 + 2 * name_max
}

/// The bytes a client's buffer needs to send any command: [`command_len`] and the length in front.
#[must_use]
pub const fn command_message_len(name_max: usize) -> usize {
    crate::message::HEADER_LEN + command_len(name_max)
}

/// The version of the extended commands that this crate implements.
pub const VERSION: u32 = 1;

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Command<'a> {
    /// `get /skiff/N`: asks whether the server supports version N of the extended commands (PROTOCOL §4).
    Hello {
        /// N; 0 if the word is not a version number.
        version: u32,
    },
    /// `ping`
    Ping,
    /// `quit`
    Quit,
    /// A command that needs the store or a data connection.
    Request(Request<'a>),
}

/// A command that needs the store or a data connection: the server's driver executes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Request<'a> {
    /// Classic `get NAME`.
    Get {
        /// The file.
        name: Name<'a>,
    },
    /// Classic `put NAME`, NAME being the last component of the path that was sent.
    Put {
        /// The requested name; the file gets a numbered one if it is taken.
        name: Name<'a>,
    },
    /// Classic `ls`.
    Ls,
    /// `list [DIR]`
    List {
        /// The directory; `None` for the root.
        dir: Option<Name<'a>>,
    },
    /// `tree [DIR]`
    Tree {
        /// The directory; `None` for the root.
        dir: Option<Name<'a>>,
    },
    /// `stat NAME`
    Stat {
        /// The file.
        name: Name<'a>,
    },
    /// `read OFFSET LENGTH NAME`
    Read {
        /// The first byte.
        offset: u64,
        /// How many bytes; `None` for `*`, to the end.
        length: Option<u64>,
        /// The file.
        name: Name<'a>,
    },
    /// `resume SIZE NAME`
    Resume {
        /// Bytes of the whole file.
        size: u64,
        /// The file.
        name: Name<'a>,
    },
    /// `write OFFSET SIZE MTIME NAME`
    Write {
        /// Bytes that are already staged.
        offset: u64,
        /// Bytes of the whole file.
        size: u64,
        /// Seconds since 1970-01-01 UTC, if the client knows.
        mtime: Option<u64>,
        /// The file.
        name: Name<'a>,
    },
    /// `sum OFFSET LENGTH NAME`
    Sum {
        /// The first byte.
        offset: u64,
        /// How many bytes; `None` for `*`, to the end.
        length: Option<u64>,
        /// The file.
        name: Name<'a>,
    },
    /// `remove NAME`
    Remove {
        /// The file.
        name: Name<'a>,
    },
    /// `rename FROM LF TO`
    Rename {
        /// The current name.
        from: Name<'a>,
        /// The new name; a file of this name is replaced.
        to: Name<'a>,
    },
    /// `copy FROM LF TO`
    Copy {
        /// The file.
        from: Name<'a>,
        /// The name of the copy; a file of this name is replaced.
        to: Name<'a>,
    },
    /// `mkdir NAME`
    Mkdir {
        /// The directory.
        name: Name<'a>,
    },
    /// `rmdir NAME`
    Rmdir {
        /// The directory.
        name: Name<'a>,
    },
    /// `space`
    Space,
}

words! {
    /// A verb of the extended commands (PROTOCOL §5).
    pub enum Verb;

    /// True if the command changes the store.
    pub const fn is_change -> bool;

    /// `ping`
    Ping "ping" false;
    /// `list`
    List "list" false;
    /// `tree`
    Tree "tree" false;
    /// `stat`
    Stat "stat" false;
    /// `read`
    Read "read" false;
    /// `resume`
    Resume "resume" false;
    /// `write`
    Write "write" true;
    /// `sum`
    Sum "sum" false;
    /// `remove`
    Remove "remove" true;
    /// `rename`
    Rename "rename" true;
    /// `copy`
    Copy "copy" true;
    /// `mkdir`
    Mkdir "mkdir" true;
    /// `rmdir`
    Rmdir "rmdir" true;
    /// `space`
    Space "space" false;
    /// `quit`
    Quit "quit" false;
    /// `secure`: not in [`Verbs::ALL`], because only a server with a secret accepts it, and announces that with
    /// `noise`.
    Secure "secure" false;
}

impl Verb {
    /// The verb of a message in command position; `None` if it is not an extended command of this version.
    #[must_use]
    pub fn of(payload: &[u8]) -> Option<Self> {
        Self::parse(split_word(payload).0)
    }

    /// True if a client needs the role `rw` for it: commands that change the store, and `resume`, which precedes a
    /// `write`.
    #[must_use]
    pub const fn needs_write(self) -> bool {
        self.is_change() || matches!(self, Self::Resume)
    }

    /// True if a body follows the command (PROTOCOL §5).
    #[must_use]
    pub const fn has_body(self) -> bool {
        matches!(self, Self::Write)
    }
}

/// A set of verbs: which of them a server accepts (`commands` in the hello reply).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Verbs(u16);

impl Verbs {
    /// Every extended verb of version 1 except `secure`.
    pub const ALL: Self = Self((1 << Verb::Secure as u16) - 1);

    /// The verbs of a flat store: all except `mkdir` and `rmdir`.
    pub const FLAT: Self = Self::ALL.without(Verb::Mkdir).without(Verb::Rmdir);

    /// The verbs that are in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The set without `verb`.
    #[must_use]
    pub const fn without(self, verb: Verb) -> Self {
        Self(self.0 & !(1 << verb as u16))
    }

    /// True if the set has `verb`.
    #[must_use]
    pub const fn contains(self, verb: Verb) -> bool {
        self.0 & (1 << verb as u16) != 0
    }

    /// The verbs of the set, in the order of PROTOCOL §5.
    pub fn iter(self) -> impl Iterator<Item = Verb> {
        Verb::ALL.iter().copied().filter(move |&verb| self.contains(verb))
    }
}

/// The answer to a command that can't be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum BadCommand {
    /// `-1`: it began as a classic `get` or `put`.
    Classic,
    /// `error CODE TEXT`.
    Extended(Refusal),
}

/// True if a message in command position is followed by a body, whatever else is wrong with it (PROTOCOL §5).
#[must_use]
pub fn has_body(payload: &[u8]) -> bool {
    Verb::of(payload).is_some_and(Verb::has_body)
}

/// True if a message is answered `-1` when it is refused: a classic `get` or `put`.
pub(crate) fn is_classic_transfer(payload: &[u8]) -> bool {
    let verb = words(payload).next().unwrap_or_default();
    verb.eq_ignore_ascii_case(b"get") || verb.eq_ignore_ascii_case(b"put")
}

/// The words of a classic command: white space as the original programs see it (SP, TAB, LF, VT, FF, CR).
fn words(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    payload.split(|byte| matches!(byte, b' ' | 0x09..=0x0d)).filter(|word| !word.is_empty())
}

impl<'a> Command<'a> {
    /// Parses a message in command position. Names have at most `name_max` bytes; extended verbs not in `verbs` are
    /// `unsupported`.
    ///
    /// # Errors
    /// The answer to send instead.
    pub fn parse(payload: &'a [u8], name_max: usize, verbs: Verbs) -> Result<Self, BadCommand> {
        let mut words = words(payload);
        let verb = words.next().unwrap_or_default();
        if verb.eq_ignore_ascii_case(b"quit") {
            return Ok(Self::Quit);
        }
        if verb.eq_ignore_ascii_case(b"ls") {
            return match words.next() {
                None => Ok(Self::Request(Request::Ls)),
                Some(_) => Err(BadCommand::Extended(ErrorCode::BadCommand.into())),
            };
        }
        let get = verb.eq_ignore_ascii_case(b"get");
        if get || verb.eq_ignore_ascii_case(b"put") {
            let (Some(name), None) = (words.next(), words.next()) else {
                return Err(BadCommand::Classic);
            };
            if get && let Some(version) = name.strip_prefix(b"/skiff/") {
                // As the client writes it: without leading zeros.
                let number = parse_number(version).filter(|_| !version.starts_with(b"0"));
                return Ok(Self::Hello { version: number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0) });
            }
            let name = if get { Name::parse(name, name_max) } else { Name::from_classic_path(name, name_max) };
            let name = name.map_err(|_| BadCommand::Classic)?;
            return Ok(Self::Request(if get { Request::Get { name } } else { Request::Put { name } }));
        }
        Self::parse_extended(payload, name_max, verbs).map_err(BadCommand::Extended)
    }

    fn parse_extended(payload: &'a [u8], name_max: usize, verbs: Verbs) -> Result<Self, Refusal> {
        let (word, mut rest) = split_word(payload);
        let verb = Verb::parse(word).ok_or(ErrorCode::BadCommand)?;
        if !verbs.contains(verb) {
            return Err(ErrorCode::Unsupported.into());
        }
        let number = |rest: &mut Option<&'a [u8]>| -> Result<Option<u64>, Refusal> {
            let (word, after) = split_word(rest.ok_or(ErrorCode::BadCommand)?);
            *rest = after;
            Ok(parse_number(word))
        };
        let required = |number: Option<u64>| number.ok_or(Refusal::from(ErrorCode::BadCommand));
        // LENGTH or MTIME: a number, or the character for "not given".
        let optional = |rest: &mut Option<&'a [u8]>, none: &[u8]| -> Result<Option<u64>, Refusal> {
            let (word, after) = split_word(rest.ok_or(ErrorCode::BadCommand)?);
            *rest = after;
            if word == none { Ok(None) } else { required(parse_number(word)).map(Some) }
        };
        let name =
            |bytes: Option<&'a [u8]>| Ok::<_, Refusal>(Name::parse(bytes.ok_or(ErrorCode::BadCommand)?, name_max)?);
        Ok(Self::Request(match verb {
            Verb::Ping if rest.is_none() => return Ok(Self::Ping),
            Verb::Space if rest.is_none() => Request::Space,
            Verb::List => Request::List { dir: rest.map(|bytes| name(Some(bytes))).transpose()? },
            Verb::Tree => Request::Tree { dir: rest.map(|bytes| name(Some(bytes))).transpose()? },
            Verb::Stat => Request::Stat { name: name(rest)? },
            Verb::Read => {
                let offset = required(number(&mut rest)?)?;
                let length = optional(&mut rest, b"*")?;
                Request::Read { offset, length, name: name(rest)? }
            }
            Verb::Sum => {
                let offset = required(number(&mut rest)?)?;
                let length = optional(&mut rest, b"*")?;
                Request::Sum { offset, length, name: name(rest)? }
            }
            Verb::Resume => Request::Resume { size: required(number(&mut rest)?)?, name: name(rest)? },
            Verb::Write => {
                let offset = required(number(&mut rest)?)?;
                let size = required(number(&mut rest)?)?;
                let mtime = optional(&mut rest, b"-")?;
                Request::Write { offset, size, mtime, name: name(rest)? }
            }
            Verb::Remove => Request::Remove { name: name(rest)? },
            Verb::Rename | Verb::Copy => {
                let names = rest.ok_or(ErrorCode::BadCommand)?;
                let at = names.iter().position(|&byte| byte == b'\n').ok_or(ErrorCode::BadCommand)?;
                let (from, to) = (name(Some(&names[..at]))?, name(Some(&names[at + 1..]))?);
                if verb == Verb::Copy { Request::Copy { from, to } } else { Request::Rename { from, to } }
            }
            Verb::Mkdir => Request::Mkdir { name: name(rest)? },
            Verb::Rmdir => Request::Rmdir { name: name(rest)? },
            // `quit` is answered before, as a classic command.
            Verb::Ping | Verb::Space | Verb::Quit | Verb::Secure => return Err(ErrorCode::BadCommand.into()),
        }))
    }

    /// Writes the command as a payload, without a length, into `out` and returns the number of bytes.
    ///
    /// `None` if `out` is too short ([`command_len`] bytes are always enough), or if a classic name contains white
    /// space, which the wire format can't express.
    #[must_use]
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let mut text = Text::new(out);
        match *self {
            Self::Hello { version } => text.str("get /skiff/").num(version.into()),
            Self::Ping => text.str("ping"),
            Self::Quit => text.str("quit"),
            Self::Request(request) => match request {
                Request::Get { name } | Request::Put { name } if name.as_str().contains(char::is_whitespace) => {
                    return None;
                }
                Request::Get { name } => text.str("get ").str(name.as_str()),
                Request::Put { name } => text.str("put ").str(name.as_str()),
                Request::Ls => text.str("ls"),
                Request::List { dir: None } => text.str("list"),
                Request::List { dir: Some(dir) } => text.str("list ").str(dir.as_str()),
                Request::Tree { dir: None } => text.str("tree"),
                Request::Tree { dir: Some(dir) } => text.str("tree ").str(dir.as_str()),
                Request::Stat { name } => text.str("stat ").str(name.as_str()),
                Request::Read { offset, length, name } => {
                    text.str("read ").num(offset).str(" ").or(length, "*").str(" ").str(name.as_str())
                }
                Request::Sum { offset, length, name } => {
                    text.str("sum ").num(offset).str(" ").or(length, "*").str(" ").str(name.as_str())
                }
                Request::Resume { size, name } => text.str("resume ").num(size).str(" ").str(name.as_str()),
                Request::Write { offset, size, mtime, name } => {
                    let text = text.str("write ").num(offset).str(" ").num(size);
                    text.str(" ").or(mtime, "-").str(" ").str(name.as_str())
                }
                Request::Remove { name } => text.str("remove ").str(name.as_str()),
                Request::Rename { from, to } => text.str("rename ").str(from.as_str()).str("\n").str(to.as_str()),
                Request::Copy { from, to } => text.str("copy ").str(from.as_str()).str("\n").str(to.as_str()),
                Request::Mkdir { name } => text.str("mkdir ").str(name.as_str()),
                Request::Rmdir { name } => text.str("rmdir ").str(name.as_str()),
                Request::Space => text.str("space"),
            },
        };
        text.finish()
    }
}

/// The first word of `bytes`, and everything after the space that follows it.
fn split_word(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    match bytes.iter().position(|&byte| byte == b' ') {
        Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
        None => (bytes, None),
    }
}

/// The maximum length of a command of this version: a `rename` or `write` of names of [`MAX_NAME`] bytes.
pub const MAX_COMMAND: usize = command_len(MAX_NAME);

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(payload: &[u8]) -> Result<Command<'_>, BadCommand> {
        Command::parse(payload, MAX_NAME, Verbs::ALL)
    }

    fn name(text: &str) -> Name<'_> {
        Name::parse(text.as_bytes(), MAX_NAME).unwrap()
    }

    #[test]
    fn a_flat_store_has_every_verb_but_those_of_directories() {
        assert_eq!(Verbs::FLAT, Verbs(0b110_0111_1111_1111));
    }

    #[test]
    fn classic_words_are_split_at_any_white_space_and_the_verbs_case_does_not_matter() {
        let get = Ok(Command::Request(Request::Get { name: name("a.txt") }));
        for payload in [&b"get a.txt"[..], b"GET\ta.txt", b"  gEt \r\n a.txt\x0b\x0c"] {
            assert_eq!(parse(payload), get);
        }
        assert_eq!(parse(b"QUIT now"), Ok(Command::Quit));
        assert_eq!(parse(b"Ls"), Ok(Command::Request(Request::Ls)));
        assert_eq!(parse(b"put ../x/y"), Ok(Command::Request(Request::Put { name: name("y") })));
        assert_eq!(parse(b"get /skiff/1"), Ok(Command::Hello { version: 1 }));
        assert_eq!(parse(b"get /skiff/2"), Ok(Command::Hello { version: 2 }));
    }

    #[test]
    fn malformed_classic_transfers_are_minus_one_and_other_nonsense_is_bad_command() {
        for payload in [&b"get"[..], b"get a b", b"put", b"put ..", b"get ../x", b"get /x", b"get \xff", b"PUT a\x01"] {
            assert_eq!(parse(payload), Err(BadCommand::Classic), "{payload:?}");
        }
        for payload in
            [&b"ls x"[..], b"PING", b"ping ", b"ping x", b"frob", b"stat", b"read 0 a", b"read x * a", b"\xff", b" "]
        {
            assert_eq!(parse(payload), Err(BadCommand::Extended(ErrorCode::BadCommand.into())), "{payload:?}");
        }
        for payload in [&b"stat "[..], b"stat ../x", b"list ", b"rename a\n", b"write 0 1 - a/", b"remove \xff"] {
            let refused =
                matches!(parse(payload), Err(BadCommand::Extended(refusal)) if refusal.code == ErrorCode::BadName);
            assert!(refused, "{payload:?}");
        }
    }

    #[test]
    fn extended_names_run_to_the_end_of_the_message() {
        assert_eq!(parse(b"stat  a b "), Ok(Command::Request(Request::Stat { name: name(" a b ") })));
        assert_eq!(
            parse(b"write 4 9 - d e"),
            Ok(Command::Request(Request::Write { offset: 4, size: 9, mtime: None, name: name("d e") }))
        );
        assert_eq!(
            parse(b"read 18446744073709551615 * x"),
            Ok(Command::Request(Request::Read { offset: u64::MAX, length: None, name: name("x") }))
        );
        assert_eq!(parse(b"read 18446744073709551616 * x"), Err(BadCommand::Extended(ErrorCode::BadCommand.into())));
        assert_eq!(parse(b"read 0000000000000000000000001 * x"), parse(b"read 1 * x"));
    }

    #[test]
    fn a_verb_that_the_server_leaves_out_is_unsupported() {
        let verbs = Verbs::ALL.without(Verb::Mkdir);
        assert_eq!(
            Command::parse(b"mkdir a", MAX_NAME, verbs),
            Err(BadCommand::Extended(ErrorCode::Unsupported.into()))
        );
        assert!(!verbs.contains(Verb::Mkdir) && verbs.contains(Verb::Rmdir));
        assert_eq!(parse(b"secure x"), Err(BadCommand::Extended(ErrorCode::Unsupported.into())), "without a secret");
        assert_eq!(verbs.iter().count(), 14);
    }

    #[test]
    fn only_write_has_a_body() {
        assert!(has_body(b"write") && has_body(b"write ") && has_body(b"write x"));
        assert!(!has_body(b"writex") && !has_body(b"Write 0") && !has_body(b"read 0 * a") && !has_body(b""));
    }
}
