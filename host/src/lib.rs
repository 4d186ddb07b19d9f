//! skiff for computers: a client, a server for a directory, and the programs `host-cli` and `host-serv`.
//!
//! | module | feature | content |
//! |---|---|---|
//! | [`client`] | `client` | one connection to a server, transfers with resume |
//! | [`server`] | `server` | the server of `host-serv`: connections, data connections, limits |
//! | [`store`] | `server` | a directory as a [`skiff_proto::store::Store`] |
//! | `objects` | `objects` | object storage as the store of the server |
//! | [`cli`] | `cli` | the commands of `host-cli` |
//! | [`arguments`] | `cli` | numbers on the command lines of both programs |
//! | [`diagnostics`] | `cli` | output of both programs to standard error |
//! | [`manual`] | `cli` | the manual pages of both programs |
//! | [`keys`] | `secure` | files with secrets and keys |
//! | [`discovery`] | `mdns` | servers of this network: found by name, announced |
//! | [`address`] | - | hosts as users write them |
//!
//! # Features
//!
//! All are on by default, so that `cargo install` installs the programs. To use the library, select the ones that you
//! need:
//!
//! ```toml
//! skiff-host = { version = "0.1", default-features = false, features = ["client"] }
//! ```
//!
//! | feature | adds | needs |
//! |---|---|---|
//! | `client` | the async client | tokio, rustix, socket2, tempfile, thiserror |
//! | `server` | the server and its store | tokio, rustix, socket2, sha2, thiserror, tracing |
//! | `objects` | object storage for the server, not on by default | object_store with its HTTP client, serde |
//! | `cli` | `host-cli`; with `server`, `host-serv` | `client`, and the crates for arguments, terminal, JSON and log |
//! | `serial` | the client over serial lines | `client` |
//! | `mdns` | names that end in `.local`, for the client and for programs | mdns-sd |
//! | `secure` | files with secrets and keys, and `host-cli key` | `skiff-keys`, zeroize, the ciphers of `skiff-proto` |
//!
//! Features only add: none changes a type, a default or the wire format.
#![cfg_attr(
    feature = "client",
    doc = concat!("\n# A client\n\n```no_run\n", include_str!("../examples/client.rs"), "```\n"),
    doc = concat!("\nA file as a stream, with its checksum verified at its end:\n\n```no_run\n", include_str!("../examples/read.rs"), "```\n"),
    doc = concat!("\nAnd the other way:\n\n```no_run\n", include_str!("../examples/write.rs"), "```\n")
)]

pub mod address;
#[cfg(feature = "cli")]
pub mod arguments;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "cli")]
pub mod diagnostics;
#[cfg(feature = "mdns")]
pub mod discovery;
#[cfg(feature = "secure")]
pub use skiff_keys as keys;
#[cfg(feature = "cli")]
pub mod manual;
#[cfg(feature = "objects")]
pub mod objects;
#[cfg(any(feature = "client", feature = "server"))]
mod protection;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod store;
