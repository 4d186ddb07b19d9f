//! The code that depends on the processor. Both modules have the same items:
//!
//! | item | what it does |
//! |---|---|
//! | `millis` | milliseconds since the start, modulo 2^32 |
//! | `cycles` | a number that changes fast, for seeds |
//! | `sleep` | sleeps until a frame arrives, at most for a millisecond |
//! | `pause` | waits for a moment, long enough to read a line |
//! | `disable_interrupts`, `reset` | the last steps before a restart |
//! | `entry!` | the entry point and the handlers of an image |

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
