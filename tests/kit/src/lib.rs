//! The shared parts of skiff's tests that need no server, process or network, so that these tests build quickly.
//!
//! | module | content |
//! |---|---|
//! | [`vector`] | the wire vectors of docs/vectors, and code that plays them |
//! | [`memory`] | a store in memory that fails on demand |
//! | [`reluctant`] | a store that often answers "not yet" |
//! | [`tunnel`] | a client's end of a sealed connection, for plain conversations |
//! | [`sans_io`] | a server without I/O over that store |
//! | [`mod@store_suite`] | the storage suite, which runs over every backend |
//! | [`flash`] | flash chips and cards that lose power |
//!
//! Each module imports only those above it, except helpers of [`sans_io`] that compose messages.

pub mod flash;
pub mod memory;
pub mod reluctant;
pub mod sans_io;
pub mod store_suite;
pub mod tunnel;
pub mod vector;
