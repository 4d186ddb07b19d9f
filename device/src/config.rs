//! How a server is set up: its addresses, its ports, what it allows.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use skiff_proto::name::MAX_NAME;
use skiff_proto::responder::list_room;
use skiff_proto::server::Limits;
use skiff_proto::takeover::TAKEOVER;

/// Everything a server is told once. `DATA` is the number of its classic data connections.
#[derive(Debug, Clone, Copy)]
pub struct Config<const DATA: usize> {
    /// The hardware address: unicast.
    pub mac: [u8; 6],
    /// Different at each start, or else old connections may be taken for new ones. It need not be a secret.
    pub seed: u64,
    /// Where the server is found by IPv4.
    pub ipv4: Ipv4,
    /// Where it is found by IPv6, which needs the feature `ipv6`.
    pub ipv6: Ipv6,
    /// The port of control connections.
    pub port: u16,
    /// The port of each classic data connection. All different.
    pub data_ports: [u16; DATA],
    /// What a session allows and says of the server. Its longest name is that of the server.
    pub limits: Limits,
    /// A silent peer is asked so often whether it is still there.
    pub keep_alive: Duration,
    /// A peer that has not answered for so long is gone, and its session is free again.
    pub timeout: Duration,
    /// How long a writer has to be silent before another one may take its place (PROTOCOL §7).
    pub takeover: Duration,
}

/// The IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv4 {
    /// None.
    Off,
    /// From a DHCP server, which needs the feature `dhcp`.
    Dhcp,
    /// A fixed one.
    Static {
        /// The address.
        address: Ipv4Addr,
        /// How many of its bits are the network's, 0 to 32.
        prefix: u8,
        /// The way to other networks.
        gateway: Option<Ipv4Addr>,
    },
}

/// The IPv6 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv6 {
    /// None.
    Off,
    /// The link-local one alone, made from the hardware address.
    LinkLocal,
    /// The link-local and a fixed one.
    Static {
        /// The address.
        address: Ipv6Addr,
        /// How many of its bits are the network's, 0 to 128.
        prefix: u8,
        /// The way to other networks.
        gateway: Option<Ipv6Addr>,
    },
}

impl<const DATA: usize> Config<DATA> {
    /// The defaults: names of 64 bytes, no IPv6, a keep-alive every 10 s, a timeout of 30 s for a dead peer.
    #[must_use]
    pub const fn new(mac: [u8; 6], ipv4: Ipv4, port: u16, data_ports: [u16; DATA]) -> Self {
        Self {
            mac,
            seed: 0,
            ipv4,
            ipv6: Ipv6::Off,
            port,
            data_ports,
            limits: Limits::new(64),
            keep_alive: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            takeover: TAKEOVER,
        }
    }

    /// # Errors
    /// What can't work. `smallest` is the smallest ring of a control connection, in bytes.
    pub(crate) fn check(&self, name: usize, smallest: usize) -> Result<(), ConfigError> {
        if self.mac[0] & 1 != 0 || self.mac == [0; 6] {
            return Err(ConfigError::Mac);
        }
        let ports = self.data_ports.as_slice();
        let twice = |(at, port): (usize, &u16)| *port == self.port || ports[..at].contains(port);
        if self.port == 0 || ports.contains(&0) || ports.iter().enumerate().any(twice) {
            return Err(ConfigError::Ports);
        }
        let prefix_fits = !matches!(self.ipv4, Ipv4::Static { prefix: 33.., .. })
            && !matches!(self.ipv6, Ipv6::Static { prefix: 129.., .. });
        if !prefix_fits {
            return Err(ConfigError::Prefix);
        }
        if !self.addresses_fit() {
            return Err(ConfigError::Address);
        }
        if (self.ipv4 == Ipv4::Dhcp && !cfg!(feature = "dhcp")) || (self.ipv6 != Ipv6::Off && !cfg!(feature = "ipv6")) {
            return Err(ConfigError::NotBuiltIn);
        }
        if usize::from(self.limits.name_max) > name.min(MAX_NAME) {
            return Err(ConfigError::Name);
        }
        if smallest < list_room(self.limits.name_max) {
            return Err(ConfigError::Ring { needed: list_room(self.limits.name_max) });
        }
        Ok(())
    }

    /// True if every address and gateway can be somebody's own: the stack panics on others.
    fn addresses_fit(&self) -> bool {
        let v4 = |address: Ipv4Addr| !(address.is_unspecified() || address.is_multicast() || address.is_broadcast());
        let v6 = |address: Ipv6Addr| !(address.is_unspecified() || address.is_multicast());
        let v4_fits = match self.ipv4 {
            Ipv4::Static { address, gateway, .. } => v4(address) && gateway.is_none_or(v4),
            Ipv4::Off | Ipv4::Dhcp => true,
        };
        let v6_fits = match self.ipv6 {
            Ipv6::Static { address, gateway, .. } => v6(address) && gateway.is_none_or(v6),
            Ipv6::Off | Ipv6::LinkLocal => true,
        };
        v4_fits && v6_fits
    }
}

/// Why a server can't be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigError {
    /// The hardware address is not unicast.
    Mac,
    /// A port is 0 or is used twice.
    Ports,
    /// A network prefix is longer than an address.
    Prefix,
    /// An address or a gateway is not unicast.
    Address,
    /// DHCP or IPv6 without the feature of this name.
    NotBuiltIn,
    /// The limits' longest name is longer than the server's.
    Name,
    /// A ring is too small for a line of a listing.
    Ring {
        /// Bytes it has to have.
        needed: usize,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac => f.write_str("the hardware address is not unicast"),
            Self::Ports => f.write_str("a port is 0 or is used twice"),
            Self::Prefix => f.write_str("a network prefix is longer than an address"),
            Self::Address => f.write_str("an address or a gateway is not unicast"),
            Self::NotBuiltIn => f.write_str("this server is built without DHCP or IPv6"),
            Self::Name => f.write_str("names are longer than this server's memory for them"),
            Self::Ring { needed } => write!(f, "a ring has to have {needed} bytes for names of this length"),
        }
    }
}

impl core::error::Error for ConfigError {}
