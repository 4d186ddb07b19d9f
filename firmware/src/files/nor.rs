//! Files on the board's NOR flash: they survive power cuts, and each is the old one or the new one.

use skiff_device::flash::{FlashMemory, FlashStore, NorFlashMedium, map_len};
use static_cell::{ConstStaticCell, StaticCell};

use super::{NAME, what};
use crate::nor::CfiFlash;
use crate::{board, fail};

/// Maximum number of blocks.
const BLOCKS: usize = 128;
/// Maximum number of files, including interrupted writes.
const FILES: usize = 128;
/// Files being written at a time: one for each session and each data connection, and one whose connection was just
/// lost.
const STAGES: usize = board::SESSIONS + board::DATA + 1;
/// Bytes programmed at a time.
const PAGE: usize = 256;

/// Bytes of RAM that hold file content.
pub const CONTENT: usize = 0;

/// The store.
pub type Files = FlashStore<'static, NorFlashMedium<CfiFlash>, NAME, PAGE>;

static MEMORY: ConstStaticCell<FlashMemory<FILES, STAGES, NAME, PAGE, { map_len(BLOCKS) }>> =
    ConstStaticCell::new(FlashMemory::new());

/// The store on this flash. Blank flash is formatted, other content is left alone.
///
/// # Panics
/// If called twice.
pub fn mount(flash: CfiFlash) -> &'static mut Files {
    static FILES: StaticCell<Files> = StaticCell::new();
    match FlashStore::mount(MEMORY.take(), NorFlashMedium::new(flash)) {
        Ok(store) => FILES.init(store),
        Err(error) => fail!("flash: ", what(error)),
    }
}
