//! Frames that no correct station sends, one at a time, in virtual time.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use skiff_device::config::{Config, ConfigError, Ipv4, Ipv6, Network};
use skiff_device::ram::{RamMemory, RamStore};
use skiff_device::serv::link::{End, cable};
use skiff_device::server::DeviceServer;
use skiff_device::stack::Stack;
use skiff_proto::Instant;
use skiff_tests::sans_io::message;
use smoltcp::iface::SocketSet;
use smoltcp::phy::{ChecksumCapabilities, Device as _, RxToken as _, TxToken as _};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpMessageType, DhcpPacket, DhcpRepr,
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv6Packet, Icmpv6Repr, IpAddress, IpProtocol,
    Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr, TcpControl, TcpPacket, TcpRepr,
    TcpSeqNumber, UdpPacket, UdpRepr,
};

const DEVICE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const STATION: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const DEVICE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const STATION_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
/// An unused address of the network.
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PORT: u16 = 50_000;
const SESSIONS: usize = 2;

const DEVICE_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);
const STATION_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);

type Store = RamStore<'static, 64, 256>;

skiff_device::server_memory! {
    struct Memory { sessions: SESSIONS, data: 1, name: 64 }
    struct Buffers { buffer: 2048, spare: 1024 }
    type Server;
}

/// The device, and a station that sends given frames and answers only ARP.
struct Station {
    now: Instant,
    stack: Stack<'static>,
    server: Server<'static, Store>,
    store: Store,
    device: End,
    end: End,
    /// The number of the last DHCP exchange that the device has begun.
    transaction: u32,
    /// Frames received since the last check.
    segments: Vec<Segment>,
    /// The hosts that the device's address was sent to.
    told: Vec<IpAddr>,
}

/// A TCP segment from the device.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    port: u16,
    control: TcpControl,
    seq: TcpSeqNumber,
    ack: Option<TcpSeqNumber>,
    payload: Vec<u8>,
}

fn start(ipv4: Ipv4, ipv6: Ipv6) -> Result<Station, ConfigError> {
    let (mut device, end) = cable();
    let now = Instant::from_millis(1);
    let mut network = Network::new(DEVICE_MAC.0, ipv4);
    network.ipv6 = ipv6;
    let mut stack = Stack::new(&network, &mut device, SocketSet::new(Vec::new()), now)?;
    let memory = Box::leak(Box::new(Memory::new())).lend(Box::leak(Box::new(Buffers::new())));
    let server = DeviceServer::new(&Config::new(PORT, &[PORT + 1]), memory, &mut stack.sockets)?;
    let store = RamStore::new(Box::leak(Box::new(RamMemory::<16, 64, 64, 256>::new())), 1);
    Ok(Station { now, stack, server, store, device, end, transaction: 0, segments: Vec::new(), told: Vec::new() })
}

fn fixed() -> Station {
    start(Ipv4::Static { address: DEVICE, prefix: 24, gateway: None }, Ipv6::Off).unwrap()
}

impl Station {
    /// Polls the device until it has nothing more to do at this moment; returns the time until it will.
    fn settle(&mut self) -> Option<Duration> {
        for _ in 0..1000 {
            let delay = self.stack.poll(self.now, &mut self.device, &mut self.server, &mut self.store);
            while let Some((frame, _)) = self.end.receive(smoltcp::time::Instant::ZERO) {
                let frame = frame.consume(<[u8]>::to_vec);
                self.hear(&frame);
            }
            if delay != Some(Duration::ZERO) && !self.device.has_frames() {
                return delay;
            }
        }
        panic!("at {:?} the device never comes to rest", self.now);
    }

    /// Lets time pass.
    fn wait(&mut self, time: Duration) {
        let end = self.now.after(time);
        while self.now < end {
            let delay = self.settle().unwrap_or(time);
            self.now = end.min(self.now.after(delay.max(Duration::from_millis(1))));
        }
        self.settle();
    }

    fn send(&mut self, frame: &[u8]) {
        self.queue(frame);
        self.settle();
    }

    /// Sends a frame that the device processes together with the next one.
    fn queue(&mut self, frame: &[u8]) {
        self.end
            .transmit(smoltcp::time::Instant::ZERO)
            .unwrap()
            .consume(frame.len(), |room| room.copy_from_slice(frame));
    }

    fn hear(&mut self, frame: &[u8]) {
        let ethernet = EthernetFrame::new_checked(frame).unwrap();
        match ethernet.ethertype() {
            EthernetProtocol::Arp => {
                let arp = ArpRepr::parse(&ArpPacket::new_checked(ethernet.payload()).unwrap()).unwrap();
                let ArpRepr::EthernetIpv4 {
                    operation,
                    source_hardware_addr,
                    source_protocol_addr,
                    target_hardware_addr,
                    target_protocol_addr,
                } = arp
                else {
                    return;
                };
                if operation == ArpOperation::Reply {
                    assert_eq!((source_hardware_addr, source_protocol_addr), (DEVICE_MAC, DEVICE));
                    assert_eq!(ethernet.dst_addr(), target_hardware_addr);
                    self.told.push(IpAddr::V4(target_protocol_addr));
                } else if target_protocol_addr != NOBODY {
                    self.queue(&arp_frame(ArpOperation::Reply, STATION_MAC, target_protocol_addr));
                }
            }
            EthernetProtocol::Ipv6 => {
                let ip = Ipv6Packet::new_checked(ethernet.payload()).unwrap();
                let (from, to) = (ip.src_addr(), ip.dst_addr());
                match ip.next_header() {
                    IpProtocol::Tcp => self.hear_tcp(ip.payload(), from.into(), to.into()),
                    IpProtocol::Icmpv6 => {
                        let packet = Icmpv6Packet::new_checked(ip.payload()).unwrap();
                        match Icmpv6Repr::parse(&from, &to, &packet, &ChecksumCapabilities::default()).unwrap() {
                            Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { target_addr, lladdr, .. }) => {
                                assert_eq!((target_addr, lladdr), (DEVICE_V6, Some(DEVICE_MAC.into())));
                                self.told.push(IpAddr::V6(to));
                            }
                            Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr, .. }) => {
                                self.queue(&advert(STATION_MAC, target_addr));
                            }
                            _ => {}
                        }
                    }
                    _ => {}
                }
            }
            EthernetProtocol::Ipv4 => {
                let ip = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
                match ip.next_header() {
                    IpProtocol::Tcp => self.hear_tcp(ip.payload(), ip.src_addr().into(), ip.dst_addr().into()),
                    IpProtocol::Udp => {
                        let udp = UdpPacket::new_checked(ip.payload()).unwrap();
                        self.transaction = DhcpPacket::new_checked(udp.payload()).unwrap().transaction_id();
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn hear_tcp(&mut self, payload: &[u8], from: IpAddress, to: IpAddress) {
        let tcp = TcpPacket::new_checked(payload).unwrap();
        let tcp = TcpRepr::parse(&tcp, &from, &to, &ChecksumCapabilities::default()).unwrap();
        self.segments.push(Segment {
            port: tcp.dst_port,
            control: tcp.control,
            seq: tcp.seq_number,
            ack: tcp.ack_number,
            payload: tcp.payload.to_vec(),
        });
    }

    fn heard(&mut self) -> Vec<Segment> {
        core::mem::take(&mut self.segments)
    }

    /// Assigns [`DEVICE`] to the device, as its DHCP server at `from`.
    fn lease(&mut self, kind: DhcpMessageType, from: Ipv4Addr, router: Ipv4Addr, seconds: u32) {
        let repr = DhcpRepr {
            message_type: kind,
            transaction_id: self.transaction,
            secs: 0,
            client_hardware_address: DEVICE_MAC,
            client_ip: Ipv4Addr::UNSPECIFIED,
            your_ip: DEVICE,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: Some(router),
            subnet_mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: true,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(STATION),
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: Some(seconds),
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        let udp = UdpRepr { src_port: DHCP_SERVER_PORT, dst_port: DHCP_CLIENT_PORT };
        let len = udp.header_len() + repr.buffer_len();
        let frame = ipv4(from, Ipv4Addr::BROADCAST, IpProtocol::Udp, len, |payload| {
            let (from, to) = (IpAddress::Ipv4(from), IpAddress::Ipv4(Ipv4Addr::BROADCAST));
            let emit = |payload: &mut [u8]| repr.emit(&mut DhcpPacket::new_unchecked(payload)).unwrap();
            let mut packet = UdpPacket::new_unchecked(payload);
            udp.emit(&mut packet, &from, &to, repr.buffer_len(), emit, &ChecksumCapabilities::default());
        });
        self.send(&frame);
    }

    /// OFFER and ACK.
    fn give(&mut self, from: Ipv4Addr, router: Ipv4Addr, seconds: u32) {
        self.settle();
        self.lease(DhcpMessageType::Offer, from, router, seconds);
        self.lease(DhcpMessageType::Ack, from, router, seconds);
    }

    fn has_address(&self) -> bool {
        (0..).map_while(|index| self.stack.address(index)).any(|(address, _)| address == IpAddr::V4(DEVICE))
    }

    fn say(&mut self, peer: &Peer, control: TcpControl, payload: &[u8]) {
        let frame = peer.segment(control, payload);
        self.send(&frame);
    }

    /// A connection from `port`, up to the last step of the handshake.
    fn connect(&mut self, port: u16) -> Peer {
        self.shake(Peer::new(STATION, port, 1000))
    }

    fn shake(&mut self, mut peer: Peer) -> Peer {
        self.say(&peer, TcpControl::Syn, &[]);
        let heard = self.heard();
        let answer = heard.iter().find(|segment| segment.port == peer.port).expect("an answer");
        assert_eq!(answer.control, TcpControl::Syn, "{}", peer.port);
        peer.seq += 1;
        peer.ack = Some(answer.seq + 1);
        peer
    }

    /// Takes the input of a connection: returns the number of bytes, and whether it has ended.
    fn take(&mut self, peer: &mut Peer) -> (usize, bool) {
        let mut taken = 0;
        for segment in self.heard().iter().filter(|segment| segment.port == peer.port) {
            if segment.control == TcpControl::Rst {
                return (taken, true);
            }
            if Some(segment.seq) == peer.ack {
                taken += segment.payload.len();
                peer.ack = Some(segment.seq + segment.payload.len());
                if segment.control == TcpControl::Fin {
                    return (taken, true);
                }
            }
        }
        (taken, false)
    }

    /// Sends a `ping`.
    #[track_caller]
    fn ping(&mut self, peer: &mut Peer) {
        assert_eq!(self.ask(peer, "ping"), b"0000000002ok");
    }

    /// Sends a command over a connection that is established, or almost; returns the reply, which arrives in one piece.
    #[track_caller]
    fn ask(&mut self, peer: &mut Peer, command: &str) -> Vec<u8> {
        let message = message(command);
        self.say(peer, TcpControl::Psh, &message);
        peer.seq += message.len();
        let (heard, others) = self.heard().into_iter().partition::<Vec<_>, _>(|segment| segment.port == peer.port);
        self.segments = others;
        // Something new: no keep-alive.
        let reply = heard.iter().find(|segment| Some(segment.seq) == peer.ack && !segment.payload.is_empty());
        let reply = reply.unwrap_or_else(|| panic!("no reply: {heard:?}")).clone();
        peer.ack = Some(reply.seq + reply.payload.len());
        self.say(peer, TcpControl::None, &[]);
        reply.payload
    }
}

/// The station's end of a connection.
struct Peer {
    address: IpAddr,
    port: u16,
    /// The device's port.
    to: u16,
    /// Bytes that it accepts.
    window: u16,
    seq: TcpSeqNumber,
    ack: Option<TcpSeqNumber>,
}

impl Peer {
    fn new(address: impl Into<IpAddr>, port: u16, seq: i32) -> Self {
        Self { address: address.into(), port, to: PORT, window: 10_000, seq: TcpSeqNumber(seq), ack: None }
    }

    fn segment(&self, control: TcpControl, payload: &[u8]) -> Vec<u8> {
        let repr = TcpRepr {
            src_port: self.port,
            dst_port: self.to,
            control,
            seq_number: self.seq,
            ack_number: self.ack.filter(|_| control != TcpControl::Syn),
            window_len: self.window,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        let emit = |payload: &mut [u8], to: IpAddress| {
            let from = self.address.into();
            repr.emit(&mut TcpPacket::new_unchecked(payload), &from, &to, &ChecksumCapabilities::default());
        };
        let len = repr.buffer_len();
        match self.address {
            IpAddr::V4(from) => ipv4(from, DEVICE, IpProtocol::Tcp, len, |payload| emit(payload, DEVICE.into())),
            IpAddr::V6(from) => ipv6(from, DEVICE_V6, IpProtocol::Tcp, len, |payload| emit(payload, DEVICE_V6.into())),
        }
    }
}

fn ethernet_frame(ethertype: EthernetProtocol, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; 14 + len];
    let repr = EthernetRepr { src_addr: STATION_MAC, dst_addr: DEVICE_MAC, ethertype };
    repr.emit(&mut EthernetFrame::new_unchecked(&mut bytes));
    bytes
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, next_header: IpProtocol, len: usize, emit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let repr = Ipv4Repr { src_addr: from, dst_addr: to, next_header, payload_len: len, hop_limit: 64 };
    let mut bytes = ethernet_frame(EthernetProtocol::Ipv4, repr.buffer_len() + len);
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[14..]);
    repr.emit(&mut packet, &ChecksumCapabilities::default());
    emit(packet.payload_mut());
    bytes
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next_header: IpProtocol, len: usize, emit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let repr = Ipv6Repr { src_addr: from, dst_addr: to, next_header, payload_len: len, hop_limit: 255 };
    let mut bytes = ethernet_frame(EthernetProtocol::Ipv6, repr.buffer_len() + len);
    let mut packet = Ipv6Packet::new_unchecked(&mut bytes[14..]);
    repr.emit(&mut packet);
    emit(packet.payload_mut());
    bytes
}

/// A frame from `address`, which is at `mac`, about the device.
fn arp_frame(operation: ArpOperation, mac: EthernetAddress, address: Ipv4Addr) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: mac,
        source_protocol_addr: address,
        target_hardware_addr: DEVICE_MAC,
        target_protocol_addr: DEVICE,
    };
    let mut bytes = ethernet_frame(EthernetProtocol::Arp, repr.buffer_len());
    bytes[6..12].copy_from_slice(&mac.0);
    repr.emit(&mut ArpPacket::new_unchecked(&mut bytes[14..]));
    bytes
}

fn ndisc(mac: EthernetAddress, from: Ipv6Addr, to: Ipv6Addr, repr: NdiscRepr<'_>) -> Vec<u8> {
    let repr = Icmpv6Repr::Ndisc(repr);
    let mut bytes = ipv6(from, to, IpProtocol::Icmpv6, repr.buffer_len(), |payload| {
        let caps = ChecksumCapabilities::default();
        repr.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(payload), &caps);
    });
    bytes[6..12].copy_from_slice(&mac.0);
    bytes
}

/// `address` announces that it is at `mac`.
fn advert(mac: EthernetAddress, address: Ipv6Addr) -> Vec<u8> {
    let flags = NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE;
    ndisc(mac, address, DEVICE_V6, NdiscRepr::NeighborAdvert { flags, target_addr: address, lladdr: Some(mac.into()) })
}

/// `address`, which is at `mac`, asks where the device is.
fn question(mac: EthernetAddress, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp_frame(ArpOperation::Request, mac, address),
        IpAddr::V6(address) => {
            // Its solicited-node address.
            let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 2);
            let repr = NdiscRepr::NeighborSolicit { target_addr: DEVICE_V6, lladdr: Some(mac.into()) };
            ndisc(mac, address, to, repr)
        }
    }
}

/// The same as an unsolicited reply.
fn claim(mac: EthernetAddress, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp_frame(ArpOperation::Reply, mac, address),
        IpAddr::V6(address) => advert(mac, address),
    }
}

#[test]
fn made_up_neighbors_neither_slow_a_client_down_nor_keep_one_out() {
    for (us, stranger) in [
        (IpAddr::V4(STATION), (|i| Ipv4Addr::from_bits(DEVICE.to_bits() + 10 + i).into()) as fn(u32) -> IpAddr),
        (IpAddr::V6(STATION_V6), |i| Ipv6Addr::from_bits(DEVICE_V6.to_bits() + 10 + u128::from(i)).into()),
    ] {
        let ipv4 = Ipv4::Static { address: DEVICE, prefix: 8, gateway: None };
        let mut station = start(ipv4, Ipv6::Static { address: DEVICE_V6, prefix: 64, gateway: None }).unwrap();
        station.send(&question(STATION_MAC, us));
        let mut client = station.shake(Peer::new(us, 40_001, 1000));
        station.told.clear();
        let mut asked = Vec::new();
        let mut newcomers = 0;
        // For 20 s, 2,000 frames a second.
        for round in 0..2000 {
            for i in (0..20).map(|i: u32| 20 * round + i) {
                let mac = EthernetAddress([2, 1, 0, 0, i.to_be_bytes()[2], i.to_be_bytes()[3]]);
                let address = stranger(i);
                if i % 2 == 0 {
                    station.queue(&question(mac, address));
                    asked.push(address);
                } else {
                    station.queue(&claim(mac, address));
                }
            }
            station.settle();
            station.now = station.now.after(Duration::from_millis(10));
            // At once: `ask` lets no time pass.
            if round % 10 == 0 {
                station.ping(&mut client);
            }
            // A host that the device does not know can connect within a second.
            if round % 400 == 200 {
                newcomers += 1;
                let mut newcomer = Peer::new(stranger(1 << 20 | round), 41_000, 1000);
                station.send(&question(STATION_MAC, newcomer.address));
                station.say(&newcomer, TcpControl::Syn, &[]);
                station.wait(Duration::from_secs(1));
                let heard = station.heard();
                let answer = heard.iter().find(|segment| segment.control == TcpControl::Syn).expect("an answer");
                (newcomer.seq, newcomer.ack) = (newcomer.seq + 1, Some(answer.seq + 1));
                station.ping(&mut newcomer);
                station.say(&newcomer, TcpControl::Rst, &[]);
                asked.push(newcomer.address);
            }
        }
        assert_eq!(newcomers, 5);
        // Each of them has received the device's address, once.
        assert!(station.told == asked, "{} of {}", station.told.len(), asked.len());
    }
}

#[test]
fn a_router_that_is_nobody_is_left_out_of_a_lease() {
    for router in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)] {
        let mut station = start(Ipv4::Dhcp, Ipv6::Off).unwrap();
        station.give(STATION, router, 3600);
        assert!(station.has_address(), "{router}");
        // Somebody beyond the router, to whom an answer is owed.
        let far = Peer::new(FAR, 40_000, 1);
        station.say(&far, TcpControl::Syn, &[]);
        station.wait(Duration::from_secs(10));
        let mut peer = station.connect(40_001);
        station.ping(&mut peer);
    }
}

#[test]
fn a_dhcp_server_that_speaks_as_nobody_is_not_believed() {
    for seconds in [0, 1, 3600] {
        let mut station = start(Ipv4::Dhcp, Ipv6::Off).unwrap();
        station.give(Ipv4Addr::UNSPECIFIED, STATION, seconds);
        assert!(!station.has_address());
        station.wait(Duration::from_secs(3600));
        station.give(STATION, STATION, 3600);
        assert!(station.has_address());
        let mut peer = station.connect(40_001);
        station.ping(&mut peer);
    }
}

#[test]
fn an_address_that_can_be_nobodys_is_a_mistake_in_the_configuration() {
    let v4 = |address, gateway| Ipv4::Static { address, prefix: 24, gateway };
    for ipv4 in [
        v4(Ipv4Addr::UNSPECIFIED, None),
        v4(Ipv4Addr::BROADCAST, None),
        v4(DEVICE, Some(Ipv4Addr::UNSPECIFIED)),
        v4(DEVICE, Some(Ipv4Addr::new(224, 0, 0, 1))),
    ] {
        assert_eq!(start(ipv4, Ipv6::Off).err(), Some(ConfigError::Address), "{ipv4:?}");
    }
    let v6 = |address: &str, gateway: Option<&str>| Ipv6::Static {
        address: address.parse().unwrap(),
        prefix: 64,
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
    };
    for ipv6 in [v6("::", None), v6("ff02::1", None), v6("fd00::1", Some("::")), v6("fd00::1", Some("ff02::1"))] {
        assert_eq!(start(Ipv4::Off, ipv6).err(), Some(ConfigError::Address), "{ipv6:?}");
    }
}

#[test]
fn a_syn_that_comes_twice_does_not_end_its_connection() {
    let mut station = fixed();
    let mut first = station.connect(40_001);
    station.ping(&mut first);
    let mut second = station.connect(40_002);
    station.ping(&mut second);
    // From now on the first one's socket listens, before the other in the row.
    station.say(&first, TcpControl::Rst, &[]);
    let again = Peer::new(STATION, 40_002, 1000);
    for _ in 0..3 {
        station.say(&again, TcpControl::Syn, &[]);
        assert_eq!(station.heard(), []);
        station.ping(&mut second);
    }
    // Nor does it take anybody's place.
    let mut third = station.connect(40_003);
    station.ping(&mut third);
}

#[test]
fn a_handshake_whose_syn_comes_twice_is_one() {
    let mut station = fixed();
    let first = station.connect(40_001);
    let mut second = station.connect(40_002);
    station.say(&first, TcpControl::Rst, &[]);
    let again = Peer::new(STATION, 40_002, 1000);
    station.say(&again, TcpControl::Syn, &[]);
    station.ping(&mut second);
}

#[test]
fn a_client_that_has_started_anew_gets_in_from_the_port_that_it_had() {
    let mut station = fixed();
    let mut before = station.connect(40_001);
    station.ping(&mut before);
    let begin = station.now;
    let after = Peer::new(STATION, 40_001, 77_000);
    loop {
        station.say(&after, TcpControl::Syn, &[]);
        station.wait(Duration::from_secs(1));
        let heard = station.heard();
        if let Some(answer) = heard.iter().find(|segment| segment.control == TcpControl::Syn) {
            let mut after = Peer { seq: after.seq + 1, ack: Some(answer.seq + 1), ..after };
            station.ping(&mut after);
            break;
        }
        if !heard.is_empty() {
            // It knows nothing of such a connection.
            station.say(&before, TcpControl::Rst, &[]);
        }
        assert!(station.now.since(begin) < Duration::from_secs(15), "{heard:?}");
    }
}

#[test]
fn handshakes_that_nobody_finishes_keep_nobody_out() {
    let mut station = fixed();
    let mut before = station.connect(30_000);
    station.ping(&mut before);
    for i in 0..200 {
        let forged = Peer::new(NOBODY, 40_000 + i, 1);
        station.say(&forged, TcpControl::Syn, &[]);
        if i % 20 == 0 {
            let mut peer = station.connect(30_001 + i);
            station.ping(&mut peer);
            station.ping(&mut before);
            station.say(&peer, TcpControl::Rst, &[]);
        }
    }
    let mut last = station.connect(31_000);
    station.ping(&mut last);
    // All sessions are taken now, and whoever comes is told so.
    station.say(&Peer::new(STATION, 31_001, 1), TcpControl::Syn, &[]);
    assert!(station.heard().iter().any(|segment| segment.port == 31_001 && segment.control == TcpControl::Rst));
}

/// A connection that was used and that the device has ended; its end is not acknowledged yet.
fn quit(station: &mut Station, port: u16) -> Peer {
    let mut peer = station.connect(port);
    station.ping(&mut peer);
    let quit = message("quit");
    station.say(&peer, TcpControl::Psh, &quit);
    peer.seq += quit.len();
    assert_eq!(station.take(&mut peer), (0, true));
    peer
}

#[test]
fn the_end_of_a_connection_is_acknowledged_before_its_socket_listens_again() {
    let mut station = fixed();
    for port in 40_001..40_020 {
        let mut peer = quit(&mut station, port);
        peer.ack = peer.ack.map(|ack| ack + 1);
        station.say(&peer, TcpControl::Fin, &[]);
        let heard = station.heard();
        let ends: Vec<_> = heard.iter().map(|segment| (segment.control, segment.ack)).collect();
        assert_eq!(ends, [(TcpControl::None, Some(peer.seq + 1))], "{port}");
    }
}

#[test]
fn connections_that_are_about_to_end_keep_nobody_out() {
    for port in (40_000..40_050).step_by(5) {
        let mut station = fixed();
        // The device's end of the first is on its way, and so is that of the second, whose peer has ended its own.
        quit(&mut station, port);
        let mut second = station.connect(port + 1);
        station.ping(&mut second);
        station.say(&second, TcpControl::Fin, &[]);
        let mut third = station.connect(port + 2);
        station.ping(&mut third);
        // The third has ended, but the device has not looked at that when the fourth comes.
        station.queue(&third.segment(TcpControl::Fin, &[]));
        let mut fourth = station.connect(port + 3);
        station.ping(&mut fourth);
    }
}

/// A peer that reads `window` bytes every 10 s downloads a file of 2,000 bytes, all of which is in the socket buffer.
/// Returns how long the data connection lasts, and how many bytes arrived.
fn fetch_slowly(window: u16) -> (Duration, usize) {
    let mut station = fixed();
    let mut control = station.connect(40_001);
    let body = [&message("write 0 2000 - f")[..], &message([b'x'; 2000])].concat();
    for piece in body.chunks(1400).chain([&[&message("")[..], &message("crc32c a5feb4fb")].concat()[..]]) {
        station.say(&control, TcpControl::Psh, piece);
        control.seq += piece.len();
    }
    let heard = station.heard();
    let stored = heard.iter().find(|segment| segment.payload.starts_with(b"0000000016ok 2000 ")).expect("stored");
    control.ack = Some(stored.seq + stored.payload.len());
    assert_eq!(station.ask(&mut control, "get f"), b"000000000550001");
    let mut data = station.shake(Peer { to: PORT + 1, window: 0, ..Peer::new(STATION, 40_002, 5) });
    station.say(&data, TcpControl::None, &[]);
    let begin = station.now;
    let mut taken = 0;
    loop {
        for window in [0, window, 0] {
            data.window = window;
            station.say(&data, TcpControl::None, &[]);
            let (bytes, ended) = station.take(&mut data);
            taken += bytes;
            if ended {
                return (station.now.since(begin), taken);
            }
        }
        station.wait(Duration::from_secs(10));
        // So that the session lasts as long.
        station.ping(&mut control);
    }
}

#[test]
fn the_end_of_a_file_has_to_be_taken_as_fast_as_the_rest() {
    let (time, taken) = fetch_slowly(500);
    assert_eq!(taken, 2010);
    assert!(time >= Duration::from_secs(40), "{time:?}");
    let (time, taken) = fetch_slowly(1);
    assert!(taken < 10 && time <= Duration::from_secs(60), "{time:?}, {taken} bytes");
}

#[test]
fn a_stalled_data_connection_goes_to_who_waits_as_soon_as_it_is_given_up() {
    let mut station = fixed();
    let mut owner = station.connect(40_001);
    assert_eq!(station.ask(&mut owner, "put a"), b"000000000550001");
    let mut data = station.shake(Peer { to: PORT + 1, ..Peer::new(STATION, 40_002, 5) });
    station.say(&data, TcpControl::Psh, b"0000");
    data.seq += 4;
    let begin = station.now;
    station.wait(Duration::from_secs(5));
    let mut other = station.connect(40_003);
    let command = message("put b");
    station.say(&other, TcpControl::Psh, &command);
    other.seq += command.len();
    while station.now.since(begin) < Duration::from_secs(29) {
        station.wait(Duration::from_secs(1));
        // All of them are there.
        for peer in [&owner, &other, &data] {
            station.say(peer, TcpControl::None, &[]);
        }
        assert!(station.heard().iter().all(|segment| segment.port != other.port || segment.payload.len() < 10));
    }
    // To the very moment: nobody asks the device for more.
    station.wait(Duration::from_secs(30) - station.now.since(begin));
    let heard = station.heard();
    let reply = heard.iter().find(|segment| segment.port == other.port && segment.payload.len() > 10).expect("a reply");
    assert_eq!(reply.payload, b"000000000550001");
}
