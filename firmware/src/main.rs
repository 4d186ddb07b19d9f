//! The server as an image.
#![no_std]
#![no_main]

use cortex_m_rt::{ExceptionFrame, entry, exception};
use skiff_firmware::{app, board::Board, clock, fail, idle, log::Hex};

#[entry]
fn main() -> ! {
    app::run(Board::take())
}

#[exception]
fn SysTick() {
    clock::tick();
}

// SAFETY: it touches nothing but the interrupt controller.
#[exception]
unsafe fn DefaultHandler(irq: i16) {
    idle::interrupted(irq);
}

// SAFETY: it never returns.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    fail!("fault at ", Hex::<8>(frame.pc()), ", called from ", Hex::<8>(frame.lr()))
}
