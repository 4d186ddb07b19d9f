//! QEMU's `virt` for RISC-V: RV32IMAC, 4 MiB of its RAM, a 16550, virtio-net, files on the second bank of CFI NOR
//! flash.

use crate::fail;
use crate::mmio::Registers;
#[cfg(feature = "nor")]
use crate::nor::CfiFlash;
use crate::uart::ns16550::Ns16550;

pub use crate::mac::virtio::Virtio as Mac;

/// Product and version.
pub const IDENTITY: &str = concat!("skiff-virt/", env!("CARGO_PKG_VERSION"));

/// Concurrent clients.
pub const SESSIONS: usize = 4;
/// Concurrent classic data connections.
pub const DATA: usize = super::data(2);
/// Bytes of a socket buffer.
pub const BUFFER: usize = 8192;
/// Bytes of a socket buffer of the spare listener.
pub const SPARE: usize = 2048;
/// Files in RAM, stages included.
pub const FILES: usize = 256;
/// Blocks of files in RAM: 1 MiB.
pub const BLOCKS: usize = 4096;

/// The serial port.
// SAFETY: the port exists at this address, and nothing in it accesses memory.
pub static CONSOLE: Ns16550 = Ns16550::new(unsafe { Registers::at(0x1000_0000) });
/// The timer.
// SAFETY: the timer exists at this address.
pub static CLINT: Registers = unsafe { Registers::at(0x0200_0000) };
/// The interrupt controller.
// SAFETY: the controller exists at this address.
pub static PLIC: Registers = unsafe { Registers::at(0x0c00_0000) };

/// Ticks of the timer in a millisecond.
pub const TICKS: u32 = 10_000;
/// The interrupts that wake the processor: those of the virtio device slots, 1 to 8.
pub const SOURCES: u32 = 0x1fe;

/// The name of the board, in the label of its images.
#[cfg(feature = "update")]
pub const NAME: &str = "virt";
/// The first bank of flash, with the boot loader and the slots for images.
#[cfg(feature = "update")]
pub const SLOTS: usize = 0x2000_0000;

/// The second bank of flash: 32 MiB.
#[cfg(feature = "nor")]
const FLASH: usize = 0x2200_0000;

/// The initialized board.
#[derive(Debug)]
pub struct Board {
    /// A placeholder: this board has no watchdog.
    pub watchdog: Watchdog,
    /// The network interface.
    pub mac: Mac,
    /// Its MAC address.
    pub address: [u8; 6],
    /// The flash for files.
    #[cfg(feature = "nor")]
    pub flash: CfiFlash,
    /// The flash for images.
    #[cfg(feature = "update")]
    pub slots: CfiFlash,
}

/// This board has no watchdog.
#[derive(Debug, Clone)]
pub struct Watchdog;

impl Watchdog {
    /// Does nothing.
    pub const fn feed(&mut self) {}
}

impl Board {
    /// Initializes the board.
    ///
    /// # Panics
    /// If called twice. Without a network interface, the board restarts.
    pub fn take() -> Self {
        // The one in use is the last: QEMU fills the slots from there.
        let places = (0..8).map(|at| 0x1000_1000 + 0x1000 * at);
        // SAFETY: each is a slot for a virtio device, and the driver gives it memory of its own.
        let found = places.map(|base| unsafe { Registers::at(base) }).find_map(Mac::new);
        let Some((mac, address)) = found else { fail!("virtio-net: not found") };
        Self {
            watchdog: Watchdog,
            mac,
            address,
            // SAFETY: the bank exists at this address, and no other code uses it.
            #[cfg(feature = "nor")]
            flash: unsafe { CfiFlash::at(FLASH) },
            // SAFETY: likewise.
            #[cfg(feature = "update")]
            slots: unsafe { CfiFlash::at(SLOTS) },
        }
    }
}

/// Resets the board.
pub fn reset() -> ! {
    // SAFETY: QEMU's test device, which accesses no memory.
    unsafe { Registers::at(0x10_0000) }.write(0, 0x7777);
    loop {
        core::hint::spin_loop();
    }
}
