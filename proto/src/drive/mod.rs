//! Both sessions over a stream of `embedded-io` (feature `embedded-io`) or `embedded-io-async` (the feature of that
//! name): a serial line, a USB port, a TCP socket of embassy.
//!
//! | side | blocking | async |
//! |---|---|---|
//! | server, one connection to its end | [`serve`] | `serve_async` |
//! | client, one request at a time | [`Client`] | `AsyncClient` |
//!
//! A server on a serial line:
//!
//! ```
//! # use embedded_io::{Read, Write};
//! use skiff_proto::{Instant, command::command_len, drive, server::{Limits, ServerSession}, store::Store};
//!
//! fn run<T: Read + Write, S: Store>(mut line: T, store: &mut S, millis: impl Fn() -> u64) {
//!     let mut scratch = [0; 512];
//!     loop {
//!         let mut session: ServerSession<{ command_len(64) }> = ServerSession::new(Limits::new(64));
//!         let clock = || Instant::from_millis(millis());
//!         if drive::serve(&mut line, &mut session, store, &mut scratch, clock).is_err() {
//!             break;
//!         }
//!     }
//! }
//! ```
//!
//! **One direction at a time.** A drive either reads or writes, from one buffer of the caller's, so it works on half-duplex
//! lines too and needs no split stream. Two things follow. A server reads the body of a `write` that it has refused to
//! the end before it sends the refusal; a client that wants to know beforehand asks `resume`, which fails as the `write` would. And
//! a client that sends ahead must keep reading, as everywhere (PROTOCOL §1): these clients don't send ahead.
//!
//! **Time.** The async drives take a `Timer` and keep the session's time-outs exactly. The blocking ones
//! have a clock, but nobody can interrupt `read`: a stream that never returns keeps them for ever. A stream with
//! time-outs of its own (an error of the kind `TimedOut` or `Interrupted`) does not end the connection by that: the drive
//! looks at the clock, lets the session decide by its own limits, and tries again. A line that has no connections to
//! close, and so can't reconnect, wants a long [`idle`](crate::server::Limits::idle).
//!
//! **Errors of the stream** end the connection: a `write` that was under way stays staged for `resume`. The stream has to be
//! reliable, as TCP is; a line that loses bytes needs a layer below that repeats them.
//!
//! Inside there is one body of code. It is async; the blocking functions run it over a stream whose futures are always ready.

use core::fmt;

use crate::error::{InvalidState, ProtocolError};

mod client;
mod line;
mod server;

#[cfg(feature = "embedded-io-async")]
pub use client::AsyncClient;
pub use client::{Client, Session};
#[cfg(feature = "embedded-io-async")]
pub use line::Timer;
pub use server::serve;
#[cfg(feature = "embedded-io-async")]
pub use server::serve_async;

/// Why a drive has given up. The connection is of no further use, unless it is [`DriveError::InvalidState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum DriveError<E> {
    /// The stream failed.
    Stream(E),
    /// The stream takes no more bytes.
    Closed,
    /// The server broke the protocol, or ended the stream with a reply owed.
    Protocol(ProtocolError),
    /// The server has made no progress for too long.
    Timeout,
    /// The caller asked for something out of order, or lent too little memory. Nothing has changed.
    InvalidState,
}

impl<E> From<ProtocolError> for DriveError<E> {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl<E> From<InvalidState> for DriveError<E> {
    fn from(_: InvalidState) -> Self {
        Self::InvalidState
    }
}

impl<E: fmt::Display> fmt::Display for DriveError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(error) => error.fmt(f),
            Self::Closed => f.write_str("the stream takes no more bytes"),
            Self::Protocol(error) => error.fmt(f),
            Self::Timeout => f.write_str("the server made no progress for too long"),
            Self::InvalidState => InvalidState.fmt(f),
        }
    }
}

impl<E: core::error::Error> core::error::Error for DriveError<E> {}
