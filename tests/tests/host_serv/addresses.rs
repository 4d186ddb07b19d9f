//! Addresses and ports: who can reach it, and the targets of classic data connections.

use skiff_host::keys::{KeyFile, Secret};
use skiff_tests::programs::device_serv;

use super::*;

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

#[test]
fn a_server_with_a_secret_says_that_clients_need_a_key_and_an_error_is_said_once() {
    let (root, elsewhere) = (tempdir().unwrap(), tempdir().unwrap());
    let path = elsewhere.path().join("secret");
    let secret = path.to_str().unwrap();
    let ran = run(host_serv(root.path()).args(["--secret", secret]));
    assert_eq!((ran.code, ran.err.matches("No such file").count()), (Some(1), 1), "{}", ran.err);
    KeyFile::Secret(Secret::new([7; 32])).create(&path).unwrap();
    let line = "clients need a key; host-cli key grant --secret FILE CLIENT creates one\n";
    let ran = Serv::start(root.path(), &["--secret", secret]).stop();
    assert!(ran.err.contains(line), "{}", ran.err);
    let ran = Serv::launch(device_serv().args(["--listen", "0", "--secret", secret]), "port ").unwrap().stop();
    assert!(ran.err.contains(line), "{}", ran.err);
}

#[test]
fn a_server_without_a_secret_warns_once_that_the_network_can_use_it_unless_told_that_it_is_open() {
    let root = tempdir().unwrap();
    let warning =
        "host-serv: warning: anyone who can reach this port can read and change the files; --open silences this";
    for (options, line) in [
        (&["--bind", "0.0.0.0"][..], Some(warning.to_owned())),
        (&["--bind", "127.0.0.1", "--bind", "0.0.0.0"], Some(warning.to_owned())),
        (&["--bind", "0.0.0.0", "--read-only"], Some(warning.replace(" and change", ""))),
        (&["--bind", "0.0.0.0", "--open"], None),
        (&["--bind", "127.0.0.1"], None),
        (&[], None),
    ] {
        let ran = Serv::start(root.path(), options).stop();
        let warnings: Vec<_> = ran.err.lines().filter(|line| line.contains("warning")).collect();
        assert_eq!(warnings, line.iter().collect::<Vec<_>>(), "{options:?}");
    }
}

/// A classic `get` and a classic `put`, and an unexpected peer at the data port if possible.
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
