//! Files on the board's SD card: they survive power cuts, and each is the old one or the new one.

use core::sync::atomic::{AtomicBool, Ordering};

use skiff_device::flash::{Card, CardFlash, FlashError, FlashMemory, FlashStore, MountError, map_len};
use static_cell::{ConstStaticCell, StaticCell};

use super::{NAME, what};
use crate::board::{self, CONSOLE, Watchdog};
use crate::kept::Once;
use crate::log;
use crate::panic::restart;
use crate::sd::{BLOCK as SECTOR, SdError};
use crate::uart::Uart as _;

/// Bytes of a block of the store: a file takes at least one.
const BLOCK: usize = 32 * 1024;
/// Maximum number of blocks, with one bit of RAM for each: 256 MiB. The rest of a larger card is not used.
const BLOCKS: usize = 8192;
/// Maximum number of files, including interrupted writes, with 12 bytes of RAM for each.
const FILES: usize = 128;
/// Files being written at a time: one for each session and each data connection, and one whose connection was just
/// lost.
const STAGES: usize = board::SESSIONS + board::DATA + 1;

/// Bytes of RAM that hold file content.
pub const CONTENT: usize = 0;

/// The store.
pub type Files = FlashStore<'static, CardFlash<Slot, BLOCK>, NAME, SECTOR>;

type Memory = FlashMemory<FILES, STAGES, NAME, SECTOR, { map_len(BLOCKS) }>;

/// Set while the card is scanned at a start. This takes as long as the card needs: seconds, or minutes on a slow bus.
/// As long as sectors arrive, the watchdog must not restart the board.
static MOUNTING: AtomicBool = AtomicBool::new(false);

static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());

/// The card in the board's slot.
#[derive(Debug)]
pub struct Slot {
    card: board::Card,
    watchdog: Watchdog,
}

impl Slot {
    /// Feeds the watchdog after a sector has been read or written.
    fn moved(&mut self, done: Result<(), SdError>) -> Result<(), FlashError> {
        if done.is_ok() && MOUNTING.load(Ordering::Relaxed) {
            self.watchdog.feed();
        }
        done.map_err(told)
    }
}

impl Card for Slot {
    fn sectors(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "524,288")]
        const MOST: u32 = (BLOCKS * (BLOCK / SECTOR)) as u32;
        self.card.blocks().min(MOST)
    }

    fn read(&mut self, sector: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        let done = self.card.read(sector, bytes);
        self.moved(done)
    }

    fn write(&mut self, sector: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let done = self.card.write(sector, bytes);
        self.moved(done)
    }

    fn sync(&mut self) -> Result<(), FlashError> {
        self.card.flush().map_err(told)
    }
}

fn told(error: SdError) -> FlashError {
    log!("card: ", error);
    FlashError
}

/// The store on this card. A blank card is formatted. A card with other content is left alone until somebody at the
/// console decides otherwise. Without a usable card, the board waits and tries again.
///
/// # Panics
/// If called twice.
#[inline(never)]
pub fn mount(card: Result<board::Card, SdError>, watchdog: &mut Watchdog) -> &'static mut Files {
    static FILES: StaticCell<Files> = StaticCell::new();
    let card = match card {
        Ok(card) => CardFlash::new(Slot { card, watchdog: watchdog.clone() }),
        Err(error) => {
            log!("card: ", error);
            wait(watchdog)
        }
    };
    MOUNTING.store(true, Ordering::Relaxed);
    let store = if Once::Format.take() {
        log!("card: formatted");
        FlashStore::format(MEMORY.take(), card)
    } else {
        FlashStore::mount(MEMORY.take(), card)
    };
    MOUNTING.store(false, Ordering::Relaxed);
    match store {
        Ok(store) => FILES.init(store),
        Err(error) => {
            log!("card: ", what(error));
            if matches!(error, MountError::Foreign | MountError::Other | MountError::Damaged) {
                log!("card: press E to erase the card");
            }
            wait(watchdog)
        }
    }
}

/// Counts this start, durably; `None` if the card fails.
#[cfg(feature = "secure")]
pub fn count_start(files: &mut Files) -> Option<u64> {
    files.count_start().ok()
}

/// Waits until somebody inserts another card or permits erasing this one, then restarts.
fn wait(watchdog: &mut Watchdog) -> ! {
    for _ in 0..5_000 {
        watchdog.feed();
        if CONSOLE.read() == Some(b'E') {
            Once::Format.set();
            break;
        }
        // A millisecond, by the clock.
        cortex_m::asm::wfi();
    }
    restart()
}
