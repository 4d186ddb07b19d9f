//! The other computers, and the hub that connects them to the link.

use core::net::Ipv4Addr;

use skiff_device::serv::link::{End, FRAME, cable};
use skiff_proto::Instant;
use smoltcp::iface::{Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{Device as _, RxToken as _, TxToken as _};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Duration;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

use super::machine::ADDRESS;
use super::stream::Options;
use super::{later, moment};

/// The first source port of connections.
const PORTS: u16 = 49_152;

pub(super) struct Hub {
    /// The end of the link.
    uplink: End,
    pub(super) stations: Vec<Station>,
    frame: Vec<u8>,
}

/// A computer.
pub(super) struct Station {
    interface: Interface,
    pub(super) sockets: SocketSet<'static>,
    /// Sockets reset or closed by their owners; removed once that has been sent.
    ending: Vec<SocketHandle>,
    /// How often it has lost power.
    pub(super) life: u64,
    end: End,
    /// The hub's end of its cable.
    port: End,
    next: u16,
}

impl Hub {
    pub(super) fn new(uplink: End, stations: usize, seed: u64, now: Instant) -> Self {
        let stations = (1..=stations).map(|number| Station::new(number, seed, now)).collect();
        Self { uplink, stations, frame: Vec::with_capacity(FRAME) }
    }

    /// True if anything happened.
    pub(super) fn poll(&mut self, now: smoltcp::time::Instant) -> bool {
        let Self { uplink, stations, frame } = self;
        let mut moved = false;
        while let Some((token, _)) = uplink.receive(now) {
            moved = true;
            token.consume(|bytes| {
                frame.clear();
                frame.extend_from_slice(bytes);
            });
            let for_all = frame.first().is_some_and(|byte| byte & 1 != 0);
            for (at, station) in stations.iter_mut().enumerate() {
                if (for_all || frame.get(..6) == Some(&mac(at + 1)))
                    && let Some(token) = station.port.transmit(now)
                {
                    token.consume(frame.len(), |room| room.copy_from_slice(frame));
                }
            }
        }
        for station in stations {
            moved |= station.poll(now);
            while uplink.transmit(now).is_some()
                && let Some((token, _)) = station.port.receive(now)
            {
                moved = true;
                token.consume(|bytes| {
                    if let Some(room) = uplink.transmit(now) {
                        room.consume(bytes.len(), |room| room.copy_from_slice(bytes));
                    }
                });
            }
        }
        moved
    }

    /// When a station has something to do.
    pub(super) fn due(&mut self, now: smoltcp::time::Instant) -> Option<Instant> {
        let due = |station: &mut Station| station.interface.poll_at(now, &station.sockets).map(later);
        self.stations.iter_mut().filter_map(due).min()
    }

    pub(super) fn vanish(&mut self, station: usize) {
        let station = &mut self.stations[station];
        station.sockets = SocketSet::new(Vec::new());
        station.ending.clear();
        station.life += 1;
        // As some systems do, it begins with the same ports again.
        if station.life % 2 == 1 {
            station.next = PORTS;
        }
    }
}

fn mac(number: usize) -> [u8; 6] {
    [2, 0, 0, 0, 1, u8::try_from(number).unwrap_or(0)]
}

impl Station {
    fn new(number: usize, seed: u64, now: Instant) -> Self {
        let (mut end, port) = cable();
        let mut config = smoltcp::iface::Config::new(HardwareAddress::Ethernet(EthernetAddress(mac(number))));
        config.random_seed = seed ^ number as u64;
        let mut interface = Interface::new(config, &mut end, moment(now));
        let address = Ipv4Addr::new(10, 0, 0, 100 + u8::try_from(number).unwrap_or(0));
        interface.update_ip_addrs(|addresses| _ = addresses.push(IpCidr::new(IpAddress::Ipv4(address), 24)));
        let sockets = SocketSet::new(Vec::new());
        Self { interface, sockets, ending: Vec::new(), life: 0, end, port, next: PORTS }
    }

    /// True if anything happened.
    fn poll(&mut self, now: smoltcp::time::Instant) -> bool {
        let had = self.end.has_frames();
        let polled = self.interface.poll(now, &mut self.end, &mut self.sockets);
        self.ending.retain(|handle| {
            let socket = self.sockets.get::<Socket<'_>>(*handle);
            let gone = socket.remote_endpoint().is_none() || socket.state() == State::TimeWait;
            if gone {
                self.sockets.remove(*handle);
            }
            !gone
        });
        (polled != PollResult::None) | had
    }

    pub(super) fn reset(&mut self, handle: SocketHandle) {
        self.sockets.get_mut::<Socket<'_>>(handle).abort();
        self.ending.push(handle);
    }

    /// Ends a connection after everything has been sent.
    pub(super) fn close(&mut self, handle: SocketHandle) {
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        socket.close();
        socket.set_timeout(Some(Duration::from_secs(60)));
        self.ending.push(handle);
    }

    pub(super) fn connect(&mut self, port: u16, options: Options) -> SocketHandle {
        let ring = || SocketBuffer::new(vec![0; options.ring]);
        let mut socket = Socket::new(ring(), ring());
        socket.set_nagle_enabled(false);
        if let Some(seconds) = options.keep_alive {
            socket.set_keep_alive(Some(Duration::from_secs(seconds)));
        }
        let local = self.next;
        self.next = if local == u16::MAX { PORTS } else { local + 1 };
        socket.connect(self.interface.context(), (ADDRESS, port), local).expect("two different ports");
        self.sockets.add(socket)
    }
}
