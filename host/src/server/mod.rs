//! The server for a directory, which `host-serv` runs.
//!
//! | module | content |
//! |---|---|
//! | [`options`] | options of a server |
//! | `connection` | one control connection: the loop around its session and its [`Responder`] |
//! | `input`, `output` | bytes from and to the socket |
//! | `backend` | what the server needs from a store, one for all connections and one for each |
//! | `polled` | the store of one connection to a directory: a [`Store`] that answers "not yet" while the disk works |
//! | `batch` | several changes made durable together |
//! | `work` | blocking work that waits for the disk |
//! | [`Security`], `who`, `strangers` | who may connect, who is connected, and who has not shown a key yet |
//! | `pool` | the threads for that work |
//! | `audit` | logs each change with its outcome |
//! | `classic`, `ports`, `data` | classic data connections |
//! | `shared`, `scratch` | the state that all connections share; memory for one step |
//! | `listen`, `socket` | listening sockets; socket options |
//! | `metrics` | counters for Prometheus, and an answer for health checks |
//!
//! [`Responder`]: skiff_proto::responder::Responder
//! [`Store`]: skiff_proto::store::Store
//!
//! A control connection is one task. It waits for its socket without holding a buffer; when bytes arrive, it moves them
//! through its session and the store and sends the replies, until the socket would block. Work that waits for the disk,
//! or reads a whole file, runs on the server's own threads, so that no client waits for another's disk access. The same
//! holds for everything that touches a file system mounted below the root: if that hangs, only the clients that use it
//! wait.

pub(crate) mod audit;
pub(crate) mod backend;
mod batch;
mod classic;
mod connection;
mod data;
mod exporter;
mod input;
mod listen;
mod metrics;
pub mod options;
mod output;
mod polled;
pub(crate) mod pool;
mod ports;
mod scratch;
mod security;
mod shared;
mod socket;
mod strangers;
pub(crate) mod who;
pub(crate) mod work;

use core::net::SocketAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tracing::{debug, info, warn};

use crate::address::canonical;
use crate::store::DirStore;

pub use backend::{Backend, Session};
pub use options::{BindError, Options, PortRange};
pub use polled::PolledStore;
pub use security::Security;
use shared::{Phase, Running, Shared};

/// How long the store may take, after the last connection has ended, to save what was uploaded.
const DRAIN: Duration = Duration::from_secs(5);

/// A server that is bound to its addresses.
#[derive(Debug)]
pub struct Server<B = DirStore> {
    shared: Arc<Shared<B>>,
    listeners: Vec<TcpListener>,
    metrics: Option<TcpListener>,
}

impl<B: Backend> Server<B> {
    /// Binds the addresses of `options`; serves `store` there once [`Server::run`] is polled.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`] with the address that can't be bound.
    pub fn bind(options: Options, store: B) -> Result<Self, BindError> {
        let listeners = listen::bind(&options)?;
        let metrics = options
            .metrics
            .map(|addr| listen::listen(addr, true, 16).map_err(|source| BindError { addr: addr.to_string(), source }));
        let metrics = metrics.transpose()?;
        let shared = Shared {
            ports: ports::Ports::new(options.data_ports),
            metrics: metrics::Metrics::default(),
            options,
            store,
            pool: Arc::new(pool::Pool::new()),
            phase: watch::Sender::new(Phase::Serving),
            start: std::time::Instant::now(),
            control: AtomicUsize::new(0),
            strangers: Arc::default(),
            tasks: AtomicUsize::new(0),
            ended: Notify::new(),
        };
        Ok(Self { shared: Arc::new(shared), listeners, metrics })
    }

    /// The addresses that it listens on.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// The address of the metrics, if there is one.
    #[must_use]
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }

    /// True if it serves only clients with a key.
    #[must_use]
    pub fn wants_key(&self) -> bool {
        self.shared.options.security.wants_key()
    }

    /// The port that it listens on, the same on all addresses.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.local_addrs().first().map_or(0, SocketAddr::port)
    }

    /// Serves until `shutdown` is ready. Then stops accepting and gives running transfers the grace period of the
    /// options. Returns how many connections it had to break.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> usize {
        let Self { shared, listeners, metrics } = self;
        let metrics = metrics.map(|listener| tokio::spawn(exporter::serve(Arc::clone(&shared), listener)));
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
        _ = tokio::time::timeout(DRAIN, shared.store.drain()).await;
        if let Some(metrics) = metrics {
            metrics.abort();
        }
        shared.tasks.load(Ordering::Relaxed)
    }
}

/// Accepts control connections forever.
async fn accept<B: Backend>(shared: Arc<Shared<B>>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => admit(&shared, stream, canonical(peer)),
            // Out of descriptors or memory: open connections continue, and accepting resumes when there is room again.
            Err(error) => {
                warn!(%error, "can't accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Starts a connection's task, unless there are too many.
fn admit<B: Backend>(shared: &Arc<Shared<B>>, stream: TcpStream, peer: SocketAddr) {
    let full = shared.control.fetch_add(1, Ordering::Relaxed) >= shared.options.max_clients;
    if full && !shared.strangers.evict() {
        shared.control.fetch_sub(1, Ordering::Relaxed);
        shared.metrics.refused.add(1);
        warn!(%peer, max = shared.options.max_clients, "refused: too many clients");
        return;
    }
    shared.metrics.sessions.add(1);
    // At once: the next connection may need its place.
    let stranger = shared.options.security.wants_key().then(|| shared.strangers.enter());
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let running = Running::new(&shared);
        debug!(%peer, "connected");
        match connection::Link::new(&shared, stream, peer, stranger) {
            Ok(link) => Box::new(link).serve().await,
            Err(error) => debug!(%peer, %error, "connection closed before its first command"),
        }
        shared.control.fetch_sub(1, Ordering::Relaxed);
        drop(running);
    });
}
