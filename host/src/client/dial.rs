//! Connects to a host (Happy Eyeballs, RFC 8305).

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
use crate::address::DEFAULT_PORT;

/// The addresses of a host, and one address of each other host with the same name.
pub(super) type Found = (Vec<SocketAddr>, Vec<SocketAddr>);

/// Finds a host. IP addresses and `localhost` (RFC 6761) need no resolver, which costs a thread. Without a
/// port, a name that ends in `.local` has the port that it announces, and everything else the default.
pub(super) async fn resolve(
    host: &str,
    port: Option<u16>,
    address: &str,
    cancel: &CancelToken,
) -> Result<Found, Error> {
    let known = port.unwrap_or(DEFAULT_PORT);
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok((vec![(ip, known).into()], Vec::new()));
    }
    if host.eq_ignore_ascii_case("localhost") {
        let addresses = vec![(Ipv6Addr::LOCALHOST, known).into(), (Ipv4Addr::LOCALHOST, known).into()];
        return Ok((addresses, Vec::new()));
    }
    tokio::select! {
        () = cancel.cancelled() => Err(Error::Cancelled),
        found = look_up(host, port) => match found {
            Ok(found) => Ok(found),
            Err(source) => Err(Error::Connect { address: address.to_owned(), source: Arc::new(source) }),
        },
    }
}

/// How long to wait for the announcement of a host that the system's resolver has found.
#[cfg(feature = "mdns")]
const ANNOUNCED: Duration = Duration::from_millis(1500);

/// Asks the system's resolver. For a name that ends in `.local`, also asks by mDNS, because not every system does that,
/// and none reports a port.
async fn look_up(host: &str, port: Option<u16>) -> io::Result<Found> {
    let asked = (host.to_owned(), port.unwrap_or(DEFAULT_PORT));
    let lookup = move || match asked.to_socket_addrs() {
        Ok(found) => Ok((found.collect(), Vec::new())),
        // The kind of error that a failed mDNS lookup has, too.
        Err(error) => Err(io::Error::new(io::ErrorKind::NotFound, error.to_string())),
    };
    let system = on_thread("resolve", lookup);
    #[cfg(feature = "mdns")]
    if crate::discovery::is_local(host) {
        let name = host.to_owned();
        let network = on_thread("mdns", move || {
            crate::discovery::resolve(&name, port).map(|found| (found.addresses, found.namesakes))
        });
        let (mut system, mut network) = (core::pin::pin!(system), core::pin::pin!(network));
        return tokio::select! {
            found = &mut system => match (found, port) {
                (Ok(found), Some(_)) => Ok(found),
                (Ok(found), None) => Ok(timeout(ANNOUNCED, network).await.ok().and_then(Result::ok).unwrap_or(found)),
                (Err(_), _) => network.await,
            },
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
