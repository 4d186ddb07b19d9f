//! The storage suite over the store in memory, flat and with directories.

use skiff_tests::memory::{Layout, MemoryStore};
use skiff_tests::store_suite::{Backend, Features};

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

mod tree {
    skiff_tests::store_suite!(super::Tree);
}

mod flat {
    skiff_tests::store_suite!(super::Flat);
}
