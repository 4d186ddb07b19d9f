//! A network stack for a device that has none yet: an interface with its addresses, and a socket set.

mod neighbors;

use core::net::IpAddr;
use core::time::Duration;

use skiff_proto::Instant;
use skiff_proto::store::Store;
use smoltcp::iface::{Config as InterfaceConfig, Interface, SocketSet};
use smoltcp::phy::Device;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, Ipv4Address};

use crate::config::{ConfigError, Ipv4, Ipv6, Network};
use crate::server::DeviceServer;
use crate::time::moment;
pub use neighbors::{NeighborFilter, NeighborGuard};

/// An interface and its sockets. An application may add its own sockets.
pub struct Stack<'s> {
    /// The interface.
    pub interface: Interface,
    /// The sockets.
    pub sockets: SocketSet<'s>,
    guard: NeighborGuard,
    #[cfg(feature = "dhcp")]
    dhcp: Option<smoltcp::iface::SocketHandle>,
}

impl<'s> Stack<'s> {
    /// Sockets that the stack needs for itself: one for DHCP.
    pub const SOCKETS: usize = cfg!(feature = "dhcp") as usize;

    /// A stack on `device`; pass the same device to every poll. `sockets` needs room for [`Stack::SOCKETS`] and for all
    /// sockets that are added.
    ///
    /// # Errors
    /// The configuration is not valid.
    pub fn new<D: Device + ?Sized>(
        network: &Network,
        device: &mut D,
        sockets: SocketSet<'s>,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        network.check()?;
        let mut setup = InterfaceConfig::new(HardwareAddress::Ethernet(EthernetAddress(network.mac)));
        setup.random_seed = network.seed;
        let mut interface = Interface::new(setup, device, moment(now));
        if let Ipv4::Static { address, prefix, gateway } = network.ipv4 {
            add(&mut interface, IpAddress::Ipv4(address), prefix);
            if let Some(gateway) = gateway {
                set_gateway(&mut interface, gateway);
            }
        }
        #[cfg(feature = "ipv6")]
        set_ipv6(&mut interface, network.mac, network.ipv6);
        #[cfg(not(feature = "ipv6"))]
        debug_assert!(network.ipv6 == Ipv6::Off);
        #[cfg(feature = "dhcp")]
        let mut sockets = sockets;
        Ok(Self {
            interface,
            guard: NeighborGuard::new(now),
            #[cfg(feature = "dhcp")]
            dhcp: (network.ipv4 == Ipv4::Dhcp).then(|| sockets.add(smoltcp::socket::dhcpv4::Socket::new())),
            sockets,
        })
    }

    /// Polls `server` over this stack: see [`DeviceServer::poll`] and [`DeviceServer::poll_delay`], whose result it
    /// returns.
    pub fn poll<D: Device + ?Sized, S: Store, const NAME: usize, const BUF: usize>(
        &mut self,
        now: Instant,
        device: &mut D,
        server: &mut DeviceServer<'_, S, NAME, BUF>,
        store: &mut S,
    ) -> Option<Duration> {
        let Self { interface, sockets, guard, .. } = self;
        let device = &mut guard.filter(device, interface, now);
        // Before anything is sent: a lease may be one that must not be used.
        server.poll_with(now, interface, device, sockets, store, |interface, sockets| {
            #[cfg(feature = "dhcp")]
            if let Some(change) = self.dhcp.and_then(|dhcp| change(sockets.get_mut(dhcp))) {
                configure(interface, change);
            }
            _ = (interface, sockets);
        });
        server.poll_delay(now, interface, sockets)
    }

    /// The addresses, for a log: `None` after the last one. They change with DHCP.
    #[must_use]
    pub fn address(&self, index: usize) -> Option<(IpAddr, u8)> {
        self.interface.ip_addrs().get(index).map(|cidr| (cidr.address().into(), cidr.prefix_len()))
    }
}

/// Applies a change of the lease.
#[cfg(feature = "dhcp")]
fn configure(interface: &mut Interface, lease: Option<Lease>) {
    interface.update_ip_addrs(|addresses| addresses.retain(|cidr| !matches!(cidr.address(), IpAddress::Ipv4(_))));
    interface.routes_mut().remove_default_ipv4_route();
    if let Some(Lease { address, router }) = lease {
        add(interface, IpAddress::Ipv4(address.address()), address.prefix_len());
        if let Some(router) = router {
            set_gateway(interface, router);
        }
    }
}

/// The parts of a lease that are used.
#[cfg(feature = "dhcp")]
struct Lease {
    address: smoltcp::wire::Ipv4Cidr,
    router: Option<Ipv4Address>,
}

/// A change: a new lease, or none.
///
/// smoltcp panics if it has to send to a neighbor whose address is not unicast, so such addresses are not accepted:
/// some servers announce 0.0.0.0 as the router, and a renewal can't be sent to a server with the address 0.0.0.0.
#[cfg(feature = "dhcp")]
fn change(socket: &mut smoltcp::socket::dhcpv4::Socket<'_>) -> Option<Option<Lease>> {
    use smoltcp::socket::dhcpv4::Event;
    let is_unicast = |address: &Ipv4Address| IpAddress::Ipv4(*address).is_unicast();
    let (lease, server) = match socket.poll()? {
        Event::Configured(lease) => {
            (Lease { address: lease.address, router: lease.router.filter(is_unicast) }, lease.server.address)
        }
        Event::Deconfigured => return Some(None),
    };
    if is_unicast(&server) {
        return Some(Some(lease));
    }
    socket.reset();
    Some(None)
}

fn add(interface: &mut Interface, address: IpAddress, prefix: u8) {
    // There is room: this module sets one IPv4 and two IPv6 addresses at most.
    interface.update_ip_addrs(|addresses| _ = addresses.push(IpCidr::new(address, prefix)));
}

fn set_gateway(interface: &mut Interface, gateway: Ipv4Address) {
    _ = interface.routes_mut().add_default_ipv4_route(gateway);
}

#[cfg(feature = "ipv6")]
fn set_ipv6(interface: &mut Interface, mac: [u8; 6], ipv6: Ipv6) {
    if ipv6 == Ipv6::Off {
        return;
    }
    let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    let local = core::net::Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        word(mac[0] ^ 2, mac[1]),
        word(mac[2], 0xff),
        word(0xfe, mac[3]),
        word(mac[4], mac[5]),
    );
    add(interface, IpAddress::Ipv6(local), 64);
    if let Ipv6::Static { address, prefix, gateway } = ipv6 {
        add(interface, IpAddress::Ipv6(address), prefix);
        if let Some(gateway) = gateway {
            _ = interface.routes_mut().add_default_ipv6_route(gateway);
        }
    }
}
