//! A relay in front of a server with a secret: it seals the plain messages of tests for the server, and opens the
//! replies (PROTOCOL §8). So tests written for plain connections run over sealed ones.
//!
//! It passes whole messages, the end of either direction, and resets.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use core::sync::atomic::{AtomicBool, Ordering};
use std::io::{self, Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use skiff_proto::secure::Key;

use crate::tunnel::{HELLO, Tunnel};
use crate::wire::{PATIENCE, eventually, is_sent};

/// A running relay. Dropping it ends it; connections end with their peers.
#[derive(Debug)]
pub struct Relay {
    /// Its IPv4 address.
    pub v4: SocketAddr,
    /// Its IPv6 address.
    pub v6: SocketAddr,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Listens on a loopback port of each family for the server at two addresses. Every connection is made with `key`.
    ///
    /// # Panics
    /// If no port is available.
    #[must_use]
    pub fn start(server: [SocketAddr; 2], key: &Key) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let listeners = [
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"),
            TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("a port"),
        ];
        let [v4, v6] = [0, 1].map(|at: usize| listeners[at].local_addr().expect("an address"));
        let threads: Vec<_> = listeners
            .into_iter()
            .zip(server)
            .map(|(listener, server)| {
                let (is_over, key) = (Arc::clone(&is_over), key.clone());
                std::thread::spawn(move || {
                    for client in listener.incoming().flatten().take_while(|_| !is_over.load(Ordering::SeqCst)) {
                        let key = key.clone();
                        std::thread::spawn(move || relay(&client, server, key));
                    }
                })
            })
            .collect();
        Self { v4, v6, is_over, threads }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Each listener hears once more.
        let woken = [self.v4, self.v6].map(TcpStream::connect);
        for thread in self.threads.drain(..) {
            _ = thread.join();
        }
        drop(woken);
    }
}

/// One connection, to its end.
fn relay(client: &TcpStream, server: SocketAddr, key: Key) {
    let connected = TcpStream::connect(server).and_then(|server| {
        let tunnel = shake_hands(&server, key)?;
        Ok((server, Mutex::new(tunnel)))
    });
    let Ok((server, tunnel)) = connected else { return reset(client) };
    _ = client.set_nodelay(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let ended = pass(client, &server, |bytes| Some(lock(&tunnel).seal(bytes)));
            if ended.is_err() {
                // What came before the reset arrives.
                _ = eventually(|| is_sent(&server));
                reset(&server);
                reset(client);
            }
        });
        if pass(&server, client, |bytes| lock(&tunnel).open(bytes).ok()).is_err() {
            reset(client);
            reset(&server);
        }
    });
}

fn lock(tunnel: &Mutex<Tunnel>) -> std::sync::MutexGuard<'_, Tunnel> {
    tunnel.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shake_hands(mut server: &TcpStream, key: Key) -> io::Result<Tunnel> {
    let mut ephemeral = [0; 32];
    fastrand::fill(&mut ephemeral);
    let mut tunnel = Tunnel::new(key, ephemeral);
    server.set_nodelay(true)?;
    server.set_read_timeout(Some(PATIENCE))?;
    server.write_all(HELLO)?;
    let command = tunnel.begin(&hear(server)?).map_err(io::Error::other)?;
    server.write_all(&command)?;
    tunnel.finish(&hear(server)?).map_err(io::Error::other)?;
    server.set_read_timeout(None)?;
    Ok(tunnel)
}

/// One message in clear.
fn hear(mut server: &TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; 10];
    server.read_exact(&mut message)?;
    let len: usize = String::from_utf8_lossy(&message).parse().map_err(io::Error::other)?;
    message.resize(10 + len, 0);
    server.read_exact(&mut message[10..])?;
    Ok(message)
}

/// Forwards bytes and the end of the stream.
///
/// # Errors
/// A reset, or a record that is forged.
fn pass(mut from: &TcpStream, mut to: &TcpStream, mut change: impl FnMut(&[u8]) -> Option<Vec<u8>>) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            // Fails if it has ended.
            _ = to.shutdown(Shutdown::Write);
            return Ok(());
        }
        let bytes = change(&buffer[..n]).ok_or(io::ErrorKind::InvalidData)?;
        // If nobody is there, the other direction says so, once everything has been taken from there.
        _ = to.write_all(&bytes);
    }
}

/// Resets a connection at once, even if others hold the stream as well; fails if it has ended.
fn reset(stream: &TcpStream) {
    _ = rustix::net::connect_unspec(stream);
}
