//! The requirements on every store (PROTOCOL §5, §7): one suite for a directory, for RAM and for flash.
//!
//! Implement [`Backend`] and write `skiff_kit::store_suite!(MyBackend);` in a module of a test: each case of the modules
//! here becomes a test there, on its own store.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod calls;
pub mod changes;
pub mod directories;
pub mod files;
mod patient;
pub mod staging;

use skiff_proto::store::Store;

use patient::Patient;

/// A medium, and the stores that are opened on it one after the other.
pub trait Backend {
    /// The store under test.
    type Store: Store;

    /// Its features.
    const FEATURES: Features;

    /// A new, empty medium.
    fn new() -> Self;

    /// Opens the medium. The store that was opened before has been dropped.
    fn open(&mut self) -> Self::Store;

    /// Waits until a store that has answered "not yet" should be called again.
    fn wait(_store: &mut Self::Store) {}
}

/// Optional features of a store.
#[derive(Debug, Clone, Copy)]
pub struct Features {
    /// It has directories.
    pub directories: bool,
    /// It keeps the time of a file.
    pub mtime: bool,
    /// Its content is still there when it is opened again.
    pub restart: bool,
    /// The longest name in bytes.
    pub name_max: usize,
    /// The longest file that the suite may store, in bytes; at least 4096.
    pub file_max: usize,
    /// The minimum number of files, including two stages, that it can hold; at least 8.
    pub files_max: usize,
    /// The minimum number of stages that can be open at once; at least 2.
    pub stages_max: usize,
}

/// Makes functions of cases, and a macro `$suite` that makes tests of them.
macro_rules! cases {
    ($suite:ident, $module:ident, ($d:tt) $($(#[$doc:meta])* fn $case:ident($backend:ident, $store:ident) $body:block)*) => {
        $($(#[$doc])*
        pub fn $case<B: Backend>() {
            #[allow(unused_mut, reason = "not every case opens it again")]
            let mut $backend = B::new();
            #[allow(unused_mut, reason = "not every case keeps it")]
            let mut $store = Patient::open(&mut $backend);
            $body
        })*

        #[doc(hidden)]
        #[macro_export]
        macro_rules! $suite {
            ($d backend:ty) => {
                $(#[test]
                fn $case() {
                    $d crate::store_suite::$module::$case::<$d backend>();
                })*
            };
        }
    };
}
use cases;

/// Makes a test of every case, for a [`Backend`](crate::store_suite::Backend).
#[macro_export]
macro_rules! store_suite {
    ($backend:ty) => {
        $crate::store_suite_files!($backend);
        $crate::store_suite_staging!($backend);
        $crate::store_suite_changes!($backend);
        $crate::store_suite_directories!($backend);
    };
}
