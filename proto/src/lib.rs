//! The skiff file transfer protocol, version 1, as state machines without I/O, clock, heap or `unsafe`.
//!
//! | module | what is in it |
//! |---|---|
//! | [`frame`], [`name`], [`error`] | lengths, names, error codes: what everything else is made of |
//! | [`command`], [`reply`] | the words of the protocol, parsed and written |
//! | [`body`], [`crc`] | data messages, trailers, CRC-32C |
//! | [`server`], [`client`] | one control connection, seen from either end |
//! | [`transfer`] | one classic data connection |
//! | [`store`], [`responder`] | what a server needs of the place where files live, and the way between it and a session |
//! | `drive` | both sessions over a stream of `embedded-io` or `embedded-io-async` (features of these names) |
//!
//! The sessions see framing bytes only. Payload never enters them: they tell which way and how much, and the driver moves
//! it with the best means it has (sendfile, a ring lent by the TCP stack, a buffer of the caller's). The run loop
//! is at [`server`].
//!
//! The wire is described in `docs/PROTOCOL.md`; "PROTOCOL §7" in this documentation is its section 7.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod body;
pub mod client;
pub mod command;
pub mod crc;
#[cfg(feature = "embedded-io")]
pub mod drive;
pub mod error;
pub mod frame;
pub mod name;
pub mod reply;
pub mod responder;
pub mod server;
pub mod store;
mod text;
pub mod time;
pub mod transfer;

pub use body::Payload;
pub use error::{ErrorCode, InvalidState, ProtocolError, Refusal};
pub use name::{Name, NameError};
pub use time::{Instant, MinRate};
