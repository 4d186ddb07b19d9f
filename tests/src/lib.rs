//! What the tests across skiff's crates share: the wire vectors, stores and servers to test against, a client that says
//! exactly what it is told to.

pub mod device;
pub mod disk;
pub mod firmware;
pub mod flash;
#[cfg(target_os = "linux")]
pub mod fuse;
pub mod host;
#[cfg(target_os = "linux")]
pub mod line;
pub mod memory;
pub mod namespace;
#[cfg(target_os = "linux")]
pub mod ordeal;
pub mod programs;
pub mod reluctant;
pub mod sans_io;
pub mod server_suite;
pub mod sim;
pub mod simulate;
pub mod store_suite;
pub mod vector;
pub mod wire;
