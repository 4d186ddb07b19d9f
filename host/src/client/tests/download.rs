//! Fetching: where files land, what happens when something is there already, and going on after a loss.

use std::fs;
use std::io::{self, ErrorKind};
use std::sync::Mutex;

use skiff_proto::crc::crc32c;

use super::fake::Fake;
use super::*;

fn job(name: &str, dir: &Path) -> Download {
    Download::new(name, dir.join(name))
}

async fn fetch(client: &mut Client, jobs: Vec<Download>, options: &DownloadOptions) -> Vec<Result<Received, Error>> {
    client.download(jobs, options, &mut ()).await
}

fn resuming() -> DownloadOptions {
    DownloadOptions { resume: true, ..DownloadOptions::default() }
}

#[test]
fn files_of_every_size_arrive_whole_with_their_mtimes() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    let sizes = [0, 1, 10, 1000, 99_999, 100_000, 262_144, 1_000_001];
    run(async {
        let mut client = client(port).await;
        let mut jobs = Vec::new();
        for (at, size) in sizes.into_iter().enumerate() {
            fake.put(&format!("f{at}"), size, at);
            jobs.push(job(&format!("f{at}"), &dir));
        }
        jobs.push(job("missing", &dir));
        let mut seen = Seen::default();
        let results = client.download(jobs, &DownloadOptions::default(), &mut seen).await;
        for (at, size) in sizes.into_iter().enumerate() {
            let received = results[at].as_ref().unwrap();
            let bytes = fs::read(dir.join(format!("f{at}"))).unwrap();
            assert!(bytes == content(size, at));
            assert_eq!(received.path, Some(dir.join(format!("f{at}"))));
            assert_eq!((received.size, received.resumed, received.verified), (size as u64, 0, true));
            assert_eq!((received.crc, received.mtime), (Some(crc32c(&bytes)), Some(1_700_000_000)));
            let modified = fs::metadata(dir.join(format!("f{at}"))).unwrap().modified().unwrap();
            assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), 1_700_000_000);
        }
        assert_eq!(results[sizes.len()].as_ref().unwrap_err().code(), Some(ErrorCode::NotFound));
        assert_eq!(seen.bytes, sizes.iter().sum::<usize>() as u64);
        assert_eq!((seen.started.len(), seen.finished), (sizes.len(), sizes.len() + 1));
    });
    assert_eq!(names(&dir).len(), sizes.len());
    assert_eq!(fake.0.lock().unwrap().connections, 1);
}

#[test]
fn what_is_there_is_kept_or_replaced_as_asked() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    let new = fake.put("report.txt", 100, 1);
    fs::write(dir.join("report.txt"), "old").unwrap();
    run(async {
        for portable in [false, true] {
            let mut client = Client::connect("127.0.0.1", port, Options { portable, ..quick() }).await.unwrap();
            let results = fetch(&mut client, vec![job("report.txt", &dir)], &DownloadOptions::default()).await;
            let number = 1 + usize::from(portable);
            assert_eq!(results[0].as_ref().unwrap().path, Some(dir.join(format!("report({number}).txt"))));
        }
        assert_eq!(fs::read(dir.join("report.txt")).unwrap(), b"old");
        assert_eq!(fs::read(dir.join("report(2).txt")).unwrap(), new);
        let mut client = client(port).await;
        #[cfg(unix)]
        fs::set_permissions(dir.join("report.txt"), std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        let target = Target::File { path: dir.join("report.txt"), existing: Existing::Replace };
        let job = Download { name: "report.txt".to_owned(), target, mtime: Some(5) };
        let results = fetch(&mut client, vec![job], &DownloadOptions::default()).await;
        assert_eq!(results[0].as_ref().unwrap().path, Some(dir.join("report.txt")));
        let meta = fs::metadata(dir.join("report.txt")).unwrap();
        assert_eq!(meta.modified().unwrap(), std::time::UNIX_EPOCH + Duration::from_secs(5));
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777, 0o640);
    });
    assert_eq!(fs::read(dir.join("report.txt")).unwrap(), new);
    assert_eq!(names(&dir), ["report(1).txt", "report(2).txt", "report.txt"]);
    assert!(fake.log().iter().filter(|command| command.starts_with("stat")).count() == 2);
}

#[cfg(unix)]
#[test]
fn devices_and_links_to_them_are_not_replaced() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    fake.put("x", 10, 1);
    std::os::unix::fs::symlink("/dev/null", dir.join("null")).unwrap();
    std::os::unix::fs::symlink("elsewhere", dir.join("link")).unwrap();
    fs::write(dir.join("elsewhere"), "mine").unwrap();
    let socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
    run(async {
        let mut client = client(port).await;
        let mut get = async |name: &str, existing| {
            let target = Target::File { path: dir.join(name), existing };
            let job = Download { name: "x".to_owned(), target, mtime: None };
            fetch(&mut client, vec![job], &DownloadOptions::default()).await.remove(0)
        };
        assert!(matches!(get("null", Existing::Replace).await, Err(Error::Local { .. })));
        assert!(matches!(get("socket", Existing::Replace).await, Err(Error::Local { .. })));
        assert!(matches!(get("socket", Existing::Keep).await, Err(Error::Local { .. })));
        assert_eq!(get("null", Existing::Keep).await.unwrap().path, Some(dir.join("null(1)")));
        // The link is replaced, not what it points to.
        get("link", Existing::Replace).await.unwrap();
    });
    drop(socket);
    assert_eq!(fs::read(dir.join("elsewhere")).unwrap(), b"mine");
    assert!(fs::symlink_metadata(dir.join("link")).unwrap().is_file());
    assert_eq!(names(&dir), ["elsewhere", "link", "null", "null(1)", "socket"]);
}

#[test]
fn missing_directories_are_made_only_if_asked_for() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    fake.put("a/b/c", 10, 1);
    run(async {
        let mut client = client(port).await;
        let results = fetch(&mut client, vec![job("a/b/c", &dir)], &DownloadOptions::default()).await;
        assert!(matches!(&results[0], Err(Error::Local { path, .. }) if *path == dir.join("a/b/c")));
        let options = DownloadOptions { parents: true, fsync: true, ..DownloadOptions::default() };
        fetch(&mut client, vec![job("a/b/c", &dir)], &options).await.remove(0).unwrap();
    });
    assert_eq!(fs::read(dir.join("a/b/c")).unwrap(), content(10, 1));
}

#[test]
fn a_wrong_checksum_leaves_nothing_and_a_missing_one_is_told() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    fake.put("x", 300_000, 1);
    fake.faults(|faults| faults.bad_crc = 1);
    run(async {
        let mut client = client(port).await;
        let results = fetch(&mut client, vec![job("x", &dir)], &DownloadOptions::default()).await;
        assert!(matches!(results[0], Err(Error::Mismatch { .. })));
        assert!(names(&dir).is_empty());
        fake.faults(|faults| faults.no_crc = true);
        let received = fetch(&mut client, vec![job("x", &dir)], &DownloadOptions::default()).await.remove(0).unwrap();
        assert!(!received.verified);
    });
    assert_eq!(fs::read(dir.join("x")).unwrap(), content(300_000, 1));
    assert_eq!(fake.0.lock().unwrap().connections, 1);
}

#[test]
fn a_lost_connection_is_made_anew_and_the_file_goes_on() {
    for no_tag in [false, true] {
        let (fake, port) = Fake::start();
        let (_guard, dir) = temp();
        fake.put("x", 900_000, 1);
        fake.put("y", 10, 2);
        fake.faults(|faults| (faults.cut_read, faults.no_tag) = (vec![250_000, 333_333], no_tag));
        let mut seen = Seen::default();
        run(async {
            let mut client = client(port).await;
            let jobs = vec![job("x", &dir), job("y", &dir)];
            let results = client.download(jobs, &DownloadOptions::default(), &mut seen).await;
            let received = results[0].as_ref().unwrap();
            assert_eq!((received.size, received.resumed, received.verified), (900_000, 0, true));
            assert_eq!(received.crc, Some(crc32c(&content(900_000, 1))));
            results[1].as_ref().unwrap();
        });
        assert!(fs::read(dir.join("x")).unwrap() == content(900_000, 1));
        assert_eq!(names(&dir), ["x", "y"]);
        assert_eq!(seen.retries, 2);
        let offsets: Vec<_> = seen.started.iter().filter(|started| started.0 == 0).map(|started| started.2).collect();
        assert_eq!(offsets, [0, 333_333, 583_333]);
        assert_eq!(seen.bytes, 900_010);
        let sums = fake.log().iter().filter(|command| command.starts_with("sum")).count();
        assert_eq!(sums, if no_tag { 3 } else { 0 });
    }
}

#[test]
fn a_file_that_changed_meanwhile_begins_anew() {
    for no_tag in [false, true] {
        let (fake, port) = Fake::start();
        let (_guard, dir) = temp();
        fake.put("x", 900_000, 1);
        fake.faults(|faults| (faults.cut_read, faults.no_tag) = (vec![500_000], no_tag));
        run(async {
            let mut client = Client::connect("127.0.0.1", port, Options { retries: 0, ..quick() }).await.unwrap();
            let results = fetch(&mut client, vec![job("x", &dir)], &DownloadOptions::default()).await;
            assert!(matches!(results[0], Err(Error::Lost { .. })), "{results:?}");
            let tag = if no_tag { "-" } else { "v1" };
            assert_eq!(names(&dir), [format!(".x.900000-{tag}.skiff-part")]);
            fake.put("x", 900_000, 2);
            let received = fetch(&mut client, vec![job("x", &dir)], &resuming()).await.remove(0).unwrap();
            assert_eq!((received.resumed, received.verified), (0, true));
        });
        assert!(fs::read(dir.join("x")).unwrap() == content(900_000, 2));
        assert_eq!(names(&dir), ["x"]);
    }
}

#[test]
fn a_partial_file_of_an_earlier_run_goes_on_only_if_asked_for() {
    for (resume, no_tag, retagged) in
        [(true, false, false), (true, true, false), (true, false, true), (false, false, false)]
    {
        let (fake, port) = Fake::start();
        let (_guard, dir) = temp();
        fake.put("x", 900_000, 1);
        fake.faults(|faults| {
            (faults.cut_read, faults.no_tag, faults.stat_crc) = (vec![500_000], no_tag, true);
        });
        run(async {
            let mut client = Client::connect("127.0.0.1", port, Options { retries: 0, ..quick() }).await.unwrap();
            fetch(&mut client, vec![job("x", &dir)], &DownloadOptions::default()).await.remove(0).unwrap_err();
            if retagged {
                // Touched, say: another TAG, the same content.
                fake.put("x", 900_000, 1);
            }
            let options = DownloadOptions { resume, ..DownloadOptions::default() };
            let mut seen = Seen::default();
            let received = client.download(vec![job("x", &dir)], &options, &mut seen).await.remove(0).unwrap();
            let had = if resume { 500_000 } else { 0 };
            assert_eq!((received.resumed, received.crc), (had, Some(crc32c(&content(900_000, 1)))));
            assert_eq!((seen.started, seen.bytes), (vec![(0, 900_000, had)], 900_000 - had));
            // Here already, as a whole.
            if resume {
                let received = fetch(&mut client, vec![job("x", &dir)], &resuming()).await.remove(0).unwrap();
                assert_eq!((received.resumed, received.path), (900_000, Some(dir.join("x"))));
            }
        });
        assert!(fs::read(dir.join("x")).unwrap() == content(900_000, 1));
        assert_eq!(names(&dir), ["x"]);
    }
}

#[test]
fn a_damaged_partial_file_begins_anew() {
    for stat_crc in [true, false] {
        let (fake, port) = Fake::start();
        let (_guard, dir) = temp();
        fake.put("x", 900_000, 1);
        fake.faults(|faults| faults.stat_crc = stat_crc);
        fs::write(dir.join(".x.900000-v1.skiff-part"), vec![0; 100_000]).unwrap();
        run(async {
            let mut client = client(port).await;
            let received = fetch(&mut client, vec![job("x", &dir)], &resuming()).await.remove(0).unwrap();
            assert_eq!(received.resumed, 0);
        });
        assert!(fs::read(dir.join("x")).unwrap() == content(900_000, 1));
        assert_eq!(names(&dir), ["x"]);
    }
}

#[test]
fn a_partial_file_that_is_in_use_or_somebody_elses_is_left_alone() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    fake.put("x", 1000, 1);
    let other = dir.join(".x.1000-v1.skiff-part");
    let busy = fs::File::create(&other).unwrap();
    busy.lock().unwrap();
    run(async {
        let mut client = client(port).await;
        fetch(&mut client, vec![job("x", &dir)], &resuming()).await.remove(0).unwrap();
        assert_eq!(names(&dir), [".x.1000-v1.skiff-part", "x"]);
        drop(busy);
        fs::remove_file(&other).unwrap();
        #[cfg(unix)]
        {
            fs::write(dir.join("victim"), "mine").unwrap();
            std::os::unix::fs::symlink("victim", &other).unwrap();
            fetch(&mut client, vec![job("x", &dir)], &DownloadOptions::default()).await.remove(0).unwrap();
            assert_eq!(fs::read(dir.join("victim")).unwrap(), b"mine");
            assert_eq!(fs::read(dir.join("x(1)")).unwrap(), content(1000, 1));
        }
    });
}

#[test]
fn long_names_have_short_partial_files() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    let name = "n".repeat(250);
    fake.put(&name, 900_000, 1);
    fake.faults(|faults| faults.cut_read = vec![500_000]);
    run(async {
        let mut client = Client::connect("127.0.0.1", port, Options { retries: 0, ..quick() }).await.unwrap();
        fetch(&mut client, vec![job(&name, &dir)], &DownloadOptions::default()).await.remove(0).unwrap_err();
        let received = fetch(&mut client, vec![job(&name, &dir)], &resuming()).await.remove(0).unwrap();
        assert_eq!(received.resumed, 500_000);
        // The numbered name would be too long.
        fake.put(&"m".repeat(255), 10, 1);
        fs::write(dir.join("m".repeat(255)), "old").unwrap();
        let error = fetch(&mut client, vec![job(&"m".repeat(255), &dir)], &DownloadOptions::default()).await.remove(0);
        assert!(matches!(error, Err(Error::Local { .. })));
    });
    assert_eq!(names(&dir), ["m".repeat(255), name]);
}

/// A stream whose content the test can see.
#[derive(Clone, Default)]
struct Stream(Arc<Mutex<Vec<u8>>>);

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn streams_go_on_after_a_loss_and_fail_when_the_file_changed() {
    let (fake, port) = Fake::start();
    fake.put("x", 900_000, 1);
    fake.put("y", 10, 2);
    fake.faults(|faults| faults.cut_read = vec![500_000]);
    run(async {
        let mut client = client(port).await;
        let stream = Stream::default();
        let to = |name: &str| Download {
            name: name.to_owned(),
            target: Target::Writer(Box::new(stream.clone())),
            mtime: None,
        };
        let results = fetch(&mut client, vec![to("x"), to("y")], &DownloadOptions::default()).await;
        assert!(results.iter().all(Result::is_ok));
        assert!(*stream.0.lock().unwrap() == [content(900_000, 1), content(10, 2)].concat());
        let discarded = Download { name: "x".to_owned(), target: Target::Discard, mtime: None };
        let received = fetch(&mut client, vec![discarded], &DownloadOptions::default()).await.remove(0).unwrap();
        assert_eq!(received.crc, Some(crc32c(&content(900_000, 1))));

        fake.faults(|faults| faults.cut_read = vec![500_000]);
        let changing = fake.clone();
        struct Change(Fake);
        impl Observer for Change {
            fn retrying(&mut self, _: u32, _: &Error) {
                self.0.put("x", 900_000, 3);
            }
        }
        let results = client.download(vec![to("x")], &DownloadOptions::default(), &mut Change(changing)).await;
        assert!(matches!(results[0], Err(Error::Mismatch { .. })), "{results:?}");
    });
}

#[test]
fn a_cancelled_download_keeps_its_part_and_the_client() {
    let (_guard, dir) = temp();
    let port = listen(|stream| {
        while let Some(command) = text(&stream) {
            match command.as_str() {
                "get /skiff/1" => send(&stream, HELLO),
                "ping" => send(&stream, "ok"),
                "stat x" => send(&stream, "ok 1000000 - -"),
                "read 0 * x" => {
                    send(&stream, "ok 1000000 1000000 t");
                    send(&stream, content(300_000, 1));
                }
                _ => {}
            }
        }
    });
    run(async {
        struct Stop(CancelToken, u64);
        impl Observer for Stop {
            fn progress(&mut self, _: usize, bytes: u64) {
                self.1 += bytes;
                if self.1 == 300_000 {
                    self.0.cancel();
                }
            }
        }
        let mut client = client(port).await;
        let token = client.cancel_token();
        let jobs = vec![job("x", &dir), job("y", &dir)];
        let results = client.download(jobs, &DownloadOptions::default(), &mut Stop(token.clone(), 0)).await;
        assert!(results.iter().all(|result| matches!(result, Err(Error::Cancelled))), "{results:?}");
        assert_eq!(names(&dir), [".x.1000000-t.skiff-part"]);
        assert_eq!(fs::metadata(dir.join(".x.1000000-t.skiff-part")).unwrap().len(), 300_000);
        token.reset();
        client.ping().await.unwrap();
    });
}

#[test]
fn a_full_disk_fails_the_file_and_not_the_others() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    fake.put("big", 6_000_000, 1);
    fake.put("small", 100, 2);
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    run(async {
        let mut client = client(port).await;
        let full = |name: &str| Download { name: name.to_owned(), target: Target::Writer(Box::new(Full)), mtime: None };
        let jobs = vec![full("big"), full("small"), job("small", &dir)];
        let results = fetch(&mut client, jobs, &DownloadOptions::default()).await;
        assert!(matches!(results[0], Err(Error::Local { .. })));
        assert!(matches!(results[1], Err(Error::Local { .. })));
        results[2].as_ref().unwrap();
    });
}

/// The modes of partial files, as they are while the second half of the file is still to come.
#[cfg(unix)]
#[test]
fn a_partial_file_is_never_readable_by_more_than_the_file_that_it_replaces() {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.permissions().mode() & 0o7777);
    for (old, existing, left, widest) in [
        (Some(0o600), Existing::Replace, false, 0o600),
        (Some(0o400), Existing::Replace, false, 0o600),
        (Some(0o640), Existing::Replace, false, 0o640),
        (Some(0o4711), Existing::Replace, false, 0o711),
        // One that an earlier run left, when there was nothing to replace.
        (Some(0o600), Existing::Replace, true, 0o600),
        (Some(0o600), Existing::Keep, false, 0o666),
        (None, Existing::Replace, false, 0o666),
    ] {
        let (_guard, dir) = temp();
        let whole = content(3_000_000, 1);
        if let Some(old) = old {
            fs::write(dir.join("x"), "old").unwrap();
            fs::set_permissions(dir.join("x"), fs::Permissions::from_mode(old)).unwrap();
        }
        if left {
            let part = dir.join(".x.3000000-v1.skiff-part");
            fs::write(&part, &whole[..1_000_000]).unwrap();
            fs::set_permissions(&part, fs::Permissions::from_mode(0o644)).unwrap();
        }
        let (tell, told) = std::sync::mpsc::channel();
        let looked = dir.clone();
        let sent = whole.clone();
        let port = listen(move |mut stream| {
            while let Some(command) = text(&stream) {
                let words: Vec<_> = command.split(' ').collect();
                match words[0] {
                    "get" => send(&stream, HELLO),
                    "stat" => send(&stream, "ok 3000000 5 -"),
                    "sum" => {
                        let to = words[2].parse().unwrap_or(sent.len());
                        send(&stream, format!("ok {to} {:08x}", crc32c(&sent[..to])));
                    }
                    _ => {
                        let from: usize = words[1].parse().unwrap();
                        let bytes = if words[2] == "0" { &[] } else { &sent[from..] };
                        send(&stream, format!("ok {} 3000000 v1", bytes.len()));
                        if !bytes.is_empty() {
                            let message = message(bytes);
                            let (first, second) = message.split_at(message.len() / 2);
                            stream.write_all(first).unwrap();
                            let part = || names(&looked).into_iter().find(|name| name.ends_with("-part"));
                            let grown = |name: &String| {
                                fs::metadata(looked.join(name)).is_ok_and(|meta| meta.len() > 1_000_001)
                            };
                            let deadline = std::time::Instant::now() + Duration::from_secs(20);
                            while !part().is_some_and(|name| grown(&name)) && std::time::Instant::now() < deadline {
                                thread::yield_now();
                            }
                            tell.send(mode(&looked.join(part().unwrap()))).unwrap();
                            stream.write_all(second).unwrap();
                        }
                        send(&stream, "");
                        send(&stream, format!("crc32c {:08x}", crc32c(bytes)));
                    }
                }
            }
        });
        run(async {
            let mut client = client(port).await;
            let target = Target::File { path: dir.join("x"), existing };
            let job = Download { name: "x".to_owned(), target, mtime: None };
            let options = DownloadOptions { resume: left, ..DownloadOptions::default() };
            let received = fetch(&mut client, vec![job], &options).await.remove(0).unwrap();
            assert_eq!(received.resumed, if left { 1_000_000 } else { 0 });
            assert!(fs::read(received.path.unwrap()).unwrap() == whole);
        });
        let during = told.recv().unwrap();
        assert_eq!(during & !widest, 0, "{old:?} {existing:?} {left}: {during:o}");
    }
}
