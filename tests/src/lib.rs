//! The shared parts of the tests across the crates: servers and programs to test against, a client that sends exactly
//! what a test specifies, the simulation, and the firmware runner.
//!
//! | module | content |
//! |---|---|
//! | [`skiff_kit`] | the parts that need no server: stores in memory and on simulated media, vectors, the storage suite |
//! | [`wire`], [`sealed`], [`relay`], [`programs`], [`namespace`], [`disk`], [`fuse`], [`lossy`] | peers, processes, disks, networks and links |
//! | [`device`], [`host`], [`mod@serial`], [`mod@server_suite`] | servers in this process, and the suite that runs against each of them |
//! | [`sim`], [`simulate`] | virtual time, and the simulation that uses it |
//! | [`ordeal`] | host-serv under faults |
//! | [`firmware`] | the firmware runner |
//!
//! Each module imports only those above it.

pub use skiff_kit::{flash, memory, reluctant, sans_io, store_suite, tunnel, vector};

pub mod device;
pub mod disk;
pub mod firmware;
#[cfg(target_os = "linux")]
pub mod fuse;
pub mod host;
#[cfg(target_os = "linux")]
pub mod lossy;
pub mod namespace;
#[cfg(target_os = "linux")]
pub mod ordeal;
pub mod programs;
pub mod relay;
pub mod sealed;
#[cfg(unix)]
pub mod serial;
pub mod server_suite;
pub mod sim;
pub mod simulate;
pub mod wire;
