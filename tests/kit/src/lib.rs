//! What skiff's tests share that needs no server, no process and no network, so that these tests build quickly.
//!
//! | module | what it holds |
//! |---|---|
//! | [`vector`] | the wire vectors of docs/vectors, and how they are played |
//! | [`memory`] | a store in memory that fails on demand |
//! | [`reluctant`] | a store that often answers "not yet" |
//! | [`tunnel`] | the client's end of a protected connection, for tests that were written for plain ones |
//! | [`sans_io`] | a server without I/O over that store |
//! | [`mod@store_suite`] | the storage suite, which runs over every backend |
//! | [`flash`] | flash chips and cards that lose power |
//!
//! Each module imports only those above it, except for the helpers of [`sans_io`] that make messages.

pub mod flash;
pub mod memory;
pub mod reluctant;
pub mod sans_io;
pub mod store_suite;
pub mod tunnel;
pub mod vector;
