//! Secrets, keys and their text forms.

use core::fmt;

use zeroize::Zeroizing;

use super::base64;
use super::hash::{Bytes, keyed};
use crate::identity::{KeyId, NOBODY, StageOwner};
use crate::text::Text;

const SECRET: &str = "skiff-secret-1 ";
const KEY: &str = "skiff-key-1 ";

/// A device secret, or the master that the device secrets of a fleet are derived from. Erased on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Bytes>);

impl Secret {
    /// Bytes of the text form.
    pub const TEXT_LEN: usize = SECRET.len() + base64::LEN;

    /// A secret of 32 unpredictable bytes.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The secret of the device called `host`, derived from this master.
    #[must_use]
    pub fn device(&self, host: &str) -> Self {
        Self(self.derive(&[b"skiff/1 device ", host.as_bytes()]))
    }

    /// The key of the client `id` on the device that has this secret.
    #[must_use]
    pub fn key(&self, id: KeyId) -> Key {
        let mut text = [0; KeyId::MAX_LEN];
        let mut writer = Text::new(&mut text);
        id.encode(&mut writer);
        let len = writer.len();
        Key { id, psk: self.psk(&text[..len]) }
    }

    /// The nonce of a device's connection, different for every connection: `starts` counts the starts of the device and
    /// must be durable before the first connection is accepted; `connections` counts the connections since then.
    #[must_use]
    pub fn nonce(&self, starts: u64, connections: u64) -> [u8; 16] {
        let hash = self.derive(&[b"skiff/1 nonce ", &starts.to_le_bytes(), &connections.to_le_bytes()]);
        *hash.first_chunk().unwrap_or(&[0; 16])
    }

    /// Who owns the stages that the client `id` writes: its CLIENT, whatever its role and generation.
    pub(super) fn stage_owner(&self, id: &KeyId) -> StageOwner {
        let hash = self.derive(&[b"skiff/1 stage ", id.client().as_bytes()]);
        let number = hash.first_chunk().copied().map_or(0, u64::from_le_bytes);
        StageOwner::from_number(number).unwrap_or(NOBODY)
    }

    /// The key of the client whose KEYID is `id`, which may have an unknown ROLE.
    pub(super) fn psk(&self, id: &[u8]) -> Psk {
        Psk(self.derive(&[b"skiff/1 psk ", id]))
    }

    pub(super) fn derive(&self, input: &[&[u8]]) -> Zeroizing<Bytes> {
        keyed(&self.0, input)
    }

    /// Parses `skiff-secret-1 BASE64`. White space at the end is ignored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        base64::decode(text.trim_ascii_end().strip_prefix(SECRET)?).map(Self)
    }

    /// Writes the text form, without a line end, into `out`.
    #[must_use]
    pub fn encode<'o>(&self, out: &'o mut [u8; Self::TEXT_LEN]) -> &'o str {
        encode(SECRET, None, &self.0, out).unwrap_or_default()
    }
}

/// The secret shared by a client and a device. Erased on drop.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Psk(pub(super) Zeroizing<Bytes>);

/// A client's key: its identity and the shared secret that proves it. Erased on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    id: KeyId,
    psk: Psk,
}

impl Key {
    /// Bytes of the longest text form.
    pub const TEXT_LEN: usize = KEY.len() + KeyId::MAX_LEN + 1 + base64::LEN;

    /// The identity of the key's client.
    #[must_use]
    pub const fn id(&self) -> &KeyId {
        &self.id
    }

    /// A number that identifies this key and reveals nothing about it: a client marks with it the files that it
    /// received with the key (PROTOCOL §8, Clients).
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        keyed(&self.psk.0, &[b"skiff/1 fingerprint"]).first_chunk().copied().map_or(0, u64::from_le_bytes)
    }

    pub(super) const fn psk(&self) -> &Psk {
        &self.psk
    }

    /// Parses `skiff-key-1 KEYID BASE64`. White space at the end is ignored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, key) = text.trim_ascii_end().strip_prefix(KEY)?.split_once(' ')?;
        Some(Self { id: KeyId::parse(id.as_bytes())?, psk: Psk(base64::decode(key)?) })
    }

    /// Writes the text form, without a line end, into `out`.
    #[must_use]
    pub fn encode<'o>(&self, out: &'o mut [u8; Self::TEXT_LEN]) -> &'o str {
        encode(KEY, Some(&self.id), &self.psk.0, out).unwrap_or_default()
    }
}

fn encode<'o>(word: &str, id: Option<&KeyId>, bytes: &Bytes, out: &'o mut [u8]) -> Option<&'o str> {
    let mut text = Text::new(out);
    text.str(word);
    if let Some(id) = id {
        id.encode(&mut text);
        text.str(" ");
    }
    text.bytes(&*base64::encode(bytes));
    let len = text.finish()?;
    core::str::from_utf8(&out[..len]).ok()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;
    use crate::identity::Role;

    fn secret() -> Secret {
        Secret::new(core::array::from_fn(|at| u8::try_from(at).unwrap()))
    }

    #[test]
    fn text_forms_parse_back_and_show_no_secret_in_debug() {
        let mut out = [0; Secret::TEXT_LEN];
        let text = secret().encode(&mut out);
        assert_eq!(text, "skiff-secret-1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        assert_eq!(Secret::parse(text), Some(secret()));
        assert_eq!(Secret::parse(&format!("{text}\r\n")), Some(secret()));
        let longest = KeyId::new(Role::ReadOnly, "0123456789abcdef", u32::MAX).unwrap();
        for id in [longest, KeyId::parse(b"rw.alice.1").unwrap()] {
            let key = secret().key(id);
            let mut out = [0; Key::TEXT_LEN];
            let text = key.encode(&mut out);
            assert!(text.starts_with(&format!("skiff-key-1 {id} ")), "{text}");
            assert_eq!(Key::parse(text), Some(key.clone()));
            assert_eq!(format!("{key:?} {:?}", secret()), format!("Key({id}) Secret"));
        }
    }

    #[test]
    fn a_text_with_a_flaw_is_refused() {
        let good = "skiff-secret-1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        for (from, to) in [
            ("secret-1", "secret-2"),
            ("-1 ", "-1  "),
            ("skiff", " skiff"),
            ("AAEC", "AAE"),
            ("AAEC", "AAEC AAEC"),
            ("h8=", "h8"),
            ("h8=", "h9="),
            ("h8=", "h8= x"),
            ("AAEC", "AA-C"),
            ("AAEC", "AAECAAEC"),
        ] {
            assert!(Secret::parse(good).is_some());
            assert_eq!(Secret::parse(&good.replace(from, to)), None, "{from} {to}");
        }
        for bad in ["", "skiff-key-1 rw.a.1", "skiff-key-1 xx.a.1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", good] {
            assert_eq!(Key::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_device_client_role_and_generation_has_a_key_of_its_own() {
        let mut keys = std::vec::Vec::new();
        for secret in [secret(), secret().device("pump-7"), secret().device("pump-8")] {
            for id in ["ro.a.1", "rw.a.1", "rw.a.2", "rw.b.1", "rw.a.12"] {
                keys.push(secret.key(KeyId::parse(id.as_bytes()).unwrap()).psk.0);
            }
        }
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(key));
        }
        assert_ne!(secret().nonce(1, 2), secret().nonce(2, 1));
    }
}
