//! Writes the records of a device into a message.

use core::net::IpAddr;

use super::identity::Identity;
use super::kinds::{Kinds, Owner, of_address};
use super::message::{INTERNET, LOCAL, SERVICE, SERVICES, TOP, kind};

/// How long records may be cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// The recommendation of RFC 6762 section 10.
    Usual,
    /// For a client without mDNS: 10 s, and the records replace nothing.
    Legacy,
    /// Zero: the records are no longer valid.
    Over,
}

/// Seconds, for records with the host's name or address in them, and for others.
const HOST_TTL: u32 = 120;
const OTHER_TTL: u32 = 4500;
const LEGACY_TTL: u32 = 10;

/// A message being written. `None` from a method means that there is no room.
pub(super) struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
    identity: &'a Identity,
    lifetime: Lifetime,
    /// The position of each [`Owner`]'s name, once it has been written.
    names: [Option<u16>; 4],
}

impl<'a> Writer<'a> {
    /// Begins a message with this header; the counts are set later.
    pub(super) fn new(
        out: &'a mut [u8],
        id: u16,
        flags: u16,
        lifetime: Lifetime,
        identity: &'a Identity,
    ) -> Option<Self> {
        let mut writer = Self { out, len: 0, identity, lifetime, names: [None; 4] };
        writer.word(id)?;
        writer.word(flags)?;
        writer.bytes(&[0; 8])?;
        Some(writer)
    }

    /// Sets the numbers of questions, answers, authorities and additional records; returns the length of the message.
    pub(super) fn finish(self, counts: [u16; 4]) -> Option<usize> {
        for (place, count) in self.out.get_mut(4..12)?.chunks_exact_mut(2).zip(counts) {
            place.copy_from_slice(&count.to_be_bytes());
        }
        Some(self.len)
    }

    pub(super) fn question(&mut self, owner: Owner, kind: u16, class: u16) -> Option<()> {
        self.name(owner)?;
        self.word(kind)?;
        self.word(class)
    }

    /// Writes these records; returns their number.
    pub(super) fn records(&mut self, kinds: Kinds) -> Option<u16> {
        let mut count = 0;
        for (kind, owner, of, target) in [
            (Kinds::PTR, Owner::Service, kind::PTR, Some(Owner::Instance)),
            (Kinds::SERVICES, Owner::Services, kind::PTR, Some(Owner::Service)),
            (Kinds::SRV, Owner::Instance, kind::SRV, Some(Owner::Host)),
            (Kinds::TXT, Owner::Instance, kind::TXT, None),
        ] {
            if !kinds.has(kind) {
                continue;
            }
            let ttl = if of == kind::SRV { HOST_TTL } else { OTHER_TTL };
            let begin = self.record(owner, of, ttl)?;
            match target {
                Some(Owner::Host) => {
                    // Priority and weight. No compression here: a legacy client may not support it.
                    self.bytes(&[0; 4])?;
                    self.word(self.identity.port)?;
                    self.host()?;
                }
                Some(target) => self.name(target)?,
                None => {
                    self.text(&[b"txtvers=1"])?;
                    self.text(&[b"server=", self.identity.server.as_bytes()])?;
                }
            }
            self.end_record(begin)?;
            count += 1;
        }
        for (address, _) in &self.identity.addresses {
            if kinds.has(of_address(address)) {
                self.address(*address)?;
                count += 1;
            }
        }
        Some(count)
    }

    /// Writes an address record.
    pub(super) fn address(&mut self, address: IpAddr) -> Option<()> {
        let (kind, octets): (_, &[u8]) = match &address {
            IpAddr::V4(v4) => (kind::A, &v4.octets()),
            IpAddr::V6(v6) => (kind::AAAA, &v6.octets()),
        };
        let begin = self.record(Owner::Host, kind, HOST_TTL)?;
        self.bytes(octets)?;
        self.end_record(begin)
    }

    /// Writes a record up to its data; returns the position of the data.
    fn record(&mut self, owner: Owner, kind: u16, ttl: u32) -> Option<usize> {
        self.name(owner)?;
        self.word(kind)?;
        // Records in a query are proposals and replace nothing yet; shared records never replace those of others.
        let is_shared = matches!(owner, Owner::Service | Owner::Services);
        let replaces = !is_shared && self.lifetime != Lifetime::Legacy && self.out[2] & 0x80 != 0;
        self.word(if replaces { INTERNET | TOP } else { INTERNET })?;
        let ttl = match self.lifetime {
            Lifetime::Usual => ttl,
            Lifetime::Legacy => LEGACY_TTL,
            Lifetime::Over => 0,
        };
        self.bytes(&ttl.to_be_bytes())?;
        self.word(0)?;
        Some(self.len)
    }

    /// Sets the length of the data that begins at `begin`.
    fn end_record(&mut self, begin: usize) -> Option<()> {
        let len = u16::try_from(self.len - begin).ok()?;
        self.out.get_mut(begin - 2..begin)?.copy_from_slice(&len.to_be_bytes());
        Some(())
    }

    /// Writes a name, or a pointer to it if the message has it already.
    fn name(&mut self, owner: Owner) -> Option<()> {
        if let Some(at) = self.names[owner as usize] {
            return self.word(0xc000 | at);
        }
        self.names[owner as usize] = u16::try_from(self.len).ok();
        match owner {
            Owner::Host => self.host(),
            Owner::Instance => {
                self.text(&[&self.identity.label])?;
                self.name(Owner::Service)
            }
            Owner::Service => self.bytes(SERVICE),
            Owner::Services => self.bytes(SERVICES),
        }
    }

    fn host(&mut self) -> Option<()> {
        self.text(&[&self.identity.label])?;
        self.bytes(LOCAL)
    }

    /// Writes bytes, preceded by their number.
    fn text(&mut self, parts: &[&[u8]]) -> Option<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        self.bytes(&[u8::try_from(len).ok()?])?;
        parts.iter().try_for_each(|part| self.bytes(part))
    }

    fn word(&mut self, word: u16) -> Option<()> {
        self.bytes(&word.to_be_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        self.out.get_mut(self.len..self.len + bytes.len())?.copy_from_slice(bytes);
        self.len += bytes.len();
        Some(())
    }
}
