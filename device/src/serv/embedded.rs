//! The embedded server with its memory, its store and its clock, in the sizes that can be chosen.

use core::net::IpAddr;
use core::time::Duration;
use std::time::Instant as Moment;

use anyhow::{Context as _, bail};
use skiff_proto::Instant;
use skiff_proto::command::command_len;
use skiff_proto::store::Store;
use smoltcp::iface::SocketStorage;
use smoltcp::phy::Device;

use super::made::Made;
use super::options::{NAME, Options, StoreChoice};
use super::say::say;
use super::store;
use crate::config::{Config, Ipv4, Ipv6};
use crate::memory::{Sockets, slots};
use crate::server::{Counts, DeviceServer, Usage};

const BUF: usize = command_len(NAME);

/// What a server had done and was doing when it ended.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Since its start.
    pub counts: Counts,
    /// At the end.
    pub usage: Usage,
}

/// Something that is done with a server of the size and the store that were chosen.
pub(super) trait Run {
    /// The implementation keeps the files of `made` once the server has started.
    fn run<S: Store + 'static, const SESSIONS: usize, const DATA: usize>(
        self,
        store: S,
        made: Made,
    ) -> anyhow::Result<Report>;
}

/// Opens the store and runs `run` with it.
pub(super) fn choose(options: &Options, run: impl Run) -> anyhow::Result<Report> {
    let mut made = Made::default();
    match options.store {
        StoreChoice::Ram { size } => sized(options, store::ram(size, seed())?, run, made),
        StoreChoice::Flash { ref image, size } => {
            let flash = store::flash(image, size, &mut made);
            sized(options, flash.with_context(|| format!("--store flash:{}", image.display()))?, run, made)
        }
    }
}

fn sized<S: Store + 'static>(options: &Options, mut store: S, run: impl Run, made: Made) -> anyhow::Result<Report> {
    if let Some(directory) = &options.preload {
        store::preload(&mut store, directory)?;
    }
    match options.sessions {
        1 => run.run::<S, 1, 1>(store, made),
        2 => run.run::<S, 2, 1>(store, made),
        4 => run.run::<S, 4, 2>(store, made),
        8 => run.run::<S, 8, 4>(store, made),
        _ => bail!("--sessions: 1, 2, 4 or 8"),
    }
}

/// A server, its store and its clock. Its memory is never given back: it lasts as long as the program, as on a device.
pub(super) struct Embedded<S: Store + 'static, const SESSIONS: usize, const DATA: usize> {
    server: DeviceServer<'static, S, SESSIONS, DATA, NAME, BUF>,
    store: S,
    clock: Clock,
    told: Counts,
    addresses: Vec<(IpAddr, u8)>,
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
        // A session takes 0 for a clock that has not been told.
        Instant::from_millis(u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1))
    }
}

/// Where the server is found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address {
    pub(super) mac: [u8; 6],
    pub(super) ipv4: Ipv4,
    pub(super) ipv6: Ipv6,
    pub(super) port: u16,
}

impl<S: Store + 'static, const SESSIONS: usize, const DATA: usize> Embedded<S, SESSIONS, DATA> {
    pub(super) fn new(
        options: &Options,
        address: Address,
        data_ports: &[u16],
        store: S,
        device: &mut impl Device,
    ) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let Some(&data_ports) = data_ports.first_chunk::<DATA>() else {
            bail!("{DATA} data ports are needed, not {}", data_ports.len());
        };
        let mut config = Config::new(address.mac, address.ipv4, address.port, data_ports);
        config.ipv6 = address.ipv6;
        config.seed = seed();
        config.takeover = options.takeover;
        config.keep_alive = options.keep_alive;
        config.timeout = options.timeout;
        config.limits.idle = options.idle;
        config.limits.min_rate = options.min_rate;
        config.limits.server = concat!("skiff-device/", env!("CARGO_PKG_VERSION"));
        config.limits.host = options.name.clone().map(|name| &*name.leak());
        let server = DeviceServer::over(sockets(options), config, device, clock.now())?;
        Ok(Self { server, store, clock, told: Counts::default(), addresses: Vec::new(), verbose: options.verbose })
    }

    pub(super) fn poll(&mut self, device: &mut impl Device) -> Option<Duration> {
        let delay = self.server.poll(self.clock.now(), device, &mut self.store);
        if self.verbose {
            self.tell();
        }
        delay
    }

    pub(super) const fn clock(&self) -> Clock {
        self.clock
    }

    pub(super) fn report(&self) -> Report {
        Report { counts: self.server.counts(), usage: self.server.usage() }
    }

    /// The addresses, if they are others than the last time.
    pub(super) fn new_addresses(&mut self) -> Option<&[(IpAddr, u8)]> {
        let now = (0..).map_while(|index| self.server.address(index));
        if now.clone().eq(self.addresses.iter().copied()) {
            return None;
        }
        self.addresses = now.collect();
        Some(&self.addresses)
    }

    fn tell(&mut self) {
        let counts = self.server.counts();
        if counts != self.told {
            self.told = counts;
            let Counts { accepted, refused, strangers, transfers, failures } = counts;
            let usage = self.server.usage();
            say(format_args!(
                "{accepted} accepted, {refused} refused, {strangers} strangers; classic transfers: \
                 {transfers} done, {failures} failed; {} sessions now, {} data connections",
                usage.sessions, usage.data
            ));
        }
    }
}

/// Sockets with rings of the size that was chosen, in memory that is never given back.
fn sockets<const SESSIONS: usize, const DATA: usize>(options: &Options) -> Sockets<'static, SESSIONS, DATA> {
    let rings = |bytes: usize| [(); 2].map(|()| &mut *vec![0; bytes].leak());
    let (ring, spare) = (options.ring, options.spare_ring());
    let slots: Vec<_> = (0..slots(SESSIONS, DATA)).map(|_| SocketStorage::EMPTY).collect();
    Sockets::new(slots.leak(), [(); SESSIONS].map(|()| rings(ring)), rings(spare), [(); DATA].map(|()| rings(ring)))
}

/// Bytes of RAM that a server of so many sessions takes on this machine: sockets, rings and sessions; the store not. `None` if
/// there can't be so many.
#[must_use]
pub fn ram(options: &Options) -> Option<usize> {
    const fn of<const S: usize, const D: usize>() -> usize {
        size_of::<DeviceServer<'static, store::Ram, S, D, NAME, BUF>>()
    }
    const SOCKET: usize = size_of::<SocketStorage<'static>>();
    let lines = options.lines()?;
    let server = match options.sessions {
        1 => of::<1, 1>(),
        2 => of::<2, 1>(),
        4 => of::<4, 2>(),
        _ => of::<8, 4>(),
    };
    let rings = 2 * (options.sessions + lines) * options.ring + 2 * options.spare_ring();
    Some(server + rings + slots(options.sessions, lines) * SOCKET)
}

fn seed() -> u64 {
    use core::hash::{BuildHasher as _, Hasher as _};
    use std::hash::RandomState;
    RandomState::new().build_hasher().finish()
}
