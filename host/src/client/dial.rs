//! From a host name to a TCP connection: RFC 8305.

use core::future::poll_fn;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::pin::Pin;
use core::task::Poll;
use core::time::Duration;
use std::io;
use std::net::ToSocketAddrs as _;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::cancel::CancelToken;
use super::error::Error;

/// The addresses of a host. IP addresses and `localhost` (RFC 6761) need no resolver, which costs a thread.
pub(super) async fn resolve(
    host: &str,
    port: u16,
    address: &str,
    cancel: &CancelToken,
) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![(ip, port).into()]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![(Ipv6Addr::LOCALHOST, port).into(), (Ipv4Addr::LOCALHOST, port).into()]);
    }
    tokio::select! {
        () = cancel.cancelled() => Err(Error::Cancelled),
        found = look_up(host, port) => match found {
            Ok(found) => Ok(found),
            Err(source) => Err(Error::Connect { address: address.to_owned(), source: Arc::new(source) }),
        },
    }
}

/// Asks the system's resolver; for a name that ends in `.local`, also asks by mDNS, since not every system does.
async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let asked = (host.to_owned(), port);
    let system = on_thread("resolve", move || asked.to_socket_addrs().map(Iterator::collect));
    #[cfg(feature = "mdns")]
    if crate::discovery::is_local(host) {
        let name = host.to_owned();
        let network = on_thread("mdns", move || crate::discovery::resolve(&name, port));
        let (mut system, mut network) = (core::pin::pin!(system), core::pin::pin!(network));
        return tokio::select! {
            found = &mut system => if found.is_ok() { found } else { network.await },
            found = &mut network => match found {
                Ok(found) => Ok(found),
                Err(error) => system.await.map_err(|_| error),
            },
        };
    }
    system.await
}

/// Runs `work`, which may block forever, on a dedicated thread.
///
/// # Errors
/// Those of `work`, or the thread can't be started. (tokio's `spawn_blocking` would panic in that case.)
pub(crate) async fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, done) = oneshot::channel();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || _ = sender.send(work()))?;
    done.await.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

/// Delay before the next address is tried in parallel (RFC 8305 §8, Connection Attempt Delay).
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to the first of several addresses that answers (RFC 8305), so that a dead one does not delay the others.
/// The error is that of the last address; `None`: cancelled.
pub(super) async fn connect_any(
    peers: &[SocketAddr],
    limit: Duration,
    cancel: &CancelToken,
) -> Result<(SocketAddr, TcpStream), Option<io::Error>> {
    let mut waiting = interleaved(peers).into_iter();
    let mut attempts = Vec::with_capacity(1);
    let mut last = io::ErrorKind::NotFound.into();
    loop {
        if let Some(peer) = waiting.next() {
            attempts.push(Box::pin(async move { (peer, connect(peer, limit, cancel).await) }));
        }
        if attempts.is_empty() {
            return Err(Some(last));
        }
        let ended = tokio::select! {
            biased;
            ended = first(&mut attempts) => ended,
            () = sleep_until(Instant::now() + STAGGER), if waiting.len() > 0 => continue,
        };
        match ended {
            (peer, Ok(stream)) => return Ok((peer, stream)),
            (_, Err(None)) => return Err(None),
            // "Connection refused" says more than "unreachable".
            (_, Err(Some(_))) if last.kind() == io::ErrorKind::ConnectionRefused => {}
            (_, Err(Some(error))) => last = error,
        }
    }
}

/// The addresses in the system's order, with the families interleaved (RFC 8305 §4).
fn interleaved(peers: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut seen = [0; 2];
    let rank = |peer: &SocketAddr| {
        let count = &mut seen[usize::from(peer.is_ipv4())];
        *count += 1;
        (*count, *peer)
    };
    let mut ranked: Vec<(u32, SocketAddr)> = peers.iter().map(rank).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, peer)| peer).collect()
}

/// Polls several futures, removes the first one that is done, and returns its result.
async fn first<F: Future + Unpin>(futures: &mut Vec<F>) -> F::Output {
    poll_fn(|cx| {
        for at in 0..futures.len() {
            if let Poll::Ready(output) = Pin::new(&mut futures[at]).poll(cx) {
                drop(futures.remove(at));
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
}

/// The error of a connection that failed before the first reply. If the server closed it, the text says that the
/// server may have no free session: that is how a full server behaves.
pub(super) fn closed_early(error: io::Error) -> io::Error {
    match error.kind() {
        kind @ (io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe) => {
            io::Error::new(kind, "closed by the server before its first reply; it may have no free session")
        }
        _ => error,
    }
}

/// Connects to one address. `None`: cancelled.
pub(super) async fn connect(
    peer: SocketAddr,
    limit: Duration,
    cancel: &CancelToken,
) -> Result<TcpStream, Option<io::Error>> {
    let stream = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(None),
        stream = timeout(limit, TcpStream::connect(peer)) => stream,
    };
    let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}
