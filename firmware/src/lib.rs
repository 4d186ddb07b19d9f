//! The code that the images share: boards, drivers, the loop around the server.
//!
//! | module | content |
//! |---|---|
//! | [`board`] | the board that the features select: clock, pins, drivers |
//! | [`mac`] | network interfaces, and [`Ethernet`](mac::Ethernet), which adapts them to smoltcp |
//! | [`uart`], [`log!`] | serial ports, and the log on them |
//! | [`sd`], [`spi`], [`gpio`] | an SD card, the bus it is on, the pin that selects it |
//! | [`arch`] | the processor: startup, interrupts, its timer |
//! | `nor` | NOR flash |
//! | [`clock`], [`idle`] | milliseconds, and sleeping until something happens |
//! | [`watchdog`], [`mod@panic`] | restarting after an error |
//! | [`settings`] | the text in flash with the settings of each board |
//! | [`files`] | the store, on the card or in RAM |
//! | [`kept`], [`seed`] | data that survives a reset; a number that is different at each start |
//! | [`stack`] | the stack usage |
//! | `update` | updates of the image |
//! | [`app`] | the server |
#![no_std]

#[cfg(not(any(feature = "board-lm3s6965", feature = "board-mps2", feature = "board-virt")))]
compile_error!("choose the board with a feature: board-lm3s6965, board-mps2 or board-virt");

#[cfg(all(feature = "card", not(feature = "board-lm3s6965")))]
compile_error!("this board has no SD card");

#[cfg(all(feature = "nor", not(feature = "board-virt")))]
compile_error!("this board has no NOR flash");

#[cfg(all(feature = "secure", feature = "board-virt"))]
compile_error!("this board has no source of randomness and no page for settings yet");

pub mod app;
pub mod arch;
pub mod board;
pub mod clock;
pub mod files;
#[cfg(target_arch = "arm")]
pub mod gpio;
pub mod idle;
pub mod kept;
pub mod log;
pub mod mac;
pub mod mmio;
#[cfg(feature = "nor")]
pub mod nor;
pub mod panic;
pub mod sd;
pub mod seed;
pub mod settings;
#[cfg(target_arch = "arm")]
pub mod spi;
pub mod stack;
pub mod uart;
#[cfg(feature = "update")]
pub mod update;
#[cfg(target_arch = "arm")]
pub mod watchdog;
