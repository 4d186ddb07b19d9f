//! The interface: its addresses, and what smoltcp wants to be told.

use core::time::Duration;

use skiff_proto::Instant;
use smoltcp::iface::{Config as InterfaceConfig, Interface, PollResult, SocketSet};
use smoltcp::phy::Device;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, Ipv4Address};

use crate::config::{Config, Ipv4, Ipv6};

/// smoltcp's moment of ours.
pub(crate) fn time(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_millis(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

pub(super) fn duration(duration: Duration) -> smoltcp::time::Duration {
    smoltcp::time::Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

pub(super) struct Net {
    pub(super) interface: Interface,
    #[cfg(feature = "dhcp")]
    dhcp: Option<smoltcp::iface::SocketHandle>,
}

impl Net {
    pub(super) fn new<const DATA: usize>(
        config: &Config<DATA>,
        device: &mut (impl Device + ?Sized),
        now: Instant,
        sockets: &mut SocketSet<'_>,
    ) -> Self {
        let mut setup = InterfaceConfig::new(HardwareAddress::Ethernet(EthernetAddress(config.mac)));
        setup.random_seed = config.seed;
        let mut interface = Interface::new(setup, device, time(now));
        if let Ipv4::Static { address, prefix, gateway } = config.ipv4 {
            add(&mut interface, IpAddress::Ipv4(address), prefix);
            if let Some(gateway) = gateway {
                set_gateway(&mut interface, gateway);
            }
        }
        #[cfg(feature = "ipv6")]
        set_ipv6(&mut interface, config.mac, config.ipv6);
        #[cfg(not(feature = "ipv6"))]
        debug_assert!(config.ipv6 == Ipv6::Off);
        #[cfg(feature = "dhcp")]
        let dhcp = (config.ipv4 == Ipv4::Dhcp).then(|| sockets.add(smoltcp::socket::dhcpv4::Socket::new()));
        #[cfg(not(feature = "dhcp"))]
        let _ = sockets;
        Self {
            interface,
            #[cfg(feature = "dhcp")]
            dhcp,
        }
    }

    /// Takes over what DHCP says.
    pub(super) fn configure(&mut self, sockets: &mut SocketSet<'_>) {
        #[cfg(feature = "dhcp")]
        if let Some(dhcp) = self.dhcp
            && let Some(lease) = news(sockets.get_mut(dhcp))
        {
            self.interface
                .update_ip_addrs(|addresses| addresses.retain(|cidr| !matches!(cidr.address(), IpAddress::Ipv4(_))));
            self.interface.routes_mut().remove_default_ipv4_route();
            if let Some(Lease { address, router }) = lease {
                add(&mut self.interface, IpAddress::Ipv4(address.address()), address.prefix_len());
                if let Some(router) = router {
                    set_gateway(&mut self.interface, router);
                }
            }
        }
        #[cfg(not(feature = "dhcp"))]
        let _ = sockets;
    }

    /// Sends everything that can go out now.
    pub(super) fn send(
        &mut self,
        now: smoltcp::time::Instant,
        device: &mut (impl Device + ?Sized),
        sockets: &mut SocketSet<'_>,
    ) {
        while self.interface.poll_egress(now, device, sockets) == PollResult::SocketStateChanged {}
    }

    /// After what time the stack has something to do.
    pub(super) fn delay(&mut self, now: smoltcp::time::Instant, sockets: &SocketSet<'_>) -> Option<Duration> {
        self.interface.poll_delay(now, sockets).map(|delay| Duration::from_micros(delay.total_micros()))
    }
}

/// What is used of a lease.
#[cfg(feature = "dhcp")]
struct Lease {
    address: smoltcp::wire::Ipv4Cidr,
    router: Option<Ipv4Address>,
}

/// What has changed: a lease, or that there is none.
///
/// The stack panics when it has to send to a neighbor that is nobody's address, so none is let in: some servers give 0.0.0.0
/// as the router, and one that speaks as 0.0.0.0 could not be asked to renew.
#[cfg(feature = "dhcp")]
fn news(socket: &mut smoltcp::socket::dhcpv4::Socket<'_>) -> Option<Option<Lease>> {
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
    // There is room: the server sets one IPv4 and two IPv6 addresses at most.
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
