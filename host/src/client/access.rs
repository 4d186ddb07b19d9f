//! Client credentials: none, or a key (PROTOCOL §8).

use std::io;

use skiff_proto::cipher::Cipher;
use skiff_proto::identity::KeyId;
#[cfg(feature = "secure")]
use skiff_proto::secure::{Key, Login, Pattern};

use crate::protection::Protection;

type Handshake = <Protection as Cipher>::Client;

/// Who a client is. Default: nobody, on unprotected connections.
#[derive(Debug, Clone, Default)]
pub struct Access {
    #[cfg(feature = "secure")]
    key: Option<Key>,
    #[cfg(feature = "secure")]
    only: Option<Pattern>,
}

impl Access {
    /// The client whose key this is. All its connections are protected: to a server that does not protect them it sends
    /// nothing but the hello.
    #[cfg(feature = "secure")]
    #[must_use]
    pub const fn with_key(key: Key) -> Self {
        Self { key: Some(key), only: None }
    }

    /// Connections are protected with `pattern`, or fail. Without this each takes the fastest that both sides have; it is
    /// for measuring the others.
    #[cfg(feature = "secure")]
    #[doc(hidden)]
    #[must_use]
    pub const fn only(mut self, pattern: Pattern) -> Self {
        self.only = Some(pattern);
        self
    }

    /// Whose key it is.
    #[must_use]
    pub fn key_id(&self) -> Option<&KeyId> {
        #[cfg(feature = "secure")]
        return self.key.as_ref().map(Key::id);
        #[cfg(not(feature = "secure"))]
        return None;
    }

    /// A number that goes with the key and tells nothing of it: for partial files.
    #[must_use]
    pub fn fingerprint(&self) -> Option<u64> {
        #[cfg(feature = "secure")]
        return self.key.as_ref().map(Key::fingerprint);
        #[cfg(not(feature = "secure"))]
        return None;
    }

    /// For one connection; `None` if it is not to be protected.
    #[cfg(feature = "secure")]
    pub(super) fn handshake(&self) -> io::Result<Option<Handshake>> {
        let Some(key) = &self.key else { return Ok(None) };
        let ephemeral = crate::keys::random().map_err(io::Error::other)?;
        let handshake: Handshake = Login { key: key.clone(), ephemeral }.start();
        Ok(Some(self.only.into_iter().fold(handshake, Handshake::only)))
    }

    /// For one connection: `None`, since it is not to be protected.
    #[cfg(not(feature = "secure"))]
    pub(super) const fn handshake(&self) -> io::Result<Option<Handshake>> {
        Ok(None)
    }
}
