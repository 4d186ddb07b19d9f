//! Network interfaces.
//!
//! A driver receives and sends single frames ([`Mac`]). [`Ethernet`] adapts it to smoltcp, with memory for two frames:
//! the received one and the answer. More would not help, because the interfaces have their own queues, and frames are
//! processed one at a time.

pub mod lan9118;
pub mod stellaris;
#[cfg(target_arch = "riscv32")]
pub mod virtio;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// The longest frame without its check sequence, in bytes.
pub const FRAME: usize = 1514;

/// Memory for one frame.
pub type Frame = [u8; FRAME];

/// An initialized network interface.
pub trait Mac {
    /// The number of its interrupt.
    const IRQ: u16;
    /// How many full frames may be in flight to it at once; `None` for as many as the socket buffers hold.
    const BURST: Option<usize>;

    /// Sets the address whose frames are received, in addition to broadcasts and multicasts.
    fn set_address(&mut self, address: [u8; 6]);

    /// True if a frame has arrived.
    fn has_frame(&self) -> bool;

    /// Takes the oldest received frame and returns its length. `None` if there is no usable frame.
    fn receive(&mut self, frame: &mut Frame) -> Option<usize>;

    /// True if a frame can be sent now.
    fn can_send(&self) -> bool;

    /// Sends a frame. Call it only if [`Mac::can_send`].
    fn send(&mut self, frame: &[u8]);

    /// Lets the next received frame raise the interrupt. A frame that is already waiting does not have to.
    fn listen(&mut self);
}

/// smoltcp's device over an interface.
#[derive(Debug)]
pub struct Ethernet<M> {
    /// The interface.
    pub mac: M,
    memory: &'static mut [Frame; 2],
}

impl<M: Mac> Ethernet<M> {
    /// A device with memory for two frames.
    pub const fn new(mac: M, memory: &'static mut [Frame; 2]) -> Self {
        Self { mac, memory }
    }
}

impl<M: Mac> Device for Ethernet<M> {
    type RxToken<'a>
        = Received<'a>
    where
        M: 'a;
    type TxToken<'a>
        = Room<'a, M>
    where
        M: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Room<'_, M>)> {
        // An answer must find room.
        if !self.mac.can_send() {
            return None;
        }
        let [incoming, outgoing] = &mut *self.memory;
        while self.mac.has_frame() {
            if let Some(len) = self.mac.receive(incoming) {
                return Some((Received(&incoming[..len]), Room { mac: &mut self.mac, frame: outgoing }));
            }
        }
        None
    }

    fn transmit(&mut self, _now: Instant) -> Option<Room<'_, M>> {
        self.mac.can_send().then_some(Room { mac: &mut self.mac, frame: &mut self.memory[1] })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities.max_burst_size = M::BURST;
        capabilities
    }
}

/// A received frame.
#[derive(Debug)]
pub struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for a frame to be sent.
#[derive(Debug)]
pub struct Room<'a, M> {
    mac: &'a mut M,
    frame: &'a mut Frame,
}

impl<M: Mac> TxToken for Room<'_, M> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let frame = &mut self.frame[..len];
        let result = f(frame);
        self.mac.send(frame);
        result
    }
}
