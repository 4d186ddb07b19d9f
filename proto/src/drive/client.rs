//! The client: one request at a time.

use core::convert::Infallible;
use core::ops::ControlFlow;
use core::time::Duration;

use super::DriveError;
#[cfg(feature = "embedded-io-async")]
use super::line::{Async, Timer};
use super::line::{Blocking, Line, Patience, ready};
use crate::body::Payload;
use crate::client::{ClientEvent, ClientSession};
use crate::command::{Command, Request};
use crate::error::ErrorCode;
use crate::time::Instant;

/// The session of a client that makes one request at a time.
pub type Session<const BUF: usize> = ClientSession<BUF, 1>;

/// Bytes of framing that are moved at once.
const PIECE: usize = 64;

/// A client over a blocking stream.
///
/// `BUF` is that of [`ClientSession`]. Beside it, it needs no memory: payload goes between the stream and the caller's
/// buffers.
///
/// ```
/// # use embedded_io::{Read, Write};
/// use skiff_proto::client::ClientEvent;
/// use skiff_proto::command::{Command, Request, VERSION};
/// use skiff_proto::drive::{Client, DriveError};
/// use skiff_proto::{Instant, Name};
///
/// /// Stores `bytes` under `name`, going on where the last attempt was interrupted.
/// fn store<T: Read + Write, C: FnMut() -> Instant>(
///     client: &mut Client<T, C, 300>,
///     name: Name<'_>,
///     bytes: &[u8],
/// ) -> Result<bool, DriveError<T::Error>> {
///     let size = bytes.len() as u64;
///     if !matches!(client.request(&Command::Hello { version: VERSION })?, ClientEvent::Hello(Some(_))) {
///         return Ok(false); // a classic server
///     }
///     let (offset, crc) = match client.request(&Command::Request(Request::Resume { size, name }))? {
///         ClientEvent::Resume { offset, crc: Some(crc) } => (offset, crc),
///         _ => return Ok(false), // it would not take the file
///     };
///     // `offset` is at most `size`. What is staged may be of another file.
///     let mut at = usize::try_from(offset).unwrap_or(0);
///     if skiff_proto::crc::crc32c(&bytes[..at]) != crc {
///         at = 0;
///     }
///     client.send(&Command::Request(Request::Write { offset: at as u64, size, mtime: None, name }))?;
///     if at > 0 {
///         client.session().continue_crc(crc)?;
///     }
///     for piece in bytes[at..].chunks(1024) {
///         client.write(piece)?;
///     }
///     Ok(matches!(client.finish()?, ClientEvent::Stored { .. }))
/// }
/// ```
#[derive(Debug)]
pub struct Client<T, C, const BUF: usize>(Core<Blocking<T, C>, BUF>);

impl<T: embedded_io::Read + embedded_io::Write, C: FnMut() -> Instant, const BUF: usize> Client<T, C, BUF> {
    /// A client at the beginning of a connection. A server that owes a reply and makes no progress for `idle` is given up,
    /// as far as the stream lets `clock` be looked at (see [`drive`](super)).
    #[must_use]
    pub const fn new(stream: T, idle: Duration, clock: C) -> Self {
        Self(Core::new(Blocking { stream, clock }, idle))
    }

    /// The session: what kind of server this is, checksums that are known beforehand.
    pub const fn session(&mut self) -> &mut Session<BUF> {
        &mut self.0.session
    }

    /// Sends a command and waits for its reply. Behind [`ClientEvent::Read`], [`ClientEvent::List`] and
    /// [`ClientEvent::Ls`] follow payload, taken with [`Client::read`], and then one more event, [`Client::reply`].
    ///
    /// # Errors
    /// [`DriveError::InvalidState`] before the event at the end of the last body, and for commands that go another way:
    /// `write` and `quit` with [`Client::send`]. An extended command to a server that has not answered the hello
    /// may get no reply at all.
    pub fn request(&mut self, command: &Command<'_>) -> Result<ClientEvent<'_>, DriveError<T::Error>> {
        ready(self.0.request(command))
    }

    /// Sends a command without waiting for the reply: `quit`, which has none, or a `write`, whose body has to follow at once
    /// with [`Client::write`] and [`Client::finish`].
    ///
    /// # Errors
    /// [`DriveError::InvalidState`] as for [`ClientSession::request`].
    pub fn send(&mut self, command: &Command<'_>) -> Result<(), DriveError<T::Error>> {
        ready(self.0.send(command))
    }

    /// Waits for the next event. What has not been read of a body is thrown away, but it counts for the checksum.
    ///
    /// # Errors
    /// [`DriveError::InvalidState`] if no reply is owed or the body of a `write` has not been ended.
    pub fn reply(&mut self) -> Result<ClientEvent<'_>, DriveError<T::Error>> {
        ready(self.0.reply())
    }

    /// Reads payload of a `read`, `list` or `ls` into `buffer`; says how many bytes. 0 at its end: [`Client::reply`] then says
    /// whether it is what the server has.
    ///
    /// # Errors
    /// [`DriveError::InvalidState`] if no reply is owed or `buffer` is empty.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DriveError<T::Error>> {
        ready(self.0.read(buffer))
    }

    /// Sends `bytes` as one data message of the body of a `write`: each costs ten bytes more, so they should not be few.
    ///
    /// # Errors
    /// [`DriveError::InvalidState`] if no body is being sent or that is more than was announced.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), DriveError<T::Error>> {
        ready(self.0.write(bytes))
    }

    /// Ends the body of a `write` and waits for the reply: [`ClientEvent::Stored`] if all is well.
    ///
    /// # Errors
    /// [`DriveError::InvalidState`] if no body is being sent or bytes are missing.
    pub fn finish(&mut self) -> Result<ClientEvent<'_>, DriveError<T::Error>> {
        ready(self.0.finish())
    }

    /// Gives up the body of a `write` and waits for the reply, which is a refusal.
    ///
    /// # Errors
    /// [`DriveError::InvalidState`] if no body is being sent.
    pub fn abort(&mut self, code: ErrorCode) -> Result<ClientEvent<'_>, DriveError<T::Error>> {
        ready(self.0.abort(code))
    }
}

/// [`Client`] over an async stream: the same calls.
///
/// A call that is dropped before its end leaves the connection in the middle of something: it is of no further use then.
#[cfg(feature = "embedded-io-async")]
#[derive(Debug)]
pub struct AsyncClient<T, C, const BUF: usize>(Core<Async<T, C>, BUF>);

#[cfg(feature = "embedded-io-async")]
impl<T: embedded_io_async::Read + embedded_io_async::Write, C: Timer, const BUF: usize> AsyncClient<T, C, BUF> {
    /// A client at the beginning of a connection. A server that owes a reply and makes no progress for `idle` is given up.
    #[must_use]
    pub const fn new(stream: T, idle: Duration, timer: C) -> Self {
        Self(Core::new(Async { stream, timer }, idle))
    }

    /// The session: what kind of server this is, checksums that are known beforehand.
    pub const fn session(&mut self) -> &mut Session<BUF> {
        &mut self.0.session
    }

    /// As [`Client::request`].
    ///
    /// # Errors
    /// As there.
    pub async fn request(&mut self, command: &Command<'_>) -> Result<ClientEvent<'_>, DriveError<T::Error>> {
        self.0.request(command).await
    }

    /// As [`Client::send`].
    ///
    /// # Errors
    /// As there.
    pub async fn send(&mut self, command: &Command<'_>) -> Result<(), DriveError<T::Error>> {
        self.0.send(command).await
    }

    /// As [`Client::reply`].
    ///
    /// # Errors
    /// As there.
    pub async fn reply(&mut self) -> Result<ClientEvent<'_>, DriveError<T::Error>> {
        self.0.reply().await
    }

    /// As [`Client::read`].
    ///
    /// # Errors
    /// As there.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DriveError<T::Error>> {
        self.0.read(buffer).await
    }

    /// As [`Client::write`].
    ///
    /// # Errors
    /// As there.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), DriveError<T::Error>> {
        self.0.write(bytes).await
    }

    /// As [`Client::finish`].
    ///
    /// # Errors
    /// As there.
    pub async fn finish(&mut self) -> Result<ClientEvent<'_>, DriveError<T::Error>> {
        self.0.finish().await
    }

    /// As [`Client::abort`].
    ///
    /// # Errors
    /// As there.
    pub async fn abort(&mut self, code: ErrorCode) -> Result<ClientEvent<'_>, DriveError<T::Error>> {
        self.0.abort(code).await
    }
}

/// What both clients are.
#[derive(Debug)]
struct Core<L, const BUF: usize> {
    line: L,
    session: Session<BUF>,
}

impl<L: Line, const BUF: usize> Core<L, BUF> {
    const fn new(line: L, idle: Duration) -> Self {
        Self { line, session: ClientSession::new(idle) }
    }

    async fn send(&mut self, command: &Command<'_>) -> Result<(), DriveError<L::Error>> {
        self.session.handle_timeout(self.line.now());
        self.session.request(command)?;
        self.transmit().await?;
        // The body follows at once.
        if self.session.is_sending() { Ok(()) } else { self.flush().await }
    }

    async fn request(&mut self, command: &Command<'_>) -> Result<ClientEvent<'_>, DriveError<L::Error>> {
        if matches!(command, Command::Quit | Command::Request(Request::Write { .. })) {
            return Err(DriveError::InvalidState);
        }
        self.send(command).await?;
        self.reply().await
    }

    async fn reply(&mut self) -> Result<ClientEvent<'_>, DriveError<L::Error>> {
        if self.session.is_sending() || self.session.owed() == 0 {
            return Err(DriveError::InvalidState);
        }
        let mut rest = [0; PIECE];
        while self.read(&mut rest).await? > 0 {}
        match self.session.poll_event() {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(DriveError::InvalidState),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes framing in until payload or an event is there; then, payload. 0 if there is none.
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DriveError<L::Error>> {
        if self.session.is_sending() || self.session.owed() == 0 || buffer.is_empty() {
            return Err(DriveError::InvalidState);
        }
        let mut piece = [0; PIECE];
        loop {
            self.session.handle_timeout(self.line.now());
            if let Some(payload) = self.session.payload_in() {
                let n = payload.clamp(buffer.len());
                let n = self.receive(&mut buffer[..n]).await?;
                self.session.receive(&mut buffer[..n])?;
                return Ok(n);
            }
            let n = self.session.want_read().min(PIECE);
            if n == 0 {
                return Ok(0);
            }
            let n = self.receive(&mut piece[..n]).await?;
            if self.session.receive(&mut piece[..n])?.taken < n {
                // It asked for no more than it takes.
                return Err(DriveError::InvalidState);
            }
        }
    }

    /// At least one byte.
    async fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, DriveError<L::Error>> {
        let n = self.line.read(buffer, watch(&mut self.session)).await.map_err(DriveError::Stream)?;
        match n.ok_or(DriveError::Timeout)? {
            0 => {
                self.session.handle_eof()?;
                Err(DriveError::Closed)
            }
            n => Ok(n.min(buffer.len())),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), DriveError<L::Error>> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.session.handle_timeout(self.line.now());
        if self.session.left().is_none_or(|left| left < bytes.len() as u64) {
            return Err(DriveError::InvalidState);
        }
        self.session.set_data_max(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.transmit().await?;
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Some(mut opaque) = self.session.opaque() {
                let now = rest.split_off(..Payload { remaining: opaque.remaining() }.clamp(rest.len()));
                let now = now.unwrap_or_default();
                opaque.sum(now);
                opaque.advance(now.len() as u64)?;
                self.write_all(now).await?;
                continue;
            }
            let mut piece = [0; PIECE];
            let sent = self.session.send(&mut piece, |room| {
                let now = rest.split_off(..rest.len().min(room.len())).unwrap_or_default();
                room[..now.len()].copy_from_slice(now);
                Ok::<_, Infallible>(now.len())
            });
            self.write_all(&piece[..sent.map_err(|_| DriveError::InvalidState)?]).await?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<ClientEvent<'_>, DriveError<L::Error>> {
        self.session.finish()?;
        self.transmit().await?;
        self.flush().await?;
        self.reply().await
    }

    async fn abort(&mut self, code: ErrorCode) -> Result<ClientEvent<'_>, DriveError<L::Error>> {
        self.session.abort(code)?;
        self.transmit().await?;
        self.flush().await?;
        self.reply().await
    }

    /// Sends what the session has queued.
    async fn transmit(&mut self) -> Result<(), DriveError<L::Error>> {
        let mut piece = [0; PIECE];
        loop {
            let n = self.session.poll_transmit(&mut piece);
            if n == 0 {
                return Ok(());
            }
            self.write_all(&piece[..n]).await?;
        }
    }

    async fn write_all(&mut self, bytes: &[u8]) -> Result<(), DriveError<L::Error>> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = self.line.write(rest, watch(&mut self.session)).await.map_err(DriveError::Stream)?;
            match n.ok_or(DriveError::Timeout)? {
                0 => return Err(DriveError::Closed),
                n => rest = &rest[n.min(rest.len())..],
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), DriveError<L::Error>> {
        let flushed = self.line.flush(watch(&mut self.session)).await.map_err(DriveError::Stream)?;
        flushed.ok_or(DriveError::Timeout)
    }
}

fn watch<const BUF: usize>(session: &mut Session<BUF>) -> impl FnMut(Instant) -> Patience {
    |now| {
        if session.handle_timeout(now) { ControlFlow::Break(()) } else { ControlFlow::Continue(session.poll_timeout()) }
    }
}
