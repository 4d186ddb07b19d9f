//! The second stack: forwards connections from this machine's ports over the cable to the embedded stack.
//!
//! Bytes go directly from the host's socket into the socket buffer of the second stack and back, only as many as there
//! is room for, so a side that does not read stops the other. Ends of streams and resets are passed on in both
//! directions; if the embedded stack refuses a connection, the host's connection, which has already been accepted, is
//! reset.
//!
//! On the virtual cable, a connection has the same source address as on the host: a data port belongs to one client
//! (PROTOCOL §3), and the embedded server identifies clients by address. So this stack owns every address and acts as
//! their gateway.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags};
use skiff_proto::Instant;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{RecvError, Socket, SocketBuffer, State};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

use super::link::End;
use crate::time::moment;

/// Bytes of each socket buffer of this stack.
const BUFFER: usize = 65_536;
/// The two ends of the cable. Their addresses are reserved for documentation (RFC 5737, RFC 3849), so no client has
/// them. The network has four addresses with IPv4, two with IPv6.
pub(super) const SERVER: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(192, 0, 2, 2), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
pub(super) const GATEWAY: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0));
pub(super) const PREFIX: (u8, u8) = (30, 127);
/// Ports of this stack's end, used in turn.
const EPHEMERAL: core::ops::Range<u16> = 49_152..65_535;
/// How long a client may continue after the server has closed.
const AFTERMATH: Duration = Duration::from_secs(5);

pub(super) struct Forwarder {
    interface: Interface,
    sockets: SocketSet<'static>,
    free: Vec<SocketHandle>,
    pairs: Vec<Pair>,
    end: End,
    next_port: u16,
    /// How long a client may read nothing of the remaining bytes when the embedded side has closed.
    idle: Duration,
}

/// A connection of the host, and its counterpart.
struct Pair {
    stream: TcpStream,
    handle: SocketHandle,
    /// The connection to the embedded server is established.
    up: bool,
    /// The host's side has ended.
    host_ended: bool,
    /// When the embedded side ended.
    device_ended: Option<Instant>,
    /// The host's socket takes no more for now.
    full: bool,
    /// Since when the client has read nothing although the embedded side has closed.
    stalled: Option<Instant>,
}

/// The next action for a pair.
#[derive(PartialEq, Eq)]
enum Fate {
    Lives,
    /// Both sides have ended.
    Over,
    /// The embedded side has reset it.
    ResetHost,
    /// The host's side has reset it.
    ResetDevice,
}

impl Forwarder {
    pub(super) fn new(mut end: End, connections: usize, idle: Duration, now: Instant) -> Self {
        let mac = EthernetAddress([2, 0, 0, 0, 0, 1]);
        let mut interface = Interface::new(Config::new(HardwareAddress::Ethernet(mac)), &mut end, moment(now));
        interface.update_ip_addrs(|addresses| {
            _ = addresses.push(IpCidr::new(GATEWAY.0.into(), PREFIX.0));
            _ = addresses.push(IpCidr::new(GATEWAY.1.into(), PREFIX.1));
        });
        interface.set_any_ip(true);
        let slots: Vec<_> = (0..connections).map(|_| SocketStorage::EMPTY).collect();
        let mut sockets = SocketSet::new(slots.leak());
        let buffer = || SocketBuffer::new(vec![0; BUFFER].leak());
        let free = (0..connections)
            .map(|_| {
                let mut socket = Socket::new(buffer(), buffer());
                socket.set_nagle_enabled(false);
                socket.set_ack_delay(None);
                sockets.add(socket)
            })
            .collect();
        Self { interface, sockets, free, pairs: Vec::new(), end, next_port: EPHEMERAL.start, idle }
    }

    /// True if another connection can be forwarded.
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Forwards a connection of `client` to the embedded server's `port`.
    ///
    /// # Errors
    /// The connection is gone again.
    pub(super) fn connect(&mut self, stream: TcpStream, client: IpAddr, port: u16) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let Some(handle) = self.free.pop() else {
            return Err(ErrorKind::OutOfMemory.into());
        };
        let local = self.next_port;
        self.next_port = if local + 1 < EPHEMERAL.end { local + 1 } else { EPHEMERAL.start };
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        // Whoever had it before is long gone.
        socket.abort();
        let server = if client.is_ipv4() { IpAddr::V4(SERVER.0) } else { IpAddr::V6(SERVER.1) };
        let (server, client) = ((IpAddress::from(server), port), (IpAddress::from(client), local));
        let begun = socket.connect(self.interface.context(), server, client);
        self.pairs.push(Pair {
            stream,
            handle,
            up: false,
            host_ended: false,
            device_ended: None,
            full: false,
            stalled: None,
        });
        begun.map_err(|error| io::Error::other(error.to_string()))
    }

    /// Moves all the bytes that can be moved; true if there were any.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        let mut moved = self.interface.poll(moment(now), &mut self.end, &mut self.sockets) != PollResult::None;
        let mut at = 0;
        while at < self.pairs.len() {
            let pair = &mut self.pairs[at];
            let socket = self.sockets.get_mut::<Socket<'_>>(pair.handle);
            let fate = pair.step(socket, now, self.idle, &mut moved);
            if fate == Fate::Lives {
                at += 1;
                continue;
            }
            moved = true;
            let pair = self.pairs.swap_remove(at);
            match fate {
                Fate::ResetHost => reset(&pair.stream),
                Fate::ResetDevice => socket.abort(),
                // Whatever the peer still says is of no interest.
                Fate::Over | Fate::Lives => socket.close(),
            }
            self.free.insert(0, pair.handle);
        }
        moved |= self.interface.poll(moment(now), &mut self.end, &mut self.sockets) != PollResult::None;
        moved
    }

    pub(super) fn delay(&mut self, now: Instant) -> Option<Duration> {
        let stack = self.interface.poll_delay(moment(now), &self.sockets);
        let stack = stack.map(|delay| Duration::from_micros(delay.total_micros()));
        let aftermath = self.pairs.iter().filter_map(|pair| Some(pair.device_ended?.after(AFTERMATH)));
        let stalled = self.pairs.iter().filter_map(|pair| Some(pair.stalled?.after(self.idle)));
        stack.into_iter().chain(aftermath.chain(stalled).map(|at| at.since(now))).min()
    }

    /// True if a frame from the embedded stack is waiting.
    pub(super) fn has_frames(&self) -> bool {
        self.end.has_frames()
    }

    /// The events to wait for on the host's sockets.
    pub(super) fn interests(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.pairs.iter().map(|pair| {
            let socket = self.sockets.get::<Socket<'_>>(pair.handle);
            let mut flags = PollFlags::empty();
            if !pair.host_ended && (socket.can_send() || pair.device_ended.is_some()) {
                flags |= PollFlags::IN;
            }
            if pair.full {
                flags |= PollFlags::OUT;
            }
            PollFd::from_borrowed_fd(pair.fd(), flags)
        })
    }
}

impl Pair {
    fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    fn step(&mut self, socket: &mut Socket<'_>, now: Instant, idle: Duration, moved: &mut bool) -> Fate {
        // The host's connection is up, so the other half has to be as well before it is reset: the embedded stack would
        // take a reset within the handshake for one that never came.
        if !self.up && socket.is_active() {
            self.up = socket.state() != State::SynSent;
            *moved |= self.up;
            return Fate::Lives;
        }
        if let Ok(Some(_)) = self.stream.take_error() {
            return Fate::ResetDevice;
        }
        // Towards the host first: bytes before a reset are still delivered.
        loop {
            let stream = &mut self.stream;
            let written = socket.recv(|bytes| match stream.write(bytes) {
                Ok(n) => (n, Ok(n)),
                Err(error) => (0, Err(error)),
            });
            match written {
                Ok(Ok(0)) => break,
                Ok(Ok(_)) => {
                    *moved = true;
                    self.stalled = None;
                }
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => {
                    self.full = true;
                    break;
                }
                Ok(Err(_)) => return Fate::ResetDevice,
                Err(RecvError::Finished) => {
                    if self.device_ended.is_none() {
                        _ = self.stream.shutdown(Shutdown::Write);
                        self.device_ended = Some(now);
                        *moved = true;
                    }
                    break;
                }
                Err(RecvError::InvalidState) => break,
            }
            self.full = false;
        }
        // The embedded server's own time-outs do not cover the bytes in this stack's socket buffer.
        let more = matches!(socket.state(), State::Established | State::FinWait1 | State::FinWait2);
        if !more && socket.can_recv() && now.since(*self.stalled.get_or_insert(now)) >= idle {
            return Fate::ResetHost;
        }
        let closed = socket.state() == State::Closed && !socket.can_recv();
        if closed && self.device_ended.is_none() {
            return Fate::ResetHost;
        }
        if !self.host_ended {
            // A side that has closed gets no more bytes: otherwise a full socket buffer would keep the client from its end.
            let read = if self.device_ended.is_some() { self.discard(moved) } else { self.read(socket, moved) };
            if read.is_err() {
                return Fate::ResetDevice;
            }
        }
        // The stack sends the remaining FINs by itself.
        let over = self.device_ended.is_some_and(|since| self.host_ended || closed || now.since(since) >= AFTERMATH);
        if over { Fate::Over } else { Fate::Lives }
    }

    /// Waits for the host's end.
    fn discard(&mut self, moved: &mut bool) -> io::Result<()> {
        let mut nowhere = [0; 4096];
        loop {
            match self.stream.read(&mut nowhere) {
                Ok(0) => {
                    self.host_ended = true;
                    *moved = true;
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn read(&mut self, socket: &mut Socket<'_>, moved: &mut bool) -> io::Result<()> {
        loop {
            let stream = &mut self.stream;
            if !socket.can_send() {
                return Ok(());
            }
            let read = socket.send(|room| match stream.read(room) {
                Ok(n) => (n, Ok(n)),
                Err(error) => (0, Err(error)),
            });
            match read {
                Ok(Ok(0)) => {
                    socket.close();
                    self.host_ended = true;
                    *moved = true;
                    return Ok(());
                }
                Ok(Ok(_)) => *moved = true,
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(()),
            }
        }
    }
}

/// Closing resets instead of ending the stream.
fn reset(stream: &TcpStream) {
    _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}
