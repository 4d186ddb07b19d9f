//! `list`, `tree` and `ls`: every name from the server is checked before use.

use skiff_proto::command::Request;
use skiff_proto::name::MAX_NAME;
use skiff_proto::reply::{RemoteError, parse_list_line};
use skiff_proto::store::{Entry, EntryKind, Stat};
use skiff_proto::{Name, NameError};

use super::commands::{refusal, request};
use super::connection::Incoming;
use super::error::Error;
use super::event::{Event, refused as refusal_of};
use super::name::parse;
use super::{Client, Peer, Verb};

/// Longer lines are cut: SIZE, MTIME, CRC and a name of 255 bytes are 308.
const MAX_LINE: usize = 512;

/// Fixed cost of an entry beside its bytes, so that a listing of short names is bounded as well.
const ENTRY_COST: u64 = size_of::<RemoteEntry>() as u64 + 32;

/// Maximum number of invalid lines that are kept.
const MAX_REFUSED: usize = 100;

/// A file or directory in a listing. Its name follows the rules of PROTOCOL §2 and is in the listed directory (of a
/// tree, at any depth).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteEntry {
    /// The name, relative to the store's root, without a trailing `/`. Not yet safe for a terminal.
    pub name: String,
    /// Bytes; 0 for a directory.
    pub size: u64,
    /// Mtime in seconds since 1970-01-01 UTC, if known.
    pub mtime: Option<u64>,
    /// CRC-32C of the content, if the server knows it without reading.
    pub crc: Option<u32>,
    /// True for a directory.
    pub is_dir: bool,
}

/// An invalid line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedEntry {
    /// The name or line as received, with invalid UTF-8 replaced. Not yet safe for a terminal.
    pub name: String,
    /// What is wrong with it.
    pub why: EntryError,
}

/// What is wrong with a line of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The name breaks the rules of PROTOCOL §2.
    #[error("{0}")]
    Name(NameError),
    /// The name is not in the listed directory.
    #[error("not in the listed directory")]
    Elsewhere,
    /// The line is not `SIZE MTIME CRC NAME`.
    #[error("malformed line")]
    Malformed,
}

/// The result of `list`, `tree` or `ls`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Files and directories, in the server's order.
    pub entries: Vec<RemoteEntry>,
    /// Invalid lines, the first 100 of them.
    pub refused: Vec<RefusedEntry>,
    /// The number of entries in neither: files and directories that the server could not list, and further invalid
    /// lines.
    pub omitted: u64,
}

impl Client {
    /// `list`: one directory; the root if `dir` is `None`. Holds the whole listing in memory; [`Client::list_with`]
    /// does not. A classic server gets `ls` instead (only for the root), so sizes are 0 and nothing else is known.
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

    /// `list`: passes each entry to the callback as it arrives. The listing may still turn out to be incomplete or
    /// wrong at its end, so do not act on entries before. Returns the listing without entries.
    ///
    /// # Errors
    /// [`Error::Refused`] with `not-found` if `dir` is not a directory; [`Error::TooLong`]; [`Error::Mismatch`];
    /// [`Error::Aborted`]; [`Error::NeedsExtended`]; connection errors.
    pub async fn list_with(
        &mut self,
        dir: Option<&str>,
        show: &mut (dyn FnMut(RemoteEntry) + Send),
    ) -> Result<Listing, Error> {
        let name = dir.map(parse).transpose()?;
        let mut lines = Lines::new(|line: &[u8]| parse_line(line, dir, Depth::One), show);
        self.lines(Request::List { dir: name }, &mut lines).await?;
        Ok(lines.into_listing())
    }

    /// `tree`: everything in a directory and below it, each directory before its entries; the root if `dir` is `None`.
    /// Holds the whole listing in memory. A server that does not know the command answers with a refusal
    /// ([`Client::lacks_tree`]). Then, and if the listing is aborted, list the directories one by one.
    ///
    /// # Errors
    /// As [`Client::list_with`].
    pub async fn tree(&mut self, dir: Option<&str>) -> Result<Listing, Error> {
        let name = dir.map(parse).transpose()?;
        let mut entries = Vec::new();
        let mut show = |entry| entries.push(entry);
        let mut lines = Lines::new(|line: &[u8]| parse_line(line, dir, Depth::All), &mut show);
        self.lines(Request::Tree { dir: name }, &mut lines).await?;
        let missing = lines.into_listing();
        Ok(Listing { entries, ..missing })
    }

    /// True if the server is known not to have the command `tree`.
    #[must_use]
    pub fn lacks_tree(&self) -> bool {
        self.peer() == Peer::Classic || self.hello_info().is_some_and(|hello| !hello.commands.contains(Verb::Tree))
    }

    /// Classic `ls`, which extended servers have too: the names of the files in the root, without sizes (size 0).
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::Refused`], connection errors.
    pub async fn ls(&mut self) -> Result<Listing, Error> {
        let mut entries = Vec::new();
        let mut show = |entry| entries.push(entry);
        let mut lines = Lines::new(|line: &[u8]| parse_name(line), &mut show);
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

    /// Runs one of the two commands and feeds the body to `lines`.
    async fn lines<P>(&mut self, command: Request<'_>, lines: &mut Lines<'_, P>) -> Result<(), Error>
    where
        P: FnMut(&[u8]) -> Result<RemoteEntry, EntryError>,
    {
        let fresh = self.is_fresh();
        let mut result = self.try_lines(command, lines).await;
        if self.was_closed(result.as_ref().err(), fresh) {
            result = self.try_lines(command, lines).await;
        }
        self.closing_on_error(result)?
    }

    /// The outer error ends the connection, the inner one does not.
    async fn try_lines<P>(&mut self, command: Request<'_>, lines: &mut Lines<'_, P>) -> Result<Result<(), Error>, Error>
    where
        P: FnMut(&[u8]) -> Result<RemoteEntry, EntryError>,
    {
        let what = if matches!(command, Request::Tree { .. }) { "tree" } else { "list" };
        let connection = self.ready().await?;
        if connection.hello() == Some(None) && !matches!(command, Request::Ls) {
            return Ok(Err(Error::NeedsExtended { what }));
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
                Incoming::Event(Event::Ignored) => return Ok(Err(Error::NeedsExtended { what })),
                Incoming::Event(event) => return Ok(Err(refusal(event))),
                Incoming::Nothing => connection.exchange(patience).await?,
            }
        }
    }
}

/// Splits the body into lines; keeps each as an entry, or why it is not valid.
struct Lines<'a, P> {
    parse: P,
    show: &'a mut (dyn FnMut(RemoteEntry) + Send),
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
    fn new(parse: P, show: &'a mut (dyn FnMut(RemoteEntry) + Send)) -> Self {
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

    /// What the listing lacks.
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

    /// Ends a line that arrived in pieces, or the listing: the last line may lack its LF.
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
                // A short line takes more memory than its bytes.
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

/// How far below a directory its listing goes.
#[derive(Debug, Clone, Copy)]
enum Depth {
    One,
    All,
}

/// The entry of a line; its name must be in `dir`, at this depth.
fn parse_line(line: &[u8], dir: Option<&str>, depth: Depth) -> Result<RemoteEntry, EntryError> {
    let Entry { name, kind } =
        parse_list_line(line).map_err(|error| error.map_or(EntryError::Malformed, EntryError::Name))?;
    let name = within(name, dir, depth)?.to_owned();
    Ok(match kind {
        EntryKind::File(Stat { size, mtime, crc }) => RemoteEntry { name, size, mtime, crc, is_dir: false },
        EntryKind::Directory { mtime } => RemoteEntry { name, size: 0, mtime, crc: None, is_dir: true },
    })
}

/// A name of a classic `ls`, of which nothing else is known.
fn parse_name(line: &[u8]) -> Result<RemoteEntry, EntryError> {
    let name = within(Name::parse(line, MAX_NAME).map_err(EntryError::Name)?, None, Depth::One)?;
    Ok(RemoteEntry { name: name.to_owned(), size: 0, mtime: None, crc: None, is_dir: false })
}

fn within<'a>(name: Name<'a>, dir: Option<&str>, depth: Depth) -> Result<&'a str, EntryError> {
    let below = |dir: &str| name.as_str().strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
    let is_inside = match depth {
        Depth::One => name.parent().map(Name::as_str) == dir,
        Depth::All => dir.is_none_or(below),
    };
    if is_inside { Ok(name.as_str()) } else { Err(EntryError::Elsewhere) }
}

/// What follows the third space, if there is one.
fn name_of(line: &[u8]) -> &[u8] {
    line.splitn(4, |&byte| byte == b' ').nth(3).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lie_in_the_listed_directory_and_those_of_a_tree_at_any_depth() {
        let name = |line: &[u8], dir, depth| parse_line(line, dir, depth).map(|entry| entry.name);
        for dir in [None, Some("d"), Some("d/e")] {
            assert_eq!(name(b"1 - - d/e/f", dir, Depth::All), Ok("d/e/f".to_owned()));
        }
        for (line, dir, depth) in [
            (&b"1 - - d/e/f"[..], Some("d"), Depth::One),
            (b"1 - - d", Some("d"), Depth::All),
            (b"1 - - de/f", Some("d"), Depth::All),
            (b"1 - - x/d/f", Some("d"), Depth::All),
        ] {
            assert_eq!(name(line, dir, depth), Err(EntryError::Elsewhere), "{line:?}");
        }
    }
}
