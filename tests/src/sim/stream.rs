//! Connections of the stations, as streams of `embedded-io-async`, and the clock of their clients.

use core::fmt;
use core::future::poll_fn;
use core::task::Poll;
use std::rc::Rc;

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use skiff_proto::{Instant, drive};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{RecvError, Socket, State};

use super::Shared;
use super::hub::Station;

/// The connection is lost, or was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost;

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is lost")
    }
}

impl core::error::Error for Lost {}

impl embedded_io_async::Error for Lost {
    fn kind(&self) -> ErrorKind {
        ErrorKind::ConnectionReset
    }
}

/// A station's end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes of each of its two socket buffers.
    pub ring: usize,
    /// TCP keep-alive after this many seconds of silence.
    pub keep_alive: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { ring: 16 * 1024, keep_alive: None }
    }
}

/// A connection to the device. Dropping it resets it.
pub struct Stream {
    world: Shared,
    station: usize,
    /// The station's life when the connection was made.
    life: u64,
    handle: SocketHandle,
    closed: bool,
}

impl Stream {
    /// Connects from the first station to one of the device's ports.
    ///
    /// # Errors
    /// Nobody listens there, or nobody answers.
    pub async fn connect(world: &Shared, port: u16) -> Result<Self, Lost> {
        Self::connect_from(world, 0, port, Options::default()).await
    }

    /// Connects from a station.
    ///
    /// # Errors
    /// As [`Stream::connect`].
    pub async fn connect_from(world: &Shared, station: usize, port: u16, options: Options) -> Result<Self, Lost> {
        let (handle, life) = {
            let mut world = world.borrow_mut();
            world.stirred = true;
            let station = &mut world.hub.stations[station];
            (station.connect(port, options), station.life)
        };
        let stream = Self { world: world.clone(), station, life, handle, closed: false };
        poll_fn(|_| {
            stream.with(|socket| match socket.state() {
                State::SynSent | State::SynReceived => Poll::Pending,
                State::Closed => Poll::Ready(Err(Lost)),
                _ => Poll::Ready(Ok(())),
            })
        })
        .await?;
        Ok(stream)
    }

    fn station<T>(&self, f: impl FnOnce(&mut Station) -> T) -> Option<T> {
        let mut world = self.world.borrow_mut();
        world.stirred = true;
        let station = &mut world.hub.stations[self.station];
        (station.life == self.life).then(|| f(station))
    }

    /// Calls `f` with the socket; if there is no socket any more, the connection is lost.
    fn with<T>(&self, f: impl FnOnce(&mut Socket<'static>) -> Poll<Result<T, Lost>>) -> Poll<Result<T, Lost>> {
        let mut world = self.world.borrow_mut();
        let station = &mut world.hub.stations[self.station];
        if station.life != self.life {
            return Poll::Ready(Err(Lost));
        }
        let polled = f(station.sockets.get_mut(self.handle));
        world.stirred |= polled.is_ready();
        polled
    }

    /// Ends the sending side.
    pub fn finish(&self) {
        _ = self.with(|socket| {
            socket.close();
            Poll::Ready(Ok(()))
        });
    }

    /// Leaves the connection to the station, which ends it after everything has been sent.
    pub fn close(mut self) {
        self.closed = true;
        self.station(|station| station.close(self.handle));
    }

    /// Waits until the other side has received everything that was written.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn drain(&self) -> Result<(), Lost> {
        poll_fn(|_| {
            self.with(|socket| match socket.state() {
                State::Closed => Poll::Ready(Err(Lost)),
                _ if socket.send_queue() == 0 => Poll::Ready(Ok(())),
                _ => Poll::Pending,
            })
        })
        .await
    }

    /// Reads received bytes; 0 at the end.
    pub fn poll_read(&self, buffer: &mut [u8]) -> Poll<Result<usize, Lost>> {
        self.with(|socket| match socket.recv_slice(buffer) {
            Ok(0) if !buffer.is_empty() => Poll::Pending,
            Ok(n) => Poll::Ready(Ok(n)),
            Err(RecvError::Finished) => Poll::Ready(Ok(0)),
            Err(RecvError::InvalidState) => Poll::Ready(Err(Lost)),
        })
    }

    /// Writes some of `bytes`.
    pub fn poll_write(&self, bytes: &[u8]) -> Poll<Result<usize, Lost>> {
        self.with(|socket| match socket.send_slice(bytes) {
            Ok(0) if !bytes.is_empty() => Poll::Pending,
            Ok(n) => Poll::Ready(Ok(n)),
            Err(_) => Poll::Ready(Err(Lost)),
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.closed {
            self.station(|station| station.reset(self.handle));
        }
    }
}

impl ErrorType for Stream {
    type Error = Lost;
}

impl Read for Stream {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Lost> {
        poll_fn(|_| self.poll_read(buffer)).await
    }
}

impl Write for Stream {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Lost> {
        poll_fn(|_| self.poll_write(bytes)).await
    }

    async fn flush(&mut self) -> Result<(), Lost> {
        Ok(())
    }
}

/// The world's clock, for a client.
pub struct Timer(Shared);

impl Timer {
    /// The timer of this world.
    #[must_use]
    pub fn new(world: &Shared) -> Self {
        Self(Rc::clone(world))
    }
}

impl drive::Timer for Timer {
    fn now(&mut self) -> Instant {
        self.0.borrow().now
    }

    async fn wait_until(&mut self, at: Instant) {
        poll_fn(|_| {
            let mut world = self.0.borrow_mut();
            if world.now >= at {
                return Poll::Ready(());
            }
            world.wake_at(at);
            Poll::Pending
        })
        .await;
    }
}
