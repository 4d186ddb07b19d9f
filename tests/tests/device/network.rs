//! The embedded server on the test's own network: tests that need a real TAP and the kernel's TCP.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::net::UdpSocket;
use std::sync::mpsc;
use std::time::Instant;

use skiff_device::config::{Ipv4, Ipv6};
use skiff_device::serv::faults::{Chance, Faults};
use skiff_device::serv::options::StoreChoice;
use skiff_device::serv::tap::Offload;
use skiff_proto::MinRate;
use skiff_tests::device::{Device, STRANGERS, TAP, link_local};
use skiff_tests::namespace::{inside, ip};
use skiff_tests::wire::{Wire, connect_from, eventually};

const LONG: Duration = Duration::from_secs(200);

/// True if a server answers there at once.
fn connects(addr: SocketAddr) -> bool {
    Wire::try_connect_within(addr, Duration::from_secs(1)).is_some_and(|mut wire| wire.try_ask("ping"))
}

fn numbers(len: usize) -> Vec<u8> {
    (0_u32..).flat_map(|number| number.wrapping_mul(0x9e37_79b9).to_le_bytes()).take(len).collect()
}

#[test]
fn a_megabyte_arrives_through_loss_corruption_and_reordering() {
    if !inside(module_path!(), "a_megabyte_arrives_through_loss_corruption_and_reordering") {
        return;
    }
    let device = Device::on_tap(|options, link| {
        options.buffer = 65_536;
        // smoltcp doubles its time-out after each loss: half a minute without a byte is no reason to give up here.
        options.timeout = LONG;
        options.min_rate = MinRate::NONE;
        options.idle = LONG;
        link.seed = 1;
        let five = Chance::percent(5);
        link.faults = Faults { drop: five, corrupt: five, reorder: five, ..Faults::default() };
    });
    let start = Instant::now();
    let mut wire = device.connect();
    wire.stream.set_read_timeout(Some(LONG)).expect("a timeout");
    wire.stream.set_write_timeout(Some(LONG)).expect("a timeout");
    for size in [0, 1, 1460, 40_000, 150_000, 620_000] {
        let content = numbers(size);
        assert!(wire.write("f", &content).starts_with(&format!("ok {size} ")));
        // The kernel sends well in spite of losses, smoltcp slowly.
        if size <= 150_000 {
            assert!(wire.read("f").expect("a file") == content, "{size}");
        }
    }
    println!("1 MB in all, {} s", start.elapsed().as_secs());
}

#[test]
fn frames_as_on_a_wire_and_longer_ones_carry_files_as_well() {
    if !inside(module_path!(), "frames_as_on_a_wire_and_longer_ones_carry_files_as_well") {
        return;
    }
    for (offload, mtu, buffer) in [
        (Offload::Off, 1500, 2048),
        (Offload::Off, 9000, 16_384),
        (Offload::Off, 65_521, 262_144),
        (Offload::Auto, 576, 2048),
        (Offload::Auto, 1500, 262_144),
    ] {
        let device = Device::on_tap(|options, link| {
            options.buffer = buffer;
            options.store = StoreChoice::Ram { size: 8 << 20 };
            (link.offload, link.mtu) = (offload, Some(mtu));
        });
        let content = numbers(2_000_000);
        for addr in [device.addr(), device.addr_v6()].into_iter().take(if mtu < 1280 { 1 } else { 2 }) {
            let mut wire = Wire::connect(addr);
            assert!(wire.write("f", &content).starts_with("ok 2000000 "), "{offload:?} {mtu}");
            assert!(wire.read("f").expect("a file") == content, "{offload:?} {mtu}");
        }
    }
}

#[test]
fn the_link_local_address_and_a_fixed_one_are_served() {
    if !inside(module_path!(), "the_link_local_address_and_a_fixed_one_are_served") {
        return;
    }
    let device = Device::on_tap(|_, link| link.ipv4 = Ipv4::Off);
    for addr in [link_local(device.port()), device.addr_v6()] {
        // The kernel's own address may not be ready yet.
        assert!(eventually(|| connects(addr)));
        let mut wire = Wire::connect(addr);
        assert!(wire.write("f", b"by IPv6").starts_with("ok 7 "));
        let port = wire.ask("get f");
        let (content, _) = skiff_tests::wire::read_to_end(&mut wire.data(&port));
        assert_eq!(content, b"0000000007by IPv6");
    }
    drop(device);
    let device = Device::on_tap(|_, link| link.ipv6 = Ipv6::LinkLocal);
    assert!(eventually(|| connects(link_local(device.port()))));
}

/// A DHCP server for one address, using only the standard library.
fn lease(socket: &UdpSocket, address: Ipv4Addr) -> Option<u8> {
    let mut request = [0; 600];
    let (len, _) = socket.recv_from(&mut request).ok()?;
    let request = request.get(..len).filter(|request| request.get(236..240) == Some(&[99, 130, 83, 99]))?;
    let kind = option(request, 53)?.first().copied()?;
    let server = Ipv4Addr::new(192, 168, 69, 254).octets();
    let mut reply = vec![2, 1, 6, 0];
    reply.extend(&request[4..8]);
    reply.extend([0; 8]);
    reply.extend(address.octets());
    reply.extend([0; 8]);
    reply.extend(&request[28..44]);
    reply.extend([0; 192]);
    reply.extend([99, 130, 83, 99]);
    // DISCOVER is answered with OFFER, REQUEST with ACK.
    reply.extend([53, 1, if kind == 1 { 2 } else { 5 }]);
    reply.extend([54, 4].iter().chain(&server));
    reply.extend([51, 4, 0, 0, 0, 60]);
    reply.extend([1, 4, 255, 255, 255, 0]);
    reply.extend([3, 4].iter().chain(&server));
    reply.push(255);
    socket.send_to(&reply, (Ipv4Addr::BROADCAST, 68)).ok()?;
    Some(kind)
}

fn option(message: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = message.get(240..)?;
    while let [code, len, more @ ..] = rest {
        let value = more.get(..usize::from(*len))?;
        if *code == wanted {
            return Some(value);
        }
        rest = &more[value.len()..];
    }
    None
}

#[test]
fn an_address_comes_by_dhcp_and_is_served() {
    if !inside(module_path!(), "an_address_comes_by_dhcp_and_is_served") {
        return;
    }
    let device = Device::on_tap(|_, link| link.ipv4 = Ipv4::Dhcp);
    ip(&format!("addr add 192.168.69.254/24 dev {TAP}"));
    ip(&format!("route add 255.255.255.255 dev {TAP}"));
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67)).unwrap();
    socket.set_broadcast(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let address = Ipv4Addr::new(192, 168, 69, 77);
    let addr = SocketAddr::new(IpAddr::V4(address), device.port());
    let (done, over) = mpsc::channel::<()>();
    let serving = std::thread::spawn(move || {
        let mut asked = Vec::new();
        while over.try_recv() == Err(mpsc::TryRecvError::Empty) {
            asked.extend(lease(&socket, address));
        }
        asked
    });
    // The first question may have been sent before anything listened; the next one comes after 10 s.
    assert!(eventually(|| connects(addr)));
    drop(done);
    let asked = serving.join().expect("a DHCP server");
    assert!(asked.starts_with(&[1]) && asked.contains(&3), "DISCOVER, REQUEST: {asked:?}");
}

#[test]
fn a_dead_peer_is_noticed_and_its_session_serves_another_client() {
    if !inside(module_path!(), "a_dead_peer_is_noticed_and_its_session_serves_another_client") {
        return;
    }
    let device = Device::on_tap(|options, _| {
        options.sessions = 1;
        options.keep_alive = Duration::from_millis(500);
        options.timeout = Duration::from_secs(2);
    });
    let gone = connect_from(STRANGERS, device.addr()).unwrap();
    assert!(eventually(|| !connects(device.addr())));
    // The kernel answers nothing for this address any more, not even with a reset.
    ip(&format!("addr del {STRANGERS}/24 dev {TAP}"));
    let start = Instant::now();
    assert!(eventually(|| connects(device.addr())));
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    drop(gone);
}

#[test]
fn a_silent_peer_keeps_its_session() {
    if !inside(module_path!(), "a_silent_peer_keeps_its_session") {
        return;
    }
    let device = Device::on_tap(|options, _| {
        options.keep_alive = Duration::from_millis(100);
        options.timeout = Duration::from_secs(2);
    });
    let mut wire = device.connect();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(wire.ask("ping"), "ok");
}
