//! An embassy-net driver for a board's network interface.

use core::task::Context;

use cortex_m::peripheral::NVIC;
use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::waitqueue::AtomicWaker;
use skiff_firmware::arch::Irq;
use skiff_firmware::board;
use skiff_firmware::mac::{FRAME, Frame, Mac};

/// The task that waits for a frame.
static WAKER: AtomicWaker = AtomicWaker::new();

/// Wakes the task because a frame is waiting. The interrupt handler calls this.
pub(crate) fn wake() {
    WAKER.wake();
}

/// The interface, with memory for a frame in each direction.
pub(crate) struct Nic {
    mac: board::Mac,
    address: [u8; 6],
    memory: &'static mut [Frame; 2],
}

impl Nic {
    pub(crate) fn new(mac: board::Mac, address: [u8; 6], memory: &'static mut [Frame; 2]) -> Self {
        Self { mac, address, memory }
    }

    /// Makes the next frame wake the task.
    fn listen(&mut self) {
        self.mac.listen();
        let irq = Irq(board::Mac::IRQ);
        // SAFETY: the handler changes nothing but a waker.
        unsafe { NVIC::unmask(irq) };
    }
}

impl Driver for Nic {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, context: &mut Context<'_>) -> Option<(Received<'_>, Room<'_>)> {
        WAKER.register(context.waker());
        if !self.mac.can_send() {
            context.waker().wake_by_ref();
            return None;
        }
        let mut received = None;
        while received.is_none() && self.mac.has_frame() {
            received = self.mac.receive(&mut self.memory[0]);
        }
        let Some(len) = received else {
            self.listen();
            // One that came before the interrupt was let through.
            if self.mac.has_frame() {
                context.waker().wake_by_ref();
            }
            return None;
        };
        let [incoming, outgoing] = &mut *self.memory;
        Some((Received(&mut incoming[..len]), Room { mac: &mut self.mac, frame: outgoing }))
    }

    fn transmit(&mut self, context: &mut Context<'_>) -> Option<Room<'_>> {
        if !self.mac.can_send() {
            // In microseconds.
            context.waker().wake_by_ref();
            return None;
        }
        Some(Room { mac: &mut self.mac, frame: &mut self.memory[1] })
    }

    fn link_state(&mut self, _context: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME;
        capabilities.max_burst_size = board::Mac::BURST;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.address)
    }
}

/// A received frame.
pub(crate) struct Received<'a>(&'a mut [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for a frame to be sent.
pub(crate) struct Room<'a> {
    mac: &'a mut board::Mac,
    frame: &'a mut Frame,
}

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let frame = &mut self.frame[..len];
        let result = f(frame);
        self.mac.send(frame);
        result
    }
}
