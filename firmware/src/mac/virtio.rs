//! virtio-net over MMIO (virtio 1.1, section 4.2, not the legacy interface): a queue of frames in each direction.

use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering, fence};

use super::{FRAME, Frame, Mac};
use crate::mmio::Registers;

const MAGIC: usize = 0x000;
const VERSION: usize = 0x004;
const DEVICE: usize = 0x008;
const DEVICE_FEATURES: usize = 0x010;
const DEVICE_FEATURES_SEL: usize = 0x014;
const DRIVER_FEATURES: usize = 0x020;
const DRIVER_FEATURES_SEL: usize = 0x024;
const QUEUE_SEL: usize = 0x030;
const QUEUE_NUM: usize = 0x038;
const QUEUE_READY: usize = 0x044;
const QUEUE_NOTIFY: usize = 0x050;
const INTERRUPT_STATUS: usize = 0x060;
const INTERRUPT_ACK: usize = 0x064;
const STATUS: usize = 0x070;
const QUEUE_DESC: usize = 0x080;
const QUEUE_DRIVER: usize = 0x090;
const QUEUE_DEVICE: usize = 0x0a0;
const CONFIG: usize = 0x100;

/// The magic value `virt`.
const SIGN: u32 = 0x7472_6976;
const NET: u32 = 1;
const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;
/// The device has its own address.
const FEATURE_MAC: u32 = 1 << 5;
/// Not the legacy interface; a bit of the second feature word.
const FEATURE_VERSION_1: u32 = 1 << 0;

const RX: u32 = 0;
const TX: u32 = 1;
/// Maximum number of waiting received frames, and the size of both queues.
const COUNT: usize = 16;
#[expect(clippy::cast_possible_truncation, reason = "16")]
const COUNT_16: u16 = COUNT as u16;
/// The header before each frame.
const HEADER: usize = 12;
/// Bytes for a frame and its header.
const BUFFER: usize = HEADER + FRAME + 2;
#[expect(clippy::cast_possible_truncation, reason = "1528")]
const BUFFER_32: u32 = BUFFER as u32;
/// The device writes into the buffer.
const WRITES: u16 = 2;

/// A queue, as the device sees it.
#[repr(C, align(16))]
struct Queue {
    /// Address (low word, high word), length, flags and next.
    descriptors: [[u32; 4]; COUNT],
    /// Flags, the index of the next entry, entries.
    driver: [u16; 2 + COUNT],
    /// Flags and the index of the next entry; then for each entry a descriptor and a length.
    device: Used,
}

#[repr(C, align(4))]
struct Used {
    head: [u16; 2],
    ring: [[u32; 2]; COUNT],
}

/// The memory that the driver and the device share.
#[repr(C)]
struct Shared {
    rx: Queue,
    tx: Queue,
    incoming: [[u8; BUFFER]; COUNT],
    outgoing: [u8; BUFFER],
}

struct Memory(UnsafeCell<Shared>);

// SAFETY: only the one driver uses it, by raw pointers.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new(Shared {
    rx: Queue::new(),
    tx: Queue::new(),
    incoming: [[0; BUFFER]; COUNT],
    outgoing: [0; BUFFER],
}));
static TAKEN: AtomicBool = AtomicBool::new(false);

impl Queue {
    const fn new() -> Self {
        Self {
            descriptors: [[0; 4]; COUNT],
            driver: [0; 2 + COUNT],
            device: Used { head: [0; 2], ring: [[0; 2]; COUNT] },
        }
    }
}

/// The initialized device.
#[derive(Debug)]
pub struct Virtio {
    registers: Registers,
    /// Frames taken, and frames sent, modulo 2^16.
    taken: u16,
    sent: u16,
}

/// A place in the shared memory, accessed so that reads see the device's writes and the device sees ours.
macro_rules! shared {
    ($($place:tt)*) => {
        // SAFETY: within the memory that the driver alone has; no reference is made.
        unsafe { &raw mut (*MEMORY.0.get()).$($place)* }
    };
}

/// Reads a word that the device may change.
fn read<T: Copy>(place: *mut T) -> T {
    // SAFETY: a place in the shared memory, of integers.
    unsafe { place.read_volatile() }
}

/// Writes a word that the device may read.
fn write<T>(place: *mut T, value: T) {
    // SAFETY: a place in the shared memory, of integers.
    unsafe { place.write_volatile(value) }
}

#[expect(clippy::cast_possible_truncation, reason = "addresses have 32 bits")]
fn address<T>(place: *mut T) -> u32 {
    place.expose_provenance() as u32
}

impl Virtio {
    /// Initializes the device at these registers, if it is a network interface; also returns its address.
    pub fn new(registers: Registers) -> Option<(Self, [u8; 6])> {
        let is_net = registers.read(MAGIC) == SIGN && registers.read(VERSION) == 2 && registers.read(DEVICE) == NET;
        if !is_net || TAKEN.swap(true, Ordering::Relaxed) {
            return None;
        }
        registers.write(STATUS, 0);
        registers.write(STATUS, ACKNOWLEDGE | DRIVER);
        registers.write(DEVICE_FEATURES_SEL, 0);
        let has_address = registers.read(DEVICE_FEATURES) & FEATURE_MAC;
        for (word, features) in [(0, has_address), (1, FEATURE_VERSION_1)] {
            registers.write(DRIVER_FEATURES_SEL, word);
            registers.write(DRIVER_FEATURES, features);
        }
        registers.write(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        if registers.read(STATUS) & FEATURES_OK == 0 {
            return None;
        }
        for (queue, places) in [
            (RX, [address(shared!(rx.descriptors)), address(shared!(rx.driver)), address(shared!(rx.device))]),
            (TX, [address(shared!(tx.descriptors)), address(shared!(tx.driver)), address(shared!(tx.device))]),
        ] {
            registers.write(QUEUE_SEL, queue);
            registers.write(QUEUE_NUM, COUNT_16.into());
            for (register, place) in [QUEUE_DESC, QUEUE_DRIVER, QUEUE_DEVICE].into_iter().zip(places) {
                registers.write(register, place);
                registers.write(register + 4, 0);
            }
            registers.write(QUEUE_READY, 1);
        }
        registers.write(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        for at in 0..COUNT {
            let buffer = shared!(incoming[at]);
            write(shared!(rx.descriptors[at]), [address(buffer), 0, BUFFER_32, u32::from(WRITES)]);
            write(shared!(rx.driver[2 + at]), at.to_le_bytes()[0].into());
        }
        fence(Ordering::SeqCst);
        write(shared!(rx.driver[1]), COUNT_16);
        fence(Ordering::SeqCst);
        registers.write(QUEUE_NOTIFY, RX);
        let [low, high] = [CONFIG, CONFIG + 4].map(|at| registers.read(at).to_le_bytes());
        let address = [low[0], low[1], low[2], low[3], high[0], high[1]];
        Some((Self { registers, taken: 0, sent: 0 }, address))
    }
}

impl Mac for Virtio {
    // Each place has its own; the processor sleeps for all of them.
    const IRQ: u16 = 1;
    const BURST: Option<usize> = Some(COUNT);

    // It filters nothing that it was not asked to: all frames come in.
    fn set_address(&mut self, _address: [u8; 6]) {}

    fn has_frame(&self) -> bool {
        read(shared!(rx.device.head[1])) != self.taken
    }

    fn receive(&mut self, frame: &mut Frame) -> Option<usize> {
        fence(Ordering::SeqCst);
        let [descriptor, len] = read(shared!(rx.device.ring[usize::from(self.taken) % COUNT]));
        let at = descriptor as usize % COUNT;
        let len = (len as usize).saturating_sub(HEADER);
        let is_frame = (1..=FRAME).contains(&len);
        if is_frame {
            let content = shared!(incoming[at][HEADER]);
            // SAFETY: the device has given the buffer back, and it has room for a frame behind the header.
            unsafe { ptr::copy_nonoverlapping(content.cast_const(), frame.as_mut_ptr(), len) };
        }
        // The device may have it again.
        self.taken = self.taken.wrapping_add(1);
        let next = read(shared!(rx.driver[1]));
        write(shared!(rx.driver[2 + usize::from(next) % COUNT]), at.to_le_bytes()[0].into());
        fence(Ordering::SeqCst);
        write(shared!(rx.driver[1]), next.wrapping_add(1));
        fence(Ordering::SeqCst);
        self.registers.write(QUEUE_NOTIFY, RX);
        is_frame.then_some(len)
    }

    fn can_send(&self) -> bool {
        read(shared!(tx.device.head[1])) == self.sent
    }

    fn send(&mut self, frame: &[u8]) {
        let len = frame.len().min(FRAME);
        let content = shared!(outgoing[HEADER]);
        // SAFETY: the device has sent what was there before, and there is room for a frame behind the header, which is zero.
        unsafe { ptr::copy_nonoverlapping(frame.as_ptr(), content, len) };
        #[expect(clippy::cast_possible_truncation, reason = "the length of a frame")]
        let len = (HEADER + len) as u32;
        write(shared!(tx.descriptors[0]), [address(shared!(outgoing)), 0, len, 0]);
        write(shared!(tx.driver[2 + usize::from(self.sent) % COUNT]), 0);
        fence(Ordering::SeqCst);
        self.sent = self.sent.wrapping_add(1);
        write(shared!(tx.driver[1]), self.sent);
        fence(Ordering::SeqCst);
        self.registers.write(QUEUE_NOTIFY, TX);
    }

    fn listen(&mut self) {
        let pending = self.registers.read(INTERRUPT_STATUS);
        self.registers.write(INTERRUPT_ACK, pending);
    }
}
