//! One suite for every server, over real sockets: the exact bytes that a client sees.
//!
//! Implement [`Served`] and write `skiff_tests::server_suite!(MyServer);` in a module of a test: each case below
//! becomes a test there, with its own server. `server_suite!(MyServer, in a namespace);` runs each in a network
//! namespace, `server_suite!(MyServer, in a namespace if condition);` only if the condition holds.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use skiff_proto::MinRate;
use skiff_proto::crc::crc32c;

use crate::programs::{free_port, skip};
use crate::sans_io::{body, message};
use crate::vector::{Cut, Pacing, Vector, load_all, play};
use crate::wire::{self, End, Wire, connect, connect_from, eventually, read_to_end};

/// A running server with an empty store. Dropping it ends it.
pub trait Served: Sized {
    /// It has directories.
    const DIRECTORIES: bool;
    /// True if the server is behind [`sealing`](crate::relay::sealing), which encrypts its connections: it has no
    /// classic transfers (PROTOCOL §8).
    const SEALED: bool = false;
    /// Bytes of a long file: more than fit into the sockets, but the store has room for four of them.
    const LARGE: usize;

    /// Starts it.
    fn with(setup: Setup) -> Self;

    /// Its IPv4 address.
    fn addr(&self) -> SocketAddr;

    /// Its IPv6 address.
    fn addr_v6(&self) -> SocketAddr;

    /// Puts a file into the store.
    fn put(&self, name: &str, content: &[u8]) {
        wire::put(self.addr(), name, content);
    }

    /// Puts this many files whose names can't be sent into the store; false if the store can't hold such files.
    fn put_unsendable(&self, _count: u64) -> bool {
        false
    }

    /// A file's content; `None` if there is no such file.
    fn content(&self, name: &str) -> Option<Vec<u8>> {
        wire::content(self.addr(), name)
    }

    /// The names in the store, sorted; if it includes directories, they end in `/`.
    fn names(&self) -> Vec<String> {
        wire::names(self.addr())
    }

    /// Another address of this machine from which it can be reached as a different client.
    fn stranger() -> Option<IpAddr>;

    /// A control connection.
    fn connect(&self) -> Wire {
        Wire::connect(self.addr())
    }
}

/// The options of a case's server that differ from the default.
#[derive(Debug, Default)]
pub struct Setup {
    /// A connection without progress ends after this time.
    pub idle: Option<Duration>,
    /// A writer that has been silent for this time yields to another.
    pub takeover: Option<Duration>,
    /// The minimum progress while a body is outstanding.
    pub min_rate: Option<MinRate>,
    /// The only port of data connections.
    pub data_port: Option<u16>,
}

fn numbers(count: u32) -> Vec<u8> {
    (0..count).flat_map(u32::to_le_bytes).collect()
}

fn large<S: Served>() -> Vec<u8> {
    numbers(u32::try_from(S::LARGE / 4).unwrap())
}

fn start<S: Served>() -> S {
    S::with(Setup::default())
}

macro_rules! cases {
    (($d:tt) $($(#[$doc:meta])* fn $case:ident<$server:ident>() $body:block)*) => {
        $($(#[$doc])*
        pub fn $case<$server: Served>() $body)*

        /// Makes a test of every case, for a server that is [`Served`](crate::server_suite::Served).
        #[macro_export]
        macro_rules! server_suite {
            ($d server:ty) => {
                $(#[test]
                fn $case() {
                    $d crate::server_suite::$case::<$d server>();
                })*
            };
            ($d server:ty, in a namespace) => {
                $d crate::server_suite!($d server, in a namespace if true);
            };
            ($d server:ty, in a namespace if $d condition:expr) => {
                $(#[test]
                fn $case() {
                    if $d condition && $d crate::namespace::inside(module_path!(), stringify!($case)) {
                        $d crate::server_suite::$case::<$d server>();
                    }
                })*
            };
        }
    };
}

cases! { ($)
    /// Each with three pacings in one piece, and byte by byte over the other address family.
    fn every_vector_passes<S>() {
        let vectors = load_all().unwrap();
        let can_be_played = |vector: &Vector| {
            (!S::SEALED || vector.can_be_sealed()) && (S::DIRECTORIES || !vector.setting.needs_directories())
        };
        for vector in vectors.into_iter().filter(can_be_played) {
            let ways = [Pacing::Lines, Pacing::Groups, Pacing::Ahead].map(|pacing| (pacing, Cut::Whole, false));
            for (pacing, cut, v6) in ways.into_iter().chain([(Pacing::Lines, Cut::Bytes, true)]) {
                let server = start::<S>();
                if vector.setting.omitted > 0 && !server.put_unsendable(vector.setting.omitted) {
                    continue;
                }
                for (name, content) in vector.setting.before {
                    server.put(name, content);
                }
                let mut wire = server.connect();
                let directories = vector.setting.directories.iter().filter(|_| S::DIRECTORIES);
                for name in directories.clone() {
                    assert_eq!(wire.ask(format!("mkdir {name}")), "ok");
                }
                wire.say("quit");
                assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
                let mut wire = Wire::connect(if v6 { server.addr_v6() } else { server.addr() });
                if let Err(problem) = play(&vector, pacing, cut, &mut wire) {
                    panic!("{problem}");
                }
                drop(wire);
                let after = vector.setting.after.unwrap_or(vector.setting.before);
                let roots = after.iter().map(|(name, _)| *name).chain(directories.copied());
                let roots: BTreeSet<_> = roots.filter_map(|name| name.split('/').next()).collect();
                assert!(eventually(|| server.names().len() == roots.len()), "{}: {:?}", vector.file, server.names());
                for (name, content) in after {
                    assert_eq!(server.content(name).as_deref(), Some(*content), "{} {name}", vector.file);
                }
            }
        }
    }

    /// The port of the capture is sometimes used by another program.
    fn the_capture_of_the_original_system_is_replayed_byte_for_byte<S>() {
        if S::SEALED {
            return;
        }
        let port = 62346;
        let free = std::net::TcpListener::bind((core::net::Ipv4Addr::LOCALHOST, port)).is_ok();
        if !free {
            skip("the_capture_of_the_original_system", &format!("in part: port {port} is taken, another is announced"));
        }
        let server = S::with(Setup { data_port: free.then_some(port), ..Setup::default() });
        let mut wire = server.connect();
        wire.send_bytes(b"0000000013put teste.txt");
        let announced = if free {
            assert_eq!(wire.hear_bytes(15), b"000000000562346");
            port.to_string()
        } else {
            wire.hear_text()
        };
        let mut data = wire.data(&announced);
        data.write_all(&[b"0000000711".as_slice(), &[b'a'; 711]].concat()).unwrap();
        data.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut data), (Vec::new(), End::Closed));
        drop(wire);
        assert_eq!(server.content("teste.txt"), Some(vec![b'a'; 711]));
    }

    /// Complete, in part, its checksum; classic as well; over IPv6.
    fn a_long_file_goes_both_ways_by_both_families<S>() {
        let server = start::<S>();
        let content = large::<S>();
        let length = content.len();
        for addr in [server.addr_v6(), server.addr()] {
            let mut wire = Wire::connect(addr);
            assert_eq!(wire.write("big", &content), format!("ok {length} {:08x}", crc32c(&content)));
            assert!(wire.read("big").unwrap() == content);
            let (from, to) = (length / 3 + 1, length / 2);
            let part = &content[from..to];
            assert!(wire.ask(format!("read {from} {} big", to - from)).starts_with(&format!("ok {} {length} ", to - from)));
            let (received, trailer) = wire.hear_body();
            assert!(received == part && trailer == format!("crc32c {:08x}", crc32c(part)));
            let sum = wire.ask(format!("sum {from} {} big", to - from));
            assert_eq!(sum, format!("ok {} {:08x}", to - from, crc32c(part)));
            if S::SEALED {
                continue;
            }
            let port = wire.ask("get big");
            let (data, end) = read_to_end(&mut wire.data(&port));
            assert!(data[..10] == *format!("{length:010}").as_bytes() && data[10..] == content && end == End::Closed);
            let port = wire.ask("put path/copy");
            let mut data = wire.data(&port);
            data.write_all(&message(&content)).unwrap();
            data.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_to_end(&mut data), (Vec::new(), End::Closed));
            assert!(wire.read("copy").unwrap() == content);
            assert_eq!(wire.ask("remove copy"), "ok");
        }
    }

    /// Invalid lengths, invalid words.
    fn nonsense_is_answered_and_the_server_goes_on<S>() {
        let server = start::<S>();
        for nonsense in [&b"+000000004ping"[..], b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\0\0\0\0\0\0\0", b"0000065537"] {
            let mut wire = server.connect();
            wire.send_bytes(nonsense);
            if S::SEALED {
                // Bytes that are not a record get no reply. The last one announces more than it sends.
                wire.finish();
                assert_eq!(wire.hear_end().0, b"", "{nonsense:?}");
                continue;
            }
            let (said, end) = wire.hear_end();
            assert!(said.windows(6).any(|words| words == b"error "), "{nonsense:?}: {said:?}");
            assert_eq!(end, End::Closed);
        }
        let mut wire = server.connect();
        for (command, reply) in [
            ("xyz", "error bad-command "),
            ("read", "error bad-command "),
            ("read 1 2", "error bad-command "),
            ("read 0 * ../x", "error bad-name "),
            ("read 18446744073709551616 * x", "error bad-command "),
            ("stat /etc/passwd", "error bad-name "),
            ("stat .skiff-x", "error bad-name "),
            ("list ..", "error bad-name "),
            ("sum 0 0 a//b", "error bad-name "),
            ("remove a\\b", "error bad-name "),
            ("rename a", "error bad-command "),
            ("rename a\n../b", "error bad-name "),
            ("rename ../a\nb", "error bad-name "),
            ("resume 1 \u{7f}", "error bad-name "),
            ("get", "-1"),
            ("get a b", "-1"),
            ("put ..", "-1"),
            ("put a/", "-1"),
            ("get /skiff/2", "-1"),
        ] {
            let said = wire.ask(command);
            assert!(said.starts_with(reply), "{command:?}: {said}");
        }
        // An empty message is ignored; every message that begins like a `write` has a body.
        wire.say("");
        for command in ["write", "write 0 5", "write x 5 - f", "write 0 5 - ../f", "write 6 5 - f"] {
            wire.say(command);
            wire.send_bytes(&body(b"12345", crc32c(b"12345")));
            let said = wire.hear_text();
            assert!(said.starts_with("error "), "{command:?}: {said}");
        }
        // Longer than every command, and as long as a record if there are records.
        let overlong = "x".repeat(if S::SEALED { 900 } else { 5000 });
        wire.say(&overlong);
        assert!(wire.hear_text().starts_with("error too-long "));
        assert_eq!(wire.ask(format!("get {overlong}")), "-1");
        assert_eq!(wire.ask("ping"), "ok");
        assert!(server.names().is_empty());
    }

    /// However the connection was lost.
    fn an_interrupted_write_goes_on<S>() {
        let server = start::<S>();
        let content = numbers(20_000);
        let half = content.len() / 2;
        for reset in [false, true] {
            let mut wire = server.connect();
            wire.say(format!("write 0 {} 1700000000 f", content.len()));
            wire.send_bytes(&message(&content[..half]));
            if reset {
                socket2::SockRef::from(&wire.stream).set_linger(Some(Duration::ZERO)).unwrap();
                // The stage is open, so there is something to lose.
                assert!(eventually(|| server.connect().ask("resume 80000 f").starts_with("error busy")));
            } else {
                wire.finish();
                assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
            }
            drop(wire);
            let mut wire = server.connect();
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
            assert!(wire.ask("stat f").starts_with("ok 80000 1700000000 "));
            wire.say("quit");
        }
    }

    /// The first link is usually dead.
    fn a_second_writer_is_busy_until_the_first_is_silent_for_too_long<S>() {
        let server = S::with(Setup { takeover: Some(Duration::from_millis(1500)), ..Setup::default() });
        let (mut first, mut second) = (server.connect(), server.connect());
        let start = Instant::now();
        first.say("write 0 8 - f");
        first.send_bytes(&message("1234"));
        assert!(eventually(|| second.ask("resume 8 f").starts_with("error busy")));
        assert!(second.write("f", b"x").starts_with("error busy"));
        let staged = format!("ok 4 {:08x}", crc32c(b"1234"));
        assert!(eventually(|| second.ask("resume 8 f") == staged));
        // Less than the whole time: the server's clock counts milliseconds, and it may have read the clock before the
        // message arrived. The test of the device in virtual time has the exact time.
        assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
        assert_eq!(first.hear_end().1, End::Reset);
        second.say("write 4 8 - f");
        second.send_bytes(&body(b"5678", crc32c(b"12345678")));
        assert_eq!(second.hear_text(), format!("ok 8 {:08x}", crc32c(b"12345678")));
        assert_eq!(second.read("f").unwrap(), b"12345678");
    }

    /// A listing shows all of them.
    fn pipelined_writes_are_answered_in_order<S>() {
        let server = start::<S>();
        let mut wire = server.connect();
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

    /// Whatever a server makes durable together.
    fn a_pipelined_command_sees_what_the_ones_before_it_did<S>() {
        let server = start::<S>();
        let mut wire = server.connect();
        wire.send_write("a", b"one");
        wire.send_write("a", b"two");
        wire.say("read 0 * a");
        wire.say("rename a\nb");
        wire.say("stat a");
        wire.say("sum 0 * b");
        wire.say("remove b");
        wire.say("remove b");
        wire.say("list");
        assert!(wire.hear_text().starts_with("ok 3 "));
        assert!(wire.hear_text().starts_with("ok 3 "));
        assert!(wire.hear_text().starts_with("ok 3 3 "));
        assert_eq!(wire.hear_body().0, b"two");
        assert_eq!(wire.hear_text(), "ok");
        assert!(wire.hear_text().starts_with("error not-found "));
        assert_eq!(wire.hear_text(), format!("ok 3 {:08x}", crc32c(b"two")));
        assert_eq!(wire.hear_text(), "ok");
        assert!(wire.hear_text().starts_with("error not-found "));
        assert_eq!((wire.hear_text().as_str(), wire.hear_body().0), ("ok", Vec::new()));
    }

    /// At every depth, and in step with the changes before and behind it.
    fn trees_copies_and_renamed_directories_see_what_was_done_before_them<S>() {
        let server = start::<S>();
        let mut wire = server.connect();
        let dir = if S::DIRECTORIES { "d/" } else { "" };
        let names = |wire: &mut Wire, command: &str| {
            assert_eq!(wire.ask(command), "ok");
            let (lines, trailer) = wire.hear_body();
            assert_eq!(trailer, format!("crc32c {:08x}", crc32c(&lines)));
            let text = String::from_utf8(lines).unwrap();
            let name = |line: &str| line.splitn(4, ' ').nth(3).unwrap().to_owned();
            text.lines().map(name).collect::<BTreeSet<_>>()
        };
        wire.send_write(&format!("{dir}a"), b"one");
        wire.say(format!("copy {dir}a\n{dir}b"));
        wire.send_write(&format!("{dir}a"), b"two");
        wire.say(format!("copy {dir}b\n{dir}c"));
        wire.say(format!("remove {dir}b"));
        wire.say(format!("copy {dir}b\n{dir}c"));
        let replies: Vec<String> = (0..6).map(|_| wire.hear_text()).collect();
        for (reply, begin) in replies.iter().zip(["ok 3 ", "ok 3 ", "ok 3 ", "ok 3 ", "ok", "error not-found "]) {
            assert!(reply.starts_with(begin), "{replies:?}");
        }
        assert_eq!(wire.read(&format!("{dir}a")).unwrap(), b"two");
        assert_eq!(wire.read(&format!("{dir}c")).unwrap(), b"one");
        assert_eq!(names(&mut wire, "tree").len(), if S::DIRECTORIES { 3 } else { 2 });
        // The target is busy while another connection writes it.
        let mut writer = server.connect();
        writer.say(format!("write 0 8 - {dir}c"));
        writer.send_bytes(&message("1234"));
        assert!(eventually(|| wire.ask(format!("resume 8 {dir}c")).starts_with("error busy")));
        assert!(wire.ask(format!("copy {dir}a\n{dir}c")).starts_with("error busy"));
        drop(writer);
        if !S::DIRECTORIES {
            assert!(wire.ask("tree none").starts_with("error not-found"));
            return;
        }
        wire.say("rename d\ne/f");
        wire.send_write("d/new", b"x");
        wire.say("rename e\nd");
        assert_eq!(wire.hear_text(), "ok");
        assert!(wire.hear_text().starts_with("ok 1 "));
        assert!(wire.hear_text().starts_with("error is-directory "));
        let expected = ["e/f/", "e/f/a", "e/f/c"].map(str::to_owned);
        assert_eq!(names(&mut wire, "tree e"), BTreeSet::from(expected));
    }

    /// Five seconds, since another transfer waits.
    fn a_get_waits_for_a_data_connection_which_an_unclaimed_port_gives_back<S>() {
        if S::SEALED {
            return;
        }
        // Nothing else on this machine listens there, as far as a test can know.
        let port = free_port();
        let server = S::with(Setup { data_port: Some(port), ..Setup::default() });
        server.put("f", b"x");
        let (mut first, mut second) = (server.connect(), server.connect());
        let start = Instant::now();
        let port = first.ask("get f");
        assert_eq!(second.ask("get f"), port);
        assert!((4..20).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
        assert_eq!(read_to_end(&mut second.data(&port)).0, b"0000000001x");
        // Both at once, again and again: each waits for the port of the other.
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
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    }

    /// Only the owner may use PORT.
    fn a_stranger_on_a_data_port_is_reset_and_the_owner_gets_through<S>() {
        if S::SEALED {
            return;
        }
        let Some(stranger) = S::stranger() else {
            return;
        };
        let server = start::<S>();
        server.put("f", b"secret");
        let mut wire = server.connect();
        let port = wire.ask("get f");
        let addr = wire.at(port.parse().unwrap());
        for _ in 0..3 {
            match connect_from(stranger, addr) {
                Ok(mut stream) => assert_eq!(read_to_end(&mut stream), (Vec::new(), End::Reset)),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset
                    || error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                Err(error) => {
                    skip("a_stranger_on_a_data_port", &format!("{stranger}: {error}"));
                    return;
                }
            }
        }
        assert_eq!(read_to_end(&mut wire.data(&port)).0, b"0000000006secret");
    }

    /// In both directions at once.
    fn a_transfer_goes_on_after_quit_and_a_control_connection_during_it<S>() {
        if S::SEALED {
            return;
        }
        let server = start::<S>();
        let content = large::<S>();
        server.put("f", &content);
        let mut wire = server.connect();
        let port = wire.ask("get f");
        let mut data = wire.data(&port);
        assert_eq!(wire.ask("ping"), "ok");
        wire.say("quit");
        assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
        let (received, end) = read_to_end(&mut data);
        assert!(received[10..] == content && end == End::Closed);
        let mut wire = server.connect();
        let port = wire.ask("put g");
        let mut data = wire.data(&port);
        let (before, after) = content.split_at(1000);
        data.write_all(format!("{:010}", content.len()).as_bytes()).unwrap();
        data.write_all(before).unwrap();
        wire.say("quit");
        assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
        data.write_all(after).unwrap();
        data.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut data), (Vec::new(), End::Closed));
        assert!(server.content("g").unwrap() == content);
    }

    /// A short file is never taken for a complete one.
    fn a_short_put_is_reset_and_nothing_is_stored<S>() {
        if S::SEALED {
            return;
        }
        let server = start::<S>();
        let mut wire = server.connect();
        for sent in [&b"0000000009short"[..], b"00000", b"x000000001x", b"0000000002too long"] {
            let port = wire.ask("put f");
            let mut data = wire.data(&port);
            data.write_all(sent).unwrap();
            _ = data.shutdown(Shutdown::Write);
            assert_eq!(read_to_end(&mut data), (Vec::new(), End::Reset), "{sent:?}");
        }
        assert_eq!(wire.ask("ls"), "");
    }

    /// The last reply, too.
    fn a_client_that_ends_its_side_gets_all_its_replies<S>() {
        let server = start::<S>();
        let mut wire = server.connect();
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

    /// Whether it gets the reply or not.
    fn files_whose_bodies_came_whole_are_stored_even_if_the_client_is_gone<S>() {
        let server = start::<S>();
        let mut wire = server.connect();
        for i in 0..20 {
            wire.send_write(&format!("f{i}"), b"x");
        }
        // The reset discards what has not been sent yet.
        assert!(eventually(|| wire.is_sent()));
        drop(wire);
        assert!(eventually(|| server.names().len() == 20));
    }

    /// Their replies fill all the buffers.
    fn clients_that_do_not_read_stop_nobody_else<S>() {
        let server = start::<S>();
        server.put("big", &large::<S>());
        let mut stuck: Vec<_> = (0..3).map(|_| server.connect()).collect();
        for wire in &mut stuck {
            for _ in 0..20 {
                wire.say("read 0 * big");
            }
        }
        let mut wire = server.connect();
        for i in 0..50 {
            assert!(wire.write(&format!("f{i}"), b"content").starts_with("ok 7 "));
        }
    }

    /// `timeout` is sent only in place of an owed reply.
    fn an_idle_connection_is_closed_silently_and_a_silent_writer_gets_timeout<S>() {
        let server = S::with(Setup { idle: Some(Duration::from_secs(1)), ..Setup::default() });
        let (mut idle, mut writer) = (server.connect(), server.connect());
        writer.say("write 0 5 - f");
        writer.send_bytes(b"00000");
        assert_eq!(idle.hear_end(), (Vec::new(), End::Closed));
        let reply = writer.hear_text();
        assert!(reply.starts_with("error timeout "), "{reply}");
        assert_eq!(writer.hear_end(), (Vec::new(), End::Closed));
    }

    /// One byte now and then does not count as progress.
    fn a_drip_of_bytes_does_not_hold_a_session<S>() {
        let min_rate = Some(MinRate { bytes: 100, window: Duration::from_millis(500) });
        let server = S::with(Setup { min_rate, ..Setup::default() });
        let mut wire = server.connect();
        wire.say("write 0 100000 - f");
        wire.send_bytes(b"0000100000");
        let start = Instant::now();
        let mut stream = wire.stream.try_clone().unwrap();
        let dripping = std::thread::spawn(move || {
            while stream.write_all(b"x").is_ok() && start.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let reply = wire.hear_text();
        assert!(reply.starts_with("error timeout "), "{reply}");
        assert!(start.elapsed() < Duration::from_secs(5));
        drop(wire);
        dripping.join().unwrap();
    }

    /// Or it gets `changed`; never a mix.
    fn a_reader_of_the_old_version_gets_it_whole_while_it_is_replaced<S>() {
        let server = start::<S>();
        let old = large::<S>();
        server.put("f", &old);
        let (mut reader, mut writer) = (server.connect(), server.connect());
        assert!(reader.ask("read 0 * f").starts_with(&format!("ok {} ", old.len())));
        assert!(writer.write("f", b"new").starts_with("ok 3 "));
        let (content, trailer) = reader.hear_body();
        if !trailer.starts_with("abort changed ") {
            assert!(content == old && trailer == format!("crc32c {:08x}", crc32c(&old)), "{trailer}");
        }
        assert_eq!(reader.read("f").unwrap(), b"new");
    }

    /// Names that only other clients can use are omitted.
    fn a_classic_listing_shows_what_the_classic_programs_can_ask_for<S>() {
        if S::SEALED {
            return;
        }
        let server = start::<S>();
        for name in ["a.txt", "b c", "olá", ".hidden"] {
            if !(S::DIRECTORIES && name.starts_with('.')) {
                server.put(name, b"x");
            }
        }
        let mut wire = server.connect();
        assert_eq!(wire.ask("ls").trim_end_matches('\n'), "a.txt");
        for command in ["get nothing", "get ../x", "put d/.."] {
            assert_eq!(wire.ask(command), "-1", "{command}");
        }
        let port = wire.ask("get a.txt");
        assert_eq!(read_to_end(&mut wire.data(&port)).0, b"0000000001x");
    }

    /// Nobody listens there.
    fn a_data_port_that_was_not_offered_gives_nothing_away<S>() {
        if S::SEALED {
            return;
        }
        let server = start::<S>();
        server.put("f", b"secret");
        let mut wire = server.connect();
        let port = wire.ask("get f");
        assert_eq!(read_to_end(&mut wire.data(&port)).0, b"0000000006secret");
        match TcpStream::connect(wire.at(port.parse().unwrap())) {
            Ok(mut stream) => assert_eq!(read_to_end(&mut stream), (Vec::new(), End::Reset)),
            Err(error) => assert!(
                matches!(error.kind(), std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::ConnectionReset),
                "{error}"
            ),
        }
        let port = wire.ask("put g");
        drop(connect(wire.at(port.parse().unwrap())));
        assert_eq!((wire.ask("ping"), wire.ask("ls")), ("ok".into(), "f".into()));
    }
}
