//! What went wrong is said on the console; then everything starts anew.

use core::fmt;
use core::panic::PanicInfo;

use cortex_m::peripheral::SCB;
use cortex_m::{asm, interrupt};

use crate::uart::Uart as _;
use crate::{board, log};

/// Says where. The message is left out: what formats all that it may be made of takes 4 KiB of flash.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    interrupt::disable();
    match info.location() {
        Some(at) => log!("panic at {}:{}", at.file(), at.line()),
        None => log!("panic"),
    }
    restart()
}

/// Says why, and starts anew.
pub fn fail(why: fmt::Arguments<'_>) -> ! {
    interrupt::disable();
    log!("{why}");
    restart()
}

/// Starts anew, when the console has sent everything and somebody could have read it: what can't work fails again.
pub(crate) fn restart() -> ! {
    board::CONSOLE.flush();
    asm::delay(25_000_000);
    SCB::sys_reset()
}
