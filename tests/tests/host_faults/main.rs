//! The host under fault: short versions of the tests in docs/RELIABILITY.md. The program `ordeal` runs the long ones.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "these are tests")]

mod crowd;
mod disk;
mod hang;
mod kill;
mod limits;
mod line;
mod links;
mod names;
mod order;
mod peer;
