//! Serial lines (PROTOCOL §9; feature `serial`): sessions over a line that loses and alters bytes, and has no beginning
//! or end.
//!
//! | item | what it is |
//! |---|---|
//! | [`Link`] | one end of a line, without I/O |
//! | [`Server`] | the server's end over a port of `embedded-io` or `embedded-io-async` (features of these names), for [`drive`](crate::drive) |
//!
//! A server on a UART:
//!
//! ```
//! # #[cfg(feature = "embedded-io")]
//! # mod example {
//! # use embedded_io::{Read, Write};
//! use skiff_proto::{Instant, command::command_len, drive, serial, server::{Limits, ServerSession}, store::Store};
//!
//! fn run<T: Read + Write, S: Store>(uart: T, store: &mut S, millis: impl Fn() -> u64) -> Result<(), T::Error> {
//!     let mut line: serial::Server<_, 512, 512> = serial::Server::new(uart);
//!     let mut scratch = [0; 512];
//!     loop {
//!         if let Err(serial::SerialError::Port(error)) = line.accept() {
//!             return Err(error);
//!         }
//!         let mut session: ServerSession<{ command_len(64) }> = ServerSession::new(Limits::new(64));
//!         let clock = || Instant::from_millis(millis());
//!         // A session that fails is like a connection that is lost: the client opens another one and resumes.
//!         if let Ok(how) = drive::serve(&mut line, &mut session, store, &mut scratch, clock) {
//!             line.close(how);
//!         }
//!     }
//! }
//! # }
//! ```

mod frame;
mod link;
#[cfg(feature = "embedded-io")]
mod port;
mod ring;

pub use frame::FRAME_MAX;
pub use link::{Link, State};
#[cfg(feature = "embedded-io")]
pub use port::{SerialError, Server};
