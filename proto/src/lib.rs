//! The skiff file transfer protocol, version 1, as state machines without I/O, clock, heap or `unsafe`.
//!
//! | module | content |
//! |---|---|
//! | [`message`] | the message layer: lengths and records; no other module sees the ten digits |
//! | [`cipher`] | how a connection may be protected: not at all, or by the feature `secure` |
//! | [`name`], [`error`], [`identity`] | names, error codes, KEYID |
//! | [`command`], [`reply`] | the words of the protocol, parsed and written |
//! | [`body`], [`crc`] | data messages, trailers, CRC-32C |
//! | [`server`], [`client`] | the two ends of a control connection |
//! | [`transfer`] | one classic data connection |
//! | [`store`], [`responder`] | the storage trait, and the code that connects a store with a session |
//! | [`takeover`] | two writers to one name |
//! | `serial` | sessions over a serial line that loses bytes (feature with this name) |
//! | `drive` | both sessions over a stream of `embedded-io` or `embedded-io-async` (features with the same names) |
//!
//! Payload stays in the driver's memory: `receive` consumes the framing and returns payload in place in the input,
//! `send` calls the driver to fill payload into its send buffer. On a plain connection, the driver can also move it
//! past the session (`opaque`: sendfile). [`server`] shows the run loop.
//!
//! The folder `examples` has servers on a TCP stream (`tcp_server`) and on a serial port (`serial_server`). Several
//! sessions can share one store: `&RefCell<S>` is a store, too.
//!
//! `docs/PROTOCOL.md` defines the wire format; "PROTOCOL §7" in this documentation is its section 7.
#![no_std]
// The linker finds the application's `CrcUnit`: one declaration.
#![cfg_attr(not(feature = "crc-unit"), forbid(unsafe_code))]
#![cfg_attr(feature = "crc-unit", deny(unsafe_code))]

#[cfg(test)]
extern crate std;

#[macro_use]
mod words;

pub mod body;
pub mod cipher;
pub mod client;
pub mod command;
pub mod crc;
#[cfg(feature = "embedded-io")]
pub mod drive;
pub mod error;
#[cfg(feature = "defmt")]
mod format;
pub mod identity;
pub mod message;
pub mod name;
pub mod reply;
pub mod responder;
#[cfg(feature = "secure")]
pub mod secure;
#[cfg(feature = "serial")]
pub mod serial;
pub mod server;
pub mod store;
mod tag;
pub mod takeover;
mod text;
pub mod time;
pub mod transfer;

pub use body::{Opaque, OpaqueIn, Payload};
pub use error::{ErrorCode, InvalidState, ProtocolError, Refusal};
pub use identity::KeyId;
pub use message::{Received, SendError};
pub use name::{Name, NameBuf, NameError};
pub use time::{Instant, MinRate};

/// README.md and docs/DESIGN.md state this size.
#[cfg(target_pointer_width = "32")]
const _: () = assert!(size_of::<server::ServerSession<{ command::command_len(64) }>>() <= 528);
