//! From the store to the socket.

use core::convert::Infallible;
use core::mem;
use std::io;

use skiff_proto::reply::{MAX_LIST_LINE, list_line};
use skiff_proto::server::ServerSession;
use skiff_proto::store::Entry;
use skiff_proto::{ErrorCode, InvalidState, Payload, Refusal, SendError};
use tokio::net::TcpStream;

use super::connection::{Connection, Open};
use super::input::Scratch;
use super::{pool, would_block};
use crate::store::{Cursor, DirStore, ELSEWHERE, File};

/// The first bytes of a message go through memory, together with the framing before them: one write for both.
const HEAD: usize = 64 * 1024;

/// Bytes that may wait for the socket before nothing more is produced.
const HIGH_WATER: usize = 128 * 1024;

/// Room for the framing around payload.
const FRAMING: usize = 64;

/// Bytes of a listing composed at a time.
const LINES: usize = 32 * 1024;

/// Bytes that wait for the socket.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    sent: usize,
}

impl Output {
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) const fn has_room(&self) -> bool {
        self.bytes.len() - self.sent < HIGH_WATER
    }

    /// Takes the session's queued framing in.
    pub(super) fn transmit<const BUF: usize>(&mut self, session: &mut ServerSession<BUF>) {
        let Ok(_) = self.with_room(512, |room| Ok::<_, Infallible>(session.poll_transmit(room)));
    }

    /// Adds `payload`, with its framing, to what waits.
    fn send<const BUF: usize>(
        &mut self,
        session: &mut ServerSession<BUF>,
        payload: &[u8],
    ) -> Result<usize, SendError<Infallible>> {
        self.with_room(payload.len() + FRAMING, |room| {
            session.send(room, |room| {
                room[..payload.len()].copy_from_slice(payload);
                Ok(payload.len())
            })
        })
    }

    /// Lends `len` bytes behind those that wait; keeps as many as `write` says.
    pub(super) fn with_room<E>(
        &mut self,
        len: usize,
        write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let at = self.bytes.len();
        self.bytes.resize(at + len, 0);
        let written = write(&mut self.bytes[at..]);
        self.bytes.truncate(at + written.as_ref().copied().unwrap_or(0));
        written
    }

    /// Writes as much as the socket takes; true if that was everything.
    pub(super) fn flush(&mut self, stream: &TcpStream) -> io::Result<bool> {
        while self.sent < self.bytes.len() {
            match stream.try_write(&self.bytes[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(error) if would_block(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        // An idle connection holds no memory for what it once had to say.
        if self.bytes.capacity() > 1024 {
            self.bytes = Vec::new()
        } else {
            self.bytes.clear()
        }
        self.sent = 0;
        Ok(true)
    }
}

/// A file that is being sent.
#[derive(Debug)]
pub(super) struct Reading {
    file: File,
    /// The next byte to be sent.
    offset: u64,
    /// The next byte to go into the checksum, which runs ahead of what is sent.
    summed: u64,
    /// The body is the whole file.
    whole: bool,
}

impl Reading {
    pub(super) const fn new(file: File, offset: u64, whole: bool) -> Self {
        Self { file, offset, summed: offset, whole }
    }
}

/// A directory that is being listed.
#[derive(Debug)]
pub(super) struct Listing {
    cursor: Cursor,
    lines: Vec<u8>,
    ended: bool,
}

impl Listing {
    pub(super) const fn new(cursor: Cursor) -> Self {
        Self { cursor, lines: Vec::new(), ended: false }
    }

    /// Composes the next lines.
    fn fill(&mut self, store: &DirStore) -> Result<(), Refusal> {
        let mut line = [0; MAX_LIST_LINE];
        while self.lines.len() < LINES && !self.ended {
            let lines = &mut self.lines;
            let mut show = |entry: Entry<'_>| {
                if let Some(len) = list_line(&entry, &mut line) {
                    lines.extend_from_slice(&line[..len]);
                }
            };
            let more = if pool::is_elsewhere() {
                store.next_entry(&mut self.cursor, &mut show)
            } else {
                store.next_entry_here(&mut self.cursor, &mut show)
            };
            self.ended = !more?;
        }
        Ok(())
    }
}

impl Connection<'_> {
    /// Moves the body or listing that is being sent on. False if the socket takes no more.
    pub(super) fn send(&mut self) -> io::Result<bool> {
        match &mut self.open {
            Open::Reading(_) => self.send_file(),
            Open::Listing(listing) => {
                if listing.lines.is_empty()
                    && let Err(refusal) = listing.fill(&self.shared.store)
                {
                    if refusal == ELSEWHERE && !mem::take(&mut self.stranded) {
                        self.leaving = true;
                        return Ok(false);
                    }
                    let aborted = self.session.abort(refusal.code);
                    self.open = Open::Nothing;
                    self.check(aborted);
                    return Ok(true);
                }
                let moved = if listing.lines.is_empty() {
                    self.open = Open::Nothing;
                    self.session.finish()
                } else {
                    let sent = self.output.send(&mut self.session, &listing.lines);
                    listing.lines.clear();
                    sent.map(drop).map_err(|_| InvalidState)
                };
                self.check(moved);
                Ok(true)
            }
            Open::Names(names) => {
                let Some(remaining) = self.session.left() else { return Ok(false) };
                // Whatever has changed since the names were counted: what is too much is left out, and what is missing
                // filled up with line ends (PROTOCOL §3).
                let more = names.next(&self.shared.store, remaining).unwrap_or(false);
                let moved = if more {
                    let sent = self.output.send(&mut self.session, &names.take());
                    sent.map(drop).map_err(|_| InvalidState)
                } else {
                    self.session.finish()
                };
                if !self.session.is_sending() {
                    self.open = Open::Nothing;
                }
                self.check(moved);
                Ok(true)
            }
            Open::Nothing | Open::Writing { .. } => {
                self.check(Err(InvalidState));
                Ok(false)
            }
        }
    }

    fn send_file(&mut self) -> io::Result<bool> {
        let Open::Reading(reading) = &mut self.open else { return Ok(false) };
        if self.session.left() == Some(0) {
            if reading.whole
                && let Some(crc) = self.session.crc()
            {
                self.shared.store.remember_crc(&reading.file, crc);
            }
            self.open = Open::Nothing;
            let finished = self.session.finish();
            self.check(finished);
            return Ok(true);
        }
        // The first bytes of a message go through memory, together with the framing before them: one write for both.
        if !self.session.is_in_data() || self.shared.options.portable {
            let (session, store) = (&mut self.session, &self.shared.store);
            // No more than the file has: the room is filled with zeros first.
            let most = Payload { remaining: session.left().unwrap_or(0) }.clamp(HEAD);
            let sent = self.output.with_room(most + FRAMING, |room| {
                session.send(room, |room| {
                    let most = room.len().min(most);
                    match store.read_at(&reading.file, reading.offset, &mut room[..most])? {
                        // The file has become shorter, so the body can't be completed.
                        0 => Err(Refusal::from(ErrorCode::Changed)),
                        n => {
                            reading.offset += n as u64;
                            reading.summed = reading.offset;
                            Ok(n)
                        }
                    }
                })
            });
            match sent {
                Ok(_) => {}
                Err(SendError::Fill(refusal)) => self.give_up(refusal.code),
                Err(SendError::InvalidState) => self.check(Err(InvalidState)),
            }
            return Ok(true);
        }
        if !self.output.flush(self.stream)? {
            return Ok(false);
        }
        let Some(mut opaque) = self.session.opaque() else {
            self.check(Err(InvalidState));
            return Ok(true);
        };
        if opaque.wants_sum() && reading.summed == reading.offset {
            // The checksum runs one piece ahead: the bytes are read for it here, and sent from the page cache.
            let mut scratch = Scratch::take();
            let n = Payload { remaining: opaque.remaining() }.clamp(scratch.len());
            match self.shared.store.read_at(&reading.file, reading.offset, &mut scratch[..n]) {
                Ok(0) => {
                    self.give_up(ErrorCode::Changed);
                    return Ok(true);
                }
                Ok(n) => {
                    opaque.sum(&scratch[..n]);
                    reading.summed += n as u64;
                }
                Err(refusal) => {
                    self.give_up(refusal.code);
                    return Ok(true);
                }
            }
        }
        let len = if opaque.wants_sum() { reading.summed - reading.offset } else { opaque.remaining() };
        match send_file(self.stream, &reading.file, reading.offset, len) {
            Ok(0) => self.give_up(ErrorCode::Changed),
            Ok(n) => {
                reading.offset += n;
                let moved = opaque.advance(n);
                self.check(moved);
            }
            Err(error) if would_block(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Aborts the body: the rest of the file can't be sent.
    fn give_up(&mut self, code: ErrorCode) {
        tracing::warn!(peer = %self.peer(), %code, "read aborted");
        self.open = Open::Nothing;
        let aborted = self.session.abort(code);
        self.check(aborted);
    }
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
