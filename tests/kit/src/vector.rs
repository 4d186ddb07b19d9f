//! The wire vectors of `docs/vectors`: parsed, matched and played (the format is in their README).
//!
//! [`play`] drives anything that is a [`Link`]: a session in memory, or a server at the other end of a socket.

use std::fmt;

mod pattern;
mod play;

pub use pattern::Pattern;
use pattern::{literal, pieces};
pub use play::{Cut, Link, Pacing, Shutdown, play};

/// One conversation.
#[derive(Debug, Clone)]
pub struct Vector {
    /// The file's name, `hello.txt`.
    pub file: String,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Information that is only in the comments.
    pub setting: Setting,
}

/// A line of a vector.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its line number in the file, from 1.
    pub line: usize,
    /// The action.
    pub action: Action,
}

/// The action of a step.
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

/// Information that is only in the comments of a vector: the store before and after.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setting {
    /// Files and their content before the conversation.
    pub before: &'static [(&'static str, &'static [u8])],
    /// Directories before (and after) it.
    pub directories: &'static [&'static str],
    /// Files after it; `None`: as before.
    pub after: Option<&'static [(&'static str, &'static [u8])]>,
    /// Entries of the root before (and after) it whose names can't be sent.
    pub omitted: u64,
    /// The server resets the data connection.
    pub reset: bool,
    loose: Loose,
}

/// A looser match for a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Loose {
    #[default]
    No,
    /// The lines of the payload in any order, followed by any number of LF.
    AnyOrder,
}

/// The 711 bytes of the captured upload.
const CAPTURED: [u8; 711] = [b'a'; 711];

/// The files and their settings, which [`Vector::parse`] checks against the comments.
const VECTORS: &[(&str, &str, Setting)] = {
    const EMPTY: Setting =
        Setting { before: &[], directories: &[], after: None, omitted: 0, reset: false, loose: Loose::No };
    macro_rules! vectors {
        ($($file:literal => $setting:expr,)*) => {
            &[$(($file, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/vectors/", $file)), $setting)),*]
        };
    }
    vectors! {
        "bad-length.txt" => EMPTY,
        "classic-get.txt" => Setting { before: &[("teste.txt", b"hello\n")], ..EMPTY },
        "classic-ls-empty.txt" => EMPTY,
        "classic-ls.txt" => Setting {
            before: &[("a.txt", b"a"), ("b.txt", b"b"), (".hidden", b"h")],
            directories: &["d"],
            loose: Loose::AnyOrder,
            ..EMPTY
        },
        "classic-put-accents.txt" => Setting { after: Some(&[("a.txt", "olá!\n".as_bytes())]), ..EMPTY },
        "classic-put-path.txt" => Setting {
            before: &[("teste.txt", b"old")],
            after: Some(&[("teste.txt", b"old"), ("teste(1).txt", b"x")]),
            ..EMPTY
        },
        "classic-put-too-much.txt" => Setting { reset: true, ..EMPTY },
        "classic-put.txt" => Setting { after: Some(&[("teste.txt", &CAPTURED)]), ..EMPTY },
        "classic-refused.txt" => EMPTY,
        "hello.txt" => EMPTY,
        "list-omitted.txt" => Setting { before: &[("keep", b"x")], omitted: 2, ..EMPTY },
        "copy.txt" => Setting {
            before: &[("a", b"1"), ("b", b"old")],
            after: Some(&[("a", b"2"), ("b", b"1")]),
            ..EMPTY
        },
        "pipeline.txt" => EMPTY,
        "rename-directory.txt" => Setting {
            before: &[("d/a", b"1")],
            directories: &["e"],
            after: Some(&[("f/g/a", b"1")]),
            ..EMPTY
        },
        "tree.txt" => Setting { before: &[("keep", b"x")], omitted: 1, ..EMPTY },
        "write-chunks.txt" => Setting { after: Some(&[("d", b"123456789")]), ..EMPTY },
        "write-empty.txt" => Setting { after: Some(&[("empty", b"")]), ..EMPTY },
        "write-mismatch.txt" => Setting { before: &[("d", b"good")], ..EMPTY },
        "write-read.txt" => Setting { after: Some(&[("a b.txt", b"hello\n")]), ..EMPTY },
        "write-refused.txt" => EMPTY,
        "write-resume.txt" => Setting { after: Some(&[("d", b"123456789")]), ..EMPTY },
        "write-then-command-in-body.txt" => Setting { before: &[("keep", b"x")], ..EMPTY },
    }
};

impl Setting {
    /// A flat store can't have these names.
    #[must_use]
    pub fn needs_directories(&self) -> bool {
        let files = self.before.iter().chain(self.after.unwrap_or_default());
        files.map(|(name, _)| *name).chain(self.directories.iter().copied()).any(|name| name.contains('/'))
    }
}

/// Why a vector could not be read, or how a conversation differed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(String);

impl Problem {
    /// A problem with this description.
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

/// All vectors of the repository, by name. They are part of the program.
///
/// # Errors
/// A file that is malformed.
pub fn load_all() -> Result<Vec<Vector>, Problem> {
    let mut vectors = VECTORS.iter().map(|(file, text, _)| Vector::parse(file, text)).collect::<Result<Vec<_>, _>>()?;
    vectors.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(vectors)
}

impl Vector {
    /// Parses the text of the vector called `file`.
    ///
    /// # Errors
    /// The line that is malformed; a name that is not in the table, or an entry that its comments
    /// don't confirm.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problem> {
        let setting = VECTORS.iter().find(|(name, ..)| *name == file).map(|(_, _, setting)| *setting);
        let setting = setting.ok_or_else(|| Problem(format!("{file}: not in the table of vectors")))?;
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

/// The table must agree with the comments, as far as a program can read them.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_in_the_table_and_parses() {
        let vectors = load_all().unwrap();
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/vectors")).unwrap();
        let files =
            folder.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "txt"));
        assert_eq!(vectors.len(), files.count());
        assert!(vectors.iter().all(|vector| !vector.steps.is_empty()));
        for step in vectors.iter().flat_map(|vector| &vector.steps) {
            if let Action::Receive(pattern) | Action::DataReceive(pattern) = &step.action {
                assert_eq!(pattern.check(&crate::sans_io::message(pattern.example(50_001, 7))), Ok(()));
            }
        }
        assert!(Vector::parse("new.txt", "").is_err());
        assert!(Vector::parse("hello.txt", "C open\n").is_err());
    }
}
