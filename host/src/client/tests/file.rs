//! One file, to and from a path or memory.

use std::fs;

use super::classic;
use super::fake::Fake;
use super::*;

#[test]
fn one_file_goes_to_and_from_a_path_and_replaces_what_is_there() {
    let (fake, port) = Fake::start();
    let (_guard, dir) = temp();
    let (here, copy) = (dir.join("here"), dir.join("copy"));
    fs::write(&here, content(300_000, 1)).unwrap();
    fs::write(&copy, "old").unwrap();
    run(async {
        let mut client = client(port).await;
        let sent = client.put(&here, "there").await.unwrap();
        assert_eq!((sent.size, sent.confirmed), (300_000, true));
        fake.faults(|faults| faults.bad_crc = 1);
        assert!(matches!(client.get("there", &copy).await, Err(Error::Mismatch { .. })));
        assert_eq!(client.get("missing", &copy).await.unwrap_err().code(), Some(ErrorCode::NotFound));
        assert!(matches!(client.get("../there", &copy).await, Err(Error::BadName { .. })));
        assert!(matches!(client.put(dir.join("missing"), "there").await, Err(Error::Local { .. })));
        assert_eq!(fs::read(&copy).unwrap(), b"old");
        let received = client.get("there", &copy).await.unwrap();
        assert_eq!((received.path.as_ref(), received.bytes), (Some(&copy), None));
        assert!(fs::read(&copy).unwrap() == content(300_000, 1));
        assert_eq!(names(&dir), ["copy", "here"]);
    });
}

#[test]
fn bytes_go_both_ways_and_over_a_lost_connection() {
    for no_tag in [false, true] {
        let (fake, port) = Fake::start();
        run(async {
            let mut client = client(port).await;
            for size in [0, 1, 1_000_001] {
                let bytes = content(size, 1);
                let cut = if size > 1 { vec![500_000] } else { vec![] };
                fake.faults(|faults| {
                    (faults.cut_read, faults.cut_write, faults.no_tag) = (cut.clone(), cut, no_tag);
                });
                let sent = client.put_bytes("x", &bytes).await.unwrap();
                assert_eq!((sent.size, sent.confirmed), (size as u64, true));
                assert!(fake.file("x").unwrap() == bytes);
                let got = client.get_bytes("x", size as u64).await.unwrap();
                assert!(got == bytes);
                assert_eq!(got.capacity(), size, "it is reserved once");
            }
        });
        let state = fake.0.lock().unwrap();
        assert_eq!((state.connections, state.mtimes["x"].as_str()), (3, "-"));
        let continued = |verb: &str| {
            state.log.iter().any(|line| {
                line.strip_prefix(verb).is_some_and(|rest| rest.starts_with(" ") && !rest.starts_with(" 0 "))
            })
        };
        assert!(continued("read") && continued("write"), "{:?}", state.log);
    }
}

#[test]
fn a_file_that_changed_after_a_loss_begins_again_in_memory() {
    let (fake, port) = Fake::start();
    fake.put("x", 900_000, 1);
    fake.faults(|faults| (faults.cut_read, faults.change_every, faults.changes) = (vec![500_000], 2, 1));
    run(async {
        let got = client(port).await.get_bytes("x", u64::MAX).await.unwrap();
        assert!(got == fake.file("x").unwrap() && got != content(900_000, 1));
    });
}

#[test]
fn a_file_longer_than_the_limit_is_not_taken_into_memory() {
    let (fake, port) = Fake::start();
    let big = listen(|stream| {
        while let Some(command) = text(&stream) {
            match command.split(' ').next() {
                Some("get") => send(&stream, HELLO),
                Some("read") => {
                    send(&stream, format!("ok {0} {0} v1", u64::MAX));
                    send(&stream, "a few bytes");
                }
                _ => {}
            }
        }
    });
    run(async {
        let mut client = client(port).await;
        // Short ones are read to the end, longer ones cost the connection; both leave a client that works.
        for (size, limit) in [(1, 0), (100_001, 100_000), (9_000_000, 100_000)] {
            fake.put("x", size, 1);
            let error = client.get_bytes("x", limit).await.unwrap_err();
            assert!(matches!(error, Error::TooLong { what: "file", limit: told } if told == limit), "{error}");
            client.ping().await.unwrap();
        }
        let mut client = super::client(big).await;
        assert!(matches!(client.get_bytes("x", 1 << 20).await, Err(Error::TooLong { .. })));
        let error = client.get_bytes("x", u64::MAX).await.unwrap_err();
        assert!(
            matches!(&error, Error::Local { source, .. } if source.kind() == std::io::ErrorKind::OutOfMemory),
            "{error}"
        );
    });
}

#[test]
fn bytes_go_both_ways_with_a_classic_server() {
    let files = classic::Files::default();
    let port = classic::serve(&files);
    run(async {
        let mut client = client(port).await;
        let sent = client.put_bytes("x", "olá").await.unwrap();
        assert_eq!((sent.size, sent.confirmed), (4, false));
        // What this server keeps of a file that was sent begins with its length.
        assert_eq!(files.lock().unwrap().insert("x".to_owned(), "olá".into()).unwrap(), "0000000003olá".as_bytes());
        assert_eq!(client.get_bytes("x", 4).await.unwrap(), "olá".as_bytes());
        // What is announced are three characters.
        assert!(matches!(client.get_bytes("x", 3).await, Err(Error::TooLong { .. })));
        assert!(matches!(client.put_bytes("y", [0xff]).await, Err(Error::NotText { .. })));
        assert!(matches!(client.get_bytes("missing", 4).await, Err(Error::ClassicRefused)));
    });
}
