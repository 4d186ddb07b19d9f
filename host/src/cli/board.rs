//! Resolves the server argument: an address, or an alias of the configuration.

use core::net::IpAddr;
use std::fs;
use std::path::{Path, PathBuf};

use super::config::Config;
use super::failure::Failure;
use crate::address::{Address, Server, parse_port};
use crate::client::sanitize;

/// A server as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// An address or an alias.
    pub(crate) name: String,
    /// PORT, if it is a word of its own.
    pub(crate) port: Option<u16>,
}

/// A server, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Board {
    /// What the user calls it.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) server: Server,
    /// The file with the key for it, if the configuration names one.
    pub(crate) key: Option<PathBuf>,
}

impl Board {
    /// A server that has no alias.
    #[cfg(test)]
    pub(crate) fn new(host: &str, port: u16) -> Self {
        let server = Server::Network(Address { host: host.parse().unwrap(), port: Some(port) });
        Self { name: host.to_owned(), server, key: None }
    }

    /// Finds a server. The configuration is not read for an IP address.
    ///
    /// # Errors
    /// The name is neither an address nor an alias; the configuration can't be read.
    pub(crate) fn find(Named { name, port }: &Named) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure { subject: Some(name.clone()), ..Failure::usage(why) };
        let server: Server = name.parse().map_err(wrong)?;
        let (alias, port) = match &server {
            Server::Network(Address { port: Some(_), .. }) if port.is_some() => {
                return Err(wrong("the port is given twice"));
            }
            Server::Network(Address { host, port: own }) => {
                let is_ip = host.as_str().parse::<IpAddr>().is_ok();
                (if is_ip { None } else { Config::load()?.board(host.as_str())? }, port.or(*own))
            }
            Server::Serial(_) => (None, *port),
        };
        let (mut server, key) = alias.map_or((server, None), |alias| (alias.server, alias.key));
        match &mut server {
            Server::Network(address) => address.port = port.or(address.port),
            Server::Serial(_) if port.is_some() => return Err(wrong("a serial port has no PORT")),
            Server::Serial(_) => {}
        }
        Ok(Self { name: name.clone(), server, key })
    }
}

/// Reads a file that lists servers, one per line: an address, an alias, or HOST PORT; `#` begins a comment.
///
/// # Errors
/// The file can't be read or lists no servers; a line is not valid.
pub(crate) fn read_list(path: &Path) -> Result<Vec<Board>, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::local(path, &error))?;
    // Editors on Windows put a byte order mark first.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut boards = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let words: Vec<_> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        if !words.is_empty() {
            boards.push(listed(&words).map_err(|failure| {
                let about = failure.subject.map(|name| format!("{}: ", sanitize(&name))).unwrap_or_default();
                let message = format!("line {number}: {about}{}", failure.message);
                Failure { subject: Some(path.to_string_lossy().into_owned()), message, ..failure }
            })?);
        }
    }
    if boards.is_empty() {
        return Err(Failure::new(path.to_string_lossy(), "usage", "no servers are listed in this file"));
    }
    Ok(boards)
}

/// The server that one line of the file names.
fn listed(words: &[&str]) -> Result<Board, Failure> {
    let (host, port) = match words {
        [host] => (*host, None),
        [host, port] => (*host, Some(parse_port(port).map_err(Failure::usage)?)),
        _ => return Err(Failure::usage("too many words; expected HOST, HOST:PORT or HOST PORT")),
    };
    let mut board = Board::find(&Named { name: host.to_owned(), port })?;
    // Boards on several ports of one host need different names.
    if let Some(port) = port {
        let bare = host.contains(':') && !host.ends_with(']');
        board.name = if bare { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    }
    Ok(board)
}
