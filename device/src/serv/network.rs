//! The embedded server on a network: behind a TAP of this machine. Linux only.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::net::UdpSocket;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags};
use skiff_proto::store::Store;
use smoltcp::phy::{Device, PcapMode, PcapWriter};
use smoltcp::time::Instant;

use super::capture::Capture;
use super::embedded::{Address, Embedded, Report, Run, choose};
use super::faults::{Faults, Faulty};
use super::options::{Options, PortRange};
use super::say::say;
use super::stop::Stopped;
use super::tap::Tap;
use super::wait::wait;
use crate::config::{Ipv4, Ipv6};

/// The network address of a server that was not told any.
pub const DEFAULT_ADDRESS: (Ipv4Addr, u8) = (Ipv4Addr::new(192, 168, 69, 1), 24);
/// Its hardware address.
pub const DEFAULT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// How a server is found on a network.
#[derive(Debug, Clone)]
pub struct Link {
    /// The TAP.
    pub tap: String,
    /// The hardware address.
    pub mac: [u8; 6],
    /// The address by IPv4.
    pub ipv4: Ipv4,
    /// Those by IPv6.
    pub ipv6: Ipv6,
    /// This machine's own address on a TAP that is made here; `None`: the gateway's, or else the last of the network.
    pub host: Option<Ipv4Addr>,
    /// The port of control connections.
    pub port: u16,
    /// What happens to frames on their way.
    pub faults: Faults,
    /// Where chance begins, for faults that can be repeated.
    pub seed: u64,
    /// A file that gets a copy of every frame.
    pub pcap: Option<PathBuf>,
}

impl Link {
    /// On TAP `tap`, with the defaults: 192.168.69.1 and the link-local address, port 50000, no faults.
    #[must_use]
    pub fn new(tap: &str) -> Self {
        let (address, prefix) = DEFAULT_ADDRESS;
        Self {
            tap: tap.to_owned(),
            mac: DEFAULT_MAC,
            ipv4: Ipv4::Static { address, prefix, gateway: None },
            ipv6: Ipv6::LinkLocal,
            host: None,
            port: 50_000,
            faults: Faults::default(),
            seed: 0,
            pcap: None,
        }
    }

    /// This machine's own address on a TAP that is made here.
    fn host(&self) -> Option<(Ipv4Addr, u8)> {
        let Ipv4::Static { address, prefix, gateway } = self.ipv4 else {
            return None;
        };
        let last = || {
            let host_bits = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            // Not the broadcast address; and the one before it if that is the server's.
            let last = Ipv4Addr::from_bits((address.to_bits() | host_bits).saturating_sub(1));
            if last == address { Ipv4Addr::from_bits(last.to_bits().saturating_sub(1)) } else { last }
        };
        Some((self.host.or(gateway).unwrap_or_else(last), prefix))
    }
}

/// A server whose TAP is open.
#[derive(Debug)]
pub struct Network {
    options: Options,
    link: Link,
    tap: Tap,
}

impl Network {
    /// Opens the TAP; one that is made here is set up and given an address.
    ///
    /// # Errors
    /// See [`Tap::open`]; or the server's address is one of this machine's own.
    pub fn open(options: Options, link: Link) -> anyhow::Result<Self> {
        if let Ipv4::Static { address, .. } = link.ipv4
            && UdpSocket::bind((address, 0)).is_ok()
        {
            bail!("{address} is an address of this machine: --ip needs one of its own");
        }
        let tap = Tap::open(&link.tap)?;
        if tap.is_made() {
            let host = link.host();
            if let (Ipv4::Static { address, .. }, Some((host, _))) = (link.ipv4, host)
                && address == host
            {
                bail!("{address} is the server's address, so it can't be this machine's: --host-ip, --gateway");
            }
            tap.set_up(host).with_context(|| link.tap.clone())?;
            let address =
                host.map_or(String::new(), |(host, prefix)| format!("; this machine is {host}/{prefix} on it"));
            say(format_args!("made {}{address}", link.tap));
        } else if !tap.is_up()? {
            say(format_args!("{0} is down; as root: ip link set {0} up", link.tap));
        }
        Ok(Self { options, link, tap })
    }

    /// Serves until `stopped` says so. The memory of the server is not given back.
    ///
    /// # Errors
    /// The configuration can't work, the files to be loaded first can't be, the TAP is gone.
    pub fn run(self, stopped: &Stopped) -> anyhow::Result<Report> {
        self.run_and_tell(stopped, || Ok(()))
    }

    /// The same, which calls `ready` when nothing can keep it from serving any more.
    ///
    /// # Errors
    /// As [`Network::run`]'s; or that of `ready`.
    pub fn run_and_tell(self, stopped: &Stopped, ready: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Report> {
        let Self { options, link, tap } = self;
        choose(&options, Serve { options: &options, link, tap, stopped, ready })
    }
}

struct Serve<'a, F> {
    options: &'a Options,
    link: Link,
    tap: Tap,
    stopped: &'a Stopped,
    ready: F,
}

impl<F: FnOnce() -> anyhow::Result<()>> Run for Serve<'_, F> {
    fn run<S: Store + 'static, const SESSIONS: usize, const DATA: usize>(self, store: S) -> anyhow::Result<Report> {
        let Self { options, link, tap, stopped, ready } = self;
        let fd = tap.as_fd().try_clone_to_owned()?;
        let watched = Watched { fd, stopped };
        match &link.pcap {
            Some(path) => {
                let captured = PcapWriter::new(tap, Capture::create(path)?, PcapMode::Both);
                let wire = Faulty::new(captured, link.faults, link.seed);
                serve::<S, SESSIONS, DATA>(options, &link, store, wire, &watched, ready)
            }
            None if !link.faults.is_none() => {
                let wire = Faulty::new(tap, link.faults, link.seed);
                serve::<S, SESSIONS, DATA>(options, &link, store, wire, &watched, ready)
            }
            None => serve::<S, SESSIONS, DATA>(options, &link, store, tap, &watched, ready),
        }
    }
}

/// A device that may hold frames back.
trait Wire: Device {
    /// Moves frames on whose time has come; says when the next one's has.
    fn advance(&mut self, now: Instant) -> Option<Instant>;
}

impl Wire for Tap {
    fn advance(&mut self, _now: Instant) -> Option<Instant> {
        None
    }
}

impl<D: Device> Wire for Faulty<D> {
    fn advance(&mut self, now: Instant) -> Option<Instant> {
        Self::advance(self, now)
    }
}

/// What ends the sleep.
struct Watched<'a> {
    fd: OwnedFd,
    stopped: &'a Stopped,
}

impl Watched<'_> {
    /// True if the server is to end.
    fn sleep(&self, most: Option<Duration>) -> anyhow::Result<bool> {
        let mut watched = [
            PollFd::from_borrowed_fd(self.stopped.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.fd.as_fd(), PollFlags::IN),
        ];
        wait(&mut watched, most)?;
        let [stopped, tap] = watched.map(|fd| fd.revents());
        if tap.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
            bail!("the TAP is gone");
        }
        Ok(!stopped.is_empty())
    }
}

/// Turns in which there was always more to do, before somebody may say that it is enough.
const PATIENCE: u32 = 64;

fn serve<S: Store + 'static, const SESSIONS: usize, const DATA: usize>(
    options: &Options,
    link: &Link,
    store: S,
    mut wire: impl Wire,
    watched: &Watched<'_>,
    ready: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Report> {
    let address = Address { mac: link.mac, ipv4: link.ipv4, ipv6: link.ipv6, port: link.port };
    let ports = data_ports(options.data_ports, link.port, DATA)?;
    let mut server = Embedded::<S, SESSIONS, DATA>::new(options, address, &ports, store, &mut wire)?;
    ready()?;
    if link.ipv4 == Ipv4::Dhcp {
        say(format_args!("waiting for an address by DHCP"));
    }
    let mut busy = 0;
    loop {
        let delay = server.poll(&mut wire);
        if let Some(addresses) = server.new_addresses() {
            tell(addresses, link);
        }
        if delay == Some(Duration::ZERO) && busy < PATIENCE {
            busy += 1;
            continue;
        }
        busy = 0;
        let now = crate::server::time(server.clock().now());
        // The clock's unit is the millisecond: a frame that is due within this one is due.
        let due = wire.advance(now).map(|due| Duration::from_micros((due - now).total_micros()).max(MOMENT));
        if watched.sleep(delay.into_iter().chain(due).min())? {
            return Ok(server.report());
        }
    }
}

const MOMENT: Duration = Duration::from_millis(1);

/// The data ports: those that follow the control port, unless there is a range of their own.
fn data_ports(range: Option<PortRange>, control: u16, count: usize) -> anyhow::Result<Vec<u16>> {
    let ports = range.map_or(control.saturating_add(1)..=u16::MAX, PortRange::ports);
    let ports: Vec<u16> = ports.filter(|port| *port != control).take(count).collect();
    if ports.len() < count {
        bail!("--data-ports: {count} are needed, without the control port");
    }
    Ok(ports)
}

fn tell(addresses: &[(IpAddr, u8)], link: &Link) {
    if addresses.iter().all(|(address, _)| address.is_ipv6()) && link.ipv4 == Ipv4::Dhcp {
        say(format_args!("no address by DHCP yet"));
    }
    for (address, prefix) in addresses {
        let zone = match address {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => format!("%{}", link.tap),
            _ => String::new(),
        };
        say(format_args!("{address}{zone} port {}, on a network of {prefix} bits", link.port));
    }
}
