//! The server that commands go to, found by what the user calls it: an address, or an alias of the configuration.

use core::net::IpAddr;
use std::fs;
use std::path::{Path, PathBuf};

use super::config::Config;
use super::failure::Failure;
use crate::address::{Address, DEFAULT_PORT};

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
    /// Name or IP address.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// The file with the key for it, if the configuration names one.
    pub(crate) key: Option<PathBuf>,
}

impl Board {
    /// A server that has no alias.
    #[cfg(test)]
    pub(crate) fn new(host: &str, port: u16) -> Self {
        Self { name: host.to_owned(), host: host.to_owned(), port, key: None }
    }

    /// Finds a server. The configuration is not read for an IP address.
    ///
    /// # Errors
    /// The name is neither an address nor an alias; the configuration can't be read.
    pub(crate) fn find(Named { name, port }: &Named) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure { subject: Some(name.clone()), ..Failure::usage(why) };
        let address: Address = name.parse().map_err(wrong)?;
        if address.port.is_some() && port.is_some() {
            return Err(wrong("the port is given twice"));
        }
        let is_ip = address.host.as_str().parse::<IpAddr>().is_ok();
        let alias = if is_ip || address.port.is_some() { None } else { Config::load()?.board(name)? };
        let (address, key) = alias.map_or((address, None), |alias| (alias.address, alias.key));
        let port = port.or(address.port).unwrap_or(DEFAULT_PORT);
        Ok(Self { name: name.clone(), host: address.host.to_string(), port, key })
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
