//! Reads and writes blocks of the SD card and reports the result on the console: `sd-check: ok`, or what failed.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use skiff_firmware::board::{Board, Card};
use skiff_firmware::sd::{BLOCK, SdError};
use skiff_firmware::{arch, log};

/// Blocks that are written one after another.
const RUN: u32 = 64;

#[entry]
fn main() -> ! {
    let board = Board::take();
    let result = match board.card {
        Ok(mut card) => check(&mut card),
        Err(error) => Err(Wrong::Card(error)),
    };
    match result {
        Ok(()) => log!("sd-check: ok"),
        Err(Wrong::Card(error)) => log!("sd-check: ", error),
        Err(Wrong::Content(number)) => log!("sd-check: block ", number, " is not what was written"),
        Err(Wrong::Range) => log!("sd-check: a block beyond the end"),
    }
    let mut watchdog = board.watchdog;
    loop {
        watchdog.feed();
        cortex_m::asm::wfi();
    }
}

enum Wrong {
    Card(SdError),
    Content(u32),
    Range,
}

impl From<SdError> for Wrong {
    fn from(error: SdError) -> Self {
        Self::Card(error)
    }
}

/// The expected content of block `number`.
fn content(number: u32, block: &mut [u8; BLOCK]) {
    let mut x = number.wrapping_mul(0x9e37_79b9) | 1;
    for word in block.as_chunks_mut::<4>().0 {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        *word = x.to_le_bytes();
    }
}

fn check(card: &mut Card) -> Result<(), Wrong> {
    let blocks = card.blocks();
    log!("sd-check: ", blocks, " blocks");
    let last = blocks - 1;
    let mut block = [0; BLOCK];
    let mut expected = [0; BLOCK];

    // What an earlier run has left, if this is started twice with one card.
    card.read(last, &mut block)?;
    content(last, &mut expected);
    log!("sd-check: the last block is ", if block == expected { "as written before" } else { "new" });

    let begin = arch::millis();
    let numbers = || (0..RUN).chain([blocks / 2, last]);
    for number in numbers() {
        content(number, &mut block);
        card.write(number, &block)?;
    }
    card.flush()?;
    let middle = arch::millis();
    for number in numbers() {
        card.read(number, &mut block)?;
        content(number, &mut expected);
        if block != expected {
            return Err(Wrong::Content(number));
        }
    }
    let end = arch::millis();
    log!("sd-check: ", RUN + 2, " blocks written in ", middle - begin, " ms, read in ", end - middle, " ms");
    if card.read(blocks, &mut block) != Err(SdError::Range) || card.write(u32::MAX, &block) != Err(SdError::Range) {
        return Err(Wrong::Range);
    }
    Ok(())
}

skiff_firmware::handlers!();
