//! KEYID: the identity of a client and its rights (PROTOCOL §8).

use core::fmt;
use core::str::from_utf8;

#[cfg(feature = "secure")]
use crate::text::Text;
use crate::text::parse_number;

words! {
    /// ROLE: the rights of a client.
    pub enum Role;

    /// True if the client may change the store.
    pub const fn may_write -> bool;

    /// Read only.
    ReadOnly "ro" false;
    /// Read and write.
    ReadWrite "rw" true;
}

/// `ROLE.CLIENT.GENERATION`: the name of a client's key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId {
    role: Role,
    client: [u8; Self::MAX_CLIENT],
    client_len: u8,
    generation: u32,
}

impl KeyId {
    /// The longest CLIENT, in bytes.
    pub const MAX_CLIENT: usize = 16;

    /// The longest KEYID, in bytes.
    pub const MAX_LEN: usize = 2 + 1 + Self::MAX_CLIENT + 1 + 10;

    /// A key of the client `client`; `None` if that is not a valid CLIENT, or `generation` is 0.
    #[must_use]
    pub fn new(role: Role, client: &str, generation: u32) -> Option<Self> {
        let bytes = client.as_bytes();
        if !is_client(bytes) || generation == 0 {
            return None;
        }
        let mut client = [0; Self::MAX_CLIENT];
        client[..bytes.len()].copy_from_slice(bytes);
        Some(Self { role, client, client_len: u8::try_from(bytes.len()).ok()?, generation })
    }

    /// Parses a KEYID; `None` if it is not valid, or its ROLE is unknown.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (role, client, generation) = split(text)?;
        Self::new(Role::parse(role)?, client, generation)
    }

    /// What the client may do.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// CLIENT.
    #[must_use]
    pub fn client(&self) -> &str {
        from_utf8(&self.client[..usize::from(self.client_len)]).unwrap_or_default()
    }

    /// GENERATION, at least 1.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    #[cfg(feature = "secure")]
    pub(crate) fn encode(&self, text: &mut Text<'_>) {
        text.str(self.role.as_str()).str(".").str(self.client()).str(".").num(self.generation.into());
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.role.as_str(), self.client(), self.generation)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for KeyId {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=str}.{=str}.{=u32}", self.role.as_str(), self.client(), self.generation);
    }
}

/// Who may resume a stage: the CLIENT that wrote it (PROTOCOL §8, Stages). Without the feature `secure`, a type without
/// content.
///
/// It is a number derived from CLIENT and the device secret, so it has the same small size in every store, and nobody
/// can search for two clients with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct StageOwner(#[cfg(feature = "secure")] Option<core::num::NonZeroU64>);

/// The owner of a stage that was written on a connection without protection.
pub const NOBODY: StageOwner = StageOwner(
    #[cfg(feature = "secure")]
    None,
);

impl StageOwner {
    /// For a store that keeps it; `None` is [`NOBODY`].
    #[must_use]
    pub const fn number(self) -> Option<u64> {
        #[cfg(feature = "secure")]
        if let Some(number) = self.0 {
            return Some(number.get());
        }
        None
    }

    /// The owner with this number, from a store that kept it; `None` if there is no owner: for 0, or without the
    /// feature `secure`.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        #[cfg(feature = "secure")]
        if let Some(number) = core::num::NonZeroU64::new(number) {
            return Some(Self(Some(number)));
        }
        _ = number;
        None
    }
}

fn is_client(text: &[u8]) -> bool {
    (1..=KeyId::MAX_CLIENT).contains(&text.len())
        && text.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase() || *byte == b'-')
}

/// The three parts of a KEYID. The ROLE may be unknown: one or more lowercase letters.
pub(crate) fn split(text: &[u8]) -> Option<(&[u8], &str, u32)> {
    let mut parts = text.split(|&byte| byte == b'.');
    let (role, client, generation) = (parts.next()?, parts.next()?, parts.next()?);
    let well_formed = parts.next().is_none()
        && !role.is_empty()
        && role.iter().all(u8::is_ascii_lowercase)
        && is_client(client)
        && !generation.starts_with(b"0");
    let generation = parse_number(generation).and_then(|generation| u32::try_from(generation).ok());
    Some((role, from_utf8(client).ok()?, generation.filter(|_| well_formed)?))
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn a_key_id_parses_back() {
        for text in ["ro.a.1", "rw.alice-2.4294967295", "rw.0123456789abcdef.10"] {
            let id = KeyId::parse(text.as_bytes()).unwrap();
            assert_eq!(id.to_string(), text);
            assert!(text.len() <= KeyId::MAX_LEN);
            assert_eq!(KeyId::new(id.role(), id.client(), id.generation()), Some(id));
        }
        assert_eq!(KeyId::parse(b"rw.x.7").map(|id| (id.role(), id.generation())), Some((Role::ReadWrite, 7)));
    }

    #[test]
    fn anything_else_is_no_key_id() {
        for bad in [
            "",
            "rw",
            "rw.a",
            "rw.a.",
            "rw..1",
            "rw.a.0",
            "rw.a.01",
            "rw.a.4294967296",
            "rw.a.+1",
            "rw.a.1.",
            "rw.a.1.2",
            "rw.A.1",
            "rw.a_b.1",
            "rw.0123456789abcdefg.1",
            "RW.a.1",
            "xx.a.1",
            ".a.1",
            "rw.\u{e9}.1",
            " rw.a.1",
            "rw.a.1 ",
            "rw.a.1\n",
        ] {
            assert_eq!(KeyId::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(split(b"xx.a.1"), Some((&b"xx"[..], "a", 1)), "an unknown ROLE is no malformed one");
        assert_eq!(split(b"r1.a.1"), None);
    }
}
