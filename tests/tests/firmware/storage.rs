//! Storage: the SD card, and memory budgets.

use core::hash::{BuildHasher as _, Hasher as _};
use core::time::Duration;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::thread;

use skiff_proto::crc::crc32c;
use skiff_tests::firmware::budget::{Budgets, load};
use skiff_tests::firmware::machine::{Machine, Setup};
use skiff_tests::firmware::{Board, Image};
use skiff_tests::programs::join;
use skiff_tests::sans_io::{body, message};
use skiff_tests::wire::End;

use super::{BOARDS, content, image, scene};

const CHECK: Image<'static> = Image { board: Board::Lm3s6965, program: "sd-check", features: "" };

/// A card of `size` bytes, a power of two.
fn card(path: &Path, size: u64) {
    File::create(path).unwrap().set_len(size).unwrap();
}

/// Runs the check of the card; returns its output.
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
    let path = image(&CHECK);
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
        // The content of the card's file: block `number` is a stream of xorshift32.
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
fn memory_is_copied_moved_and_filled_at_every_alignment() {
    let path = image(&Image { board: Board::Lm3s6965, program: "copy-check", features: "" });
    let machine = Machine::switch_on(&Setup::new(Board::Lm3s6965, &path));
    let from = machine.running.hear("copy-check: ", 0);
    let end = machine.running.hear("\n", from);
    assert_eq!(machine.running.out()[from..end].trim(), "ok");
}

#[test]
fn a_slot_without_a_card_is_reported() {
    let path = image(&CHECK);
    let said = check(&Setup::new(Board::Lm3s6965, &path));
    assert!(said.ends_with("sd-check: no card\r\n"), "{said}");
}

#[test]
fn a_card_with_something_else_on_it_is_left_alone_until_somebody_allows_to_erase_it() {
    let scene = scene(Board::Lm3s6965);
    let card = scene.setup.card.clone().unwrap();
    let others = content(8 << 20, 5);
    fs::write(&card, &others).unwrap();
    let mut machine = Machine::switch_on(&scene.setup);
    let asked = machine.running.hear("card: press E to erase the card", 0);
    assert!(machine.running.out().contains("card: holds other data"));
    machine.running.say("e?");
    // It waits for five seconds, restarts, and asks again.
    let asked = machine.running.hear("card: press E to erase the card", asked);
    assert!(fs::read(&card).unwrap() == others);
    machine.running.say("E");
    let formatted = machine.running.hear("card: formatted", asked);
    machine.running.hear("\nip ", formatted);
    machine.put("f", b"mine now");
    machine.kill();
    assert_eq!(scene.start().content("f").as_deref(), Some(&b"mine now"[..]));
}

#[test]
fn memory_stays_within_the_budget_after_everything_was_done_once() {
    for &board in BOARDS {
        let scene = scene(board);
        let mut machine = scene.start();
        let status = load(&mut machine);
        println!("{board:?}: {status:?}");
        if let Some(budget) = Budgets::load().ram(board) {
            let verdict = budget.judge(status.fixed + status.stack);
            println!("RAM: {verdict}");
            assert!(verdict.is_kept(), "{verdict}");
        }
        assert!(status.stack + 1024 < status.room, "{status:?}");
        assert_eq!((status.sessions, status.data), (0, 0), "{status:?}");
    }
}

/// Numbers that depend only on a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// A client's expectation of a board's store.
#[derive(Default)]
struct Known {
    /// Files that were answered `ok`.
    stored: BTreeMap<String, Vec<u8>>,
    /// A write that was interrupted by a power cut: it may be stored, staged, or lost.
    begun: Option<(String, Vec<u8>)>,
}

impl Known {
    /// Compares with the content after a power cut.
    fn check(&mut self, machine: &Machine, round: u32) {
        let mut wire = machine.connect();
        // The last piece and the trailer had arrived, and the `ok` was lost.
        if let Some((name, content)) = &self.begun
            && wire.read(name).is_ok_and(|now| now == *content)
        {
            self.stored.extend(self.begun.take());
        }
        for (name, content) in &self.stored {
            assert!(wire.read(name).is_ok_and(|now| now == *content), "{name}, round {round}");
        }
        wire.say("quit");
        assert_eq!(wire.hear_end().1, End::Closed);
        assert_eq!(machine.names(), self.stored.keys().cloned().collect::<Vec<_>>(), "round {round}");
    }

    /// Continues the write that was interrupted by a power cut; true if not from the beginning.
    fn go_on(&mut self, machine: &Machine) -> bool {
        let Some((name, content)) = self.begun.take() else { return false };
        let mut wire = machine.connect();
        let reply = wire.ask(format!("resume {} {name}", content.len()));
        let mut words = reply.split(' ').skip(1);
        let from: usize = words.next().unwrap().parse().unwrap();
        let crc = words.next().unwrap();
        // The staged bytes may belong to the write before.
        let from = if crc == format!("{:08x}", crc32c(&content[..from])) { from } else { 0 };
        wire.say(format!("write {from} {} - {name}", content.len()));
        wire.send_bytes(&body(&content[from..], crc32c(&content)));
        assert_eq!(wire.hear_text(), format!("ok {} {:08x}", content.len(), crc32c(&content)));
        self.stored.insert(name, content);
        from > 0
    }
}

#[test]
fn files_on_a_card_survive_power_cuts_in_the_middle_of_uploads() {
    survive_power_cuts(Board::Lm3s6965);
}

#[cfg(firmware_riscv)]
#[test]
fn files_on_nor_flash_survive_power_cuts_in_the_middle_of_uploads() {
    survive_power_cuts(Board::Virt);
}

/// The blocks that are full survive; on this flash, a block has 256 KiB.
#[cfg(firmware_riscv)]
#[test]
fn an_upload_to_nor_flash_resumes_after_a_power_cut() {
    const SENT: usize = 700_000;
    let scene = scene(Board::Virt);
    let machine = scene.start();
    let bytes = content(900_000, 4);
    let staged = |machine: &Machine| {
        let mut wire = machine.connect();
        let mut reply = String::new();
        // Until the server has noticed that the writer is gone.
        assert!(skiff_tests::wire::eventually(|| {
            reply = wire.ask(format!("resume {} big", bytes.len()));
            !reply.starts_with("error busy")
        }));
        reply.split(' ').nth(1).and_then(|staged| staged.parse::<usize>().ok()).unwrap_or_else(|| panic!("{reply}"))
    };
    let mut wire = machine.connect();
    wire.say(format!("write 0 {} - big", bytes.len()));
    wire.send_bytes(&message(&bytes[..SENT]));
    drop(wire);
    assert_eq!(staged(&machine), SENT);
    machine.kill();
    let machine = scene.start();
    let from = staged(&machine);
    println!("{from} of {SENT} bytes are still staged");
    assert!(from > SENT / 2, "{from}");
    let mut known = Known { begun: Some(("big".into(), bytes)), ..Known::default() };
    assert!(known.go_on(&machine));
    known.check(&machine, 0);
}

#[cfg(firmware_riscv)]
#[test]
fn flash_with_something_else_on_it_is_left_alone() {
    let scene = scene(Board::Virt);
    let flash = scene.setup.card.clone().unwrap();
    let others = content(32 << 20, 5);
    fs::write(&flash, &others).unwrap();
    let machine = Machine::switch_on(&scene.setup);
    // It restarts, and reports it again.
    let first = machine.running.hear("flash: holds other data", 0);
    machine.running.hear("flash: holds other data", first);
    machine.kill();
    assert!(fs::read(&flash).unwrap() == others);
}

fn survive_power_cuts(board: Board) {
    const ROUNDS: u32 = 24;
    let scene = scene(board);
    let seed = std::collections::hash_map::RandomState::new().build_hasher().finish();
    println!("seed {seed}");
    let mut random = Random(seed | 1);
    let mut known = Known::default();
    let mut resumed = 0;
    for round in 0..ROUNDS {
        let machine = scene.start();
        known.check(&machine, round);
        // The interrupted write is resumed, every other time.
        if round % 2 == 1 {
            resumed += u32::from(known.go_on(&machine));
        }
        let mut wire = machine.connect();
        for i in 0..random.below(3) {
            let (name, bytes) = (format!("small-{i}"), content(random.below(6000), round));
            assert!(wire.write(&name, &bytes).starts_with("ok "), "{name}");
            known.stored.insert(name, bytes);
        }
        // The same name each time, so that there is an old file to keep.
        let bytes = content(150_000, 1000 + round);
        let mut command = message(format!("write 0 {} - log", bytes.len()));
        command.extend(body(&bytes, crc32c(&bytes)));
        // A bounded number of bytes and a bounded time: the emulator is killed in the middle of whatever the board does
        // then.
        let (cut, end) = (random.below(command.len() + 1), Duration::from_millis(random.below(150) as u64));
        let mut stream = wire.stream.try_clone().unwrap();
        let sending = thread::spawn(move || _ = stream.write_all(&command[..cut]));
        thread::sleep(end);
        machine.kill();
        join(sending);
        known.begun = Some(("log".into(), bytes));
    }
    let machine = scene.start();
    known.check(&machine, ROUNDS);
    println!("{resumed} of {} writes were resumed", ROUNDS / 2);
}
