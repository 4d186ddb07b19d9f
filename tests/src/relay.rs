//! A relay between clients and a server over TCP. It forwards bytes, the end of each direction, and resets; a test may
//! change or stop the bytes on the way.
//!
//! [`sealing`] makes a relay that encrypts the plain messages of tests for a server with a secret, and decrypts the
//! replies (PROTOCOL §8), so that tests written for plain connections run over encrypted ones.

use core::fmt;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use std::io::{self, Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use skiff_proto::secure::Key;

use crate::tunnel::{HELLO, Tunnel};
use crate::wire::{PATIENCE, eventually, is_sent};

/// What to do after the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Go on: more bytes may follow.
    Forward,
    /// Forward nothing more, but keep the connection open.
    Silence,
    /// End the connection.
    End,
    /// Reset the connection instead of forwarding these bytes.
    Reset,
}

/// Changes the bytes of one direction before they are forwarded.
pub type Change = Box<dyn FnMut(&mut Vec<u8>) -> Next + Send>;

/// A running relay. Dropping it ends all its connections.
pub struct Relay {
    /// The addresses of the relay, one for each address of the server.
    pub addrs: Vec<SocketAddr>,
    is_over: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<Weak<TcpStream>>>>,
    threads: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("addrs", &self.addrs).finish_non_exhaustive()
    }
}

impl Relay {
    /// Listens on a loopback port for each of these addresses of a server. `prepare` gets the number of a connection
    /// and its stream to the server, and returns the [`Change`] for each direction: from the client, from the server.
    ///
    /// # Panics
    /// If no port is available.
    #[must_use]
    pub fn start<F>(servers: &[SocketAddr], prepare: F) -> Self
    where
        F: Fn(usize, &TcpStream) -> io::Result<[Change; 2]> + Send + Sync + 'static,
    {
        let (is_over, open, prepare) =
            (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<_>>>::default(), Arc::new(prepare));
        let (addrs, threads) = servers
            .iter()
            .map(|&server| {
                let listener = TcpListener::bind((server.ip(), 0)).expect("a port");
                let addr = listener.local_addr().expect("an address");
                let (is_over, open, prepare) = (Arc::clone(&is_over), Arc::clone(&open), Arc::clone(&prepare));
                let accept = move || {
                    for (number, client) in listener.incoming().flatten().enumerate() {
                        if is_over.load(Ordering::SeqCst) {
                            return;
                        }
                        let client = Arc::new(client);
                        lock(&open).push(Arc::downgrade(&client));
                        let prepare = Arc::clone(&prepare);
                        std::thread::spawn(move || match prepared(server, number, &*prepare) {
                            Ok((server, changes)) => relay(&client, &server, changes),
                            Err(_) => reset(&client),
                        });
                    }
                };
                (addr, std::thread::spawn(accept))
            })
            .unzip();
        Self { addrs, is_over, open, threads }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // One more connection wakes each listener.
        let woken: Vec<_> = self.addrs.iter().map(TcpStream::connect).collect();
        for thread in self.threads.drain(..) {
            _ = thread.join();
        }
        drop(woken);
        // `open` holds the clients' streams. Ending one also ends its connection to the server.
        for client in lock(&self.open).iter().filter_map(Weak::upgrade) {
            _ = client.shutdown(Shutdown::Both);
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn prepared<F>(server: SocketAddr, number: usize, prepare: &F) -> io::Result<(TcpStream, [Change; 2])>
where
    F: Fn(usize, &TcpStream) -> io::Result<[Change; 2]>,
{
    let server = TcpStream::connect(server)?;
    let changes = prepare(number, &server)?;
    Ok((server, changes))
}

/// One connection, to its end.
fn relay(client: &TcpStream, server: &TcpStream, [up, down]: [Change; 2]) {
    _ = client.set_nodelay(true);
    _ = server.set_nodelay(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if pass(client, server, up).is_err() {
                // What was sent before the reset arrives.
                _ = eventually(|| is_sent(server));
                reset(server);
                reset(client);
            }
        });
        if pass(server, client, down).is_err() {
            reset(client);
            reset(server);
        }
    });
}

/// Forwards bytes and the end of the stream.
///
/// # Errors
/// A reset.
fn pass(mut from: &TcpStream, mut to: &TcpStream, mut change: Change) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let n = from.read(&mut buffer)?;
        let mut bytes = buffer[..n].to_vec();
        if n == 0 {
            // Fails if the connection has ended.
            _ = to.shutdown(Shutdown::Write);
            return Ok(());
        }
        let next = change(&mut bytes);
        if next == Next::Reset {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // If the peer is gone, the other direction reports that, after it has read everything.
        _ = to.write_all(&bytes);
        if next == Next::End {
            _ = from.shutdown(Shutdown::Both);
            _ = to.shutdown(Shutdown::Both);
        }
        if next != Next::Forward {
            return Ok(());
        }
    }
}

/// Resets a connection at once, even if others hold the stream as well; fails if it has ended.
fn reset(stream: &TcpStream) {
    _ = rustix::net::connect_unspec(stream);
}

/// A relay in front of a server with a secret, for clients without encryption. Every connection uses `key`.
#[must_use]
pub fn sealing(servers: &[SocketAddr], key: &Key) -> Relay {
    let key = key.clone();
    Relay::start(servers, move |_, server| {
        let sealing = Arc::new(Mutex::new(shake_hands(server, key.clone())?));
        let opening = Arc::clone(&sealing);
        let seal = move |bytes: &mut Vec<u8>| {
            *bytes = lock(&sealing).seal(bytes);
            Next::Forward
        };
        let open = move |bytes: &mut Vec<u8>| match lock(&opening).open(bytes) {
            Ok(plain) => {
                *bytes = plain;
                Next::Forward
            }
            Err(_) => Next::Reset,
        };
        Ok([Box::new(seal) as Change, Box::new(open)])
    })
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

/// One message in plain text.
fn hear(mut server: &TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; 10];
    server.read_exact(&mut message)?;
    let len: usize = String::from_utf8_lossy(&message).parse().map_err(io::Error::other)?;
    message.resize(10 + len, 0);
    server.read_exact(&mut message[10..])?;
    Ok(message)
}
