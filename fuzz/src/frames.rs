//! Frames made by hand, with the checksums that they need to be looked at.

/// An address of Ethernet.
pub type Mac = [u8; 6];
/// An address of IPv4.
pub type Address = [u8; 4];

/// The Internet checksum (RFC 1071) of parts that each have an even length, but for the last.
#[must_use]
pub fn sum(parts: &[&[u8]]) -> [u8; 2] {
    let mut sum = 0_u32;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap_or(0)).to_be_bytes()
}

fn short(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes()
}

/// A frame.
#[must_use]
pub fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

/// A packet of IPv4. `fragment` is the field of flags and offset.
#[must_use]
pub fn ipv4(from: Address, to: Address, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = [&[0x45, 0][..], &short(20 + payload.len()), &[0, 1], &fragment.to_be_bytes()].concat();
    header.extend([64, protocol, 0, 0]);
    header.extend(from);
    header.extend(to);
    let sum = sum(&[&header]);
    header[10..12].copy_from_slice(&sum);
    header.extend(payload);
    header
}

fn pseudo(from: Address, to: Address, protocol: u8, len: usize) -> Vec<u8> {
    [&from[..], &to, &[0, protocol], &short(len)].concat()
}

/// A segment of TCP.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "the names are those of RFC 9293")]
pub struct Segment<'a> {
    pub from: u16,
    pub to: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    /// A multiple of 4 bytes, at most 40.
    pub options: &'a [u8],
    pub payload: &'a [u8],
}

/// FIN, as in [`Segment::flags`].
pub const FIN: u8 = 1;
/// SYN.
pub const SYN: u8 = 2;
/// RST.
pub const RST: u8 = 4;
/// ACK.
pub const ACK: u8 = 16;

impl Segment<'_> {
    /// The segment between these two.
    #[must_use]
    pub fn encode(&self, from: Address, to: Address) -> Vec<u8> {
        let mut bytes = [self.from.to_be_bytes(), self.to.to_be_bytes()].concat();
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.push(u8::try_from((20 + self.options.len()) / 4).unwrap_or(15) << 4);
        bytes.push(self.flags);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.options);
        bytes.extend(self.payload);
        let sum = sum(&[&pseudo(from, to, 6, bytes.len()), &bytes]);
        bytes[16..18].copy_from_slice(&sum);
        bytes
    }
}

/// A datagram of UDP.
#[must_use]
pub fn udp(from: Address, to: Address, ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let mut bytes = [&ports[0].to_be_bytes()[..], &ports[1].to_be_bytes(), &short(8 + payload.len()), &[0, 0]].concat();
    bytes.extend(payload);
    let sum = sum(&[&pseudo(from, to, 17, bytes.len()), &bytes]);
    bytes[6..8].copy_from_slice(&sum);
    bytes
}

/// A message of ICMP.
#[must_use]
pub fn icmp(kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = [&[kind, code, 0, 0], rest].concat();
    let sum = sum(&[&bytes]);
    bytes[2..4].copy_from_slice(&sum);
    bytes
}

/// A packet of ARP: `operation` 1 asks, 2 answers.
#[must_use]
pub fn arp(operation: u16, from: (Mac, Address), to: (Mac, Address)) -> Vec<u8> {
    let mut bytes = [&[0, 1, 8, 0, 6, 4][..], &operation.to_be_bytes()].concat();
    for (mac, address) in [from, to] {
        bytes.extend(mac);
        bytes.extend(address);
    }
    bytes
}
