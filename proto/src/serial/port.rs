//! The server's end of a serial line as a stream of `embedded-io`.

use core::fmt;

use embedded_io::ErrorKind;

use super::frame::FRAME_MAX;
use super::link::{Link, State};
use crate::drive::ready;
use crate::server::Close;
use crate::time::Instant;

/// Bytes that are read from the port at once.
const PIECE: usize = 64;

/// Maximum number of consecutive errors of the port that count as lost bytes.
const ERRORS: u8 = 16;

/// Why a call to a [`Server`] failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SerialError<E> {
    /// The port failed.
    Port(E),
    /// The port delivers or accepts no more bytes.
    Closed,
    /// The session has ended: the client has closed it or opened another one.
    Lost,
    /// The line has delivered something, but nothing for the caller: the call can be repeated.
    Nothing,
}

impl<E: fmt::Display> fmt::Display for SerialError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(error) => error.fmt(f),
            Self::Closed => f.write_str("the port is closed"),
            Self::Lost => f.write_str("the session on the serial line has ended"),
            Self::Nothing => f.write_str("nothing has come"),
        }
    }
}

impl<E: core::error::Error> core::error::Error for SerialError<E> {}

impl<E: embedded_io::Error> embedded_io::Error for SerialError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Port(error) => error.kind(),
            Self::Closed => ErrorKind::NotConnected,
            Self::Lost => ErrorKind::ConnectionReset,
            Self::Nothing => ErrorKind::Interrupted,
        }
    }
}

/// The server's end of a serial line: a stream for [`drive`](crate::drive), one session after the other.
///
/// `T` is the port: of `embedded-io` for [`drive::serve`](crate::drive::serve), of `embedded-io-async` for
/// `drive::serve_async`. For `RX` and `TX` see [`Link`]. While the store works, nothing is read from the port: it
/// should keep `RX` bytes and a quarter more in a buffer of its own, as the buffered UARTs of most HALs do. Otherwise
/// bytes are lost and sent again.
///
/// It needs no clock. A blocking port may wait forever for the next byte, since the client requests lost bytes again.
/// But [`Limits::idle`](crate::server::Limits::idle) can end the session of a dead client only if the port returns from
/// time to time, with an error of the kind `TimedOut`. A new client replaces the session in any case.
///
/// An error of the port counts as lost bytes (UARTs report framing errors and overruns in this way), unless 16 occur in
/// a row.
#[derive(Debug)]
pub struct Server<T, const RX: usize, const TX: usize> {
    port: T,
    link: Link<RX, TX>,
    /// Consecutive errors of the port.
    errors: u8,
}

impl<T, const RX: usize, const TX: usize> Server<T, RX, TX> {
    /// Takes the port; reads and writes nothing yet.
    #[must_use]
    pub const fn new(port: T) -> Self {
        Self { port, link: Link::new(), errors: 0 }
    }

    /// The port, for text between frames such as a log.
    pub const fn port(&mut self) -> &mut T {
        &mut self.port
    }

    /// Ends the session. After [`Close::Gracefully`] the next `accept` sends what was written, and repeats it if
    /// necessary.
    pub fn close(&mut self, how: Close) {
        match how {
            Close::Gracefully => self.link.end(),
            Close::Reset => self.link.abort(),
        }
    }
}

impl<T: embedded_io::Read + embedded_io::Write, const RX: usize, const TX: usize> Server<T, RX, TX> {
    /// Waits for a client that opens a session.
    ///
    /// # Errors
    /// [`SerialError::Port`] and [`SerialError::Closed`]. The call can be repeated.
    pub fn accept(&mut self) -> Result<(), SerialError<T::Error>> {
        ready(self.halves(Blocking).accept())
    }
}

#[cfg(feature = "embedded-io-async")]
impl<T: embedded_io_async::Read + embedded_io_async::Write, const RX: usize, const TX: usize> Server<T, RX, TX> {
    /// [`Server::accept`] over an async port.
    ///
    /// # Errors
    /// As there.
    pub async fn accept_async(&mut self) -> Result<(), SerialError<T::Error>> {
        self.halves(Async).accept().await
    }
}

impl<T: embedded_io::ErrorType, const RX: usize, const TX: usize> embedded_io::ErrorType for Server<T, RX, TX> {
    type Error = SerialError<T::Error>;
}

impl<T: embedded_io::Read + embedded_io::Write, const RX: usize, const TX: usize> embedded_io::Read
    for Server<T, RX, TX>
{
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        match ready(self.halves(Blocking).read(buffer))? {
            // The caller may have other things to check.
            None => Err(SerialError::Nothing),
            Some(n) => Ok(n),
        }
    }
}

impl<T: embedded_io::Read + embedded_io::Write, const RX: usize, const TX: usize> embedded_io::Write
    for Server<T, RX, TX>
{
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        ready(self.halves(Blocking).write(bytes))?.ok_or(SerialError::Nothing)
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        ready(self.halves(Blocking).flush())?.ok_or(SerialError::Nothing)
    }
}

#[cfg(feature = "embedded-io-async")]
impl<T: embedded_io_async::Read + embedded_io_async::Write, const RX: usize, const TX: usize> embedded_io_async::Read
    for Server<T, RX, TX>
{
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        loop {
            if let Some(n) = self.halves(Async).read(buffer).await? {
                return Ok(n);
            }
        }
    }
}

#[cfg(feature = "embedded-io-async")]
impl<T: embedded_io_async::Read + embedded_io_async::Write, const RX: usize, const TX: usize> embedded_io_async::Write
    for Server<T, RX, TX>
{
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        loop {
            if let Some(n) = self.halves(Async).write(bytes).await? {
                return Ok(n);
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        while self.halves(Async).flush().await?.is_none() {}
        Ok(())
    }
}

/// A blocking or an async port.
trait Port {
    type Error: embedded_io::Error;

    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error>;
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error>;
    async fn flush(&mut self) -> Result<(), Self::Error>;
}

struct Blocking<'a, T>(&'a mut T);

impl<T: embedded_io::Read + embedded_io::Write> Port for Blocking<'_, T> {
    type Error = T::Error;

    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        self.0.read(buffer)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        self.0.write(bytes)
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        self.0.flush()
    }
}

#[cfg(feature = "embedded-io-async")]
struct Async<'a, T>(&'a mut T);

#[cfg(feature = "embedded-io-async")]
impl<T: embedded_io_async::Read + embedded_io_async::Write> Port for Async<'_, T> {
    type Error = T::Error;

    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        self.0.read(buffer).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        self.0.write(bytes).await
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        self.0.flush().await
    }
}

impl<T, const RX: usize, const TX: usize> Server<T, RX, TX> {
    fn halves<'a, P>(&'a mut self, port: impl Fn(&'a mut T) -> P) -> Halves<'a, P, RX, TX> {
        Halves { port: port(&mut self.port), link: &mut self.link, errors: &mut self.errors }
    }
}

/// A [`Server`] with a port of a known kind. Its calls return `None` if they have waited and must be repeated.
struct Halves<'a, P, const RX: usize, const TX: usize> {
    port: P,
    link: &'a mut Link<RX, TX>,
    errors: &'a mut u8,
}

impl<P: Port, const RX: usize, const TX: usize> Halves<'_, P, RX, TX> {
    async fn accept(&mut self) -> Result<(), SerialError<P::Error>> {
        loop {
            let accepted = self.link.accept();
            self.transmit().await?;
            if accepted {
                return Ok(());
            }
            match self.receive().await {
                Err(SerialError::Port(error)) if is_timeout(&error) => {}
                received => received?,
            }
        }
    }

    async fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, SerialError<P::Error>> {
        for waited in [false, true] {
            let n = self.link.read(buffer);
            self.transmit().await?;
            match self.link.state() {
                _ if n > 0 || buffer.is_empty() => return Ok(Some(n)),
                State::Ended => return Ok(Some(0)),
                _ => self.check()?,
            }
            if !waited {
                self.receive().await?;
            }
        }
        Ok(None)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<Option<usize>, SerialError<P::Error>> {
        self.check()?;
        let n = self.link.write(bytes);
        self.transmit().await?;
        if n == 0 && !bytes.is_empty() {
            // The other end must acknowledge something first.
            self.receive().await?;
            return Ok(None);
        }
        Ok(Some(n))
    }

    async fn flush(&mut self) -> Result<Option<()>, SerialError<P::Error>> {
        self.check()?;
        self.link.flush();
        self.transmit().await?;
        if self.link.is_sent() {
            return Ok(Some(()));
        }
        self.receive().await?;
        Ok(None)
    }

    /// Checks that the session is open.
    const fn check(&self) -> Result<(), SerialError<P::Error>> {
        match self.link.state() {
            State::Open if !self.link.is_called() => Ok(()),
            _ => Err(SerialError::Lost),
        }
    }

    /// Sends all frames that can be sent.
    async fn transmit(&mut self) -> Result<(), SerialError<P::Error>> {
        let mut frame = [0; FRAME_MAX];
        let mut sent = false;
        loop {
            let n = self.link.poll_transmit(&mut frame);
            let mut rest = &frame[..n];
            if rest.is_empty() {
                break;
            }
            sent = true;
            while !rest.is_empty() {
                match self.port.write(rest).await {
                    Ok(0) => return Err(SerialError::Closed),
                    Ok(n) => rest = &rest[n.min(rest.len())..],
                    Err(error) if is_timeout(&error) => {}
                    Err(error) => return Err(SerialError::Port(error)),
                }
            }
        }
        if sent { self.port.flush().await.map_err(SerialError::Port) } else { Ok(()) }
    }

    /// Waits for bytes from the line.
    async fn receive(&mut self) -> Result<(), SerialError<P::Error>> {
        let mut piece = [0; PIECE];
        match self.port.read(&mut piece).await {
            Ok(0) => return Err(SerialError::Closed),
            Ok(n) => {
                *self.errors = 0;
                self.link.handle_input(&piece[..n.min(PIECE)], Instant::ZERO);
            }
            Err(error) if is_timeout(&error) || *self.errors >= ERRORS => return Err(SerialError::Port(error)),
            Err(_) => *self.errors += 1,
        }
        Ok(())
    }
}

fn is_timeout(error: &impl embedded_io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Interrupted)
}
