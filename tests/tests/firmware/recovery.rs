//! What happens when something goes wrong: a panic, a loop without end.

use skiff_tests::firmware::machine::{Machine, Setup};
use skiff_tests::firmware::{FEATURES, Image};
use skiff_tests::programs::join;

use super::{BOARDS, image};

/// Has the board fail by a key of the console, and waits until it serves again.
fn fails_and_comes_back(test: &'static str, key: &'static str, says: &'static str) {
    let features = format!("{FEATURES} faults");
    let machines: Vec<_> = BOARDS
        .into_iter()
        .filter_map(|board| {
            let path = image(test, &Image { board, program: "skiff-firmware", features: &features })?;
            Some(Machine::start(&Setup::new(board, &path)))
        })
        .collect();
    // At once, since a watchdog takes its time.
    let threads: Vec<_> = machines
        .into_iter()
        .map(|mut machine| {
            std::thread::spawn(move || {
                assert_eq!(machine.connect().ask("ping"), "ok");
                let from = machine.running.out().len();
                machine.running.say(key);
                let at = machine.running.hear(says, from);
                machine.running.hear("\nip ", at);
                assert_eq!(machine.connect().ask("ping"), "ok");
            })
        })
        .collect();
    threads.into_iter().for_each(join);
}

#[test]
fn a_panic_is_told_and_the_board_starts_again() {
    fails_and_comes_back("a_panic_is_told_and_the_board_starts_again", "p", "asked for\r\n");
}

#[test]
fn a_board_that_hangs_is_started_again_by_its_watchdog() {
    fails_and_comes_back("a_board_that_hangs_is_started_again_by_its_watchdog", "h", "\r\nskiff-");
}
