//! Files on the board's NOR flash: they survive power cuts, and each is the complete old version or the new one.

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

/// The store on the flash.
type Flash = FlashStore<'static, NorFlashMedium<CfiFlash>, NAME, PAGE>;

/// The store.
#[cfg(not(feature = "update"))]
pub type Files = Flash;
/// The store, with the files of updates.
#[cfg(feature = "update")]
pub type Files = crate::update::Files<&'static mut Flash>;

static MEMORY: ConstStaticCell<FlashMemory<FILES, STAGES, NAME, PAGE, { map_len(BLOCKS) }>> =
    ConstStaticCell::new(FlashMemory::new());

/// The store on this flash. Blank flash is formatted, other content is not touched.
///
/// # Panics
/// If called twice.
#[cfg(not(feature = "update"))]
pub fn mount(flash: CfiFlash) -> &'static mut Files {
    mount_flash(flash)
}

/// The same, with the files of updates. `boot` is a number that no earlier start had.
///
/// # Panics
/// If called twice.
#[cfg(feature = "update")]
pub fn mount(flash: CfiFlash, slots: CfiFlash, boot: u64) -> (&'static mut Files, &'static crate::update::File) {
    static FILES: StaticCell<Files> = StaticCell::new();
    let (files, update) = crate::update::overlay(mount_flash(flash), slots, boot);
    (FILES.init(files), update)
}

fn mount_flash(flash: CfiFlash) -> &'static mut Flash {
    static FILES: StaticCell<Flash> = StaticCell::new();
    match FlashStore::mount(MEMORY.take(), NorFlashMedium::new(flash)) {
        Ok(store) => FILES.init(store),
        Err(error) => fail!("flash: ", what(error)),
    }
}
