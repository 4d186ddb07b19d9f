//! The embedded server behind loopback ports, asked byte by byte.

use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::time::Instant;

use skiff_device::serv::options::Place;
use skiff_proto::crc::crc32c;
use skiff_tests::device::Device;
use skiff_tests::sans_io::{body, message};
use skiff_tests::vector::{Cut, Pacing, Vector, load_all, play};
use skiff_tests::wire::{End, Wire, connect, eventually, read_to_end};

fn numbers(count: u32) -> Vec<u8> {
    (0..count).flat_map(u32::to_le_bytes).collect()
}

fn check(vector: &Vector, pacing: Pacing, cut: Cut, v6: bool) {
    let device = Device::start();
    for (name, content) in vector.setting.before {
        device.put(name, content);
    }
    let mut wire = Wire::connect(if v6 { device.addr_v6() } else { device.addr() });
    if let Err(problem) = play(vector, pacing, cut, &mut wire) {
        panic!("{problem}");
    }
    drop(wire);
    let after = vector.setting.after.unwrap_or(vector.setting.before);
    for (name, content) in after {
        assert_eq!(device.content(name).as_deref(), Some(*content), "{} {name}", vector.file);
    }
    assert_eq!(device.names().len(), after.len(), "{} {:?}", vector.file, device.names());
}

#[test]
fn every_vector_passes() {
    for vector in load_all().unwrap() {
        for pacing in [Pacing::Lines, Pacing::Groups, Pacing::Ahead] {
            check(&vector, pacing, Cut::Whole, false);
        }
        check(&vector, Pacing::Lines, Cut::Bytes, true);
    }
}

#[test]
fn a_long_file_goes_both_ways_and_by_both_families() {
    let content = numbers(75_000);
    let device = Device::start();
    let mut wire = Wire::connect(device.addr_v6());
    assert_eq!(wire.write("big", &content), format!("ok 300000 {:08x}", crc32c(&content)));
    assert!(wire.read("big").unwrap() == content);
    assert_eq!(wire.ask("sum 100 200000 big"), format!("ok 200000 {:08x}", crc32c(&content[100..200_100])));
    let port = wire.ask("get big");
    let (data, end) = read_to_end(&mut wire.data(&port));
    assert!(data[..10] == *b"0000300000" && data[10..] == content && end == End::Closed);
    let port = wire.ask("put path/big");
    let mut data = wire.data(&port);
    data.write_all(&message(&content)).unwrap();
    data.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut data), (Vec::new(), End::Closed));
    assert!(wire.read("big(1)").unwrap() == content);
}

#[test]
fn nonsense_is_answered_and_the_server_goes_on() {
    let device = Device::start();
    for nonsense in [&b"+000000004ping"[..], b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\0\0\0\0\0\0\0", b"0000065537"] {
        let mut wire = device.connect();
        wire.send_bytes(nonsense);
        let (said, end) = wire.hear_end();
        assert!(said.windows(6).any(|words| words == b"error "), "{nonsense:?}: {said:?}");
        assert_eq!(end, End::Closed);
    }
    let mut wire = device.connect();
    for command in ["", "xyz", "read", "read 1 2", "read 0 * ../x", "write", "stat a/b", "rename a", "get", "put .."] {
        wire.say(command);
        if command == "write" {
            wire.send_bytes(&body(b"", 0));
        }
    }
    wire.say("x".repeat(5000));
    wire.say(format!("get {}", "x".repeat(5000)));
    assert!(wire.hear_text().starts_with("error bad-command"));
    for _ in 0..2 {
        assert!(wire.hear_text().starts_with("error "));
    }
    for _ in 0..3 {
        assert!(wire.hear_text().starts_with("error bad-"));
    }
    assert!(wire.hear_text().starts_with("error bad-"));
    assert_eq!((wire.hear_text(), wire.hear_text()), ("-1".into(), "-1".into()));
    assert!(wire.hear_text().starts_with("error too-long"));
    assert_eq!(wire.hear_text(), "-1");
    assert_eq!(wire.ask("ping"), "ok");
}

#[test]
fn an_interrupted_write_goes_on() {
    let device = Device::start();
    let content = numbers(20_000);
    let half = content.len() / 2;
    for reset in [false, true] {
        let mut wire = device.connect();
        wire.say(format!("write 0 {} 1700000000 f", content.len()));
        wire.send_bytes(&message(&content[..half]));
        if reset {
            // Everything has come when the same connection answers, so nothing is lost with the reset.
            socket2::SockRef::from(&wire.stream).set_linger(Some(Duration::ZERO)).unwrap();
            assert!(eventually(|| device.connect().ask("resume 80000 f").starts_with("error busy")));
        } else {
            wire.finish();
            assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
        }
        drop(wire);
        let mut wire = device.connect();
        let mut staged = String::new();
        assert!(eventually(|| {
            staged = wire.ask(format!("resume {} f", content.len()));
            staged.starts_with("ok")
        }));
        let from: usize = staged.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(if reset { from <= half } else { from == half }, "{staged}");
        assert!(staged.ends_with(&format!("{:08x}", crc32c(&content[..from]))), "{staged}");
        wire.say(format!("write {from} {} 1700000000 f", content.len()));
        wire.send_bytes(&body(&content[from..], crc32c(&content)));
        assert_eq!(wire.hear_text(), format!("ok {} {:08x}", content.len(), crc32c(&content)));
        assert!(wire.read("f").unwrap() == content);
        wire.say("quit");
    }
}

#[test]
fn a_second_writer_is_busy_until_the_first_is_silent_for_too_long() {
    let device = Device::with(|options| options.takeover = Duration::from_millis(300));
    let (mut first, mut second) = (device.connect(), device.connect());
    first.say("write 0 8 - f");
    first.send_bytes(&message("1234"));
    assert!(eventually(|| second.ask("resume 8 f").starts_with("error busy")));
    assert!(second.write("f", b"x").starts_with("error busy"));
    std::thread::sleep(Duration::from_millis(350));
    assert_eq!(second.ask("resume 8 f"), format!("ok 4 {:08x}", crc32c(b"1234")));
    assert_eq!(first.hear_end().1, End::Reset);
    second.say("write 4 8 - f");
    second.send_bytes(&body(b"5678", crc32c(b"12345678")));
    assert_eq!(second.hear_text(), format!("ok 8 {:08x}", crc32c(b"12345678")));
    assert_eq!(second.read("f").unwrap(), b"12345678");
}

#[test]
fn pipelined_writes_are_answered_in_order() {
    let device = Device::start();
    let mut wire = device.connect();
    let mut sender = wire.stream.try_clone().unwrap();
    let contents: Vec<Vec<u8>> = (0..200_u32).map(|i| i.to_le_bytes().repeat(64)).collect();
    let to_send = contents.clone();
    let sending = std::thread::spawn(move || {
        for (i, content) in to_send.iter().enumerate() {
            let mut bytes = message(format!("write 0 256 - f{i}"));
            bytes.extend(body(content, crc32c(content)));
            sender.write_all(&bytes).unwrap();
        }
    });
    for content in &contents {
        assert_eq!(wire.hear_text(), format!("ok 256 {:08x}", crc32c(content)));
    }
    sending.join().unwrap();
    wire.say("list");
    wire.say("quit");
    assert_eq!(wire.hear_text(), "ok");
    let (lines, trailer) = wire.hear_body();
    assert_eq!(lines.iter().filter(|&&byte| byte == b'\n').count(), 200);
    assert_eq!(trailer, format!("crc32c {:08x}", crc32c(&lines)));
    assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
}

#[test]
fn a_burst_of_connections_is_served_as_far_as_there_are_sessions_and_the_rest_is_reset() {
    let mut device = Device::with(|options| options.sessions = 2);
    let mut first = device.connect();
    let mut second = device.connect();
    assert_eq!((first.ask("ping"), second.ask("ping")), ("ok".into(), "ok".into()));
    // The reset may be there before `connect` has returned.
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

#[test]
fn a_get_waits_for_a_data_connection_which_an_unclaimed_port_gives_back() {
    let device = Device::with(|options| options.sessions = 2);
    device.put("f", b"x");
    let port = device.data_ports()[0].to_string();
    let (mut first, mut second) = (device.connect(), device.connect());
    assert_eq!(first.ask("get f"), port);
    let start = Instant::now();
    // The first never comes: five seconds, since somebody waits.
    assert_eq!(second.ask("get f"), port);
    assert!((4..20).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(read_to_end(&mut second.data(&port)).0, b"0000000001x");
    // Both at once, again and again: each waits for the other's.
    let clients = [first, second].map(|mut wire| {
        std::thread::spawn(move || {
            for _ in 0..20 {
                let port = wire.ask("get f");
                assert_eq!(read_to_end(&mut wire.data(&port)), (b"0000000001x".into(), End::Closed));
            }
        })
    });
    for client in clients {
        client.join().unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_transfer_goes_on_after_quit_and_a_control_connection_during_it() {
    let device = Device::start();
    let content = numbers(100_000);
    device.put("f", &content);
    let mut wire = device.connect();
    let port = wire.ask("get f");
    let mut data = wire.data(&port);
    assert_eq!(wire.ask("ping"), "ok");
    wire.say("quit");
    assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
    let (received, end) = read_to_end(&mut data);
    assert_eq!((received.len(), end), (content.len() + 10, End::Closed));
}

#[test]
fn a_data_port_that_nobody_offered_is_reset() {
    let device = Device::start();
    let addr = core::net::SocketAddr::new(device.addr().ip(), device.data_ports()[0]);
    assert_eq!(read_to_end(&mut connect(addr)), (Vec::new(), End::Reset));
}

#[test]
fn a_short_put_is_reset_and_nothing_is_stored() {
    let device = Device::start();
    let mut wire = device.connect();
    let port = wire.ask("put f");
    let mut data = wire.data(&port);
    data.write_all(b"0000000009short").unwrap();
    data.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut data), (Vec::new(), End::Reset));
    assert_eq!(wire.ask("ls"), "");
}

#[test]
fn a_full_store_says_so_and_keeps_the_old_file() {
    let device = Device::with(|options| options.store = Place::Ram { size: 64 * 1024 });
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

#[test]
fn a_client_that_ends_its_side_gets_all_its_replies() {
    let device = Device::start();
    let mut wire = device.connect();
    for i in 0..100 {
        wire.send_write(&format!("f{i}"), b"x");
    }
    wire.say("list");
    wire.finish();
    for _ in 0..100 {
        assert!(wire.hear_text().starts_with("ok 1 "));
    }
    assert_eq!(wire.hear_text(), "ok");
    assert_eq!(wire.hear_body().0.iter().filter(|&&byte| byte == b'\n').count(), 100);
    assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
}

#[test]
fn files_whose_bodies_came_whole_are_stored_even_if_the_client_is_gone() {
    let device = Device::start();
    let mut wire = device.connect();
    for i in 0..20 {
        wire.send_write(&format!("f{i}"), b"x");
    }
    drop(wire);
    assert!(eventually(|| device.names().len() == 20));
}

#[test]
fn a_client_that_does_not_read_stops_nobody_else() {
    let device = Device::start();
    device.put("big", &numbers(100_000));
    let mut stuck: Vec<_> = (0..3).map(|_| device.connect()).collect();
    for wire in &mut stuck {
        for _ in 0..20 {
            wire.say("read 0 * big");
        }
    }
    let mut wire = device.connect();
    for i in 0..50 {
        assert!(wire.write(&format!("f{i}"), b"content").starts_with("ok 7 "));
    }
}

#[test]
fn an_idle_connection_is_closed_without_a_word_and_a_silent_writer_is_told() {
    let device = Device::with(|options| options.idle = Duration::from_secs(1));
    let (mut idle, mut writer) = (device.connect(), device.connect());
    writer.say("write 0 5 - f");
    writer.send_bytes(b"00000");
    assert_eq!(idle.hear_end(), (Vec::new(), End::Closed));
    let reply = writer.hear_text();
    assert!(reply.starts_with("error timeout "), "{reply}");
    assert_eq!(writer.hear_end(), (Vec::new(), End::Closed));
}

#[test]
fn five_hundred_cycles_of_connect_transfer_and_abort_lose_nothing() {
    let mut device = Device::with(|options| options.sessions = 2);
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
        // The one before may still be ending.
        let mut wire = device.connect();
        while !wire.try_ask("ping") {
            wire = device.connect();
        }
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
        wire = device.connect();
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
