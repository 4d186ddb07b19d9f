//! Interoperability tests for other implementations of the skiff protocol (docs/PROTOCOL.md).
//!
//! | module | content |
//! |---|---|
//! | [`run`] | runs the checks against a server, in order |
//! | [`checks`] | what the protocol requires of a server: one table per section |
//! | [`scene`] | the environment of a check: the server's hello, connections, names, files to remove afterwards |
//! | [`conn`] | a connection that can send arbitrary bytes, plain or sealed |
//! | [`report`] | the results as text and JSON |
//! | [`play`] | plays the server's part of the vectors, to test clients |

pub mod checks;
pub mod conn;
pub mod play;
pub mod report;
pub mod run;
pub mod scene;
