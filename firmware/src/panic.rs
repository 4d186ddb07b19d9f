//! What went wrong is said on the console; then everything starts anew.

use core::panic::PanicInfo;

use cortex_m::peripheral::SCB;
use cortex_m::{asm, interrupt};

use crate::uart::Uart as _;
use crate::{board, log};

/// Says where. The message is left out: what formats all that it may be made of takes 4 KiB of flash.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(at) => log!("panic at ", at.file(), ":", at.line()),
        None => log!("panic"),
    }
    restart()
}

/// Says why on the console, piece by piece, and starts anew.
#[macro_export]
macro_rules! fail {
    ($($piece:expr),* $(,)?) => {{
        $crate::log!($($piece),*);
        $crate::panic::restart()
    }};
}

/// Starts anew, when the console has sent everything and somebody could have read it: what can't work fails again.
pub fn restart() -> ! {
    interrupt::disable();
    board::CONSOLE.flush();
    asm::delay(25_000_000);
    SCB::sys_reset()
}
