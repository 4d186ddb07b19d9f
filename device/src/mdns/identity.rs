//! The identity of a device, and what a message contains about it.

use core::net::IpAddr;

use heapless::Vec;

use super::kinds::{Kinds, Owner, of_address};
use super::message::{ANY_CLASS, Header, INTERNET, LOCAL, Name, Reader, Record, SERVICE, SERVICES, TOP, before, kind};

/// Maximum length of an announced name in bytes, including the number that a conflict adds.
pub(super) const LABEL: usize = 36;
/// Maximum length of the configured name.
const BASE: usize = 32;
const SERVER: usize = 64;
const ADDRESSES: usize = 4;

/// Maximum number of questions and records of a message that are processed.
const ENTRIES: u16 = 64;

/// What the records of a device contain.
#[derive(Debug)]
pub(super) struct Identity {
    /// The name, and the length of its configured part.
    pub(super) label: Vec<u8, LABEL, u8>,
    base: usize,
    suffix: u8,
    pub(super) port: u16,
    pub(super) server: &'static str,
    pub(super) addresses: Vec<(IpAddr, u8), ADDRESSES, u8>,
}

/// What a message contains about this device.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Records that are requested, and those that the sender knows.
    pub(super) asked: Kinds,
    pub(super) known: Kinds,
    /// The sender requests a unicast reply.
    pub(super) alone: bool,
    pub(super) question: Option<(Owner, u16, u16)>,
    pub(super) is_probe: bool,
    /// Another device has the name.
    pub(super) conflict: bool,
    /// Another device probes for the name and wins the tie-break.
    pub(super) lost: bool,
}

impl Identity {
    /// See [`Responder::new`](super::Responder::new).
    pub(super) fn new(name: Option<&str>, mac: [u8; 6], port: u16, server: &'static str) -> Self {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
        let name = name.unwrap_or_default().bytes().take(BASE);
        let mut label: Vec<_, LABEL, u8> = name.map(|byte| if is_plain(&byte) { byte } else { b'-' }).collect();
        if label.is_empty() {
            let digits = mac[3..].iter().flat_map(|byte| [byte >> 4, byte & 15]);
            let digits = digits.map(|digit| b"0123456789abcdef"[usize::from(digit)]);
            label.extend(b"skiff-".iter().copied().chain(digits));
        }
        let base = label.len();
        Self { label, base, suffix: 1, port, server: server.get(..SERVER).unwrap_or(server), addresses: Vec::new() }
    }

    /// Sets the addresses, up to four; true if they have changed.
    pub(super) fn set_addresses(&mut self, addresses: impl Iterator<Item = (IpAddr, u8)> + Clone) -> bool {
        let is_new = !addresses.clone().take(ADDRESSES).eq(self.addresses.iter().copied());
        if is_new {
            self.addresses = addresses.take(ADDRESSES).collect();
        }
        is_new
    }

    /// The address families in use, one bit each.
    pub(super) fn families(&self) -> u8 {
        self.addresses.iter().fold(0, |families, (address, _)| families | 1 << family(address))
    }

    /// The source address for multicasts of a family.
    pub(super) fn speaker(&self, of: usize) -> Option<IpAddr> {
        let own = || self.addresses.iter().map(|(address, _)| *address).filter(|address| of == family(address));
        own().find(is_link_local).or_else(|| own().next())
    }

    /// `lab3`, `lab3-2`, `lab3-3`: up to 255, and then from 2 again.
    pub(super) fn rename(&mut self) {
        self.suffix = self.suffix.checked_add(1).unwrap_or(2);
        self.label.truncate(self.base);
        _ = self.label.push(b'-');
        for unit in [100, 10, 1] {
            if self.suffix >= unit {
                _ = self.label.push(b'0' + self.suffix / unit % 10);
            }
        }
    }

    pub(super) fn hear_response(&self, header: &Header, reader: &mut Reader<'_>) -> Option<Heard> {
        let mut heard = Heard::default();
        for _ in 0..header.questions.min(ENTRIES) {
            reader.question()?;
        }
        let records = header.answers.saturating_add(header.authorities).saturating_add(header.additional);
        for _ in 0..records.min(ENTRIES) {
            let record = reader.record()?;
            heard.conflict |= record.ttl > 0 && self.contradicts(&record);
        }
        Some(heard)
    }

    pub(super) fn hear_query(&self, header: &Header, reader: &mut Reader<'_>) -> Option<Heard> {
        let mut heard = Heard { alone: true, is_probe: header.authorities > 0, ..Heard::default() };
        for _ in 0..header.questions.min(ENTRIES) {
            let question = reader.question()?;
            let class = question.class & !TOP;
            let Some(owner) = self.owner(&question.name).filter(|_| class == INTERNET || class == ANY_CLASS) else {
                continue;
            };
            let asked = self.asked(owner, question.kind);
            if !asked.is_empty() {
                heard.asked = heard.asked.with(asked);
                heard.alone &= question.class & TOP != 0;
                heard.question.get_or_insert((owner, question.kind, question.class));
            }
        }
        for _ in 0..header.answers.min(ENTRIES) {
            let record = reader.record()?;
            heard.known = heard.known.with(self.known(&record));
        }
        // Compares the records that the other device proposes with those of this device, in order (RFC 6762 section
        // 8.2.1). This device proposes one record.
        let (mut least, mut count) = (None, 0_u8);
        for _ in 0..header.authorities.min(ENTRIES) {
            let record = reader.record()?;
            if self.owner(&record.name) == Some(Owner::Host) {
                let proposed = (record.class, record.kind, record.data);
                least = Some(least.map_or(proposed, |least| proposed.min(least)));
                count = count.saturating_add(1);
            }
        }
        if let (Some(theirs), Some(address)) = (least, self.claim()) {
            heard.lost = match address {
                IpAddr::V4(v4) => is_less((INTERNET, kind::A, &v4.octets()), theirs, count),
                IpAddr::V6(v6) => is_less((INTERNET, kind::AAAA, &v6.octets()), theirs, count),
            };
        }
        Some(heard)
    }

    /// True if this record shows that another device has the name.
    fn contradicts(&self, record: &Record<'_>) -> bool {
        if record.class != INTERNET {
            return false;
        }
        match (self.owner(&record.name), record.kind) {
            (Some(Owner::Host), kind::A | kind::AAAA) => !self.has_address(record),
            (Some(Owner::Instance), kind::SRV) => !self.is_server(record),
            _ => false,
        }
    }

    /// The device's records that the sender of a query knows: this one, unless it is old.
    fn known(&self, record: &Record<'_>) -> Kinds {
        let is_recent = |usual: u32| record.ttl >= usual / 2;
        let only = |kinds| self.addresses.iter().filter(|(address, _)| of_address(address) == kinds).count() == 1;
        match (self.owner(&record.name), record.kind) {
            (Some(Owner::Service), kind::PTR) if self.owner(&record.target) == Some(Owner::Instance) => {
                if is_recent(4500) { Kinds::PTR } else { Kinds::NONE }
            }
            (Some(Owner::Services), kind::PTR) if self.owner(&record.target) == Some(Owner::Service) => {
                if is_recent(4500) { Kinds::SERVICES } else { Kinds::NONE }
            }
            (Some(Owner::Instance), kind::SRV) if is_recent(120) && self.is_server(record) => Kinds::SRV,
            (Some(Owner::Host), kind::A) if is_recent(120) && only(Kinds::A) && self.has_address(record) => Kinds::A,
            (Some(Owner::Host), kind::AAAA) if is_recent(120) && only(Kinds::AAAA) && self.has_address(record) => {
                Kinds::AAAA
            }
            _ => Kinds::NONE,
        }
    }

    fn has_address(&self, record: &Record<'_>) -> bool {
        self.addresses.iter().any(|(address, _)| match address {
            IpAddr::V4(v4) => record.data == v4.octets(),
            IpAddr::V6(v6) => record.data == v6.octets(),
        })
    }

    fn is_server(&self, record: &Record<'_>) -> bool {
        record.data.get(4..6) == Some(&self.port.to_be_bytes()) && self.owner(&record.target) == Some(Owner::Host)
    }

    /// The records that a question asks for.
    fn asked(&self, owner: Owner, kind: u16) -> Kinds {
        let own = match owner {
            Owner::Host => self.addresses.iter().fold(Kinds::NONE, |own, (address, _)| own.with(of_address(address))),
            Owner::Instance => Kinds::INSTANCE,
            Owner::Service => Kinds::PTR,
            Owner::Services => Kinds::SERVICES,
        };
        own.and(match kind {
            kind::ANY => own,
            kind::PTR => Kinds::PTR.with(Kinds::SERVICES),
            kind::SRV => Kinds::SRV,
            kind::TXT => Kinds::TXT,
            kind::A => Kinds::A,
            kind::AAAA => Kinds::AAAA,
            _ => Kinds::NONE,
        })
    }

    /// The owner of a name, if it concerns this device.
    fn owner(&self, name: &Name) -> Option<Owner> {
        let name = name.as_ref()?;
        let is_own = |label: &[u8]| {
            label
                .split_first()
                .is_some_and(|(len, label)| usize::from(*len) == label.len() && label.eq_ignore_ascii_case(&self.label))
        };
        if before(name, SERVICES).is_some_and(<[u8]>::is_empty) {
            return Some(Owner::Services);
        }
        match before(name, SERVICE) {
            Some([]) => Some(Owner::Service),
            Some(label) => is_own(label).then_some(Owner::Instance),
            None => before(name, LOCAL).is_some_and(is_own).then_some(Owner::Host),
        }
    }

    /// The address that a probe proposes.
    pub(super) fn claim(&self) -> Option<IpAddr> {
        self.addresses.iter().map(|(address, _)| *address).min()
    }

    /// The device's address in the network of `peer`; `None` if `peer` is in another network, or is not the address of
    /// another host.
    pub(super) fn own_address(&self, peer: IpAddr) -> Option<IpAddr> {
        let is_usable = match peer {
            IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()),
            IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast()),
        };
        let is_own = self.addresses.iter().any(|(address, _)| *address == peer);
        let (own, _) =
            self.addresses.iter().find(|(address, prefix)| is_usable && !is_own && is_near(*address, peer, *prefix))?;
        Some(*own)
    }
}

/// 0 for IPv4, 1 for IPv6.
pub(super) const fn family(address: &IpAddr) -> usize {
    address.is_ipv6() as usize
}

fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// True if both are in the same network, and `peer` is not its broadcast address.
fn is_near(own: IpAddr, peer: IpAddr, prefix: u8) -> bool {
    let host = |bits: u32| bits.saturating_sub(prefix.into());
    match (own, peer) {
        (IpAddr::V4(own), IpAddr::V4(peer)) => {
            let mask = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            let is_all = prefix < 31 && peer.to_bits() & mask == mask;
            !is_all && (own.to_bits() ^ peer.to_bits()).checked_shr(host(32)).unwrap_or(0) == 0
        }
        (IpAddr::V6(own), IpAddr::V6(peer)) => {
            (own.to_bits() ^ peer.to_bits()).checked_shr(host(128)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// True if a list of one record sorts before one of `count` records, the lowest of which is `theirs`.
fn is_less(own: (u16, u16, &[u8]), theirs: (u16, u16, &[u8]), count: u8) -> bool {
    own < theirs || (own == theirs && count > 1)
}
