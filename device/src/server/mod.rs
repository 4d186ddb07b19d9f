//! The server: sessions and classic data connections over one interface, polled as smoltcp is.
//!
//! A control connection is a *seat* (a socket that listens), and while it serves it has a *client* (a session). There is
//! one seat more than clients, so that somebody is heard while the connection before is still ending. A classic data
//! connection is a *line*.

mod control;
mod lines;
mod linger;
mod neighbors;
mod net;
mod screen;
mod serve;
mod transfer;

use core::time::Duration;

use skiff_proto::Instant;
use skiff_proto::server::Limits;
use skiff_proto::store::Store;
use smoltcp::iface::PollIngressSingleResult;
use smoltcp::phy::Device;

use crate::config::{Config, ConfigError};
use crate::memory::{Memory, Rings, Slots, Sockets};
use control::Seat;
use lines::Line;
use net::Net;
pub(crate) use net::time;
use screen::{Learning, Screen};
use serve::Client;

/// Packets that are taken in one poll before the sessions have their turn. Each turn is answered by an acknowledgement, which costs
/// the other end as much as several packets; but while all that a ring of 64 KiB holds is waited for, the other end rests.
const BURST: usize = 32;

/// A server for `SESSIONS` clients and `DATA` classic data connections at a time, with names of up to `NAME` bytes. `BUF` is
/// [`command_len`](skiff_proto::command::command_len)`(NAME)`.
///
/// All it needs is in itself and in the [`Memory`] that it borrows.
pub struct DeviceServer<'m, S: Store, const SESSIONS: usize, const DATA: usize, const NAME: usize, const BUF: usize> {
    net: Net,
    learning: Learning,
    sockets: Sockets<'m, SESSIONS, DATA>,
    seats: [Seat; SESSIONS],
    spare: Seat,
    clients: [Option<Client<S, NAME, BUF>>; SESSIONS],
    lines: [Line<S, NAME>; DATA],
    rules: Rules,
    counts: Counts,
}

/// What the parts of the server look up.
#[derive(Debug, Clone, Copy)]
struct Rules {
    port: u16,
    limits: Limits,
    takeover: Duration,
}

/// What a server has done since its start. The numbers wrap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Control connections that were served.
    pub accepted: u32,
    /// Those that were refused since all sessions were taken.
    pub refused: u32,
    /// Data connections that somebody else than the owner tried to open.
    pub strangers: u32,
    /// Classic transfers that ended well.
    pub transfers: u32,
    /// Classic transfers that were reset.
    pub failures: u32,
}

/// What of a server is in use now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Sessions with a client.
    pub sessions: usize,
    /// Control sockets that listen.
    pub listening: usize,
    /// Data connections that were announced or are under way.
    pub data: usize,
}

impl<'m, S: Store, const SESSIONS: usize, const DATA: usize, const NAME: usize, const BUF: usize>
    DeviceServer<'m, S, SESSIONS, DATA, NAME, BUF>
{
    /// A server on `device`, which must be the one that is polled later. It listens from the first poll on.
    ///
    /// # Errors
    /// The configuration, or the memory for it, can't work.
    pub fn new<D: Device + ?Sized, const SLOTS: usize, const RING: usize, const SPARE: usize>(
        memory: &'m mut Memory<'m, SESSIONS, DATA, SLOTS, RING, SPARE>,
        config: Config<DATA>,
        device: &mut D,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        let (rings, slots) = memory.parts();
        Self::from_parts(rings, slots, config, device, now)
    }

    /// The same with memory in two pieces: rings, which take no room in flash as a `static`, and `slots`, which do.
    ///
    /// # Errors
    /// As [`DeviceServer::new`]'s.
    pub fn from_parts<D: Device + ?Sized, const SLOTS: usize, const RING: usize, const SPARE: usize>(
        rings: &'m mut Rings<SESSIONS, DATA, RING, SPARE>,
        slots: &'m mut Slots<'m, SLOTS>,
        config: Config<DATA>,
        device: &mut D,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        Self::over(Sockets::in_memory(rings, slots), config, device, now)
    }

    /// The same over sockets whose memory came another way.
    pub(crate) fn over<D: Device + ?Sized>(
        mut sockets: Sockets<'m, SESSIONS, DATA>,
        config: Config<DATA>,
        device: &mut D,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        const {
            assert!(SESSIONS > 0 && SESSIONS < 256, "1 to 255 sessions");
            assert!(BUF == skiff_proto::command::command_len(NAME), "BUF is command_len(NAME)");
        }
        config.check(NAME, sockets.smallest)?;
        sockets.set_times(net::duration(config.keep_alive), net::duration(config.timeout));
        let net = Net::new(&config, device, now, &mut sockets.set);
        let mut at = 0;
        let lines = sockets.data.map(|handle| {
            at += 1;
            Line::new(handle, config.data_ports[at - 1])
        });
        Ok(Self {
            net,
            learning: Learning::new(now),
            seats: sockets.control.map(Seat::new),
            spare: Seat::new(sockets.spare),
            sockets,
            clients: [const { None }; SESSIONS],
            lines,
            rules: Rules { port: config.port, limits: config.limits, takeover: config.takeover },
            counts: Counts::default(),
        })
    }

    /// Takes what has come in, carries it out on `store`, sends what goes out: a bounded part of all that.
    ///
    /// `now` is the caller's monotonic clock. Returns after what time to call again at the latest, if nothing comes in before;
    /// zero: at once, there is more to do. `None`: nothing to do before something comes in.
    pub fn poll<D: Device + ?Sized>(&mut self, now: Instant, device: &mut D, store: &mut S) -> Option<Duration> {
        let moment = time(now);
        let device = &mut Screen::new(device, &mut self.learning, self.net.interface.ip_addrs(), now);
        self.net.interface.poll_maintenance(moment);
        self.screen(now, device);
        let mut packets = 0;
        while packets < BURST {
            match self.net.interface.poll_ingress_single(moment, device, &mut self.sockets.set) {
                PollIngressSingleResult::None => break,
                PollIngressSingleResult::PacketProcessed => {
                    device.answer(self.net.interface.hardware_addr().as_bytes(), moment);
                }
                PollIngressSingleResult::SocketStateChanged => {
                    // Before anything is sent: a lease may be one that must not be used.
                    self.net.configure(&mut self.sockets.set);
                    // Before the next packet: a stranger is off the port again when the owner comes.
                    self.screen(now, device);
                }
            }
            packets += 1;
        }
        // Also without a packet: leases expire.
        self.net.configure(&mut self.sockets.set);
        let mut busy = packets == BURST;
        for at in 0..SESSIONS {
            busy |= self.serve_client(at, now, store);
        }
        busy |= self.serve_lines(now, store);
        self.grant_lines(now, store);
        // No further input is waiting.
        store.flush();
        store.settle();
        self.end_seats(now);
        self.net.send(moment, device, &mut self.sockets.set);
        device.end(&mut self.learning);
        // What was reset or has ended listens again before the next packet.
        self.end_seats(now);
        // Sending is also when the stack gives a peer up that has been silent for too long.
        if busy || self.has_lost() {
            return Some(Duration::ZERO);
        }
        let stack = self.net.delay(moment, &self.sockets.set);
        let own = self.next_deadline().map(|at| at.since(now));
        match (stack, own) {
            (Some(stack), Some(own)) => Some(stack.min(own)),
            (stack, own) => stack.or(own),
        }
    }

    /// What has been done since the start.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// What is in use now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let seats = self.seats.iter().chain([&self.spare]);
        Usage {
            sessions: self.clients.iter().flatten().count(),
            listening: seats.filter(|seat| self.socket(seat.handle).is_listening()).count(),
            data: self.lines.iter().filter(|line| !line.is_free()).count(),
        }
    }

    /// The addresses, for a log: `None` after the last. They change with DHCP.
    #[must_use]
    pub fn address(&self, index: usize) -> Option<(core::net::IpAddr, u8)> {
        self.net.interface.ip_addrs().get(index).map(|cidr| (cidr.address().into(), cidr.prefix_len()))
    }

    fn socket(&self, handle: smoltcp::iface::SocketHandle) -> &smoltcp::socket::tcp::Socket<'m> {
        self.sockets.set.get(handle)
    }

    /// When the server has to be polled even if nothing comes in.
    fn next_deadline(&self) -> Option<Instant> {
        let limits = &self.rules.limits;
        let wanted = self.clients.iter().flatten().any(Client::is_waiting);
        let seats = self.seats.iter().chain([&self.spare]).filter_map(|seat| seat.deadline(limits));
        let clients = self.clients.iter().flatten().filter_map(Client::deadline);
        let lines = self.lines.iter().filter_map(|line| line.deadline(wanted, limits));
        seats.chain(clients).chain(lines).min()
    }
}
