//! What the benchmark compares device-serv with: smoltcp as its own examples use it, with `TunTapInterface` for frames and
//! `phy_wait` for sleeping.
//!
//!     skiff-bench-baseline TAP ADDRESS/BITS GATEWAY BUFFER
//!
//! serves these ports on a TAP, one connection at a time each, with socket buffers of BUFFER bytes. 7, 9 and 19 are those of
//! RFC 862 to 864:
//!
//! | port | what it does |
//! |---|---|
//! | 7 | sends back what comes |
//! | 9 | throws away what comes |
//! | 10 | stores what comes in memory, and computes its CRC-32C |
//! | 19 | sends without end: whatever the buffer holds, so that no time goes into filling it |
//! | 20 | sends from memory without end, and computes its CRC-32C |

use std::os::fd::AsRawFd as _;
use std::process::ExitCode;

use skiff_proto::crc::Crc32c;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Medium, TunTapInterface, wait as phy_wait};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

const ECHO: u16 = 7;
const DISCARD: u16 = 9;
const STORE: u16 = 10;
const CHARGEN: u16 = 19;
const FETCH: u16 = 20;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("skiff-bench-baseline: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn core::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [tap, cidr, gateway, buffer] = &words[..] else {
        return Err("usage: TAP ADDRESS/BITS GATEWAY BUFFER".into());
    };
    let (address, bits) = cidr.split_once('/').ok_or("ADDRESS/BITS")?;
    let cidr = IpCidr::new(IpAddress::Ipv4(address.parse()?), bits.parse()?);
    let buffer: usize = buffer.parse()?;

    let mut device = TunTapInterface::new(tap, Medium::Ethernet)?;
    let fd = device.as_raw_fd();
    let mut config = Config::new(EthernetAddress([2, 0, 0, 0, 0, 1]).into());
    config.random_seed = std::process::id().into();
    let mut interface = Interface::new(config, &mut device, Instant::now());
    interface.update_ip_addrs(|addresses| _ = addresses.push(cidr));
    interface.routes_mut().add_default_ipv4_route(gateway.parse()?)?;

    let mut sockets = SocketSet::new(Vec::new());
    let mut socket = || -> SocketHandle {
        let [rx, tx] = [(); 2].map(|()| SocketBuffer::new(vec![0; buffer]));
        let mut socket = Socket::new(rx, tx);
        // With a buffer of one or two segments it waits for acknowledgements that the other end holds back: 50 KB/s.
        socket.set_nagle_enabled(false);
        sockets.add(socket)
    };
    let (echo, discard, chargen) = (socket(), socket(), socket());
    let (store, fetch) = (socket(), socket());
    let (mut stored, mut fetched) = (File::new(), File::new());
    // For whoever waits until it can be spoken to.
    println!("ready");

    loop {
        let now = Instant::now();
        interface.poll(now, &mut device, &mut sockets);

        let socket = listening(&mut sockets, echo, ECHO)?;
        while socket.can_recv() && socket.can_send() {
            let mut rest = 0;
            let mut bytes = [0; 2048];
            let len = bytes.len().min(socket.send_capacity() - socket.send_queue());
            if let Ok(n) = socket.recv_slice(&mut bytes[..len]) {
                rest = n - socket.send_slice(&bytes[..n])?;
            }
            debug_assert_eq!(rest, 0, "there was room");
        }
        end(socket);

        let socket = listening(&mut sockets, discard, DISCARD)?;
        while socket.can_recv() {
            socket.recv(|bytes| (bytes.len(), ()))?;
        }
        end(socket);

        let socket = listening(&mut sockets, store, STORE)?;
        while socket.can_recv() {
            socket.recv(|bytes| (stored.write(bytes), ()))?;
        }
        end(socket);

        let socket = listening(&mut sockets, chargen, CHARGEN)?;
        while socket.can_send() {
            socket.send(|room| (room.len(), ()))?;
        }
        enough(socket);

        let socket = listening(&mut sockets, fetch, FETCH)?;
        while socket.can_send() {
            socket.send(|room| (fetched.read(room), ()))?;
        }
        enough(socket);

        match interface.poll_at(now, &sockets) {
            Some(at) if now < at => phy_wait(fd, Some(at - now))?,
            Some(_) => {}
            None => phy_wait(fd, Some(Duration::from_secs(3600)))?,
        }
    }
}

/// A file in memory that is written or read again and again, and the checksum of all that was.
struct File {
    bytes: Vec<u8>,
    at: usize,
    crc: Crc32c,
}

impl File {
    /// As much memory as device-serv uses in the benchmark for a file of 16 MiB and its next version.
    const SIZE: usize = 32 << 20;

    fn new() -> Self {
        // Not zeros: those would be one page until they are written.
        Self { bytes: vec![1; Self::SIZE], at: 0, crc: Crc32c::new() }
    }

    /// The next piece, of at most `most` bytes.
    fn next(&mut self, most: usize) -> &mut [u8] {
        let begin = self.at % Self::SIZE;
        let end = Self::SIZE.min(begin + most);
        self.at = end;
        &mut self.bytes[begin..end]
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        let piece = self.next(bytes.len());
        let bytes = &bytes[..piece.len()];
        piece.copy_from_slice(bytes);
        self.crc.update(bytes);
        bytes.len()
    }

    fn read(&mut self, room: &mut [u8]) -> usize {
        let piece = self.next(room.len());
        let room = &mut room[..piece.len()];
        room.copy_from_slice(piece);
        self.crc.update(room);
        room.len()
    }
}

impl Drop for File {
    /// Nobody else asks for the checksum; without this, it need not be computed.
    fn drop(&mut self) {
        std::hint::black_box(self.crc.value());
    }
}

/// A socket, which listens again if its connection is over.
fn listening<'a>(
    sockets: &'a mut SocketSet<'static>,
    handle: SocketHandle,
    port: u16,
) -> Result<&'a mut Socket<'static>, Box<dyn core::error::Error>> {
    let socket = sockets.get_mut::<Socket<'_>>(handle);
    if !socket.is_open() {
        socket.listen(port)?;
    }
    Ok(socket)
}

/// Closes the connection behind a peer that has closed its side and has been served.
fn end(socket: &mut Socket<'_>) {
    if socket.may_send() && !socket.may_recv() && !socket.can_recv() && socket.is_active() {
        socket.close();
    }
}

/// Ends the connection of a peer that has had enough: there is always more to send.
fn enough(socket: &mut Socket<'_>) {
    if socket.may_send() && !socket.may_recv() {
        socket.abort();
    }
}
