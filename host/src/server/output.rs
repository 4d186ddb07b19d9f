//! Bytes for the socket.

use std::io;

use skiff_proto::Payload;
use tokio::net::TcpStream;

use super::scratch::Scratch;
use super::socket::would_block;
use crate::store::File;

/// The first bytes of a message go through memory, together with the preceding framing: one write for both.
const HEAD: usize = 64 * 1024;

/// The number of bytes waiting for the socket above which no more are produced.
const HIGH_WATER: usize = 128 * 1024;

/// Room for replies and for the framing of payload.
const FRAMING: usize = 512;

/// Bytes of a listing composed at a time.
const LINES: usize = 32 * 1024;

/// Bytes that are waiting for the socket.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    sent: usize,
    /// Bytes of the current file that are already in its checksum but have not been sent.
    pub(super) summed: u64,
    /// Bytes that the socket has taken and that have not been counted yet.
    pub(super) uncounted: u64,
}

/// The payload to send next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Next {
    /// None: a reply.
    Reply,
    /// This many bytes of a body.
    Body(u64),
    /// A listing of unknown length.
    Listing,
}

impl Output {
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that the peer has not read yet.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(super) const fn has_room(&self) -> bool {
        self.len() < HIGH_WATER
    }

    /// Adds what `compose` writes into the given room; true if it wrote anything.
    pub(super) fn add(&mut self, next: Next, compose: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let room = match next {
            Next::Reply => FRAMING,
            Next::Body(left) => Payload { remaining: left }.clamp(HEAD) + FRAMING,
            Next::Listing => LINES,
        };
        let mut scratch = Scratch::take();
        let n = compose(&mut scratch[..room]);
        self.bytes.extend_from_slice(&scratch[..n]);
        n > 0
    }

    /// Writes as much as the socket takes; true if that was everything.
    pub(super) fn flush(&mut self, stream: &TcpStream) -> io::Result<bool> {
        while self.sent < self.bytes.len() {
            match stream.try_write(&self.bytes[self.sent..]) {
                Ok(n) => {
                    self.sent += n;
                    self.uncounted += n as u64;
                }
                Err(error) if would_block(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        // An idle connection keeps no memory of earlier output.
        if self.bytes.capacity() > 1024 {
            self.bytes = Vec::new()
        } else {
            self.bytes.clear()
        }
        self.sent = 0;
        Ok(true)
    }
}

/// Sends the last bytes of a connection that is about to be closed, so that they share a segment with its FIN.
#[cfg(target_os = "linux")]
pub(super) fn send_last(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    use rustix::net::{SendFlags, send};
    stream.try_io(tokio::io::Interest::WRITABLE, || Ok(send(stream, bytes, SendFlags::MORE | SendFlags::NOSIGNAL)?))
}

/// Sends the last bytes of a connection that is about to be closed.
#[cfg(not(target_os = "linux"))]
pub(super) fn send_last(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    stream.try_write(bytes)
}

/// Sends up to `len` bytes of `file` from `offset` on, as many as the socket takes; 0 at the end of the file.
#[cfg(target_os = "linux")]
pub(super) fn send_file(stream: &TcpStream, file: &File, offset: u64, len: u64) -> io::Result<u64> {
    let count = usize::try_from(len).unwrap_or(usize::MAX).min(1 << 20);
    stream.try_io(tokio::io::Interest::WRITABLE, || {
        let mut offset = offset;
        let sent = rustix::fs::sendfile(stream, file.as_file(), Some(&mut offset), count)?;
        Ok(sent as u64)
    })
}

/// Sends up to `len` bytes of `file` from `offset` on, as many as the socket takes; 0 at the end of the file.
#[cfg(not(target_os = "linux"))]
pub(super) fn send_file(stream: &TcpStream, file: &File, offset: u64, len: u64) -> io::Result<u64> {
    send_through_memory(stream, file, offset, len)
}

/// The same through memory, on any system.
pub(super) fn send_through_memory(stream: &TcpStream, file: &File, offset: u64, len: u64) -> io::Result<u64> {
    use std::os::unix::fs::FileExt as _;
    let mut scratch = Scratch::take();
    let want = usize::try_from(len).map_or(scratch.len(), |len| len.min(scratch.len()));
    let n = file.as_file().read_at(&mut scratch[..want], offset)?;
    if n == 0 {
        return Ok(0);
    }
    stream.try_write(&scratch[..n]).map(|sent| sent as u64)
}
