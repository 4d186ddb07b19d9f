//! The host under faults: short versions of the guarantees in docs/RELIABILITY.md. The program `ordeal` runs long ones.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "these are tests")]

mod crowd;
mod disk;
mod hang;
mod kill;
mod limits;
mod links;
mod lossy;
mod names;
mod order;
mod peer;
