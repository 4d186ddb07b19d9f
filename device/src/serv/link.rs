//! An in-memory link between two stacks in the same thread.

use core::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// The longest frame: an Ethernet header and 1,500 bytes of payload.
pub const FRAME: usize = 1514;
/// Frames in flight in one direction; a stack that wants to send more waits.
const FRAMES: usize = 64;

/// One end of the cable.
#[derive(Debug)]
pub struct End {
    incoming: Direction,
    outgoing: Direction,
}

type Direction = Rc<RefCell<Queue>>;

/// Frames in flight, and memory for more.
#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

/// A new cable.
#[must_use]
pub fn cable() -> (End, End) {
    let (there, back) = (Direction::default(), Direction::default());
    (End { incoming: there.clone(), outgoing: back.clone() }, End { incoming: back, outgoing: there })
}

impl End {
    /// True if a frame has arrived at this end.
    #[must_use]
    pub fn has_frames(&self) -> bool {
        !self.incoming.borrow().frames.is_empty()
    }
}

impl Device for End {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Frame, Room<'_>)> {
        // An answer must find room.
        if self.outgoing.borrow().frames.len() >= FRAMES {
            return None;
        }
        let bytes = self.incoming.borrow_mut().frames.pop_front()?;
        Some((Frame { bytes, from: self.incoming.clone() }, Room(&self.outgoing)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Room<'_>> {
        (self.outgoing.borrow().frames.len() < FRAMES).then_some(Room(&self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }
}

/// A frame that has arrived.
#[derive(Debug)]
pub struct Frame {
    bytes: Vec<u8>,
    from: Direction,
}

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let result = f(&self.bytes);
        self.from.borrow_mut().spare.push(self.bytes);
        result
    }
}

/// Room for a frame.
#[derive(Debug)]
pub struct Room<'a>(&'a Direction);

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut bytes = self.0.borrow_mut().spare.pop().unwrap_or_else(|| Vec::with_capacity(FRAME));
        bytes.resize(len, 0);
        let result = f(&mut bytes);
        self.0.borrow_mut().frames.push_back(bytes);
        result
    }
}
