//! RISC-V with a CLINT and a PLIC, as in QEMU's `virt`. No interrupt handler ever runs: interrupts are disabled, but a
//! pending one still ends a sleep.

use core::arch::asm;

use crate::board::{CLINT, PLIC, SOURCES, TICKS};
use crate::fail;
use crate::log::Hex;
use crate::mac::Mac;

/// Handles a processor fault: reports its cause and location, and restarts.
#[unsafe(no_mangle)]
extern "C" fn skiff_fault(cause: u32, at: u32, value: u32) -> ! {
    fail!("fault ", cause, " at ", Hex::<8>(at), ", address ", Hex::<8>(value))
}

// CLINT: hart 0's timer compare value, and the time.
const ALARM: usize = 0x4000;
const TIME: usize = 0xbff8;

// PLIC, for hart 0 in machine mode: the priority of each source, the enabled sources, claim and complete.
const ENABLE: usize = 0x2000;
const CLAIM: usize = 0x20_0004;

/// Ticks of the timer since the start of the chip.
pub fn time() -> u64 {
    loop {
        let (high, low) = (CLINT.read(TIME + 4), CLINT.read(TIME));
        if CLINT.read(TIME + 4) == high {
            return u64::from(high) << 32 | u64::from(low);
        }
    }
}

/// Milliseconds, modulo 2^32: 49 days.
#[expect(clippy::cast_possible_truncation, reason = "modulo")]
pub fn millis() -> u32 {
    (time() / u64::from(TICKS)) as u32
}

/// The low bits of the timer.
pub fn cycles() -> u32 {
    CLINT.read(TIME)
}

/// The timer's interrupt, and that of the PLIC.
const MIE: u32 = 1 << 7 | 1 << 11;

/// Sleeps until a frame arrives, at most for a millisecond.
pub fn sleep<M: Mac>(mac: &mut M) {
    mac.listen();
    for source in 0..32 {
        if SOURCES & 1 << source != 0 {
            PLIC.write(4 * source, 1);
        }
    }
    PLIC.write(ENABLE, SOURCES);
    let alarm = time() + u64::from(TICKS);
    let [a, b, c, d, e, f, g, h] = alarm.to_le_bytes();
    // The value in between is later, never earlier.
    CLINT.write(ALARM + 4, u32::MAX);
    CLINT.write(ALARM, u32::from_le_bytes([a, b, c, d]));
    CLINT.write(ALARM + 4, u32::from_le_bytes([e, f, g, h]));
    // SAFETY: interrupts are off (mstatus), so none is taken.
    unsafe { asm!("csrw mie, {}", in(reg) MIE) };
    if !mac.has_frame() {
        // SAFETY: it waits and does nothing else.
        unsafe { asm!("wfi") };
    }
    let source = PLIC.read(CLAIM);
    if source != 0 {
        // A source that is still asserted raises it again.
        PLIC.write(CLAIM, source);
    }
}

/// Waits long enough to read a line.
pub fn pause() {
    let until = time() + 500 * u64::from(TICKS);
    while time() < until {}
}

/// Does nothing: interrupts are always disabled.
pub const fn disable_interrupts() {}

/// Resets the board.
pub fn reset() -> ! {
    crate::board::reset()
}

/// The entry point of an image: calls `$main`, a function that does not return.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        // The start: the stack and the memory above it are painted for `stack`, zero-initialized variables are cleared,
        // and the others get their values.
        core::arch::global_asm! {
            ".section .init, \"ax\"",
            ".global _start",
            "_start:",
            ".option push",
            ".option norelax",
            "la gp, __global_pointer$",
            ".option pop",
            "csrw mie, zero",
            "csrw mstatus, zero",
            "la t0, _trap",
            "csrw mtvec, t0",
            "la sp, _stack_start",
            "la t0, _stack_end",
            "li t1, 0xcccccccc",
            "1:",
            "sw t1, 0(t0)",
            "addi t0, t0, 4",
            "bltu t0, sp, 1b",
            "la t0, __sbss",
            "la t1, __ebss",
            "2:",
            "bgeu t0, t1, 3f",
            "sw zero, 0(t0)",
            "addi t0, t0, 4",
            "j 2b",
            "3:",
            "la t0, _data_image",
            "la t1, __sdata",
            "la t2, __edata",
            "4:",
            "bgeu t1, t2, 5f",
            "lw t3, 0(t0)",
            "sw t3, 0(t1)",
            "addi t0, t0, 4",
            "addi t1, t1, 4",
            "j 4b",
            "5:",
            "call skiff_main",
            // The trap handler. The stack may be the cause: it is set back to its start.
            ".balign 4",
            "_trap:",
            "la sp, _stack_start",
            "csrr a0, mcause",
            "csrr a1, mepc",
            "csrr a2, mtval",
            "call skiff_fault",
        }

        // SAFETY: nothing else has this name.
        #[unsafe(no_mangle)]
        extern "C" fn skiff_main() -> ! {
            $main()
        }
    };
}
