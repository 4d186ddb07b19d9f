//! The embedded server with its memory, its store and its clock, in the selected sizes.

use core::net::IpAddr;
use core::time::Duration;
use std::time::Instant as Moment;

use anyhow::Context as _;
use skiff_proto::Instant;
use skiff_proto::store::Store;
use smoltcp::iface::{SocketSet, SocketStorage};
use smoltcp::phy::Device;

use super::made::Made;
use super::options::{NAME, Options, Security, StoreChoice};
use super::say::{count, say};
use super::store;
use crate::config::{Config, Ipv4, Ipv6, Network};
use crate::mdns::Responder;
use crate::server::{
    ControlSocket, Counts, DataSocket, DeviceServer, Entropy, Memory, Nonces, Protection, RECORD, Session, Usage,
    command_buffer,
};
use crate::stack::Stack;

/// The product and version of the server.
const SERVER: &str = concat!("skiff-device/", env!("CARGO_PKG_VERSION"));

const BUF: usize = command_buffer(NAME);

/// The state of a server when it ended.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Since its start.
    pub counts: Counts,
    /// At the end.
    pub usage: Usage,
}

/// Code that runs with the selected store.
pub(super) trait Run {
    /// The implementation keeps the files of `made` once the server has started.
    fn run<S: Store + 'static>(self, store: S, made: Made) -> anyhow::Result<Report>;
}

/// Opens the store and runs `run` with it.
pub(super) fn choose(options: &Options, run: impl Run) -> anyhow::Result<Report> {
    let mut made = Made::default();
    match options.store {
        StoreChoice::Ram { size } => preloaded(options, store::ram(size, seed())?, run, made),
        StoreChoice::Flash { ref image, size } => {
            let flash = store::flash(image, size, &mut made);
            preloaded(options, flash.with_context(|| format!("--store flash:{}", image.display()))?, run, made)
        }
    }
}

fn preloaded<S: Store + 'static>(options: &Options, mut store: S, run: impl Run, made: Made) -> anyhow::Result<Report> {
    if let Some(directory) = &options.preload {
        store::preload(&mut store, directory)?;
    }
    run.run(store, made)
}

/// A server, its store and its clock. Its memory is never freed: it lasts as long as the program, as on a device.
pub(super) struct Embedded<S: Store + 'static> {
    stack: Stack<'static>,
    server: DeviceServer<'static, S, NAME, BUF>,
    store: S,
    clock: Clock,
    told: Counts,
    addresses: Vec<(IpAddr, u8)>,
    name: Option<String>,
    verbose: bool,
}

/// Milliseconds since the start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Moment);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Moment::now())
    }

    pub(super) fn now(self) -> Instant {
        // For a session, 0 is a clock that has not been set.
        Instant::from_millis(u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1))
    }
}

/// The server's addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address {
    pub(super) mac: [u8; 6],
    pub(super) ipv4: Ipv4,
    pub(super) ipv6: Ipv6,
    pub(super) port: u16,
    /// By name too, with mDNS.
    pub(super) announce: bool,
}

impl<S: Store + 'static> Embedded<S> {
    pub(super) fn new(
        options: &Options,
        address: Address,
        data_ports: &[u16],
        store: S,
        device: &mut impl Device,
    ) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let mut network = Network::new(address.mac, address.ipv4);
        network.ipv6 = address.ipv6;
        network.seed = seed();
        let mut stack = Stack::new(&network, device, SocketSet::new(Vec::new()), clock.now())?;
        let mut config = Config::new(address.port, data_ports);
        config.takeover = options.takeover;
        config.keep_alive = options.keep_alive;
        config.timeout = options.timeout;
        config.limits.idle = options.idle;
        config.limits.min_rate = options.min_rate;
        config.limits.server = SERVER;
        config.limits.host = options.name.clone().map(|name| &*name.leak());
        let memory = memory(options, data_ports.len());
        let mut server = DeviceServer::new(&config, memory, &mut stack.sockets)?;
        if let Some(Security { secret, min_generation }) = options.security.clone() {
            let entropy = Box::leak(Box::new(System));
            let protection = Protection { secret, min_generation, nonces: Nonces::Random, entropy };
            server.protect(protection).context("--buffer with --secret")?;
        }
        if address.announce {
            #[expect(clippy::cast_possible_truncation, reason = "any 32 bits of it will do")]
            let random = network.seed as u32;
            let responder = Responder::new(options.name.as_deref(), address.mac, address.port, SERVER, random);
            stack.announce(responder, Box::leak(Box::default()));
        }
        let (told, addresses, name, verbose) = (Counts::default(), Vec::new(), None, options.verbose);
        Ok(Self { stack, server, store, clock, told, addresses, name, verbose })
    }

    pub(super) fn poll(&mut self, device: &mut impl Device) -> Option<Duration> {
        let delay = self.stack.poll(self.clock.now(), device, &mut self.server, &mut self.store);
        if self.verbose {
            self.tell();
        }
        delay
    }

    pub(super) const fn clock(&self) -> Clock {
        self.clock
    }

    /// Ends the service, and sends a goodbye if it was announced.
    pub(super) fn end(&mut self, device: &mut impl Device) -> Report {
        if let Some(mdns) = self.stack.mdns() {
            mdns.end();
            // Each poll sends at most one message, and there is one for each address family.
            for _ in 0..4 {
                _ = self.poll(device);
            }
        }
        self.report()
    }

    pub(super) fn report(&self) -> Report {
        Report { counts: self.server.counts(), usage: self.server.usage(&self.stack.sockets) }
    }

    /// The addresses, if they have changed since the last call.
    pub(super) fn new_addresses(&mut self) -> Option<&[(IpAddr, u8)]> {
        let now = (0..).map_while(|index| self.stack.address(index));
        if now.clone().eq(self.addresses.iter().copied()) {
            return None;
        }
        self.addresses = now.collect();
        Some(&self.addresses)
    }

    /// The announced name, if it has changed since the last call.
    pub(super) fn new_name(&mut self) -> Option<&str> {
        let name = self.stack.mdns().filter(|mdns| mdns.is_announced())?.name();
        if self.name.as_deref() == Some(name) {
            return None;
        }
        Some(self.name.insert(name.to_owned()))
    }

    fn tell(&mut self) {
        let counts = self.server.counts();
        if counts != self.told {
            self.told = counts;
            let Counts { accepted, refused, strangers, transfers, failures, denied } = counts;
            let usage = self.server.usage(&self.stack.sockets);
            say(format_args!(
                "{accepted} accepted, {refused} refused, {denied} without a valid key, {strangers} strangers; classic \
                 transfers: {transfers} done, {failures} failed; {} now, {}",
                count(usage.sessions, "session"),
                count(usage.data, "data connection")
            ));
        }
    }
}

/// Memory of the selected sizes, which is never freed.
fn memory<S: Store + 'static>(options: &Options, data: usize) -> Memory<'static, S, NAME, BUF> {
    Memory {
        sessions: leak(options.sessions, || None),
        control: leak(options.sessions + 1, ControlSocket::default),
        data: leak(data, DataSocket::default),
        buffers: leak(2 * (options.sessions + data) * options.buffer, || 0),
        spare: leak(2 * options.spare_buffer(), || 0),
        record: leak(record(options), || 0),
    }
}

/// Bytes for a record: as on a device, or more if the socket buffers are larger.
fn record(options: &Options) -> usize {
    (options.buffer / 2).clamp(RECORD, RECORD_MAX)
}

/// The recommended size of a host's records, plus their length.
const RECORD_MAX: usize = 16_400 + 10;

/// The system's random number generator.
#[derive(Debug)]
struct System;

impl Entropy for System {
    fn next(&mut self) -> Option<[u8; 32]> {
        skiff_keys::random().ok()
    }
}

fn leak<T>(count: usize, item: impl Fn() -> T) -> &'static mut [T] {
    (0..count).map(|_| item()).collect::<Vec<_>>().leak()
}

/// Bytes of RAM that a server with this number of sessions takes on this machine: sockets, their buffers and sessions,
/// without the store. `None` if the number is too large.
#[must_use]
pub fn ram(options: &Options) -> Option<usize> {
    type Files = store::Ram;
    let (sessions, data) = (options.sessions, options.data_connections()?);
    let server = size_of::<DeviceServer<'static, Files, NAME, BUF>>() + size_of::<Stack<'static>>();
    let state = sessions * size_of::<Option<Session<Files, NAME, BUF>>>()
        + (sessions + 1) * size_of::<ControlSocket>()
        + data * size_of::<DataSocket<Files, NAME>>();
    let buffers = 2 * (sessions + data) * options.buffer + 2 * options.spare_buffer() + record(options);
    Some(server + state + buffers + (Stack::SOCKETS + sessions + 1 + data) * size_of::<SocketStorage<'static>>())
}

fn seed() -> u64 {
    use core::hash::{BuildHasher as _, Hasher as _};
    use std::hash::RandomState;
    RandomState::new().build_hasher().finish()
}
