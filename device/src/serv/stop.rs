//! Ends a server that runs in a thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// The controlling end: dropping it ends the server.
#[derive(Debug)]
pub struct Stop {
    ours: UnixStream,
}

/// The server's end.
#[derive(Debug)]
pub struct Stopped(UnixStream);

impl Stop {
    /// Creates both ends.
    ///
    /// # Errors
    /// No more descriptors are available.
    pub fn new() -> io::Result<(Self, Stopped)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self { ours }, Stopped(theirs)))
    }

    /// From now on, SIGINT and SIGTERM also end the server, instead of the program.
    ///
    /// # Errors
    /// No more descriptors are available.
    pub fn on_signals(&self) -> io::Result<()> {
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::low_level::pipe::register(signal, self.ours.try_clone()?)?;
        }
        Ok(())
    }
}

impl AsFd for Stopped {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
