//! What went wrong is said on the console; then everything starts anew.

use core::panic::PanicInfo;

use cortex_m::peripheral::SCB;
use cortex_m::{asm, interrupt};

use crate::uart::Uart as _;
use crate::{board, log};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    interrupt::disable();
    log!("{info}");
    restart()
}

/// Starts anew, when the console has sent everything and somebody could have read it: what can't work fails again.
fn restart() -> ! {
    board::CONSOLE.flush();
    asm::delay(25_000_000);
    SCB::sys_reset()
}
