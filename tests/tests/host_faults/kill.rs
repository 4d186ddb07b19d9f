//! A server that is killed.

use std::fs;
use std::io::{Read as _, Write as _};

use skiff_tests::ordeal::kill::Kill;
use skiff_tests::programs::Serv;
use skiff_tests::sans_io::message;
use skiff_tests::wire::{End, eventually, read_to_end};
use tempfile::tempdir;

#[test]
fn a_server_killed_at_any_moment_leaves_whole_files_and_what_can_be_gone_on_with() {
    let done = Kill { kills: 12, writers: 3, life: 120, seed: 7 }.run();
    assert!(done.kills == 12 && done.names > 0 && done.open > 0, "{done}");
}

#[test]
fn a_classic_put_to_a_server_that_is_killed_is_not_taken_for_stored() {
    let root = tempdir().unwrap();
    // Then the staged bytes can be seen from outside.
    let serv = Serv::start(root.path(), &["--portable"]);
    let wire = &mut serv.connect();
    let port = wire.ask("put f");
    let mut data = wire.data(&port);
    data.write_all(&message("content")[..12]).unwrap();
    let staged = || {
        let slot = fs::read_dir(root.path().join(".skiff-stage-0")).ok();
        slot.into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.metadata().ok())
            .map(|meta| meta.len())
            .sum::<u64>()
    };
    assert!(eventually(|| staged() == 2), "{}", staged());
    // Everything that was sent has been read: otherwise the system would reset such a socket.
    serv.kill();
    assert_eq!(read_to_end(&mut data), (Vec::new(), End::Reset));
    assert!(!root.path().join("f").exists());
}

#[test]
fn a_classic_get_from_a_server_that_is_killed_ends_with_a_reset() {
    let root = tempdir().unwrap();
    fs::write(root.path().join("f"), vec![7; 50_000_000]).unwrap();
    let serv = Serv::start(root.path(), &[]);
    let wire = &mut serv.connect();
    let port = wire.ask("get f");
    let mut data = wire.data(&port);
    data.read_exact(&mut [0; 1000]).unwrap();
    serv.kill();
    let (rest, end) = read_to_end(&mut data);
    assert!(rest.len() < 49_999_010 && end == End::Reset, "{} {end:?}", rest.len());
}
