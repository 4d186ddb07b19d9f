//! device-serv on a flash image: killed during transfers, restarted and inspected.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use skiff_proto::crc::crc32c;
use skiff_tests::flash::Rng;
use skiff_tests::programs::{Serv, device_serv, flash_reader, python, run};
use skiff_tests::sans_io::{body, message};
use skiff_tests::wire::{End, eventually};

/// device-serv that serves `store`, as its option says, behind a free port.
fn on(store: &str) -> Command {
    let mut command = device_serv();
    command.args(["--listen", "0", "--store", store]);
    command
}

struct Chip {
    _directory: tempfile::TempDir,
    image: PathBuf,
}

impl Chip {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        // A colon is part of the name.
        let image = directory.path().join("chip:1.img");
        Self { _directory: directory, image }
    }

    fn option(&self, size: &str) -> String {
        format!("flash:{}{size}", self.image.display())
    }

    fn start(&self) -> Serv {
        Serv::launch(&mut on(&self.option("")), "port ").unwrap_or_else(|ran| panic!("{ran:?}"))
    }

    fn start_new(size: &str) -> (Self, Serv) {
        let chip = Self::new();
        let serv = Serv::launch(&mut on(&chip.option(size)), "port ").unwrap_or_else(|ran| panic!("{ran:?}"));
        (chip, serv)
    }

    fn holds(&self, bytes: &[u8]) -> bool {
        let image = fs::read(&self.image).expect("the image");
        image.windows(bytes.len()).any(|window| window == bytes)
    }
}

/// What a server that could not start said, in one line.
fn refused(option: &str) -> String {
    let ran = run(&mut on(option));
    assert_eq!((ran.code, ran.out(), ran.err.lines().count()), (Some(1), "", 1), "{}", ran.err);
    ran.err
}

fn resume(serv: &Serv, size: usize, name: &str) -> (usize, u32) {
    let mut said = String::new();
    let mut wire = serv.connect();
    assert!(eventually(|| {
        said = wire.ask(format!("resume {size} {name}"));
        !said.starts_with("error busy")
    }));
    let words: Vec<&str> = said.split(' ').collect();
    assert_eq!(words[0], "ok", "{said}");
    (words[1].parse().expect("an offset"), u32::from_str_radix(words[2], 16).expect("a checksum"))
}

fn listed(python: &str, image: &Path) -> Vec<String> {
    let mut lines: Vec<_> = run(&mut flash_reader(python, image)).ok().lines().map(ToOwned::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_server_that_is_killed_in_the_middle_of_a_write_keeps_the_old_file_and_goes_on() {
    let (chip, serv) = Chip::start_new(":2MiB");
    let old = Rng::new(1).bytes(100_000);
    assert!(serv.connect().write("f", &old).starts_with("ok 100000 "));
    serv.kill();
    let new = Rng::new(2).bytes(300_000);
    let mut from = 0;
    // Further each time.
    for upto in [40_000, 90_000, 200_000] {
        let serv = chip.start();
        let (offset, crc) = resume(&serv, new.len(), "f");
        assert_eq!((offset, crc), (from, crc32c(&new[..from])));
        let mut wire = serv.connect();
        wire.say(format!("write {from} {} 1700000000 f", new.len()));
        wire.send_bytes(&message(&new[from..upto]));
        // It is on the chip: now.
        let last = &new[upto / 256 * 256 - 600..upto / 256 * 256 - 560];
        assert!(eventually(|| chip.holds(last)));
        serv.kill();
        let serv = chip.start();
        assert!(serv.connect().read("f").expect("the old file") == old);
        let (offset, crc) = resume(&serv, new.len(), "f");
        // A checkpoint every 32 KiB, at the end of a block.
        assert!(offset <= upto && offset + 32_768 + 2 * 4096 >= upto, "{offset} of {upto}");
        assert_eq!(crc, crc32c(&new[..offset]));
        from = offset;
        serv.kill();
    }
    let serv = chip.start();
    let mut wire = serv.connect();
    wire.say(format!("write {from} {} 1700000000 f", new.len()));
    wire.send_bytes(&body(&new[from..], crc32c(&new)));
    assert_eq!(wire.hear_text(), format!("ok 300000 {:08x}", crc32c(&new)));
    // `ok` is a promise.
    serv.kill();
    let serv = chip.start();
    let mut wire = serv.connect();
    assert_eq!(wire.ask("stat f"), format!("ok 300000 1700000000 {:08x}", crc32c(&new)));
    assert!(wire.read("f").expect("the new file") == new);
    if let Some(python) = python("device_flash") {
        assert_eq!(listed(python, &chip.image), [format!("300000 1700000000 {:08x} f", crc32c(&new))]);
    }
}

#[test]
fn a_lost_connection_leaves_every_byte_for_the_next_start() {
    let (chip, serv) = Chip::start_new("");
    let bytes = Rng::new(3).bytes(10_000);
    let mut wire = serv.connect();
    wire.say("write 0 20000 - f");
    wire.send_bytes(&message(&bytes));
    wire.finish();
    assert_eq!(wire.hear_end().1, End::Closed);
    // It has noticed, and settled: nothing but that makes the name free.
    assert_eq!(resume(&serv, 20_000, "f"), (10_000, crc32c(&bytes)));
    serv.kill();
    if let Some(python) = python("device_flash") {
        assert_eq!(listed(python, &chip.image), [format!("staged 10000 {:08x} f", crc32c(&bytes))]);
    }
    assert_eq!(resume(&chip.start(), 20_000, "f"), (10_000, crc32c(&bytes)));
}

#[test]
fn an_image_has_one_server_at_a_time() {
    let (chip, serv) = Chip::start_new(":256KiB");
    assert_eq!(fs::metadata(&chip.image).expect("the image").len(), 256 * 1024);
    assert!(refused(&chip.option("")).ends_with("chip:1.img: in use by another program\n"));
    drop(serv.stop());
    drop(chip.start());
}

#[test]
fn what_is_no_image_is_refused_and_left_alone() {
    let chip = Chip::new();
    let something = Rng::new(5).bytes(64 * 1024);
    fs::write(&chip.image, &something).expect("room");
    assert!(refused(&chip.option("")).ends_with("there is something else on the medium\n"));
    assert!(refused(&chip.option(":128KiB")).ends_with("the image is 65536 bytes long, not 131072\n"));
    assert!(fs::read(&chip.image).expect("it is there") == something);
    refused(&format!("flash:{}", chip.image.parent().expect("a directory").display()));
    assert_eq!(run(&mut on("flash:")).code, Some(2));
}

#[test]
fn a_full_chip_says_so_and_room_can_be_made() {
    let (_chip, serv) = Chip::start_new(":128KiB");
    let mut wire = serv.connect();
    let space = wire.ask("space");
    let free: usize = space.split(' ').nth(2).expect("free").parse().expect("bytes");
    let bytes = Rng::new(6).bytes(free);
    assert!(wire.write("f", &bytes).starts_with("ok "));
    assert!(wire.ask("space").ends_with(" 0"));
    assert!(wire.write("g", b"x").starts_with("error no-space"));
    assert!(wire.ask("resume 1 g").starts_with("error no-space"));
    assert_eq!(wire.ask("rename f\nh"), "ok");
    assert_eq!(wire.ask("remove h"), "ok");
    assert_eq!(wire.ask("space"), space);
}
