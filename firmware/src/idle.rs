//! Sleeps until the next event.
//!
//! | event | detected by |
//! |---|---|
//! | a frame | the interface's interrupt |
//! | the requested time, a key at the console | the clock, every millisecond |

use skiff_proto::Instant;

use crate::clock::Clock;
use crate::mac::{Ethernet, Mac};
use crate::uart::Uart as _;
use crate::{arch, board};

/// Sleeps until a frame or a key arrives, or until `until`, if there is one. Calls `feed` every millisecond.
pub fn sleep<M: Mac>(ethernet: &mut Ethernet<M>, clock: &mut Clock, mut feed: impl FnMut(), until: Option<Instant>) {
    loop {
        feed();
        if ethernet.mac.has_frame() || board::CONSOLE.has_byte() || until.is_some_and(|until| clock.now() >= until) {
            return;
        }
        arch::sleep(&mut ethernet.mac);
    }
}
