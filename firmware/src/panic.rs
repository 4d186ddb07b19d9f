//! Reports an error on the console, then restarts.

use core::panic::PanicInfo;

use crate::uart::Uart as _;
use crate::{arch, board, log};

/// Reports the location. It omits the message, because the code that formats messages takes 4 KiB of flash.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(at) => log!("panic at ", at.file(), ":", at.line()),
        None => log!("panic"),
    }
    restart()
}

/// Reports the reason on the console, piece by piece, and restarts.
#[macro_export]
macro_rules! fail {
    ($($piece:expr),* $(,)?) => {{
        $crate::log!($($piece),*);
        $crate::panic::restart()
    }};
}

/// Restarts after the console has sent everything and there was time to read it, because a permanent error occurs
/// again.
pub fn restart() -> ! {
    arch::disable_interrupts();
    board::CONSOLE.flush();
    arch::pause();
    arch::reset()
}
