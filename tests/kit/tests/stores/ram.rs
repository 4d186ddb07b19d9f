//! The storage suite over the device's store in memory.

use skiff_device::overlay::Overlay;
use skiff_device::ram::{RamMemory, RamStore};
use skiff_kit::store_suite::{Backend, Features};

const FILES: usize = 20;
const NAME: usize = 64;
const BLOCK: usize = 256;
const BLOCKS: usize = 1024;

struct Ram;

impl Backend for Ram {
    type Store = RamStore<'static, NAME, BLOCK>;

    const FEATURES: Features = Features {
        directories: false,
        mtime: true,
        restart: false,
        name_max: NAME,
        file_max: BLOCK * BLOCKS / 2,
        files_max: FILES,
        stages_max: 4,
    };

    fn new() -> Self {
        Self
    }

    fn open(&mut self) -> Self::Store {
        RamStore::new(Box::leak(Box::new(RamMemory::<FILES, NAME, BLOCKS, BLOCK>::new())), 7)
    }
}

mod suite {
    skiff_kit::store_suite!(super::Ram);
}

/// The same with files made by code over it, none of which has a name that the suite uses.
struct Laid;

impl Backend for Laid {
    type Store = Overlay<'static, 'static, RamStore<'static, NAME, BLOCK>>;

    const FEATURES: Features = Ram::FEATURES;

    fn new() -> Self {
        Self
    }

    fn open(&mut self) -> Self::Store {
        Overlay::new(Ram.open(), &mut [], 7)
    }
}

mod laid {
    skiff_kit::store_suite!(super::Laid);
}

mod room {

    use skiff_proto::ErrorCode::{self, Changed, NoSpace};
    use skiff_proto::Name;
    use skiff_proto::identity::NOBODY;
    use skiff_proto::store::{self, Space, Staging, Store};

    use super::*;

    type Small = RamStore<'static, NAME, BLOCK>;

    /// Four entries, eight blocks.
    fn small() -> Small {
        RamStore::new(Box::leak(Box::new(RamMemory::<4, NAME, 8, BLOCK>::new())), 7)
    }

    fn n(name: &str) -> Name<'_> {
        Name::parse(name.as_bytes(), NAME).expect("a name")
    }

    fn code<T>(result: store::Result<T>) -> Option<ErrorCode> {
        result.err().map(store::StoreError::code)
    }

    fn append(store: &mut Small, stage: &mut <Small as Store>::Stage, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = store.append(stage, bytes).expect("room");
            bytes = &bytes[taken..];
        }
    }

    fn put(store: &mut Small, name: &str, bytes: &[u8]) {
        let (mut stage, _) = store.stage(Staging::new(n(name), bytes.len() as u64)).expect("a stage");
        append(store, &mut stage, bytes);
        assert_eq!(store.commit(&mut stage, None), Ok(()));
    }

    fn interrupt(store: &mut Small, name: &str, len: usize) {
        let (mut stage, _) = store.stage(Staging::new(n(name), 2000)).expect("a stage");
        append(store, &mut stage, &vec![1; len]);
    }

    #[test]
    fn the_room_promised_to_a_writer_goes_to_no_other() {
        let mut store = small();
        let (mut first, _) = store.stage(Staging::new(n("a"), 5 * 256)).unwrap();
        assert_eq!(store.space(), Ok(Space { total: 2048, free: 768 }));
        assert_eq!(code(store.stage(Staging::new(n("b"), 4 * 256))), Some(NoSpace));
        assert_eq!(code(store.staged(n("b"), NOBODY, 3 * 256 + 1)), Some(NoSpace));
        let (mut second, _) = store.stage(Staging::new(n("b"), 3 * 256)).unwrap();
        append(&mut store, &mut second, &[2; 768]);
        assert_eq!(code(store.append(&mut second, b"more")), Some(NoSpace));
        append(&mut store, &mut first, &[1; 1280]);
        assert_eq!(store.space().unwrap().free, 0);
        drop((first, second));
        assert_eq!(store.space().unwrap().free, 2048);
    }

    #[test]
    fn the_oldest_interrupted_write_is_dropped_first() {
        let mut store = small();
        interrupt(&mut store, "old", 512);
        interrupt(&mut store, "young", 512);
        put(&mut store, "f", &[3; 1025]);
        assert_eq!(store.staged(n("old"), NOBODY, 600), Ok((0, 0)));
        assert_eq!(store.staged(n("young"), NOBODY, 600).unwrap().0, 512);
        assert_eq!(code(store.stage(Staging::new(n("g"), 4 * 256))), Some(NoSpace), "and nothing was given up for it");
        assert_eq!(store.staged(n("young"), NOBODY, 600).unwrap().0, 512);
    }

    #[test]
    fn a_write_that_begins_again_is_promised_all_of_its_room() {
        let mut store = small();
        for (name, blocks) in [("old", 4), ("f", 2)] {
            let (mut stage, _) = store.stage(Staging::new(n(name), (blocks + 1) * 256)).unwrap();
            append(&mut store, &mut stage, &[1].repeat(usize::try_from(blocks).unwrap() * 256));
        }
        let (mut stage, _) = store.stage(Staging::new(n("f"), 5 * 256)).unwrap();
        append(&mut store, &mut stage, &[2; 5 * 256]);
        assert_eq!(store.commit(&mut stage, None), Ok(()));
    }

    #[test]
    fn a_replaced_file_stays_readable_until_its_room_is_needed() {
        let mut store = small();
        put(&mut store, "f", &[1; 700]);
        let (mut file, _) = store.open(n("f")).unwrap();
        put(&mut store, "f", &[2; 700]);
        let mut buffer = [0; 700];
        assert_eq!(store.read_at(&mut file, 0, &mut buffer), Ok(700));
        assert_eq!(buffer, [1; 700]);
        put(&mut store, "g", &[3; 1000]);
        assert_eq!(code(store.read_at(&mut file, 0, &mut buffer)), Some(Changed));
        drop(file);
        assert_eq!(store.space().unwrap().free, 256);
    }

    #[test]
    fn a_full_table_is_no_space_and_a_full_store_replaces_nothing() {
        let mut store = small();
        for name in ["a", "b", "c", "d"] {
            put(&mut store, name, b"x");
        }
        assert_eq!(code(store.staged(n("e"), NOBODY, 1)), Some(NoSpace));
        assert_eq!(code(store.stage(Staging::new(n("a"), 1))), Some(NoSpace), "a replacement needs an entry too");
        store.remove(n("d")).unwrap();
        put(&mut store, "a", &[1; 1280]);
        assert_eq!(code(store.stage(Staging::new(n("a"), 257))), Some(NoSpace));
        assert_eq!(store.stat(n("a")).unwrap().size, 1280);
    }

    #[test]
    fn a_stage_can_not_be_used_after_its_commit() {
        let mut store = small();
        let (mut stage, _) = store.stage(Staging::new(n("f"), 9)).unwrap();
        append(&mut store, &mut stage, b"x");
        assert_eq!(store.commit(&mut stage, None), Ok(()));
        assert_eq!(code(store.append(&mut stage, b"y")), Some(ErrorCode::Io));
        assert_eq!(code(store.commit(&mut stage, None)), Some(ErrorCode::Io));
        assert_eq!(store.stat(n("f")).unwrap().size, 1);
    }

    #[test]
    fn an_old_handle_does_not_touch_later_content() {
        let mut store = small();
        let mut stage = store.stage_new(n("a"), 1).unwrap();
        append(&mut store, &mut stage, b"x");
        assert_eq!(store.commit_new(&mut stage, n("a")), Ok(()));
        store.remove(n("a")).unwrap();
        let (second, _) = store.stage(Staging::new(n("b"), 3)).unwrap();
        drop(stage);
        assert_eq!(code(store.staged(n("b"), NOBODY, 3)), Some(ErrorCode::Busy));
        drop(second);
        assert_eq!(store.staged(n("b"), NOBODY, 3), Ok((0, 0)));
    }
}
