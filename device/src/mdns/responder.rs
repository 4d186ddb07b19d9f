//! Decides what to send and when: RFC 6762 as a state machine without I/O.
//!
//! | step | what it sends | next |
//! |---|---|---|
//! | 0, 1, 2 | a probe: is the name free? | after 250 ms |
//! | 3, 4 | an announcement of all records | after 1 s |
//! | 5 | replies | when the addresses change: 0 |
//! | 6 | a goodbye | at once |
//! | 7 | nothing | |
//!
//! A conflict leads back to step 0: during probing with another name; later with the same name, so that only one of the
//! two devices changes its name.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use skiff_proto::Instant;

use super::identity::{Heard, Identity, family};
use super::kinds::{Kinds, Owner};
use super::message::{INTERNET, Reader, TOP, kind};
use super::records::{Lifetime, Writer};
use crate::bucket::Bucket;

/// The port of mDNS.
pub const PORT: u16 = 5353;
/// The group by IPv4.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// The group by IPv6.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// Maximum length of a sent message, in bytes.
pub const MESSAGE: usize = 512;

const PROBES: u8 = 3;
const ANNOUNCED: u8 = 5;
const GOODBYE: u8 = 6;
const ENDED: u8 = 7;

const PROBE_PAUSE: Duration = Duration::from_millis(250);
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(1);
/// How long a device waits after it has lost against another probe, or after many conflicts.
const LOST_PAUSE: Duration = Duration::from_secs(1);
const CONFLICT_PAUSE: Duration = Duration::from_secs(5);
const CONFLICTS: u8 = 15;
/// Minimum time between two multicast replies, and between two replies to probes.
const REPLY_PAUSE: Duration = Duration::from_secs(1);
/// What was multicast within this time may be sent by unicast.
const RECENT: Duration = Duration::from_secs(30);

/// Maximum number of messages processed in a burst; one more after each pause. Others are dropped unread.
type Looks = Bucket<32, 32>;

/// Answers for one device.
#[derive(Debug)]
pub struct Responder {
    identity: Identity,
    step: u8,
    /// When the next step is due.
    at: Instant,
    /// Families to which the message of this step has not been sent.
    unsent: u8,
    sides: [Side; 2],
    /// A unicast reply.
    alone: Option<Message>,
    looks: Looks,
    conflicts: u8,
    random: u32,
}

/// What is to be multicast over one address family.
#[derive(Debug, Clone, Copy, Default)]
struct Side {
    kinds: Kinds,
    due: Instant,
    /// What was sent last, and when.
    said: Kinds,
    last: Option<Instant>,
}

/// A message to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// The destination.
    pub to: SocketAddr,
    /// The source address; the port is [`PORT`].
    pub from: IpAddr,
    content: Content,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Probe,
    Records(Kinds, Lifetime),
    /// Includes the question.
    Legacy {
        id: u16,
        question: (Owner, u16, u16),
        kinds: Kinds,
    },
}

impl Responder {
    /// Creates the responder for a server on this port. Bytes of `name` that are not allowed in a host name become `-`;
    /// it is cut after 32 bytes. The default name is `skiff-` and the last three bytes of `mac`. `server` is the
    /// product and version. `random` should differ between devices that start at the same time.
    #[must_use]
    pub fn new(name: Option<&str>, mac: [u8; 6], port: u16, server: &'static str, random: u32) -> Self {
        Self {
            identity: Identity::new(name, mac, port, server),
            step: 0,
            at: Instant::ZERO,
            unsent: 0,
            sides: [Side::default(); 2],
            alone: None,
            looks: Looks::full(Instant::ZERO),
            conflicts: 0,
            random: random | 1,
        }
    }

    /// The name, without `.local`. It changes if another device has it.
    #[must_use]
    pub fn name(&self) -> &str {
        str::from_utf8(&self.identity.label).unwrap_or_default()
    }

    /// True once the name has been probed for and announced at least once.
    #[must_use]
    pub const fn is_announced(&self) -> bool {
        self.step > PROBES && self.step < GOODBYE
    }

    /// Sets the device's addresses with their prefix lengths, up to four. If they have changed, the name is probed for
    /// and announced again.
    pub fn set_addresses(&mut self, addresses: impl Iterator<Item = (IpAddr, u8)> + Clone, now: Instant) {
        if self.step < GOODBYE && self.identity.set_addresses(addresses) {
            let pause = self.random(250);
            self.probe(now.after(pause));
        }
    }

    /// From now on, sends nothing but a goodbye, if the name was announced.
    pub fn end(&mut self) {
        self.step = if self.is_announced() { GOODBYE } else { ENDED };
        self.unsent = 0;
        self.at = Instant::ZERO;
    }

    /// When [`Self::next`] will have a message, if none is received before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let step =
            (self.step != ANNOUNCED && self.step != ENDED && !self.identity.addresses.is_empty()).then_some(self.at);
        let is_open = self.is_open();
        let alone = self.alone.filter(|_| is_open).map(|_| Instant::ZERO);
        let sides = self.sides.iter().filter(|side| is_open && !side.kinds.is_empty()).map(|side| side.due);
        step.into_iter().chain(alone).chain(sides).min()
    }

    /// The next message to send. Write it with [`Self::write`] before calling anything else.
    pub fn next(&mut self, now: Instant) -> Option<Message> {
        if self.is_open()
            && let Some(message) = self.alone.take()
        {
            return Some(message);
        }
        if let Some(message) = self.next_step(now) {
            return Some(message);
        }
        let due = |side: &Side| !side.kinds.is_empty() && side.due <= now;
        let family = (0..2).find(|family| self.is_open() && due(&self.sides[*family]))?;
        let side = &mut self.sides[family];
        let kinds = core::mem::take(&mut side.kinds);
        let is_recent = side.last.is_some_and(|last| now.since(last) < REPLY_PAUSE);
        side.said = if is_recent { side.said.with(kinds) } else { kinds };
        side.last = Some(now);
        self.to_all(family, Content::Records(kinds, Lifetime::Usual))
    }

    /// Writes a message into `out`, which has [`MESSAGE`] bytes; returns its length. `None`: there is no room.
    pub fn write(&self, message: &Message, out: &mut [u8]) -> Option<usize> {
        const RESPONSE: u16 = 0x8400;
        match message.content {
            Content::Probe => {
                let mut writer = Writer::new(out, 0, 0, Lifetime::Usual, &self.identity)?;
                writer.question(Owner::Host, kind::ANY, INTERNET | TOP)?;
                writer.question(Owner::Instance, kind::ANY, INTERNET | TOP)?;
                writer.address(self.identity.claim()?)?;
                let service = writer.records(Kinds::SRV)?;
                writer.finish([2, 0, 1 + service, 0])
            }
            Content::Records(kinds, lifetime) => {
                let mut writer = Writer::new(out, 0, RESPONSE, lifetime, &self.identity)?;
                let answers = writer.records(kinds)?;
                let more = writer.records(kinds.additional())?;
                writer.finish([0, answers, 0, more])
            }
            Content::Legacy { id, question: (owner, kind, class), kinds } => {
                let mut writer = Writer::new(out, id, RESPONSE, Lifetime::Legacy, &self.identity)?;
                writer.question(owner, kind, class)?;
                let answers = writer.records(kinds)?;
                let more = writer.records(kinds.additional())?;
                writer.finish([1, answers, 0, more])
            }
        }
    }

    /// Processes a message that was sent from `from` to [`PORT`]. Messages that are malformed, come from another
    /// network or are too many are ignored.
    pub fn handle(&mut self, from: SocketAddr, message: &[u8], now: Instant) {
        // Messages from another network are not answered.
        let Some(own) = self.identity.own_address(from.ip()).filter(|_| from.port() != 0 && self.may_look(now)) else {
            return;
        };
        let Some((header, mut reader)) = Reader::new(message) else { return };
        let heard = if header.is_response {
            // A response from another port is not valid (RFC 6762 section 6).
            if from.port() != PORT {
                return;
            }
            self.identity.hear_response(&header, &mut reader)
        } else {
            self.identity.hear_query(&header, &mut reader)
        };
        let Some(heard) = heard else { return };
        if heard.conflict {
            self.conflict(now);
        } else if heard.lost && self.step < PROBES {
            self.probe(now.after(LOST_PAUSE));
        } else if self.is_open() {
            self.answer(from, own, header.id, &heard, now);
        }
    }

    /// Plans the reply to a query.
    fn answer(&mut self, from: SocketAddr, own: IpAddr, id: u16, heard: &Heard, now: Instant) {
        let Some(question) = heard.question else { return };
        let kinds = heard.asked.without(heard.known);
        if kinds.is_empty() {
            return;
        }
        // Other devices may answer for a shared name at the same time.
        let is_shared = kinds.has(Kinds::PTR.with(Kinds::SERVICES));
        let apart = if is_shared { self.random(100) + Duration::from_millis(20) } else { Duration::ZERO };
        let side = &mut self.sides[family(&from.ip())];
        let is_recent = side.last.is_some_and(|last| now.since(last) < RECENT);
        let content = if from.port() != PORT {
            Content::Legacy { id, question, kinds }
        } else if heard.alone && !heard.is_probe && is_recent {
            Content::Records(kinds, Lifetime::Usual)
        } else {
            let pause = if heard.is_probe { PROBE_PAUSE } else { REPLY_PAUSE };
            let last = side.last.filter(|_| side.said.has(kinds));
            let due = last.map_or(now, |last| last.after(pause)).max(now).after(apart);
            side.due = if side.kinds.is_empty() { due } else { side.due.min(due) };
            side.kinds = side.kinds.with(kinds);
            return;
        };
        self.alone = Some(Message { to: from, from: own, content });
    }

    /// The message of this step, for one family after the other.
    fn next_step(&mut self, now: Instant) -> Option<Message> {
        if self.step == ANNOUNCED || self.step == ENDED || self.at > now {
            return None;
        }
        let families = self.identity.families();
        if families == 0 {
            return None;
        }
        if self.unsent == 0 {
            self.unsent = families;
        }
        let family = (0..2).find(|family| self.unsent & families & 1 << family != 0)?;
        self.unsent &= !(1 << family);
        let content = match self.step {
            ..PROBES => Content::Probe,
            GOODBYE => Content::Records(Kinds::ALL, Lifetime::Over),
            _ => Content::Records(Kinds::ALL, Lifetime::Usual),
        };
        if self.step >= PROBES {
            self.sides[family] = Side { said: Kinds::ALL, last: Some(now), ..Side::default() };
        }
        if self.unsent == 0 {
            self.at = now.after(if self.step < PROBES { PROBE_PAUSE } else { ANNOUNCE_PAUSE });
            self.step += 1;
        }
        self.to_all(family, content)
    }

    fn to_all(&self, family: usize, content: Content) -> Option<Message> {
        let group = if family == 0 { IpAddr::V4(GROUP_V4) } else { IpAddr::V6(GROUP_V6) };
        let from = self.identity.speaker(family)?;
        Some(Message { to: SocketAddr::new(group, PORT), from, content })
    }

    /// True if the device replies: the name is its own.
    const fn is_open(&self) -> bool {
        self.step >= PROBES && self.step < GOODBYE
    }

    /// Probes for the name from the beginning.
    fn probe(&mut self, at: Instant) {
        self.step = 0;
        self.unsent = 0;
        self.at = at;
        self.alone = None;
        for side in &mut self.sides {
            side.kinds = Kinds::NONE;
        }
    }

    /// Another device has the name.
    fn conflict(&mut self, now: Instant) {
        if self.step >= GOODBYE {
            return;
        }
        if self.step < PROBES {
            self.identity.rename();
        }
        self.conflicts = self.conflicts.saturating_add(1);
        let pause = if self.conflicts > CONFLICTS { CONFLICT_PAUSE } else { self.random(250) };
        self.probe(now.after(pause));
    }

    /// True if one more message may be processed now; counts it.
    fn may_look(&mut self, now: Instant) -> bool {
        self.looks.refill(now);
        self.looks.take()
    }

    /// A random duration of up to `most` milliseconds.
    fn random(&mut self, most: u32) -> Duration {
        // Xorshift: enough to separate devices that start together.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        Duration::from_millis(u64::from(self.random % most))
    }
}
