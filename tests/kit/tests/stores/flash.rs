//! The storage suite over the device's store on flash and on an SD card.

use skiff_device::flash::{CardFlash, FlashMemory, FlashStore, map_len};
use skiff_kit::flash::{Nor, SdCard};
use skiff_kit::store_suite::{Backend, Features};

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

            skiff_kit::store_suite!(Chip);
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

    skiff_kit::store_suite!(Slot);
}

/// Through a driver with the traits of embedded-storage, which reads words only.
mod embedded_storage_driver {
    use embedded_storage::nor_flash::{
        ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
    };
    use skiff_device::flash::{Flash as _, NorFlashMedium};

    use super::*;

    const BLOCK: u32 = 2048;
    type Memory = FlashMemory<FILES, STAGES, NAME, 256, { map_len(128) }>;

    #[derive(Debug)]
    struct Driver(Nor);

    #[derive(Debug)]
    struct Refused(NorFlashErrorKind);

    impl NorFlashError for Refused {
        fn kind(&self) -> NorFlashErrorKind {
            self.0
        }
    }

    impl From<NorFlashErrorKind> for Refused {
        fn from(kind: NorFlashErrorKind) -> Self {
            Self(kind)
        }
    }

    fn failed(_: skiff_device::flash::FlashError) -> Refused {
        Refused(NorFlashErrorKind::Other)
    }

    impl ErrorType for Driver {
        type Error = Refused;
    }

    impl ReadNorFlash for Driver {
        const READ_SIZE: usize = 4;

        fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Refused> {
            check_read(self, offset, bytes.len())?;
            // Reads cross blocks, as those of chips do.
            for (i, byte) in (0..).zip(bytes) {
                let at = offset + i;
                self.0.read(at / BLOCK, at % BLOCK, core::slice::from_mut(byte)).map_err(failed)?;
            }
            Ok(())
        }

        fn capacity(&self) -> usize {
            128 * BLOCK as usize
        }
    }

    impl NorFlash for Driver {
        const WRITE_SIZE: usize = 8;
        const ERASE_SIZE: usize = BLOCK as usize;

        fn erase(&mut self, from: u32, to: u32) -> Result<(), Refused> {
            check_erase(self, from, to)?;
            (from / BLOCK..to / BLOCK).try_for_each(|block| self.0.erase(block)).map_err(failed)
        }

        fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Refused> {
            check_write(self, offset, bytes.len())?;
            self.0.program(offset / BLOCK, offset % BLOCK, bytes).map_err(failed)
        }
    }

    struct Chip(Nor);

    impl Backend for Chip {
        type Store = FlashStore<'static, NorFlashMedium<Driver>, NAME, 256>;

        const FEATURES: Features = FEATURES;

        fn new() -> Self {
            Self(Nor::new(128, BLOCK, 8, 7))
        }

        fn open(&mut self) -> Self::Store {
            let medium = NorFlashMedium::new(Driver(self.0.clone()));
            FlashStore::mount(Box::leak(Box::new(Memory::new())), medium).expect("it can be mounted")
        }
    }

    skiff_kit::store_suite!(Chip);

    /// The same driver, asynchronous: an operation takes a number of polls, and begins at any of them.
    mod asynchronous {
        use core::task::Poll;

        use embedded_storage_async::nor_flash as async_flash;
        use skiff_device::flash::PolledNorFlash;
        use skiff_kit::flash::{Rng, Tear};
        use skiff_proto::Name;
        use skiff_proto::store::{Staging, Store as _};

        use super::*;

        #[derive(Debug)]
        struct Slow(Driver, Rng);

        impl Slow {
            async fn wait(&mut self) {
                let mut polls = self.1.below(4);
                core::future::poll_fn(|_| {
                    polls = polls.saturating_sub(1);
                    if polls == 0 { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
        }

        impl ErrorType for Slow {
            type Error = Refused;
        }

        impl async_flash::ReadNorFlash for Slow {
            const READ_SIZE: usize = Driver::READ_SIZE;

            async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Refused> {
                self.wait().await;
                let result = self.0.read(offset, bytes);
                self.wait().await;
                result
            }

            fn capacity(&self) -> usize {
                self.0.capacity()
            }
        }

        impl async_flash::NorFlash for Slow {
            const WRITE_SIZE: usize = Driver::WRITE_SIZE;
            const ERASE_SIZE: usize = Driver::ERASE_SIZE;

            async fn erase(&mut self, from: u32, to: u32) -> Result<(), Refused> {
                self.wait().await;
                let result = self.0.erase(from, to);
                self.wait().await;
                result
            }

            async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Refused> {
                self.wait().await;
                let result = self.0.write(offset, bytes);
                self.wait().await;
                result
            }
        }

        type Medium = NorFlashMedium<PolledNorFlash<Slow, fn()>>;

        fn medium(nor: &Nor) -> Medium {
            NorFlashMedium::new(PolledNorFlash::new(Slow(Driver(nor.clone()), Rng::new(3)), || ()))
        }

        struct SlowChip(Nor);

        impl Backend for SlowChip {
            type Store = FlashStore<'static, Medium, NAME, 256>;

            const FEATURES: Features = FEATURES;

            fn new() -> Self {
                Self(Nor::new(128, BLOCK, 8, 7))
            }

            fn open(&mut self) -> Self::Store {
                let memory = Box::leak(Box::new(Memory::new()));
                FlashStore::mount(memory, medium(&self.0)).expect("it can be mounted")
            }
        }

        skiff_kit::store_suite!(SlowChip);

        fn put(store: &mut FlashStore<'_, Medium, NAME, 256>, content: &[u8]) -> bool {
            let name = Name::parse(b"f", NAME).expect("a name");
            let Ok((mut stage, _)) = store.stage(Staging::new(name, content.len() as u64)) else { return false };
            store.append(&mut stage, content).is_ok() && store.commit(&mut stage, None).is_ok()
        }

        /// The content of the file; `None` if there is none.
        fn get(store: &mut FlashStore<'_, Medium, NAME, 256>) -> Option<Vec<u8>> {
            let (mut file, stat) = store.open(Name::parse(b"f", NAME).expect("a name")).ok()?;
            let mut content = vec![0; usize::try_from(stat.size).expect("a short file")];
            let read = store.read_at(&mut file, 0, &mut content).expect("readable");
            assert_eq!(read, content.len());
            Some(content)
        }

        #[test]
        fn a_power_cut_at_every_operation_leaves_the_old_file_or_the_new_one() {
            let blank = Nor::new(128, BLOCK, 8, 7);
            let mut memory = Memory::new();
            let (old, new) = (Rng::new(1).bytes(3000), Rng::new(2).bytes(5000));
            assert!(put(&mut FlashStore::mount(&mut memory, medium(&blank)).expect("blank"), &old));
            let mut cuts = 0_u32;
            for tear in Tear::ALL {
                for operations in 0.. {
                    let chip = blank.fork();
                    chip.cut_after(operations, tear);
                    let mounted = FlashStore::mount(&mut memory, medium(&chip));
                    let is_stored = mounted.is_ok_and(|mut store| put(&mut store, &new));
                    let was_cut = !chip.is_on();
                    chip.power_on();
                    let mut store = FlashStore::mount(&mut memory, medium(&chip)).expect("a store");
                    let found = get(&mut store).expect("a file");
                    assert!(found == new || (found == old && !is_stored), "{tear:?} at {operations}");
                    if !was_cut {
                        break;
                    }
                    cuts += 1;
                }
            }
            assert!(cuts > 60, "{cuts}");
        }
    }
}
