//! A server that tries to redirect its client.

use core::net::{IpAddr, Ipv4Addr};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use skiff_tests::programs::{host_cli, run};
use skiff_tests::sans_io::message;
use skiff_tests::wire::connect_from;
use tempfile::tempdir;

/// Another address of this machine's loopback interface.
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A classic server that answers `get` and `put` with `answer`; returns its port.
fn answering(answer: &str) -> u16 {
    let listener = TcpListener::bind((OTHER, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = answer.to_owned();
    // It ends with the process of the test.
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                while let Some(command) = hear(&mut reader) {
                    let reply = match command.split(' ').next() {
                        _ if command == "get /skiff/1" => "-1",
                        Some("get" | "put") => &answer,
                        // To a classic server it is nothing.
                        _ => continue,
                    };
                    if stream.write_all(&message(reply)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

fn hear(stream: &mut TcpStream) -> Option<String> {
    use std::io::Read as _;
    let mut length = [0; 10];
    stream.read_exact(&mut length).ok()?;
    let mut payload = vec![0; String::from_utf8_lossy(&length).parse().ok()?];
    stream.read_exact(&mut payload).ok()?;
    String::from_utf8(payload).ok()
}

#[test]
fn a_data_connection_goes_to_where_the_control_connection_went() {
    // The same port on two addresses: what is announced is a port, and the address is the control connection's.
    let (there, elsewhere) = loop {
        let there = TcpListener::bind((OTHER, 0)).unwrap();
        let port = there.local_addr().unwrap().port();
        if let Ok(elsewhere) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            break (there, elsewhere);
        }
    };
    let data_port = there.local_addr().unwrap().port();
    let (came, comes) = mpsc::channel();
    for (listener, name) in [(there, "there"), (elsewhere, "elsewhere")] {
        let came = came.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                came.send(name).unwrap();
                _ = stream.write_all(b"0000000007content");
            }
        });
    }
    let here = tempdir().unwrap();
    let port = answering(&data_port.to_string()).to_string();
    _ = run(host_cli(here.path()).args([&OTHER.to_string(), &port, "get", "f"])).ok();
    assert_eq!(std::fs::read(here.path().join("f")).unwrap(), b"content");
    assert_eq!(comes.try_iter().collect::<Vec<_>>(), ["there"]);
}

#[test]
fn an_answer_that_is_more_than_a_port_is_none() {
    let elsewhere = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let to = elsewhere.local_addr().unwrap().port();
    for answer in [
        format!("127.0.0.1:{to}"),
        format!("{to} 127.0.0.1"),
        format!("127.0.0.1 {to}"),
        format!("127,0,0,1,{},{}", to >> 8, to & 255),
        format!("+{to}"),
        format!("0x{to:x}"),
        format!("{to}.0"),
        format!("{}", u64::from(to) + 65536),
        "ok".to_owned(),
    ] {
        let here = tempdir().unwrap();
        std::fs::write(here.path().join("mine"), "x").unwrap();
        let port = answering(&answer).to_string();
        for words in [["get", "f"], ["put", "mine"]] {
            let ran = run(host_cli(here.path()).args([&OTHER.to_string(), &port]).args(words).args(["--retries", "0"]));
            let line = ran.failed(1);
            assert!(line.starts_with(words[0]) && line.contains("violated the protocol"), "{answer:?}: {line}");
        }
        assert_eq!(std::fs::read_dir(here.path()).unwrap().count(), 1, "{answer:?}");
    }
    assert!(elsewhere.accept().is_err(), "somebody came");
    // The listener would have heard of it.
    drop(connect_from(IpAddr::V4(Ipv4Addr::LOCALHOST), (Ipv4Addr::LOCALHOST, to).into()).unwrap());
    assert!(skiff_tests::wire::eventually(|| elsewhere.accept().is_ok()));
}
