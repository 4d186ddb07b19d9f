//! Its disk usage: after a kill, with two servers in one directory, on a full disk; how often it syncs.

use skiff_tests::disk;
use skiff_tests::programs::Below;

use super::*;

#[test]
fn an_upload_resumes_after_the_server_was_killed_in_the_middle_of_it() {
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
    assert!(out.contains(&format!(", resumed at {half}, crc32c {:08x}", crc32c(&content))), "{out}");
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
                    // Either version, but a complete one.
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
    // Each has its own staged bytes, and the next server after it finds them.
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

#[test]
fn two_thousand_pipelined_files_cost_few_system_calls_that_wait_for_the_disk() {
    let test = "two_thousand_pipelined_files_cost_few_system_calls_that_wait_for_the_disk";
    let (root, there) = (tempdir().unwrap(), tempdir().unwrap());
    let (pid, counts) = (there.path().join("pid"), there.path().join("counts"));
    let traced = "trace=fsync,fdatasync,syncfs,sync,sync_file_range,msync";
    let strace = |command: &mut Command| {
        command.arg("-f").arg("-c").args(["-e", traced, "-o"]).arg(&counts);
        // The shell execs the program: the process ID stays the same.
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
    let below = Below::new(pid);

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
fn a_full_disk_is_reported_and_harms_no_file_and_no_connection() {
    let test = "a_full_disk_is_reported_and_harms_no_file_and_no_connection";
    let (root, here) = (tempdir().unwrap(), tempdir().unwrap());
    let Some((serv, seen)) = disk::serve(test, root.path()) else { return };
    let (old, big) = (content(1_000_000), content(20_000_000));
    let mut wire = serv.connect();
    assert!(wire.write("f", &old).starts_with("ok 1000000 "));

    // What can't fit is refused before it is sent.
    assert!(wire.ask("resume 20000000 f").starts_with("error no-space "));
    assert!(wire.write("f", &big).starts_with("error no-space "));
    assert!(wire.read("f").unwrap() == old);

    // A classic put does not announce its size: it ends where the disk does.
    let port = wire.ask("put f");
    let mut data = wire.data(&port);
    let mut sender = data.try_clone().unwrap();
    let bytes = message(&big);
    let sending = std::thread::spawn(move || sender.write_all(&bytes).is_ok());
    let (answer, end) = read_to_end(&mut data);
    let sent = sending.join().unwrap();
    // The system reports a reset once: to the reader or to the writer.
    assert!(answer.is_empty() && (end == End::Reset || !sent), "{end:?} {sent}");
    assert!(wire.ask("stat f(1)").starts_with("error not-found "));
    assert!(wire.read("f").unwrap() == old);

    // All of the above is released.
    assert!(wire.write("g", &content(4_000_000)).starts_with("ok 4000000 "));
    assert_eq!(wire.ask("remove g"), "ok");

    // Reported by its own client, in one line.
    fs::write(here.path().join("f"), &big).unwrap();
    let port = serv.port().to_string();
    let ran = run(host_cli(here.path()).args(["127.0.0.1", &port, "put", "f"]));
    let line = ran.failed(1);
    assert!(line.starts_with("put f: ") && (line.contains("room") || line.contains("space")), "{line}");
    let ran = run(host_cli(here.path()).args(["127.0.0.1", &port, "put", "f", "--json"]));
    let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(error["code"], "no-space");

    // Another program fills the disk while a file is on its way.
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
