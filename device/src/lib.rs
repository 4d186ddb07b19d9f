//! skiff file transfer for microcontrollers, without heap or operating system.
//!
//! - **A store on flash that survives power cuts** ([`flash`]): on raw NOR flash or an SD card, over any driver. A file is
//!   the old version or the new one, never a mixture; an interrupted upload resumes after a restart; wear is spread over
//!   all blocks. The format is documented in `docs/FLASH.md`.
//! - **A store in memory** ([`ram`]).
//! - **A server over smoltcp** (`server`, feature `smoltcp`), polled, over the application's stack and in its memory.
//! - **device-serv**, the same server on a computer (features `std` and `cli`).
//!
//! | module | contents | feature |
//! |---|---|---|
//! | [`flash`] | the store on flash or an SD card | none; `embedded-storage` for its drivers |
//! | [`ram`] | the store in memory | none |
//! | [`overlay`] | files made by code over a store: a status page, a log, settings | none |
//! | [`server`] | [`DeviceServer`](server::DeviceServer): sessions and classic transfers over an application's stack | `smoltcp` |
//! | [`stack`] | [`Stack`](stack::Stack): that stack, for a device that has none yet | `smoltcp` |
//! | [`memory`] | types for the memory that the server borrows: [`server_memory!`] | `smoltcp` |
//! | [`config`] | addresses, ports, limits | `smoltcp` |
//! | `mdns` | being found by name | `mdns` |
//! | `serv` | the server on a computer, with a TAP or loopback ports | `std` |
//!
//! | feature | what it adds |
//! |---|---|
//! | none | the stores alone: smoltcp is not compiled |
//! | `embedded-storage` | [`flash`] over drivers with the traits of the crate embedded-storage |
//! | `smoltcp` | the server, over IPv4 with a fixed address |
//! | `classic` | `get` and `put` of the original programs over data connections; implies `smoltcp` |
//! | `dhcp` | an IPv4 address by DHCP; implies `smoltcp` |
//! | `ipv6` | link-local and static IPv6 addresses; implies `smoltcp` |
//! | `mdns` | mDNS: clients find the server by name; implies `smoltcp` |
//! | `secure` | only clients with a key, and encryption ([`DeviceServer::protect`](server::DeviceServer::protect)); implies `smoltcp` |
//! | `std` (default) | `serv`; implies `classic`, `dhcp`, `ipv6`, `mdns` and `secure` |
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
//! skiff-device = { path = "skiff/device", default-features = false, features = ["classic", "dhcp"] }
//! skiff-proto = { path = "skiff/proto" }
//! smoltcp = { version = "0.14", default-features = false, features = ["medium-ethernet", "proto-ipv4", "socket-tcp"] }
//! ```
//!
//! With a driver (smoltcp's [`phy::Device`](smoltcp::phy::Device)) and a clock, this is the whole server. Its
//! [`Stack`](stack::Stack) also does DHCP and keeps floods out of the neighbor cache:
//!
//! ```
//! # #[cfg(all(feature = "classic", feature = "dhcp"))] mod app {
//! use core::time::Duration;
//! use skiff_device::config::{Config, Ipv4, Network};
//! use skiff_device::ram::{RamMemory, RamStore};
//! use skiff_device::{server::DeviceServer, server_memory, stack::Stack};
//! use skiff_proto::Instant;
//! use smoltcp::iface::{SocketSet, SocketStorage};
//! use smoltcp::phy::Device;
//!
//! server_memory! {
//!     // Two sessions and one classic transfer, names of up to 64 bytes.
//!     struct Memory { sessions: 2, data: 1, name: 64 }
//!     // Socket buffers of 2 KiB; 1 KiB to refuse further clients.
//!     struct Buffers { buffer: 2048, spare: 1024 }
//!     type Server;
//! }
//!
//! fn serve<D: Device>(mut device: D, now: impl Fn() -> Instant, sleep: impl Fn(Option<Duration>)) {
//!     let mut files = RamMemory::<16, 64, 64, 256>::new(); // 16 files, 64 blocks of 256 bytes
//!     let mut store = RamStore::new(&mut files, 1);
//!     let (mut memory, mut buffers) = (Memory::new(), Buffers::new()); // or statics
//!     let mut sockets = [const { SocketStorage::EMPTY }; Stack::SOCKETS + Buffers::SOCKETS];
//!
//!     let network = Network::new([2, 0, 0, 0, 0, 1], Ipv4::Dhcp);
//!     let sockets = SocketSet::new(&mut sockets[..]);
//!     let mut stack = Stack::new(&network, &mut device, sockets, now()).unwrap();
//!     let config = Config::new(50_000, &[50_001]);
//!     let mut server = DeviceServer::new(&config, memory.lend(&mut buffers), &mut stack.sockets).unwrap();
//!     loop {
//!         sleep(stack.poll(now(), &mut device, &mut server, &mut store)); // or until the next frame
//!     }
//! }
//! # }
//! ```
//!
//! # Authentication and encryption
//!
//! With the feature `secure` and a device secret, a server talks only to clients that have a key, and encrypts (section 8 of
//! `docs/PROTOCOL.md`). It needs a number that no other start of the device had, and 32 unpredictable bytes for each
//! connection:
//!
//! ```
//! # #[cfg(feature = "secure")] mod app {
//! # use skiff_device::flash::{Flash, FlashStore};
//! use skiff_device::server::{DeviceServer, Entropy, Nonces, Protection};
//! use skiff_proto::secure::Secret;
//!
//! # fn protect<'m, F: Flash, const NAME: usize, const BUF: usize, const PAGE: usize>(
//! #     server: &mut DeviceServer<'m, FlashStore<'m, F, NAME, PAGE>, NAME, BUF>,
//! #     store: &mut FlashStore<'m, F, NAME, PAGE>, secret: Secret, generator: &'m mut dyn Entropy,
//! # ) {
//! // Before the first poll. A store in RAM has no such number: without a generator that is fit for keys, don't serve.
//! let nonces = Nonces::Counted { start: store.count_start().unwrap() };
//! server.protect(Protection { secret, min_generation: 1, nonces, entropy: generator }).unwrap();
//! # }
//! # }
//! ```
//!
//! A session then takes 144 bytes more, the server 1 KiB, most of it for a record. Protected clients are served first. A client
//! that has not shown a key after 10 s, or when its place is needed, has to go. After eight failed handshakes in a second
//! others wait.
//!
//! **An application that has a smoltcp stack** calls [`DeviceServer::poll`](server::DeviceServer::poll) in place of
//! `Interface::poll`. The server adds its TCP sockets to the application's set and leaves all others alone
//! (`examples/shared_stack.rs` is a whole program):
//!
//! ```
//! # #[cfg(feature = "smoltcp")] mod app {
//! # skiff_device::server_memory! {
//! #     struct Memory { sessions: 2, data: 1, name: 64 }
//! #     struct Buffers { buffer: 2048, spare: 1024 }
//! #     type Server;
//! # }
//! # use skiff_device::{config::Config, server::DeviceServer};
//! # use smoltcp::{iface::{Interface, SocketSet}, phy::Device};
//! # fn run<'a, D: Device, S: skiff_proto::store::Store>(
//! #     mut device: D, mut interface: Interface, mut sockets: SocketSet<'a>, mut store: S,
//! #     memory: &'a mut Memory<S>, buffers: &'a mut Buffers,
//! #     now: impl Fn() -> skiff_proto::Instant, sleep: impl Fn(Option<core::time::Duration>),
//! #     use_own: impl Fn(&mut SocketSet<'a>),
//! # ) {
//! let config = Config::new(50_000, &[50_001]);
//! let mut server = DeviceServer::new(&config, memory.lend(buffers), &mut sockets).unwrap();
//! loop {
//!     server.poll(now(), &mut interface, &mut device, &mut sockets, &mut store);
//!     use_own(&mut sockets); // the application's own sockets
//!     sleep(server.poll_delay(now(), &mut interface, &sockets)); // or until the interface has something
//!     # break;
//! }
//! # }
//! # }
//! ```
#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(not(feature = "std"), forbid(unsafe_code))]
// The text above mentions the server with and without the feature.
#![cfg_attr(not(feature = "smoltcp"), allow(rustdoc::broken_intra_doc_links))]

#[cfg(feature = "smoltcp")]
pub mod config;
pub mod flash;
#[cfg(feature = "mdns")]
pub mod mdns;
#[cfg(feature = "smoltcp")]
#[macro_use]
pub mod memory;
pub mod overlay;
pub mod ram;
#[cfg(feature = "std")]
pub mod serv;
#[cfg(feature = "smoltcp")]
pub mod server;
#[cfg(feature = "smoltcp")]
pub mod stack;
#[cfg(feature = "smoltcp")]
mod time;

/// For [`server_memory!`].
#[doc(hidden)]
pub use skiff_proto as proto;
