//! Sending: packing, refusals, resume, and files that do not stay as they were.

use std::fs;
use std::io::Seek as _;
use std::io::SeekFrom;

use skiff_proto::crc::crc32c;

use super::fake::Fake;
use super::*;

fn local(dir: &Path, name: &str, len: usize, seed: usize) -> Upload {
    fs::write(dir.join(name), content(len, seed)).unwrap();
    Upload::new(dir.join(name), name)
}

async fn put(client: &mut Client, jobs: Vec<Upload>, options: &UploadOptions) -> Vec<Result<Sent, Error>> {
    client.upload(jobs, options, &mut ()).await
}

#[test]
fn files_of_every_size_are_stored_and_confirmed() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    let sizes = [0, 1, 1000, 262_143, 262_144, 262_145, 1_000_001, 10];
    let mut jobs: Vec<_> =
        sizes.into_iter().enumerate().map(|(at, size)| local(&dir, &format!("f{at}"), size, at)).collect();
    jobs.push(Upload::new(dir.join("missing"), "missing"));
    jobs.push(Upload::new(&dir, "dir"));
    let mut spooled = tempfile::tempfile().unwrap();
    spooled.write_all(b"from a pipe").unwrap();
    spooled.seek(SeekFrom::End(0)).unwrap();
    jobs.push(Upload { source: Source::File(spooled), name: "pipe".to_owned() });
    run(async {
        let mut client = client(port).await;
        let mut seen = Seen::default();
        let results = client.upload(jobs, &UploadOptions::default(), &mut seen).await;
        for (at, size) in sizes.into_iter().enumerate() {
            let crc = Some(crc32c(&content(size, at)));
            let sent = results[at].as_ref().unwrap();
            assert_eq!(*sent, Sent { size: size as u64, resumed: 0, crc, confirmed: true });
            assert!(fake.file(&format!("f{at}")).unwrap() == content(size, at));
        }
        assert!(matches!(&results[8], Err(Error::Local { path, .. }) if *path == dir.join("missing")));
        assert!(matches!(&results[9], Err(Error::Local { .. })));
        results[10].as_ref().unwrap();
        assert_eq!(fake.file("pipe").unwrap(), b"from a pipe");
        assert_eq!(seen.bytes, sizes.iter().sum::<usize>() as u64 + 11);
        assert_eq!(seen.finished, 11);
        client.ping().await.unwrap();
    });
    let state = fake.0.lock().unwrap();
    assert_eq!(state.connections, 1);
    assert_eq!(state.mtimes["pipe"], "-");
    assert!(state.mtimes["f0"].parse::<u64>().unwrap() > 1_700_000_000);
}

#[test]
fn many_small_files_leave_in_few_writes() {
    let (_guard, dir) = temp();
    let jobs: Vec<_> = (0..200).map(|at| local(&dir, &format!("f{at}"), 1000, at)).collect();
    let (count, reads) = std::sync::mpsc::channel();
    let port = listen(move |mut stream| {
        assert_eq!(text(&stream).unwrap(), "get /skiff/1");
        send(&stream, HELLO);
        let (mut buffer, mut bytes, mut reads) = (vec![0; 1 << 20], 0, 0);
        // name, length, body, end: the sizes are known.
        let whole: usize =
            (0..200).map(|at| 10 + format!("write 0 1000 1700000000 f{at}").len() + 10 + 1000 + 10 + 25).sum();
        while bytes < whole {
            bytes += stream.read(&mut buffer).unwrap();
            reads += 1;
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(bytes, whole);
        count.send(reads).unwrap();
        for at in 0..200 {
            send(&stream, format!("ok 1000 {:08x}", crc32c(&content(1000, at))));
        }
        receive(&stream);
    });
    run(async {
        let mut client = client(port).await;
        assert!(put(&mut client, jobs, &UploadOptions::default()).await.iter().all(Result::is_ok));
    });
    assert!(reads.recv().unwrap() <= 20);
}

#[test]
fn a_refused_file_is_cut_short_and_the_others_go_on() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    fake.faults(|faults| faults.refuse = Some("big"));
    let jobs = vec![local(&dir, "a", 10, 1), local(&dir, "big", 40_000_000, 2), local(&dir, "c", 10, 3)];
    run(async {
        let mut client = client(port).await;
        client.hello().await.unwrap();
        let results = put(&mut client, jobs, &UploadOptions::default()).await;
        results[0].as_ref().unwrap();
        assert_eq!(results[1].as_ref().unwrap_err().code(), Some(ErrorCode::NoSpace));
        results[2].as_ref().unwrap();
    });
    assert!(fake.log().iter().any(|line| line.starts_with("abort cancelled")));
    assert_eq!(fake.0.lock().unwrap().connections, 1);
}

#[test]
fn a_server_that_is_asked_first_spares_the_sending() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    fake.faults(|faults| faults.busy = 1);
    let jobs = vec![local(&dir, "big", 2_000_000, 2)];
    run(async {
        let mut client = client(port).await;
        let results = put(&mut client, jobs, &UploadOptions::default()).await;
        assert_eq!(results[0].as_ref().unwrap_err().code(), Some(ErrorCode::Busy));
    });
    assert_eq!(fake.log(), ["resume 2000000 big"]);
}

#[test]
fn a_lost_connection_is_made_anew_and_the_file_goes_on() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    fake.faults(|faults| faults.cut_write = vec![300_000, 700_000]);
    let jobs = vec![local(&dir, "x", 3_000_000, 1), local(&dir, "y", 10, 2)];
    let mut seen = Seen::default();
    run(async {
        let mut client = client(port).await;
        let results = client.upload(jobs, &UploadOptions::default(), &mut seen).await;
        let crc = Some(crc32c(&content(3_000_000, 1)));
        assert_eq!(results[0].as_ref().unwrap(), &Sent { size: 3_000_000, resumed: 0, crc, confirmed: true });
        results[1].as_ref().unwrap();
    });
    assert!(fake.file("x").unwrap() == content(3_000_000, 1));
    assert_eq!(seen.retries, 2);
    let starts: Vec<_> = seen.started.iter().filter(|started| started.0 == 0).map(|started| started.2 > 0).collect();
    assert_eq!(starts, [false, true, true]);
}

#[test]
fn what_an_earlier_run_left_goes_on_only_if_asked_for_and_right() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    run(async {
        let mut client = client(port).await;
        for (resume, right) in [(false, true), (true, true), (true, false)] {
            let staged = content(1_000_000, if right { 1 } else { 9 });
            fake.0.lock().unwrap().staged.insert("x".to_owned(), staged);
            fake.0.lock().unwrap().files.clear();
            let options = UploadOptions { resume, ..UploadOptions::default() };
            let sent = put(&mut client, vec![local(&dir, "x", 3_000_000, 1)], &options).await.remove(0).unwrap();
            assert_eq!(sent.resumed, if resume && right { 1_000_000 } else { 0 });
            assert!(fake.file("x").unwrap() == content(3_000_000, 1));
        }
        fake.log();
        let options = UploadOptions { resume: true, ..UploadOptions::default() };
        let sent = put(&mut client, vec![local(&dir, "x", 3_000_000, 1)], &options).await.remove(0).unwrap();
        assert_eq!(sent.resumed, 3_000_000);
        assert_eq!(fake.log(), ["stat x", "sum 0 * x"]);
    });
}

#[test]
fn a_server_that_has_waited_too_long_is_asked_again() {
    let (_guard, dir) = temp();
    let first = core::sync::atomic::AtomicBool::new(true);
    let port = listen(move |stream| {
        let give_up = first.swap(false, core::sync::atomic::Ordering::Relaxed);
        while let Some(command) = receive(&stream) {
            if command.starts_with(b"get") {
                send(&stream, HELLO);
            } else if give_up && command.starts_with(b"write") {
                send(&stream, "error timeout no progress for too long");
                return;
            } else if command.starts_with(b"crc32c") {
                send(&stream, format!("ok 1000 {:08x}", crc32c(&content(1000, 1))));
            }
        }
    });
    run(async {
        let mut client = client(port).await;
        put(&mut client, vec![local(&dir, "x", 1000, 1)], &UploadOptions::default()).await.remove(0).unwrap();
    });
}

#[test]
fn staged_bytes_that_vanish_or_a_name_that_we_seem_to_write_ourselves_are_tried_again() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    fake.faults(|faults| faults.cut_write = vec![300_000]);
    struct Busy(Fake);
    impl Observer for Busy {
        fn retrying(&mut self, _: u32, _: &Error) {
            self.0.faults(|faults| faults.busy = 2);
        }
    }
    run(async {
        let mut client = client(port).await;
        let jobs = vec![local(&dir, "x", 3_000_000, 1)];
        let mut observer = Busy(fake.clone());
        client.upload(jobs, &UploadOptions::default(), &mut observer).await.remove(0).unwrap();
    });
    assert!(fake.file("x").unwrap() == content(3_000_000, 1));
}

/// Changes the file while it is being sent.
struct Meddle<F: FnMut() + Send>(F);

impl<F: FnMut() + Send> Observer for Meddle<F> {
    fn progress(&mut self, _: usize, _: u64) {
        (self.0)();
    }
}

#[test]
fn a_file_that_changes_while_it_is_sent_fails_alone() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    run(async {
        let mut client = client(port).await;
        client.hello().await.unwrap();
        // It shrinks; it is written over; it is replaced by a longer one.
        for (size, new) in [(100_000_u64, 0), (3_000_000, 10), (5_000_000, 100)] {
            let jobs = vec![local(&dir, "x", 3_000_000, 1), local(&dir, "y", 10, 2)];
            let path = dir.join("x");
            let mut meddle = Meddle(move || {
                let mut file = fs::File::options().write(true).open(&path).unwrap();
                file.set_len(size).unwrap();
                file.write_all(&content(new, 7)).unwrap();
            });
            let results = client.upload(jobs, &UploadOptions::default(), &mut meddle).await;
            assert!(matches!(&results[0], Err(Error::Changed { path }) if *path == dir.join("x")), "{results:?}");
            results[1].as_ref().unwrap();
            assert!(fake.file("x").is_none());
        }
        client.ping().await.unwrap();
    });
    assert_eq!(fake.log().iter().filter(|line| line.starts_with("abort changed")).count(), 3);
    assert_eq!(fake.0.lock().unwrap().connections, 1);
}

#[test]
fn of_a_file_that_grows_while_it_is_sent_the_announced_length_is_stored() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    run(async {
        let mut client = client(port).await;
        client.hello().await.unwrap();
        for (size, cut) in [(10, vec![]), (3_000_000, vec![]), (3_000_000, vec![700_000])] {
            fake.faults(|faults| faults.cut_write = cut);
            let jobs = vec![local(&dir, "x", size, 1), local(&dir, "y", 10, 2)];
            let path = dir.join("x");
            let mut meddle =
                Meddle(move || fs::File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap());
            let results = client.upload(jobs, &UploadOptions::default(), &mut meddle).await;
            let sent = results[0].as_ref().unwrap();
            let stored = fake.file("x").unwrap();
            assert!(stored.starts_with(&content(size, 1)) && stored.len() as u64 == sent.size);
            assert!(fs::read(dir.join("x")).unwrap().starts_with(&stored));
            assert_eq!(sent.crc, Some(crc32c(&stored)));
            results[1].as_ref().unwrap();
        }
    });
}

#[test]
fn a_cancelled_upload_keeps_what_the_server_has_of_it() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    run(async {
        let mut client = client(port).await;
        client.hello().await.unwrap();
        let token = client.cancel_token();
        let jobs = vec![local(&dir, "a", 10, 1), local(&dir, "x", 30_000_000, 1), local(&dir, "y", 10, 2)];
        let mut sent = 0;
        let stop = token.clone();
        let mut meddle = Meddle(move || {
            sent += 1;
            if sent == 5 {
                stop.cancel();
            }
        });
        let results = client.upload(jobs, &UploadOptions::default(), &mut meddle).await;
        results[0].as_ref().unwrap();
        assert!(matches!(results[1], Err(Error::Cancelled)));
        assert!(matches!(results[2], Err(Error::Cancelled)));
        token.reset();
        client.ping().await.unwrap();
    });
    assert!(!fake.log().iter().any(|line| line.starts_with("abort")));
    assert_eq!(fake.0.lock().unwrap().connections, 2);
}

#[test]
fn checksums_are_left_out_only_where_the_server_agrees() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    let options = UploadOptions { no_crc: true, mtime: false, ..UploadOptions::default() };
    run(async {
        let mut client = client(port).await;
        let sent = put(&mut client, vec![local(&dir, "x", 1000, 1)], &options).await.remove(0).unwrap();
        assert_eq!((sent.crc, sent.confirmed), (None, true));
    });
    assert_eq!(fake.log(), ["write 0 1000 - x", "crc32c -"]);
}

#[test]
fn a_server_that_confirms_something_else_is_not_believed() {
    let (_guard, dir) = temp();
    let port = listen(|stream| {
        while let Some(command) = receive(&stream) {
            if command.starts_with(b"get") {
                send(&stream, HELLO);
            } else if command.starts_with(b"crc32c") {
                send(&stream, "ok 1000 00000000");
            }
        }
    });
    run(async {
        let mut client = client(port).await;
        let result = put(&mut client, vec![local(&dir, "x", 1000, 1)], &UploadOptions::default()).await.remove(0);
        assert!(matches!(result, Err(Error::Mismatch { .. })));
    });
}
