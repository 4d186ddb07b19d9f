//! Frames made by hand, with the checksums that they need to be looked at.

/// An address of Ethernet.
pub type Mac = [u8; 6];
/// An address of IPv4.
pub type Address = [u8; 4];
/// An address of IPv6.
pub type Address6 = [u8; 16];

/// From where to where a packet goes.
#[derive(Debug, Clone, Copy)]
pub enum Ends {
    /// By IPv4: from, to.
    V4(Address, Address),
    /// By IPv6: from, to.
    V6(Address6, Address6),
}

impl Ends {
    /// The packet that carries this payload: its type in Ethernet, and its bytes.
    #[must_use]
    pub fn packet(self, protocol: u8, payload: &[u8]) -> (u16, Vec<u8>) {
        match self {
            Self::V4(from, to) => (0x0800, ipv4(from, to, protocol, 0, payload)),
            Self::V6(from, to) => (0x86dd, ipv6(from, to, protocol, payload)),
        }
    }

    /// What a checksum covers before the payload.
    fn pseudo(self, protocol: u8, len: usize) -> Vec<u8> {
        match self {
            Self::V4(from, to) => [&from[..], &to, &[0, protocol], &short(len)].concat(),
            Self::V6(from, to) => [&from[..], &to, &[0, 0], &short(len), &[0, 0, 0, protocol]].concat(),
        }
    }

    /// The payload with its checksum, which lies at `at`.
    fn summed(self, protocol: u8, mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
        let sum = sum(&[&self.pseudo(protocol, bytes.len()), &bytes]);
        bytes[at..at + 2].copy_from_slice(&sum);
        bytes
    }
}

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

/// A packet of IPv6, one hop from its sender.
#[must_use]
pub fn ipv6(from: Address6, to: Address6, next: u8, payload: &[u8]) -> Vec<u8> {
    [&[0x60, 0, 0, 0][..], &short(payload.len()), &[next, 255], &from, &to, payload].concat()
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
    pub fn encode(&self, ends: Ends) -> Vec<u8> {
        let mut bytes = [self.from.to_be_bytes(), self.to.to_be_bytes()].concat();
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.push(u8::try_from((20 + self.options.len()) / 4).unwrap_or(15) << 4);
        bytes.push(self.flags);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.options);
        bytes.extend(self.payload);
        ends.summed(6, bytes, 16)
    }
}

/// A datagram of UDP.
#[must_use]
pub fn udp(ends: Ends, ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let mut bytes = [&ports[0].to_be_bytes()[..], &ports[1].to_be_bytes(), &short(8 + payload.len()), &[0, 0]].concat();
    bytes.extend(payload);
    ends.summed(17, bytes, 6)
}

/// A message of ICMP, as its protocol and its bytes.
#[must_use]
pub fn icmp(ends: Ends, kind: u8, code: u8, rest: &[u8]) -> (u8, Vec<u8>) {
    let mut bytes = [&[kind, code, 0, 0], rest].concat();
    match ends {
        Ends::V4(..) => {
            let sum = sum(&[&bytes]);
            bytes[2..4].copy_from_slice(&sum);
            (1, bytes)
        }
        Ends::V6(..) => (58, ends.summed(58, bytes, 2)),
    }
}

/// A neighbor advertisement (RFC 4861), to be sent in an ICMP message of kind 136: who has this address.
#[must_use]
pub fn neighbor(mac: Mac, address: Address6) -> Vec<u8> {
    [&[0x60, 0, 0, 0][..], &address, &[2, 1], &mac].concat()
}

/// A message of a DHCP server (RFC 2131): 2 offers, 5 acknowledges, 6 refuses. `options` are those behind the kind.
#[must_use]
pub fn dhcp(kind: u8, transaction: [u8; 4], client: Mac, address: Address, options: &[u8]) -> Vec<u8> {
    let mut bytes = [&[2, 1, 6, 0][..], &transaction, &[0; 8], &address, &[0; 8], &client].concat();
    bytes.resize(236, 0);
    bytes.extend([99, 130, 83, 99, 53, 1, kind]);
    bytes.extend(options);
    bytes.push(255);
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
