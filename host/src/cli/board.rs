//! The server that commands go to, found by what the user calls it: an address, or an alias of the configuration.

use core::net::IpAddr;
use std::fs;
use std::path::{Path, PathBuf};

use super::config::Config;
use super::failure::Failure;
use crate::address::{Address, DEFAULT_PORT, Server};

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
    /// Where it is. Its port is known.
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
        let alias = match &server {
            Server::Network(Address { host, port: None }) if host.as_str().parse::<IpAddr>().is_err() => {
                Config::load()?.board(name)?
            }
            Server::Network(Address { port: Some(_), .. }) if port.is_some() => {
                return Err(wrong("the port is given twice"));
            }
            _ => None,
        };
        let (mut server, key) = alias.map_or((server, None), |alias| (alias.server, alias.key));
        match &mut server {
            Server::Network(address) => address.port = port.or(address.port).or(Some(DEFAULT_PORT)),
            Server::Serial(_) if port.is_some() => return Err(wrong("a serial port has no PORT")),
            Server::Serial(_) => {}
        }
        Ok(Self { name: name.clone(), server, key })
    }
}

/// The servers that a file lists: a line each, an address or an alias; `#` begins a comment.
///
/// # Errors
/// The file can't be read, or lists none.
pub(crate) fn read_list(path: &Path) -> Result<Vec<Named>, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::local(path, &error))?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let servers: Vec<_> =
        lines.filter(|name| !name.is_empty()).map(|name| Named { name: name.to_owned(), port: None }).collect();
    if servers.is_empty() {
        return Err(Failure::new(path.to_string_lossy(), "usage", "no servers are listed in this file"));
    }
    Ok(servers)
}
