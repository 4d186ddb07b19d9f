//! The storage suite over the device's store on flash and on an SD card.

use skiff_device::flash::{CardFlash, FlashMemory, FlashStore, map_len};
use skiff_tests::flash::{Nor, SdCard};
use skiff_tests::store_suite::{Backend, Features};

const FILES: usize = 24;
const STAGES: usize = 6;
const NAME: usize = 64;

const FEATURES: Features = Features {
    directories: false,
    mtime: true,
    restart: true,
    name_max: NAME,
    file_max: 60_000,
    files_max: FILES,
    stages_max: STAGES,
};

macro_rules! nor {
    ($name:ident, $blocks:literal x $block:literal, unit $unit:literal, page $page:literal) => {
        mod $name {
            use super::*;

            type Memory = FlashMemory<FILES, STAGES, NAME, $page, { map_len($blocks) }>;

            struct Chip(Nor);

            impl Backend for Chip {
                type Store = FlashStore<'static, Nor, NAME, $page>;

                const FEATURES: Features = FEATURES;

                fn new() -> Self {
                    Self(Nor::new($blocks, $block, $unit, 7))
                }

                fn open(&mut self) -> Self::Store {
                    FlashStore::mount(Box::leak(Box::new(Memory::new())), self.0.clone()).expect("it can be mounted")
                }
            }

            skiff_tests::store_suite!(Chip);
        }
    };
}

nor!(nor_of_small_blocks, 256 x 1024, unit 4, page 256);
nor!(nor_of_single_bytes, 64 x 4096, unit 1, page 256);
nor!(nor_with_error_correction, 128 x 2048, unit 32, page 128);
nor!(nor_of_whole_pages, 64 x 4096, unit 256, page 256);

mod sd_card {
    use super::*;

    const BLOCK: usize = 4096;
    type Memory = FlashMemory<FILES, STAGES, NAME, 512, { map_len(128) }>;

    struct Slot(SdCard);

    impl Backend for Slot {
        type Store = FlashStore<'static, CardFlash<SdCard, BLOCK>, NAME, 512>;

        const FEATURES: Features = FEATURES;

        fn new() -> Self {
            Self(SdCard::new(1024, 0, 7))
        }

        fn open(&mut self) -> Self::Store {
            let card = CardFlash::new(self.0.clone());
            FlashStore::mount(Box::leak(Box::new(Memory::new())), card).expect("it can be mounted")
        }
    }

    skiff_tests::store_suite!(Slot);
}
