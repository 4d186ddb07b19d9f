//! Ethernet frames into `DeviceServer::poll`: whatever arrives, the server becomes idle; once input ends, nothing stays
//! open; and then a client with its own stack is served.
#![no_main]

use core::time::Duration;

use libfuzzer_sys::fuzz_target;
use skiff_device::config::{Config, Ipv4, Ipv6, Network};
use skiff_device::ram::{RamMemory, RamStore};
use skiff_device::serv::link::{End, cable};
use skiff_device::server::{DeviceServer, Usage};
use skiff_device::stack::Stack;
use skiff_fuzz::frames::{
    ACK, Address, Address6, Ends, FIN, Mac, RST, SYN, Segment, arp, dhcp, ethernet, icmp, ipv4, neighbor, udp,
};
use skiff_fuzz::script::Script;
use skiff_proto::Instant;
use skiff_proto::crc::crc32c;
use smoltcp::iface::{Interface, SocketSet};
use smoltcp::phy::{Device as _, RxToken as _, TxToken as _};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

const DEVICE: (Mac, Address) = ([2, 0, 0, 0, 0, 2], [10, 0, 0, 2]);
const DEVICE_6: Address6 = link_local([0, 0, 0, 0xff, 0xfe, 0, 0, 2]);
const PORT: u16 = 50_000;
const FRAME: usize = 1514;

type Store<'m> = RamStore<'m, 64, 256>;

skiff_device::server_memory! {
    struct Memory { sessions: 2, data: 1, name: 64 }
    struct Buffers { buffer: 2048, spare: 1024 }
    type Server;
}

/// The other end of a connection, played by the input.
#[derive(Debug, Clone, Copy, Default)]
struct Peer {
    to: u16,
    seq: u32,
    ack: u32,
}

const PEERS: usize = 9;

/// Three computers with three ports each: two that speak IPv4, and one that speaks IPv6.
fn peer_address(at: usize) -> (Mac, Ends, u16) {
    let host = [1, 3, 5][at / 3];
    let ends = if host == 5 { Ends::V6(peer_6(host), DEVICE_6) } else { Ends::V4([10, 0, 0, host], DEVICE.1) };
    ([2, 0, 0, 0, 0, host], ends, 40_000 + u16::try_from(at).unwrap_or(0))
}

/// The link-local address of a computer.
const fn peer_6(host: u8) -> Address6 {
    link_local([0, 0, 0, 0, 0, 0, 0, host])
}

const fn link_local(interface: [u8; 8]) -> Address6 {
    let [a, b, c, d, e, f, g, h] = interface;
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a, b, c, d, e, f, g, h]
}

struct World<'m, 's> {
    stack: Stack<'m>,
    server: Server<'m, Store<'s>>,
    store: Store<'s>,
    ours: End,
    theirs: End,
    now: u64,
    peers: [Peer; PEERS],
    /// The transaction of the last DHCP request.
    transaction: [u8; 4],
    /// No peer answers any more.
    is_silent: bool,
}

fn time(now: u64) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_millis(i64::try_from(now).unwrap_or(i64::MAX))
}

fn message(payload: &[u8]) -> Vec<u8> {
    [format!("{:010}", payload.len()).as_bytes(), payload].concat()
}

impl World<'_, '_> {
    fn put(&mut self, frame: &[u8]) {
        if let Some(room) = self.theirs.transmit(time(self.now)) {
            room.consume(frame.len(), |room| room.copy_from_slice(frame));
        }
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let (frame, _) = self.theirs.receive(time(self.now))?;
        Some(frame.consume(<[u8]>::to_vec))
    }

    fn poll(&mut self) -> Option<Duration> {
        self.stack.poll(Instant::from_millis(self.now), &mut self.ours, &mut self.server, &mut self.store)
    }

    /// Polls the server until it has nothing more to do now.
    fn settle(&mut self) -> Option<Duration> {
        for _ in 0..3000 {
            let delay = self.poll();
            while let Some(frame) = self.take() {
                self.hear(&frame);
            }
            if delay != Some(Duration::ZERO) && !self.ours.has_frames() {
                return delay;
            }
        }
        panic!("the server does not come to rest: {:?}", self.server.usage(&self.stack.sockets));
    }

    /// Peers answer requests for their address, and remember what they received.
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
                let len = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
                let (host, segment) = (packet[19], &packet[20..]);
                self.hear_segment(host, segment, len.saturating_sub(20));
            }
            // DHCP.
            0x0800 if packet.len() >= 36 && packet[9] == 17 && packet[22..24] == [0, 67] => {
                self.transaction = [packet[32], packet[33], packet[34], packet[35]];
            }
            0x86dd if packet.len() >= 60 && packet[6] == 6 => {
                let len = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
                let (host, segment) = (packet[39], &packet[40..]);
                self.hear_segment(host, segment, len);
            }
            // A neighbor is asked for.
            0x86dd if packet.len() >= 64 && packet[6] == 58 && packet[40] == 135 && !self.is_silent => {
                let host = packet[63];
                if packet[48..64] == peer_6(host) {
                    let mac = [2, 0, 0, 0, 0, host];
                    let ends = Ends::V6(peer_6(host), DEVICE_6);
                    let (protocol, answer) = icmp(ends, 136, 0, &neighbor(mac, peer_6(host)));
                    self.put_packet(mac, ends.packet(protocol, &answer));
                }
            }
            _ => {}
        }
    }

    /// `len` of header and payload together: a frame may be longer.
    fn hear_segment(&mut self, host: u8, segment: &[u8], len: usize) {
        let word = |at: usize| u32::from_be_bytes([segment[at], segment[at + 1], segment[at + 2], segment[at + 3]]);
        let to = u16::from_be_bytes([segment[2], segment[3]]);
        let flags = segment[13];
        let payload = len.saturating_sub(usize::from(segment[12] >> 4) * 4);
        let more = u32::try_from(payload).unwrap_or(0) + u32::from(flags & FIN != 0) + u32::from(flags & SYN != 0);
        for (at, peer) in self.peers.iter_mut().enumerate() {
            let (mac, _, port) = peer_address(at);
            if (to, host) == (port, mac[5]) && flags & RST == 0 && more > 0 {
                peer.ack = word(4).wrapping_add(more);
                if flags & SYN != 0 {
                    peer.seq = word(8);
                }
            }
        }
    }

    fn send(&mut self, at: usize, segment: &Segment<'_>) {
        let (mac, ends, from) = peer_address(at);
        let bytes = Segment { from, to: self.peers[at].to, ..*segment }.encode(ends);
        self.put_packet(mac, ends.packet(6, &bytes));
    }

    fn put_packet(&mut self, from: Mac, (kind, packet): (u16, Vec<u8>)) {
        self.put_short(&ethernet(DEVICE.0, from, kind, &packet));
    }

    fn act(&mut self, operation: u8, script: &mut Script<'_>) {
        let at = usize::from(script.byte()) % PEERS;
        let (mac, ends, _) = peer_address(at);
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
                let (protocol, payload) = icmp(ends, kind, code, script.piece());
                self.put_packet(mac, ends.packet(protocol, &payload));
            }
            7 => {
                let ports = [script.number(), script.number()];
                let payload = udp(ends, ports, script.piece());
                self.put_packet(mac, ends.packet(17, &payload));
            }
            8 => {
                let operation = u16::from(script.byte() % 3);
                let target = if script.byte() & 1 == 0 { DEVICE } else { (DEVICE.0, [10, 0, 0, script.byte()]) };
                let address = [10, 0, 0, mac[5]];
                self.put(&ethernet([255; 6], mac, 0x0806, &arp(operation, (mac, address), target)));
            }
            // A packet with a header that is right, and anything in it; pieces of packets, too.
            9 => {
                let (protocol, fragment) = (script.byte(), script.number());
                let packet = match ends {
                    Ends::V4(from, to) => (0x0800, ipv4(from, to, protocol, fragment, script.piece())),
                    Ends::V6(..) => ends.packet(protocol, script.piece()),
                };
                self.put_packet(mac, packet);
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
            // A DHCP server's answer, with what it takes unless the input has it otherwise.
            14 => {
                let (kind, choice) = (script.byte(), script.byte());
                let server = [10, 0, 0, 1];
                let mut options = Vec::new();
                if choice & 1 == 0 {
                    options.extend([54, 4, 10, 0, 0, 1, 1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 0, 1]);
                }
                if choice & 2 == 0 {
                    let lease = u32::from(script.number()).to_be_bytes();
                    options.extend([&[51, 4][..], &lease].concat());
                }
                options.extend(script.piece());
                let offered = if choice & 4 == 0 { DEVICE.1 } else { [script.byte(), 0, 0, script.byte()] };
                let transaction = if choice & 8 == 0 { self.transaction } else { [script.byte(); 4] };
                let to = if choice & 16 == 0 { [255; 4] } else { DEVICE.1 };
                let ends = Ends::V4(server, to);
                let answer = dhcp([2, 5, 6, kind][usize::from(kind & 3)], transaction, DEVICE.0, offered, &options);
                self.put_packet([2, 0, 0, 0, 0, 1], ends.packet(17, &udp(ends, [67, 68], &answer)));
            }
            _ => self.now += u64::from(script.number()),
        }
    }

    fn put_short(&mut self, frame: &[u8]) {
        self.put(&frame[..frame.len().min(FRAME)]);
    }

    /// Ends all input: then nothing may stay open.
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
        let usage = self.server.usage(&self.stack.sockets);
        assert_eq!(usage, Usage { sessions: 0, listening: 3, data: 0 });
    }

    /// A client with its own stack.
    fn serve(&mut self, device: IpAddress, client: IpCidr) {
        let mac = HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 7, 7]));
        let mut interface = Interface::new(smoltcp::iface::Config::new(mac), &mut self.theirs, time(self.now));
        interface.update_ip_addrs(|addresses| _ = addresses.push(client));
        let mut sockets = SocketSet::new(Vec::new());
        let mut socket = Socket::new(SocketBuffer::new(vec![0; 4096]), SocketBuffer::new(vec![0; 8192]));
        socket.connect(interface.context(), (device, PORT), 50_999).expect("two ports");
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
            let delay = self.poll();
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

// A byte that says where the address of IPv4 comes from, then operations: see `World::act`.
fuzz_target!(|data: &[u8]| {
    let mut ram = Box::new(RamMemory::<16, 64, 128, 256>::new());
    let (mut memory, mut buffers) = (Memory::new(), Buffers::new());
    let (mut ours, theirs) = cable();
    let mut script = Script::new(data);
    let asks = script.byte() & 1 == 1;
    let fixed = Ipv4::Static { address: DEVICE.1.into(), prefix: 24, gateway: Some([10, 0, 0, 1].into()) };
    let mut network = Network::new(DEVICE.0, if asks { Ipv4::Dhcp } else { fixed });
    network.ipv6 = Ipv6::LinkLocal;
    let mut stack = Stack::new(&network, &mut ours, SocketSet::new(Vec::new()), Instant::from_millis(1))
        .expect("a valid configuration");
    let config = Config::new(PORT, &[PORT + 1]);
    let server =
        DeviceServer::new(&config, memory.lend(&mut buffers), &mut stack.sockets).expect("a valid configuration");
    let store = RamStore::new(&mut ram, 1);
    let peers = [Peer::default(); PEERS];
    let mut world = World { stack, server, store, ours, theirs, now: 1, peers, transaction: [0; 4], is_silent: false };
    while let Some(operation) = script.next_of(16) {
        world.act(operation, &mut script);
        world.settle();
    }
    world.fall_silent();
    // An address that was leased is gone by now; that of IPv6 never is.
    if !asks {
        world.serve(IpAddress::v4(10, 0, 0, 2), IpCidr::new(IpAddress::v4(10, 0, 0, 77), 24));
    }
    let [device, client] = [DEVICE_6, peer_6(77)].map(|address| IpAddress::Ipv6(address.into()));
    world.serve(device, IpCidr::new(client, 64));
});
