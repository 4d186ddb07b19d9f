//! The boot loader: completes an update, or returns to the image before, and starts the image in the active slot.
//!
//! All decisions are embassy-boot's. On a chip that embassy supports, use its boot loader for that chip instead; the
//! slots and the state are the same.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

use embassy_boot::{AlignedBuffer, BootLoader, BootLoaderConfig, State};
use skiff_device::update::StateFlash;
use skiff_firmware::board::SLOTS;
use skiff_firmware::log::Hex;
use skiff_firmware::nor::CfiFlash;
use skiff_firmware::update::{self, ACTIVE, Slots};
use skiff_firmware::{fail, log};

/// Where the image runs.
const IMAGE: usize = 0x8000_0000;

// The start, in flash: `la` yields addresses there until the copy in RAM is entered.
global_asm! {
    ".section .boot, \"ax\"",
    ".global _boot_start",
    "_boot_start:",
    ".option push",
    ".option norelax",
    "csrw mie, zero",
    "csrw mstatus, zero",
    "la t0, _boot_start",
    "la t2, __image_end",
    "li t1, 0x80400000",
    "1:",
    "lw t3, 0(t0)",
    "sw t3, 0(t1)",
    "addi t0, t0, 4",
    "addi t1, t1, 4",
    "bltu t0, t2, 1b",
    "fence.i",
    "la t0, _boot_start",
    "la t1, 2f",
    "sub t1, t1, t0",
    "li t0, 0x80400000",
    "add t1, t1, t0",
    "jr t1",
    "2:",
    "la gp, __global_pointer$",
    "la t0, _boot_trap",
    "csrw mtvec, t0",
    "la sp, _stack_start",
    "la t0, __sbss",
    "la t1, __ebss",
    "3:",
    "bgeu t0, t1, 4f",
    "sw zero, 0(t0)",
    "addi t0, t0, 4",
    "j 3b",
    "4:",
    "call boot",
    ".balign 4",
    "_boot_trap:",
    "la sp, _stack_start",
    "csrr a0, mcause",
    "csrr a1, mepc",
    "call fault",
    ".option pop",
}

#[unsafe(no_mangle)]
extern "C" fn fault(cause: u32, at: u32) -> ! {
    fail!("boot: fault ", cause, " at ", Hex::<8>(at))
}

#[unsafe(no_mangle)]
extern "C" fn boot() -> ! {
    // SAFETY: the bank exists at this address, and no other code uses it.
    let Slots { active, spare, state } = update::slots(unsafe { CfiFlash::at(SLOTS) });
    let mut loader = BootLoader::new(BootLoaderConfig { active, dfu: spare, state: StateFlash::new(state) });
    let mut piece = AlignedBuffer([0; 4096]);
    match loader.prepare_boot(&mut piece.0) {
        Ok(State::Swap) => match loader.read_state(&mut piece.0) {
            Ok(State::Revert) => log!("boot: the new image was not confirmed; reverted to the previous image"),
            _ => log!("boot: a new image, on trial"),
        },
        Ok(_) => {}
        Err(_) => fail!("boot: flash error"),
    }
    start()
}

/// Starts the image in the active slot.
fn start() -> ! {
    let (from, len) = (SLOTS + ACTIVE.0 as usize, ACTIVE.1 as usize);
    let from = core::ptr::with_exposed_provenance::<u32>(from);
    // SAFETY: the content of the slot.
    if unsafe { from.read_volatile() } == u32::MAX {
        fail!("boot: there is no image");
    }
    let to = core::ptr::with_exposed_provenance_mut::<u32>(IMAGE);
    // SAFETY: the memory of the image, which does not overlap that of the boot loader.
    unsafe { to.copy_from_nonoverlapping(from, len / 4) };
    // SAFETY: the image starts like the processor does.
    unsafe { asm!("fence.i", "jr {}", in(reg) IMAGE, options(noreturn)) }
}
