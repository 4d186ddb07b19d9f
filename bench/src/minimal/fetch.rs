//! Operations of a session with a server of any protocol.

use core::net::Ipv4Addr;
use std::io;
use std::net::TcpStream;

use anyhow::Result;

use super::sink::Sink;

/// A session with a server.
pub(crate) trait Fetch: Send {
    /// Fetches a file; returns its length.
    fn fetch(&mut self, name: &str, sink: &mut Sink) -> Result<u64>;
}

/// A connection that sends small writes at once.
pub(super) fn dial(port: u16) -> io::Result<TcpStream> {
    crate::wire::dial((Ipv4Addr::LOCALHOST, port))
}
