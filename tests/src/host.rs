//! A host server inside the test: real sockets on loopback, its own port and directory.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use skiff_host::server::{Options, Security, Server};
use skiff_host::store::{self, DirStore};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::relay::{self, Relay};
use crate::sealed::{key, secret};
use crate::wire::Wire;

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    _dir: Option<TempDir>,
    v4: SocketAddr,
    v6: SocketAddr,
    _relay: Option<Relay>,
    /// The served store, for checks that are not possible over the wire.
    pub store: DirStore,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<usize>>,
}

/// The options of a test's server.
#[derive(Debug)]
pub struct Setup {
    /// The server.
    pub server: Options,
    /// The store.
    pub store: store::Options,
}

impl Host {
    /// Serves a new directory with the defaults.
    #[must_use]
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// Serves a new directory; `change` modifies the options.
    ///
    /// # Panics
    /// If there is no directory or no port available.
    #[must_use]
    pub fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut host = Self::serve(dir.path(), change);
        host._dir = Some(dir);
        host
    }

    /// Serves a new directory with a device secret, behind [`relay::sealing`], which encrypts the plain messages sent
    /// to [`Self::addr`].
    ///
    /// # Panics
    /// If there is no directory or no port available.
    #[must_use]
    pub fn sealed(change: impl FnOnce(&mut Setup)) -> Self {
        let mut host = Self::with(|setup| {
            setup.server.security = Security::with_secret(secret(), 1);
            change(setup);
        });
        let relay = relay::sealing(&[host.v4, host.v6], &key("rw.alice.1"));
        (host.v4, host.v6) = (relay.addrs[0], relay.addrs[1]);
        host._relay = Some(relay);
        host
    }

    /// Serves an existing directory.
    ///
    /// # Panics
    /// If no port is available, or the directory can't be served.
    #[must_use]
    pub fn serve(root: &Path, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup { server: Options::new(0), store: store::Options::new(root) };
        setup.server.grace = Duration::from_secs(5);
        change(&mut setup);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let store = DirStore::new(setup.store).expect("a store");
        let (stop, stopped) = oneshot::channel();
        let served = store.clone();
        let server = {
            let _runtime = runtime.enter();
            Server::bind(setup.server, served).expect("a port")
        };
        let port = server.port();
        let thread = std::thread::spawn(move || {
            let shutdown = async {
                _ = stopped.await;
            };
            let cut_off = runtime.block_on(server.run(shutdown));
            runtime.shutdown_timeout(Duration::from_secs(1));
            cut_off
        });
        let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
        let (stop, thread) = (Some(stop), Some(thread));
        Self { root: root.to_owned(), _dir: None, v4, v6, _relay: None, store, stop, thread }
    }

    /// The directory that is served.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The port, the same on both loopback addresses.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.v4.port()
    }

    /// Its IPv4 address.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.v4
    }

    /// Its IPv6 address.
    #[must_use]
    pub const fn addr_v6(&self) -> SocketAddr {
        self.v6
    }

    /// A control connection.
    #[must_use]
    pub fn connect(&self) -> Wire {
        Wire::connect(self.addr())
    }

    /// Puts a file into the directory, bypassing the server.
    ///
    /// # Panics
    /// If that fails.
    pub fn put(&self, name: &str, content: &[u8]) {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        fs::write(path, content).expect("write");
    }

    /// A file's content, bypassing the server; `None` if there is no such file.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.root.join(name)).ok()
    }

    /// The UTF-8 names in the directory, without staging, sorted.
    ///
    /// # Panics
    /// If it can't be read.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.root).expect("read_dir");
        let mut names: Vec<_> = entries
            .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
            .filter(|name| !name.starts_with(".skiff-"))
            .collect();
        names.sort();
        names
    }

    /// Ends the server; returns how many connections it had to close.
    ///
    /// # Panics
    /// If the server has panicked.
    pub fn stop(&mut self) -> usize {
        drop(self.stop.take());
        self.thread.take().map_or(0, |thread| thread.join().expect("the server ends"))
    }

    /// Starts to end the server, without waiting.
    pub fn begin_stop(&mut self) {
        drop(self.stop.take());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}
