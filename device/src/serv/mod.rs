//! device-serv: the embedded server on a computer, as a library.
//!
//! | module | what is in it |
//! |---|---|
//! | [`options`] | what can be chosen |
//! | [`listen`] | behind ports of this machine, without any privilege: [`Listen`](listen::Listen) |
//! | [`link`](mod@link) | the cable between the two stacks of that |
//! | [`stop`] | how a server that runs is ended |

mod embedded;
mod forward;
mod image;
pub mod link;
pub mod listen;
pub mod options;
mod ports;
pub mod stop;
mod store;

pub use embedded::{Report, ram};
pub use store::describe;
