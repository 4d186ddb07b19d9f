//! host-serv as a program: what it says, how it starts and ends, what it leaves behind.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::fs;
use std::io::Write as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use skiff_proto::crc::crc32c;
use skiff_tests::disk;
use std::os::unix::ffi::OsStrExt as _;

use skiff_tests::namespace::{inside, ip};
use skiff_tests::programs::{Ran, Serv, Signal, free_port, host_cli, host_serv, program, run, skip};
use skiff_tests::sans_io::{body, message};
use skiff_tests::wire::{End, Wire, connect_from, eventually, read_to_end};
use tempfile::tempdir;

/// Bytes that don't repeat soon.
fn content(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 4);
    let mut number = 0_u32;
    while bytes.len() < len {
        bytes.extend_from_slice(&number.wrapping_mul(2_654_435_761).to_le_bytes());
        number += 1;
    }
    bytes.truncate(len);
    bytes
}

/// Runs host-serv with these words, which are not to make it serve.
fn refused(words: &[&str]) -> Ran {
    run(Command::new(program("host-serv")).args(words))
}

/// The one line that it says on standard error.
#[track_caller]
fn one_line(ran: &Ran) -> &str {
    assert_eq!((ran.out(), ran.err.lines().count()), ("", 1), "{ran:?}");
    ran.err.trim_end()
}

/// Waits until nobody listens there any more.
#[track_caller]
fn closes(addr: SocketAddr) {
    assert!(eventually(|| TcpStream::connect(addr).is_err()), "it still accepts");
}

/// All bytes that lie in staging directories below `root`.
fn staged(root: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(root) else { return 0 };
    let stages = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(".skiff-"));
    let files = stages.filter_map(|stage| fs::read_dir(stage.path()).ok()).flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
}

/// All names in `root`, sorted.
fn names(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_first_line_says_the_port_and_nothing_else_comes_on_standard_output() {
    let root = tempdir().unwrap();
    let serv = Serv::start(root.path(), &[]);
    assert!(serv.port() != 0);
    for addr in [serv.addr(), (Ipv6Addr::LOCALHOST, serv.port()).into()] {
        match TcpStream::connect(addr) {
            Ok(_) => {}
            Err(error) if addr.is_ipv6() && error.kind() == std::io::ErrorKind::AddrNotAvailable => {
                skip("the_first_line_says_the_port_and_nothing_else_comes_on_standard_output", "no IPv6 here");
            }
            Err(error) => panic!("{addr}: {error}"),
        }
    }
    assert_eq!(serv.connect().ask("ping"), "ok");
    let line = format!("port {}\n", serv.port());
    let ran = serv.stop();
    assert_eq!((ran.code, ran.out()), (Some(0), line.as_str()));
    // The rest is for people.
    let mut lines = ran.err.lines();
    let first = lines.next().unwrap();
    assert!(first.starts_with("host-serv: serving ") && first.contains("127.0.0.1:"), "{first}");
    let second = lines.next().unwrap();
    assert!(second.contains("only this machine can connect") && second.contains("--bind 0.0.0.0"), "{second}");
    assert_eq!(lines.next(), None);
    assert!(names(root.path()).is_empty());
}

#[test]
fn it_serves_the_current_directory_unless_told_otherwise() {
    let root = tempdir().unwrap();
    fs::write(root.path().join("here"), "x").unwrap();
    let mut command = Command::new(program("host-serv"));
    let serv = Serv::launch(command.arg("0").current_dir(root.path()), "port ").unwrap();
    assert_eq!(serv.connect().read("here").unwrap(), b"x");
}

#[test]
fn the_help_has_examples_exit_codes_and_every_option() {
    let ran = refused(&["--help"]);
    let text = ran.ok();
    for part in [
        "Examples:\n  host-serv 50000 ",
        "Exit codes: 0 stopped by Ctrl-C, SIGTERM or SIGHUP, 1 could not start or failed, 2 usage error.",
        "--root <DIR>",
        "--bind <ADDR>",
        "--read-only",
        "--hidden",
        "--data-ports <LOW-HIGH>",
        "--max-clients <N>",
        "--idle <SECONDS>",
        "--min-rate <BYTES>",
        "--grace <SECONDS>",
        "--nocrc",
        "--reserve <SIZE>",
        "--stage-max <SIZE>",
        "--stage-age <HOURS>",
        "--threads <N>",
        "-v, --verbose",
        "--log-format <FORMAT>",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(refused(&["--version"]).ok().starts_with("host-serv "));
}

#[test]
fn wrong_usage_ends_it_with_2() {
    for words in [
        &[][..],
        &["x"],
        &["70000"],
        &["-1"],
        &["0", "extra"],
        &["0", "--frob"],
        &["0", "--bind", "[::1"],
        &["0", "--bind", "[localhost]"],
        &["0", "--bind", "not a name"],
        &["0", "--bind", ""],
        &["0", "--data-ports", "9-3"],
        &["0", "--idle", "0"],
        &["0", "--threads", "0"],
        &["0", "--min-rate", "much"],
        &["0", "--log-format", "xml"],
    ] {
        let ran = refused(words);
        assert_eq!((ran.code, ran.out()), (Some(2), ""), "{words:?}");
        assert!(ran.err.contains("--help"), "{}", ran.err);
    }
}

#[test]
fn what_keeps_it_from_starting_is_one_line_and_exit_code_1() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let ran = refused(&[&port.to_string()]);
    assert_eq!(ran.code, Some(1));
    let line = one_line(&ran);
    assert_eq!(line, format!("host-serv: can't listen on 127.0.0.1:{port}: Address already in use (os error 98)"));

    let root = tempdir().unwrap();
    fs::write(root.path().join("file"), "x").unwrap();
    for (name, why) in [("nothing", "No such file or directory"), ("file", "Not a directory")] {
        let path = root.path().join(name);
        let ran = refused(&["0", "--root", path.to_str().unwrap()]);
        assert_eq!(ran.code, Some(1));
        let line = one_line(&ran);
        assert!(line.starts_with(&format!("host-serv: can't serve {}: {why}", path.display())), "{line}");
        assert_eq!(line.matches(why).count(), 1, "{line}");
    }

    // An address of nobody's (TEST-NET-1).
    let ran = refused(&["0", "--bind", "192.0.2.1"]);
    assert_eq!(ran.code, Some(1));
    assert!(one_line(&ran).starts_with("host-serv: can't listen on 192.0.2.1:0: "));

    for nowhere in ["fe80::1%nowhere", "[fe80::1%nowhere]", "skiff.invalid"] {
        let ran = refused(&["0", "--bind", nowhere]);
        assert_eq!(ran.code, Some(1));
        let line = one_line(&ran);
        let name = nowhere.trim_matches(['[', ']']);
        assert!(line.starts_with(&format!("host-serv: can't listen on {name}: failed to lookup address ")), "{line}");
    }

    let ran = refused(&[&port.to_string(), "--log-format", "json"]);
    assert_eq!(ran.code, Some(1));
    let object: serde_json::Value = serde_json::from_str(one_line(&ran)).unwrap();
    assert!(object["fields"]["message"].as_str().unwrap().starts_with("can't listen on "), "{object}");
}

#[test]
fn only_the_addresses_that_were_asked_for_are_listened_on() {
    let root = tempdir().unwrap();
    let serv = Serv::start(root.path(), &["--bind", "127.0.0.1"]);
    assert!(TcpStream::connect(serv.addr()).is_ok());
    assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, serv.port())).is_err());
    let ran = serv.stop();
    assert!(ran.err.contains("only this machine can connect"), "{}", ran.err);
    let serv = Serv::start(root.path(), &["--bind", "0.0.0.0"]);
    assert!(TcpStream::connect(serv.addr()).is_ok());
    let ran = serv.stop();
    assert!(!ran.err.contains("only this machine"), "{}", ran.err);
}

/// A classic `get` and a classic `put`, and a stranger at the data port where there can be one.
fn classic(serv: &Serv, addr: SocketAddr, stranger: Option<IpAddr>) {
    let mut wire = Wire::connect(addr);
    let port = wire.ask("get file");
    assert!(port.parse::<u16>().is_ok(), "{addr}: {port}");
    if let Some(stranger) = stranger {
        // The reset may come before this end knows that it is connected.
        if let Ok(mut stream) = connect_from(stranger, wire.at(port.parse().unwrap())) {
            assert_eq!(read_to_end(&mut stream), (Vec::new(), End::Reset), "{addr}");
        }
    }
    assert_eq!(read_to_end(&mut wire.data(&port)), (message("content"), End::Closed), "{addr}");
    let port = wire.ask("put new");
    let mut data = wire.data(&port);
    data.write_all(&message("new")).unwrap();
    data.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut data), (Vec::new(), End::Closed), "{addr}: {}", serv.running.err());
}

#[test]
fn a_server_is_reached_by_every_form_of_its_address_with_classic_transfers_too() {
    let root = tempdir().unwrap();
    fs::write(root.path().join("file"), "content").unwrap();
    let (v4, v6): (IpAddr, IpAddr) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    let ports = format!("{0}-{0}", free_port());
    for (bind, client) in [
        (&["localhost"][..], v4),
        (&["localhost", "127.0.0.1"], v4),
        (&["::ffff:127.0.0.1"], v4),
        (&["::"], v4),
        (&["::"], v6),
        (&["[::]"], v4),
        (&["localhost"], v6),
        (&["[::1]"], v6),
        (&["0.0.0.0", "::"], v6),
    ] {
        if client == v6 && TcpListener::bind((client, 0)).is_err() {
            skip("a_server_is_reached_by_every_form_of_its_address_with_classic_transfers_too", "no IPv6 here");
            return;
        }
        let mut options: Vec<_> = bind.iter().flat_map(|addr| ["--bind", addr]).collect();
        options.extend(["--data-ports", &ports]);
        let serv = Serv::start(root.path(), &options);
        let stranger = (client == v4).then_some(Ipv4Addr::new(127, 0, 0, 9).into());
        classic(&serv, (client, serv.port()).into(), stranger);
        assert_eq!(serv.stop().code, Some(0), "{bind:?}");
    }
}

#[test]
fn a_link_local_client_has_classic_transfers_and_its_scope_can_be_named() {
    if !inside(module_path!(), "a_link_local_client_has_classic_transfers_and_its_scope_can_be_named") {
        return;
    }
    ip("addr add fe80::1/64 dev lo");
    let (root, here) = (tempdir().unwrap(), tempdir().unwrap());
    fs::write(root.path().join("file"), "content").unwrap();
    for bind in ["::", "fe80::1%lo", "[fe80::1%lo]", "fe80::1%1"] {
        let serv = Serv::start(root.path(), &["--bind", bind]);
        classic(&serv, SocketAddrV6::new("fe80::1".parse().unwrap(), serv.port(), 0, 1).into(), None);
        for host in ["fe80::1%lo", "[fe80::1%lo]"] {
            let ran = run(host_cli(here.path()).args([host, &serv.port().to_string(), "cat", "file"]));
            assert_eq!(ran.ok(), "content", "{host}");
        }
    }
}

#[test]
fn options_reach_the_server() {
    let root = tempdir().unwrap();
    fs::write(root.path().join(".hidden"), "secret").unwrap();
    let options = ["--hidden", "--nocrc", "--idle", "7", "--max-clients", "2", "--threads", "1", "--portable"];
    let serv = Serv::start(root.path(), &options);
    let mut first = serv.connect();
    let hello = first.ask("get /skiff/1");
    assert!(hello.starts_with("skiff/1 server=host-serv/") && hello.contains(" idle=7"), "{hello}");
    assert!(hello.contains(" nocrc=1"), "{hello}");
    assert_eq!(first.read(".hidden").unwrap(), b"secret");
    let mut second = serv.connect();
    assert_eq!(second.ask("ping"), "ok");
    assert_eq!(serv.connect().hear_end(), (Vec::new(), End::Closed));
    assert!(Serv::start(root.path(), &[]).connect().ask("stat .hidden").starts_with("error not-found"));
}

#[test]
fn an_idle_client_is_sent_away() {
    let root = tempdir().unwrap();
    let serv = Serv::start(root.path(), &["--idle", "1"]);
    assert_eq!(serv.connect().hear_end(), (Vec::new(), End::Closed));
}

#[test]
fn a_client_that_only_reads_its_data_connection_is_not_idle() {
    let root = tempdir().unwrap();
    // More than all buffers on the way hold.
    fs::File::create(root.path().join("f")).unwrap().set_len(300_000_000).unwrap();
    let serv = Serv::start(root.path(), &["--idle", "1"]);
    let mut wire = serv.connect();
    let port = wire.ask("get f");
    let mut data = wire.data(&port);
    let mut piece = vec![0; 4_000_000];
    for _ in 0..14 {
        std::io::Read::read_exact(&mut data, &mut piece).unwrap();
        std::thread::sleep(core::time::Duration::from_millis(150));
    }
    assert_eq!(wire.ask("ping"), "ok");
}

#[test]
fn a_read_only_server_leaves_the_directory_as_it_is() {
    let root = tempdir().unwrap();
    fs::write(root.path().join("f"), "old").unwrap();
    let serv = Serv::start(root.path(), &["--read-only"]);
    let mut wire = serv.connect();
    assert!(wire.write("f", b"new").starts_with("error read-only "));
    for command in ["resume 3 f", "remove f", "rename f\ng", "mkdir d", "rmdir d"] {
        assert!(wire.ask(command).starts_with("error read-only "), "{command}");
    }
    assert_eq!(wire.ask("put f"), "-1");
    assert_eq!(wire.read("f").unwrap(), b"old");
    let ran = serv.stop();
    assert!(ran.err.contains(", read-only on "), "{}", ran.err);
    assert_eq!(names(root.path()), ["f"]);
}

#[test]
fn classic_data_connections_use_the_ports_they_are_given() {
    let root = tempdir().unwrap();
    let port = free_port().to_string();
    let serv = Serv::start(root.path(), &["--data-ports", &format!("{port}-{port}")]);
    let mut wire = serv.connect();
    for round in 0..3 {
        assert_eq!(wire.ask("put f"), port);
        let mut data = wire.data(&port);
        data.write_all(&message("content")).unwrap();
        data.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut data), (Vec::new(), End::Closed), "{round}");
        assert_eq!(wire.ask("get f"), port);
        assert_eq!(read_to_end(&mut wire.data(&port)).0, b"0000000007content");
    }
    assert_eq!(names(root.path()).iter().filter(|name| !name.starts_with('.')).count(), 3);
}

#[test]
fn each_of_three_signals_ends_it_with_0_and_nothing_stays_in_the_directory() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let root = tempdir().unwrap();
        let serv = Serv::start(root.path(), &[]);
        let mut wire = serv.connect();
        assert!(wire.write("f", b"content").starts_with("ok 7 "));
        serv.running.signal(signal);
        assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
        let ran = serv.running.wait();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(names(root.path()), ["f"]);
    }
}

#[test]
fn a_hangup_that_nohup_has_ignored_does_not_end_it() {
    let root = tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", r#"trap '' HUP && exec "$0" 0 --root "$1""#]).arg(program("host-serv")).arg(root.path());
    let serv = Serv::launch(&mut command, "port ").unwrap();
    assert!(!serv.running.catches(Signal::HUP));
    serv.running.signal(Signal::HUP);
    assert_eq!(serv.connect().ask("ping"), "ok");
    assert_eq!(serv.stop().code, Some(0));
}

#[test]
fn transfers_that_run_are_finished_before_it_ends() {
    let root = tempdir().unwrap();
    let content = content(20_000_000);
    fs::write(root.path().join("down"), &content).unwrap();
    let serv = Serv::start(root.path(), &["--grace", "60"]);
    let (mut reader, mut writer, mut classic) = (serv.connect(), serv.connect(), serv.connect());
    assert!(reader.ask("read 0 * down").starts_with("ok 20000000 20000000 "));
    let half = content.len() / 2;
    writer.say(format!("write 0 {} - up", content.len()));
    writer.send_bytes(&message(&content[..half]));
    let port = classic.ask("get down");
    let mut data = classic.data(&port);
    // Its server is at it when the first bytes are here.
    assert_eq!(data.peek(&mut [0]).unwrap(), 1);
    serv.running.signal(Signal::TERM);
    closes(serv.addr());
    let (got, trailer) = reader.hear_body();
    assert!(got == content && trailer == format!("crc32c {:08x}", crc32c(&content)));
    writer.send_bytes(&body(&content[half..], crc32c(&content)));
    assert_eq!(writer.hear_text(), format!("ok {} {:08x}", content.len(), crc32c(&content)));
    let (got, end) = read_to_end(&mut data);
    assert!(got[10..] == content && end == End::Closed);
    for wire in [&mut reader, &mut writer, &mut classic] {
        assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
    }
    let ran = serv.running.wait();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(!ran.err.contains("cut off"), "{}", ran.err);
    assert!(fs::read(root.path().join("up")).unwrap() == content);
    assert_eq!(names(root.path()), ["down", "up"]);
}

#[test]
fn transfers_that_take_longer_than_the_grace_period_are_cut_off() {
    let root = tempdir().unwrap();
    fs::write(root.path().join("down"), content(50_000_000)).unwrap();
    let serv = Serv::start(root.path(), &["--grace", "1"]);
    let mut reader = serv.connect();
    assert!(reader.ask("read 0 * down").starts_with("ok 50000000 "));
    let mut writer = serv.connect();
    writer.say("write 0 1000 - up");
    writer.send_bytes(&message([7; 400]));
    assert!(eventually(|| staged(root.path()) == 400));
    let begin = Instant::now();
    let ran = serv.stop();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.ends_with("host-serv: 2 connections cut off after the grace period of 1 s\n"), "{}", ran.err);
    assert!((1..30).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    let mut got = Vec::new();
    _ = std::io::Read::read_to_end(&mut reader.stream, &mut got);
    assert!(got.len() < 50_000_000, "{}", got.len());
    // What had come of the other one is still staged.
    let serv = Serv::start(root.path(), &[]);
    assert_eq!(serv.connect().ask("resume 1000 up"), format!("ok 400 {:08x}", crc32c(&[7; 400])));
}

#[test]
fn told_twice_it_ends_at_once() {
    let root = tempdir().unwrap();
    fs::write(root.path().join("down"), content(50_000_000)).unwrap();
    let serv = Serv::start(root.path(), &["--grace", "1000"]);
    let mut reader = serv.connect();
    assert!(reader.ask("read 0 * down").starts_with("ok 50000000 "));
    serv.running.signal(Signal::TERM);
    closes(serv.addr());
    assert_eq!(serv.stop().code, Some(0));
}

#[test]
fn every_line_of_a_json_log_is_an_object() {
    let root = tempdir().unwrap();
    let serv = Serv::start(root.path(), &["-vv", "--log-format", "json"]);
    let mut wire = serv.connect();
    assert!(wire.write("olá \"b\".txt", b"content").starts_with("ok 7 "));
    assert_eq!(wire.read("olá \"b\".txt").unwrap(), b"content");
    assert!(wire.ask("frob").starts_with("error bad-command "));
    let port = wire.ask("put x");
    let mut data = wire.data(&port);
    data.write_all(b"nonsense..").unwrap();
    // The reset may have come already.
    _ = data.shutdown(Shutdown::Write);
    assert_eq!(read_to_end(&mut data).1, End::Reset);
    wire.say("quit");
    assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
    let ran = serv.stop();
    assert_eq!(ran.code, Some(0));
    let objects: Vec<serde_json::Value> =
        ran.err.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    for object in &objects {
        assert!(object["timestamp"].is_string() && object["level"].is_string(), "{object}");
        assert!(object["fields"]["message"].is_string(), "{object}");
    }
    let said = |message: &str| objects.iter().find(|object| object["fields"]["message"] == message);
    assert_eq!(said("write").unwrap()["fields"]["name"], "olá \"b\".txt");
    assert_eq!(said("write").unwrap()["fields"]["size"], 7);
    assert!(said("data connection reset").is_some());
    assert!(objects[0]["fields"]["message"].as_str().unwrap().starts_with("serving "));
}

#[test]
fn each_change_is_one_line_of_the_log_with_its_outcome() {
    let root = tempdir().unwrap();
    let serv = Serv::start(root.path(), &["-v", "--log-format", "json"]);
    let mut wire = serv.connect();
    assert!(wire.write("f", b"content").starts_with("ok 7 "));
    let mut bytes = message("write 0 3 - bad");
    bytes.extend(body(b"bad", 1));
    wire.send_bytes(&bytes);
    assert!(wire.hear_text().starts_with("error mismatch "));
    let mut bytes = message("write 5 9 - f");
    bytes.extend(body(b"more", 1));
    wire.send_bytes(&bytes);
    assert!(wire.hear_text().starts_with("error "));
    for command in ["mkdir d", "mkdir d", "rename f\nd/g", "remove f", "rmdir d", "remove d/g", "rmdir d"] {
        wire.say(command);
    }
    for _ in 0..7 {
        _ = wire.hear();
    }
    let local = wire.stream.local_addr().unwrap().to_string();
    for (name, content) in [("p", &message("classic")[..]), ("p", &message("classic")), ("q", b"nonsense..")] {
        let port = wire.ask(format!("put {name}"));
        let mut data = wire.data(&port);
        data.write_all(content).unwrap();
        // The reset may have come already.
        _ = data.shutdown(Shutdown::Write);
        _ = read_to_end(&mut data);
    }
    assert_eq!(wire.ask("put .x"), "-1");
    let mut other = serv.connect();
    other.send_bytes(&[message("write 0 4 - half"), message("ha")].concat());
    drop(other);
    assert!(eventually(|| serv.running.err().contains("interrupted")));
    // The client does not wait for the answer; the file is stored anyway.
    wire.send_write("last", b"last");
    drop(wire);
    assert!(eventually(|| serv.running.err().contains("\"last\"")));
    let ran = serv.stop();
    let lines = ran.err.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let changes: Vec<_> = lines.map(|line| line["fields"].clone()).filter(|line| line["outcome"].is_string()).collect();
    let shown = |change: &serde_json::Value| {
        let by = if change["peer"] == local.as_str() { "" } else { "another's " };
        let words = ["message", "name", "to", "size", "outcome"].map(|field| &change[field]);
        let words = words.into_iter().filter(|word| !word.is_null());
        let words = words.map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned));
        by.to_owned() + &words.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        changes.iter().map(shown).collect::<Vec<_>>(),
        [
            "write f 7 ok",
            "write bad 3 discarded",
            "write f mismatch",
            "mkdir d ok",
            "mkdir d exists",
            "rename f d/g ok",
            "remove f not-found",
            "rmdir d not-empty",
            "remove d/g ok",
            "rmdir d ok",
            "put p 7 ok",
            "put p(1) 7 ok",
            "put q discarded",
            "put .x denied",
            "another's write half 4 interrupted",
            "write last 4 ok",
        ]
    );
}

#[test]
fn an_upload_goes_on_after_the_server_was_killed_in_the_middle_of_it() {
    let (root, here) = (tempdir().unwrap(), tempdir().unwrap());
    let content = content(3_000_000);
    let half = content.len() / 2;
    fs::write(root.path().join("f"), "old").unwrap();
    let serv = Serv::start(root.path(), &[]);
    let mut wire = serv.connect();
    wire.say(format!("write 0 {} 1700000000 f", content.len()));
    wire.send_bytes(&message(&content[..half]));
    assert!(eventually(|| staged(root.path()) == half as u64), "{}", staged(root.path()));
    serv.kill();
    assert_eq!(fs::read(root.path().join("f")).unwrap(), b"old");

    let serv = Serv::start(root.path(), &[]);
    let mut wire = serv.connect();
    assert_eq!(wire.read("f").unwrap(), b"old");
    let reply = wire.ask(format!("resume {} f", content.len()));
    assert_eq!(reply, format!("ok {half} {:08x}", crc32c(&content[..half])));
    fs::write(here.path().join("f"), &content).unwrap();
    let port = serv.port().to_string();
    let out = run(host_cli(here.path()).args(["127.0.0.1", &port, "put", "-c", "f"])).ok();
    assert!(out.contains(&format!(", continued at {half}, crc32c {:08x}", crc32c(&content))), "{out}");
    assert!(fs::read(root.path().join("f")).unwrap() == content);
    assert_eq!(serv.stop().code, Some(0));
    assert_eq!(names(root.path()), ["f"]);
}

#[test]
fn two_servers_of_one_directory_do_each_other_no_harm() {
    let root = tempdir().unwrap();
    let servers = [Serv::start(root.path(), &[]), Serv::start(root.path(), &[])];
    let whole: [Vec<u8>; 2] = [vec![b'a'; 300_000], vec![b'b'; 200_000]];
    std::thread::scope(|threads| {
        for (server, content) in servers.iter().zip(&whole) {
            threads.spawn(|| {
                let mut wire = server.connect();
                for round in 0..20 {
                    assert!(wire.write("same", content).starts_with("ok "));
                    assert!(wire.write(&format!("own-{}/{round}", server.port()), content).starts_with("ok "));
                    // Either version, but a whole one.
                    let got = wire.read("same").unwrap();
                    assert!(whole.contains(&got), "{}", got.len());
                }
            });
        }
    });
    let mut first = servers[0].connect();
    for server in &servers {
        assert!(first.read(&format!("own-{}/19", server.port())).is_ok());
    }
    // What one has staged is its own, and found by the next server after it.
    first.say("write 0 10 - part");
    first.send_bytes(&message("12345"));
    assert!(eventually(|| staged(root.path()) == 5));
    let mut second = servers[1].connect();
    assert_eq!(second.ask("resume 10 part"), "ok 0 00000000");
    let [one, other] = servers;
    one.kill();
    assert!(second.write("last", b"x").starts_with("ok 1 "));
    let third = Serv::start(root.path(), &[]);
    assert_eq!(third.connect().ask("resume 10 part"), format!("ok 5 {:08x}", crc32c(b"12345")));
    assert!(second.write("last", b"y").starts_with("ok 1 "));
    drop(second);
    assert_eq!(other.stop().code, Some(0));
    let mut wire = third.connect();
    wire.say("write 5 10 - part");
    wire.send_bytes(&body(b"67890", crc32c(b"1234567890")));
    assert!(wire.hear_text().starts_with("ok 10 "));
    assert_eq!(third.stop().code, Some(0));
    assert!(names(root.path()).iter().all(|name| !name.starts_with('.')), "{:?}", names(root.path()));
    assert_eq!(fs::read(root.path().join("part")).unwrap(), b"1234567890");
}

/// A process below one that was started here. Dropping it kills it.
struct Below(rustix::process::Pid);

impl Below {
    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.0, signal).unwrap();
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        // Gone already, unless the test has failed.
        _ = rustix::process::kill_process(self.0, Signal::KILL);
    }
}

#[test]
fn two_thousand_pipelined_files_cost_few_system_calls_that_wait_for_the_disk() {
    let test = "two_thousand_pipelined_files_cost_few_system_calls_that_wait_for_the_disk";
    let (root, there) = (tempdir().unwrap(), tempdir().unwrap());
    let (pid, counts) = (there.path().join("pid"), there.path().join("counts"));
    let traced = "trace=fsync,fdatasync,syncfs,sync,sync_file_range,msync";
    let strace = |command: &mut Command| {
        command.arg("-f").arg("-c").args(["-e", traced, "-o"]).arg(&counts);
        // The shell becomes the program: the process is the same.
        command.args(["sh", "-c", r#"echo $$ > "$0" && exec "$@""#]).arg(&pid);
    };
    let mut probe = Command::new("strace");
    strace(&mut probe);
    if !probe.arg("true").output().is_ok_and(|output| output.status.success()) {
        return skip(test, "strace is not installed, or may not trace here");
    }
    let mut command = Command::new("strace");
    strace(&mut command);
    command.arg(program("host-serv")).args(["0", "--root"]).arg(root.path());
    let serv = Serv::launch(&mut command, "port ").unwrap();
    let pid = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    let below = Below(rustix::process::Pid::from_raw(pid).unwrap());

    let mut wire = serv.connect();
    let mut stream = wire.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        for i in 0..2000_u32 {
            let content = i.to_le_bytes().repeat(256);
            let mut bytes = message(format!("write 0 1024 1700000000 d/{i}"));
            bytes.extend(body(&content, crc32c(&content)));
            stream.write_all(&bytes).unwrap();
        }
    });
    for i in 0..2000_u32 {
        assert_eq!(wire.hear_text(), format!("ok 1024 {:08x}", crc32c(&i.to_le_bytes().repeat(256))));
    }
    sending.join().unwrap();
    drop(wire);
    below.signal(Signal::TERM);
    let ran = serv.running.wait();
    assert_eq!(ran.code, Some(0), "{ran:?}");

    // % time, seconds, usecs/call, calls, errors if any, syscall
    let counts = fs::read_to_string(&counts).unwrap();
    let calls = |line: &str| -> Option<u64> {
        let words: Vec<_> = line.split_whitespace().collect();
        traced.contains(words.last()?).then(|| words[3].parse().unwrap())
    };
    let total: u64 = counts.lines().filter_map(calls).sum();
    assert!((1..=100).contains(&total), "{total} calls\n{counts}");
    assert_eq!(fs::read_dir(root.path().join("d")).unwrap().count(), 2000);
}

#[test]
fn a_full_disk_is_told_and_harms_no_file_and_no_connection() {
    let test = "a_full_disk_is_told_and_harms_no_file_and_no_connection";
    let (root, here) = (tempdir().unwrap(), tempdir().unwrap());
    let Some((serv, seen)) = disk::serve(test, root.path()) else { return };
    let (old, big) = (content(1_000_000), content(20_000_000));
    let mut wire = serv.connect();
    assert!(wire.write("f", &old).starts_with("ok 1000000 "));

    // What can't fit is refused before it has come.
    assert!(wire.ask("resume 20000000 f").starts_with("error no-space "));
    assert!(wire.write("f", &big).starts_with("error no-space "));
    assert!(wire.read("f").unwrap() == old);

    // A classic put does not say its size before: it ends where the disk does.
    let port = wire.ask("put f");
    let mut data = wire.data(&port);
    let mut sender = data.try_clone().unwrap();
    let bytes = message(&big);
    let sending = std::thread::spawn(move || sender.write_all(&bytes).is_ok());
    let (answer, end) = read_to_end(&mut data);
    let sent = sending.join().unwrap();
    // A reset is told once: to whoever reads or to whoever writes.
    assert!(answer.is_empty() && (end == End::Reset || !sent), "{end:?} {sent}");
    assert!(wire.ask("stat f(1)").starts_with("error not-found "));
    assert!(wire.read("f").unwrap() == old);

    // Everything above is given back.
    assert!(wire.write("g", &content(4_000_000)).starts_with("ok 4000000 "));
    assert_eq!(wire.ask("remove g"), "ok");

    // By its own client: one line.
    fs::write(here.path().join("f"), &big).unwrap();
    let port = serv.port().to_string();
    let ran = run(host_cli(here.path()).args(["127.0.0.1", &port, "put", "f"]));
    let line = ran.failed(1);
    assert!(line.starts_with("put f: ") && (line.contains("room") || line.contains("space")), "{line}");
    let ran = run(host_cli(here.path()).args(["127.0.0.1", &port, "put", "f", "--json"]));
    let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(error["code"], "no-space");

    // Somebody else fills the disk while a file is on its way.
    if fs::write(seen.join("probe"), "x").and_then(|()| fs::remove_file(seen.join("probe"))).is_err() {
        return skip(test, "in part: the file system of another process can't be reached here");
    }
    wire.say("write 0 4000000 - f");
    wire.send_bytes(&message(&big[..1_000_000]));
    assert!(eventually(|| staged(&seen) == 1_000_000), "{}", staged(&seen));
    assert!(fs::write(seen.join("filler"), &big).is_err());
    wire.send_bytes(&body(&big[1_000_000..4_000_000], crc32c(&big[..4_000_000])));
    assert!(wire.hear_text().starts_with("error no-space "));
    assert_eq!(wire.ask("ping"), "ok");
    assert!(wire.read("f").unwrap() == old);
    assert_eq!(wire.ask("remove filler"), "ok");
    assert!(wire.write("f", b"new").starts_with("ok 3 "));
    assert_eq!(wire.read("f").unwrap(), b"new");
    drop(wire);
    assert_eq!(serv.stop().code, Some(0));
}

#[test]
fn names_that_can_not_be_sent_are_logged() {
    let root = tempdir().unwrap();
    fs::create_dir(root.path().join("d")).unwrap();
    fs::create_dir(root.path().join("many")).unwrap();
    (0..2500).for_each(|number| fs::write(root.path().join(format!("many/{number}")), "").unwrap());
    for name in [b"d/caf\xe9".as_slice(), b"d/two\nlines", b"top\xff", b"many/\xfe"] {
        fs::write(root.path().join(std::ffi::OsStr::from_bytes(name)), "").unwrap();
    }
    for verbose in [false, true] {
        let mut command = host_serv(root.path());
        if verbose {
            command.arg("-v");
        }
        let serv = Serv::launch(&mut command, "port ").unwrap();
        let mut wire = serv.connect();
        assert_eq!(wire.ask("list d"), "ok 2");
        assert_eq!(wire.hear_body().0, b"");
        // So many are counted in turns.
        assert_eq!(wire.ask("list many"), "ok 1");
        assert_eq!(wire.hear_body().0.split(|&byte| byte == b'\n').count(), 2501);
        assert!(wire.ask("rmdir d").starts_with("error not-empty "));
        assert_eq!(wire.ask("ls"), "");
        drop(wire);
        let err = serv.stop().err;
        // The same warning again within 10 s is counted.
        assert!(err.contains("can't be sent (") && err.contains("(3 more times)"), "{err}");
        assert_eq!(err.contains(r"caf\xe9"), verbose, "{err}");
        assert_eq!(err.contains(r"two\nlines"), verbose, "{err}");
    }
}
