//! The embedded server, byte by byte: behind loopback ports, and behind a TAP on the test's own network.

#![expect(clippy::unwrap_used, reason = "also the helpers of tests are tests")]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::io::{Read as _, Write as _};

use skiff_device::serv::options::{Options, PortRange, StoreChoice};
use skiff_proto::MinRate;
use skiff_tests::device::{Device, STRANGERS};
use skiff_tests::sans_io::message;
use skiff_tests::server_suite::{Served, Setup};
use skiff_tests::wire::{End, Wire, connect_from, eventually, read_to_end};

fn numbers(count: u32) -> Vec<u8> {
    (0..count).flat_map(u32::to_le_bytes).collect()
}

fn configure(options: &mut Options, asked: &Setup) {
    options.store = StoreChoice::Ram { size: 8 << 20 };
    options.idle = asked.idle.unwrap_or(options.idle);
    options.takeover = asked.takeover.unwrap_or(options.takeover);
    options.min_rate = asked.min_rate.unwrap_or(options.min_rate);
    if let Some(port) = asked.data_port {
        // One data connection.
        options.sessions = 2;
        options.data_ports = PortRange::new(port, port);
    }
}

/// The location of a server.
const LOOPBACK: u8 = 0;
const TAP: u8 = 1;
/// Behind loopback ports, with protected connections.
const SEALED: u8 = 2;

struct Serving<const PLACE: u8>(Device);

impl<const PLACE: u8> Served for Serving<PLACE> {
    const DIRECTORIES: bool = false;
    const SEALED: bool = PLACE == SEALED;
    const LARGE: usize = 1_200_000;

    fn with(asked: Setup) -> Self {
        Self(match PLACE {
            TAP => Device::on_tap(|options, _| configure(options, &asked)),
            SEALED => Device::sealed(|options| configure(options, &asked)),
            _ => Device::with(|options| configure(options, &asked)),
        })
    }

    fn addr(&self) -> SocketAddr {
        self.0.addr()
    }

    fn addr_v6(&self) -> SocketAddr {
        self.0.addr_v6()
    }

    fn stranger() -> Option<IpAddr> {
        Some(if PLACE == TAP { STRANGERS } else { IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9)) })
    }
}

mod listen {
    skiff_tests::server_suite!(super::Serving<{ super::LOOPBACK }>);
}

mod tap {
    skiff_tests::server_suite!(super::Serving<{ super::TAP }>, in a namespace);
}

mod sealed {
    skiff_tests::server_suite!(super::Serving<{ super::SEALED }>);
}

/// Many addresses at a time, of both families, which a bridge could confuse.
#[test]
fn behind_loopback_ports_each_of_many_clients_gets_its_own_file() {
    let device = Device::with(|options| options.sessions = 8);
    let v4 = |last| IpAddr::V4(Ipv4Addr::new(127, 0, last, 1));
    let everyone = [v4(0), v4(1), v4(2), v4(255), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    for (at, owner) in everyone.into_iter().enumerate() {
        device.put("f", &numbers(100));
        let from = |client: IpAddr, port| {
            let to = if client.is_ipv4() { device.addr().ip() } else { device.addr_v6().ip() };
            connect_from(client, SocketAddr::new(to, port))
        };
        let mut control = from(owner, device.port()).unwrap();
        control.write_all(&message("get f")).unwrap();
        let mut reply = [0; 15];
        control.read_exact(&mut reply).unwrap();
        let port = core::str::from_utf8(&reply[10..]).unwrap().parse().unwrap();
        for stranger in everyone.iter().copied().filter(|stranger| *stranger != owner) {
            let came = from(stranger, port).map(|mut stream| read_to_end(&mut stream));
            assert!(came.is_err() || came.is_ok_and(|came| came == (Vec::new(), End::Reset)), "{stranger}");
        }
        let content = read_to_end(&mut from(owner, port).unwrap()).0;
        assert!(content[10..] == numbers(100), "{owner}, number {at}");
    }
}

type Start = fn(&dyn Fn(&mut Options)) -> Device;

macro_rules! over_both {
    ($(fn $case:ident($device:ident) $body:block)*) => {
        $(fn $case($device: Start) $body)*

        mod over_loopback {
            use super::Device;
            $(#[test]
            fn $case() {
                super::$case(|change| Device::with(|options| change(options)));
            })*
        }

        mod over_tap {
            use super::Device;
            $(#[test]
            fn $case() {
                if skiff_tests::namespace::inside(module_path!(), stringify!($case)) {
                    super::$case(|change| Device::on_tap(|options, _| change(options)));
                }
            })*
        }
    };
}

over_both! {
    fn a_burst_of_connections_is_served_as_far_as_there_are_sessions_and_the_rest_is_reset(device) {
        let mut device = device(&|options| options.sessions = 2);
        let mut first = device.connect();
        let mut second = device.connect();
        assert_eq!((first.ask("ping"), second.ask("ping")), ("ok".into(), "ok".into()));
        // The reset may arrive before `connect` has returned.
        let more: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(device.addr())).collect();
        for mut stream in more.into_iter().flatten() {
            assert_eq!(read_to_end(&mut stream), (Vec::new(), End::Reset));
        }
        assert_eq!((first.ask("ping"), second.ask("ping")), ("ok".into(), "ok".into()));
        for _ in 0..20 {
            second.say("quit");
            assert_eq!(second.hear_end(), (Vec::new(), End::Closed));
            // At once: no attempt fails.
            second = device.connect();
            assert_eq!(second.ask("ping"), "ok");
        }
        assert_eq!(device.stop().unwrap().counts.refused, 20);
    }

    fn a_full_store_says_so_and_keeps_the_old_file(device) {
        let device = device(&|options| options.store = StoreChoice::Ram { size: 64 * 1024 });
        let mut wire = device.connect();
        let old = numbers(10_000);
        assert!(wire.write("f", &old).starts_with("ok 40000 "));
        assert!(wire.write("f", &numbers(8_000)).starts_with("error no-space"));
        assert!(wire.ask("resume 30000 g").starts_with("error no-space"));
        assert!(wire.ask("space").starts_with("ok 65536 "));
        let port = wire.ask("put g");
        let mut data = wire.data(&port);
        _ = data.write_all(&message(numbers(8_000)));
        assert_eq!(read_to_end(&mut data).1, End::Reset);
        assert!(wire.read("f").unwrap() == old);
    }

    fn five_hundred_cycles_of_connect_transfer_and_abort_lose_nothing(device) {
        let mut device = device(&|options| options.sessions = 2);
        let content = numbers(1000);
        device.put("f", &content);
        let before = {
            let mut wire = device.connect();
            wire.ask("space")
        };
        let reset = |stream: &std::net::TcpStream| {
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
        };
        for cycle in 0..500_u32 {
            // The process before may still be ending.
            let mut wire = None;
            assert!(eventually(|| {
                wire = Wire::try_connect(device.addr());
                wire.as_mut().is_some_and(|wire| wire.try_ask("ping"))
            }));
            let Some(mut wire) = wire else { unreachable!() };
            _ = wire.hear_bytes(11);
            match cycle % 7 {
                0 => assert!(wire.read("f").unwrap() == content),
                1 => wire.say("read 0 * f"),
                2 => {
                    wire.say("write 0 100000 - w");
                    wire.send_bytes(b"0000100000abc");
                }
                3 => {
                    let port = wire.ask("get f");
                    let mut data = wire.data(&port);
                    data.read_exact(&mut [0; 100]).unwrap();
                    reset(&data);
                }
                4 => {
                    let port = wire.ask("put p");
                    let mut data = wire.data(&port);
                    data.write_all(b"0000001000half").unwrap();
                    reset(&data);
                }
                5 => {
                    let port = wire.ask("get f");
                    assert_eq!(read_to_end(&mut wire.data(&port)).0.len(), 4010);
                }
                _ => wire.send_bytes(b"00000"),
            }
            if cycle % 2 == 0 {
                reset(&wire.stream);
            }
        }
        let mut wire = device.connect();
        assert!(eventually(|| wire.try_ask("remove w") || {
            if let Some(new) = Wire::try_connect(device.addr()) {
                wire = new;
            }
            false
        }));
        drop(wire);
        let mut wire = device.connect();
        assert!(wire.write("w", b"").starts_with("ok"));
        assert_eq!((wire.ask("remove w"), wire.ask("ls")), ("ok".into(), "f".into()));
        assert_eq!(wire.ask("space"), before);
        wire.say("quit");
        assert_eq!(wire.hear_end().1, End::Closed);
        std::thread::sleep(Duration::from_millis(1500));
        let report = device.stop().unwrap();
        assert_eq!((report.usage.sessions, report.usage.data, report.usage.listening), (0, 0, 3), "{report:?}");
    }
}

/// Connections are forwarded only behind loopback ports.
#[test]
fn clients_that_never_read_do_not_block_the_bridge() {
    let device = Device::with(|options| {
        options.store = StoreChoice::Ram { size: 8 << 20 };
        options.idle = Duration::from_millis(500);
        options.min_rate = MinRate { bytes: 1024, window: Duration::from_millis(100) };
    });
    device.put("f", &numbers(1_800_000));
    let mut deaf = Vec::new();
    // Twice as many as can be bridged at a time.
    while deaf.len() < 44 {
        assert!(eventually(|| {
            let Some(mut wire) = Wire::try_connect(device.addr()) else { return false };
            // As long as it is not bridged, nobody answers.
            wire.stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            // More than the kernel buffers of a connection. The server may have given it up by now.
            let read = message("read 0 * f");
            let served = wire.try_ask("ping") && (0..4).all(|_| wire.stream.write_all(&read).is_ok());
            if served {
                deaf.push(wire);
            }
            served
        }));
    }
}
