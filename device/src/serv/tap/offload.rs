//! The header of each frame of a TAP with offload: the virtio-net header, version 1.0 §5.1.6.
//!
//! The two ends of a TAP are in memory. So on the way from one to the other, checksums do not have to be computed, and
//! TCP data does not have to be split into segments: the header records what is missing, and it is done when a frame is
//! sent over a wire.

use core::num::NonZeroU16;

use smoltcp::wire::{
    ETHERNET_HEADER_LEN, EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket,
    UdpPacket,
};

/// Bytes of the header.
pub(super) const HEADER: usize = 10;

/// The checksum is still to be computed: from `csum_start` on, to be put at `csum_offset`.
const NEEDS_CSUM: u8 = 1;
/// It has been checked.
const DATA_VALID: u8 = 2;
/// To be split into TCP segments of `gso_size` bytes over IPv4.
const GSO_TCPV4: u8 = 1;
/// Where the checksum is in a TCP header.
const TCP_CHECKSUM: u16 = 16;

/// An IP packet within a frame.
struct Transport {
    protocol: IpProtocol,
    source: IpAddress,
    destination: IpAddress,
    /// The start and the end of its payload in the frame.
    begin: usize,
    end: usize,
}

impl Transport {
    /// `None` for anything except TCP or UDP directly in a complete IP packet.
    fn of(frame: &[u8]) -> Option<Self> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        let found = match ethernet.ethertype() {
            EthernetProtocol::Ipv4 => {
                let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
                let begin = ETHERNET_HEADER_LEN + usize::from(packet.header_len());
                let end = ETHERNET_HEADER_LEN + usize::from(packet.total_len());
                let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
                if packet.more_frags() || packet.frag_offset() > 0 {
                    return None;
                }
                Self { protocol: packet.next_header(), source, destination, begin, end }
            }
            EthernetProtocol::Ipv6 => {
                let packet = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
                let begin = ETHERNET_HEADER_LEN + packet.header_len();
                let end = begin + usize::from(packet.payload_len());
                let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
                Self { protocol: packet.next_header(), source, destination, begin, end }
            }
            _ => return None,
        };
        matches!(found.protocol, IpProtocol::Tcp | IpProtocol::Udp).then_some(found)
    }

    /// The sum of the pseudo header, with which a checksum starts.
    fn pseudo_sum(&self) -> u16 {
        let words = |address: &IpAddress| match address {
            IpAddress::Ipv4(v4) => sum(&v4.octets()),
            IpAddress::Ipv6(v6) => sum(&v6.octets()),
        };
        let length = u32::try_from(self.end - self.begin).unwrap_or(0);
        let mut total = words(&self.source) + words(&self.destination) + length + u32::from(u8::from(self.protocol));
        while let high @ 1.. = total >> 16 {
            total = (total & 0xffff) + high;
        }
        u16::try_from(total).unwrap_or(0)
    }
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum()
}

/// Prepares a frame without TCP checksum for a kernel that does not have to compute it; returns its header. `segment`:
/// the bytes of each segment if it is to be split.
pub(super) fn describe(frame: &mut [u8], segment: Option<NonZeroU16>) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let Some(transport) = Transport::of(frame).filter(|transport| transport.protocol == IpProtocol::Tcp) else {
        return header;
    };
    let Some(tcp) = frame.get_mut(transport.begin..transport.end) else {
        return header;
    };
    let Ok(mut packet) = TcpPacket::new_checked(tcp) else {
        return header;
    };
    packet.set_checksum(transport.pseudo_sum());
    let headers = transport.begin + usize::from(packet.header_len());
    let field = |value: usize| u16::try_from(value).unwrap_or(0).to_ne_bytes();
    header[0] = NEEDS_CSUM;
    header[6..8].copy_from_slice(&field(transport.begin));
    header[8..10].copy_from_slice(&TCP_CHECKSUM.to_ne_bytes());
    if let Some(segment) = segment {
        header[1] = GSO_TCPV4;
        header[2..4].copy_from_slice(&field(headers));
        header[4..6].copy_from_slice(&segment.get().to_ne_bytes());
    }
    header
}

/// False for a frame that was damaged on a wire before it reached the TAP: it has a checksum, and the checksum is
/// wrong.
pub(super) fn is_intact(header: &[u8], frame: &[u8]) -> bool {
    if header.first().is_none_or(|flags| flags & (NEEDS_CSUM | DATA_VALID) != 0) {
        return true;
    }
    // Whatever is malformed, the stack finds out.
    let Some(transport) = Transport::of(frame) else {
        return true;
    };
    let Some(payload) = frame.get(transport.begin..transport.end) else {
        return true;
    };
    let (source, destination) = (&transport.source, &transport.destination);
    if transport.protocol == IpProtocol::Tcp {
        TcpPacket::new_checked(payload).is_ok_and(|packet| packet.verify_checksum(source, destination))
    } else {
        UdpPacket::new_checked(payload).is_ok_and(|packet| packet.verify_checksum(source, destination))
    }
}

/// True for a TCP segment with PSH: the last one that the sender has for now, such as a command.
pub(super) fn ends_message(frame: &[u8]) -> bool {
    let tcp = Transport::of(frame).filter(|transport| transport.protocol == IpProtocol::Tcp);
    let tcp = tcp.and_then(|transport| frame.get(transport.begin..transport.end));
    tcp.and_then(|tcp| TcpPacket::new_checked(tcp).ok()).is_some_and(|packet| packet.psh())
}

#[cfg(test)]
pub(super) mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    /// An Ethernet frame with a TCP segment, its checksum computed.
    pub(in super::super) fn frame(v6: bool) -> Vec<u8> {
        let mut tcp = vec![0x12, 0x34, 0xc3, 0x50, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 0, 0, 0, 0, 0];
        tcp.extend(b"payload");
        let (source, destination): (IpAddress, IpAddress) = if v6 {
            (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::new(0xfd00, 1, 2, 3, 4, 5, 6, 7).into())
        } else {
            (Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::new(10, 0, 0, 2).into())
        };
        TcpPacket::new_unchecked(&mut tcp[..]).fill_checksum(&source, &destination);
        let mut frame = vec![0; 12];
        match (source, destination) {
            (IpAddress::Ipv4(source), IpAddress::Ipv4(destination)) => {
                frame.extend([8, 0, 0x45, 0, 0, 47, 0, 0, 0, 0, 64, 6, 0, 0]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            (IpAddress::Ipv6(source), IpAddress::Ipv6(destination)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 27, 6, 64]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            _ => unreachable!(),
        }
        frame.extend(tcp);
        frame
    }

    /// The kernel's work before it sends such a frame over a wire.
    fn complete(header: &[u8; HEADER], frame: &mut [u8]) {
        let start = usize::from(u16::from_ne_bytes([header[6], header[7]]));
        let at = start + usize::from(u16::from_ne_bytes([header[8], header[9]]));
        let mut bytes = frame[start..].to_vec();
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        let mut total = sum(&bytes);
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        frame[at..at + 2].copy_from_slice(&(!u16::try_from(total).unwrap()).to_be_bytes());
    }

    #[test]
    fn a_checksum_that_is_left_out_is_the_same_once_it_is_computed() {
        for v6 in [false, true] {
            let whole = frame(v6);
            let mut sent = whole.clone();
            let checksum = sent.len() - 7 - 4..sent.len() - 7 - 2;
            sent[checksum].fill(0);
            let header = describe(&mut sent, None);
            assert_eq!(header[..2], [NEEDS_CSUM, 0]);
            complete(&header, &mut sent);
            assert_eq!(sent, whole);
        }
    }

    #[test]
    fn a_long_segment_is_described_with_its_headers_and_the_bytes_of_each_part() {
        let header = describe(&mut frame(false), NonZeroU16::new(1460));
        let field = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        assert_eq!((header[0], header[1], field(2), field(4), field(6), field(8)), (1, 1, 54, 1460, 34, 16));
    }

    #[test]
    fn a_segment_with_psh_ends_a_message() {
        for v6 in [false, true] {
            let mut frame = frame(v6);
            assert!(ends_message(&frame));
            let flags = frame.len() - 7 - 20 + 13;
            frame[flags] = 0x10;
            assert!(!ends_message(&frame));
            assert!(!ends_message(&frame[..flags]));
        }
    }

    #[test]
    fn only_a_checksum_that_should_be_right_and_is_not_means_damage() {
        for v6 in [false, true] {
            let mut frame = frame(v6);
            assert!(is_intact(&[0; HEADER], &frame));
            let last = frame.len() - 1;
            frame[last] ^= 1;
            assert!(!is_intact(&[0; HEADER], &frame));
            for flags in [NEEDS_CSUM, DATA_VALID] {
                assert!(is_intact(&[flags, 0, 0, 0, 0, 0, 0, 0, 0, 0], &frame));
            }
        }
        // No IP packet, or not a whole one.
        for frame in [&b""[..], &[0; 14], &frame(false)[..40], &[0xff; 60]] {
            assert!(is_intact(&[0; HEADER], frame));
            assert_eq!(describe(&mut frame.to_vec(), None), [0; HEADER]);
        }
    }
}
