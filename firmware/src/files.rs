//! The store.

use skiff_device::ram::{Entries, RamStore};
use static_cell::ConstStaticCell;

use crate::board::{BLOCKS, FILES};

/// The longest name in bytes.
pub const NAME: usize = 64;
/// Bytes of a block of files in RAM.
pub const BLOCK: usize = 256;

/// Where files live.
pub type Files = RamStore<'static, NAME, BLOCK>;

/// Bytes of RAM that are content of files.
pub const CONTENT: usize = BLOCKS * BLOCK;

// Apart, since what is all zeros takes no room in flash.
static ENTRIES: ConstStaticCell<Entries<FILES, NAME>> = ConstStaticCell::new(Entries::new());
static CHAIN: ConstStaticCell<[u16; BLOCKS]> = ConstStaticCell::new([0; BLOCKS]);
static BYTES: ConstStaticCell<[[u8; BLOCK]; BLOCKS]> = ConstStaticCell::new([[0; BLOCK]; BLOCKS]);

/// The store. `boot` is a number that no start before had.
///
/// # Panics
/// The second time.
pub fn mount(boot: u64) -> Files {
    RamStore::from_parts(ENTRIES.take(), CHAIN.take(), BYTES.take(), boot)
}
