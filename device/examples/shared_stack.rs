//! skiff inside an application that already has a smoltcp stack: an interface, a socket set, and its own service, here
//! an echo server. `cargo run -p skiff-device --example shared_stack`
//!
//! The interface is smoltcp's loopback device, so the two clients are sockets of the same set. On a board they are
//! other machines, and the device is a driver.

use core::time::Duration;

use skiff_device::config::Config;
use skiff_device::ram::{RamMemory, RamStore};
use skiff_device::server::{Counts, DeviceServer};
use skiff_proto::Instant;
use smoltcp::iface::{Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{Loopback, Medium};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

const ADDRESS: IpAddress = IpAddress::v4(127, 0, 0, 1);
const SKIFF: u16 = 50_000;
const ECHO: u16 = 7;

skiff_device::server_memory! {
    // Two sessions and one classic data connection, names of up to 64 bytes.
    struct Memory { sessions: 2, data: 1, name: 64 }
    // Socket buffers of 2 KiB, of 1 KiB for the spare listener.
    struct Buffers { buffer: 2048, spare: 1024 }
    type Server;
}

/// The bytes that the clients received, and the server's counters.
pub(crate) struct Outcome {
    pub(crate) echo: Vec<u8>,
    pub(crate) skiff: Vec<u8>,
    pub(crate) counts: Counts,
}

fn main() {
    let Outcome { echo, skiff, counts } = run();
    println!("echo:  {}", echo.escape_ascii());
    println!("skiff: {}", skiff.escape_ascii());
    println!("{counts:?}");
}

/// Runs both services until both clients have their answers.
///
/// # Panics
/// If they get no answers.
#[must_use]
pub(crate) fn run() -> Outcome {
    // What the application has anyway.
    let mut device = Loopback::new(Medium::Ethernet);
    let setup = smoltcp::iface::Config::new(EthernetAddress([2, 0, 0, 0, 0, 1]).into());
    let mut interface = Interface::new(setup, &mut device, smoltcp::time::Instant::ZERO);
    interface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(ADDRESS, 8)).expect("room for an address"));
    let mut storage = [const { SocketStorage::EMPTY }; 3 + Buffers::SOCKETS];
    let mut sockets = SocketSet::new(&mut storage[..]);
    let echo = sockets.add(socket());

    // skiff: a store, memory, and the server, which adds its sockets to the set.
    let mut files = RamMemory::<16, 64, 64, 256>::new();
    let mut store = RamStore::new(&mut files, 1);
    let (mut memory, mut buffers) = (Memory::new(), Buffers::new());
    let config = Config::new(SKIFF, &[SKIFF + 1]);
    let mut server =
        DeviceServer::new(&config, memory.lend(&mut buffers), &mut sockets).expect("a valid configuration");

    let mut clients = [
        Client::connect(&mut interface, &mut sockets, ECHO, b"hello".to_vec()),
        Client::connect(&mut interface, &mut sockets, SKIFF, commands()),
    ];
    let mut now = Instant::from_millis(1);
    while !clients.iter().all(|client| client.is_done) {
        // In place of `interface.poll`.
        server.poll(now, &mut interface, &mut device, &mut sockets, &mut store);
        serve_echo(sockets.get_mut(echo));
        for client in &mut clients {
            client.step(sockets.get_mut(client.handle));
        }
        let delay = server.poll_delay(now, &mut interface, &sockets).unwrap_or(Duration::MAX);
        // A board sleeps until its interface raises an interrupt. Time is virtual here, and a frame may wait in the device.
        now = now.after(delay.min(Duration::from_millis(1)));
        assert!(now < Instant::from_millis(60_000), "no answer");
    }
    let [echo, skiff] = clients.map(|client| client.answer);
    Outcome { echo, skiff, counts: server.counts() }
}

fn socket() -> Socket<'static> {
    Socket::new(SocketBuffer::new(vec![0; 1024]), SocketBuffer::new(vec![0; 1024]))
}

/// The application's own service.
fn serve_echo(socket: &mut Socket<'_>) {
    if !socket.is_open() {
        socket.listen(ECHO).expect("a port");
    }
    if socket.can_recv() && socket.can_send() {
        let input = socket.recv(|input| (input.len(), input.to_vec())).expect("input");
        socket.send_slice(&input).expect("room");
    }
    if socket.state() == State::CloseWait && !socket.can_recv() {
        socket.close();
    }
}

/// A client of one of the services: sends its bytes and its FIN, and reads to the end.
struct Client {
    handle: SocketHandle,
    request: Vec<u8>,
    answer: Vec<u8>,
    is_done: bool,
}

impl Client {
    fn connect(interface: &mut Interface, sockets: &mut SocketSet<'_>, port: u16, request: Vec<u8>) -> Self {
        let mut socket = socket();
        socket.connect(interface.context(), (ADDRESS, port), 49_152 + port % 1000).expect("two ports");
        Self { handle: sockets.add(socket), request, answer: Vec::new(), is_done: false }
    }

    fn step(&mut self, socket: &mut Socket<'_>) {
        if socket.can_send() && !self.request.is_empty() {
            let sent = socket.send_slice(&self.request).expect("room");
            self.request.drain(..sent);
            if self.request.is_empty() {
                socket.close();
            }
        }
        while socket.can_recv() {
            socket.recv(|bytes| (bytes.len(), self.answer.extend_from_slice(bytes))).expect("input");
        }
        self.is_done = self.request.is_empty() && !socket.may_recv();
    }
}

/// Commands of the protocol: store a file, read it back (docs/PROTOCOL.md).
fn commands() -> Vec<u8> {
    let content = b"12.7 C at noon\n";
    let crc = format!("crc32c {:08x}", skiff_proto::crc::crc32c(content));
    let messages: [&[u8]; 5] = [b"write 0 15 - log.txt", content, b"", crc.as_bytes(), b"read 0 * log.txt"];
    messages.iter().flat_map(|message| [format!("{:010}", message.len()).as_bytes(), message].concat()).collect()
}
