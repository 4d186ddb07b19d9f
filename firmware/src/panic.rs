//! What went wrong is said on the console; then everything starts anew.

use core::panic::PanicInfo;

use cortex_m::interrupt;
use cortex_m::peripheral::SCB;

use crate::uart::Uart as _;
use crate::{board, log};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    interrupt::disable();
    log!("{info}");
    restart()
}

/// Starts anew, after the console has sent everything.
pub(crate) fn restart() -> ! {
    board::CONSOLE.flush();
    SCB::sys_reset()
}
