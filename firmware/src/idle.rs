//! Sleeping until there is something to do.
//!
//! | what wakes | how it is noticed |
//! |---|---|
//! | a frame | the interface's interrupt |
//! | the moment that was asked for, a key at the console | the clock's interrupt, every millisecond |
//!
//! No handler touches the interface. Its interrupt stays masked while frames are being worked off, is let through for the
//! time of a sleep, and masks itself again when it comes.

use cortex_m::asm;
use cortex_m::interrupt::{self, InterruptNumber};
use cortex_m::peripheral::NVIC;
use skiff_proto::Instant;

use crate::clock::Clock;
use crate::mac::{Ethernet, Mac};
use crate::uart::Uart as _;
use crate::watchdog::Watchdog;
use crate::{board, fail};

/// The number of an interrupt.
#[derive(Debug, Clone, Copy)]
pub struct Irq(pub u16);

// SAFETY: the number is that of an interrupt of the chip, always the same.
unsafe impl InterruptNumber for Irq {
    fn number(self) -> u16 {
        self.0
    }
}

/// Sleeps until a frame or a key comes, `until` is reached, or, without it, for good.
pub fn sleep<M: Mac>(ethernet: &mut Ethernet<M>, clock: &mut Clock, watchdog: &mut Watchdog, until: Option<Instant>) {
    loop {
        watchdog.feed();
        if ethernet.mac.has_frame() || board::CONSOLE.has_byte() || until.is_some_and(|until| clock.now() >= until) {
            return;
        }
        // What comes from here on is pending, and ends the sleep although interrupts are off; or it is seen at once.
        interrupt::free(|_| {
            ethernet.mac.listen();
            let irq = Irq(M::IRQ);
            NVIC::unpend(irq);
            // SAFETY: interrupts are off, and the handler changes nothing that is in use.
            unsafe { NVIC::unmask(irq) };
            if !ethernet.mac.has_frame() {
                asm::wfi();
            }
        });
    }
}

/// What an image's `DefaultHandler` calls: the interrupt has done its work, which was to wake the processor.
pub fn interrupted(irq: i16) {
    match u16::try_from(irq) {
        Ok(irq) => NVIC::mask(Irq(irq)),
        // A fault, or the watchdog's interrupt that can't be masked.
        Err(_) => fail!("exception ", irq.unsigned_abs()),
    }
}
