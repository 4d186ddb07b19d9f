//! Where files are kept: the SD card, and budgets of memory.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use skiff_tests::firmware::budget::{Budgets, load};
use skiff_tests::firmware::machine::{Machine, Setup};
use skiff_tests::firmware::{Board, Image};

use super::{image, start};

const CHECK: Image<'static> = Image { board: Board::Lm3s6965, program: "sd-check", features: "" };

/// A card of `size` bytes, a power of two.
fn card(path: &Path, size: u64) {
    File::create(path).unwrap().set_len(size).unwrap();
}

/// Runs the check of the card; what it said.
fn check(setup: &Setup) -> String {
    let machine = Machine::switch_on(setup);
    let from = machine.running.hear("sd-check: ", 0);
    // The last line begins with one of these.
    let last = ["ok\r\n", "no card\r\n", "takes too long\r\n", "refuses", "damaged", "written\r\n", "fails\r\n"];
    assert!(skiff_tests::wire::eventually(|| last.iter().any(|end| machine.running.out()[from - 10..].contains(end))));
    machine.running.out()
}

#[test]
fn blocks_of_cards_of_both_kinds_are_what_was_written() {
    let Some(path) = image("blocks_of_cards_of_both_kinds_are_what_was_written", &CHECK) else { return };
    let directory = tempfile::tempdir().unwrap();
    // Addressed by byte, and, beyond 2 GiB, by block.
    for size in [64 << 20, 4 << 30] {
        let file = directory.path().join("card");
        card(&file, size);
        let mut setup = Setup::new(Board::Lm3s6965, &path);
        setup.card = Some(file.clone());
        let said = check(&setup);
        assert!(said.contains(&format!("{} blocks\r\n", size / 512)), "{said}");
        assert!(said.contains("the last block is new") && said.ends_with("ok\r\n"), "{said}");
        // What the file holds: block `number` is a stream of xorshift32.
        let mut image = File::open(&file).unwrap();
        for number in [0, 1, 63, size / 1024, size / 512 - 1] {
            image.seek(SeekFrom::Start(512 * number)).unwrap();
            let mut block = [0; 512];
            image.read_exact(&mut block).unwrap();
            let mut x = u32::try_from(number).unwrap().wrapping_mul(0x9e37_79b9) | 1;
            for word in block.as_chunks::<4>().0 {
                x ^= x << 13;
                x ^= x >> 17;
                x ^= x << 5;
                assert_eq!(u32::from_le_bytes(*word), x, "block {number}");
            }
        }
        let again = check(&setup);
        assert!(again.contains("the last block is as written before") && again.ends_with("ok\r\n"), "{again}");
    }
}

#[test]
fn a_slot_without_a_card_is_told() {
    let Some(path) = image("a_slot_without_a_card_is_told", &CHECK) else { return };
    let said = check(&Setup::new(Board::Lm3s6965, &path));
    assert!(said.ends_with("sd-check: no card\r\n"), "{said}");
}

#[test]
fn memory_stays_within_the_budget_after_everything_was_done_once() {
    let Some(mut machine) = start("memory_stays_within_the_budget_after_everything_was_done_once", Board::Lm3s6965)
    else {
        return;
    };
    let status = load(&mut machine);
    let verdict = Budgets::load().ram.judge(status.fixed + status.stack);
    println!("RAM: {verdict}");
    assert!(verdict.is_kept(), "{verdict}");
    assert!(status.stack + 1024 < status.room, "{status:?}");
    assert_eq!((status.sessions, status.data), (0, 0), "{status:?}");
}
