//! Code for the processor. Both modules have the same items:
//!
//! | item | what it does |
//! |---|---|
//! | `millis` | milliseconds since the start, modulo 2^32 |
//! | `cycles` | a number that changes fast, for seeds |
//! | `sleep` | sleeps until a frame comes, for a millisecond at most |
//! | `pause` | waits long enough for a line to be read |
//! | `disable_interrupts`, `reset` | the last steps before a restart |
//! | `entry!` | the start and the handlers of an image |

#[cfg(target_arch = "arm")]
mod copy;
#[cfg(target_arch = "arm")]
mod cortex_m;
#[cfg(target_arch = "arm")]
mod vectors;

#[cfg(target_arch = "riscv32")]
mod riscv;

#[cfg(target_arch = "arm")]
pub use cortex_m::*;
#[cfg(target_arch = "riscv32")]
pub use riscv::*;
