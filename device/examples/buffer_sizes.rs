//! What socket buffers, frame buffers and `max_burst_size` a board needs for its line: transfers in virtual time, over a
//! simulated line, with the device server at one end and a client with large buffers at the other.
//!
//! ```text
//! cargo run --release -p skiff-device --example buffer_sizes
//! ```
//!
//! | what | model |
//! |---|---|
//! | line | [`RATE`], full duplex; each frame takes 24 bytes more (preamble, checksum, gap) |
//! | distance | [`DISTANCE`] each way |
//! | processor | one instruction per cycle; the instructions per KiB of `firmware/budgets.toml` |
//! | frame buffers | as many to receive as to send; a frame that finds none is lost |
//! | client | smoltcp with buffers of 256 KiB, which acknowledges every second full frame, others after 40 ms |
//!
//! The transfer is 512 KiB to or from a store in RAM, which takes no time.

use core::time::Duration;
use std::collections::VecDeque;

use skiff_device::config::{Config, Ipv4, Network};
use skiff_device::ram::{RamMemory, RamStore};
use skiff_device::server::{DeviceServer, Memory as ServerMemory, RECORD};
use skiff_device::server_memory;
use skiff_device::stack::Stack;
use skiff_proto::crc::crc32c;
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, Ipv4Address, Ipv4Cidr};

/// Bytes per microsecond: 100 Mbit/s.
const RATE: f64 = 12.5;
/// From one end of the line to the other: a round trip of 0.4 ms.
const DISTANCE: Duration = Duration::from_micros(200);
/// Instructions for each KiB on a Cortex-M3 with the feature `fast`.
const PUT: f64 = 11_391.0;
const GET: f64 = 7_550.0;
/// Instructions for a frame without payload, an acknowledgement.
const FRAME: f64 = 2_000.0;

const FILE: usize = 512 * 1024;
const SERVER: Ipv4Address = Ipv4Address::new(10, 0, 0, 1);
const CLIENT: Ipv4Address = Ipv4Address::new(10, 0, 0, 2);
const PORT: u16 = 50_000;

server_memory! {
    struct Memory { sessions: 1, data: 1, name: 64 }
    struct Unused { buffer: 0, spare: 0 }
    type Server;
}

/// A board's choice.
#[derive(Clone, Copy)]
struct Board {
    /// MHz.
    clock: f64,
    /// Bytes of a socket buffer.
    buffer: usize,
    /// Frames, in each direction.
    frames: usize,
    /// [`DeviceCapabilities::max_burst_size`].
    burst: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Put,
    Get,
}

fn main() {
    let limits = [Some(1), Some(2), Some(3), Some(4), None];
    let name = |burst: Option<usize>| burst.map_or("no limit".to_owned(), |burst| format!("burst {burst}"));
    table(200.0, "max_burst_size, with 16 frame buffers", limits.map(|burst| (name(burst), 16, burst)));
    let frames = [2, 3, 4, 6, 8];
    let name = |frames| format!("{frames} frames");
    table(100.0, "frame buffers, without max_burst_size", frames.map(|frames| (name(frames), frames, None)));
    let columns = frames.map(|frames| (name(frames), frames, Some(frames)));
    table(100.0, "frame buffers, with as many for max_burst_size", columns);
}

/// Prints a table. A column is a name, the number of frame buffers, and `max_burst_size`.
fn table(clock: f64, title: &str, columns: [(String, usize, Option<usize>); 5]) {
    println!("MB/s put, get at {clock} MHz, by socket buffer and {title} (*: frames were lost)");
    println!("        {}", columns.each_ref().map(|(name, ..)| format!("{name:>16}")).concat());
    for buffer in [2048, 3072, 4096, 6144, 8192, 16_384] {
        let cells = columns.each_ref().map(|&(_, frames, burst)| {
            let rate = |direction| run(Board { clock, buffer, frames, burst }, direction);
            format!("{:>8}{:>8}", rate(Direction::Put), rate(Direction::Get))
        });
        println!("{buffer:>8}{}", cells.concat());
    }
    println!();
}

/// One direction of the line.
struct Way {
    /// How many frames its sender and its receiver can hold.
    room: [usize; 2],
    /// When the last bits of the frames that the sender still holds are sent.
    sending: VecDeque<Duration>,
    /// Frames on the line, with the times at which they arrive.
    flying: VecDeque<(Duration, Vec<u8>)>,
    arrived: VecDeque<Vec<u8>>,
    /// How many found no room.
    lost: usize,
}

impl Way {
    const fn new(room: [usize; 2]) -> Self {
        Self { room, sending: VecDeque::new(), flying: VecDeque::new(), arrived: VecDeque::new(), lost: 0 }
    }

    /// To be called when time has passed.
    fn advance(&mut self, now: Duration) {
        while self.sending.front().is_some_and(|end| *end <= now) {
            self.sending.pop_front();
        }
        while self.flying.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, frame)) = self.flying.pop_front()
        {
            if self.arrived.len() < self.room[1] {
                self.arrived.push_back(frame);
            } else {
                self.lost += 1;
            }
        }
    }

    fn is_full(&self) -> bool {
        self.sending.len() >= self.room[0]
    }

    fn send(&mut self, now: Duration, frame: Vec<u8>) {
        let time = micros((frame.len().max(60) + 24) as f64 / RATE);
        let end = self.sending.back().map_or(now, |end| now.max(*end)) + time;
        self.sending.push_back(end);
        self.flying.push_back((end + DISTANCE, frame));
    }

    /// When the next frame arrives.
    fn next(&self) -> Option<Duration> {
        self.flying.front().map(|(at, _)| *at)
    }
}

fn micros(micros: f64) -> Duration {
    Duration::from_secs_f64(micros / 1_000_000.0)
}

/// An end of the line.
struct Port<'a> {
    now: Duration,
    receive: &'a mut Way,
    send: &'a mut Way,
    burst: Option<usize>,
    /// Bytes of payload, and frames, that went either way.
    load: (usize, usize),
}

impl<'a> Port<'a> {
    const fn new(now: Duration, receive: &'a mut Way, send: &'a mut Way, burst: Option<usize>) -> Self {
        Self { now, receive, send, burst, load: (0, 0) }
    }
}

impl Device for Port<'_> {
    type RxToken<'t>
        = Frame
    where
        Self: 't;
    type TxToken<'t>
        = Sender<'t>
    where
        Self: 't;

    fn receive(&mut self, _now: Instant) -> Option<(Frame, Sender<'_>)> {
        if self.send.is_full() {
            return None;
        }
        let frame = self.receive.arrived.pop_front()?;
        count(&mut self.load, frame.len());
        Some((Frame(frame), Sender { now: self.now, way: self.send, load: &mut self.load }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sender<'_>> {
        (!self.send.is_full()).then_some(Sender { now: self.now, way: self.send, load: &mut self.load })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        (capabilities.medium, capabilities.max_transmission_unit) = (Medium::Ethernet, 1514);
        capabilities.max_burst_size = self.burst;
        capabilities
    }
}

const fn count(load: &mut (usize, usize), len: usize) {
    *load = (load.0 + len.saturating_sub(54), load.1 + 1);
}

struct Frame(Vec<u8>);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Sender<'a> {
    now: Duration,
    way: &'a mut Way,
    load: &'a mut (usize, usize),
}

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        count(self.load, len);
        self.way.send(self.now, frame);
        result
    }
}

/// The rate of a transfer.
fn run(board: Board, direction: Direction) -> String {
    let (mut up, mut down) = (Way::new([usize::MAX, board.frames]), Way::new([board.frames, usize::MAX]));
    if direction == Direction::Get {
        // The file has to be there first, whatever the buffers.
        up.room[1] = usize::MAX;
    }
    let mut now = Duration::ZERO;

    let mut files = Box::new(RamMemory::<4, 64, 1024, 1024>::new());
    let mut store = RamStore::new(&mut files, 1);
    let mut memory = Memory::new();
    let (mut buffers, mut spare, mut record) = (vec![0; 4 * board.buffer], [0; 2048], [0; RECORD]);
    let memory = ServerMemory {
        sessions: &mut memory.sessions,
        control: &mut memory.control,
        data: &mut memory.data,
        buffers: &mut buffers,
        spare: &mut spare,
        record: &mut record,
    };
    let network = Network::new([2, 0, 0, 0, 0, 1], Ipv4::Static { address: SERVER, prefix: 24, gateway: None });
    let mut port = Port::new(now, &mut up, &mut down, board.burst);
    let sockets = SocketSet::new(Vec::new());
    let mut stack =
        Stack::new(&network, &mut port, sockets, skiff_proto::Instant::ZERO).expect("a valid configuration");
    let config = Config::new(PORT, &[PORT + 1]);
    let mut server: Server<'_, _> =
        DeviceServer::new(&config, memory, &mut stack.sockets).expect("a valid configuration");
    let mut client = Client::new(&mut Port::new(now, &mut down, &mut up, None));

    // Until when the device's processor is at work, and when it wants its next turn.
    let (mut busy, mut wanted) = (now, Some(now));
    // When the part that is measured began.
    let mut began = None;
    loop {
        up.advance(now);
        down.advance(now);
        if now >= busy && (!up.arrived.is_empty() || wanted.is_some_and(|at| at <= now)) {
            let mut port = Port::new(now, &mut up, &mut down, board.burst);
            let time = skiff_proto::Instant::ZERO.after(now);
            let delay = stack.poll(time, &mut port, &mut server, &mut store);
            let (bytes, frames) = port.load;
            let each = if began.is_none() || direction == Direction::Put { PUT } else { GET };
            busy = now + micros((each * bytes as f64 / 1024.0 + FRAME * frames as f64) / board.clock);
            // Also when there is room to send again: a driver's interrupt.
            let room = if down.is_full() { down.sending.front().copied() } else { None };
            wanted = delay.map(|delay| now + delay).into_iter().chain(room).min();
        }
        let own = client.poll(&mut Port::new(now, &mut down, &mut up, None));
        if client.is_done() {
            match (direction, began) {
                (Direction::Get, None) => {
                    began = Some(now);
                    up.room[1] = board.frames;
                    client.ask(b"0000000010read 0 * f".to_vec(), FILE);
                    continue;
                }
                _ => {
                    let rate = FILE as f64 / (now - began.unwrap_or_default()).as_micros() as f64;
                    return format!("{rate:.2}{}", if up.lost > 0 { "*" } else { " " });
                }
            }
        }
        let work = (!up.arrived.is_empty()).then_some(busy);
        let next = [up.next(), down.next(), own, work, wanted.map(|at| at.max(busy))];
        let next = next.into_iter().flatten().min().expect("something to wait for");
        now = next.max(now + Duration::from_nanos(1));
        if now > Duration::from_secs(10) {
            return "0*".to_owned();
        }
    }
}

/// A client: it stores the file first.
struct Client {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    output: Vec<u8>,
    /// Bytes that are still expected.
    expected: usize,
}

impl Client {
    fn new(port: &mut Port<'_>) -> Self {
        let setup = smoltcp::iface::Config::new(EthernetAddress([2, 0, 0, 0, 0, 2]).into());
        let mut interface = Interface::new(setup, port, Instant::ZERO);
        interface.update_ip_addrs(|addresses| _ = addresses.push(Ipv4Cidr::new(CLIENT, 24).into()));
        let buffer = || SocketBuffer::new(vec![0; 256 * 1024]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_ack_delay(Some(smoltcp::time::Duration::from_millis(40)));
        socket.set_nagle_enabled(false);
        socket.connect(interface.context(), (SERVER, PORT), 49_152).expect("two ports");
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Self { interface, sockets, handle, output: put(), expected: "0000000018ok 524288 00000000".len() }
    }

    fn ask(&mut self, command: Vec<u8>, expected: usize) {
        (self.output, self.expected) = (command, expected);
    }

    const fn is_done(&self) -> bool {
        self.expected == 0
    }

    /// Its turn, which takes no time; when it wants the next one.
    fn poll(&mut self, port: &mut Port<'_>) -> Option<Duration> {
        let Self { interface, sockets, handle, output, expected } = self;
        let time = Instant::from_micros(i64::try_from(port.now.as_micros()).unwrap_or(0));
        interface.poll(time, port, sockets);
        let socket = sockets.get_mut::<Socket<'_>>(*handle);
        if socket.can_send() && !output.is_empty() {
            let sent = socket.send_slice(output).expect("an open connection");
            output.drain(..sent);
        }
        while *expected > 0 && socket.can_recv() {
            *expected -= socket.recv(|bytes| (bytes.len(), bytes.len())).expect("an open connection").min(*expected);
        }
        interface.poll(time, port, sockets);
        interface.poll_delay(time, sockets).map(|delay| port.now + Duration::from_micros(delay.total_micros()))
    }
}

/// The command that stores the file.
fn put() -> Vec<u8> {
    let content = vec![b'x'; FILE];
    let message = |payload: &[u8]| [format!("{:010}", payload.len()).as_bytes(), payload].concat();
    let mut bytes = message(format!("write 0 {FILE} - f").as_bytes());
    content.chunks(65_536).for_each(|piece| bytes.extend(message(piece)));
    bytes.extend(message(b""));
    bytes.extend(message(format!("crc32c {:08x}", crc32c(&content)).as_bytes()));
    bytes
}
