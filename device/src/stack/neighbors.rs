//! Limits what gets into the stack's neighbor cache.
//!
//! smoltcp learns the hardware address of every host that asks for ours, and its cache has eight entries. A flood of
//! requests from forged neighbors would evict the peers that have a connection, and smoltcp looks up at most one
//! neighbor a second. So ARP frames and IPv6 neighbor discovery pass through here first:
//!
//! | frame | action |
//! |---|---|
//! | a reply or request from the address that was looked up last | learned |
//! | another request for our address | answered; learned too, unless many have arrived |
//! | anything else | dropped |
//!
//! Each packet from a peer renews its entry, and at least one arrives in every keep-alive interval. In an interval of
//! 10 s at most six others are learned, so the entries of connected peers are never the oldest ones.

use core::cell::{Cell, RefCell};

use heapless::Vec;
use skiff_proto::Instant;
use smoltcp::iface::Interface;
use smoltcp::phy::{Device, DeviceCapabilities, PacketMeta, RxToken, TxToken};
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, Ipv4Address};
#[cfg(feature = "ipv6")]
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Address, Ipv6Packet,
    Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
};

use crate::bucket::Bucket;

/// Four neighbors may be learned in a burst, and one more in each 4 s.
type Lessons = Bucket<4, 4000>;

/// Our own addresses.
const OWN: usize = if cfg!(feature = "ipv6") { 3 } else { 1 };

/// The longest request: ARP, or a solicitation with two options.
const FRAME: usize = if cfg!(feature = "ipv6") { 94 } else { 42 };

/// Protects an interface's neighbor cache: the state between polls.
#[derive(Debug)]
pub struct NeighborGuard {
    learning: Cell<Learning>,
    /// A request that is withheld from the stack and will be answered here.
    held: RefCell<Vec<u8, FRAME, u8>>,
}

#[derive(Debug, Clone, Copy)]
struct Learning {
    /// The address that the stack looked up last.
    asked: Option<IpAddress>,
    lessons: Lessons,
}

/// Types of frames that are examined.
const ARP: u16 = 0x0806;
#[cfg(feature = "ipv6")]
const IPV6: u16 = 0x86dd;

/// The type of a frame.
fn kind(frame: &[u8]) -> u16 {
    if let Some(&[high, low]) = frame.get(12..14) { u16::from_be_bytes([high, low]) } else { 0 }
}

const fn is_looked_at(kind: u16) -> bool {
    #[cfg(feature = "ipv6")]
    if kind == IPV6 {
        return true;
    }
    kind == ARP
}

/// The content of an ARP or neighbor discovery frame.
#[derive(Debug, Clone, Copy)]
struct Said {
    is_question: bool,
    sender: IpAddress,
    /// The address whose hardware address is requested or announced.
    target: IpAddress,
}

impl Said {
    /// `None` for every other frame. The stack detects malformed frames.
    fn parse(frame: &[u8], kind: u16) -> Option<Self> {
        fn address<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
            bytes.get(at..at + N)?.try_into().ok()
        }
        match kind {
            ARP => Some(Self {
                is_question: frame.get(21) == Some(&1),
                sender: IpAddress::Ipv4(Ipv4Address::from(address(frame, 28)?)),
                target: IpAddress::Ipv4(Ipv4Address::from(address(frame, 38)?)),
            }),
            #[cfg(feature = "ipv6")]
            IPV6 if frame.get(20) == Some(&58) => match frame.get(54) {
                Some(kind @ (135 | 136)) => Some(Self {
                    is_question: *kind == 135,
                    sender: IpAddress::Ipv6(Ipv6Address::from(address::<16>(frame, 22)?)),
                    target: IpAddress::Ipv6(Ipv6Address::from(address::<16>(frame, 62)?)),
                }),
                _ => None,
            },
            _ => None,
        }
    }
}

/// A device whose frames pass a [`NeighborGuard`].
pub struct NeighborFilter<'a, D: ?Sized> {
    lower: &'a mut D,
    rules: Rules<'a>,
    mac: EthernetAddress,
}

/// The state that the tokens of a [`NeighborFilter`] share.
struct Rules<'a> {
    guard: &'a NeighborGuard,
    /// Our own addresses.
    own: Vec<IpAddress, OWN>,
}

impl NeighborGuard {
    /// A guard for a new interface.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        let learning = Learning { asked: None, lessons: Lessons::full(now) };
        Self { learning: Cell::new(learning), held: RefCell::new(Vec::new()) }
    }

    /// Filters the frames between `device` and `interface`, for one poll.
    pub fn filter<'a, D: Device + ?Sized>(
        &'a self,
        device: &'a mut D,
        interface: &Interface,
        now: Instant,
    ) -> NeighborFilter<'a, D> {
        let mut learning = self.learning.get();
        learning.lessons.refill(now);
        self.learning.set(learning);
        let own = interface.ip_addrs().iter().map(IpCidr::address).take(OWN).collect();
        // Without Ethernet there is no frame to be answered.
        let mac = interface.hardware_addr().as_bytes().try_into().map_or(EthernetAddress::BROADCAST, EthernetAddress);
        NeighborFilter { lower: device, rules: Rules { guard: self, own }, mac }
    }
}

impl Rules<'_> {
    /// True if the frame is withheld from the stack.
    #[cold]
    fn hold(&self, frame: &[u8], kind: u16) -> bool {
        // The stack would also accept neighbor discovery after this header, where no host puts it.
        #[cfg(feature = "ipv6")]
        if kind == IPV6 && frame.get(20) == Some(&0) {
            return true;
        }
        let Some(said) = Said::parse(frame, kind) else { return false };
        let mut learning = self.guard.learning.get();
        if learning.asked == Some(said.sender) {
            return false;
        }
        if !said.is_question || !self.own.contains(&said.target) {
            return true;
        }
        if learning.lessons.take() {
            self.guard.learning.set(learning);
            return false;
        }
        let mut held = self.guard.held.borrow_mut();
        held.clear();
        _ = held.extend_from_slice(&frame[..frame.len().min(FRAME)]);
        true
    }

    /// Records the address that the stack looks up.
    #[cold]
    fn ask(&self, frame: &[u8], kind: u16) {
        if let Some(Said { is_question: true, target, .. }) = Said::parse(frame, kind) {
            let learning = &self.guard.learning;
            learning.set(Learning { asked: Some(target), ..learning.get() });
        }
    }
}

impl<D: Device + ?Sized> NeighborFilter<'_, D> {
    /// Answers the request that was withheld last, if there is one.
    fn answer(&mut self, now: smoltcp::time::Instant) {
        let held = self.rules.guard.held.take();
        let Some(said) = Said::parse(&held, kind(&held)) else { return };
        let mac = self.mac;
        let hardware = EthernetAddress::from_bytes(&held[6..12]);
        if !said.sender.is_unicast() || !hardware.is_unicast() {
            return;
        }
        // If there is no room to send, the peer repeats its request.
        let Some(token) = self.lower.transmit(now) else { return };
        match (said.target, said.sender) {
            #[cfg(feature = "ipv6")]
            (IpAddress::Ipv6(target), IpAddress::Ipv6(sender)) => {
                let advert = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
                    flags: NdiscNeighborFlags::SOLICITED,
                    target_addr: target,
                    lladdr: Some(mac.into()),
                });
                let len = advert.buffer_len();
                let (next_header, hop_limit) = (IpProtocol::Icmpv6, 0xff);
                let ip = Ipv6Repr { src_addr: target, dst_addr: sender, next_header, payload_len: len, hop_limit };
                let ethernet = EthernetRepr { src_addr: mac, dst_addr: hardware, ethertype: EthernetProtocol::Ipv6 };
                token.consume(54 + len, |frame| {
                    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut *frame));
                    ip.emit(&mut Ipv6Packet::new_unchecked(&mut frame[14..]));
                    let packet = &mut Icmpv6Packet::new_unchecked(&mut frame[54..]);
                    advert.emit(&target, &sender, packet, &smoltcp::phy::ChecksumCapabilities::default());
                });
            }
            _ => token.consume(42, |frame| {
                if let (Some(frame), Some(held)) = (frame.first_chunk_mut::<42>(), held.first_chunk::<42>()) {
                    *frame = *held;
                    // The source and destination addresses are swapped.
                    frame[..6].copy_from_slice(&held[6..12]);
                    frame[6..12].copy_from_slice(&mac.0);
                    frame[21] = 2;
                    frame[22..28].copy_from_slice(&mac.0);
                    frame[28..32].copy_from_slice(&held[38..42]);
                    frame[32..42].copy_from_slice(&held[22..32]);
                }
            }),
        }
    }
}

impl<D: Device + ?Sized> Device for NeighborFilter<'_, D> {
    type RxToken<'b>
        = Rx<'b, D::RxToken<'b>>
    where
        Self: 'b;
    type TxToken<'b>
        = Tx<'b, D::TxToken<'b>>
    where
        Self: 'b;

    fn receive(&mut self, now: smoltcp::time::Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        self.answer(now);
        let rules = &self.rules;
        let (token, answer) = self.lower.receive(now)?;
        Some((Rx { token, rules }, Tx { token: answer, rules }))
    }

    fn transmit(&mut self, now: smoltcp::time::Instant) -> Option<Self::TxToken<'_>> {
        self.lower.transmit(now).map(|token| Tx { token, rules: &self.rules })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.lower.capabilities()
    }
}

/// A frame for the stack.
pub struct Rx<'a, T> {
    token: T,
    rules: &'a Rules<'a>,
}

impl<T: RxToken> RxToken for Rx<'_, T> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let rules = self.rules;
        self.token.consume(|frame| {
            let is_held = is_looked_at(kind(frame)) && rules.hold(frame, kind(frame));
            // The stack ignores an empty frame.
            f(if is_held { &[] } else { frame })
        })
    }

    fn meta(&self) -> PacketMeta {
        self.token.meta()
    }
}

/// Room for a frame of the stack.
pub struct Tx<'a, T> {
    token: T,
    rules: &'a Rules<'a>,
}

impl<T: TxToken> TxToken for Tx<'_, T> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let rules = self.rules;
        self.token.consume(len, |frame| {
            let result = f(frame);
            if is_looked_at(kind(frame)) {
                rules.ask(frame, kind(frame));
            }
            result
        })
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.token.set_meta(meta);
    }
}
