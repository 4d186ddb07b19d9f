//! Finds and announces servers on this network, by multicast DNS (RFC 6762, RFC 6763, PROTOCOL section 11).
//!
//! | module | content |
//! |---|---|
//! | `find` | finds the servers on this network, and the addresses of one server |
//! | `announce` | announces a server under a name that no other server has |
//! | `links` | sends questions on every interface of this machine |
//!
//! All functions here block. Anyone on the network can answer with any name and address, so a name proves nothing about
//! a server; a key does.

mod announce;
mod find;
mod links;

use core::time::Duration;
use std::io;

use mdns_sd::{Error, ServiceDaemon};

pub use announce::Announcement;
pub use find::{Found, Resolved, discover, resolve};

/// The service.
const SERVICE: &str = "_skiff._tcp.local.";

/// How long to wait for the library's thread to end.
const FAREWELL: Duration = Duration::from_millis(500);

/// True if mDNS resolves this name.
#[must_use]
pub fn is_local(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
    host.len() > 6 && host[host.len() - 6..].eq_ignore_ascii_case(b".local")
}

/// The library's thread, which ends when this is dropped.
struct Daemon(ServiceDaemon);

impl Daemon {
    fn start() -> io::Result<Self> {
        ServiceDaemon::new().map(Self).map_err(other)
    }
}

impl core::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Daemon")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(ended) = self.0.shutdown() {
            _ = ended.recv_timeout(FAREWELL);
        }
    }
}

fn other(error: Error) -> io::Error {
    io::Error::other(format!("mDNS: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_end_in_local_are_local() {
        for name in ["lab3.local", "LAB3.Local.", "a.b.local"] {
            assert!(is_local(name), "{name}");
        }
        for name in ["", "local", ".local", "lab3.locale", "lab3.local.net", "lab3local", "192.168.69.1"] {
            assert!(!is_local(name), "{name}");
        }
    }
}
