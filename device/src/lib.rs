//! skiff file transfer for microcontrollers, without heap or operating system.
//!
//! - **A store on flash that survives power cuts** ([`flash`]): on raw NOR flash or an SD card, over any driver. A file is
//!   the old version or the new one, never a mixture; an interrupted upload resumes after a restart; wear is spread over
//!   all blocks. The format is documented in `docs/FLASH.md`.
//! - **A store in memory** ([`ram`]).
//! - **A server over smoltcp** (`server`, feature `smoltcp`), polled, in memory that the caller provides.
//! - **device-serv**, the same server on a computer (features `std` and `cli`).
//!
//! | module | contents | feature |
//! |---|---|---|
//! | [`flash`] | the store on flash or an SD card | none; `embedded-storage` for its drivers |
//! | [`ram`] | the store in memory | none |
//! | [`server`] | [`DeviceServer`](server::DeviceServer): sessions and classic data connections | `smoltcp` |
//! | [`memory`] | memory for sockets | `smoltcp` |
//! | [`config`] | addresses, ports, limits | `smoltcp` |
//! | `serv` | the server on a computer, with a TAP or loopback ports | `std` |
//!
//! | feature | what it adds |
//! |---|---|
//! | none | the stores alone: smoltcp is not compiled |
//! | `embedded-storage` | [`flash`] over drivers with the traits of the crate embedded-storage |
//! | `smoltcp` | the server, over IPv4 with a fixed address |
//! | `dhcp` | an IPv4 address by DHCP; implies `smoltcp` |
//! | `ipv6` | link-local and static IPv6 addresses; implies `smoltcp` |
//! | `std` (default) | `serv`; implies `dhcp` and `ipv6` |
//! | `cli` (default) | the program device-serv |
//!
//! # The stores alone
//!
//! An application with its own network stack uses a store, and runs sessions over its own sockets with
//! `skiff_proto::drive`:
//!
//! ```toml
//! skiff-device = { path = "skiff/device", default-features = false }
//! skiff-proto = { path = "skiff/proto", features = ["embedded-io-async"] }
//! ```
//!
//! [`Store`](skiff_proto::store::Store) is the trait to implement for another medium.
//!
//! # The server
//!
//! Firmware turns default features off and depends on the same version of smoltcp for its driver:
//!
//! ```toml
//! skiff-device = { path = "skiff/device", default-features = false, features = ["dhcp"] }
//! skiff-proto = { path = "skiff/proto" }
//! smoltcp = { version = "0.14", default-features = false, features = ["medium-ethernet", "proto-ipv4", "socket-tcp"] }
//! ```
//!
//! With a driver (smoltcp's [`phy::Device`](smoltcp::phy::Device)) and a clock, this is the whole server:
//!
//! ```
//! # #[cfg(feature = "smoltcp")] mod app {
//! use core::time::Duration;
//! use skiff_device::config::{Config, Ipv4};
//! use skiff_device::memory::{Memory, slots};
//! use skiff_device::ram::{RamMemory, RamStore};
//! use skiff_device::server::DeviceServer;
//! use skiff_proto::{Instant, command::command_len};
//! use smoltcp::phy::Device;
//!
//! const NAME: usize = 64; // bytes of the longest file name
//!
//! fn serve<D: Device>(mut device: D, now: impl Fn() -> Instant, sleep: impl Fn(Option<Duration>)) {
//!     // Two sessions, one classic transfer, 2 KiB per socket buffer, 1 KiB to refuse further clients.
//!     let mut memory = Memory::<2, 1, { slots(2, 1) }, 2048, 1024>::new(); // or a static
//!     let mut files = RamMemory::<16, NAME, 64, 256>::new(); // 16 files, 64 blocks of 256 bytes
//!     let mut store = RamStore::new(&mut files, 1);
//!     let config = Config::new([2, 0, 0, 0, 0, 1], Ipv4::Dhcp, 50_000, [50_001]);
//!     let mut server: DeviceServer<'_, _, 2, 1, NAME, { command_len(NAME) }> =
//!         DeviceServer::new(&mut memory, config, &mut device, now()).expect("a valid configuration");
//!     loop {
//!         sleep(server.poll(now(), &mut device, &mut store)); // or until the next frame arrives
//!     }
//! }
//! # }
//! ```
#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(not(feature = "std"), forbid(unsafe_code))]
// The text above mentions the server with and without the feature.
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
