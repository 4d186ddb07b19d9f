//! Recovery from errors: a panic, an endless loop.

use skiff_tests::firmware::{Board, Image};
use skiff_tests::programs::join;

use super::{BOARDS, Scene, image};

/// Makes the board fail with a key on the console, and waits until it serves again.
fn fails_and_comes_back(boards: impl Iterator<Item = Board>, key: &'static str, says: &'static str) {
    let scenes: Vec<_> = boards
        .map(|board| {
            let features = format!("{} short-waits", board.features());
            Scene::new(board, &image(&Image { board, program: "skiff-firmware", features: &features }))
        })
        .collect();
    // At once; a watchdog takes a while.
    let threads: Vec<_> = scenes
        .into_iter()
        .map(|scene| {
            std::thread::spawn(move || {
                let mut machine = scene.start();
                machine.put("before", b"it went wrong");
                let from = machine.running.out().len();
                machine.running.say(key);
                let at = machine.running.hear(says, from);
                machine.running.hear("\nip ", at);
                // The content of RAM is lost.
                let left = scene.keeps_files().then(|| b"it went wrong".to_vec());
                assert_eq!(machine.content("before"), left);
            })
        })
        .collect();
    threads.into_iter().for_each(join);
}

#[test]
fn a_panic_is_reported_and_the_board_restarts() {
    fails_and_comes_back(BOARDS.iter().copied(), "p", "panic at src/app.rs:");
}

#[test]
fn a_board_that_hangs_is_started_again_by_its_watchdog() {
    fails_and_comes_back(BOARDS.iter().copied().filter(|board| board.has_watchdog()), "h", "\r\nskiff-");
}
