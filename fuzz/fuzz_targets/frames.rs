//! Ethernet frames into `DeviceServer::poll`: whatever comes, it comes to rest; once nothing comes any more, nothing is left
//! open; and then a client with a stack of its own is served.
#![no_main]

use core::time::Duration;

use libfuzzer_sys::fuzz_target;
use skiff_device::config::{Config, Ipv4, Ipv6};
use skiff_device::memory::{Memory, slots};
use skiff_device::ram::{RamMemory, RamStore};
use skiff_device::serv::link::{End, cable};
use skiff_device::server::{DeviceServer, Usage};
use skiff_fuzz::frames::{ACK, Address, FIN, Mac, RST, SYN, Segment, arp, ethernet, icmp, ipv4, udp};
use skiff_fuzz::script::Script;
use skiff_proto::Instant;
use skiff_proto::command::command_len;
use skiff_proto::crc::crc32c;
use smoltcp::iface::{Interface, SocketSet};
use smoltcp::phy::{Device as _, RxToken as _, TxToken as _};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

const DEVICE: (Mac, Address) = ([2, 0, 0, 0, 0, 2], [10, 0, 0, 2]);
const PORT: u16 = 50_000;
const FRAME: usize = 1514;

type Store<'m> = RamStore<'m, 64, 256>;
type Server<'m> = DeviceServer<'m, Store<'m>, 2, 1, 64, { command_len(64) }>;

/// The other end of a connection, as far as the input plays it.
#[derive(Debug, Clone, Copy, Default)]
struct Peer {
    to: u16,
    seq: u32,
    ack: u32,
}

const PEERS: usize = 6;

/// Two computers with three ports each.
fn peer_address(at: usize) -> (Mac, Address, u16) {
    let host = if at < PEERS / 2 { 1 } else { 3 };
    (([2, 0, 0, 0, 0, host]), [10, 0, 0, host], 40_000 + u16::try_from(at).unwrap_or(0))
}

struct World<'m> {
    server: Server<'m>,
    store: Store<'m>,
    ours: End,
    theirs: End,
    now: u64,
    peers: [Peer; PEERS],
    /// Nobody answers any more.
    is_silent: bool,
}

fn time(now: u64) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_millis(i64::try_from(now).unwrap_or(i64::MAX))
}

fn message(payload: &[u8]) -> Vec<u8> {
    [format!("{:010}", payload.len()).as_bytes(), payload].concat()
}

impl World<'_> {
    fn put(&mut self, frame: &[u8]) {
        if let Some(room) = self.theirs.transmit(time(self.now)) {
            room.consume(frame.len(), |room| room.copy_from_slice(frame));
        }
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let (frame, _) = self.theirs.receive(time(self.now))?;
        Some(frame.consume(<[u8]>::to_vec))
    }

    /// Lets the server work until it has no more to do now.
    fn settle(&mut self) -> Option<Duration> {
        for _ in 0..3000 {
            let delay = self.server.poll(Instant::from_millis(self.now), &mut self.ours, &mut self.store);
            while let Some(frame) = self.take() {
                self.hear(&frame);
            }
            if delay != Some(Duration::ZERO) && !self.ours.has_frames() {
                return delay;
            }
        }
        panic!("the server does not come to rest: {:?}", self.server.usage());
    }

    /// Peers say where they are, and remember what they were told.
    fn hear(&mut self, frame: &[u8]) {
        let Some((&[.., high, low], packet)) = frame.split_first_chunk::<14>() else { return };
        match u16::from_be_bytes([high, low]) {
            0x0806 if packet.len() >= 28 && packet[7] == 1 && !self.is_silent => {
                let target = [packet[24], packet[25], packet[26], packet[27]];
                if target != DEVICE.1 {
                    let mac = [2, 0, 0, 0, 0, target[3]];
                    self.put(&ethernet(DEVICE.0, mac, 0x0806, &arp(2, (mac, target), DEVICE)));
                }
            }
            0x0800 if packet.len() >= 40 && packet[9] == 6 => {
                let word = |at: usize| u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
                let to = (u16::from_be_bytes([packet[22], packet[23]]), packet[19]);
                let len = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
                let flags = packet[33];
                let payload = len.saturating_sub(20 + usize::from(packet[32] >> 4) * 4);
                let more =
                    u32::try_from(payload).unwrap_or(0) + u32::from(flags & FIN != 0) + u32::from(flags & SYN != 0);
                for (at, peer) in self.peers.iter_mut().enumerate() {
                    let (_, address, port) = peer_address(at);
                    if to == (port, address[3]) && flags & RST == 0 && more > 0 {
                        peer.ack = word(24).wrapping_add(more);
                        if flags & SYN != 0 {
                            peer.seq = word(28);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn send(&mut self, at: usize, segment: &Segment<'_>) {
        let (mac, address, from) = peer_address(at);
        let bytes = Segment { from, to: self.peers[at].to, ..*segment }.encode(address, DEVICE.1);
        self.put(&ethernet(DEVICE.0, mac, 0x0800, &ipv4(address, DEVICE.1, 6, 0, &bytes)));
    }

    fn act(&mut self, operation: u8, script: &mut Script<'_>) {
        let at = usize::from(script.byte()) % PEERS;
        let (mac, address, from) = peer_address(at);
        let Peer { seq, ack, .. } = self.peers[at];
        match operation {
            // Begins a connection, from a port of its own or to the data port.
            0 => {
                let choice = script.byte();
                self.peers[at].to = if choice.is_multiple_of(3) { PORT + 1 } else { PORT };
                let options = [2, 4, choice, 64];
                let options = &options[..if choice & 4 == 0 { 0 } else { 4 }];
                self.peers[at].seq = u32::from(choice) << 24 | 0xff_ff00;
                let seq = self.peers[at].seq;
                self.send(at, &Segment { seq, flags: SYN, window: 4096, options, ..Segment::default() });
            }
            // What comes in order.
            1 | 2 => {
                let piece = script.piece();
                for payload in piece.chunks(1400).take(8) {
                    let Peer { seq, ack, .. } = self.peers[at];
                    self.send(at, &Segment { seq, ack, flags: ACK, window: 4096, payload, ..Segment::default() });
                    self.peers[at].seq = seq.wrapping_add(u32::try_from(payload.len()).unwrap_or(0));
                    self.settle();
                }
            }
            3 => {
                self.send(at, &Segment { seq, ack, flags: FIN | ACK, window: 4096, ..Segment::default() });
                self.peers[at].seq = seq.wrapping_add(1);
            }
            4 => self.send(at, &Segment { seq, ack, flags: ACK, window: script.number(), ..Segment::default() }),
            // Anything.
            5 => {
                let (ahead, acked) = (script.number(), script.number());
                let (flags, window) = (script.byte(), script.number());
                let piece = script.piece();
                let options = &piece[..(piece.len() & !3).min(usize::from(flags >> 6) * 12)];
                let (seq, ack) = (seq.wrapping_add_signed(spread(ahead)), ack.wrapping_add_signed(spread(acked)));
                let payload = &piece[..piece.len().min(1400)];
                self.send(at, &Segment { seq, ack, flags, window, options, payload, ..Segment::default() });
            }
            6 => {
                let (kind, code) = (script.byte(), script.byte());
                let payload = icmp(kind, code, script.piece());
                self.put_short(&ethernet(DEVICE.0, mac, 0x0800, &ipv4(address, DEVICE.1, 1, 0, &payload)));
            }
            7 => {
                let ports = [script.number(), script.number()];
                let payload = udp(address, DEVICE.1, ports, script.piece());
                self.put_short(&ethernet(DEVICE.0, mac, 0x0800, &ipv4(address, DEVICE.1, 17, 0, &payload)));
            }
            8 => {
                let operation = u16::from(script.byte() % 3);
                let target = if script.byte() & 1 == 0 { DEVICE } else { (DEVICE.0, [10, 0, 0, script.byte()]) };
                self.put(&ethernet([255; 6], mac, 0x0806, &arp(operation, (mac, address), target)));
            }
            // A packet with a header that is right, and anything in it; pieces of packets, too.
            9 => {
                let (protocol, fragment) = (script.byte(), script.number());
                let payload = ipv4(address, DEVICE.1, protocol, fragment, script.piece());
                self.put_short(&ethernet(DEVICE.0, mac, 0x0800, &payload));
            }
            // A frame.
            10 => self.put_short(script.piece()),
            11 => {
                let kind = [0x0800, 0x0806, 0x86dd, 0x8100][usize::from(script.byte() % 4)];
                self.put_short(&ethernet(DEVICE.0, mac, kind, script.piece()));
            }
            12 => self.send(at, &Segment { seq, ack, flags: RST, ..Segment::default() }),
            // The client's own port to another one of the device.
            13 => self.peers[at] = Peer { to: script.number(), ..self.peers[at] },
            14 => _ = from,
            _ => self.now += u64::from(script.number()),
        }
    }

    fn put_short(&mut self, frame: &[u8]) {
        self.put(&frame[..frame.len().min(FRAME)]);
    }

    /// Nobody says anything any more: then nothing may be left.
    fn fall_silent(&mut self) {
        self.is_silent = true;
        let end = self.now + 400_000;
        let mut polls = 0;
        while self.now < end {
            polls += 1;
            assert!(polls < 6000, "the server is never at rest");
            let delay = self.settle().map_or(u64::MAX, |delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
            self.now = self.now.saturating_add(delay.max(1)).min(end);
        }
        self.settle();
        let usage = self.server.usage();
        assert_eq!(usage, Usage { sessions: 0, listening: 3, data: 0 });
    }

    /// A client with a stack of its own.
    fn serve(&mut self) {
        let mac = HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 7, 7]));
        let mut interface = Interface::new(smoltcp::iface::Config::new(mac), &mut self.theirs, time(self.now));
        interface.update_ip_addrs(|addresses| _ = addresses.push(IpCidr::new(IpAddress::v4(10, 0, 0, 77), 24)));
        let mut sockets = SocketSet::new(Vec::new());
        let mut socket = Socket::new(SocketBuffer::new(vec![0; 4096]), SocketBuffer::new(vec![0; 8192]));
        socket.connect(interface.context(), (IpAddress::v4(10, 0, 0, 2), PORT), 50_999).expect("two ports");
        let handle = sockets.add(socket);
        let body = [7; 3000];
        let crc = crc32c(&body);
        let mut out = message(b"write 0 3000 - served");
        for part in
            [&body[..], b"", format!("crc32c {crc:08x}").as_bytes(), b"sum 0 * served", b"remove served", b"quit"]
        {
            out.extend(message(part));
        }
        let (mut sent, mut got) = (0, Vec::new());
        let end = self.now + 20_000;
        loop {
            interface.poll(time(self.now), &mut self.theirs, &mut sockets);
            let delay = self.server.poll(Instant::from_millis(self.now), &mut self.ours, &mut self.store);
            let socket = sockets.get_mut::<Socket<'_>>(handle);
            if socket.can_send() && sent < out.len() {
                sent += socket.send_slice(&out[sent..]).expect("it can");
            }
            while socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), got.extend_from_slice(bytes))).expect("it can");
            }
            if !socket.may_recv() && socket.state() != State::SynSent {
                break;
            }
            if delay != Some(Duration::ZERO) && !self.ours.has_frames() && !self.theirs.has_frames() {
                self.now += 1;
            }
            assert!(
                self.now < end,
                "a client is not served: {:?}, {:?}",
                socket.state(),
                String::from_utf8_lossy(&got)
            );
        }
        let stored = format!("ok 3000 {crc:08x}");
        let told: Vec<u8> = [stored.as_bytes(), stored.as_bytes(), b"ok"].into_iter().flat_map(message).collect();
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&told));
    }
}

/// Small most of the time.
fn spread(number: u16) -> i32 {
    let number = i32::from(number.cast_signed());
    if number & 1 == 0 { number / 256 } else { number << 16 }
}

// Operations: see `World::act`.
fuzz_target!(|data: &[u8]| {
    let mut memory = Memory::<'_, 2, 1, { slots(2, 1) }, 2048, 1024>::new();
    let mut ram = Box::new(RamMemory::<16, 64, 128, 256>::new());
    let (mut ours, theirs) = cable();
    let ipv4 = Ipv4::Static { address: DEVICE.1.into(), prefix: 24, gateway: Some([10, 0, 0, 1].into()) };
    let mut config = Config::new(DEVICE.0, ipv4, PORT, [PORT + 1]);
    config.ipv6 = Ipv6::LinkLocal;
    let server = DeviceServer::new(&mut memory, config, &mut ours, Instant::from_millis(1)).expect("it can work");
    let store = RamStore::new(&mut ram, 1);
    let mut world = World { server, store, ours, theirs, now: 1, peers: [Peer::default(); PEERS], is_silent: false };
    let mut script = Script::new(data);
    while let Some(operation) = script.next_of(16) {
        world.act(operation, &mut script);
        world.settle();
    }
    world.fall_silent();
    world.serve();
});
