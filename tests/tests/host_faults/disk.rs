//! The disk and the directory under a server: read-only, gone, changed by others. (A full disk: `host_serv/disk.rs`.)

use std::fs;
use std::io::{Read as _, Write as _};

use skiff_proto::crc::crc32c;
use skiff_tests::disk;
use skiff_tests::host::Host;
use skiff_tests::ordeal::content::{version, which};
use skiff_tests::sans_io::{body, message};
use skiff_tests::wire::{End, eventually, read_to_end};
use tempfile::tempdir;

#[test]
fn a_disk_that_becomes_read_only_refuses_changes_and_serves_reads() {
    let test = "a_disk_that_becomes_read_only_refuses_changes_and_serves_reads";
    let root = tempdir().unwrap();
    let Some((serv, _)) = disk::serve(test, root.path()) else { return };
    let mut wire = serv.connect();
    assert!(wire.write("f", &version(1, 1_000_000)).starts_with("ok "));
    // Something is staged, and its writer gone: the system refuses to remount while a file is open for writing.
    let mut cut = serv.connect();
    cut.say("write 0 1000 - part");
    cut.send_bytes(&message([7; 400]));
    assert!(eventually(|| wire.ask("resume 1000 part").starts_with("error busy ")));
    drop(cut);
    assert!(eventually(|| wire.ask("resume 1000 part").starts_with("ok 400 ")));
    assert!(disk::remount(&serv, root.path(), "ro"));
    let mut new = serv.connect();
    for wire in [&mut wire, &mut new] {
        for command in ["remove f", "rename f\ng", "mkdir d", "rename f\nd/e/f"] {
            let reply = wire.ask(command);
            assert!(reply.starts_with("error read-only "), "{command}: {reply}");
        }
        for name in ["f", "new", "d/new"] {
            let reply = wire.write(name, b"new");
            assert!(reply.starts_with("error read-only "), "{name}: {reply}");
        }
        assert_eq!(wire.ask("put classic"), "-1");
        assert_eq!(which(&wire.read("f").unwrap()), Some(1));
        let port = wire.ask("get f");
        assert_eq!(which(&read_to_end(&mut wire.data(&port)).0[10..]), Some(1));
        assert_eq!(wire.ask("list"), "ok");
        assert!(String::from_utf8(wire.hear_body().0).unwrap().ends_with(" f\n"));
    }
    // Writable again: everything continues, resumed uploads too.
    assert!(disk::remount(&serv, root.path(), "rw"));
    wire.say("write 400 1000 - part");
    wire.send_bytes(&body(&[7; 600], crc32c(&[7; 1000])));
    assert!(wire.hear_text().starts_with("ok 1000 "));
    assert!(new.write("f", b"new").starts_with("ok 3 "));
    assert_eq!(wire.read("f").unwrap(), b"new");
    drop((wire, new));
    assert_eq!(serv.stop().code, Some(0));
}

#[test]
fn a_directory_removed_under_the_server_costs_no_connection_and_nothing_is_made_in_its_place() {
    let above = tempdir().unwrap();
    let root = above.path().join("served");
    fs::create_dir(&root).unwrap();
    let content = version(1, 20_000_000);
    fs::write(root.join("f"), &content).unwrap();
    let host = Host::serve(&root, |_| {});
    let (mut reader, mut writer, mut idle) = (host.connect(), host.connect(), host.connect());
    assert!(reader.ask("read 0 * f").starts_with("ok 20000000 "));
    writer.say("write 0 1000 - new");
    writer.send_bytes(&message([7; 400]));
    assert!(eventually(|| idle.ask("resume 1000 new").starts_with("error busy ")));
    let port = idle.ask("put classic");
    let mut data = idle.data(&port);
    data.write_all(&message("content")).unwrap();
    // The server may be staging in it.
    assert!(eventually(|| fs::remove_dir_all(&root).is_ok() || !root.exists()));
    // An open file is read to its end: the old version, complete.
    let (got, trailer) = reader.hear_body();
    assert!(got == content && trailer == format!("crc32c {:08x}", crc32c(&content)));
    // The file being written has no directory to go to.
    writer.send_bytes(&body(&[7; 600], crc32c(&[7; 1000])));
    let reply = writer.hear_text();
    assert!(reply.starts_with("error "), "{reply}");
    _ = data.shutdown(std::net::Shutdown::Write);
    assert_eq!(read_to_end(&mut data).1, End::Reset);
    for wire in [&mut reader, &mut writer, &mut idle] {
        for command in ["stat f", "read 0 * f", "remove f", "mkdir d"] {
            let reply = wire.ask(command);
            assert!(reply.starts_with("error "), "{command}: {reply}");
        }
        assert_eq!(wire.ask("resume 1 x"), "error io the directory that is served has been removed");
        let reply = wire.write("again", b"x");
        assert!(reply.starts_with("error "), "{reply}");
        assert_eq!(wire.ask("put again"), "-1");
        assert_eq!(wire.ask("ping"), "ok");
    }
    assert_eq!(fs::read_dir(above.path()).unwrap().count(), 0);
}

#[test]
fn a_file_that_shrinks_during_a_classic_get_ends_with_a_reset() {
    let host = Host::start();
    host.put("f", &version(1, 40_000_000));
    let mut wire = host.connect();
    let port = wire.ask("get f");
    let mut data = wire.data(&port);
    data.read_exact(&mut [0; 1000]).unwrap();
    fs::File::options().write(true).open(host.root().join("f")).unwrap().set_len(2000).unwrap();
    let (rest, end) = read_to_end(&mut data);
    assert!(rest.len() < 40_000_000 - 1000 && end == End::Reset, "{} {end:?}", rest.len());
    assert_eq!(wire.ask("ping"), "ok");
}

#[test]
fn a_log_that_grows_during_every_transfer_arrives_as_long_as_announced() {
    let host = Host::start();
    host.put("log", &[b'x'; 1000]);
    let done = core::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = fs::File::options().append(true).open(host.root().join("log")).unwrap();
            // 8 MB at most, if the reader is slow.
            for _ in 0..8000 {
                if done.load(core::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                log.write_all(&[b'x'; 1000]).unwrap();
            }
        });
        let mut wire = host.connect();
        let mut last = 0;
        for _ in 0..20 {
            // The body has the announced length, or the client would be out of step; and its checksum is right.
            let reply = wire.ask("read 0 * log");
            let announced: usize = reply.split(' ').nth(1).unwrap().parse().unwrap();
            let (content, trailer) = wire.hear_body();
            assert_eq!((content.len(), trailer), (announced, format!("crc32c {:08x}", crc32c(&content))));
            let port = wire.ask("get log");
            let (classic, end) = read_to_end(&mut wire.data(&port));
            let announced: usize = core::str::from_utf8(&classic[..10]).unwrap().parse().unwrap();
            assert_eq!((classic.len() - 10, end), (announced, End::Closed));
            assert!(announced >= content.len() && content.len() >= last);
            last = content.len();
        }
        done.store(true, core::sync::atomic::Ordering::Relaxed);
    });
}
