//! A connection to a skiff server and the session on it, for the bench's own clients.

use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs};

use anyhow::{Context as _, Result};
use skiff_proto::InvalidState;
use skiff_proto::client::ClientSession;
use skiff_proto::command::Command;

/// Bytes per read from a socket; more is no faster.
pub(crate) const PIECE: usize = 256 * 1024;

/// A connection that sends small writes at once.
pub(crate) fn dial(addr: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// See the module documentation. Up to `QUEUE` commands may wait for their replies.
pub(crate) struct Wire<const QUEUE: usize> {
    stream: TcpStream,
    pub(crate) session: Box<ClientSession<1024, QUEUE>>,
    /// Output for the next [`Wire::flush`].
    pub(crate) out: Vec<u8>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<const QUEUE: usize> Wire<QUEUE> {
    pub(crate) fn connect(addr: impl ToSocketAddrs) -> Result<Self> {
        let (stream, session) = (dial(addr)?, Box::new(ClientSession::new(Duration::MAX)));
        Ok(Self { stream, session, out: Vec::new(), buffer: vec![0; PIECE], start: 0, end: 0 })
    }

    /// Adds a command to the output.
    pub(crate) fn request(&mut self, command: &Command<'_>) -> Result<()> {
        self.session.request(command).map_err(misused)?;
        self.transmit();
        Ok(())
    }

    /// Adds everything that the session has queued to the output.
    pub(crate) fn transmit(&mut self) {
        let mut room = [0; 2048];
        loop {
            let n = self.session.poll_transmit(&mut room);
            if n == 0 {
                return;
            }
            self.out.extend_from_slice(&room[..n]);
        }
    }

    /// Sends the waiting output.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Passes input to `take`, which returns how many bytes it used; waits for input if there is none.
    pub(crate) fn receive(
        &mut self,
        take: impl FnOnce(&mut ClientSession<1024, QUEUE>, &mut [u8]) -> Result<usize>,
    ) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, self.stream.read(&mut self.buffer)?);
            (self.end > 0).then_some(()).context("the server closed the connection")?;
        }
        self.start += take(&mut self.session, &mut self.buffer[self.start..self.end])?;
        Ok(())
    }

    /// The buffer, for another connection.
    pub(crate) fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

pub(crate) fn misused(_: InvalidState) -> anyhow::Error {
    anyhow::anyhow!("unexpected event from the session")
}
