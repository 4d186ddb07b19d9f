//! A bad link: drops, corrupts, duplicates, delays and reorders frames in each direction, at random with a seed.

use core::cell::RefCell;
use core::str::FromStr;
use core::time::Duration;
use std::collections::VecDeque;

use fastrand::Rng;
use smoltcp::phy::{Device, DeviceCapabilities, RxToken, TxToken};
use smoltcp::time::Instant;

/// A probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chance {
    millionths: u32,
}

impl Chance {
    /// A percentage, at most 100.
    #[must_use]
    pub const fn percent(percent: u32) -> Self {
        assert!(percent <= 100, "0 to 100");
        Self { millionths: percent * 10_000 }
    }

    fn comes_up(self, random: &mut Rng) -> bool {
        self.millionths > 0 && random.u32(..1_000_000) < self.millionths
    }
}

impl FromStr for Chance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent: Option<f64> = text.strip_suffix('%').unwrap_or(text).parse().ok();
        match percent.filter(|percent| (0.0..=100.0).contains(percent)) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to a million")]
            Some(percent) => Ok(Self { millionths: (percent * 10_000.0).round() as u32 }),
            None => Err("must be a percentage, 0 to 100".into()),
        }
    }
}

/// What happens to frames, in each direction. The default is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// It does not arrive.
    pub drop: Chance,
    /// One of its bytes is changed.
    pub corrupt: Chance,
    /// It arrives twice.
    pub duplicate: Chance,
    /// It is delayed by up to 5 ms more, so that others overtake it.
    pub reorder: Chance,
    /// The delay of all frames.
    pub delay: Duration,
}

impl Faults {
    /// True if nothing happens to any frame.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The maximum additional delay of a frame, in microseconds.
const LATE: u64 = 5000;
/// The maximum number of frames in flight in one direction. More are dropped, as in a queue.
const FRAMES: usize = 1024;

/// A device behind a bad link.
#[derive(Debug)]
pub struct Faulty<D> {
    lower: D,
    faults: Faults,
    cut: bool,
    random: RefCell<Rng>,
    incoming: RefCell<Queue>,
    outgoing: RefCell<Queue>,
}

/// Frames in flight, ordered by arrival time.
#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<(Instant, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
}

impl Queue {
    fn vec(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    fn push(&mut self, due: Instant, frame: Vec<u8>) {
        if self.frames.len() >= FRAMES {
            self.spare.push(frame);
            return;
        }
        let at = self.frames.partition_point(|(other, _)| *other <= due);
        self.frames.insert(at, (due, frame));
    }

    fn pop(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.frames.pop_front_if(|(due, _)| *due <= now).map(|(_, frame)| frame)
    }

    /// Applies the faults to a frame that is being sent.
    fn pass(&mut self, mut frame: Vec<u8>, faults: &Faults, random: &mut Rng, now: Instant) {
        if faults.drop.comes_up(random) {
            self.spare.push(frame);
            return;
        }
        if faults.corrupt.comes_up(random) && !frame.is_empty() {
            let at = random.usize(..frame.len());
            frame[at] ^= random.u8(1..);
        }
        let mut delay = u64::try_from(faults.delay.as_micros()).unwrap_or(u64::MAX);
        if faults.reorder.comes_up(random) {
            delay += random.u64(1..=LATE);
        }
        let due = now + smoltcp::time::Duration::from_micros(delay);
        if faults.duplicate.comes_up(random) {
            let mut twin = self.vec();
            twin.clone_from(&frame);
            self.push(due, twin);
        }
        self.push(due, frame);
    }
}

impl<D: Device> Faulty<D> {
    /// `lower` behind a link with these faults; the same seed and the same frames give the same faults.
    pub fn new(lower: D, faults: Faults, seed: u64) -> Self {
        Self {
            lower,
            faults,
            cut: false,
            random: RefCell::new(Rng::with_seed(seed)),
            incoming: RefCell::default(),
            outgoing: RefCell::default(),
        }
    }

    /// Changes the faults.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// True: drops all frames in both directions, also those in transit.
    pub fn set_cut(&mut self, cut: bool) {
        self.cut = cut;
        self.incoming.get_mut().frames.clear();
        self.outgoing.get_mut().frames.clear();
    }

    /// The device behind the link.
    pub const fn lower(&self) -> &D {
        &self.lower
    }

    /// Delivers frames whose time has come; returns the time of the next one.
    pub fn advance(&mut self, now: Instant) -> Option<Instant> {
        // Bounded: others may fill the device as fast as it is emptied.
        for _ in 0..FRAMES {
            let Some((token, _)) = self.lower.receive(now) else { break };
            let incoming = self.incoming.get_mut();
            let mut frame = incoming.vec();
            token.consume(|bytes| {
                frame.clear();
                frame.extend_from_slice(bytes);
            });
            if self.cut {
                incoming.spare.push(frame);
            } else {
                incoming.pass(frame, &self.faults, self.random.get_mut(), now);
            }
        }
        let outgoing = self.outgoing.get_mut();
        while outgoing.frames.front().is_some_and(|(due, _)| *due <= now) {
            let Some(token) = self.lower.transmit(now) else { break };
            if let Some(frame) = outgoing.pop(now) {
                token.consume(frame.len(), |room| room.copy_from_slice(&frame));
                outgoing.spare.push(frame);
            }
        }
        let fronts = [&*self.incoming.get_mut(), outgoing].map(|queue| queue.frames.front().map(|(due, _)| *due));
        fronts.into_iter().flatten().min()
    }
}

impl<D: Device> Device for Faulty<D> {
    type RxToken<'a>
        = Arrived<'a>
    where
        D: 'a;
    type TxToken<'a>
        = Room<'a>
    where
        D: 'a;

    fn receive(&mut self, now: Instant) -> Option<(Arrived<'_>, Room<'_>)> {
        _ = self.advance(now);
        let frame = self.incoming.get_mut().pop(now)?;
        let arrived = Arrived { frame, queue: &self.incoming };
        Some((arrived, room(&self.outgoing, &self.random, (!self.cut).then_some(&self.faults), now)))
    }

    fn transmit(&mut self, now: Instant) -> Option<Room<'_>> {
        Some(room(&self.outgoing, &self.random, (!self.cut).then_some(&self.faults), now))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.lower.capabilities()
    }
}

/// A frame that has arrived.
#[derive(Debug)]
pub struct Arrived<'a> {
    frame: Vec<u8>,
    queue: &'a RefCell<Queue>,
}

impl RxToken for Arrived<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let result = f(&self.frame);
        self.queue.borrow_mut().spare.push(self.frame);
        result
    }
}

/// Room for a frame.
#[derive(Debug)]
pub struct Room<'a> {
    queue: &'a RefCell<Queue>,
    random: &'a RefCell<Rng>,
    /// `None`: the link is cut.
    faults: Option<&'a Faults>,
    now: Instant,
}

const fn room<'a>(
    queue: &'a RefCell<Queue>,
    random: &'a RefCell<Rng>,
    faults: Option<&'a Faults>,
    now: Instant,
) -> Room<'a> {
    Room { queue, random, faults, now }
}

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut queue = self.queue.borrow_mut();
        let mut frame = queue.vec();
        frame.clear();
        frame.resize(len, 0);
        let result = f(&mut frame);
        match self.faults {
            Some(faults) => queue.pass(frame, faults, &mut self.random.borrow_mut(), self.now),
            None => queue.spare.push(frame),
        }
        result
    }
}
