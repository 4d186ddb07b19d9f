//! skiff for microcontrollers, without heap or operating system: stores on flash and in RAM, and a server over smoltcp.
//!
//! | module | what is in it |
//! |---|---|
//! | [`flash`] | a store on raw flash or an SD card that survives power cuts |
//! | [`ram`] | a store in memory |
//! | [`server`] | [`DeviceServer`](server::DeviceServer): sessions and classic data connections, polled as smoltcp is |
//! | [`memory`] | the sockets' memory, lent by the caller |
//! | [`config`] | addresses, ports, limits |
//! | `serv` | device-serv: the same server on a computer (feature `std`) |
//!
//! | feature | what it adds |
//! |---|---|
//! | none | `flash` and `ram`, the stores alone: smoltcp is not compiled |
//! | `embedded-storage` | `flash` over drivers with the traits of the crate embedded-storage |
//! | `smoltcp` | `server`, `memory` and `config`: the server, over IPv4 with a fixed address |
//! | `dhcp` | an IPv4 address by DHCP, with `smoltcp` |
//! | `ipv6` | link-local and static IPv6 addresses, with `smoltcp` |
//! | `std` (default) | `serv` and the program device-serv, with `dhcp` and `ipv6` |
//!
//! An application with its own network stack takes the stores alone, and runs a session over its own socket with
//! `skiff_proto::drive`, say:
//!
//! ```toml
//! skiff-device = { path = "skiff/device", default-features = false }
//! skiff-proto = { path = "skiff/proto", features = ["embedded-io-async"] }
//! ```
//!
//! # The server
//!
//! A firmware leaves `std` out, and names smoltcp itself, of the same version, for its driver:
//!
//! ```toml
//! skiff-device = { path = "skiff/device", default-features = false, features = ["dhcp"] }
//! skiff-proto = { path = "skiff/proto" }
//! smoltcp = { version = "0.14", default-features = false, features = ["medium-ethernet", "proto-ipv4", "socket-tcp"] }
//! ```
//!
//! Whoever has a driver of a network interface (smoltcp's [`phy::Device`](smoltcp::phy::Device), the only one of its types
//! that is seen from outside) and a clock of milliseconds writes this loop. [`Store`](skiff_proto::store::Store) is the trait
//! to implement for a medium other than RAM.
//!
//! ```
//! # #[cfg(feature = "smoltcp")] mod app {
//! use skiff_device::{config::{Config, Ipv4}, memory::{Memory, slots}, ram::{RamMemory, RamStore}, server::DeviceServer};
//! use skiff_proto::{Instant, command::command_len};
//! # fn run<D: smoltcp::phy::Device>(mut device: D, now: impl Fn() -> Instant, sleep: impl Fn(Option<core::time::Duration>)) {
//! const NAME: usize = 64;
//! // Two sessions, one classic data connection, rings of 2 KiB, 1 KiB in the spare connection.
//! let mut memory = Memory::<2, 1, { slots(2, 1) }, 2048, 1024>::new(); // or a static
//! let mut files = RamMemory::<16, NAME, 64, 256>::new();
//! let mut store = RamStore::new(&mut files, 1);
//!
//! let config = Config::new([2, 0, 0, 0, 0, 1], Ipv4::Dhcp, 50_000, [50_001]);
//! let mut server: DeviceServer<'_, _, 2, 1, NAME, { command_len(NAME) }> =
//!     DeviceServer::new(&mut memory, config, &mut device, now()).unwrap();
//! loop {
//!     let delay = server.poll(now(), &mut device, &mut store);
//!     sleep(delay); // or until the interface has something
//!     # break;
//! }
//! # }
//! # }
//! ```
#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(not(feature = "std"), forbid(unsafe_code))]
// The text above names the server whether it is there or not.
#![cfg_attr(not(feature = "smoltcp"), allow(rustdoc::broken_intra_doc_links))]

#[cfg(feature = "smoltcp")]
pub mod config;
pub mod flash;
#[cfg(feature = "smoltcp")]
pub mod memory;
pub mod ram;
#[cfg(feature = "std")]
pub mod serv;
#[cfg(feature = "smoltcp")]
pub mod server;
