//! The embedded server on a network: behind a TAP of this machine. Linux only.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::net::UdpSocket;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::Instant as Moment;

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags};
use skiff_proto::store::Store;
use smoltcp::phy::{Device, PcapMode, PcapWriter};
use smoltcp::time::Instant;

use super::capture::Capture;
use super::embedded::{Address, Embedded, Report, Run, choose};
use super::faults::{Faults, Faulty};
use super::made::Made;
use super::options::{Options, PortRange};
use super::say::say;
use super::stop::Stopped;
use super::tap::{Offload, Tap};
use super::wait::wait;
use crate::config::{Ipv4, Ipv6};

/// The default hardware address.
pub const DEFAULT_ADDRESS: (Ipv4Addr, u8) = (Ipv4Addr::new(192, 168, 69, 1), 24);
/// The default hardware address.
pub const DEFAULT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// How a server is connected to a network.
#[derive(Debug, Clone)]
pub struct Link {
    /// The TAP.
    pub tap: String,
    /// Whether the kernel offloads to the TAP as to a network card. Off if frames have to look as on a wire, because
    /// they are captured or damaged.
    pub offload: Offload,
    /// The longest IP packet; `None`: that of the interface.
    pub mtu: Option<u16>,
    /// The hardware address.
    pub mac: [u8; 6],
    /// The IPv4 address.
    pub ipv4: Ipv4,
    /// The IPv6 addresses.
    pub ipv6: Ipv6,
    /// This machine's own address on a TAP that is created here; `None`: the gateway's, or otherwise the last one of
    /// the network.
    pub host_v4: Option<Ipv4Addr>,
    /// The same for IPv6, if the server has a fixed address.
    pub host_v6: Option<Ipv6Addr>,
    /// The port of control connections.
    pub port: u16,
    /// Whether clients find the server by name, with mDNS.
    pub announce: bool,
    /// The faults of the link.
    pub faults: Faults,
    /// The seed of the random faults.
    pub seed: u64,
    /// A file that gets a copy of every frame.
    pub pcap: Option<PathBuf>,
}

impl Link {
    /// A link on TAP `tap`, with the defaults: 192.168.69.1 and the link-local address, port 50000, no mDNS, no
    /// faults.
    #[must_use]
    pub fn new(tap: &str) -> Self {
        let (address, prefix) = DEFAULT_ADDRESS;
        Self {
            tap: tap.to_owned(),
            offload: Offload::Auto,
            mtu: None,
            mac: DEFAULT_MAC,
            ipv4: Ipv4::Static { address, prefix, gateway: None },
            ipv6: Ipv6::LinkLocal,
            host_v4: None,
            host_v6: None,
            port: 50_000,
            announce: false,
            faults: Faults::default(),
            seed: 0,
            pcap: None,
        }
    }

    /// # Errors
    /// A text that names the addresses that conflict.
    pub fn check(&self) -> Result<(), String> {
        if let Ipv4::Static { address, prefix, gateway } = self.ipv4 {
            let inside = |other: Ipv4Addr| same_network(&address.octets(), &other.octets(), prefix);
            for (option, other) in [("--gateway", gateway), ("--host-ip", self.host_v4)] {
                check_other(option, other, address, inside)?;
            }
        } else if self.host_v4.is_some() {
            return Err("--host-ip: an IPv4 address needs a fixed IPv4 --ip".into());
        }
        if let Ipv6::Static { address, prefix, gateway } = self.ipv6 {
            // A gateway may be link-local.
            let inside = |other: Ipv6Addr| {
                same_network(&address.octets(), &other.octets(), prefix) || other.is_unicast_link_local()
            };
            for (option, other) in [("--gateway", gateway), ("--host-ip", self.host_v6)] {
                check_other(option, other, address, inside)?;
            }
        } else if self.host_v6.is_some() {
            return Err("--host-ip: an IPv6 address needs a fixed IPv6 --ip".into());
        }
        Ok(())
    }

    /// This machine's own addresses on a TAP that is created here.
    fn hosts(&self) -> Vec<(IpAddr, u8)> {
        let mut hosts = Vec::new();
        if let Ipv4::Static { address, prefix, gateway } = self.ipv4 {
            // The last but the broadcast address; of very small networks the other one.
            let host_bits = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            let last = (address.to_bits() | host_bits).saturating_sub(u32::from(prefix < 31));
            let last = Ipv4Addr::from_bits(if last == address.to_bits() { last.saturating_sub(1) } else { last });
            hosts.push((IpAddr::V4(self.host_v4.or(gateway).unwrap_or(last)), prefix));
        }
        if let Ipv6::Static { address, prefix, gateway } = self.ipv6 {
            let host_bits = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
            let last = (address.to_bits() | host_bits).saturating_sub(1);
            let last = Ipv6Addr::from_bits(if last == address.to_bits() { last.saturating_sub(1) } else { last });
            let gateway = gateway.filter(|gateway| !gateway.is_unicast_link_local());
            hosts.push((IpAddr::V6(self.host_v6.or(gateway).unwrap_or(last)), prefix));
        }
        hosts
    }
}

fn check_other<A: PartialEq + core::fmt::Display>(
    option: &str,
    other: Option<A>,
    own: A,
    inside: impl Fn(A) -> bool,
) -> Result<(), String> {
    match other {
        Some(other) if other == own => Err(format!("{option}: {own} is the server's own address")),
        Some(other) => {
            let text = format!("{option}: {other} is not on the server's network");
            if inside(other) { Ok(()) } else { Err(text) }
        }
        None => Ok(()),
    }
}

fn same_network(one: &[u8], other: &[u8], prefix: u8) -> bool {
    let mut bits = usize::from(prefix);
    one.iter().zip(other).all(|(one, other)| {
        let shared = bits.min(8);
        bits -= shared;
        (one ^ other).checked_shr(8 - u32::try_from(shared).unwrap_or(8)).unwrap_or(0) == 0
    })
}

/// True for an address that programs of this machine can have.
fn is_this_machine(address: IpAddr) -> bool {
    // While no interface is up, every address can be bound, so the check proves nothing.
    const NOBODYS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    UdpSocket::bind((NOBODYS, 0)).is_err() && UdpSocket::bind((address, 0)).is_ok()
}

/// A server whose TAP is open.
#[derive(Debug)]
pub struct Network {
    options: Options,
    link: Link,
    tap: Tap,
}

impl Network {
    /// Opens the TAP; if it is created here, configures it with an address.
    ///
    /// # Errors
    /// See [`Tap::open`]; or the server's address is one of this machine's own.
    pub fn open(options: Options, link: Link) -> anyhow::Result<Self> {
        if let Err(error) = link.check() {
            bail!("{error}");
        }
        let wire = link.pcap.is_some() || !link.faults.is_none();
        let mut tap = Tap::open(&link.tap, if wire { Offload::Off } else { link.offload })?;
        if let Some(mtu) = link.mtu.filter(|mtu| usize::from(*mtu) != tap.mtu()) {
            tap.set_mtu(mtu).with_context(|| format!("--mtu {mtu}"))?;
        }
        if tap.is_made() {
            let hosts = link.hosts();
            // IPv6 needs longer packets than the smallest MTU that can be set.
            let hosts: Vec<_> = hosts.into_iter().filter(|(host, _)| host.is_ipv4() || tap.mtu() >= 1280).collect();
            tap.set_up(&hosts).with_context(|| link.tap.clone())?;
            let told: Vec<_> = hosts.iter().map(|(host, prefix)| format!("{host}/{prefix}")).collect();
            let addresses =
                if told.is_empty() { String::new() } else { format!("; this machine has {}", told.join(", ")) };
            say(format_args!("created {}{addresses}", link.tap));
        } else if !tap.is_up()? {
            say(format_args!("{0} is down; as root: ip link set {0} up", link.tap));
        }
        let own = [
            if let Ipv4::Static { address, .. } = link.ipv4 { Some(IpAddr::V4(address)) } else { None },
            if let Ipv6::Static { address, .. } = link.ipv6 { Some(IpAddr::V6(address)) } else { None },
        ];
        if let Some(own) = own.into_iter().flatten().find(|own| is_this_machine(*own)) {
            bail!("--ip: {own} is an address of this machine; the server needs a different one");
        }
        Ok(Self { options, link, tap })
    }

    /// Serves until `stopped`; calls `ready` once it can serve. The memory of the server is not freed.
    ///
    /// # Errors
    /// The configuration is invalid, the files of `--preload` can't be loaded, or the TAP was removed.
    pub fn run(self, stopped: &Stopped, ready: impl FnOnce()) -> anyhow::Result<Report> {
        let Self { options, link, tap } = self;
        choose(&options, Serve { options: &options, link, tap, stopped, ready })
    }
}

struct Serve<'a, R> {
    options: &'a Options,
    link: Link,
    tap: Tap,
    stopped: &'a Stopped,
    ready: R,
}

impl<R: FnOnce()> Run for Serve<'_, R> {
    fn run<S: Store + 'static>(self, store: S, mut made: Made) -> anyhow::Result<Report> {
        let Self { options, link, tap, stopped, ready } = self;
        let data = options.data_connections().context("--sessions: must be 1, 2, 4 or 8")?;
        let ports = data_ports(options.data_ports, link.port, data)?;
        // This comes last because it truncates an existing file.
        let capture = link.pcap.as_deref().map(|path| Capture::create(path, &mut made)).transpose()?;
        let ready = || {
            made.keep();
            ready();
        };
        let fd = tap.as_fd().try_clone_to_owned()?;
        let watched = Watched { fd, stopped };
        match capture {
            Some(capture) => {
                let captured = PcapWriter::new(tap, capture, PcapMode::Both);
                let wire = Faulty::new(captured, link.faults, link.seed);
                serve(options, &link, &ports, store, wire, &watched, ready)
            }
            None if !link.faults.is_none() => {
                let wire = Faulty::new(tap, link.faults, link.seed);
                serve(options, &link, &ports, store, wire, &watched, ready)
            }
            None => serve(options, &link, &ports, store, tap, &watched, ready),
        }
    }
}

/// A device that may delay frames.
trait Wire: Device {
    /// Delivers frames whose time has come; returns the time of the next one.
    fn advance(&mut self, now: Instant) -> Option<Instant>;

    /// Bytes of frames received and sent since the last call.
    fn moved(&mut self) -> usize {
        0
    }

    /// True if a frame has already arrived; false if that is not known.
    fn has_frame(&mut self) -> bool {
        false
    }
}

impl Wire for Tap {
    fn advance(&mut self, _now: Instant) -> Option<Instant> {
        None
    }

    fn moved(&mut self) -> usize {
        self.take_moved()
    }

    fn has_frame(&mut self) -> bool {
        Self::has_frame(self)
    }
}

impl<D: Device> Wire for Faulty<D> {
    fn advance(&mut self, now: Instant) -> Option<Instant> {
        Self::advance(self, now)
    }
}

/// The events that end a sleep.
struct Watched<'a> {
    fd: OwnedFd,
    stopped: &'a Stopped,
}

impl Watched<'_> {
    /// Sleeps until something arrives, at most this long. True if the server has to end.
    fn sleep(&self, most: Option<Duration>) -> anyhow::Result<bool> {
        let mut watched = [
            PollFd::from_borrowed_fd(self.stopped.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.fd.as_fd(), PollFlags::IN),
        ];
        wait(&mut watched, most)?;
        let [stopped, tap] = watched.map(|fd| fd.revents());
        if tap.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
            bail!("the TAP was removed");
        }
        Ok(!stopped.is_empty())
    }
}

/// In the middle of a transfer, the next frame arrives so soon that going to sleep and being woken up would take
/// longer.
const GLANCE: Duration = Duration::from_micros(200);

/// Bytes in one turn that indicate the middle of a transfer.
const TRANSFER: usize = 4096;

/// The maximum number of consecutive turns without a pause.
const PATIENCE: u32 = 64;

fn serve<S: Store + 'static>(
    options: &Options,
    link: &Link,
    ports: &[u16],
    store: S,
    mut wire: impl Wire,
    watched: &Watched<'_>,
    ready: impl FnOnce(),
) -> anyhow::Result<Report> {
    let address = Address { mac: link.mac, ipv4: link.ipv4, ipv6: link.ipv6, port: link.port, announce: link.announce };
    let mut server = Embedded::new(options, address, ports, store, &mut wire)?;
    ready();
    if link.ipv4 == Ipv4::Dhcp {
        say(format_args!("waiting for an address from DHCP"));
    }
    let mut busy = 0;
    loop {
        let delay = server.poll(&mut wire);
        if let Some(addresses) = server.new_addresses() {
            tell(addresses, link);
        }
        if let Some(name) = server.new_name() {
            say(format_args!("announced as {name}.local"));
        }
        // If client and server share a processor, the client has often sent its next command by now.
        let more =
            delay == Some(Duration::ZERO) || wire.has_frame() || (wire.moved() >= TRANSFER && arrives_soon(&mut wire));
        if more && busy < PATIENCE {
            busy += 1;
            continue;
        }
        busy = 0;
        let delay = if more { Some(Duration::ZERO) } else { delay };
        let now = crate::time::moment(server.clock().now());
        // The clock's unit is the millisecond: a frame that is due within this one is due.
        let due = wire.advance(now).map(|due| Duration::from_micros((due - now).total_micros()).max(MOMENT));
        if watched.sleep(delay.into_iter().chain(due).min())? {
            return Ok(server.end(&mut wire));
        }
    }
}

const MOMENT: Duration = Duration::from_millis(1);

/// Waits a moment for a frame without going to sleep.
fn arrives_soon(wire: &mut impl Wire) -> bool {
    let begin = Moment::now();
    while !wire.has_frame() {
        if begin.elapsed() >= GLANCE {
            return false;
        }
        // The peer may be on this processor.
        std::thread::yield_now();
    }
    true
}

/// The data ports: those after the control port, unless there is a range.
fn data_ports(range: Option<PortRange>, control: u16, count: usize) -> anyhow::Result<Vec<u16>> {
    let ports = range.map_or(control.saturating_add(1)..=u16::MAX, PortRange::ports);
    let ports: Vec<u16> = ports.filter(|port| *port != control).take(count).collect();
    if ports.len() < count {
        bail!("--data-ports: {count} ports needed besides the control port");
    }
    Ok(ports)
}

fn tell(addresses: &[(IpAddr, u8)], link: &Link) {
    if addresses.iter().all(|(address, _)| address.is_ipv6()) && link.ipv4 == Ipv4::Dhcp {
        say(format_args!("still no address from DHCP"));
    }
    for (address, prefix) in addresses {
        let zone = match address {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => format!("%{}", link.tap),
            _ => String::new(),
        };
        say(format_args!("{address}{zone}/{prefix}, port {}", link.port));
    }
}
