//! The embedded server and device-serv.

mod flash;
mod link;
mod network;
mod poll;
mod python;
mod secure;
mod serv;
mod sizes;
mod wire;
