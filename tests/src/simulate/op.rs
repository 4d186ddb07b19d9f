//! The operations of a client.

use core::fmt;
use std::rc::Rc;

use skiff_proto::command::{Command, Request, VERSION};
use skiff_proto::reply::Tag;

use super::truth::{File, n};
use super::wishes::Wish;

/// How the body of a `write` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// With its checksum.
    Whole,
    /// With `abort`, after this many bytes.
    Abort(usize),
    /// With a wrong checksum.
    WrongCrc,
    /// Without a checksum.
    NoCrc,
}

/// A file that was partly received.
#[derive(Debug)]
pub struct Download {
    /// Its name.
    pub name: String,
    /// The beginning of its content.
    pub bytes: Vec<u8>,
    /// Its size.
    pub size: u64,
    /// The tag of the version.
    pub tag: Tag,
}

/// A command with its data.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names are those of the protocol")]
pub enum Op {
    Hello,
    Ping,
    Space,
    List,
    Tree,
    ListDir(String),
    TreeDir(String),
    Ls,
    Stat(String),
    Sum {
        name: String,
        offset: u64,
        length: Option<u64>,
    },
    Read {
        name: String,
        offset: u64,
        length: Option<u64>,
        before: Option<Rc<Download>>,
    },
    Resume {
        name: String,
        file: File,
    },
    Write {
        name: String,
        file: File,
        offset: u64,
        fate: Fate,
    },
    Remove(String),
    Rename {
        from: String,
        to: String,
    },
    Copy {
        from: String,
        to: String,
    },
    Mkdir(String),
    Rmdir(String),
    Get(String),
    /// `announced`: the length sent, which may be that of the text in characters, or wrong.
    Put {
        name: String,
        file: File,
        announced: u64,
    },
}

impl Op {
    /// The command.
    #[must_use]
    pub fn command(&self) -> Command<'_> {
        Command::Request(match self {
            Self::Hello => return Command::Hello { version: VERSION },
            Self::Ping => return Command::Ping,
            Self::Space => Request::Space,
            Self::List => Request::List { dir: None },
            Self::ListDir(name) => Request::List { dir: Some(n(name)) },
            Self::Tree => Request::Tree { dir: None },
            Self::TreeDir(name) => Request::Tree { dir: Some(n(name)) },
            Self::Ls => Request::Ls,
            Self::Stat(name) => Request::Stat { name: n(name) },
            &Self::Sum { ref name, offset, length } => Request::Sum { offset, length, name: n(name) },
            &Self::Read { ref name, offset, length, .. } => Request::Read { offset, length, name: n(name) },
            Self::Resume { name, file } => Request::Resume { size: file.bytes.len() as u64, name: n(name) },
            Self::Write { name, file, offset, .. } => {
                Request::Write { offset: *offset, size: file.bytes.len() as u64, mtime: file.mtime, name: n(name) }
            }
            Self::Remove(name) => Request::Remove { name: n(name) },
            Self::Rename { from, to } => Request::Rename { from: n(from), to: n(to) },
            Self::Copy { from, to } => Request::Copy { from: n(from), to: n(to) },
            Self::Mkdir(name) => Request::Mkdir { name: n(name) },
            Self::Rmdir(name) => Request::Rmdir { name: n(name) },
            Self::Get(name) => Request::Get { name: n(name) },
            Self::Put { name, .. } => Request::Put { name: n(name) },
        })
    }

    /// The second name in the command.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Rename { to, .. } | Self::Copy { to, .. } => Some(to),
            _ => None,
        }
    }

    /// The name in the command; empty without one.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Hello | Self::Ping | Self::Space | Self::List | Self::Tree | Self::Ls => "",
            Self::ListDir(name)
            | Self::TreeDir(name)
            | Self::Stat(name)
            | Self::Sum { name, .. }
            | Self::Read { name, .. }
            | Self::Resume { name, .. }
            | Self::Write { name, .. }
            | Self::Remove(name)
            | Self::Rename { from: name, .. }
            | Self::Copy { from: name, .. }
            | Self::Mkdir(name)
            | Self::Rmdir(name)
            | Self::Get(name)
            | Self::Put { name, .. } => name,
        }
    }

    /// True if the server must refuse it to a client that may only read.
    #[must_use]
    pub const fn needs_write(&self) -> bool {
        matches!(
            self,
            Self::Resume { .. }
                | Self::Write { .. }
                | Self::Remove(_)
                | Self::Rename { .. }
                | Self::Copy { .. }
                | Self::Mkdir(_)
                | Self::Rmdir(_)
        )
    }

    /// The change that it requests.
    #[must_use]
    pub fn wish(&self) -> Option<Wish> {
        match self {
            Self::Write { name, file, fate: Fate::Whole, .. } => {
                Some(Wish::Write { name: name.clone(), size: file.bytes.len(), crc: file.crc })
            }
            Self::Put { name, file, announced } if is_whole(&file.bytes, *announced) => {
                // Whatever path is sent, the last component counts.
                let name = n(name).file_name().to_owned();
                Some(Wish::Put { name, size: file.bytes.len(), crc: file.crc })
            }
            Self::Remove(name) => Some(Wish::Remove { name: name.clone() }),
            Self::Rename { from, to } => Some(Wish::Rename { from: from.clone(), to: to.clone() }),
            // A copy to itself changes nothing.
            Self::Copy { from, to } if from != to => Some(Wish::Copy { from: from.clone(), to: to.clone() }),
            _ => None,
        }
    }
}

/// PROTOCOL §3: as many bytes as announced, or text of as many characters.
#[must_use]
pub fn is_whole(bytes: &[u8], announced: u64) -> bool {
    let text = || core::str::from_utf8(bytes).is_ok_and(|text| text.chars().count() as u64 == announced);
    bytes.len() as u64 == announced || text()
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 1000];
        let len = self.command().encode(&mut bytes).unwrap_or(0);
        f.write_str(&String::from_utf8_lossy(&bytes[..len]).replace('\n', "\\n"))?;
        match self {
            Self::Write { file, fate, .. } => write!(f, " ({file:?}, {fate:?})"),
            Self::Put { file, announced, .. } => write!(f, " ({file:?}, {announced} announced)"),
            Self::Read { before: Some(_), .. } => f.write_str(" (going on)"),
            _ => Ok(()),
        }
    }
}
