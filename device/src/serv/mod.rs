//! device-serv: the embedded server on a computer, as a library.
//!
//! | module | content |
//! |---|---|
//! | [`options`] | the options |
//! | [`listen`] | behind ports of this machine, without any privilege: [`Listen`](listen::Listen) |
//! | `network` | on a network, behind a TAP: `Network` (Linux) |
//! | [`link`](mod@link), `tap` | the links: a cable between two stacks of one thread, a TAP |
//! | [`faults`] | a bad link, for tests |
//! | [`stop`] | how to end a running server |
//! | [`say`] | messages on stderr |

mod background;
#[cfg(target_os = "linux")]
mod capture;
mod embedded;
pub mod faults;
mod forward;
mod image;
pub mod link;
pub mod listen;
mod made;
#[cfg(target_os = "linux")]
pub mod network;
pub mod options;
mod ports;
pub mod say;
pub mod stop;
mod store;
#[cfg(target_os = "linux")]
pub mod tap;
mod wait;

pub use embedded::{Report, ram};
pub use store::describe;
