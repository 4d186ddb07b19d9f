//! The peer of a connection, for the log.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use skiff_proto::identity::KeyId;

/// The peer of a connection: its address, and its key if the connection is protected.
#[derive(Debug, Clone, Copy)]
pub struct Who {
    pub(crate) addr: SocketAddr,
    pub(crate) key: Option<KeyId>,
}

impl Who {
    /// A peer that has not shown a key.
    pub(crate) const fn new(addr: SocketAddr) -> Self {
        Self { addr, key: None }
    }

    pub(super) const fn ip(&self) -> IpAddr {
        self.addr.ip()
    }
}

/// `CLIENT@ADDRESS:PORT`, or only the address.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            write!(f, "{}@", key.client())?;
        }
        self.addr.fmt(f)
    }
}

impl From<SocketAddr> for Who {
    fn from(addr: SocketAddr) -> Self {
        Self::new(addr)
    }
}
