//! Both sessions over a stream of `embedded-io` or `embedded-io-async` (features with the same names): a serial line, a
//! USB port, an embassy TCP socket.
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
//! fn run<T: Read + Write, S: Store>(mut port: T, store: &mut S, millis: impl Fn() -> u64) {
//!     let mut scratch = [0; 512];
//!     loop {
//!         let mut session: ServerSession<{ command_len(64) }> = ServerSession::new(Limits::new(64));
//!         let clock = || Instant::from_millis(millis());
//!         if drive::serve(&mut port, &mut session, store, &mut scratch, clock).is_err() {
//!             break;
//!         }
//!     }
//! }
//! ```
//!
//! **One direction at a time.** A drive either reads or writes, with one buffer, so it also works on half-duplex links
//! and needs no split stream. This has two consequences. A server reads the body of a refused `write` to the end before
//! it sends the refusal; a client that wants to know earlier sends `resume`, which fails as the `write` would. And
//! these clients do not pipeline, because a client that pipelines must keep reading (PROTOCOL §1).
//!
//! **Time.** The async drives take a `Timer` and observe the session's timeouts exactly. The blocking ones have a
//! clock, but cannot interrupt `read`: a stream that never returns blocks them forever. If the stream has its own
//! timeouts (an error of the kind `TimedOut` or `Interrupted`), they do not end the connection: the drive checks the
//! clock, lets the session decide by its own limits, and tries again. A serial line cannot reconnect, so it needs a
//! long [`idle`](crate::server::Limits::idle).
//!
//! **Errors of the stream** end the connection; bytes of a `write` received until then stay staged for `resume`. The
//! stream must be reliable, like TCP: a link that loses bytes needs a layer below that retransmits them.
//!
//! **Protected connections** (PROTOCOL §8) work with every drive: call `protect` on the session first. The buffer must
//! hold a complete record: `scratch` of the server, `RECORD` of the client.
//!
//! All drives share the same code. It is async; the blocking functions run it over a stream whose futures are always
//! ready.

use core::fmt;

use crate::error::{InvalidState, ProtocolError};

mod client;
mod server;
mod stream;

#[cfg(feature = "embedded-io-async")]
pub use client::AsyncClient;
pub use client::{Client, Session};
pub use server::serve;
#[cfg(feature = "embedded-io-async")]
pub use server::serve_async;
#[cfg(feature = "embedded-io-async")]
pub use stream::Timer;

/// Why a drive has stopped. The connection is unusable, unless it is [`DriveError::InvalidState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum DriveError<E> {
    /// The stream failed.
    Stream(E),
    /// The stream accepts no more bytes.
    Closed,
    /// The server broke the protocol, or ended the stream before a reply.
    Protocol(ProtocolError),
    /// The server has made no progress for too long.
    Timeout,
    /// The call is not allowed in this state, or the caller's buffer is too small. Nothing has changed.
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
