//! The protection of connections: by keys (PROTOCOL §8), or none in a build without the feature `secure`.

#[cfg(feature = "secure")]
mod ring;

/// What the sessions of clients and servers are made with.
#[cfg(feature = "secure")]
pub(crate) type Protection = skiff_proto::secure::Noise<ring::Ring>;
/// What the sessions of clients and servers are made with.
#[cfg(not(feature = "secure"))]
pub(crate) type Protection = skiff_proto::cipher::Plain;
