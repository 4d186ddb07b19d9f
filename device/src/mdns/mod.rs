//! Finding the server by name: mDNS and DNS-SD (RFC 6762, RFC 6763) for the service `_skiff._tcp`.
//!
//! | module | content |
//! |---|---|
//! | here | [`Mdns`]: the UDP socket of a smoltcp stack |
//! | `responder` | [`Responder`]: decides what to send and when, without I/O |
//! | `identity` | the identity of the device, and what a message contains about it |
//! | `records` | writes the records of a device |
//! | `message` | reads messages |
//!
//! [`Stack::announce`](crate::stack::Stack::announce) adds it to a [`Stack`](crate::stack::Stack). An application with
//! its own stack calls [`Mdns::poll`] after each poll of the server. The network interface must accept multicast
//! frames.
//!
//! Of RFC 6762, it implements probing for its name, with the tie-break of section 8.2; on a conflict, it appends `-2`,
//! `-3` and so on; it announces itself twice, announces again when its addresses change, and sends a goodbye on
//! request; it answers questions with known answers, questions for unicast replies, and those of clients without mDNS.
//! It does not implement NSEC records (section 6.1), known answers in several messages (section 7.2), and the tie-break
//! for the name of the instance, which has the label of the host.

mod identity;
mod kinds;
mod message;
mod records;
mod responder;
#[cfg(test)]
#[cfg(feature = "std")]
mod tests;

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use skiff_proto::Instant;
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket, UdpMetadata};
use smoltcp::wire::{IpAddress, IpListenEndpoint};

pub use responder::{GROUP_V4, GROUP_V6, MESSAGE, Message, PORT, Responder};

/// Maximum length of a received message: what fits into a frame.
const RECEIVED: usize = 1472;

/// A message that could not be sent for this long is dropped: its recipient does not answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Memory for the socket, 2 KiB.
#[derive(Debug)]
pub struct Memory {
    received: [u8; RECEIVED],
    received_meta: [PacketMetadata; 4],
    sent: [u8; MESSAGE],
    sent_meta: [PacketMetadata; 1],
}

impl Memory {
    /// Memory that is not in use.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            received: [0; RECEIVED],
            received_meta: [PacketMetadata::EMPTY; 4],
            sent: [0; MESSAGE],
            sent_meta: [PacketMetadata::EMPTY; 1],
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// A [`Responder`] over a UDP socket of a smoltcp stack.
#[derive(Debug)]
pub struct Mdns {
    responder: Responder,
    socket: SocketHandle,
    /// Since when a message has been waiting to be sent.
    waiting: Option<Instant>,
    has_joined: bool,
}

impl Mdns {
    /// Adds a UDP socket to `sockets`.
    ///
    /// # Panics
    /// As [`SocketSet::add`] does, if `sockets` borrows storage that is too small.
    pub fn new<'s>(responder: Responder, memory: &'s mut Memory, sockets: &mut SocketSet<'s>) -> Self {
        let Memory { received, received_meta, sent, sent_meta } = memory;
        let received = PacketBuffer::new(&mut received_meta[..], &mut received[..]);
        let mut socket = Socket::new(received, PacketBuffer::new(&mut sent_meta[..], &mut sent[..]));
        // RFC 6762 section 11: receivers may use it to check that the sender is on their link.
        socket.set_hop_limit(Some(255));
        bind(&mut socket);
        Self { responder, socket: sockets.add(socket), waiting: None, has_joined: false }
    }

    /// The name, without `.local`. It changes if another device has it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.responder.name()
    }

    /// True once the name has been probed for and announced.
    #[must_use]
    pub const fn is_announced(&self) -> bool {
        self.responder.is_announced()
    }

    /// Processes received messages, and passes the next message to the stack, which sends it at its next poll. At most
    /// four messages are received and one is sent.
    pub fn poll(&mut self, now: Instant, interface: &mut Interface, sockets: &mut SocketSet<'_>) {
        if !self.has_joined {
            self.has_joined = true;
            // If its table is full, the stack receives only unicast messages.
            _ = interface.join_multicast_group(GROUP_V4);
            #[cfg(feature = "ipv6")]
            {
                _ = interface.join_multicast_group(GROUP_V6);
            }
        }
        let own = interface.ip_addrs().iter().map(|cidr| (IpAddr::from(cidr.address()), cidr.prefix_len()));
        self.responder.set_addresses(own, now);
        let socket = sockets.get_mut::<Socket<'_>>(self.socket);
        while let Ok((message, from)) = socket.recv() {
            let from = SocketAddr::new(from.endpoint.addr.into(), from.endpoint.port);
            self.responder.handle(from, message, now);
        }
        if socket.send_queue() == 0 {
            self.waiting = self.send(now, socket).then_some(now);
        } else if self.waiting.is_none_or(|since| now.since(since) >= PATIENCE) {
            socket.close();
            bind(socket);
            self.waiting = None;
        }
    }

    /// The time after which to poll again at the latest. `None`: when a packet arrives.
    #[must_use]
    pub fn poll_delay(&self, now: Instant) -> Option<Duration> {
        // The stack has to be polled to find out that it has sent a message.
        let due = self.responder.deadline().map(|due| due.since(now));
        if self.waiting.is_some() { due.map(|due| due.max(Duration::from_millis(1))) } else { due }
    }

    /// Sends a goodbye with the next polls, if the name was announced, and nothing after that.
    pub fn end(&mut self) {
        self.responder.end();
    }

    #[inline(never)]
    fn send(&mut self, now: Instant, socket: &mut Socket<'_>) -> bool {
        let Some(message) = self.responder.next(now) else { return false };
        let mut bytes = [0; MESSAGE];
        let written = self.responder.write(&message, &mut bytes).and_then(|len| bytes.get(..len));
        let (Some(bytes), Some(to), Some(from)) = (written, address(message.to.ip()), address(message.from)) else {
            return false;
        };
        let meta = UdpMetadata {
            endpoint: (to, message.to.port()).into(),
            local_address: Some(from),
            meta: Default::default(),
        };
        socket.send_slice(bytes, meta).is_ok()
    }
}

fn bind(socket: &mut Socket<'_>) {
    // It fails only for a socket that is open.
    _ = socket.bind(IpListenEndpoint { addr: None, port: PORT });
}

/// An address as the stack knows it. `None`: it has no IPv6.
fn address(address: IpAddr) -> Option<IpAddress> {
    match address {
        IpAddr::V4(v4) => Some(IpAddress::Ipv4(v4)),
        #[cfg(feature = "ipv6")]
        IpAddr::V6(v6) => Some(IpAddress::Ipv6(v6)),
        #[cfg(not(feature = "ipv6"))]
        IpAddr::V6(_) => None,
    }
}
