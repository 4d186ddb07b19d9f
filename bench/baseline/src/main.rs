//! What the benchmark compares device-serv with: smoltcp as its own examples use it, with `TunTapInterface` for frames and
//! `phy_wait` for sleeping.
//!
//!     skiff-bench-baseline TAP ADDRESS/BITS GATEWAY BUFFER
//!
//! serves three ports of RFC 862 to 864 on a TAP, one connection at a time each, with socket buffers of BUFFER bytes:
//!
//! | port | what it does |
//! |---|---|
//! | 7 | sends back what comes |
//! | 9 | throws away what comes |
//! | 19 | sends without end: whatever the buffer holds, so that no time goes into filling it |

use std::os::fd::AsRawFd as _;
use std::process::ExitCode;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Medium, TunTapInterface, wait as phy_wait};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

const ECHO: u16 = 7;
const DISCARD: u16 = 9;
const CHARGEN: u16 = 19;

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
        sockets.add(Socket::new(rx, tx))
    };
    let (echo, discard, chargen) = (socket(), socket(), socket());
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

        let socket = listening(&mut sockets, chargen, CHARGEN)?;
        while socket.can_send() {
            socket.send(|room| (room.len(), ()))?;
        }
        if socket.may_send() && !socket.may_recv() {
            // There is always more to send: it ends when the peer has had enough.
            socket.abort();
        }

        match interface.poll_at(now, &sockets) {
            Some(at) if now < at => phy_wait(fd, Some(at - now))?,
            Some(_) => {}
            None => phy_wait(fd, Some(Duration::from_secs(3600)))?,
        }
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
