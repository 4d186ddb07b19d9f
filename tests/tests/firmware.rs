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
#[path = "firmware/storage.rs"]
mod storage;

use std::path::PathBuf;

use skiff_tests::firmware::machine::{Machine, QEMU, Setup, has_qemu};
use skiff_tests::firmware::{Board, BuildError, Fetch, Image, build};
use skiff_tests::programs::skip;

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

/// The server of a board, not yet switched on.
#[track_caller]
fn server(test: &str, board: Board) -> Option<Setup> {
    image(test, &Image::server(board)).map(|image| Setup::new(board, &image))
}

/// The server of a board, running.
#[track_caller]
fn start(test: &str, board: Board) -> Option<Machine> {
    server(test, board).map(|setup| Machine::start(&setup))
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
