//! The wire vectors of `docs/vectors`: parsed, matched and played (the format is in their README).
//!
//! [`play`] drives anything that is a [`Link`]: a session in memory, or a server at the other end of a socket.

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::path::Path;

/// One conversation.
#[derive(Debug, Clone)]
pub struct Vector {
    /// The file's name, `hello.txt`.
    pub file: String,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What only the comments say.
    pub setting: Setting,
}

/// A line of a vector.
#[derive(Debug, Clone)]
pub struct Step {
    /// Where it stands in the file, from 1.
    pub line: usize,
    /// What happens.
    pub action: Action,
}

/// What happens in a step.
#[derive(Debug, Clone)]
pub enum Action {
    /// `C "..."`
    Send(Vec<u8>),
    /// `S "..."`
    Receive(Pattern),
    /// `C close`
    Close,
    /// `S close`
    ReceiveEnd,
    /// `D connect`
    DataConnect,
    /// `D> "..."`
    DataSend(Vec<u8>),
    /// `D< "..."`
    DataReceive(Pattern),
    /// `D close`
    DataClose(DataClose),
}

/// Which side closes a data connection, and how the server ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataClose {
    /// The server sent last and closes.
    ByServer,
    /// The client sent last and shuts down; the server closes when the file is stored.
    ByClient,
    /// The client sent last and shuts down; the server resets.
    Refused,
}

/// How a data connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataEnd {
    /// With a FIN.
    Closed,
    /// With a reset.
    Reset,
}

/// What only the comments of a vector say: the store before and after, in full.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setting {
    /// Files and their content before the conversation.
    pub before: &'static [(&'static str, &'static [u8])],
    /// Directories before (and after) it.
    pub directories: &'static [&'static str],
    /// Files after it; `None`: as before.
    pub after: Option<&'static [(&'static str, &'static [u8])]>,
    /// The server resets the data connection.
    pub reset: bool,
    loose: Loose,
}

/// How a line is matched more loosely than it stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Loose {
    #[default]
    No,
    /// The lines of the payload in any order, and any number of LF behind them.
    AnyOrder,
    /// The line with three words and this beginning may do without the third.
    OptionalThirdWord(&'static [u8]),
}

/// The 711 bytes of the captured upload.
const CAPTURED: [u8; 711] = [b'a'; 711];

/// The settings, checked against the comments by [`Vector::parse`].
const SETTINGS: &[(&str, Setting)] = {
    const EMPTY: Setting =
        Setting { before: &[], directories: &[], after: None, reset: false, loose: Loose::No };
    &[
        ("bad-length.txt", EMPTY),
        ("classic-get.txt", Setting { before: &[("teste.txt", b"hello\n")], ..EMPTY }),
        ("classic-ls-empty.txt", EMPTY),
        (
            "classic-ls.txt",
            Setting {
                before: &[("a.txt", b"a"), ("b.txt", b"b"), (".hidden", b"h")],
                directories: &["d"],
                loose: Loose::AnyOrder,
                ..EMPTY
            },
        ),
        ("classic-put-accents.txt", Setting { after: Some(&[("a.txt", "olá!\n".as_bytes())]), ..EMPTY }),
        (
            "classic-put-path.txt",
            Setting {
                before: &[("teste.txt", b"old")],
                after: Some(&[("teste.txt", b"old"), ("teste(1).txt", b"x")]),
                ..EMPTY
            },
        ),
        ("classic-put-too-much.txt", Setting { reset: true, ..EMPTY }),
        ("classic-put.txt", Setting { after: Some(&[("teste.txt", &CAPTURED)]), ..EMPTY }),
        ("classic-refused.txt", EMPTY),
        ("hello.txt", EMPTY),
        ("pipeline.txt", EMPTY),
        ("write-chunks.txt", Setting { after: Some(&[("d", b"123456789")]), ..EMPTY }),
        (
            "write-empty.txt",
            Setting {
                after: Some(&[("empty", b"")]),
                loose: Loose::OptionalThirdWord(b"ok 0 00000000 "),
                ..EMPTY
            },
        ),
        ("write-mismatch.txt", Setting { before: &[("d", b"good")], ..EMPTY }),
        ("write-read.txt", Setting { after: Some(&[("a b.txt", b"hello\n")]), ..EMPTY }),
        ("write-refused.txt", EMPTY),
        ("write-resume.txt", Setting { after: Some(&[("d", b"123456789")]), ..EMPTY }),
        ("write-then-command-in-body.txt", Setting { before: &[("keep", b"x")], ..EMPTY }),
    ]
};

/// What a server sends in one step: one message, with wildcards.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// The length as it stands; `None` for `<len>`.
    length: Option<u64>,
    payload: Vec<Piece>,
    loose: Loose,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Any(Wildcard),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wildcard {
    Port,
    Text,
    Mtime,
    Crc,
    Tag,
}

/// Why a vector could not be read, or a conversation went another way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(String);

impl Problem {
    /// A problem, in words.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Problem {}

/// All vectors of the repository, by name.
///
/// # Errors
/// A file that can't be read, is malformed, or has no entry in the table of settings.
pub fn load_all() -> Result<Vec<Vector>, Problem> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors");
    let unreadable = |error| Problem(format!("{}: {error}", folder.display()));
    let mut vectors = Vec::new();
    for entry in fs::read_dir(&folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            vectors.push(Vector::parse(&file, &fs::read_to_string(&path).map_err(unreadable)?)?);
        }
    }
    vectors.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(vectors)
}

impl Vector {
    /// Parses the text of the vector called `file`.
    ///
    /// # Errors
    /// The line that is malformed; a name without an entry in the table of settings, or an entry that its comments
    /// don't confirm.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problem> {
        let setting = SETTINGS.iter().find(|(name, _)| *name == file).map(|(_, setting)| *setting);
        let setting = setting.ok_or_else(|| Problem(format!("{file}: not in the table of settings")))?;
        check_setting(text, &setting).map_err(|problem| Problem(format!("{file}: {problem}")))?;
        let mut steps: Vec<Step> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line_number = at + 1;
            let wrong = |why: Problem| Problem(format!("{file}:{line_number}: {why}"));
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let (who, what) = line.split_once(' ').unwrap_or((line, ""));
            let action = match (who, what) {
                ("C", "close") => Action::Close,
                ("S", "close") => Action::ReceiveEnd,
                ("D", "connect") => Action::DataConnect,
                ("D", "close") => {
                    let last = steps.iter().rev().find_map(|step| match step.action {
                        Action::DataReceive(_) => Some(DataClose::ByServer),
                        Action::DataSend(_) if setting.reset => Some(DataClose::Refused),
                        Action::DataSend(_) => Some(DataClose::ByClient),
                        _ => None,
                    });
                    Action::DataClose(last.ok_or_else(|| wrong(Problem::new("nothing was sent on D")))?)
                }
                ("C", strings) => Action::Send(literal(&pieces(strings).map_err(wrong)?).map_err(wrong)?),
                ("D>", strings) => Action::DataSend(literal(&pieces(strings).map_err(wrong)?).map_err(wrong)?),
                ("S", strings) => Action::Receive(Pattern::parse(strings, setting.loose).map_err(wrong)?),
                ("D<", strings) => Action::DataReceive(Pattern::parse(strings, Loose::No).map_err(wrong)?),
                _ => return Err(wrong(Problem::new("no such step"))),
            };
            steps.push(Step { line: line_number, action });
        }
        Ok(Self { file: file.into(), steps, setting })
    }
}

/// The table must say what the comments say, as far as a program can read them.
fn check_setting(text: &str, setting: &Setting) -> Result<(), Problem> {
    let comments: String = text.lines().filter_map(|line| line.strip_prefix('#')).collect();
    let Some((_, before)) = comments.split_once("Store before:") else {
        return if setting.before.is_empty() { Ok(()) } else { Err(Problem::new("no `Store before:`")) };
    };
    let before = before.split("Store after:").next().unwrap_or_default();
    let empty = before.trim_start().starts_with("empty");
    if empty != (setting.before.is_empty() && setting.directories.is_empty()) {
        return Err(Problem::new("the table and the comment differ in whether the store is empty"));
    }
    let names = setting.before.iter().map(|(name, _)| name).chain(setting.directories);
    for name in names {
        if !before.contains(*name) {
            return Err(Problem(format!("`{name}` of the table is not in the comment")));
        }
    }
    Ok(())
}

/// The strings of a line, one after the other. Wildcards are pieces of their own; `<len>` is left to the caller.
fn pieces(strings: &str) -> Result<Vec<Piece>, Problem> {
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

/// What a client sends has no wildcards.
fn literal(pieces: &[Piece]) -> Result<Vec<u8>, Problem> {
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
    fn parse(strings: &str, loose: Loose) -> Result<Self, Problem> {
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
            Some(length) if fixed && length != payload.len() as u64 => Err(Problem::new("the length is not that of the payload")),
            None if fixed => Err(Problem::new("`<len>` of a payload that is known")),
            _ => Ok(pattern),
        }
    }

    /// A pattern for a payload of any length, with the wildcards of the vectors: `ok 4 4 <tag>`.
    #[must_use]
    pub fn payload(text: &str) -> Self {
        Self { length: None, payload: with_wildcards(text.as_bytes()), loose: Loose::No }
    }

    /// Compares a whole message, its length included.
    ///
    /// # Errors
    /// What was expected and what came.
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
            (Loose::OptionalThirdWord(beginning), [Piece::Literal(expected), Piece::Any(_)]) => {
                expected == beginning && payload == beginning.trim_ascii_end()
            }
            _ => false,
        }
    }
}

/// Cuts a payload at its wildcards.
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
            Self::Crc => {
                text == b"-" || text.len() == 8 && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            }
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

/// Ten digits.
fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.len() != 10 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// A connection to a server, as a client has it. A server in memory answers at once; one behind a socket may take a while
/// and an implementation waits, for a bounded time.
pub trait Link {
    /// Sends on the control connection.
    ///
    /// # Errors
    /// The connection is gone.
    fn send(&mut self, bytes: &[u8]) -> Result<(), Problem>;

    /// Receives exactly `len` bytes.
    ///
    /// # Errors
    /// Fewer came.
    fn receive(&mut self, len: usize) -> Result<Vec<u8>, Problem>;

    /// Waits until the server has closed; nothing more may come.
    ///
    /// # Errors
    /// Something came, or it did not close.
    fn receive_end(&mut self) -> Result<(), Problem>;

    /// Loses the control connection and opens a new one, once the server has seen the loss.
    ///
    /// # Errors
    /// No new connection.
    fn reconnect(&mut self) -> Result<(), Problem>;

    /// Opens the data connection to `port`.
    ///
    /// # Errors
    /// Nobody listens there.
    fn connect_data(&mut self, port: u16) -> Result<(), Problem>;

    /// Sends on the data connection.
    ///
    /// # Errors
    /// The connection is gone.
    fn send_data(&mut self, bytes: &[u8]) -> Result<(), Problem>;

    /// Receives exactly `len` bytes on the data connection.
    ///
    /// # Errors
    /// Fewer came.
    fn receive_data(&mut self, len: usize) -> Result<Vec<u8>, Problem>;

    /// Shuts the sending side of the data connection down if `shutdown`, then waits for the server to end it; nothing more may come.
    ///
    /// # Errors
    /// Something came, or it did not end.
    fn end_data(&mut self, shutdown: Shutdown) -> Result<DataEnd, Problem>;
}

/// Whether the client ends its sending side first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// The server ends the connection by itself.
    No,
    /// The client's end of stream comes first.
    First,
}

/// How far a client runs ahead of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pacing {
    /// As the lines stand: every `C` line is a stream of its own.
    Lines,
    /// `C` lines that follow each other are one stream.
    Groups,
    /// All that is sent on a connection is one stream, before any of the replies is read.
    Ahead,
}

/// How streams are cut into segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Not at all.
    Whole,
    /// Byte by byte.
    Bytes,
    /// Stream number `stream` (from 0) in two, the first with `position` bytes.
    At {
        /// Which of the streams that the client sends.
        stream: usize,
        /// Bytes before the cut.
        position: usize,
    },
}

impl Vector {
    /// The steps as a client of this pacing takes them.
    #[must_use]
    pub fn paced(&self, pacing: Pacing) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        // The stream that a further `C` line may join.
        let mut open: Option<usize> = None;
        for step in &self.steps {
            match (&step.action, pacing) {
                (Action::Send(bytes), Pacing::Groups | Pacing::Ahead) => {
                    if let Some(at) = open
                        && let Action::Send(before) = &mut steps[at].action
                    {
                        before.extend(bytes);
                        continue;
                    }
                    open = Some(steps.len());
                }
                (Action::Close, _) => open = None,
                (_, Pacing::Groups) => open = None,
                _ => {}
            }
            steps.push(step.clone());
        }
        steps
    }

    /// Every cut in two of everything that the client sends at this pacing, the ends included.
    #[must_use]
    pub fn cuts(&self, pacing: Pacing) -> Vec<Cut> {
        let mut cuts = Vec::new();
        let mut stream = 0;
        for step in self.paced(pacing) {
            if let Action::Send(bytes) | Action::DataSend(bytes) = step.action {
                cuts.extend((0..=bytes.len()).map(|position| Cut::At { stream, position }));
                stream += 1;
            }
        }
        cuts
    }
}

impl Cut {
    fn segments(self, number: usize, bytes: &[u8]) -> VecDeque<&[u8]> {
        match self {
            Self::Bytes => bytes.chunks(1).collect(),
            Self::At { stream, position } if stream == number => {
                let (first, second) = bytes.split_at(position);
                VecDeque::from([first, second])
            }
            Self::Whole | Self::At { .. } => VecDeque::from([bytes]),
        }
    }
}

/// Plays the client's part of `vector` against `link` and compares what comes back.
///
/// # Errors
/// The first step that went another way.
pub fn play(vector: &Vector, pacing: Pacing, cut: Cut, link: &mut dyn Link) -> Result<(), Problem> {
    let mut stream = 0;
    let mut port = None;
    for step in vector.paced(pacing) {
        let outcome = match &step.action {
            Action::Send(bytes) => {
                stream += 1;
                cut.segments(stream - 1, bytes).into_iter().try_for_each(|segment| link.send(segment))
            }
            Action::DataSend(bytes) => {
                stream += 1;
                cut.segments(stream - 1, bytes).into_iter().try_for_each(|segment| link.send_data(segment))
            }
            Action::Receive(pattern) => receive_message(|len| link.receive(len)).and_then(|message| {
                port = core::str::from_utf8(&message[10..]).ok().and_then(|text| text.parse().ok());
                pattern.check(&message)
            }),
            Action::DataReceive(pattern) => {
                receive_message(|len| link.receive_data(len)).and_then(|message| pattern.check(&message))
            }
            Action::Close => link.reconnect(),
            Action::ReceiveEnd => link.receive_end(),
            Action::DataConnect => {
                port.ok_or(Problem::new("no port was announced")).and_then(|port| link.connect_data(port))
            }
            Action::DataClose(close) => {
                let shutdown = if *close == DataClose::ByServer { Shutdown::No } else { Shutdown::First };
                let expected = if *close == DataClose::Refused { DataEnd::Reset } else { DataEnd::Closed };
                link.end_data(shutdown).and_then(|end| {
                    if end == expected {
                        Ok(())
                    } else {
                        Err(Problem(format!("the data connection ended with {end:?}, not {expected:?}")))
                    }
                })
            }
        };
        outcome.map_err(|problem| Problem(format!("{}:{}, {pacing:?}, {cut:?}: {problem}", vector.file, step.line)))?;
    }
    Ok(())
}

/// Reads one message, its length included.
fn receive_message(mut receive: impl FnMut(usize) -> Result<Vec<u8>, Problem>) -> Result<Vec<u8>, Problem> {
    let mut message = receive(10)?;
    let length = parse_length(&message)
        .and_then(|length| usize::try_from(length).ok())
        .ok_or_else(|| Problem(format!("\"{}\" is no length", message.escape_ascii())))?;
    message.extend(receive(length)?);
    Ok(message)
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
            (r#""<len>" "<port>""#, &["000000000562346", "00000000011"][..], &["00000000010", "000000000565536", "000000000201"][..]),
            (r#""<len>" "ok 4 4 <tag>""#, &["0000000008ok 4 4 -", "0000000010ok 4 4 0az"], &["0000000007ok 4 4 ", "0000000008ok 4 4 A"]),
            (r#""<len>" "ok 9 <mtime> <crc>""#, &["0000000008ok 9 - -", "0000000016ok 9 17 e3069283"], &["0000000008ok 9 - x"]),
            (r#""<len>" "error io <text>""#, &["0000000012error io a b"], &["0000000011error io a\n", "0000000007error x"]),
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

    #[test]
    fn every_vector_parses_and_every_entry_of_the_table_has_its_vector() {
        let vectors = load_all().unwrap();
        assert_eq!(vectors.len(), SETTINGS.len());
        assert!(vectors.iter().all(|vector| !vector.steps.is_empty()));
        assert!(Vector::parse("new.txt", "").is_err());
        assert!(Vector::parse("hello.txt", "C open\n").is_err());
    }
}
