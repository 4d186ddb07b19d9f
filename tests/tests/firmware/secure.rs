//! Boards with a device secret.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use skiff_proto::secure::Key;
use skiff_tests::firmware::budget::{Budgets, load_sealed};
use skiff_tests::firmware::machine::{Machine, Setup};
use skiff_tests::firmware::{Board, Image};
use skiff_tests::programs::{host_cli, run};
use skiff_tests::sealed::{Sealed, key, secret_text};
use skiff_tests::wire::{End, Wire};

use super::{Scene, content, image};

/// The secret as in the settings.
fn base64() -> String {
    secret_text().trim_start_matches("skiff-secret-1 ").to_owned()
}

/// A board with a card and a secret.
fn scene(more: &str) -> Scene {
    let mut scene = Scene::new(Board::Lm3s6965, &image(&Image::SECURE));
    scene.setup.settings = format!("secret={} {more}", base64());
    scene
}

fn nonce(wire: &mut Wire) -> String {
    let hello = wire.ask("get /skiff/1");
    hello.split(" nonce=").nth(1).unwrap_or_else(|| panic!("no nonce: {hello}")).to_owned()
}

/// Waits for a line on the console; returns all output until then.
fn said(machine: &Machine, line: &str) -> String {
    machine.running.hear("\n", machine.running.hear(line, 0));
    machine.running.out()
}

#[test]
fn a_client_with_a_key_puts_and_gets_and_one_without_is_refused() {
    let scene = scene("min-generation=3");
    let machine = scene.start();
    assert!(!machine.running.out().contains(&base64()), "{}", machine.running.out());
    let here = tempfile::tempdir().unwrap();
    let bytes = content(50_000, 1);
    fs::write(here.path().join("f"), &bytes).unwrap();
    for id in ["rw.alice.3", "rw.alice.2", "ro.bob.3"] {
        let mut text = [0; Key::TEXT_LEN];
        fs::write(here.path().join(id), key(id).encode(&mut text)).unwrap();
        fs::set_permissions(here.path().join(id), Permissions::from_mode(0o600)).unwrap();
    }
    let port = machine.port().to_string();
    let host_cli = |words: &[&str]| run(host_cli(here.path()).args(["127.0.0.1", &port]).args(words));
    _ = host_cli(&["--key", "rw.alice.3", "put", "f"]).ok();
    _ = host_cli(&["--key", "ro.bob.3", "get", "f", "-o", "copy"]).ok();
    assert!(fs::read(here.path().join("copy")).unwrap() == bytes);
    for refused in [&["ls"][..], &["--key", "rw.alice.2", "ls"], &["--key", "ro.bob.3", "rm", "f"]] {
        let ran = host_cli(refused);
        assert!(ran.code != Some(0), "{refused:?}: {ran:?}");
    }
    let mut wire = machine.connect();
    _ = nonce(&mut wire);
    assert!(wire.ask("read 0 * f").starts_with("error denied"));
    let secure = "secure Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s rw.alice.3 ";
    assert!(wire.ask(format!("{secure}{}", "00".repeat(48))).starts_with("error denied"));
    assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
}

#[test]
fn files_and_staged_bytes_outlive_power_cuts_and_no_nonce_comes_again() {
    let scene = scene("");
    let mut nonces = BTreeSet::new();
    let mut starts = Vec::new();
    for restart in 0..12_u32 {
        let machine = scene.start();
        let out = machine.running.out();
        let start = out.split("clients need a key; start ").nth(1).expect("the number of the start");
        starts.push(start.split_whitespace().next().unwrap().parse::<u64>().unwrap());
        for _ in 0..3 {
            let mut wire = machine.connect();
            assert!(nonces.insert(nonce(&mut wire)));
            wire.say("quit");
            _ = wire.hear_end();
        }
        let mut client = Sealed::connect(machine.addr(), key("rw.alice.1")).unwrap();
        if restart > 0 {
            assert!(client.read("f").unwrap() == content(3000, restart - 1));
        }
        assert!(client.write("f", &content(3000, restart), 800).unwrap().starts_with("Stored"));
        // As a power cut does; at some starts in the middle of a write.
        if restart % 2 == 0 {
            client.write_altered("g", &content(2000, 0), 800, 0).unwrap();
        }
        machine.kill();
    }
    assert!(starts.is_sorted_by(|one, next| one < next), "{starts:?}");
    assert_eq!(nonces.len(), 36);
}

#[test]
fn a_board_that_can_not_protect_its_connections_serves_nobody_and_says_why() {
    // Files in RAM: there is no place for the count of starts.
    let ram = image(&Image { board: Board::Lm3s6965, program: "skiff-firmware", features: "dhcp secure" });
    let mut setup = Setup::new(Board::Lm3s6965, &ram);
    setup.settings = format!("secret={}", base64());
    let out = said(&Machine::switch_on(&setup), "secret: refusing all clients: this start can't be counted");
    assert!(!out.contains(&base64()) && !out.contains("\nip "), "{out}");
    // Without a secret it serves every client.
    setup.settings.clear();
    assert_eq!(Machine::start(&setup).connect().ask("ping"), "ok");
    // An invalid secret, and one in an image without the feature.
    let plain = image(&Image::server(Board::Lm3s6965));
    for (image, secret, says) in [
        (&ram, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=", "settings: the secret is not valid"),
        (&ram, "AAEC", "settings: the secret is not valid"),
        (&plain, &*base64(), "settings: this image has no secrets"),
    ] {
        let mut setup = Setup::new(Board::Lm3s6965, image);
        setup.settings = format!("secret={secret}");
        let out = said(&Machine::switch_on(&setup), says);
        assert!(!out.contains("AAEC") && !out.contains("\nip "), "{out}");
    }
}

#[test]
fn a_secret_is_typed_at_the_console_and_never_shown() {
    // Its settings are in memory that a program can write.
    let path = image(&Image { board: Board::Mps2, program: "skiff-firmware", features: "dhcp secure" });
    let mut machine = Machine::start(&Setup::new(Board::Mps2, &path));
    for (typed, says) in [
        ("AAEC", "secret: not valid, and not changed"),
        ("", "secret: not valid, and not changed"),
        (&*"A".repeat(2000), "secret: not valid, and not changed"),
        (&*secret_text(), "secret: changed"),
    ] {
        let from = machine.running.out().len();
        machine.running.say("S");
        let from = machine.running.hear("secret: type or paste", from);
        machine.running.say(format!("{typed}\r"));
        machine.running.hear(says, from);
        assert!(!machine.running.out().contains("AAEC"), "{}", machine.running.out());
    }
    // The emulator can't write the flash of this board: the board notices that and continues.
    let scene = scene("");
    let mut machine = scene.start();
    machine.running.say("S");
    let from = machine.running.hear("secret: type or paste", 0);
    machine.running.say(format!("{}\r", secret_text().replace("AAEC", "AAAA")));
    machine.running.hear("secret: could not be written", from);
    assert!(Sealed::connect(machine.addr(), key("rw.alice.1")).is_ok());
}

#[test]
fn memory_stays_within_the_budget_over_protected_connections() {
    let scene = scene("");
    let mut machine = scene.start();
    let status = load_sealed(&mut machine);
    let verdict = Budgets::load().secure.ram.judge(status.fixed + status.stack);
    println!("RAM: {verdict}");
    assert!(verdict.is_kept(), "{verdict}");
    assert!(status.stack + 1024 < status.room, "{status:?}");
}
