//! A fixed workload for counting instructions: a client and the server, each with a TCP stack, on an in-memory cable.
//! It prints `workload: N ticks`; under QEMU with `-icount` this is always the same.
//!
//! The client stores a file, reads it back, asks for its checksum, lists, and removes it, [`ROUNDS`] times.
//!
//! Then it does one thing at a time and counts only the server, with its TCP stack and its store: `server NAME: N
//! ticks` for a `ping`, for an empty `write` and `read`, and for each additional KiB of a `put` and a `get`. With the
//! feature `secure`, the connection is protected, and it also counts a `handshake`, and that of a `stranger` (a client
//! without a key), of only the session.
#![no_std]
#![no_main]

#[cfg(feature = "secure")]
mod secure;
mod ticks;

use core::cell::{Cell, RefCell};
use core::convert::Infallible;
use core::hint::black_box;
use core::net::Ipv4Addr;
use core::time::Duration;

use embedded_io::{ErrorType, Read, Write};
use skiff_device::config::{Config, Ipv4, Network};
use skiff_device::server::DeviceServer;
#[cfg(feature = "secure")]
use skiff_device::server::RECORD;
use skiff_device::stack::Stack;
use skiff_firmware::board::Board;
use skiff_firmware::files::{self, Files, NAME};
use skiff_firmware::mac::FRAME;
use skiff_firmware::{arch, log};
use skiff_proto::client::ClientEvent;
#[cfg(not(feature = "secure"))]
use skiff_proto::command::command_len;
use skiff_proto::command::{Command, Request, VERSION};
use skiff_proto::drive::{Client, DriveError};
use skiff_proto::{Instant, Name};
use smoltcp::iface::{Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};
use static_cell::{ConstStaticCell, StaticCell};
use ticks::{Timer, ticks};

const ROUNDS: u32 = 8;
const SIZE: usize = 4096;
const BUFFER: usize = 2048;
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PORT: u16 = 50_000;

skiff_device::server_memory! {
    struct Memory { sessions: 1, data: 0, name: NAME }
    struct Buffers { buffer: BUFFER, spare: BUFFER }
    type Server;
}

/// The sockets of the server and its stack.
type Sockets = [SocketStorage<'static>; Stack::SOCKETS + Buffers::SOCKETS];

static MEMORY: StaticCell<Memory<Files>> = StaticCell::new();
static BUFFERS: ConstStaticCell<Buffers> = ConstStaticCell::new(Buffers::new());
static SOCKETS: ConstStaticCell<Sockets> =
    ConstStaticCell::new([const { SocketStorage::EMPTY }; Stack::SOCKETS + Buffers::SOCKETS]);
static CLIENT_BUFFERS: ConstStaticCell<[[u8; BUFFER]; 2]> = ConstStaticCell::new([[0; BUFFER]; 2]);
static CLIENT_SLOT: ConstStaticCell<[SocketStorage<'static>; 1]> = ConstStaticCell::new([SocketStorage::EMPTY; 1]);
static CABLE: ConstStaticCell<[RefCell<Queue>; 2]> = ConstStaticCell::new([const { RefCell::new(Queue::new()) }; 2]);
/// The time in milliseconds, and the ticks used by the server.
static TIMES: ConstStaticCell<[Cell<u64>; 2]> = ConstStaticCell::new([const { Cell::new(0) }; 2]);
static CONTENT: ConstStaticCell<[u8; SIZE]> = ConstStaticCell::new([0; SIZE]);

fn main() -> ! {
    let mut watchdog = Board::take().watchdog;
    match work(&mut Timer::take()) {
        Ok(Ticks { all, server }) => {
            for (name, ticks) in server {
                tell(name, ticks);
            }
            log!("workload: ", all, " ticks");
        }
        Err(wrong) => log!("workload: ", wrong as u8 as u32, " went wrong"),
    }
    loop {
        watchdog.feed();
        arch::pause();
    }
}

/// A result that the client did not expect.
#[derive(Debug)]
enum Wrong {
    Config,
    Drive,
    Answer,
    Content,
}

impl From<DriveError<Infallible>> for Wrong {
    fn from(_: DriveError<Infallible>) -> Self {
        Self::Drive
    }
}

/// The counts.
struct Ticks {
    all: u64,
    /// The ticks of only the server, for each thing.
    server: [(&'static str, u64); 5],
}

fn tell(name: &str, ticks: u64) {
    log!("server ", name, ": ", ticks, " ticks");
}

/// Does a thing repeatedly, and returns the ticks of the server for each.
fn each(served: &Cell<u64>, mut thing: impl FnMut() -> Result<(), Wrong>) -> Result<u64, Wrong> {
    let before = served.get();
    (0..ROUNDS).try_for_each(|_| thing())?;
    thing_ends();
    Ok((served.get() - before) / u64::from(ROUNDS))
}

/// The additional ticks of a file compared with an empty one, per KiB.
fn kib(whole: u64, nothing: u64) -> u64 {
    whole.saturating_sub(nothing) * 1024 / SIZE as u64
}

fn work(timer: &mut Timer) -> Result<Ticks, Wrong> {
    let both = both()?;
    timer.start();
    #[cfg(feature = "secure")]
    let (handshake, stranger) = (secure::handshake(false)?, secure::handshake(true)?);
    #[cfg(feature = "secure")]
    secure::protect(&mut both.server)?;
    let (now, served, content) = (both.now, both.served, CONTENT.take());
    let time = || Instant::from_millis(now.get());
    let mut client: Peer<_> = Client::new(both, Duration::from_secs(60), time);
    #[cfg(feature = "secure")]
    client.session().protect(secure::client()?).map_err(|_| Wrong::Config)?;
    let hello = client.request(&Command::Hello { version: VERSION })?;
    if !matches!(hello, ClientEvent::Hello(Some(_))) {
        return Err(Wrong::Answer);
    }
    let name = Name::parse(b"measurements.csv", NAME).map_err(|_| Wrong::Answer)?;
    for round in 0..ROUNDS {
        content.iter_mut().zip(round..).for_each(|(byte, x)| *byte = x.to_le_bytes()[0]);
        put(&mut client, name, content)?;
        get(&mut client, name, content)?;
        let sum = Request::Sum { offset: 0, length: None, name };
        expect(matches!(client.request(&Command::Request(sum))?, ClientEvent::Sum { .. }))?;
        expect(matches!(client.request(&Command::Request(Request::List { dir: None }))?, ClientEvent::List { .. }))?;
        expect(matches!(client.reply()?, ClientEvent::BodyEnd(Ok(Some(_)))))?;
        expect(matches!(client.request(&Command::Request(Request::Remove { name }))?, ClientEvent::Done))?;
    }
    let all = ticks();
    thing_ends();

    // The same number of each operation, and of files the empty ones first: the difference of a whole one is the cost
    // of its bytes.
    let ping = each(served, || expect(matches!(client.request(&Command::Ping)?, ClientEvent::Done)))?;
    let write = each(served, || put(&mut client, name, &mut []))?;
    let read = each(served, || get(&mut client, name, &[]))?;
    let whole = [each(served, || put(&mut client, name, content))?, each(served, || get(&mut client, name, content))?];
    let (put, get) = (kib(whole[0], write), kib(whole[1], read));
    let server = [("ping", ping), ("write", write), ("read", read), ("put", put), ("get", get)];
    #[cfg(feature = "secure")]
    for (name, ticks) in [("handshake", handshake), ("stranger", stranger)] {
        tell(name, ticks);
    }
    Ok(Ticks { all, server })
}

/// Functions that do nothing, each with distinct code: they mark in the instruction trace where the server works and
/// where each thing ends.
macro_rules! marks {
    ($($name:ident $code:literal)*) => {
        $(
            // SAFETY: nothing else has these names.
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $name() {
                _ = black_box($code);
            }
        )*
    };
}
marks! { server_begins 1 server_ends 2 thing_ends 3 }

/// A server and a client's TCP stack, on a cable.
#[inline(never)]
fn both() -> Result<&'static mut Both, Wrong> {
    static BOTH: StaticCell<Both> = StaticCell::new();
    let [there, back] = CABLE.take();
    let mut server_end = End { incoming: there, outgoing: back };
    let network = Network::new([2, 0, 0, 0, 0, 2], Ipv4::Static { address: SERVER, prefix: 24, gateway: None });
    let mut server_stack =
        Stack::new(&network, &mut server_end, SocketSet::new(&mut SOCKETS.take()[..]), Instant::ZERO)
            .map_err(|_| Wrong::Config)?;
    let memory = MEMORY.init_with(Memory::new).lend(BUFFERS.take());
    let server =
        DeviceServer::new(&Config::new(PORT, &[]), memory, &mut server_stack.sockets).map_err(|_| Wrong::Config)?;
    let mut client_end = End { incoming: back, outgoing: there };
    let stack = ClientStack::new(&mut client_end);
    let store = files::mount(1);
    let [now, served] = TIMES.take();
    Ok(BOTH.init(Both { server_stack, server, store, server_end, stack, client_end, now, served }))
}

#[cfg(not(feature = "secure"))]
type Peer<C> = Client<&'static mut Both, C, { command_len(NAME) }>;
/// Its reply buffer is large enough for the hello of a server with a secret.
#[cfg(feature = "secure")]
type Peer<C> = Client<&'static mut Both, C, 400, skiff_proto::secure::Noise, RECORD>;

/// Stores a file.
fn put<C: FnMut() -> Instant>(client: &mut Peer<C>, name: Name<'_>, content: &mut [u8]) -> Result<(), Wrong> {
    client.send(&Command::Request(Request::Write { offset: 0, size: content.len() as u64, mtime: None, name }))?;
    if !content.is_empty() {
        client.write(content)?;
    }
    expect(matches!(client.finish()?, ClientEvent::Stored { .. }))
}

/// Reads it back and compares.
fn get<C: FnMut() -> Instant>(client: &mut Peer<C>, name: Name<'_>, content: &[u8]) -> Result<(), Wrong> {
    let read = Request::Read { offset: 0, length: None, name };
    expect(matches!(client.request(&Command::Request(read))?, ClientEvent::Read { .. }))?;
    let (mut piece, mut at) = ([0; 512], 0);
    loop {
        let n = client.read(&mut piece)?;
        if n == 0 {
            break;
        }
        if content.get(at..at + n) != Some(&piece[..n]) {
            return Err(Wrong::Content);
        }
        at += n;
    }
    expect(at == content.len() && matches!(client.reply()?, ClientEvent::BodyEnd(Ok(Some(_)))))
}

fn expect(right: bool) -> Result<(), Wrong> {
    if right { Ok(()) } else { Err(Wrong::Answer) }
}

/// The server and the client's TCP stack, as the client's stream: waiting polls both.
struct Both {
    server_stack: Stack<'static>,
    server: Server<'static, Files>,
    store: &'static mut Files,
    server_end: End,
    stack: ClientStack,
    client_end: End,
    /// The time advances by a millisecond each time both have been polled.
    now: &'static Cell<u64>,
    /// Ticks used by the server.
    served: &'static Cell<u64>,
}

impl Both {
    fn poll(&mut self) {
        self.now.set(self.now.get() + 1);
        let now = self.now.get();
        self.stack.poll(now, &mut self.client_end);
        server_begins();
        let before = ticks();
        _ = self.server_stack.poll(Instant::from_millis(now), &mut self.server_end, &mut self.server, self.store);
        let after = ticks();
        server_ends();
        self.served.set(self.served.get() + (after - before));
    }
}

impl ErrorType for Both {
    type Error = Infallible;
}

impl Read for Both {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        loop {
            match self.stack.socket().recv_slice(buffer) {
                Ok(0) if self.stack.socket().is_active() => self.poll(),
                Ok(n) => return Ok(n),
                Err(_) => return Ok(0),
            }
        }
    }
}

impl Write for Both {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        loop {
            match self.stack.socket().send_slice(bytes) {
                Ok(n @ 1..) => return Ok(n),
                // Not connected yet, or the socket buffer is full.
                _ if self.stack.socket().is_active() => self.poll(),
                _ => return Ok(0),
            }
        }
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        self.poll();
        Ok(())
    }
}

/// The client's TCP stack.
struct ClientStack {
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
}

impl ClientStack {
    fn new(end: &mut End) -> Self {
        let setup = smoltcp::iface::Config::new(HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 0, 1])));
        let mut interface = Interface::new(setup, end, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| _ = addresses.push(IpCidr::new(CLIENT.into(), 24)));
        let [rx, tx] = CLIENT_BUFFERS.take();
        let mut sockets = SocketSet::new(&mut CLIENT_SLOT.take()[..]);
        let mut socket = Socket::new(SocketBuffer::new(&mut rx[..]), SocketBuffer::new(&mut tx[..]));
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        // It can't fail: the socket is new.
        _ = socket.connect(interface.context(), (SERVER, PORT), 49_152);
        let socket = sockets.add(socket);
        Self { interface, sockets, socket }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    fn poll(&mut self, millis: u64, end: &mut End) {
        let now = smoltcp::time::Instant::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
        self.interface.poll(now, end, &mut self.sockets);
    }
}

/// Frames in flight in one direction: as many as fit in a window, plus one.
struct Queue {
    frames: [([u8; FRAME], usize); 3],
    first: usize,
    count: usize,
}

impl Queue {
    const fn new() -> Self {
        Self { frames: [([0; FRAME], 0); 3], first: 0, count: 0 }
    }
}

/// One end of the cable.
struct End {
    incoming: &'static RefCell<Queue>,
    outgoing: &'static RefCell<Queue>,
}

impl Device for End {
    type RxToken<'a> = Frame<'a>;
    type TxToken<'a> = Frame<'a>;

    fn receive(&mut self, now: smoltcp::time::Instant) -> Option<(Frame<'_>, Frame<'_>)> {
        let incoming = self.incoming;
        if incoming.borrow().count == 0 {
            return None;
        }
        self.transmit(now).map(|room| (Frame(incoming), room))
    }

    fn transmit(&mut self, _now: smoltcp::time::Instant) -> Option<Frame<'_>> {
        let queue = self.outgoing.borrow();
        (queue.count < queue.frames.len()).then_some(Frame(self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }
}

/// A received frame, or room for one.
struct Frame<'a>(&'a RefCell<Queue>);

impl RxToken for Frame<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let mut queue = self.0.borrow_mut();
        let queue = &mut *queue;
        let (bytes, len) = &queue.frames[queue.first];
        let result = f(&bytes[..*len]);
        queue.first = (queue.first + 1) % queue.frames.len();
        queue.count -= 1;
        result
    }
}

impl TxToken for Frame<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut queue = self.0.borrow_mut();
        let queue = &mut *queue;
        let place = (queue.first + queue.count) % queue.frames.len();
        queue.count += 1;
        queue.frames[place].1 = len;
        f(&mut queue.frames[place].0[..len])
    }
}

skiff_firmware::entry!(main);
