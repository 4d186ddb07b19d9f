//! Bytes from the socket.

use core::mem;
use std::io;

use tokio::net::TcpStream;

use super::scratch::Scratch;
use super::socket::would_block;

/// Input that could not be processed yet. Usually there is none.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    /// How much of it has been processed since.
    taken: usize,
    /// Bytes from the socket that have not been counted yet.
    pub(super) uncounted: u64,
}

/// The result of an attempt to process input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// Some was processed, or has arrived.
    Some,
    /// There is input, but none can be processed now.
    Nothing,
    /// The socket has no input.
    Waits,
    /// The peer has ended its stream.
    End,
}

impl Input {
    /// True if there are no leftover bytes.
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The number of leftover bytes.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Offers the leftover bytes to `take`.
    pub(super) fn take_leftover(&mut self, take: impl FnOnce(&mut [u8]) -> usize) -> Moved {
        let mut bytes = mem::take(&mut self.bytes);
        let taken = take(&mut bytes[self.taken..]);
        self.taken += taken;
        if self.taken < bytes.len() {
            self.bytes = bytes;
        } else {
            self.taken = 0;
        }
        if taken > 0 { Moved::Some } else { Moved::Nothing }
    }

    /// Offers input from the socket to `take`, after the leftover bytes; keeps what it does not take.
    pub(super) fn read(&mut self, stream: &TcpStream, take: impl FnOnce(&mut [u8]) -> usize) -> io::Result<Moved> {
        let mut scratch = Scratch::take();
        let left = self.len();
        let read = stream.try_read(&mut scratch[left..]);
        self.uncounted += read.as_ref().map_or(0, |n| *n as u64);
        match read {
            Ok(0) => Ok(Moved::End),
            // The smaller part goes to the larger: a record in many pieces is not copied for each of them.
            Ok(n) if n < left => {
                self.bytes.drain(..self.taken);
                self.taken = 0;
                self.bytes.extend_from_slice(&scratch[left..left + n]);
                self.take_leftover(take);
                Ok(Moved::Some)
            }
            Ok(n) => {
                scratch[..left].copy_from_slice(&self.bytes[self.taken..]);
                let n = left + n;
                let taken = take(&mut scratch[..n]);
                self.bytes = scratch[taken..n].to_vec();
                self.taken = 0;
                Ok(Moved::Some)
            }
            Err(error) if would_block(&error) => Ok(Moved::Waits),
            Err(error) => Err(error),
        }
    }
}
