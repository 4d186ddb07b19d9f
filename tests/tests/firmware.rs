//! The images for microcontrollers, on boards under QEMU.
//!
//! What is missing is said: without `qemu-system-arm`, or without a way to build for the target that is there already, these
//! tests are skipped.

#![expect(clippy::unwrap_used, reason = "these are tests")]

#[path = "firmware/network.rs"]
mod network;
#[path = "firmware/protocol.rs"]
mod protocol;
#[path = "firmware/recovery.rs"]
mod recovery;
#[path = "firmware/speed.rs"]
mod speed;
#[path = "firmware/storage.rs"]
mod storage;
#[path = "firmware/suite.rs"]
mod suite;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use skiff_tests::firmware::machine::{Machine, QEMU, Setup, has_qemu};
use skiff_tests::firmware::{Board, BuildError, Fetch, Image, build};
use skiff_tests::programs::skip;
use tempfile::TempDir;

const BOARDS: [Board; 2] = [Board::Lm3s6965, Board::Mps2];

/// An image, built; `None`, after this has been said, if that is not possible here.
#[track_caller]
fn image(test: &str, image: &Image<'_>) -> Option<PathBuf> {
    if !has_qemu() {
        skip(test, &format!("there is no {QEMU}"));
        return None;
    }
    match build(image, Fetch::Nothing) {
        Ok(path) => Some(path),
        Err(BuildError::NoToolchain(_)) => {
            skip(test, "nothing here to build for thumbv7m-none-eabi with; `cargo firmware build` gets it");
            None
        }
        Err(error @ BuildError::Failed(_)) => panic!("{error}"),
    }
}

/// A board with its image and, if it has one, a card of its own.
struct Scene {
    setup: Setup,
    _card: Option<TempDir>,
}

impl Scene {
    /// A board that has not been switched on; the card is empty, and formatted.
    fn new(board: Board, image: &Path) -> Self {
        let mut setup = Setup::new(board, image);
        let card = board.has_card().then(|| tempfile::tempdir().unwrap());
        if let Some(directory) = &card {
            let file = directory.path().join("card");
            fs::write(&file, formatted(image)).unwrap();
            setup.card = Some(file);
        }
        Self { setup, _card: card }
    }

    fn start(&self) -> Machine {
        Machine::start(&self.setup)
    }

    const fn has_card(&self) -> bool {
        self.setup.card.is_some()
    }
}

/// A new card that a board has formatted. That takes it some time, so it is done once.
fn formatted(image: &Path) -> &'static [u8] {
    const SIZE: u64 = 8 << 20;
    static CARD: OnceLock<Vec<u8>> = OnceLock::new();
    CARD.get_or_init(|| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(SIZE).unwrap();
        let mut setup = Setup::new(Board::Lm3s6965, image);
        setup.card = Some(file.path().to_owned());
        Machine::start(&setup).kill();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// The server of a board, not yet switched on.
#[track_caller]
fn scene(test: &str, board: Board) -> Option<Scene> {
    image(test, &Image::server(board)).map(|image| Scene::new(board, &image))
}

/// Bytes that are not the same everywhere.
fn content(len: usize, seed: u32) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9) | 1;
    let next = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x.to_le_bytes()[0]
    };
    core::iter::repeat_with(next).take(len).collect()
}
