//! How connections may be protected: by keys (PROTOCOL §8), or not at all in a build without feature `secure`.

#[cfg(feature = "secure")]
mod ring;

/// What the sessions of clients and servers are made with.
#[cfg(feature = "secure")]
pub(crate) type Protection = skiff_proto::secure::Noise<ring::Ring>;
/// What the sessions of clients and servers are made with.
#[cfg(not(feature = "secure"))]
pub(crate) type Protection = skiff_proto::cipher::Plain;
