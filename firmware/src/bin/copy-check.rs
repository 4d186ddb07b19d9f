//! Copies, moves and fills memory at every alignment and reports the result on the console: `copy-check: ok`, or what
//! failed.
#![no_std]
#![no_main]

use core::hint::black_box;

use cortex_m_rt::entry;
use skiff_firmware::board::Board;
use skiff_firmware::log;

/// Lengths up to this, from and to each of [`STARTS`] addresses.
const LEN: usize = 70;
const STARTS: usize = 9;
const ROOM: usize = LEN + 2 * STARTS;

#[entry]
fn main() -> ! {
    let mut watchdog = Board::take().watchdog;
    let mut wrong = 0_u32;
    for len in 0..=LEN {
        for from in 0..STARTS {
            for to in 0..STARTS {
                watchdog.feed();
                wrong += u32::from(!is_copied(from, to, len));
                wrong += u32::from(!is_moved(from, to, len));
            }
            wrong += u32::from(!is_filled(from, len));
        }
    }
    if wrong == 0 {
        log!("copy-check: ok");
    } else {
        log!("copy-check: ", wrong, " wrong");
    }
    loop {
        watchdog.feed();
        cortex_m::asm::wfi();
    }
}

/// Bytes that are all different.
fn content() -> [u8; ROOM] {
    core::array::from_fn(|at| black_box(at).to_le_bytes()[0] ^ 0x55)
}

/// True if the bytes are correct, and those around them unchanged.
fn is(bytes: &[u8; ROOM], expected: impl Fn(usize) -> usize) -> bool {
    bytes.iter().enumerate().all(|(at, byte)| *byte == expected(at).to_le_bytes()[0] ^ 0x55)
}

fn is_copied(from: usize, to: usize, len: usize) -> bool {
    const UNTOUCHED: usize = 200;
    let source = content();
    let mut bytes = [black_box(UNTOUCHED).to_le_bytes()[0] ^ 0x55; ROOM];
    bytes[to..to + len].copy_from_slice(&source[from..from + len]);
    is(&bytes, |at| if (to..to + len).contains(&at) { at - to + from } else { UNTOUCHED })
}

fn is_moved(from: usize, to: usize, len: usize) -> bool {
    let mut bytes = content();
    bytes.copy_within(from..from + len, to);
    is(&bytes, |at| if (to..to + len).contains(&at) { at - to + from } else { at })
}

fn is_filled(start: usize, len: usize) -> bool {
    const WITH: usize = 222;
    let mut bytes = content();
    bytes[start..start + len].fill(black_box(WITH).to_le_bytes()[0] ^ 0x55);
    let filled = is(&bytes, |at| if (start..start + len).contains(&at) { WITH } else { at });
    bytes[start..start + len].fill(0);
    filled && is(&bytes, |at| if (start..start + len).contains(&at) { 0x55 } else { at })
}

skiff_firmware::handlers!();
