//! The storage suite over the store in memory, flat and with directories.

use core::cell::RefCell;

use skiff_kit::memory::{Layout, MemoryStore};
use skiff_kit::reluctant::{Changes, Reluctant};
use skiff_kit::store_suite::{Backend, Features};

const FEATURES: Features = Features {
    directories: true,
    mtime: true,
    restart: true,
    name_max: 255,
    file_max: 1 << 20,
    files_max: 1000,
    stages_max: 100,
};

macro_rules! backend {
    ($name:ident, $layout:expr, $features:expr) => {
        struct $name(MemoryStore);

        impl Backend for $name {
            type Store = MemoryStore;

            const FEATURES: Features = $features;

            fn new() -> Self {
                let store = MemoryStore::new($layout);
                store.set_capacity(1 << 30);
                Self(store)
            }

            fn open(&mut self) -> MemoryStore {
                self.0.restart();
                self.0.clone()
            }
        }
    };
}

backend!(Tree, Layout::Tree, FEATURES);
backend!(Flat, Layout::Flat, Features { directories: false, ..FEATURES });

/// The same, often "not yet" and with some changes queued.
struct Hesitant(Tree);

impl Backend for Hesitant {
    type Store = Reluctant<MemoryStore>;

    const FEATURES: Features = FEATURES;

    fn new() -> Self {
        Self(Tree::new())
    }

    fn open(&mut self) -> Reluctant<MemoryStore> {
        Reluctant::new(self.0.open(), Changes::Random(7))
    }
}

/// One that tasks of a thread share.
struct Shared(Tree);

impl Backend for Shared {
    type Store = &'static RefCell<MemoryStore>;

    const FEATURES: Features = FEATURES;

    fn new() -> Self {
        Self(Tree::new())
    }

    fn open(&mut self) -> &'static RefCell<MemoryStore> {
        Box::leak(Box::new(RefCell::new(self.0.open())))
    }
}

mod hesitant {
    skiff_kit::store_suite!(super::Hesitant);
}

mod shared {
    skiff_kit::store_suite!(super::Shared);
}

mod tree {
    skiff_kit::store_suite!(super::Tree);
}

mod flat {
    skiff_kit::store_suite!(super::Flat);
}
