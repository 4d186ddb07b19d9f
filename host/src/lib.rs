//! skiff for computers: a server of a directory, a client, and the two programs `host-serv` and `host-cli`.
//!
//! | module | what is in it |
//! |---|---|
//! | [`store`] | a directory as a [`skiff_proto::store::Store`] |
//! | [`server`] | connections, data connections, limits: what `host-serv` runs |
//! | [`client`] | one connection to a server, transfers with resume |
//! | [`cli`] | the commands of `host-cli` |
//! | [`address`] | hosts as users write them |
//! | [`diagnostics`] | what both programs say on standard error |

pub mod address;
pub mod cli;
pub mod client;
pub mod diagnostics;
pub mod server;
pub mod store;
