//! Connections of the station, as streams of `embedded-io-async`, and the clock of its clients.

use core::fmt;
use core::future::poll_fn;
use core::task::Poll;
use std::rc::Rc;

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use skiff_proto::store::Store;
use skiff_proto::{Instant, drive};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{RecvError, Socket, State};

use super::Shared;

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

/// A connection to the device. Dropping it resets it.
pub struct Stream<S: Store + 'static> {
    world: Shared<S>,
    handle: SocketHandle,
}

impl<S: Store + 'static> Stream<S> {
    /// Connects to one of the device's ports.
    ///
    /// # Errors
    /// Nobody listens there, or nobody answers.
    pub async fn connect(world: &Shared<S>, port: u16) -> Result<Self, Lost> {
        let handle = world.borrow_mut().station.connect(port);
        let stream = Self { world: world.clone(), handle };
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

    fn with<T>(&self, f: impl FnOnce(&mut Socket<'static>) -> T) -> T {
        f(self.world.borrow_mut().station.sockets.get_mut(self.handle))
    }

    /// Ends the sending side.
    pub fn finish(&self) {
        self.with(Socket::close);
    }

    /// Waits until the other side has everything that was written.
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
}

impl<S: Store + 'static> Drop for Stream<S> {
    fn drop(&mut self) {
        let mut world = self.world.borrow_mut();
        world.station.reset(self.handle);
    }
}

impl<S: Store + 'static> ErrorType for Stream<S> {
    type Error = Lost;
}

impl<S: Store + 'static> Read for Stream<S> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Lost> {
        poll_fn(|_| {
            self.with(|socket| match socket.recv_slice(buffer) {
                Ok(0) if !buffer.is_empty() => Poll::Pending,
                Ok(n) => Poll::Ready(Ok(n)),
                Err(RecvError::Finished) => Poll::Ready(Ok(0)),
                Err(RecvError::InvalidState) => Poll::Ready(Err(Lost)),
            })
        })
        .await
    }
}

impl<S: Store + 'static> Write for Stream<S> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Lost> {
        poll_fn(|_| {
            self.with(|socket| match socket.send_slice(bytes) {
                Ok(0) if !bytes.is_empty() => Poll::Pending,
                Ok(n) => Poll::Ready(Ok(n)),
                Err(_) => Poll::Ready(Err(Lost)),
            })
        })
        .await
    }

    async fn flush(&mut self) -> Result<(), Lost> {
        Ok(())
    }
}

/// The world's clock, as a client has it.
pub struct Timer<S: Store + 'static>(Shared<S>);

impl<S: Store + 'static> Timer<S> {
    /// Of this world.
    #[must_use]
    pub fn new(world: &Shared<S>) -> Self {
        Self(Rc::clone(world))
    }
}

impl<S: Store + 'static> drive::Timer for Timer<S> {
    fn now(&mut self) -> Instant {
        self.0.borrow().now
    }

    async fn wait_until(&mut self, at: Instant) {
        poll_fn(|_| {
            let mut world = self.0.borrow_mut();
            if world.now >= at {
                return Poll::Ready(());
            }
            world.alarm = world.alarm.into_iter().chain([at]).min();
            Poll::Pending
        })
        .await;
    }
}
