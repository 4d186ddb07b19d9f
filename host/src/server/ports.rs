//! The ports of classic data connections: who has one, who waits for one (PROTOCOL §3).

use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::listen::listen;
use super::options::PortRange;

/// How long a `get` or `put` waits for a port.
const WAIT: Duration = Duration::from_secs(30);

/// How long a port stays open for its client.
const UNCLAIMED: Duration = Duration::from_secs(30);

/// The same, while somebody waits for one.
const UNCLAIMED_IN_DEMAND: Duration = Duration::from_secs(5);

/// Connections that may wait on a data port: its owner's, and strangers'.
const BACKLOG: i32 = 4;

/// How often ports are tried that another program has.
const RETRY: Duration = Duration::from_millis(250);

/// Data connections at a time where the ports are not limited.
const MOST: usize = 512;

/// The ports of a server's data connections.
#[derive(Debug)]
pub(super) struct Ports(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    range: Option<PortRange>,
    taken: AtomicUsize,
    waiting: AtomicUsize,
    /// Told when a port becomes free, and when somebody begins to wait.
    changed: Notify,
}

impl Pool {
    /// Listens on the first port that nobody has.
    fn bind(&self, ip: IpAddr) -> io::Result<Option<TcpListener>> {
        let Some(range) = self.range else { return listen(SocketAddr::new(ip, 0), true, BACKLOG).map(Some) };
        for port in range.iter() {
            match listen(SocketAddr::new(ip, port), true, BACKLOG) {
                Ok(listener) => return Ok(Some(listener)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// A port that waits for its one connection. Dropping it gives the port back.
#[derive(Debug)]
pub(super) struct Claim {
    listener: TcpListener,
    announced: Instant,
    lease: Lease,
}

/// A data connection's share in the ports, from the claim to its end.
#[derive(Debug)]
pub(super) struct Lease(Arc<Pool>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_waiters();
    }
}

impl Ports {
    pub(super) fn new(range: Option<PortRange>) -> Self {
        Self(Arc::new(Pool { range, taken: AtomicUsize::new(0), waiting: AtomicUsize::new(0), changed: Notify::new() }))
    }

    /// A port on `ip`; `Ok(None)` if all are in use.
    pub(super) fn claim(&self, ip: IpAddr) -> io::Result<Option<Claim>> {
        let pool = &self.0;
        let most = pool.range.map_or(MOST, |range| range.iter().count());
        let bound = if pool.taken.fetch_add(1, Ordering::Relaxed) < most { pool.bind(ip) } else { Ok(None) };
        if let Ok(Some(listener)) = bound {
            return Ok(Some(Claim { listener, announced: Instant::now(), lease: Lease(Arc::clone(pool)) }));
        }
        // Without telling anybody, as a lease would: whoever waits tries again at once, and would tell us.
        pool.taken.fetch_sub(1, Ordering::Relaxed);
        bound.map(|_| None)
    }

    /// A port on `ip` as soon as there is one; `Ok(None)` if none becomes free in time.
    pub(super) async fn wait(&self, ip: IpAddr) -> io::Result<Option<Claim>> {
        let pool = &self.0;
        let until = Instant::now() + WAIT;
        pool.waiting.fetch_add(1, Ordering::Relaxed);
        pool.changed.notify_waiters();
        let claim = loop {
            let changed = pool.changed.notified();
            match self.claim(ip) {
                Ok(None) => {}
                claim => break claim,
            }
            // What other programs do with the ports, nobody tells us.
            let retry = Instant::now() + RETRY;
            if timeout_at(until.min(retry), changed).await.is_err() && Instant::now() >= until {
                break Ok(None);
            }
        };
        pool.waiting.fetch_sub(1, Ordering::Relaxed);
        claim
    }
}

impl Claim {
    /// The port, to be announced.
    pub(super) fn port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Waits for the connection of `owner`. Others are reset, and the owner still gets through. `None` if it does not
    /// come in time.
    pub(super) async fn accept(self, owner: IpAddr) -> io::Result<Option<(tokio::net::TcpStream, Lease)>> {
        let Self { listener, announced, lease } = self;
        loop {
            let changed = lease.0.changed.notified();
            let patience = if lease.0.waiting.load(Ordering::Relaxed) > 0 { UNCLAIMED_IN_DEMAND } else { UNCLAIMED };
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, peer) = accepted?;
                    if peer.ip().to_canonical() == owner.to_canonical() {
                        return Ok(Some((stream, lease)));
                    }
                    tracing::warn!(%peer, "reset: this data connection is another client's");
                    super::reset(&stream);
                }
                () = changed => {}
                () = tokio::time::sleep_until(announced + patience) => return Ok(None),
            }
        }
    }
}
