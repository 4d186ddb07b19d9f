//! Combines the network options.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use skiff_device::config::{Ipv4, Ipv6};
use skiff_device::serv::faults::Faults;
use skiff_device::serv::network::{DEFAULT_ADDRESS, DEFAULT_MAC, Link};
use skiff_device::serv::tap::Offload;

use crate::args::{Args, FaultArgs, NetworkArgs};
use crate::usage;

/// The server's place on the network; ends the program if the options conflict.
pub(crate) fn link(args: &Args, tap: &str) -> Link {
    let NetworkArgs { ip, dhcp, gateway, host_ip, mac, port, offload, mtu, pcap } = &args.network;
    let FaultArgs { drop, corrupt, reorder, duplicate, delay, seed } = args.faults;
    let (address_v4, address_v6) = by_family(ip.iter().map(|cidr| (cidr.address, cidr.prefix)), "--ip");
    let (gateway_v4, gateway_v6) = by_family(gateway.iter().map(|address| (*address, ())), "--gateway");
    let (host_v4, host_v6) = by_family(host_ip.iter().map(|address| (*address, ())), "--host-ip");
    let ipv4 = match (dhcp, address_v4) {
        (true, Some(_)) => usage("--dhcp can't be used with an IPv4 --ip"),
        (true, None) if gateway_v4.is_some() => usage("--gateway: with --dhcp, the gateway comes from DHCP"),
        (true, None) => Ipv4::Dhcp,
        (false, address) => {
            let (address, prefix) = address.unwrap_or(DEFAULT_ADDRESS);
            Ipv4::Static { address, prefix, gateway: gateway_v4.map(|(gateway, ())| gateway) }
        }
    };
    let ipv6 = match address_v6 {
        Some((address, prefix)) => Ipv6::Static { address, prefix, gateway: gateway_v6.map(|(gateway, ())| gateway) },
        None if gateway_v6.is_some() => usage("--gateway: an IPv6 gateway needs an IPv6 --ip"),
        None => Ipv6::LinkLocal,
    };
    let link = Link {
        offload: if *offload { Offload::Auto } else { Offload::Off },
        mtu: *mtu,
        mac: mac.unwrap_or(DEFAULT_MAC),
        ipv4,
        ipv6,
        host_v4: host_v4.map(|(host, ())| host),
        host_v6: host_v6.map(|(host, ())| host),
        port: port.unwrap_or(50_000),
        faults: Faults { drop, corrupt, reorder, duplicate, delay: Duration::from_millis(delay) },
        seed,
        pcap: pcap.clone(),
        ..Link::new(tap)
    };
    if let Err(error) = link.check() {
        usage(&error);
    }
    if args.server.data_ports.is_some_and(|range| range.ports().contains(&link.port)) {
        usage("--data-ports: the range contains the control port");
    }
    link
}

/// An address of each family, each with additional data.
type ByFamily<T> = (Option<(Ipv4Addr, T)>, Option<(Ipv6Addr, T)>);

fn by_family<T>(all: impl Iterator<Item = (IpAddr, T)>, option: &str) -> ByFamily<T> {
    let (mut v4, mut v6) = (None, None);
    for (address, more) in all {
        let again = match address {
            IpAddr::V4(address) => v4.replace((address, more)).is_some(),
            IpAddr::V6(address) => v6.replace((address, more)).is_some(),
        };
        if again {
            usage(&format!("{option}: at most one IPv4 and one IPv6 address"));
        }
    }
    (v4, v6)
}
