//! The transport of a connection: TCP or a serial line.

use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;

use socket2::SockRef;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

#[cfg(all(feature = "serial", unix))]
use super::serial::SerialStream;
#[cfg(all(feature = "serial", unix))]
use crate::address::SerialPort;

/// Where the server is.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    /// At this address.
    Network(SocketAddr),
    /// At the other end of this line.
    #[cfg(all(feature = "serial", unix))]
    Serial(SerialPort),
}

/// A stream to the server.
pub(super) enum Line {
    Tcp(TcpStream),
    #[cfg(all(feature = "serial", unix))]
    Serial(Box<SerialStream>),
}

impl Line {
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            #[cfg(all(feature = "serial", unix))]
            Self::Serial(stream) => stream.poll_read(cx, buffer),
        }
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(all(feature = "serial", unix))]
            Self::Serial(stream) => stream.poll_write(cx, bytes),
        }
    }

    /// Ready once everything written is on its way and will arrive even if the stream is dropped.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tcp(_) => {
                _ = cx;
                Poll::Ready(())
            }
            #[cfg(all(feature = "serial", unix))]
            Self::Serial(stream) => stream.poll_flush(cx),
        }
    }

    /// True if the server has closed an idle connection, or has sent something unrequested.
    pub(super) fn is_stale(&mut self) -> bool {
        match self {
            Self::Tcp(stream) => {
                let peeked = SockRef::from(&*stream).peek(&mut [core::mem::MaybeUninit::uninit()]);
                !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
            #[cfg(all(feature = "serial", unix))]
            Self::Serial(stream) => stream.is_stale(),
        }
    }

    /// Limits how many unread bytes are buffered.
    pub(super) fn limit_input(&self, bytes: usize) {
        match self {
            Self::Tcp(stream) => _ = SockRef::from(stream).set_recv_buffer_size(bytes),
            // Its window is small anyway.
            #[cfg(all(feature = "serial", unix))]
            Self::Serial(_) => {}
        }
    }

    /// From now on, closing discards unsent bytes.
    pub(super) fn reset(&self) {
        match self {
            Self::Tcp(stream) => _ = SockRef::from(stream).set_linger(Some(Duration::ZERO)),
            // A serial line always does.
            #[cfg(all(feature = "serial", unix))]
            Self::Serial(_) => {}
        }
    }
}
