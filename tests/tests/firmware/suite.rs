//! The server suite on a board: behind a TAP, with a separate network for each test.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Once;

use skiff_conformance::run::{Choice, run};
use skiff_conformance::scene::Target;
use skiff_tests::firmware::machine::{Machine, Network};
use skiff_tests::firmware::{Board, Image};
use skiff_tests::namespace::{inside, ip};
use skiff_tests::server_suite::{Served, Setup};
use skiff_tests::wire::{PATIENCE, link_local};

use super::{BOARDS, Scene, image};

const TAP: &str = "tap0";
/// The addresses of the test; the board's is that of the emulator's own network.
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const STRANGERS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The board's address, made from the emulator's hardware address.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0x00ff, 0xfe12, 0x3456);

/// A running board.
struct OnTap {
    machine: Machine,
    _scene: Scene,
}

fn built(board: Board) -> PathBuf {
    let features = format!("{} ipv6 faults", board.features());
    image(&Image { board, program: "skiff-firmware", features: &features })
}

impl OnTap {
    fn start(board: Board, asked: &Setup) -> Self {
        // A case may start one server after the other.
        static NETWORK: Once = Once::new();
        NETWORK.call_once(|| {
            ip(&format!("tuntap add {TAP} mode tap"));
            for address in [OURS, STRANGERS] {
                ip(&format!("addr add {address}/24 dev {TAP}"));
            }
            ip(&format!("link set {TAP} up"));
        });
        let mut scene = Scene::new(board, &built(board));
        scene.setup.network = Network::Tap(TAP.into());
        if let Some(port) = asked.data_port {
            scene.setup.ports[1] = port;
        }
        let mut words = Vec::new();
        words.extend(asked.idle.map(|idle| format!("idle={}", idle.as_secs())));
        words.extend(asked.takeover.map(|takeover| format!("takeover={}", takeover.as_millis())));
        words.extend(asked.min_rate.map(|rate| format!("rate={}/{}", rate.bytes, rate.window.as_millis())));
        scene.setup.settings = words.join(" ");
        Self { machine: scene.start(), _scene: scene }
    }
}

impl Served for OnTap {
    const DIRECTORIES: bool = false;
    const LARGE: usize = 600_000;

    fn with(asked: Setup) -> Self {
        // Cases that need a data port run on the board that has a single data connection.
        let board = if asked.data_port.is_some() { Board::Lm3s6965 } else { Board::Mps2 };
        Self::start(board, &asked)
    }

    fn addr(&self) -> SocketAddr {
        self.machine.addr()
    }

    fn addr_v6(&self) -> SocketAddr {
        link_local(LINK_LOCAL, self.machine.port(), TAP)
    }

    fn stranger() -> Option<IpAddr> {
        Some(STRANGERS.into())
    }
}

#[test]
fn it_passes_the_interoperability_checks() {
    // One board has files in RAM, the other on NOR flash. Built here, because the namespace has no network.
    let boards = BOARDS.iter().copied().filter(|board| *board != Board::Lm3s6965);
    boards.clone().for_each(|board| _ = built(board));
    if !inside(module_path!(), "it_passes_the_interoperability_checks") {
        return;
    }
    for board in boards {
        let board = OnTap::start(board, &Setup::default());
        let target = Target { addr: board.addr(), key: None, timeout: PATIENCE };
        let report = run(&target, &Choice { quick: true, only: Vec::new() }, |_| ()).unwrap();
        assert!(report.failed == 0 && report.passed > 80 && report.left.is_empty(), "{report:#?}");
        assert!(board.names().is_empty(), "{:?}", board.names());
    }
}

// Built outside: the namespace has no network.
skiff_tests::server_suite!(OnTap, in a namespace if [Board::Lm3s6965, Board::Mps2].map(built).len() == 2);
