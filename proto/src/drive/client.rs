//! The client: one request at a time.

use core::convert::Infallible;
use core::fmt;
use core::ops::{ControlFlow, Range};
use core::time::Duration;

use super::DriveError;
#[cfg(feature = "embedded-io-async")]
use super::stream::{Async, Timer};
use super::stream::{Blocking, TimedStream, Wait, ready};
use crate::body::Payload;
use crate::cipher::{Cipher, Plain};
use crate::client::{ClientEvent, ClientSession};
use crate::command::{Command, Request};
use crate::error::{ErrorCode, ProtocolError};
use crate::message::Records as _;
use crate::time::Instant;

/// The session of a client that makes one request at a time.
pub type Session<const BUF: usize, P = Plain> = ClientSession<BUF, 1, P>;

/// Bytes of framing that are moved at once.
const PIECE: usize = 64;

/// A client over a blocking stream.
///
/// `BUF` is that of [`ClientSession`]. On a plain connection the client needs no further memory: payload moves directly
/// between the stream and the caller's buffers.
///
/// A protected connection (PROTOCOL §8) needs a cipher `P` and a buffer for one record: `RECORD` bytes, at least the
/// server's `record-max`. Call [`ClientSession::protect`] on [`Client::session`] before the first request, which must
/// be [`Command::Hello`]. This request also performs the handshake.
///
/// ```
/// # use embedded_io::{Read, Write};
/// use skiff_proto::client::ClientEvent;
/// use skiff_proto::command::{Command, Request, VERSION};
/// use skiff_proto::drive::{Client, DriveError};
/// use skiff_proto::{Instant, Name};
///
/// /// Stores `bytes` under `name`, and resumes an earlier attempt that was interrupted.
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
///         _ => return Ok(false), // the server refuses the file
///     };
///     // `offset` is at most `size`. The staged bytes may belong to another file.
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
pub struct Client<T, C, const BUF: usize, P: Cipher = Plain, const RECORD: usize = 0>(
    Core<Blocking<T, C>, BUF, P, RECORD>,
);

impl<T, C, const BUF: usize, P, const RECORD: usize> Client<T, C, BUF, P, RECORD>
where
    T: embedded_io::Read + embedded_io::Write,
    C: FnMut() -> Instant,
    P: Cipher,
{
    /// A client at the beginning of a connection. Calls fail with [`DriveError::Timeout`] if a reply is outstanding and
    /// the server makes no progress for `idle`, provided that the stream returns often enough to check `clock` (see
    /// [`drive`](super)).
    #[must_use]
    pub const fn new(stream: T, idle: Duration, clock: C) -> Self {
        Self(Core::new(Blocking { stream, clock }, idle))
    }

    /// The session: what kind of server this is, checksums that are known beforehand.
    pub const fn session(&mut self) -> &mut Session<BUF, P> {
        &mut self.0.session
    }

    /// Sends a command and waits for its reply. After [`ClientEvent::Read`], [`ClientEvent::List`] or
    /// [`ClientEvent::Ls`], take the payload with [`Client::read`] and then one more event with [`Client::reply`].
    ///
    /// # Errors
    /// [`DriveError::InvalidState`] before the event at the end of the last body; for `write` and `quit`, which need
    /// [`Client::send`]; on a protected connection also if `RECORD` is less than the server's `record-max`. Before the
    /// server has answered the hello, an extended command may get no reply at all.
    pub fn request(&mut self, command: &Command<'_>) -> Result<ClientEvent<'_>, DriveError<T::Error>> {
        ready(self.0.request(command))
    }

    /// Sends a command without waiting for the reply: `quit`, which has none, or a `write`, whose body must follow at
    /// once with [`Client::write`] and [`Client::finish`].
    ///
    /// # Errors
    /// [`DriveError::InvalidState`] as for [`ClientSession::request`], and as for [`Client::request`] if `RECORD` is
    /// too small.
    pub fn send(&mut self, command: &Command<'_>) -> Result<(), DriveError<T::Error>> {
        ready(self.0.send(command))
    }

    /// Waits for the next event. Any unread part of a body is discarded, but counts for the checksum.
    ///
    /// # Errors
    /// [`DriveError::InvalidState`] if no reply is outstanding or the body of a `write` has not been finished.
    pub fn reply(&mut self) -> Result<ClientEvent<'_>, DriveError<T::Error>> {
        ready(self.0.reply())
    }

    /// Reads payload of a `read`, `list` or `ls` into `buffer` and returns the number of bytes. 0 at its end: the event
    /// of [`Client::reply`] then says whether the payload is correct.
    ///
    /// # Errors
    /// [`DriveError::InvalidState`] if no reply is outstanding or `buffer` is empty.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DriveError<T::Error>> {
        ready(self.0.read(buffer))
    }

    /// Sends `bytes` as one data message of the body of a `write`; on a protected connection as one or more. Each
    /// message costs ten bytes (26 if protected), so avoid short ones.
    ///
    /// # Errors
    /// [`DriveError::InvalidState`] if no body is being sent, or if `bytes` exceeds the announced length.
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

    /// Aborts the body of a `write` and waits for the reply, which is a refusal.
    ///
    /// # Errors
    /// [`DriveError::InvalidState`] if no body is being sent.
    pub fn abort(&mut self, code: ErrorCode) -> Result<ClientEvent<'_>, DriveError<T::Error>> {
        ready(self.0.abort(code))
    }
}

/// [`Client`] over an async stream: the same calls.
///
/// If the future of a call is dropped before it is ready, the connection is unusable.
#[cfg(feature = "embedded-io-async")]
#[derive(Debug)]
pub struct AsyncClient<T, C, const BUF: usize, P: Cipher = Plain, const RECORD: usize = 0>(
    Core<Async<T, C>, BUF, P, RECORD>,
);

#[cfg(feature = "embedded-io-async")]
impl<T, C, const BUF: usize, P, const RECORD: usize> AsyncClient<T, C, BUF, P, RECORD>
where
    T: embedded_io_async::Read + embedded_io_async::Write,
    C: Timer,
    P: Cipher,
{
    /// A client at the beginning of a connection. Calls fail with [`DriveError::Timeout`] if a reply is outstanding and
    /// the server makes no progress for `idle`.
    #[must_use]
    pub const fn new(stream: T, idle: Duration, timer: C) -> Self {
        Self(Core::new(Async { stream, timer }, idle))
    }

    /// The session: what kind of server this is, checksums that are known beforehand.
    pub const fn session(&mut self) -> &mut Session<BUF, P> {
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

/// The code of both clients.
struct Core<S, const BUF: usize, P: Cipher, const RECORD: usize> {
    stream: S,
    session: Session<BUF, P>,
    /// One record of a protected connection: incoming, or outgoing while a body is being sent.
    record: [u8; RECORD],
    /// The part of `record` with verified payload that has not been read yet.
    payload: Range<usize>,
}

impl<S, const BUF: usize, P: Cipher, const RECORD: usize> fmt::Debug for Core<S, BUF, P, RECORD> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("peer", &self.session.peer()).finish_non_exhaustive()
    }
}

impl<S: TimedStream, const BUF: usize, P: Cipher, const RECORD: usize> Core<S, BUF, P, RECORD> {
    const fn new(stream: S, idle: Duration) -> Self {
        Self { stream, session: ClientSession::new(idle), record: [0; RECORD], payload: 0..0 }
    }

    /// The longest record of the connection; 0 if it is plain.
    fn record_max(&self) -> usize {
        self.session.handshake().filter(|handshake| handshake.is_active()).map_or(0, |handshake| handshake.record_max())
    }

    async fn send(&mut self, command: &Command<'_>) -> Result<(), DriveError<S::Error>> {
        if self.record_max() > RECORD {
            return Err(DriveError::InvalidState);
        }
        self.session.handle_timeout(self.stream.now());
        self.session.request(command)?;
        self.transmit().await?;
        // The body follows at once.
        if self.session.is_sending() { Ok(()) } else { self.flush().await }
    }

    async fn request(&mut self, command: &Command<'_>) -> Result<ClientEvent<'_>, DriveError<S::Error>> {
        if matches!(command, Command::Quit | Command::Request(Request::Write { .. })) {
            return Err(DriveError::InvalidState);
        }
        self.send(command).await?;
        self.reply().await
    }

    async fn reply(&mut self) -> Result<ClientEvent<'_>, DriveError<S::Error>> {
        if self.session.is_sending() || self.session.owed() == 0 {
            return Err(DriveError::InvalidState);
        }
        let mut discarded = [0; PIECE];
        while self.read(&mut discarded).await? > 0 {}
        match self.session.poll_event() {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(DriveError::InvalidState),
            Err(error) => Err(error.into()),
        }
    }

    /// Receives until there is payload or an event, and copies payload to `buffer`. 0 if there is none.
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DriveError<S::Error>> {
        if self.session.is_sending() || self.session.owed() == 0 || buffer.is_empty() {
            return Err(DriveError::InvalidState);
        }
        let mut piece = [0; PIECE];
        loop {
            self.session.handle_timeout(self.stream.now());
            if let Some(payload) = self.session.payload_in() {
                let n = payload.clamp(buffer.len());
                let n = receive(&mut self.stream, &mut self.session, &mut buffer[..n]).await?;
                self.session.receive(&mut buffer[..n])?;
                return Ok(n);
            }
            if !self.payload.is_empty() {
                let n = self.payload.len().min(buffer.len());
                buffer[..n].copy_from_slice(&self.record[self.payload.start..][..n]);
                self.payload.start += n;
                return Ok(n);
            }
            // The second command of a handshake.
            if self.session.has_output() {
                self.transmit().await?;
                self.flush().await?;
            }
            let wanted = self.session.want_read();
            if wanted == 0 {
                return Ok(0);
            }
            if self.record_max() > 0 {
                self.receive_record(wanted).await?;
                continue;
            }
            let n = wanted.min(PIECE);
            let n = receive(&mut self.stream, &mut self.session, &mut piece[..n]).await?;
            if self.session.receive(&mut piece[..n])?.taken < n {
                // It asked for no more than it takes.
                return Err(DriveError::InvalidState);
            }
        }
    }

    /// Receives the `wanted` bytes of a record, or of its length.
    async fn receive_record(&mut self, wanted: usize) -> Result<(), DriveError<S::Error>> {
        let record = self.record.get_mut(..wanted).ok_or(ProtocolError::Forged)?;
        let mut len = 0;
        while len < wanted {
            len += receive(&mut self.stream, &mut self.session, &mut record[len..]).await?;
        }
        let received = self.session.receive(record)?;
        self.payload = received.at..received.at + received.payload.len();
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), DriveError<S::Error>> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.session.handle_timeout(self.stream.now());
        if self.session.left().is_none_or(|left| left < bytes.len() as u64) {
            return Err(DriveError::InvalidState);
        }
        self.session.set_data_max(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.transmit().await?;
        let is_protected = self.record_max() > 0;
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Some(mut opaque) = self.session.opaque() {
                let now = rest.split_off(..Payload { remaining: opaque.remaining() }.clamp(rest.len()));
                let now = now.unwrap_or_default();
                opaque.sum(now);
                opaque.advance(now.len() as u64)?;
                write_all(&mut self.stream, &mut self.session, now).await?;
                continue;
            }
            let mut piece = [0; PIECE];
            let room = if is_protected { &mut self.record[..] } else { &mut piece[..] };
            let sent = self.session.send(room, |room| {
                let now = rest.split_off(..rest.len().min(room.len())).unwrap_or_default();
                room[..now.len()].copy_from_slice(now);
                Ok::<_, Infallible>(now.len())
            });
            let sent = sent.map_err(|_| DriveError::InvalidState)?;
            write_all(&mut self.stream, &mut self.session, &room[..sent]).await?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<ClientEvent<'_>, DriveError<S::Error>> {
        self.session.finish()?;
        self.transmit().await?;
        self.flush().await?;
        self.reply().await
    }

    async fn abort(&mut self, code: ErrorCode) -> Result<ClientEvent<'_>, DriveError<S::Error>> {
        self.session.abort(code)?;
        self.transmit().await?;
        self.flush().await?;
        self.reply().await
    }

    /// Sends what the session has queued.
    async fn transmit(&mut self) -> Result<(), DriveError<S::Error>> {
        let mut piece = [0; PIECE];
        loop {
            let n = self.session.poll_transmit(&mut piece);
            if n == 0 {
                return Ok(());
            }
            write_all(&mut self.stream, &mut self.session, &piece[..n]).await?;
        }
    }

    async fn flush(&mut self) -> Result<(), DriveError<S::Error>> {
        let flushed = self.stream.flush(watch(&mut self.session)).await.map_err(DriveError::Stream)?;
        flushed.ok_or(DriveError::Timeout)
    }
}

/// Receives at least one byte.
async fn receive<S: TimedStream, const BUF: usize, P: Cipher>(
    stream: &mut S,
    session: &mut Session<BUF, P>,
    buffer: &mut [u8],
) -> Result<usize, DriveError<S::Error>> {
    let n = stream.read(buffer, watch(session)).await.map_err(DriveError::Stream)?;
    match n.ok_or(DriveError::Timeout)? {
        0 => {
            session.handle_eof()?;
            Err(DriveError::Closed)
        }
        n => Ok(n.min(buffer.len())),
    }
}

async fn write_all<S: TimedStream, const BUF: usize, P: Cipher>(
    stream: &mut S,
    session: &mut Session<BUF, P>,
    bytes: &[u8],
) -> Result<(), DriveError<S::Error>> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let n = stream.write(rest, watch(session)).await.map_err(DriveError::Stream)?;
        match n.ok_or(DriveError::Timeout)? {
            0 => return Err(DriveError::Closed),
            n => rest = &rest[n.min(rest.len())..],
        }
    }
    Ok(())
}

fn watch<const BUF: usize, P: Cipher>(session: &mut Session<BUF, P>) -> impl FnMut(Instant) -> Wait {
    |now| {
        if session.handle_timeout(now) { ControlFlow::Break(()) } else { ControlFlow::Continue(session.poll_timeout()) }
    }
}
