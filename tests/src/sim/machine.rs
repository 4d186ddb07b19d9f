//! The device: a server, its store, and their memory from power-on to power-off.

use core::cell::Cell;
use core::net::Ipv4Addr;
use core::time::Duration;

use skiff_device::config::{Config, Ipv4, Network};
use skiff_device::serv::faults::{Arrived, Faulty, Room};
use skiff_device::serv::link::End;
use skiff_device::server::{Counts, DeviceServer, Entropy, Nonces, Protection, Usage};
use skiff_device::stack::Stack;
use skiff_proto::Instant;
use skiff_proto::secure::Secret;
use skiff_proto::store::Store;
use smoltcp::iface::SocketSet;
use smoltcp::phy::{Device, DeviceCapabilities, TxToken};

use super::{DATA, NAME, PORT, SESSIONS, Shared};
use crate::flash::Rng;

pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

skiff_device::server_memory! {
    struct Memory { sessions: SESSIONS, data: DATA, name: NAME }
    struct Buffers { buffer: 2048, spare: 1024 }
    type Server;
}

/// The memory that a machine borrows while it runs.
pub struct MachineMemory<S: Store>(Memory<S>, Buffers, Seeded);

/// A deterministic random number generator.
struct Seeded(Rng);

impl Entropy for Seeded {
    fn next(&mut self) -> Option<[u8; 32]> {
        self.0.bytes(32).try_into().ok()
    }
}

impl<S: Store> MachineMemory<S> {
    /// Memory that is not in use.
    #[must_use]
    pub fn new() -> Self {
        Self(Memory::new(), Buffers::new(), Seeded(Rng::new(0)))
    }
}

impl<S: Store> Default for MachineMemory<S> {
    fn default() -> Self {
        Self::new()
    }
}

/// A device, whatever its store.
pub trait Board {
    /// Its turn: see [`Stack::poll`].
    fn poll(&mut self, now: Instant, port: &mut Port<'_>) -> Option<Duration>;

    /// Its current state.
    fn status(&self) -> Status;
}

/// The current state and the counters of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "see the types")]
pub struct Status {
    pub usage: Usage,
    pub counts: Counts,
}

/// A device.
pub struct Machine<'m, S: Store> {
    stack: Stack<'m>,
    server: Server<'m, S>,
    /// The store that it serves.
    pub store: S,
}

impl<'m, S: Store> Machine<'m, S> {
    /// Starts a device that serves `store`, and switches its power on. With `keys` it admits only clients with a key of
    /// that secret.
    ///
    /// # Panics
    /// If the configuration can't work.
    #[must_use]
    pub fn start(memory: &'m mut MachineMemory<S>, world: &Shared, store: S, keys: Option<(Secret, Nonces)>) -> Self {
        let mut world = world.borrow_mut();
        let ipv4 = Ipv4::Static { address: ADDRESS, prefix: 24, gateway: None };
        let mut network = Network::new([2, 0, 0, 0, 0, 2], ipv4);
        let mut config = Config::new(PORT, &[PORT + 1]);
        network.seed = world.setup.seed.wrapping_add(world.starts);
        config.limits.idle = world.setup.idle;
        config.limits.name_max = world.setup.name_max;
        world.starts += 1;
        world.power.set(true);
        world.wanted = Some(world.now);
        let (time, now) = (super::moment(world.now), world.now.after(world.ahead));
        let power = world.power();
        let mut port = Port::new(&mut world.link, &power, time);
        let MachineMemory(memory, buffers, entropy) = memory;
        entropy.0 = Rng::new(network.seed ^ 0xe27);
        let mut stack =
            Stack::new(&network, &mut port, SocketSet::new(Vec::new()), now).expect("a valid configuration");
        let mut server =
            DeviceServer::new(&config, memory.lend(buffers), &mut stack.sockets).expect("a valid configuration");
        if let Some((secret, nonces)) = keys {
            let protection = Protection { secret, min_generation: 1, nonces, entropy };
            server.protect(protection).expect("room for records");
        }
        Self { stack, server, store }
    }
}

impl<S: Store> Board for Machine<'_, S> {
    fn poll(&mut self, now: Instant, port: &mut Port<'_>) -> Option<Duration> {
        self.stack.poll(now, port, &mut self.server, &mut self.store)
    }

    fn status(&self) -> Status {
        Status { usage: self.server.usage(&self.stack.sockets), counts: self.server.counts() }
    }
}

/// The device's network interface, dead without power.
pub struct Port<'a> {
    link: &'a mut Faulty<End>,
    power: &'a Cell<bool>,
    /// The time of the world's clock: the line does not know how far the device's clock is ahead.
    now: smoltcp::time::Instant,
}

impl<'a> Port<'a> {
    pub(super) const fn new(link: &'a mut Faulty<End>, power: &'a Cell<bool>, now: smoltcp::time::Instant) -> Self {
        Self { link, power, now }
    }
}

impl Device for Port<'_> {
    type RxToken<'t>
        = Arrived<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Frame<'t>
    where
        Self: 't;

    fn receive(&mut self, _device: smoltcp::time::Instant) -> Option<(Arrived<'_>, Frame<'_>)> {
        let (arrived, room) = self.link.receive(self.now).filter(|_| self.power.get())?;
        Some((arrived, Frame(Some(room))))
    }

    fn transmit(&mut self, _device: smoltcp::time::Instant) -> Option<Frame<'_>> {
        // Without power what is sent goes nowhere.
        let on = self.power.get();
        self.link.transmit(self.now).map(|room| Frame(on.then_some(room)))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.link.capabilities()
    }
}

/// Room for a frame.
pub struct Frame<'a>(Option<Room<'a>>);

impl TxToken for Frame<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        match self.0 {
            Some(room) => room.consume(len, f),
            None => f(&mut vec![0; len]),
        }
    }
}
