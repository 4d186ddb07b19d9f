//! What the tests across skiff's crates share: the wire vectors, a store in memory, a server without I/O.

pub mod memory;
pub mod sans_io;
pub mod store_suite;
pub mod vector;
