//! The effect of options on clients: idle timeouts, read-only servers.

use super::*;

#[test]
fn an_idle_client_is_closed() {
    let root = tempdir().unwrap();
    let serv = Serv::start(root.path(), &["--idle", "1"]);
    assert_eq!(serv.connect().hear_end(), (Vec::new(), End::Closed));
}

#[test]
fn a_client_that_only_reads_its_data_connection_is_not_idle() {
    let root = tempdir().unwrap();
    // More than all buffers on the way hold.
    fs::File::create(root.path().join("f")).unwrap().set_len(300_000_000).unwrap();
    let serv = Serv::start(root.path(), &["--idle", "3"]);
    let mut wire = serv.connect();
    let port = wire.ask("get f");
    let mut data = wire.data(&port);
    let mut piece = vec![0; 4_000_000];
    for _ in 0..25 {
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
