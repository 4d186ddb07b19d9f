//! The board that the features name. A board is one file here, and its memory map beside `build.rs`.
//!
//! | item of its file | content |
//! |---|---|
//! | `IDENTITY` | what the server calls itself in its answer to `get /skiff/1`: product and version |
//! | `INTERRUPTS` | how many interrupts the chip has (Cortex-M) |
//! | `CLINT`, `PLIC`, `TICKS`, `SOURCES`, `reset` | its timer and its interrupt controller (RISC-V) |
//! | `CONSOLE` | the serial port of the log: a static, so that a panic finds it |
//! | `SESSIONS`, `DATA`, `BUFFER`, `SPARE` | limits of the server: clients, data connections, bytes of their socket buffers |
//! | `FILES`, `BLOCKS` | limits of files in RAM: their number, and blocks of 256 bytes |
//! | `Mac` | its network interface |
//! | `Watchdog` | its watchdog, with `feed` |
//! | `Entropy` | where unpredictable numbers come from: the chip's generator, or `seed::Collected` |
//! | `write_settings` | writes the page with the settings |
//! | `Board::take` | sets up clocks and pins |

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

/// The number of classic data connections: none without the feature `classic`.
const fn data(count: usize) -> usize {
    if cfg!(feature = "classic") { count } else { 0 }
}

/// The peripherals of the processor core. Take them once.
#[cfg(target_arch = "arm")]
fn core() -> cortex_m::Peripherals {
    match cortex_m::Peripherals::take() {
        Some(core) => core,
        None => panic!("a board is taken once"),
    }
}
