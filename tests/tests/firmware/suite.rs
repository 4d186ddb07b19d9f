//! The server suite on a board: behind a TAP, with a separate network for each test.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::sync::Once;

use skiff_tests::firmware::machine::{Machine, Network};
use skiff_tests::firmware::{Board, Image};
use skiff_tests::namespace::ip;
use skiff_tests::server_suite::{Served, Setup};

use super::{Scene, image};

const TAP: &str = "tap0";
/// Addresses on it; the board's is that of the emulator's own network.
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const STRANGERS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The board's, made from the emulator's hardware address.
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

impl Served for OnTap {
    const DIRECTORIES: bool = false;
    const LARGE: usize = 600_000;

    fn with(asked: Setup) -> Self {
        // A case may have one server after the other.
        static NETWORK: Once = Once::new();
        NETWORK.call_once(|| {
            ip(&format!("tuntap add {TAP} mode tap"));
            for address in [OURS, STRANGERS] {
                ip(&format!("addr add {address}/24 dev {TAP}"));
            }
            ip(&format!("link set {TAP} up"));
        });
        // The one with a single data connection, if there is to be one.
        let board = if asked.data_port.is_some() { Board::Lm3s6965 } else { Board::Mps2 };
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

    fn addr(&self) -> SocketAddr {
        self.machine.addr()
    }

    fn addr_v6(&self) -> SocketAddr {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let index = rustix::net::netdevice::name_to_index(&socket, TAP).unwrap();
        SocketAddr::V6(SocketAddrV6::new(LINK_LOCAL, self.machine.port(), 0, index))
    }

    fn put(&self, name: &str, content: &[u8]) {
        self.machine.put(name, content);
    }

    fn content(&self, name: &str) -> Option<Vec<u8>> {
        self.machine.content(name)
    }

    fn names(&self) -> Vec<String> {
        self.machine.names()
    }

    fn stranger() -> Option<IpAddr> {
        Some(STRANGERS.into())
    }
}

// Built outside: there is no way to anywhere inside.
skiff_tests::server_suite!(OnTap, in a namespace if [Board::Lm3s6965, Board::Mps2].map(built).len() == 2);
