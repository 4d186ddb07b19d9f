//! The records of a device, and what their names belong to.

use core::net::IpAddr;

/// A set of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Kinds(pub(super) u8);

impl Kinds {
    pub(super) const NONE: Self = Self(0);
    /// The PTR record of `_skiff._tcp.local`, which names this instance.
    pub(super) const PTR: Self = Self(1);
    /// The PTR record of `_services._dns-sd._udp.local`, which lists the service types of a network.
    pub(super) const SERVICES: Self = Self(1 << 1);
    pub(super) const SRV: Self = Self(1 << 2);
    pub(super) const TXT: Self = Self(1 << 3);
    pub(super) const A: Self = Self(1 << 4);
    pub(super) const AAAA: Self = Self(1 << 5);
    pub(super) const HOST: Self = Self::A.with(Self::AAAA);
    pub(super) const INSTANCE: Self = Self::SRV.with(Self::TXT);
    /// All records that belong to the device.
    pub(super) const ALL: Self = Self::PTR.with(Self::INSTANCE).with(Self::HOST);

    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn has(self, other: Self) -> bool {
        !self.and(other).is_empty()
    }

    /// The records that a client will request next (RFC 6763 section 12).
    pub(super) const fn additional(self) -> Self {
        let more = match () {
            () if self.has(Self::PTR) => Self::INSTANCE.with(Self::HOST),
            () if self.has(Self::SRV.with(Self::HOST)) => Self::HOST,
            () => Self::NONE,
        };
        more.without(self)
    }
}

/// What a record's name belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// NAME.local
    Host,
    /// NAME._skiff._tcp.local
    Instance,
    /// _skiff._tcp.local
    Service,
    /// _services._dns-sd._udp.local
    Services,
}

/// The kind of the record that holds this address.
pub(super) const fn of_address(address: &IpAddr) -> Kinds {
    match address {
        IpAddr::V4(_) => Kinds::A,
        IpAddr::V6(_) => Kinds::AAAA,
    }
}
