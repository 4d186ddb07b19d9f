//! `list` and `ls`: names that a server sends, each checked before anybody sees it.

use skiff_proto::Name;
use skiff_proto::command::Request;
use skiff_proto::name::MAX_NAME;
use skiff_proto::reply::RemoteError;

use super::commands::{parse, refusal, request};
use super::connection::{Event, Incoming, refused as refusal_of};
use super::error::Error;
use super::{Client, EntryError, Listing, RefusedEntry, RemoteEntry};

/// Longer lines are cut: SIZE, MTIME, CRC and a name of 255 bytes are 308.
const MAX_LINE: usize = 512;

/// What an entry is reckoned at beside its bytes, so that a listing of nothing but short names is bounded as well.
const ENTRY_COST: u64 = size_of::<RemoteEntry>() as u64 + 32;

/// Refused lines that are remembered.
const MAX_REFUSED: usize = 100;

impl Client {
    /// `list`: one directory, the root without `dir`. Needs memory for all of it; [`Client::list_with`] does not. To a
    /// classic server and without `dir` it is `ls`, so sizes are 0 and nothing else is known.
    ///
    /// # Errors
    /// As [`Client::list_with`].
    pub async fn list(&mut self, dir: Option<&str>) -> Result<Listing, Error> {
        let mut entries = Vec::new();
        let result = self.list_with(dir, &mut |entry| entries.push(entry)).await;
        match result {
            Err(Error::NeedsExtended { .. }) if dir.is_none() => self.ls().await,
            result => Ok(Listing { entries, ..result? }),
        }
    }

    /// `list`: shows one entry after the other as they come. Whoever acts on them before the end must know that the
    /// listing may yet turn out wrong. Returns what is missing in it, and no entries.
    ///
    /// # Errors
    /// [`Error::Refused`], `not-found` for what is no directory; [`Error::TooLong`]; [`Error::Mismatch`];
    /// [`Error::Aborted`]; [`Error::NeedsExtended`]; of the connection.
    pub async fn list_with(&mut self, dir: Option<&str>, show: &mut dyn FnMut(RemoteEntry)) -> Result<Listing, Error> {
        let name = dir.map(parse).transpose()?;
        let mut lines = Lines::new(|line: &[u8]| parse_line(line, dir), show);
        self.lines(Request::List { dir: name }, &mut lines).await?;
        Ok(lines.into_listing())
    }

    /// Classic `ls`, which extended servers know too: names of the root's files, nothing else about them (size 0).
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::Refused`], of the connection.
    pub async fn ls(&mut self) -> Result<Listing, Error> {
        let mut entries = Vec::new();
        let mut show = |entry| entries.push(entry);
        let mut lines = Lines::new(|line: &[u8]| parse_name(line, None).map(|name| entry(name, false)), &mut show);
        lines.classic = true;
        self.lines(Request::Ls, &mut lines).await?;
        let first = lines.first.take();
        let missing = lines.into_listing();
        // A refusal looks like one name with spaces.
        match first.as_deref().and_then(RemoteError::parse_reply) {
            Some(error) if entries.len() + missing.refused.len() == 1 => Err(refusal_of(&error)),
            _ => Ok(Listing { entries, ..missing }),
        }
    }

    /// Runs one of the two commands, feeding what comes to `lines`.
    async fn lines<P>(&mut self, command: Request<'_>, lines: &mut Lines<'_, P>) -> Result<(), Error>
    where
        P: FnMut(&[u8]) -> Result<RemoteEntry, EntryError>,
    {
        let fresh = self.is_fresh();
        let mut result = self.try_lines(command, lines).await;
        // An idle connection that the server has closed meanwhile.
        if let Err(Error::Lost { .. }) = result
            && !fresh
            && lines.bytes == 0
        {
            self.disconnect();
            result = self.try_lines(command, lines).await;
        }
        match result {
            Ok(result) => result,
            Err(error) => {
                self.disconnect();
                Err(error)
            }
        }
    }

    /// The outer error ends the connection, the inner one does not.
    async fn try_lines<P>(&mut self, command: Request<'_>, lines: &mut Lines<'_, P>) -> Result<Result<(), Error>, Error>
    where
        P: FnMut(&[u8]) -> Result<RemoteEntry, EntryError>,
    {
        let connection = self.ready().await?;
        if connection.hello() == Some(None) && !matches!(command, Request::Ls) {
            return Ok(Err(Error::NeedsExtended { what: "list" }));
        }
        connection.request(&request(command))?;
        let limit = self.options.list_limit;
        let Some((connection, patience)) = self.parts() else { return Ok(Err(Error::Cancelled)) };
        loop {
            match connection.poll()? {
                Incoming::Event(Event::List { omitted }) => lines.omitted = omitted,
                Incoming::Event(Event::Ls) => {}
                Incoming::Payload(range) => {
                    lines.feed(connection.input(range));
                    if lines.bytes > limit {
                        return Err(Error::TooLong { what: "listing", limit });
                    }
                }
                Incoming::Event(Event::BodyEnd(result)) => {
                    lines.finish();
                    return Ok(result.map(drop));
                }
                Incoming::Event(Event::LsEnd) => {
                    lines.finish();
                    return Ok(Ok(()));
                }
                Incoming::Event(Event::Ignored) => return Ok(Err(Error::NeedsExtended { what: "list" })),
                Incoming::Event(event) => return Ok(Err(refusal(event))),
                Incoming::Nothing => connection.exchange(patience).await?,
            }
        }
    }
}

/// Cuts what comes into lines, and takes each as an entry or remembers why not.
struct Lines<'a, P> {
    parse: P,
    show: &'a mut dyn FnMut(RemoteEntry),
    line: Vec<u8>,
    cut: bool,
    bytes: u64,
    classic: bool,
    first: Option<Vec<u8>>,
    refused: Vec<RefusedEntry>,
    omitted: u64,
}

impl<'a, P> Lines<'a, P>
where
    P: FnMut(&[u8]) -> Result<RemoteEntry, EntryError>,
{
    fn new(parse: P, show: &'a mut dyn FnMut(RemoteEntry)) -> Self {
        Self {
            parse,
            show,
            line: Vec::new(),
            cut: false,
            bytes: 0,
            classic: false,
            first: None,
            refused: Vec::new(),
            omitted: 0,
        }
    }

    /// What is missing in the listing.
    fn into_listing(self) -> Listing {
        Listing { entries: Vec::new(), refused: self.refused, omitted: self.omitted }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            if ended && self.line.is_empty() && !self.cut {
                self.take(text, text.len() > MAX_LINE);
                continue;
            }
            let fits = text.len().min(MAX_LINE - self.line.len());
            self.line.extend_from_slice(&text[..fits]);
            self.cut |= fits < text.len();
            if ended {
                self.finish();
            }
        }
    }

    /// The end of a line that came in pieces, or of the listing: the last line may lack its LF.
    fn finish(&mut self) {
        let line = core::mem::take(&mut self.line);
        let cut = core::mem::take(&mut self.cut);
        self.take(&line, cut);
        self.line = line;
        self.line.clear();
    }

    fn take(&mut self, line: &[u8], cut: bool) {
        // Any number of LF may follow an `ls`.
        if line.is_empty() {
            return;
        }
        if self.classic && self.first.is_none() {
            self.first = Some(line[..line.len().min(MAX_LINE)].to_vec());
        }
        let result = if cut { Err(EntryError::Malformed) } else { (self.parse)(line) };
        match result {
            Ok(entry) => {
                // A short line costs whoever keeps it more than its bytes.
                self.bytes += ENTRY_COST;
                (self.show)(entry);
            }
            Err(why) if self.refused.len() < MAX_REFUSED => {
                let shown = &line[..line.len().min(MAX_LINE)];
                let name = if self.classic { shown } else { name_of(shown) };
                self.refused.push(RefusedEntry { name: String::from_utf8_lossy(name).into_owned(), why });
            }
            Err(_) => self.omitted = self.omitted.saturating_add(1),
        }
    }
}

/// `SIZE SP MTIME SP CRC SP NAME`
fn parse_line(line: &[u8], dir: Option<&str>) -> Result<RemoteEntry, EntryError> {
    let mut words = line.splitn(4, |&byte| byte == b' ');
    let mut word = || words.next().and_then(|word| str::from_utf8(word).ok()).ok_or(EntryError::Malformed);
    let (size, mtime, crc) = (word()?, word()?, word()?);
    let name = words.next().ok_or(EntryError::Malformed)?;
    let (name, is_dir) = match name.strip_suffix(b"/") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let mut entry = entry(parse_name(name, dir)?, is_dir);
    entry.size = number(size)?;
    entry.mtime = if mtime == "-" { None } else { Some(number(mtime)?) };
    entry.crc = match crc {
        "-" => None,
        crc if crc.len() == 8 && crc.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) => {
            Some(u32::from_str_radix(crc, 16).map_err(|_| EntryError::Malformed)?)
        }
        _ => return Err(EntryError::Malformed),
    };
    Ok(entry)
}

fn number(word: &str) -> Result<u64, EntryError> {
    if word.starts_with('+') {
        return Err(EntryError::Malformed);
    }
    word.parse().map_err(|_| EntryError::Malformed)
}

/// A name right in `dir`, and nowhere else.
fn parse_name<'a>(name: &'a [u8], dir: Option<&str>) -> Result<&'a str, EntryError> {
    let name = Name::parse(name, MAX_NAME).map_err(EntryError::Name)?;
    if name.parent().map(Name::as_str) == dir { Ok(name.as_str()) } else { Err(EntryError::Elsewhere) }
}

fn entry(name: &str, is_dir: bool) -> RemoteEntry {
    RemoteEntry { name: name.to_owned(), size: 0, mtime: None, crc: None, is_dir }
}

/// What follows the third space, if there is one.
fn name_of(line: &[u8]) -> &[u8] {
    line.splitn(4, |&byte| byte == b' ').nth(3).unwrap_or(line)
}
