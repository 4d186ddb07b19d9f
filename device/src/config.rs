//! The configuration of a server and of its network stack.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use skiff_proto::name::MAX_NAME;
use skiff_proto::responder::list_room;
use skiff_proto::server::Limits;
use skiff_proto::takeover::TAKEOVER;

/// The configuration of a [`DeviceServer`](crate::server::DeviceServer).
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config<'a> {
    /// The port of control connections.
    pub port: u16,
    /// The port of each data socket; all must be different.
    pub data_ports: &'a [u16],
    /// The limits of a session, and the properties of the server for the hello. Its longest name is that of the server.
    pub limits: Limits,
    /// The interval between keep-alive packets to a silent peer.
    pub keep_alive: Duration,
    /// A peer that has not answered for this time counts as dead, and its session is freed.
    pub timeout: Duration,
    /// How long a writer has to be silent before another client may take over its name (PROTOCOL §7).
    pub takeover: Duration,
}

/// The configuration of a [`Stack`](crate::stack::Stack).
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Network {
    /// The hardware address: unicast.
    pub mac: [u8; 6],
    /// Must be different at each start; otherwise old connections may be taken for new ones. It does not have to be
    /// secret.
    pub seed: u64,
    /// The IPv4 address.
    pub ipv4: Ipv4,
    /// The IPv6 addresses, which need the feature `ipv6`.
    pub ipv6: Ipv6,
}

/// The IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Ipv4 {
    /// None.
    Off,
    /// From a DHCP server, which needs the feature `dhcp`.
    Dhcp,
    /// A fixed one.
    Static {
        /// The address.
        address: Ipv4Addr,
        /// The length of the network prefix in bits, 0 to 32.
        prefix: u8,
        /// The router to other networks.
        gateway: Option<Ipv4Addr>,
    },
}

/// The IPv6 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Ipv6 {
    /// None.
    Off,
    /// Only the link-local address, derived from the hardware address.
    LinkLocal,
    /// The link-local address and a fixed one.
    Static {
        /// The address.
        address: Ipv6Addr,
        /// The length of the network prefix in bits, 0 to 128.
        prefix: u8,
        /// The router to other networks.
        gateway: Option<Ipv6Addr>,
    },
}

impl<'a> Config<'a> {
    /// The defaults: names of 64 bytes, a keep-alive every 10 s, a timeout of 30 s for a dead peer.
    #[must_use]
    pub const fn new(port: u16, data_ports: &'a [u16]) -> Self {
        Self {
            port,
            data_ports,
            limits: Limits::new(64),
            keep_alive: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            takeover: TAKEOVER,
        }
    }

    /// # Errors
    /// The first setting that is not valid. `smallest` is the smallest socket buffer of a control connection, in bytes.
    pub(crate) fn check(&self, name: usize, smallest: usize) -> Result<(), ConfigError> {
        let ports = self.data_ports;
        let twice = |(at, port): (usize, &u16)| *port == self.port || ports[..at].contains(port);
        if self.port == 0 || ports.contains(&0) || ports.iter().enumerate().any(twice) {
            return Err(ConfigError::Ports);
        }
        if !ports.is_empty() && !cfg!(feature = "classic") {
            return Err(ConfigError::NotBuiltIn);
        }
        if usize::from(self.limits.name_max) > name.min(MAX_NAME) {
            return Err(ConfigError::Name);
        }
        if smallest < list_room(self.limits.name_max) {
            return Err(ConfigError::Buffer { needed: list_room(self.limits.name_max) });
        }
        Ok(())
    }
}

impl Network {
    /// No IPv6, and 0 for the seed.
    #[must_use]
    pub const fn new(mac: [u8; 6], ipv4: Ipv4) -> Self {
        Self { mac, seed: 0, ipv4, ipv6: Ipv6::Off }
    }

    /// # Errors
    /// The first setting that is not valid.
    #[cfg(feature = "smoltcp")]
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.mac[0] & 1 != 0 || self.mac == [0; 6] {
            return Err(ConfigError::Mac);
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
        Ok(())
    }

    /// True if every address and gateway is unicast: smoltcp panics on others.
    #[cfg(feature = "smoltcp")]
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

/// Why a configuration is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ConfigError {
    /// The hardware address is not unicast.
    Mac,
    /// A port is 0 or is used twice.
    Ports,
    /// A network prefix is longer than an address.
    Prefix,
    /// An address or a gateway is not unicast.
    Address,
    /// DHCP, IPv6 or a data port without the feature `dhcp`, `ipv6` or `classic`.
    NotBuiltIn,
    /// The limits' longest name is longer than the server's.
    Name,
    /// A socket buffer is too small for a line of a listing.
    Buffer {
        /// The required number of bytes.
        needed: usize,
    },
    /// The memory has no sessions or more than 255, the number of control sockets is not that of the sessions plus one,
    /// or the number of data sockets is not that of the data ports.
    Memory,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac => f.write_str("the hardware address is not unicast"),
            Self::Ports => f.write_str("a port is 0 or is used twice"),
            Self::Prefix => f.write_str("a network prefix is longer than an address"),
            Self::Address => f.write_str("an address or a gateway is not unicast"),
            Self::NotBuiltIn => f.write_str("this server is built without DHCP, IPv6 or classic transfers"),
            Self::Name => f.write_str("names are longer than this server's memory for them"),
            Self::Buffer { needed } => write!(f, "a socket buffer needs {needed} bytes for names of this length"),
            Self::Memory => {
                f.write_str("the numbers of sessions, control sockets, data sockets and data ports do not match")
            }
        }
    }
}

impl core::error::Error for ConfigError {}
