//! The embedded server with a device secret: which clients are served, how, and which have to wait.

use core::time::Duration;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use skiff_device::serv::options::{Options, Security};
use skiff_proto::command::{Command, Request};
use skiff_tests::device::Device;
use skiff_tests::programs::{Serv, device_serv, run};
use skiff_tests::sealed::{Sealed, key, secret, secret_text};
use skiff_tests::wire::{End, Wire, answers, eventually};

/// A server with a secret; `change` sets it up.
fn device(change: impl FnOnce(&mut Options)) -> Device {
    Device::with(|options| {
        options.security = Some(Security { secret: secret(), min_generation: 2 });
        change(options);
    })
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at * at) >> 5).to_le_bytes()[0]).collect()
}

/// Sends the hello; returns the reply, and the nonce in it.
fn greet(wire: &mut Wire) -> (String, String) {
    let hello = wire.ask("get /skiff/1");
    let nonce = hello.split(" nonce=").nth(1).expect("a nonce").to_owned();
    (hello, nonce)
}

/// Sends the hello and shows an invalid key.
fn fail(wire: &mut Wire) -> String {
    _ = greet(wire);
    wire.ask(format!("secure Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s rw.alice.2 {}", "00".repeat(48)))
}

#[test]
fn records_of_every_size_cross_the_end_of_a_socket_buffer() {
    // Socket buffers in which a record just fits, the recommended ones, and large ones.
    for buffer in [1220, 1500, 2048, 65_536] {
        let device = device(|options| options.buffer = buffer);
        let mut client = Sealed::connect(device.addr(), key("rw.alice.2")).unwrap();
        for piece in [1, 7, 333, 584, 585, 2000] {
            let content = bytes(if piece < 10 { 700 } else { 20_000 });
            let stored = client.write("f", &content, piece).unwrap();
            assert!(stored.starts_with(&format!("Stored {{ size: {}", content.len())), "{buffer} {piece}: {stored}");
            assert!(client.read("f").unwrap() == content, "{buffer} {piece}");
        }
    }
}

#[test]
fn a_server_whose_rings_hold_no_record_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    fs::write(&file, secret_text()).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let file = file.to_str().unwrap();
    let ran = run(device_serv().args(["--listen", "0", "--buffer", "1KiB", "--secret", file]));
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("a socket buffer needs 610 bytes"), "{}", ran.err);
}

#[test]
fn clients_without_the_right_key_are_refused() {
    let device = device(|_| ());
    let mut wire = device.connect();
    let (hello, nonce) = greet(&mut wire);
    assert!(hello.contains(" noise=Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s record-max=1014 nonce="), "{hello}");
    assert_eq!(greet(&mut wire).1, nonce, "the same for each hello of a connection");
    for command in ["list", "read 0 * f", "remove f", "ping", "nonsense"] {
        assert!(wire.ask(command).starts_with("error denied"), "{command}");
    }
    assert!(wire.write("f", b"content").starts_with("error denied"));
    assert_eq!((wire.ask("get f"), wire.ask("put f")), ("-1".into(), "-1".into()));
    let denied = fail(&mut wire);
    assert!(denied.starts_with("error denied"), "{denied}");
    assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
    for refused in ["rw.alice.1", "ro.bob.1"] {
        let refused = Sealed::connect(device.addr(), key(refused)).unwrap_err();
        assert!(refused.contains("Denied"), "{refused}");
    }
    let mut reader = Sealed::connect(device.addr(), key("ro.bob.2")).unwrap();
    assert!(reader.write("f", b"content", 100).unwrap().contains("Denied"));
    assert!(reader.read("f").unwrap_err().contains("NotFound"));
}

#[test]
fn no_nonce_is_said_twice() {
    let mut nonces = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let device = device(|_| ());
        for _ in 0..50 {
            let mut wire = device.connect();
            assert!(nonces.insert(greet(&mut wire).1));
            wire.say("quit");
            _ = wire.hear_end();
        }
    }
}

#[test]
fn clients_without_a_key_yield_their_places_and_clients_with_one_keep_theirs() {
    let mut device = device(|options| options.sessions = 2);
    let mut strangers = [device.connect(), device.connect()];
    for stranger in &mut strangers {
        _ = greet(stranger);
    }
    // Both places are taken, and each is given up for the next client.
    let mut first = Sealed::connect(device.addr(), key("rw.alice.2")).unwrap();
    let mut second = Sealed::connect(device.addr(), key("rw.bob.2")).unwrap();
    for stranger in &mut strangers {
        assert!(!stranger.try_ask("get /skiff/1"), "it has lost its place");
    }
    for _ in 0..20 {
        assert!(!answers(device.addr(), "get /skiff/1"), "nobody gives a place up for a stranger");
    }
    for client in [&mut first, &mut second] {
        assert_eq!(client.ask(&Command::Ping).unwrap(), "Done");
    }
    drop((first, second));
    let report = device.stop().unwrap();
    assert_eq!(report.counts.accepted, 4);
}

#[test]
fn a_client_without_a_key_that_keeps_sending_is_closed_after_ten_seconds() {
    let device = device(|_| ());
    let start = Instant::now();
    let mut wire = device.connect();
    // Each hello is progress, and does not count.
    while wire.try_ask("get /skiff/1") {
        let length = wire.hear_bytes(9);
        let length = String::from_utf8(length).unwrap().parse().unwrap();
        _ = wire.hear_bytes(length);
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(start.elapsed() > Duration::from_secs(9), "{:?}", start.elapsed());
}

#[test]
fn failed_handshakes_are_worked_on_at_eight_a_second_and_protected_clients_go_on() {
    let mut device = device(|_| ());
    let mut client = Sealed::connect(device.addr(), key("rw.alice.2")).unwrap();
    let start = Instant::now();
    for _ in 0..28 {
        assert!(fail(&mut device.connect()).starts_with("error denied"));
        assert_eq!(client.ask(&Command::Ping).unwrap(), "Done");
    }
    // The first eight at once, then one every 125 ms.
    assert!(start.elapsed() > Duration::from_millis(20 * 125 - 200), "{:?}", start.elapsed());
    // While handshakes wait, the protected connection does not.
    let mut waiting = device.connect();
    waiting.say("get /skiff/1");
    let content = bytes(20_000);
    assert!(client.write("f", &content, 1000).unwrap().starts_with("Stored"));
    assert!(client.read("f").unwrap() == content);
    drop(client);
    assert_eq!(device.stop().unwrap().counts.denied, 28);
}

#[test]
fn a_record_that_was_changed_ends_the_connection_and_leaves_nothing_of_itself() {
    let device = device(|_| ());
    let name = skiff_proto::Name::parse(b"f", 64).unwrap();
    let resume = Command::Request(Request::Resume { size: 9_999, name });
    let mut honest = Sealed::connect(device.addr(), key("rw.alice.2")).unwrap();
    for bit in [0, 700 * 8, 999 * 8 + 7] {
        let victim = device.connect().stream;
        let mut victim = Sealed::over(victim, key("rw.alice.2")).unwrap();
        // A complete record, and one with a bit flipped, behind a `write` that the server has accepted.
        victim.write_altered("f", &bytes(9_999), 900, bit).unwrap();
        assert_eq!(skiff_tests::wire::read_to_end(&mut victim.stream), (Vec::new(), End::Reset));
        let expected = "Resume { offset: 900, crc: ";
        assert!(eventually(|| honest.ask(&resume).unwrap().starts_with(expected)), "{:?}", honest.ask(&resume));
    }
}

#[test]
fn device_serv_takes_a_secret_from_a_file_and_says_what_is_wrong_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    let path = file.to_str().unwrap();
    let options = |more: &[&str]| {
        let mut command = device_serv();
        command.args(["--listen", "0", "--secret", path]).args(more);
        command
    };
    let image = dir.path().join("image");
    let ran = run(&mut options(&[]));
    assert!(ran.code == Some(1) && ran.err.contains("No such file"), "{}", ran.err);
    fs::write(&file, secret_text()).unwrap();
    let ran = run(&mut options(&[]));
    assert!(ran.code == Some(1) && ran.err.contains("chmod 600"), "{}", ran.err);
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let store = format!("flash:{}", image.display());
    for store in ["ram", &*store] {
        let serv = Serv::launch(&mut options(&["--min-generation", "7", "--store", store, "-v"]), "port ").unwrap();
        let addr = ([127, 0, 0, 1], serv.port()).into();
        assert!(Sealed::connect(addr, key("rw.alice.6")).is_err());
        let mut client = Sealed::connect(addr, key("rw.alice.7")).unwrap();
        assert!(client.write("f", b"content", 3).unwrap().starts_with("Stored"));
        assert_eq!(client.read("f").unwrap(), b"content");
        drop(client);
        let ran = serv.stop();
        assert!(ran.err.contains("1 without a valid key"), "{}", ran.err);
        assert!(!ran.err.contains("AAEC"), "{}", ran.err);
    }
    let ran = run(device_serv().args(["--listen", "0", "--min-generation", "2"]));
    assert_eq!(ran.code, Some(2));
}
