//! A host server, byte by byte over loopback.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use skiff_host::server::{PortRange, Security};
use skiff_proto::Name;
use skiff_proto::command::{Command, Request};
use skiff_proto::crc::crc32c;
use skiff_tests::host::{Host, Setup};
use skiff_tests::ordeal::in_memory;
use skiff_tests::sans_io::message;
use skiff_tests::sealed::{Sealed, key, secret};
use skiff_tests::server_suite::{self as suite, Served};
use skiff_tests::wire::{End, answers, eventually, read_to_end};

const PORTABLE: fn(&mut Setup) = |setup| {
    setup.server.portable = true;
    setup.store.portable = true;
};

/// A host server, with the system's fast calls or portable ones, with plain or sealed connections.
struct Serving<const PORTABLE: bool, const SEALED: bool>(Host);

impl<const PORTABLE: bool, const SEALED: bool> Served for Serving<PORTABLE, SEALED> {
    const DIRECTORIES: bool = true;
    const SEALED: bool = SEALED;
    // Ciphers are slow in a debug build: 12 MB four times take longer than a test waits.
    const LARGE: usize = if SEALED { 3_000_000 } else { 12_000_000 };

    fn with(asked: suite::Setup) -> Self {
        let change = |setup: &mut Setup| {
            setup.server.portable = PORTABLE;
            setup.store.portable = PORTABLE;
            setup.server.idle = asked.idle.unwrap_or(setup.server.idle);
            setup.server.min_rate = asked.min_rate.unwrap_or(setup.server.min_rate);
            setup.server.data_ports = asked.data_port.and_then(|port| PortRange::new(port, port));
            setup.server.takeover = asked.takeover.unwrap_or(setup.server.takeover);
        };
        Self(if SEALED { Host::sealed(change) } else { Host::with(change) })
    }

    fn addr(&self) -> SocketAddr {
        self.0.addr()
    }

    fn addr_v6(&self) -> SocketAddr {
        self.0.addr_v6()
    }

    fn put(&self, name: &str, content: &[u8]) {
        self.0.put(name, content);
    }

    fn put_unsendable(&self, count: u64) -> bool {
        for at in 0..count {
            let name = [b"\xff".as_slice(), at.to_string().as_bytes()].concat();
            fs::write(self.0.root().join(OsStr::from_bytes(&name)), "").expect("a file");
        }
        true
    }

    fn content(&self, name: &str) -> Option<Vec<u8>> {
        self.0.content(name)
    }

    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn stranger() -> Option<IpAddr> {
        Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)))
    }
}

mod native {
    skiff_tests::server_suite!(super::Serving<false, false>);
}

mod portable {
    skiff_tests::server_suite!(super::Serving<true, false>);
}

mod sealed {
    skiff_tests::server_suite!(super::Serving<false, true>);
}

mod portable_sealed {
    skiff_tests::server_suite!(super::Serving<true, true>);
}

#[test]
fn two_thousand_pipelined_writes_cost_few_syncs_and_are_answered_in_order() {
    let host = Host::start();
    let mut wire = host.connect();
    let contents: Vec<Vec<u8>> = (0..2000_u32).map(|i| i.to_le_bytes().repeat(256)).collect();
    let mut sender = wire.stream.try_clone().unwrap();
    let to_send = contents.clone();
    let sending = std::thread::spawn(move || {
        for (i, content) in to_send.iter().enumerate() {
            let mut bytes = message(format!("write 0 1024 - d/{i}"));
            bytes.extend(skiff_tests::sans_io::body(content, crc32c(content)));
            sender.write_all(&bytes).unwrap();
        }
    });
    for content in &contents {
        assert_eq!(wire.hear_text(), format!("ok 1024 {:08x}", crc32c(content)));
    }
    sending.join().unwrap();
    let syncs = host.store.sync_calls();
    assert!(syncs <= 100, "{syncs} sync calls");
    for (i, content) in contents.iter().enumerate() {
        assert_eq!(host.content(&format!("d/{i}")).as_ref(), Some(content));
    }
}

#[test]
fn a_thousand_pipelined_removals_cost_few_syncs_and_later_ones_see_the_earlier() {
    let host = Host::start();
    for i in 0..1000 {
        host.put(&format!("d/{}/f{i}", i % 10), b"x");
    }
    let mut wire = host.connect();
    let mut all = Vec::new();
    for i in 0..1000 {
        all.extend(message(format!("remove d/{}/f{i}", i % 10)));
    }
    for i in 0..10 {
        all.extend(message(format!("rmdir d/{i}")));
    }
    for command in
        ["mkdir d/1", "mkdir d/1/x", "rename d/none\nd/2/y", "rmdir d/1", "rmdir d/1/x", "rmdir d/1", "remove d"]
    {
        all.extend(message(command));
    }
    wire.send_bytes(&all);
    wire.say("stat d/1");
    for _ in 0..1012 {
        assert_eq!(wire.hear_text(), "ok");
    }
    for code in ["not-found", "not-empty"] {
        assert!(wire.hear_text().starts_with(&format!("error {code} ")));
    }
    assert_eq!((wire.hear_text(), wire.hear_text()), ("ok".into(), "ok".into()));
    assert!(wire.hear_text().starts_with("error is-directory "));
    assert!(wire.hear_text().starts_with("error not-found "));
    assert!(host.store.sync_calls() <= 60, "{} sync calls", host.store.sync_calls());
    assert_eq!(fs::read_dir(host.root().join("d")).unwrap().count(), 0);
}

#[test]
fn a_pipelined_write_sees_the_directories_that_the_ones_before_it_made() {
    let host = Host::start();
    let mut wire = host.connect();
    wire.send_write("a", b"one");
    wire.send_write("a", b"two");
    wire.send_write("d/x", b"three");
    wire.send_write("d", b"a directory by now");
    wire.send_write("a/b", b"a is a file");
    wire.say("read 0 * a");
    wire.say("rename a\nb");
    wire.say("stat a");
    wire.say("remove b");
    wire.say("remove b");
    assert!(wire.hear_text().starts_with("ok 3 "));
    assert!(wire.hear_text().starts_with("ok 3 "));
    assert!(wire.hear_text().starts_with("ok 5 "));
    assert!(wire.hear_text().starts_with("error is-directory "));
    assert!(wire.hear_text().starts_with("error "));
    assert!(wire.hear_text().starts_with("ok 3 3 "));
    assert_eq!(wire.hear_body().0, b"two");
    assert_eq!(wire.hear_text(), "ok");
    assert!(wire.hear_text().starts_with("error not-found "));
    assert_eq!(wire.hear_text(), "ok");
    assert!(wire.hear_text().starts_with("error not-found "));
    assert_eq!(host.names(), ["d"]);
}

#[test]
fn a_long_file_arrives_whole_by_every_way() {
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    for setup in [|_: &mut Setup| {}, PORTABLE] {
        let host = Host::with(setup);
        let mut wire = host.connect();
        let reply = wire.write("big", &content);
        assert_eq!(reply, format!("ok {} {:08x}", content.len(), crc32c(&content)));
        assert!(host.content("big").unwrap() == content);
        // Once with the checksum computed, once with the one that is known by then.
        for _ in 0..2 {
            assert!(wire.read("big").unwrap() == content);
        }
        host.put("big", &content[4..]);
        for _ in 0..2 {
            assert!(wire.read("big").unwrap() == content[4..]);
        }
        assert!(wire.ask("read 5000000 1000000 big").starts_with("ok 1000000 "));
        let (part, trailer) = wire.hear_body();
        assert!(part == content[5_000_004..6_000_004]);
        assert_eq!(trailer, format!("crc32c {:08x}", crc32c(&part)));
        let sum = wire.ask("sum 1000000 9000000 big");
        assert_eq!(sum, format!("ok 9000000 {:08x}", crc32c(&content[1_000_004..10_000_004])));
        let port = wire.ask("get big");
        let (data, end) = read_to_end(&mut wire.data(&port));
        assert_eq!(end, End::Closed);
        assert!(data[..10] == *b"0011999996" && data[10..] == content[4..]);
    }
}

#[test]
fn an_interrupted_write_resumes_after_a_restart_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let half = content.len() / 2;
    {
        let host = Host::serve(dir.path(), |_| {});
        host.put("f", b"old");
        let mut wire = host.connect();
        wire.say(format!("write 0 {} 1700000000 f", content.len()));
        wire.send_bytes(&message(&content[..half]));
        wire.finish();
        assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
    }
    let host = Host::serve(dir.path(), |_| {});
    assert_eq!(host.content("f").unwrap(), b"old");
    let mut wire = host.connect();
    assert_eq!(wire.ask(format!("resume {} f", half - 1)), "ok 0 00000000");
    assert_eq!(wire.ask(format!("resume {} f", content.len())), format!("ok {half} {:08x}", crc32c(&content[..half])));
    assert!(wire.ask("list").starts_with("ok"));
    assert!(String::from_utf8(wire.hear_body().0).unwrap().ends_with(" f\n"));
    wire.say(format!("write {half} {} 1700000000 f", content.len()));
    wire.send_bytes(&skiff_tests::sans_io::body(&content[half..], crc32c(&content)));
    assert_eq!(wire.hear_text(), format!("ok {} {:08x}", content.len(), crc32c(&content)));
    assert!(host.content("f").unwrap() == content);
    assert!(wire.ask("stat f").starts_with(&format!("ok {} 1700000000 ", content.len())));
}

#[test]
fn a_get_waits_for_a_port_that_another_program_has() {
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let host = Host::with(|setup| setup.server.data_ports = PortRange::new(port, port));
    host.put("f", b"x");
    let (mut waiting, mut other) = (host.connect(), host.connect());
    waiting.say("get f");
    // No other client is blocked meanwhile.
    for _ in 0..100 {
        assert_eq!(other.ask("ping"), "ok");
    }
    drop(taken);
    assert_eq!(waiting.hear_text(), port.to_string());
}

#[test]
fn hidden_names_do_not_exist_unless_they_are_served() {
    let host = Host::start();
    for name in [".env", ".git/config", "d/.x", "seen"] {
        host.put(name, b"secret");
    }
    let mut wire = host.connect();
    for command in ["stat .env", "read 0 * .git/config", "sum 0 * d/.x", "list .git", "remove .env", "rename .env\nenv"]
    {
        let reply = wire.ask(command);
        assert!(reply.starts_with("error not-found") || reply.starts_with("error denied"), "{command}: {reply}");
    }
    assert_eq!(wire.ask("get .env"), "-1");
    assert!(wire.write(".env", b"mine").starts_with("error denied"));
    assert!(wire.ask("list").starts_with("ok"));
    let listing = String::from_utf8(wire.hear_body().0).unwrap();
    assert!(
        listing.contains(" seen\n")
            && listing.contains(" d/\n")
            && !listing.contains(".git")
            && !listing.contains(".env")
    );
    let host = Host::serve(host.root(), |setup| setup.store.hidden = true);
    assert_eq!(host.connect().read(".env").unwrap(), b"secret");
}

#[test]
fn a_read_only_server_refuses_every_change_and_stays_usable() {
    let host = Host::with(|setup| setup.store.read_only = true);
    host.put("f", b"x");
    let mut wire = host.connect();
    assert!(wire.write("f", b"new").starts_with("error read-only"));
    for command in ["remove f", "rename f\ng", "mkdir d", "rmdir d", "resume 3 f"] {
        assert!(wire.ask(command).starts_with("error read-only"), "{command}");
    }
    assert_eq!(wire.ask("put f"), "-1");
    assert_eq!(wire.read("f").unwrap(), b"x");
    assert_eq!(host.names(), ["f"]);
    assert_eq!(fs::read_dir(host.root()).unwrap().count(), 1, "nothing is created in the directory");
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_is_given_up_and_the_connection_stays_usable() {
    let host = Host::start();
    let size = 40_000_000;
    host.put("f", &vec![1; size]);
    let mut wire = host.connect();
    assert!(wire.ask("read 0 * f").starts_with(&format!("ok {size} {size} ")));
    // The socket holds less than the file: the rest is not read yet.
    let file = fs::OpenOptions::new().write(true).open(host.root().join("f")).unwrap();
    file.set_len(1000).unwrap();
    let (_, trailer) = wire.hear_body();
    assert!(trailer.starts_with("abort changed "), "{trailer}");
    assert_eq!(wire.ask("ping"), "ok");
    let port = wire.ask("get f");
    assert_eq!(read_to_end(&mut wire.data(&port)).0.len(), 1010);
}

#[test]
fn a_log_that_grows_while_it_is_sent_has_the_length_that_was_announced() {
    let host = Host::start();
    let size = 20_000_000;
    host.put("log", &vec![b'x'; size]);
    let mut wire = host.connect();
    assert!(wire.ask("read 0 * log").starts_with(&format!("ok {size} {size} ")));
    let mut log = fs::OpenOptions::new().append(true).open(host.root().join("log")).unwrap();
    log.write_all(b"more").unwrap();
    let (content, trailer) = wire.hear_body();
    assert_eq!(content.len(), size);
    assert_eq!(trailer, format!("crc32c {:08x}", crc32c(&content)));
}

#[test]
fn a_client_that_does_not_read_stops_nobody_else() {
    let root = in_memory();
    let host = Host::serve(root.path(), |_| {});
    host.put("big", &vec![1; 50_000_000]);
    let mut stuck: Vec<_> = (0..20).map(|_| host.connect()).collect();
    for wire in &mut stuck {
        wire.say("read 0 * big");
    }
    let mut wire = host.connect();
    let start = Instant::now();
    for i in 0..50 {
        assert!(wire.write(&format!("f{i}"), b"content").starts_with("ok 7 "));
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn more_clients_than_allowed_are_closed_and_room_is_given_again() {
    let host = Host::with(|setup| setup.server.max_clients = 2);
    let mut first = host.connect();
    let mut second = host.connect();
    assert_eq!((first.ask("ping"), second.ask("ping")), ("ok".into(), "ok".into()));
    assert_eq!(host.connect().hear_end(), (Vec::new(), End::Closed));
    second.say("quit");
    assert_eq!(second.hear_end(), (Vec::new(), End::Closed));
    assert!(eventually(|| answers(host.addr(), "ping")));
}

/// PROTOCOL §8: a protected connection never yields to an unprotected one.
#[test]
fn a_connection_without_a_key_makes_room_for_others() {
    let host = Host::with(|setup| {
        setup.server.max_clients = 2;
        setup.server.security = Security::with_secret(secret(), 1);
    });
    let mut strangers = [host.connect(), host.connect()];
    let ping = |client: &mut Sealed| assert_eq!(client.ask(&Command::Ping).as_deref(), Ok("Done"));
    let mut first = Sealed::connect(host.addr(), key("rw.first.1")).unwrap();
    ping(&mut first);
    assert!(strangers[1].try_ask("get /skiff/1"), "the one that came first leaves");
    let mut second = Sealed::connect(host.addr(), key("rw.second.1")).unwrap();
    for stranger in &mut strangers {
        _ = stranger.hear_end();
    }
    assert!(eventually(|| host.connect().hear_end() == (Vec::new(), End::Closed)), "no place is left");
    ping(&mut first);
    ping(&mut second);
}

/// PROTOCOL §8: ChaCha20 is malleable and CRC-32C is linear, so bytes that are staged unverified could be forged.
#[test]
fn nothing_of_an_altered_record_is_staged() {
    let host = Host::with(|setup| setup.server.security = Security::with_secret(secret(), 1));
    let mut honest = Sealed::connect(host.addr(), key("rw.alice.1")).unwrap();
    let resume = Request::Resume { size: 9_999, name: Name::parse(b"f", 255).unwrap() };
    for bit in [0, 700 * 8, 999 * 8 + 7] {
        let mut victim = Sealed::over(host.connect().stream, key("rw.alice.1")).unwrap();
        victim.write_altered("f", &[7; 9_999], 900, bit).unwrap();
        assert_eq!(read_to_end(&mut victim.stream), (Vec::new(), End::Reset));
        let staged = format!("Resume {{ offset: 900, crc: Some({}) }}", crc32c(&[7; 900]));
        let ask = |honest: &mut Sealed| honest.ask(&Command::Request(resume)).unwrap();
        assert!(eventually(|| ask(&mut honest) == staged), "{}", ask(&mut honest));
    }
}

#[test]
fn a_client_that_never_reads_does_not_keep_its_place() {
    let host = Host::with(|setup| setup.server.idle = Duration::from_secs(1));
    let wire = host.connect();
    wire.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let hellos = message(b"get /skiff/1").repeat(1000);
    while (&wire.stream).write_all(&hellos).is_ok() {}
    assert!(eventually(|| (&wire.stream).write(b"0").is_err_and(|error| error.kind() != ErrorKind::WouldBlock)));
}

#[test]
fn shutdown_closes_idle_connections_and_lets_a_transfer_finish() {
    let mut host = Host::start();
    host.put("f", &vec![3; 20_000_000]);
    let (mut idle, mut busy) = (host.connect(), host.connect());
    assert_eq!(idle.ask("ping"), "ok");
    assert!(busy.ask("read 0 * f").starts_with("ok "));
    host.begin_stop();
    assert_eq!(idle.hear_end(), (Vec::new(), End::Closed));
    assert_eq!(busy.hear_body().0.len(), 20_000_000);
    assert_eq!(busy.hear_end(), (Vec::new(), End::Closed));
    assert_eq!(host.stop(), 0);
}

#[test]
fn a_replaced_file_keeps_its_mode() {
    let host = Host::start();
    host.put("script", b"old");
    fs::set_permissions(host.root().join("script"), fs::Permissions::from_mode(0o750)).unwrap();
    assert!(host.connect().write("script", b"new").starts_with("ok"));
    assert_eq!(fs::metadata(host.root().join("script")).unwrap().permissions().mode() & 0o777, 0o750);
}

#[test]
fn a_classic_listing_shows_plain_files_of_the_root_only() {
    let host = Host::start();
    for name in ["a.txt", "b c", "olá", ".hidden", "d/x"] {
        host.put(name, b"x");
    }
    let mut wire = host.connect();
    assert_eq!(wire.ask("ls"), "a.txt");
    for command in ["get d", "get nothing", "get ../x", "put d/.."] {
        assert_eq!(wire.ask(command), "-1", "{command}");
    }
    let port = wire.ask("get d/x");
    assert_eq!(read_to_end(&mut wire.data(&port)).0, b"0000000001x");
}

#[test]
fn a_directory_of_thousands_is_listed_whole() {
    let host = Host::start();
    for i in 0..5000 {
        host.put(&format!("d/file-{i:05}"), b"");
    }
    let mut wire = host.connect();
    assert_eq!(wire.ask("list d"), "ok");
    let (lines, trailer) = wire.hear_body();
    assert_eq!(trailer, format!("crc32c {:08x}", crc32c(&lines)));
    let mut names: Vec<_> = lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 5000);
    assert!(wire.ask("list d/file-00000").starts_with("error not-found"));
    assert!(wire.ask("list nothing").starts_with("error not-found"));
}
