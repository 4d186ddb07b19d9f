//! Arm MPS2 with the image AN385: Cortex-M3, 4 MiB of memory for the program and 4 for its data, LAN9118.

use crate::arch::start_timer;
use crate::fail;
use crate::mmio::Registers;
use crate::uart::cmsdk::Cmsdk;

pub use crate::mac::lan9118::Lan9118 as Mac;
pub use crate::watchdog::Watchdog;

/// Product and version.
pub const IDENTITY: &str = concat!("skiff-mps2-an385/", env!("CARGO_PKG_VERSION"));

/// Interrupts of the chip.
pub const INTERRUPTS: usize = 32;

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
/// Blocks of files in RAM: 3 MiB.
pub const BLOCKS: usize = 12_288;

/// UART0.
// SAFETY: UART0 is there.
pub static CONSOLE: Cmsdk = Cmsdk::new(unsafe { Registers::at(0x4000_4000) });

/// The processor's clock in hertz.
const HZ: u32 = 25_000_000;

/// The chip has no random number generator.
#[cfg(feature = "secure")]
pub use crate::seed::Collected as Entropy;

/// Writes the page at `address`, which is memory here.
#[cfg(feature = "secure")]
pub fn write_settings(address: u32, words: impl Iterator<Item = u32>) {
    for (address, word) in (address as usize..).step_by(4).zip(words) {
        // SAFETY: the memory of the settings, a page at the end of the program's that nothing else uses.
        unsafe { core::ptr::with_exposed_provenance_mut::<u32>(address).write_volatile(word) };
    }
}

/// The initialized board.
#[derive(Debug)]
pub struct Board {
    /// The running watchdog.
    pub watchdog: Watchdog,
    /// The network interface.
    pub mac: Mac,
    /// The factory MAC address of the board.
    pub address: [u8; 6],
}

impl Board {
    /// Initializes the board; it has no clocks or pins to configure.
    ///
    /// # Panics
    /// If called twice. If the network interface does not answer, the board restarts.
    pub fn take() -> Self {
        let mut core = super::core();
        // SAFETY: this board's peripherals, each made into registers once, and no DMA is used.
        let [ethernet, watchdog] = unsafe { [0x4020_0000, 0x4000_8000].map(|base| Registers::at(base)) };
        CONSOLE.set_up(HZ, 115_200);
        start_timer(&mut core.SYST, HZ);
        let Some((mac, address)) = Mac::new(ethernet).and_then(|mac| mac.address().map(|address| (mac, address)))
        else {
            fail!("LAN9118: no reply");
        };
        Self { watchdog: Watchdog::start(watchdog, HZ), mac, address }
    }
}
