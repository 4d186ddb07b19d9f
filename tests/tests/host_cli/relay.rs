//! A bad line: a relay between client and server that breaks or goes silent after a number of bytes.

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// When a connection fails.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fault {
    /// After so many bytes from the client.
    pub(crate) up: Option<u64>,
    /// After so many bytes from the server.
    pub(crate) down: Option<u64>,
    /// It then goes silent, instead of ending.
    pub(crate) silent: bool,
    /// It is slow: about 1 MB per second.
    pub(crate) slow: bool,
    /// A bit of this byte from the server is flipped.
    pub(crate) flip: Option<u64>,
}

impl Fault {
    /// Breaks after so many bytes from the client.
    pub(crate) fn up(bytes: u64) -> Self {
        Self { up: Some(bytes), ..Self::default() }
    }

    /// Breaks after so many bytes from the server.
    pub(crate) fn down(bytes: u64) -> Self {
        Self { down: Some(bytes), ..Self::default() }
    }

    /// Goes silent instead.
    pub(crate) fn silently(self) -> Self {
        Self { silent: true, ..self }
    }
}

/// The bytes of one connection, from the client and from the server.
type Carried = Mutex<[Vec<u8>; 2]>;

/// The relay. Dropping it ends all its connections.
#[derive(Debug)]
pub(crate) struct Relay {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
    carried: Arc<Mutex<Vec<Arc<Carried>>>>,
}

impl Relay {
    /// A relay to `server`. The first connections have one of these faults each; later ones have none.
    pub(crate) fn start(server: SocketAddr, faults: &[Fault]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Self { port: listener.local_addr().unwrap().port(), open: Arc::default(), carried: Arc::default() };
        let (open, carried) = (Arc::clone(&relay.open), Arc::clone(&relay.carried));
        let faults = faults.to_vec();
        // It ends with the process of the test.
        thread::spawn(move || {
            for (number, client) in listener.incoming().flatten().enumerate() {
                let Ok(server) = TcpStream::connect(server) else { return };
                let fault = faults.get(number).copied().unwrap_or_default();
                let bytes = Arc::new(Carried::default());
                open.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                carried.lock().unwrap().push(Arc::clone(&bytes));
                for (way, from, to) in [(0, &client, &server), (1, &server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let bytes = Arc::clone(&bytes);
                    thread::spawn(move || carry(from, to, way, fault, &bytes));
                }
            }
        });
        relay
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many bytes came from the client, connection by connection.
    pub(crate) fn up(&self) -> Vec<u64> {
        self.each(|[up, _]| up.len() as u64)
    }

    /// Bytes from the server likewise.
    pub(crate) fn down(&self) -> Vec<u64> {
        self.each(|[_, down]| down.len() as u64)
    }

    /// All bytes from the clients.
    pub(crate) fn sent(&self) -> Vec<u8> {
        self.each(|[up, _]| up.clone()).concat()
    }

    /// All bytes from the clients, and then all from the server.
    pub(crate) fn seen(&self) -> Vec<u8> {
        [self.sent(), self.each(|[_, down]| down.clone()).concat()].concat()
    }

    fn each<T>(&self, of: impl Fn(&[Vec<u8>; 2]) -> T) -> Vec<T> {
        self.carried.lock().unwrap().iter().map(|carried| of(&carried.lock().unwrap())).collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        for stream in self.open.lock().unwrap().iter() {
            _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Forwards bytes in one direction: 0 from the client, 1 from the server.
fn carry(mut from: TcpStream, mut to: TcpStream, way: usize, fault: Fault, bytes: &Carried) {
    let mut buffer = [0; 16 * 1024];
    let mut left = [fault.up, fault.down][way].unwrap_or(u64::MAX);
    let flip = fault.flip.filter(|_| way == 1).map_or(usize::MAX, |at| usize::try_from(at).unwrap());
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let n = match from.read(&mut buffer[..room]) {
            Ok(n) if n > 0 => n,
            // The end of one side's words is not the end of the other's.
            _ => {
                _ = to.shutdown(Shutdown::Write);
                return;
            }
        };
        let at = {
            let carried = &mut bytes.lock().unwrap()[way];
            carried.extend_from_slice(&buffer[..n]);
            carried.len() - n
        };
        if (at..at + n).contains(&flip) {
            buffer[flip - at] ^= 1;
        }
        if to.write_all(&buffer[..n]).is_err() {
            _ = from.shutdown(Shutdown::Both);
            return;
        }
        if fault.slow {
            thread::sleep(Duration::from_micros(n as u64));
        }
        left -= n as u64;
    }
    if !fault.silent {
        _ = from.shutdown(Shutdown::Both);
        _ = to.shutdown(Shutdown::Both);
    }
}
