//! The embedded server with its memory, its store and its clock.

use core::task::Poll;
use core::time::Duration;
use std::io;
use std::path::Path;
use std::time::Instant as Moment;

use anyhow::{Context as _, bail};
use skiff_proto::command::command_len;
use skiff_proto::crc::crc32c;
use skiff_proto::store::Store as _;
use skiff_proto::{Instant, Name};
use smoltcp::phy::Device;

use super::options::{NAME, Options, Ring};
use super::store::{AnyStore, Medium};
use crate::config::{Config, Ipv4, Ipv6};
use crate::memory::{Memory, slots};
use crate::server::{Counts, DeviceServer, Usage};

const BUF: usize = command_len(NAME);
type Store = AnyStore;

/// What a server had done and was doing when it ended.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Since its start.
    pub counts: Counts,
    /// At the end.
    pub usage: Usage,
}

/// A server, its store and its clock. Its memory is never given back: it lasts as long as the program, as on a device.
pub(super) struct Embedded<const SESSIONS: usize, const DATA: usize> {
    server: DeviceServer<'static, Store, SESSIONS, DATA, NAME, BUF>,
    store: Store,
    clock: Clock,
    told: Counts,
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

impl<const SESSIONS: usize, const DATA: usize> Embedded<SESSIONS, DATA> {
    pub(super) fn new(
        options: &Options,
        medium: Option<Medium>,
        address: Address,
        data_ports: &[u16],
        device: &mut impl Device,
    ) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let seed = seed();
        let Some(&data_ports) = data_ports.first_chunk::<DATA>() else {
            bail!("{DATA} data ports are needed, not {}", data_ports.len());
        };
        let mut config = Config::new(address.mac, address.ipv4, address.port, data_ports);
        config.ipv6 = address.ipv6;
        config.seed = seed;
        config.takeover = options.takeover;
        config.limits.idle = options.idle;
        config.limits.server = concat!("skiff-device/", env!("CARGO_PKG_VERSION"));
        let server = match options.ring {
            Ring::Small => Self::server::<2048, 1024>(config, device, clock),
            Ring::Medium => Self::server::<16_384, 16_384>(config, device, clock),
            Ring::Large => Self::server::<65_536, 65_536>(config, device, clock),
        };
        let medium = medium.map_or_else(|| Medium::open(&options.store), Ok)?;
        let mut store = AnyStore::new(medium, seed)?;
        if let Some(directory) = &options.preload {
            preload(&mut store, directory)?;
        }
        Ok(Self { server: server?, store, clock, told: Counts::default(), verbose: options.verbose })
    }

    fn server<const RING: usize, const SPARE: usize>(
        config: Config<DATA>,
        device: &mut impl Device,
        clock: Clock,
    ) -> anyhow::Result<DeviceServer<'static, Store, SESSIONS, DATA, NAME, BUF>> {
        // One for each combination, and each as large as it has to be. SLOTS can't be computed from other parameters.
        const MOST: usize = slots(8, 4);
        let memory = Box::leak(Box::new(Memory::<'static, SESSIONS, DATA, MOST, RING, SPARE>::with_slots()));
        Ok(DeviceServer::new(memory, config, device, clock.now())?)
    }

    pub(super) fn poll(&mut self, device: &mut impl Device) -> Option<Duration> {
        let delay = self.server.poll(self.clock.now(), device, &mut self.store);
        self.store.settle();
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

    fn tell(&mut self) {
        let counts = self.server.counts();
        if counts != self.told {
            self.told = counts;
            let Counts { accepted, refused, strangers, transfers, failures } = counts;
            let usage = self.server.usage();
            eprintln!(
                "device-serv: {accepted} accepted, {refused} refused, {strangers} strangers; classic transfers: \
                 {transfers} done, {failures} failed; {} sessions now, {} data connections",
                usage.sessions, usage.data
            );
        }
    }
}

/// Bytes of RAM that a server of so many sessions takes on this machine: sockets, rings and sessions; the store not.
#[must_use]
pub fn ram(options: &Options) -> Option<usize> {
    const fn of<const S: usize, const D: usize>() -> usize {
        size_of::<DeviceServer<'static, Store, S, D, NAME, BUF>>()
    }
    const SOCKET: usize = size_of::<smoltcp::iface::SocketStorage<'static>>();
    let lines = options.lines()?;
    let (ring, spare) = match options.ring {
        Ring::Small => (2048, 1024),
        Ring::Medium => (16_384, 16_384),
        Ring::Large => (65_536, 65_536),
    };
    let server = match options.sessions {
        1 => of::<1, 1>(),
        2 => of::<2, 1>(),
        4 => of::<4, 2>(),
        _ => of::<8, 4>(),
    };
    Some(server + 2 * (options.sessions + lines) * ring + 2 * spare + slots(options.sessions, lines) * SOCKET)
}

fn seed() -> u64 {
    use core::hash::{BuildHasher as _, Hasher as _};
    use std::hash::RandomState;
    RandomState::new().build_hasher().finish()
}

/// Puts the files of a directory into the store.
fn preload(store: &mut Store, directory: &Path) -> anyhow::Result<()> {
    let entries: io::Result<Vec<_>> = std::fs::read_dir(directory).and_then(Iterator::collect);
    for entry in entries.with_context(|| directory.display().to_string())? {
        let path = entry.path();
        if !path.is_file() {
            continue;
        }
        let name = entry.file_name();
        put(store, name.as_encoded_bytes(), &path).with_context(|| format!("--preload {}", path.display()))?;
    }
    Ok(())
}

fn put(store: &mut Store, name: &[u8], path: &Path) -> anyhow::Result<()> {
    let content = std::fs::read(path)?;
    let mtime = path.metadata()?.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let (mut stage, _) =
        store.stage(Name::parse(name, NAME)?, 0, content.len() as u64, mtime.map(|since| since.as_secs()))?;
    let mut rest = &content[..];
    while !rest.is_empty() {
        rest = &rest[store.append(&mut stage, rest)?..];
    }
    loop {
        if let Poll::Ready(stored) = store.poll_commit(&mut stage, Some(crc32c(&content))) {
            return Ok(stored?);
        }
    }
}
