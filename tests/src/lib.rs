//! What the tests across skiff's crates share: servers and programs to test against, a client that says exactly what it is
//! told to, the simulation, the runner of the firmware.
//!
//! | place | what it holds |
//! |---|---|
//! | [`skiff_kit`] | what takes no server: stores in memory and on simulated media, vectors, the storage suite |
//! | [`wire`], [`sealed`], [`programs`], [`namespace`], [`disk`], [`fuse`], [`mod@line`] | peers, processes, disks, networks and links |
//! | [`device`], [`host`], [`mod@server_suite`] | servers in this process, and the suite over every one of them |
//! | [`sim`], [`simulate`] | virtual time, and the simulation in it |
//! | [`ordeal`] | the host under fault |
//! | [`firmware`] | the runner of the images |
//!
//! Each place imports those above it only.

pub use skiff_kit::{flash, memory, reluctant, sans_io, store_suite, vector};

pub mod device;
pub mod disk;
pub mod firmware;
#[cfg(target_os = "linux")]
pub mod fuse;
pub mod host;
#[cfg(target_os = "linux")]
pub mod line;
pub mod namespace;
#[cfg(target_os = "linux")]
pub mod ordeal;
pub mod programs;
pub mod sealed;
pub mod server_suite;
pub mod sim;
pub mod simulate;
pub mod wire;
