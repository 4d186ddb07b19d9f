//! What device-serv has to say.

use core::fmt::Arguments;
use std::io::Write as _;

/// Says it on stderr, as one line. If nobody can hear it any more (the reader of a pipe has ended, the disk with the log is
/// full), the server goes on.
pub fn say(text: Arguments<'_>) {
    // In one piece, so that lines of several programs do not mix.
    _ = std::io::stderr().write_all(format!("device-serv: {text}\n").as_bytes());
}
