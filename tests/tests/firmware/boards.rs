//! Boards with their images, and helpers for their tests.

#[path = "network.rs"]
mod network;
#[path = "protocol.rs"]
mod protocol;
#[path = "recovery.rs"]
mod recovery;
#[path = "secure.rs"]
mod secure;
#[path = "speed.rs"]
mod speed;
#[path = "storage.rs"]
mod storage;
#[path = "suite.rs"]
mod suite;
#[cfg(firmware_riscv)]
#[path = "update.rs"]
mod update;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use skiff_tests::firmware::machine::{Machine, Network, Setup};
use skiff_tests::firmware::{Board, Fetch, Image, Medium, build};
use skiff_tests::namespace::ip;
use tempfile::TempDir;

/// The boards that can be emulated here.
const BOARDS: &[Board] = if cfg!(firmware_riscv) { &Board::ALL } else { &[Board::Lm3s6965, Board::Mps2] };

/// An image, built.
#[track_caller]
fn image(image: &Image<'_>) -> PathBuf {
    build(image, Fetch::Nothing).unwrap_or_else(|error| panic!("{error}"))
}

/// A board with its image and, if it uses one, its own card.
struct Scene {
    setup: Setup,
    _card: Option<TempDir>,
}

impl Scene {
    /// A board that is switched off; a card is empty, and formatted.
    fn new(board: Board, image: &Path) -> Self {
        let mut setup = Setup::new(board, image);
        let card = board.medium().map(|medium| {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("card");
            match medium {
                Medium::Card => fs::write(&file, formatted(image)).unwrap(),
                Medium::Flash => medium.create(&file).unwrap(),
            }
            setup.card = Some(file);
            directory
        });
        Self { setup, _card: card }
    }

    /// Connects the board to a new TAP, `tap0`, in the test's namespace.
    fn use_tap(&mut self) {
        ip("tuntap add tap0 mode tap");
        ip("addr add 10.0.2.2/24 dev tap0");
        ip("link set tap0 up");
        self.setup.network = Network::Tap("tap0".into());
    }

    fn start(&self) -> Machine {
        Machine::start(&self.setup)
    }

    /// True if its files survive a power cut.
    const fn keeps_files(&self) -> bool {
        self.setup.card.is_some()
    }
}

/// A new card that a board has formatted. That takes a while, so it is done once.
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

/// The server of a board, switched off.
#[track_caller]
fn scene(board: Board) -> Scene {
    Scene::new(board, &image(&Image::server(board)))
}

/// Bytes that depend on their position.
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
