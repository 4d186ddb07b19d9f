//! Addresses, settings, networks.

use core::time::Duration;
use std::fs;
use std::thread;
use std::time::Instant;

use skiff_tests::firmware::machine::{Address, Machine, Setup};
use skiff_tests::firmware::{Board, EMBASSY, Image};
use skiff_tests::namespace::{inside, ip};
use skiff_tests::programs::{host_cli, run};
use skiff_tests::vector::{Cut, Pacing, Vector, load_all};
use skiff_tests::wire::{End, eventually};

use super::protocol::check;
use super::{BOARDS, Scene, content, image, scene};

#[test]
fn an_address_comes_by_dhcp() {
    for &board in BOARDS {
        let mut scene = scene(board);
        scene.setup.address = Address::Dhcp;
        let machine = scene.start();
        assert!(machine.running.out().contains("ip 10.0.2.15/24"), "{}", machine.running.out());
        let hello = machine.connect().ask("get /skiff/1");
        assert!(hello.starts_with(&format!("skiff/1 server=skiff-{}/", board.machine())), "{hello}");
    }
}

#[test]
fn settings_are_followed_and_what_makes_no_sense_is_named() {
    let mut scene = scene(Board::Lm3s6965);
    scene.setup.settings =
        "mac=02:00:00:00:be:ef name=lab-3 ip=1.2.3 mac=1:2:3 port=70000 colour=red gateway= port=0 idle=0".into();
    let machine = scene.start();
    let said = machine.running.out();
    for word in ["ip=1.2.3", "mac=1:2:3", "port=70000", "colour=red", "gateway=", "port=0", "idle=0"] {
        assert!(said.contains(&format!("settings: {word}?")), "{word}: {said}");
    }
    assert!(said.contains(&format!("mac 02:00:00:00:be:ef, port {}", machine.port())), "{said}");
    let hello = machine.connect().ask("get /skiff/1");
    assert!(hello.contains(" host=lab-3 "), "{hello}");
}

#[test]
fn an_idle_board_lets_the_processor_sleep() {
    for &board in BOARDS {
        let scene = scene(board);
        let machine = scene.start();
        // An idle session is no reason to stay awake either.
        let mut wire = machine.connect();
        assert_eq!(wire.ask("ping"), "ok");
        let before = (processor_time(&machine), Instant::now());
        thread::sleep(Duration::from_secs(1));
        let used = processor_time(&machine) - before.0;
        let share = used.as_secs_f64() / before.1.elapsed().as_secs_f64();
        println!("{board:?}: {:.1}% of a processor", share * 100.0);
        assert!(share < 0.5, "{share}");
        assert_eq!(wire.ask("ping"), "ok");
    }
}

#[test]
fn the_example_for_embassy_serves_two_sessions_at_a_time() {
    let path = image(&EMBASSY);
    let mut setup = Setup::new(EMBASSY.board, &path);
    // It has no settings: its port is fixed, and it uses DHCP.
    setup.guest_ports = Some(vec![50_000]);
    setup.ports.truncate(1);
    let machine = Machine::start(&setup);
    let bytes = content(5000, 9);
    for round in 0..3 {
        // The process before may still be ending.
        let mut wire = machine.connect();
        while !wire.try_ask("ping") {
            wire = machine.connect();
        }
        _ = wire.hear_bytes(11);
        assert!(wire.ask("get /skiff/1").starts_with("skiff/1 server=skiff-embassy/"));
        assert!(wire.write("f", &bytes).starts_with("ok 5000 "), "{round}");
        let mut other = machine.connect();
        while !other.try_ask("ping") {
            other = machine.connect();
        }
        _ = other.hear_bytes(11);
        assert!(other.read("f").unwrap() == bytes);
        wire.send_bytes(b"nonsense!!");
        assert!(wire.hear_text().starts_with("error bad-length"));
        assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
    }
}

#[test]
fn a_board_is_found_by_name_and_by_its_service() {
    const TEST: &str = "a_board_is_found_by_name_and_by_its_service";
    // Built outside: there is no way to anywhere inside.
    let path = image(&Image { board: Board::Mps2, program: "skiff-firmware", features: "classic dhcp mdns" });
    let temp = tempfile::tempdir().unwrap();
    let mut discover = host_cli(temp.path());
    if !inside(module_path!(), TEST) {
        return;
    }
    let mut scene = Scene::new(Board::Mps2, &path);
    scene.use_tap();
    scene.setup.settings = "name=lab7".into();
    let machine = scene.start();
    let address = machine.addr();
    discover.args(["discover", "--timeout", "3"]);
    let mut found = String::new();
    let is_found = eventually(|| {
        found = run(&mut discover).out().to_owned();
        !found.is_empty()
    });
    assert!(is_found, "{}", machine.running.out());
    let line = format!("lab7.local  {}  {:5}  skiff-mps2-an385/", address.ip(), address.port());
    assert!(found.starts_with(&line) && found.lines().count() == 1, "{found}");
    assert!(machine.running.out().contains("announced as lab7.local"), "{}", machine.running.out());
    let port = address.port().to_string();
    assert!(run(host_cli(temp.path()).args(["lab7.local", &port, "info"])).ok().contains("skiff-mps2-an385"));
}

/// What the emulator has used of a processor.
fn processor_time(machine: &Machine) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", machine.running.pid())).unwrap();
    // Behind the name, which may contain anything: fields 12 and 13 are ticks of 10 ms.
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}

#[test]
fn a_board_on_a_tap_serves_clients_of_its_network() {
    const TEST: &str = "a_board_on_a_tap_serves_clients_of_its_network";
    // Built outside: the namespace has no network.
    let scenes = BOARDS.iter().map(|&board| scene(board)).collect::<Vec<_>>();
    if !inside(module_path!(), TEST) {
        return;
    }
    for mut scene in scenes {
        scene.use_tap();
        {
            let machine = scene.start();
            let mut wire = machine.connect();
            let bytes = content(6000, 3);
            for _ in 0..20 {
                assert!(wire.write("f", &bytes).starts_with("ok 6000 "));
                assert!(wire.read("f").unwrap() == bytes);
            }
            assert_eq!(wire.ask("remove f"), "ok");
            wire.say("quit");
            assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
            let has_place = |vector: &Vector| vector.setting.omitted == 0 && !vector.setting.needs_directories();
            for vector in load_all().unwrap().into_iter().filter(has_place) {
                check(&machine, &vector, Pacing::Lines, Cut::Whole);
            }
            // A port where nothing listens is refused at once: here the emulator does not answer for the guest.
            let closed = core::net::SocketAddr::new(machine.addr().ip(), scene.setup.ports[1]);
            let refused = std::net::TcpStream::connect_timeout(&closed, Duration::from_secs(5)).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        ip("link del tap0");
    }
}
