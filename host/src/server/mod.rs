//! The server of a directory: what `host-serv` runs.
//!
//! | module | what is in it |
//! |---|---|
//! | [`options`] | how it is set up |
//! | `listen` | addresses, and the sockets that listen on them |
//! | `connection` | one control connection: the loop round its session |
//! | `input`, `output` | moving payload between the socket and the store |
//! | `audit` | logs each change with its outcome |
//! | `batch` | several changes made durable together |
//! | `work` | what must not be done on the spot, since it waits for the disk |
//! | `pool` | the threads for that work |
//! | `ports`, `data` | classic data connections |
//! | `names` | what a classic `ls` shows |
//!
//! A control connection is one task. It waits for its socket without holding a buffer; when bytes come, it moves
//! them through its session, the store and back out until the socket would block. Whatever waits for the disk to be
//! durable, or reads a file from end to end, runs on threads of the server's own meanwhile, so that no client waits for
//! another's disk. So does everything that concerns a file system mounted beneath the root: if that hangs, only those
//! who use it wait.

mod audit;
mod batch;
mod connection;
mod data;
mod input;
mod listen;
mod names;
pub mod options;
mod output;
mod pool;
mod ports;
mod work;

use core::net::SocketAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io;
use std::sync::Arc;

use skiff_proto::Instant;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tracing::{debug, info, warn};

use crate::address::canonical;
use crate::store::DirStore;

pub use options::{BindError, Options, PortRange};

/// How a server is doing: what [`Server::run`] goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It accepts and serves.
    Serving,
    /// Connections end as soon as nothing is under way.
    Closing,
}

/// What all connections of a server share.
#[derive(Debug)]
struct Shared {
    options: Options,
    store: DirStore,
    pool: pool::Pool,
    ports: ports::Ports,
    phase: watch::Sender<Phase>,
    start: std::time::Instant,
    control: AtomicUsize,
    /// Control and data connections, in all.
    tasks: AtomicUsize,
    /// Told whenever a task ends.
    ended: Notify,
}

impl Shared {
    /// The time, as sessions count it.
    fn now(&self) -> Instant {
        self.time(std::time::Instant::now())
    }

    /// A moment, as sessions count them.
    fn time(&self, at: std::time::Instant) -> Instant {
        let since = at.saturating_duration_since(self.start).as_millis();
        Instant::from_millis(u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1))
    }

    /// The moment of a session's clock on tokio's.
    fn deadline(&self, at: Instant) -> tokio::time::Instant {
        let after_start = Duration::from_millis(at.as_millis().min(u64::from(u32::MAX) * 1000));
        tokio::time::Instant::from_std(self.start + after_start)
    }
}

/// Counts a task as long as it lives.
#[derive(Debug)]
struct Running(Arc<Shared>);

impl Running {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.tasks.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.tasks.fetch_sub(1, Ordering::Relaxed);
        self.0.ended.notify_waiters();
    }
}

/// A server that is bound to its addresses.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    listeners: Vec<TcpListener>,
}

impl Server {
    /// Binds the addresses of `options` and serves `store` from there once [`Server::run`] is polled.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`] names the address that can't be had.
    pub fn bind(options: Options, store: DirStore) -> Result<Self, BindError> {
        let listeners = listen::bind(&options)?;
        let shared = Shared {
            ports: ports::Ports::new(options.data_ports),
            options,
            store,
            pool: pool::Pool::new(),
            phase: watch::Sender::new(Phase::Serving),
            start: std::time::Instant::now(),
            control: AtomicUsize::new(0),
            tasks: AtomicUsize::new(0),
            ended: Notify::new(),
        };
        Ok(Self { shared: Arc::new(shared), listeners })
    }

    /// The addresses it listens on.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// The port it listens on, the same on all addresses.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.local_addrs().first().map_or(0, SocketAddr::port)
    }

    /// Serves until `shutdown` is ready; then stops accepting and gives what is under way the grace period of the
    /// options. Returns how many connections had to be cut off.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> usize {
        let Self { shared, listeners } = self;
        let accepting: Vec<_> =
            listeners.into_iter().map(|listener| tokio::spawn(accept(Arc::clone(&shared), listener))).collect();
        shutdown.await;
        for task in accepting {
            task.abort();
        }
        info!(connections = shared.tasks.load(Ordering::Relaxed), "closing");
        shared.phase.send_replace(Phase::Closing);
        let drained = async {
            loop {
                let ended = shared.ended.notified();
                if shared.tasks.load(Ordering::Relaxed) == 0 {
                    return;
                }
                ended.await;
            }
        };
        _ = tokio::time::timeout(shared.options.grace, drained).await;
        shared.tasks.load(Ordering::Relaxed)
    }
}

/// Accepts control connections for ever.
async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => admit(&shared, stream, canonical(peer)),
            // Out of descriptors or memory: what is open goes on, and accepting resumes when there is room again.
            Err(error) => {
                warn!(%error, "can't accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Starts a connection's task, unless there are too many.
fn admit(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr) {
    if shared.control.fetch_add(1, Ordering::Relaxed) >= shared.options.max_clients {
        shared.control.fetch_sub(1, Ordering::Relaxed);
        warn!(%peer, max = shared.options.max_clients, "refused: too many clients");
        return;
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let running = Running::new(&shared);
        debug!(%peer, "connected");
        match connection::Link::new(&shared, stream, peer) {
            Ok(link) => Box::new(link).serve().await,
            Err(error) => debug!(%peer, %error, "gone before it began"),
        }
        shared.control.fetch_sub(1, Ordering::Relaxed);
        drop(running);
    });
}

/// Makes the socket end with a reset: the peer must not take what it has got for the whole.
fn reset(stream: &TcpStream) {
    if let Err(error) = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        debug!(%error, "set_linger");
    }
}

/// Takes [`reset`] back: the socket ends in order.
fn end_in_order(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_linger(None)
}

/// True for the errors that mean "later".
fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
