//! The ports of classic data connections: their owners, and the clients that wait for one (PROTOCOL §3).

use core::hash::BuildHasher as _;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::hash::RandomState;
use std::io;
use std::sync::{Arc, OnceLock};

use skiff_proto::transfer::{PORT_WAIT, port_lifetime};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::listen::listen;
use super::options::PortRange;
use super::socket;
use crate::address::canonical;

/// Connections that may wait on a data port: those of its owner and of others.
const BACKLOG: i32 = 4;

/// How often to retry ports that another program is using.
const RETRY: Duration = Duration::from_millis(250);

/// Number of random ports to try before the system chooses one.
const GUESSES: u32 = 16;

/// Maximum number of data connections if the ports are not limited.
const MOST: usize = 512;

/// The ports of a server's data connections.
#[derive(Debug)]
pub(super) struct Ports(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    range: Option<PortRange>,
    /// The ports that the system chooses from, once that is known.
    any: OnceLock<(u16, u16)>,
    /// The randomness that makes the chosen port hard to predict.
    chance: RandomState,
    guesses: AtomicUsize,
    taken: AtomicUsize,
    waiting: AtomicUsize,
    /// Notified when a port becomes free, and when a transfer begins to wait.
    changed: Notify,
}

impl Pool {
    /// Listens on the first port that is not in use.
    fn bind(&self, at: SocketAddr) -> io::Result<Option<TcpListener>> {
        let Some(range) = self.range else { return self.bind_any(at).map(Some) };
        for port in range.iter() {
            match listen(with_port(at, port), true, BACKLOG) {
                Ok(listener) => return Ok(Some(listener)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

impl Pool {
    /// Listens on some port.
    ///
    /// It tries a few random ports first, and lets the system choose only if none of them is free: the system searches
    /// all connections in TIME-WAIT (a minute for each transfer), which takes 90% of the server's time after a few
    /// thousand transfers.
    fn bind_any(&self, at: SocketAddr) -> io::Result<TcpListener> {
        let (low, high) = *self.any.get_or_init(|| local_ports().unwrap_or((49152, 65535)));
        for _ in 0..GUESSES {
            let chance = self.chance.hash_one(self.guesses.fetch_add(1, Ordering::Relaxed));
            let span = u64::from(high - low) + 1;
            let port = low + u16::try_from(chance % span).unwrap_or(0);
            match listen(with_port(at, port), true, BACKLOG) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                result => return result,
            }
        }
        listen(with_port(at, 0), true, BACKLOG)
    }
}

/// The canonical form of an address, with another port.
fn with_port(addr: SocketAddr, port: u16) -> SocketAddr {
    let mut addr = canonical(addr);
    addr.set_port(port);
    addr
}

/// The lowest and the highest port that the system chooses from; `None` if it does not report them.
fn local_ports() -> Option<(u16, u16)> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut words = text.split_ascii_whitespace().map(str::parse);
    let (low, high) = (words.next()?.ok()?, words.next()?.ok()?);
    (0 < low && low <= high).then_some((low, high))
}

/// A port that is waiting for its one connection. Dropping it releases the port.
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
        Self(Arc::new(Pool {
            range,
            any: OnceLock::new(),
            chance: RandomState::new(),
            guesses: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            changed: Notify::new(),
        }))
    }

    /// A port at the address `at`, whose own port is ignored; `Ok(None)` if all are in use.
    pub(super) fn claim(&self, at: SocketAddr) -> io::Result<Option<Claim>> {
        let pool = &self.0;
        let most = pool.range.map_or(MOST, |range| range.iter().count());
        let bound = if pool.taken.fetch_add(1, Ordering::Relaxed) < most { pool.bind(at) } else { Ok(None) };
        if let Ok(Some(listener)) = bound {
            return Ok(Some(Claim { listener, announced: Instant::now(), lease: Lease(Arc::clone(pool)) }));
        }
        // Without a notification, which a lease would send: the waiting client tries again at once anyway.
        pool.taken.fetch_sub(1, Ordering::Relaxed);
        bound.map(|_| None)
    }

    /// The same, but waits until a port is free; `Ok(None)` if none becomes free in time.
    pub(super) async fn wait(&self, at: SocketAddr) -> io::Result<Option<Claim>> {
        let pool = &self.0;
        let until = Instant::now() + PORT_WAIT;
        let _waiting = Waiting::new(pool);
        pool.changed.notify_waiters();
        loop {
            let changed = pool.changed.notified();
            match self.claim(at) {
                Ok(None) => {}
                claim => return claim,
            }
            // Nothing notifies us when another program frees a port.
            let retry = Instant::now() + RETRY;
            if timeout_at(until.min(retry), changed).await.is_err() && Instant::now() >= until {
                return Ok(None);
            }
        }
    }
}

/// A client that is waiting for a port; it stops waiting when this is dropped.
struct Waiting<'a>(&'a Pool);

impl<'a> Waiting<'a> {
    fn new(pool: &'a Pool) -> Self {
        pool.waiting.fetch_add(1, Ordering::Relaxed);
        Self(pool)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Claim {
    /// The port, to be announced.
    pub(super) fn port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Waits for the connection of `owner`. Connections from others are reset, and the owner can still connect. `None`
    /// if it does not connect in time.
    pub(super) async fn accept(self, owner: SocketAddr) -> io::Result<Option<(tokio::net::TcpStream, Lease)>> {
        let Self { listener, announced, lease } = self;
        loop {
            let changed = lease.0.changed.notified();
            let lifetime = port_lifetime(lease.0.waiting.load(Ordering::Relaxed) > 0);
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, peer) = accepted?;
                    if with_port(peer, 0) == with_port(owner, 0) {
                        return Ok(Some((stream, lease)));
                    }
                    tracing::warn!(%peer, "data connection reset: this port is reserved for another client");
                    socket::reset(&stream);
                }
                () = changed => {}
                () = tokio::time::sleep_until(announced + lifetime) => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn ports_by_chance_are_the_systems_and_differ() {
        let (low, high) = local_ports().unwrap_or((1, u16::MAX));
        let ports = Ports::new(None);
        let at = (Ipv4Addr::LOCALHOST, 50_000).into();
        let claims: Vec<_> = (0..100).map(|_| ports.claim(at).unwrap().unwrap()).collect();
        let mut seen: Vec<_> = claims.iter().map(|claim| claim.port().unwrap()).collect();
        assert!(seen.iter().all(|port| (low..=high).contains(port)), "{seen:?}");
        assert!(!seen.is_sorted(), "{seen:?}");
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 100);
    }
}
