//! One file over several sessions: whole, verified, and always the beginning of it on the disk.

use core::sync::atomic::{AtomicU32, Ordering};
use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use skiff_proto::crc::crc32c;

use super::fake::Fake;
use super::*;

const SIZE: usize = 1_000_001;

fn over(sessions: u32) -> DownloadOptions {
    DownloadOptions { sessions, ..DownloadOptions::default() }
}

async fn fetch(port: u16, dir: &Path, options: &DownloadOptions) -> Result<Received, Error> {
    let mut client = Client::connect("127.0.0.1", port, Options { retries: 0, ..quick() }).await.unwrap();
    client.download(vec![Download::new("big", dir.join("big"))], options, &mut ()).await.remove(0)
}

#[test]
fn a_file_comes_by_ranges_over_several_sessions_and_small_ones_over_one() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    let big = fake.put("big", SIZE, 1);
    let small = fake.put("small", 40_000, 2);
    fake.put("empty", 0, 3);
    let elapsed = run(async {
        let mut client = client(port).await;
        let jobs = ["small", "big", "empty", "missing"].map(|name| Download::new(name, dir.join(name)));
        let (mut seen, begun) = (Seen::default(), Instant::now());
        let results = client.download(jobs.into(), &over(4), &mut seen).await;
        let elapsed = begun.elapsed();
        let received = results[1].as_ref().unwrap();
        assert_eq!((received.size, received.resumed, received.verified), (SIZE as u64, 0, true));
        assert_eq!((received.crc, received.mtime), (Some(crc32c(&big)), Some(1_700_000_000)));
        assert!((1..=4).contains(&received.sessions), "{received:?}");
        assert_eq!(results[0].as_ref().unwrap().sessions, 1);
        assert_eq!(results[3].as_ref().unwrap_err().code(), Some(ErrorCode::NotFound));
        assert_eq!((seen.bytes, seen.finished), (SIZE as u64 + 40_000, 4));
        // One that opens late finds nothing left to do, and the server may accept it later still.
        while fake.0.lock().unwrap().connections < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        elapsed
    });
    assert!(fs::read(dir.join("big")).unwrap() == big && fs::read(dir.join("small")).unwrap() == small);
    assert_eq!(names(&dir), ["big", "empty", "small"]);
    // In each whole second, a session may ask again for what another one has not brought, which is then replaced.
    let again = 4 * elapsed.as_secs();
    let connections = u64::from(fake.0.lock().unwrap().connections);
    assert!((2..=4 + again).contains(&connections), "{connections} {elapsed:?}");
    // Otherwise, each byte was asked for once.
    let ranges = fake.log().into_iter().filter_map(|line| {
        let words: Vec<_> = line.strip_prefix("read ")?.split(' ').collect();
        (words[2] == "big").then(|| (words[0].parse::<u64>().unwrap(), words[1].parse::<u64>().unwrap()))
    });
    let ranges: Vec<_> = ranges.collect();
    let distinct = BTreeSet::from_iter(&ranges);
    assert_eq!(distinct.iter().map(|(_, length)| length).sum::<u64>(), SIZE as u64);
    assert!((ranges.len() - distinct.len()) as u64 <= again, "{ranges:?} {elapsed:?}");
    assert!(distinct.len() > 16 && ranges.iter().all(|(_, length)| *length <= 64 << 10), "{ranges:?}");
}

#[test]
fn what_a_lost_session_did_not_bring_is_left_to_the_others() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    let big = fake.put("big", SIZE, 1);
    fake.faults(|faults| faults.cut_read = vec![10_000; 2]);
    let received = run(fetch(port, &dir, &over(4))).unwrap();
    assert!(fs::read(dir.join("big")).unwrap() == big);
    assert!(received.verified);
    assert_eq!(names(&dir), ["big"]);
}

#[test]
fn a_server_with_fewer_sessions_is_asked_over_those_it_gives() {
    let fake = Fake::default();
    let (served, number) = (fake.clone(), AtomicU32::new(0));
    let port = listen(move |stream| {
        if number.fetch_add(1, Ordering::Relaxed) < 2 {
            served.serve(&stream);
        }
    });
    let (_guard, dir) = temp();
    let big = fake.put("big", SIZE, 1);
    let received = run(fetch(port, &dir, &over(8))).unwrap();
    assert!(fs::read(dir.join("big")).unwrap() == big);
    assert!((1..=2).contains(&received.sessions), "{received:?}");
}

#[test]
fn a_partial_file_is_the_beginning_and_can_be_continued_in_any_way() {
    for (first, second) in [(4, 1), (1, 4), (4, 4)] {
        let (fake, port) = Fake::start();
        let (_guard, dir) = temp();
        let big = fake.put("big", SIZE, 1);
        fake.faults(|faults| match first {
            1 => faults.cut_read = vec![30_000],
            _ => faults.cut_from = Some(500_000),
        });
        assert!(run(fetch(port, &dir, &over(first))).unwrap_err().is_connection());
        fake.faults(|faults| faults.cut_from = None);
        let [part] = &names(&dir)[..] else { panic!("{:?}", names(&dir)) };
        let part = fs::read(dir.join(part)).unwrap();
        assert!(!part.is_empty() && part.len() < SIZE && big.starts_with(&part), "{}", part.len());
        fake.log();
        let received = run(fetch(port, &dir, &DownloadOptions { resume: true, ..over(second) })).unwrap();
        assert_eq!(received.resumed, part.len() as u64);
        assert!(fs::read(dir.join("big")).unwrap() == big);
        assert_eq!(names(&dir), ["big"]);
    }
}

#[test]
fn a_file_that_changes_meanwhile_is_fetched_again_over_one_session() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    fake.put("big", SIZE, 1);
    fake.faults(|faults| (faults.change_every, faults.changes) = (5, 1));
    assert!(run(fetch(port, &dir, &over(4))).unwrap().verified);
    assert!(fs::read(dir.join("big")).unwrap() == content(SIZE, 100));
    fs::remove_file(dir.join("big")).unwrap();
    fake.faults(|faults| faults.changes = 1000);
    let received = run(fetch(port, &dir, &over(4))).unwrap();
    assert_eq!((received.sessions, received.verified), (1, true));
    let bytes = fs::read(dir.join("big")).unwrap();
    assert!((1050..1100).any(|seed| content(SIZE, seed) == bytes), "one of the versions");
}

#[test]
fn without_a_tag_the_whole_is_compared() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    let big = fake.put("big", SIZE, 1);
    fake.faults(|faults| faults.no_tag = true);
    assert!(run(fetch(port, &dir, &over(3))).unwrap().verified);
    assert!(fs::read(dir.join("big")).unwrap() == big);
    assert!(fake.log().contains(&"sum 0 * big".to_owned()));
}

#[test]
fn a_file_that_gets_its_tag_meanwhile_has_not_changed() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    let big = fake.put("big", SIZE, 1);
    fake.faults(|faults| faults.young = 1);
    let received = run(fetch(port, &dir, &over(3))).unwrap();
    assert!(received.verified && fs::read(dir.join("big")).unwrap() == big);
    let log = fake.log();
    let again = log.iter().filter(|line| line.starts_with("read 0 ")).count();
    // The first one asks for no bytes.
    assert!(again == 2 && log.contains(&"sum 0 * big".to_owned()), "{log:?}");
}

#[test]
fn a_range_with_a_wrong_checksum_fails_the_file() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    fake.put("big", SIZE, 1);
    fake.faults(|faults| faults.bad_crc = 1);
    assert!(matches!(run(fetch(port, &dir, &over(3))), Err(Error::Mismatch { .. })));
    assert!(names(&dir).is_empty());
    // Bodies without one are not verified.
    fake.faults(|faults| faults.no_crc = true);
    assert!(!run(fetch(port, &dir, &over(3))).unwrap().verified);
}

#[test]
fn it_can_be_stopped_and_what_has_come_stays() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    let big = fake.put("big", SIZE, 1);
    struct Stop(CancelToken);
    impl Observer for Stop {
        fn progress(&mut self, _: usize, _: u64) {
            self.0.cancel();
        }
    }
    run(async {
        let mut client = client(port).await;
        let mut stop = Stop(client.cancel_token());
        let results = client.download(vec![Download::new("big", dir.join("big"))], &over(4), &mut stop).await;
        assert!(matches!(results[0], Err(Error::Cancelled)), "{results:?}");
    });
    let part = fs::read(dir.join(&names(&dir)[0])).unwrap();
    assert!(part.len() < SIZE && big.starts_with(&part));
}
