//! The frames.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv6Packet,
    Icmpv6Repr, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
};

use super::{DEVICE, DEVICE_MAC, DEVICE_V6, STATION_MAC};

fn ethernet_frame(ethertype: EthernetProtocol, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; 14 + len];
    let repr = EthernetRepr { src_addr: STATION_MAC, dst_addr: DEVICE_MAC, ethertype };
    repr.emit(&mut EthernetFrame::new_unchecked(&mut bytes));
    bytes
}

pub(super) fn ipv4(
    from: Ipv4Addr,
    to: Ipv4Addr,
    next_header: IpProtocol,
    len: usize,
    emit: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let repr = Ipv4Repr { src_addr: from, dst_addr: to, next_header, payload_len: len, hop_limit: 64 };
    let mut bytes = ethernet_frame(EthernetProtocol::Ipv4, repr.buffer_len() + len);
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[14..]);
    repr.emit(&mut packet, &ChecksumCapabilities::default());
    emit(packet.payload_mut());
    bytes
}

pub(super) fn ipv6(
    from: Ipv6Addr,
    to: Ipv6Addr,
    next_header: IpProtocol,
    len: usize,
    emit: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let repr = Ipv6Repr { src_addr: from, dst_addr: to, next_header, payload_len: len, hop_limit: 255 };
    let mut bytes = ethernet_frame(EthernetProtocol::Ipv6, repr.buffer_len() + len);
    let mut packet = Ipv6Packet::new_unchecked(&mut bytes[14..]);
    repr.emit(&mut packet);
    emit(packet.payload_mut());
    bytes
}

/// A frame from `address`, which is at `mac`, about the device.
pub(super) fn arp_frame(operation: ArpOperation, mac: EthernetAddress, address: Ipv4Addr) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: mac,
        source_protocol_addr: address,
        target_hardware_addr: DEVICE_MAC,
        target_protocol_addr: DEVICE,
    };
    let mut bytes = ethernet_frame(EthernetProtocol::Arp, repr.buffer_len());
    bytes[6..12].copy_from_slice(&mac.0);
    repr.emit(&mut ArpPacket::new_unchecked(&mut bytes[14..]));
    bytes
}

fn ndisc(mac: EthernetAddress, from: Ipv6Addr, to: Ipv6Addr, repr: NdiscRepr<'_>) -> Vec<u8> {
    let repr = Icmpv6Repr::Ndisc(repr);
    let mut bytes = ipv6(from, to, IpProtocol::Icmpv6, repr.buffer_len(), |payload| {
        let caps = ChecksumCapabilities::default();
        repr.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(payload), &caps);
    });
    bytes[6..12].copy_from_slice(&mac.0);
    bytes
}

/// `address` announces that it is at `mac`.
pub(super) fn advert(mac: EthernetAddress, address: Ipv6Addr) -> Vec<u8> {
    let flags = NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE;
    ndisc(mac, address, DEVICE_V6, NdiscRepr::NeighborAdvert { flags, target_addr: address, lladdr: Some(mac.into()) })
}

/// `address`, which is at `mac`, asks where the device is.
pub(super) fn question(mac: EthernetAddress, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp_frame(ArpOperation::Request, mac, address),
        IpAddr::V6(address) => {
            // Its solicited-node address.
            let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 2);
            let repr = NdiscRepr::NeighborSolicit { target_addr: DEVICE_V6, lladdr: Some(mac.into()) };
            ndisc(mac, address, to, repr)
        }
    }
}

/// The same as an unsolicited reply.
pub(super) fn claim(mac: EthernetAddress, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp_frame(ArpOperation::Reply, mac, address),
        IpAddr::V6(address) => advert(mac, address),
    }
}
