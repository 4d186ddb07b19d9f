//! device-serv beside other servers behind a TAP.

pub(crate) mod client;
mod relay;
