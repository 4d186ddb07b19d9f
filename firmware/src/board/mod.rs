//! The board that the features select. A board is one file here, plus its memory map in `memory/`.
//!
//! | item of its file | meaning |
//! |---|---|
//! | `IDENTITY` | product and version of the server in its hello (`get /skiff/1`) |
//! | `INTERRUPTS` | the number of interrupts of the chip (Cortex-M) |
//! | `CLINT`, `PLIC`, `TICKS`, `SOURCES`, `reset` | its timer and its interrupt controller (RISC-V) |
//! | `CONSOLE` | the serial port of the log: a static, so that a panic finds it |
//! | `SESSIONS`, `DATA`, `BUFFER`, `SPARE` | the limits of the server: clients, data connections, bytes of their socket buffers |
//! | `FILES`, `BLOCKS` | the limits for files in RAM: files, and blocks of 256 bytes |
//! | `Mac` | its network interface |
//! | `Watchdog` | its watchdog, with `feed` |
//! | `Entropy` | the source of unpredictable numbers: the chip's generator, or `seed::Collected` |
//! | `write_settings` | writes the page with the settings |
//! | `Board::take` | initializes clocks and pins |

#[cfg(feature = "board-lm3s6965")]
mod lm3s6965;
#[cfg(feature = "board-mps2")]
mod mps2;
#[cfg(feature = "board-virt")]
mod virt;

#[cfg(feature = "board-lm3s6965")]
pub use lm3s6965::*;
#[cfg(feature = "board-mps2")]
pub use mps2::*;
#[cfg(feature = "board-virt")]
pub use virt::*;

/// The classic data connections: none without the feature `classic`.
const fn data(count: usize) -> usize {
    if cfg!(feature = "classic") { count } else { 0 }
}

/// The processor's peripherals. Take them only once.
#[cfg(target_arch = "arm")]
fn core() -> cortex_m::Peripherals {
    match cortex_m::Peripherals::take() {
        Some(core) => core,
        None => panic!("a board is taken once"),
    }
}
