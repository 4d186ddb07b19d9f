//! Frames that no correct station sends, one at a time, in virtual time.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod addresses;
mod connections;
mod frames;
mod transfers;

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
    EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv6Packet, Icmpv6Repr, IpAddress, IpProtocol, Ipv4Packet,
    Ipv6Packet, NdiscRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

use frames::{advert, arp_frame, ipv4, ipv6};

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
    /// The hosts that received the device's address.
    informed: Vec<IpAddr>,
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
    Ok(Station { now, stack, server, store, device, end, transaction: 0, segments: Vec::new(), informed: Vec::new() })
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
                    self.informed.push(IpAddr::V4(target_protocol_addr));
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
                                self.informed.push(IpAddr::V6(to));
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

    /// Shows the device that the peers are still there.
    fn answer_keep_alives(&mut self, peers: &[Peer]) {
        for peer in peers {
            self.say(peer, TcpControl::None, &[]);
        }
    }

    fn say(&mut self, peer: &Peer, control: TcpControl, payload: &[u8]) {
        let frame = peer.segment(control, payload);
        self.send(&frame);
    }

    /// A connection from `port`, except for the last step of the handshake.
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
        // New data: not a keep-alive.
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
