//! What the images share: boards, drivers, the loop around the server.
//!
//! | module | what is in it |
//! |---|---|
//! | [`board`] | the board that the features name: clock, pins, what is where |
//! | [`mac`] | network interfaces, and [`Ethernet`](mac::Ethernet), which makes a smoltcp device of each |
//! | [`uart`], [`log!`] | serial ports, and the log that goes out there |
//! | [`sd`], [`spi`], [`gpio`] | an SD card, the bus it is on, the pin that selects it |
//! | [`clock`], [`idle`] | milliseconds, and sleeping until something happens |
//! | [`watchdog`], [`mod@panic`] | starting again when something went wrong |
//! | [`settings`] | the text in flash that tells one board from another |
//! | [`files`] | the store, on the card or in RAM |
//! | [`kept`], [`seed`] | what survives a reset; a number that is different at each start |
//! | [`stack`] | how much stack was used |
//! | [`app`] | the server |
#![no_std]

#[cfg(not(any(feature = "board-lm3s6965", feature = "board-mps2")))]
compile_error!("choose the board with a feature: board-lm3s6965 or board-mps2");

#[cfg(all(feature = "card", not(feature = "board-lm3s6965")))]
compile_error!("this board has no SD card");

pub mod app;
pub mod board;
pub mod clock;
#[cfg(target_arch = "arm")]
mod copy;
pub mod files;
pub mod gpio;
pub mod idle;
pub mod kept;
pub mod log;
pub mod mac;
pub mod mmio;
pub mod panic;
pub mod sd;
pub mod seed;
pub mod settings;
pub mod spi;
pub mod stack;
pub mod uart;
mod vectors;
pub mod watchdog;
