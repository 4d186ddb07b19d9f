//! Socket operations other than reading and writing.

use core::future::poll_fn;
use core::task::Poll;
use core::time::Duration;
use std::io;

use skiff_proto::server::{LINGER_BYTES, LINGER_TIME};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tracing::debug;

/// TCP keep-alive for a peer that has closed its side: the time in seconds before and between probes, and their number.
const ASK: (u64, u32) = (5, 3);

/// Waits until `stream` can be read from or written to, as requested. It needs no memory while it waits, because a
/// stream has one waiter for each direction.
pub(super) async fn ready(stream: &TcpStream, reads: bool, writes: bool) -> io::Result<()> {
    poll_fn(|context| {
        let write = if writes { stream.poll_write_ready(context) } else { Poll::Pending };
        if write.is_ready() || !reads { write } else { stream.poll_read_ready(context) }
    })
    .await
}

/// Shuts down the sending side, then discards further input (PROTOCOL §1).
pub(super) async fn linger(stream: &TcpStream) {
    if socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write).is_err() {
        return;
    }
    let discard = async {
        let mut discarded = 0;
        while discarded < LINGER_BYTES && ready(stream, true, false).await.is_ok() {
            match discard(stream) {
                Ok(0) => return,
                Ok(n) => discarded += n,
                Err(error) if would_block(&error) => {}
                Err(_) => return,
            }
        }
    };
    _ = tokio::time::timeout(LINGER_TIME, discard).await;
}

/// Reads and discards some input. A separate function, so that the task does not keep the buffer while it waits.
fn discard(stream: &TcpStream) -> io::Result<usize> {
    stream.try_read(&mut [0; 1024])
}

/// Waits until the peer is gone, which is an error, or, unless that is already `known`, until it has closed its side.
/// Unread input does not matter.
pub(super) async fn gone(stream: &TcpStream, known: bool) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    let interest = if known { Interest::ERROR } else { Interest::ERROR.add(Interest::PRIORITY) };
    #[cfg(not(target_os = "linux"))]
    let interest = {
        _ = known;
        Interest::ERROR
    };
    let ready = stream.ready(interest).await?;
    if ready.is_error() || ready.is_write_closed() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
}

/// Turns on TCP keep-alive. A peer that has closed its side and waits for the answer acknowledges the probes. If the
/// peer is gone, its system forgets the connection after a minute (FIN-WAIT-2) and answers a probe with a reset.
pub(super) fn keep_asking(stream: &TcpStream) {
    let (seconds, times) = ASK;
    let every = Duration::from_secs(seconds);
    let asked = socket2::TcpKeepalive::new().with_time(every).with_interval(every).with_retries(times);
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_keepalive(&asked) {
        debug!(%error, "keepalive");
    }
}

/// Makes the socket end with a reset, so that the peer does not take an incomplete transfer for complete.
pub(super) fn reset(stream: &TcpStream) {
    if let Err(error) = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        debug!(%error, "set_linger");
    }
}

/// Undoes [`reset`] and ends the stream.
pub(super) fn end_in_order(stream: &TcpStream) -> io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    socket.set_linger(None)?;
    match socket.shutdown(std::net::Shutdown::Write) {
        // The peer has everything, and has closed the connection.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        result => result,
    }
}

/// True for the errors that mean "later".
pub(super) fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
