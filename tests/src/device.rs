//! An embedded server inside the test: behind loopback ports of its own, without a network interface.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread::JoinHandle;

use skiff_device::serv::Report;
use skiff_device::serv::listen::Listen;
use skiff_device::serv::options::Options;
use skiff_device::serv::stop::Stop;

use crate::wire::{Wire, read_to_end};

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Device {
    port: u16,
    data_ports: Vec<u16>,
    stop: Option<Stop>,
    thread: Option<JoinHandle<Report>>,
}

impl Device {
    /// Serves an empty store with the defaults.
    #[must_use]
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// Serves an empty store; `change` sets the server up.
    ///
    /// # Panics
    /// If there is no port to be had.
    #[must_use]
    pub fn with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::default();
        change(&mut options);
        let listen = Listen::bind(options, 0).expect("ports");
        let (port, data_ports) = (listen.port(), listen.data_ports().collect());
        let (stop, stopped) = Stop::new().expect("descriptors");
        let thread = std::thread::spawn(move || listen.run(&stopped).expect("the server runs"));
        Self { port, data_ports, stop: Some(stop), thread: Some(thread) }
    }

    /// Its port, on both loopback addresses.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The ports of its classic data connections.
    #[must_use]
    pub fn data_ports(&self) -> &[u16] {
        &self.data_ports
    }

    /// Where it listens, IPv4.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port)
    }

    /// Where it listens, IPv6.
    #[must_use]
    pub const fn addr_v6(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), self.port)
    }

    /// A control connection.
    #[must_use]
    pub fn connect(&self) -> Wire {
        Wire::connect(self.addr())
    }

    /// Puts a file into the store, over a connection of its own that has ended when this returns.
    ///
    /// # Panics
    /// If that fails.
    pub fn put(&self, name: &str, content: &[u8]) {
        let mut wire = self.connect();
        let reply = wire.write(name, content);
        assert!(reply.starts_with("ok "), "{name}: {reply}");
        end(wire);
    }

    /// A file's content; `None` if there is no such file.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let mut wire = self.connect();
        let content = wire.read(name).ok();
        end(wire);
        content
    }

    /// The names in the store, sorted.
    ///
    /// # Panics
    /// If it can't be listed.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut wire = self.connect();
        assert_eq!(wire.ask("list"), "ok");
        let (lines, _) = wire.hear_body();
        end(wire);
        let lines = String::from_utf8(lines).expect("text");
        let mut names: Vec<_> =
            lines.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).map(ToOwned::to_owned).collect();
        names.sort();
        names
    }

    /// Ends the server; what it did and was doing.
    ///
    /// # Panics
    /// If it has panicked.
    pub fn stop(&mut self) -> Option<Report> {
        drop(self.stop.take());
        self.thread.take().map(|thread| thread.join().expect("the server ends"))
    }
}

/// Quits and waits for the server's end: its session is free then.
fn end(mut wire: Wire) {
    wire.say("quit");
    _ = read_to_end(&mut wire.stream);
}

impl Drop for Device {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}
