//! Files in RAM: lost when the power is cut or the board restarts.

use skiff_device::ram::{Entries, RamStore};
use static_cell::{ConstStaticCell, StaticCell};

use super::NAME;
use crate::board::{BLOCKS, FILES};

/// Bytes of a block.
pub const BLOCK: usize = 256;

/// Bytes of RAM that hold file content.
pub const CONTENT: usize = BLOCKS * BLOCK;

/// The store.
pub type Files = RamStore<'static, NAME, BLOCK>;

// Apart, since what is all zeros takes no room in flash. (Making the entries when the board starts would take their size on
// the stack.)
static ENTRIES: ConstStaticCell<Entries<FILES, NAME>> = ConstStaticCell::new(Entries::new());
static CHAIN: ConstStaticCell<[u16; BLOCKS]> = ConstStaticCell::new([0; BLOCKS]);
static BYTES: ConstStaticCell<[[u8; BLOCK]; BLOCKS]> = ConstStaticCell::new([[0; BLOCK]; BLOCKS]);

/// Creates the store. `boot` is a number that no earlier start had.
///
/// # Panics
/// If called twice.
pub fn mount(boot: u64) -> &'static mut Files {
    static FILES: StaticCell<Files> = StaticCell::new();
    FILES.init(RamStore::from_parts(ENTRIES.take(), CHAIN.take(), BYTES.take(), boot))
}

/// `None`: there is no durable place for a count of starts.
#[cfg(feature = "secure")]
pub const fn count_start(_: &mut Files) -> Option<u64> {
    None
}
