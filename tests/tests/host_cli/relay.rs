//! A bad link between client and server: it breaks or goes silent after a number of bytes, and records what it carried.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::{Arc, Mutex};
use std::thread;

use skiff_tests::relay::{Change, Next};

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
    relay: skiff_tests::relay::Relay,
    carried: Arc<Mutex<Vec<Arc<Carried>>>>,
}

impl Relay {
    /// A relay to `server`. The first connections have one of these faults each; later ones have none.
    pub(crate) fn start(server: SocketAddr, faults: &[Fault]) -> Self {
        let all = Arc::<Mutex<Vec<_>>>::default();
        let (carried, faults) = (Arc::clone(&all), faults.to_vec());
        let relay = skiff_tests::relay::Relay::start(&[server], move |number, _| {
            let fault = faults.get(number).copied().unwrap_or_default();
            let bytes = Arc::new(Carried::default());
            carried.lock().unwrap().push(Arc::clone(&bytes));
            Ok([0, 1].map(|way| carry(way, fault, Arc::clone(&bytes))))
        });
        Self { relay, carried: all }
    }

    pub(crate) fn port(&self) -> u16 {
        self.relay.addrs[0].port()
    }

    /// How many bytes came from the client, for each connection.
    pub(crate) fn up(&self) -> Vec<u64> {
        self.each(|[up, _]| up.len() as u64)
    }

    /// How many bytes came from the server, for each connection.
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

/// The change for one direction: `way` is 0 for bytes from the client, 1 for those from the server.
fn carry(way: usize, fault: Fault, carried: Arc<Carried>) -> Change {
    let limit = [fault.up, fault.down][way].map_or(usize::MAX, |limit| usize::try_from(limit).unwrap());
    let flip = fault.flip.filter(|_| way == 1).map(|at| usize::try_from(at).unwrap());
    Box::new(move |bytes| {
        let at = {
            let carried = &mut carried.lock().unwrap()[way];
            bytes.truncate(limit - carried.len());
            carried.extend_from_slice(bytes);
            carried.len() - bytes.len()
        };
        if let Some(byte) = flip.and_then(|flip| bytes.get_mut(flip.checked_sub(at)?)) {
            *byte ^= 1;
        }
        if fault.slow {
            thread::sleep(Duration::from_micros(bytes.len() as u64));
        }
        match at + bytes.len() == limit {
            true if fault.silent => Next::Silence,
            true => Next::End,
            false => Next::Forward,
        }
    })
}
