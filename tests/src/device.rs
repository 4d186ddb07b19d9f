//! An embedded server inside the test: behind its own loopback ports, or behind a TAP in the test's namespace.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread::JoinHandle;

use skiff_device::config::Ipv6;
use skiff_device::serv::Report;
use skiff_device::serv::listen::Listen;
use skiff_device::serv::network::{Link, Network};
use skiff_device::serv::options::{Options, Security};
use skiff_device::serv::stop::{Stop, Stopped};

use crate::namespace::ip;
use crate::relay::{self, Relay};
use crate::sealed::{key, secret};
use crate::wire::{self, Wire};

/// The name of the TAP in a test's namespace.
pub const TAP: &str = "tap0";
/// The test's own addresses on it, in addition to the one that the server's library assigns.
pub const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 69, 254));
/// See [`OURS`].
pub const STRANGERS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 69, 253));
/// The server's IPv6 address on it.
pub const DEVICE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x69, 0, 0, 0, 0, 0, 1);

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Device {
    v4: SocketAddr,
    v6: SocketAddr,
    data_ports: Vec<u16>,
    _relay: Option<Relay>,
    stop: Option<Stop>,
    thread: Option<JoinHandle<Report>>,
}

impl Device {
    /// Serves an empty store behind loopback ports, with the defaults.
    #[must_use]
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// Serves an empty store behind loopback ports; `change` modifies the options.
    ///
    /// # Panics
    /// If no port is available.
    #[must_use]
    pub fn with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::default();
        change(&mut options);
        let listen = Listen::bind(options, 0).expect("ports");
        let (port, data_ports) = (listen.port(), listen.data_ports().collect());
        let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
        Self::run(v4, v6, data_ports, move |stopped| listen.run(stopped, || ()).expect("the server runs"))
    }

    /// The same with a device secret, behind [`relay::sealing`], which encrypts the plain messages sent to
    /// [`Self::addr`].
    ///
    /// # Panics
    /// If no port is available.
    #[must_use]
    pub fn sealed(change: impl FnOnce(&mut Options)) -> Self {
        let mut device = Self::with(|options| {
            options.security = Some(Security { secret: secret(), min_generation: 1 });
            change(options);
        });
        let relay = relay::sealing(&[device.v4, device.v6], &key("rw.alice.1"));
        (device.v4, device.v6) = (relay.addrs[0], relay.addrs[1]);
        device._relay = Some(relay);
        device
    }

    /// Serves an empty store behind [`TAP`], port 50000; `change` modifies the options. Call it only inside a
    /// namespace.
    ///
    /// # Panics
    /// If the TAP can't be created.
    #[must_use]
    pub fn on_tap(change: impl FnOnce(&mut Options, &mut Link)) -> Self {
        let mut options = Options::default();
        let mut link = Link::new(TAP);
        link.ipv6 = Ipv6::Static { address: DEVICE_V6, prefix: 64, gateway: None };
        change(&mut options, &mut link);
        let (v4, v6) = (IpAddr::V4(Ipv4Addr::new(192, 168, 69, 1)), IpAddr::V6(DEVICE_V6));
        let (v4, v6) = (SocketAddr::new(v4, link.port), SocketAddr::new(v6, link.port));
        let data_ports = options.data_ports.map_or((50_001..=50_004).collect(), |range| range.ports().collect());
        let network = Network::open(options, link).expect("a TAP");
        ip(&format!("addr add {STRANGERS}/24 dev {TAP}"));
        Self::run(v4, v6, data_ports, move |stopped| network.run(stopped, || ()).expect("the server runs"))
    }

    fn run(
        v4: SocketAddr,
        v6: SocketAddr,
        data_ports: Vec<u16>,
        serve: impl FnOnce(&Stopped) -> Report + Send + 'static,
    ) -> Self {
        let (stop, stopped) = Stop::new().expect("descriptors");
        let thread = std::thread::spawn(move || serve(&stopped));
        Self { v4, v6, data_ports, _relay: None, stop: Some(stop), thread: Some(thread) }
    }

    /// The port of control connections.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.v4.port()
    }

    /// The ports of its classic data connections.
    #[must_use]
    pub fn data_ports(&self) -> &[u16] {
        &self.data_ports
    }

    /// Its IPv4 address.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.v4
    }

    /// Its IPv6 address.
    #[must_use]
    pub const fn addr_v6(&self) -> SocketAddr {
        self.v6
    }

    /// A control connection.
    #[must_use]
    pub fn connect(&self) -> Wire {
        Wire::connect(self.addr())
    }

    /// Puts a file into the store: see [`wire::put`].
    #[track_caller]
    pub fn put(&self, name: &str, content: &[u8]) {
        wire::put(self.addr(), name, content);
    }

    /// A file's content; `None` if there is no such file.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        wire::content(self.addr(), name)
    }

    /// The names in the store, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        wire::names(self.addr())
    }

    /// Ends the server; returns its final state.
    ///
    /// # Panics
    /// If it has panicked.
    pub fn stop(&mut self) -> Option<Report> {
        drop(self.stop.take());
        self.thread.take().map(|thread| thread.join().expect("the server ends"))
    }
}

/// The server's link-local address on [`TAP`], derived from the hardware address of [`Link::new`].
///
/// # Panics
/// If there is no such interface.
#[must_use]
pub fn link_local(port: u16) -> SocketAddr {
    wire::link_local("fe80::ff:fe00:1".parse().expect("an address"), port, TAP)
}

impl Drop for Device {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}
