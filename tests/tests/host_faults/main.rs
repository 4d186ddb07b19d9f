//! The host under fault: short versions of what docs/RELIABILITY.md promises. The long ones are the program `ordeal`.

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
