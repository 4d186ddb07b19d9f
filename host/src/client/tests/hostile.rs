//! Servers that break the rules: nothing of theirs may be believed, nothing may hang, and no file may appear that is
//! not whole.

use std::fs;

use skiff_proto::crc::crc32c;

use super::*;

/// A server that answers the question as it should, and everything else with these bytes.
fn answering(wire: Vec<u8>) -> u16 {
    listen(move |mut stream| {
        while let Some(command) = text(&stream) {
            if command == "get /skiff/1" {
                send(&stream, HELLO);
            } else {
                _ = stream.write_all(&wire);
            }
        }
    })
}

fn body(reply: &str, data: &[u8], trailer: &str) -> Vec<u8> {
    let data = if data.is_empty() { Vec::new() } else { message(data) };
    [message(reply), data, message(""), message(trailer)].concat()
}

fn list(text: &str) -> Vec<u8> {
    body("ok", text.as_bytes(), &format!("crc32c {:08x}", crc32c(text.as_bytes())))
}

/// Fetches `x` from a server that answers `read` so; the file must not appear.
fn fetch(wire: Vec<u8>) -> Error {
    let port = answering(wire);
    run(async {
        let options = Options { retries: 0, ..quick() };
        fetch_with(&mut Client::connect("127.0.0.1", port, options).await.unwrap()).await
    })
}

async fn fetch_with(client: &mut Client) -> Error {
    let (_guard, dir) = temp();
    let job = Download { mtime: Some(1), ..Download::new("x", dir.join("x")) };
    let error = client.download(vec![job], &DownloadOptions::default(), &mut ()).await.remove(0).unwrap_err();
    assert!(!names(&dir).contains(&"x".to_owned()), "{error}");
    error
}

#[test]
fn names_in_a_listing_are_refused_unless_they_keep_the_rules_and_lie_where_they_should() {
    let good = "3 - - a\n0 5 - d/\n7 1700000000 e3069283 b c.txt\n";
    let bad = [
        "1 - - ../up",
        "1 - - /etc/passwd",
        "1 - - d/x",
        "1 - - .",
        "1 - - a//b",
        "1 - - a\u{1b}[2J",
        "1 - - a\\b",
        "1 - - .skiff-stage",
        "0 - - ../",
        "-1 - - x",
        "+1 - - x",
        "1 +2 - x",
        "1 - E3069283 x",
        "1 - - ",
        "1 -",
        "99999999999999999999 - - x",
    ];
    let port = answering(list(&format!("{good}{}\n1 - - {}\n", bad.join("\n"), "x".repeat(5000))));
    run(async {
        let mut client = client(port).await;
        let listing = client.list(None).await.unwrap();
        let entry =
            |name: &str, size, mtime, crc, is_dir| RemoteEntry { name: name.to_owned(), size, mtime, crc, is_dir };
        assert_eq!(
            listing.entries,
            [
                entry("a", 3, None, None, false),
                entry("d", 0, Some(5), None, true),
                entry("b c.txt", 7, Some(1_700_000_000), Some(0xe306_9283), false),
            ]
        );
        assert_eq!(listing.refused.len(), bad.len() + 1);
        assert_eq!(
            listing.refused[0],
            RefusedEntry { name: "../up".to_owned(), why: EntryError::Name(NameError::Dots) }
        );
        assert_eq!(listing.refused[2].why, EntryError::Elsewhere);
        assert!(listing.refused.iter().all(|entry| entry.name.len() <= 512));
    });
    let port = answering(list("1 - - d/x\n1 - - d/e/x\n1 - - x\n0 - - d/\n"));
    run(async {
        let listing = client(port).await.list(Some("d")).await.unwrap();
        assert_eq!(listing.entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["d/x"]);
        assert_eq!(listing.refused.len(), 3);
    });
}

#[test]
fn names_of_a_classic_listing_are_refused_likewise() {
    // The length counts characters.
    let port = answering("0000000027a.txt\n../up\nd/x\nb\u{7}\nolá\n\n\n\n\n\n".as_bytes().to_vec());
    run(async {
        let listing = client(port).await.ls().await.unwrap();
        assert_eq!(listing.entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["a.txt", "olá"]);
        assert_eq!(
            listing.refused.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(),
            ["../up", "d/x", "b\u{7}"]
        );
    });
    let port = answering(message("error denied not for you"));
    run(async { assert_eq!(client(port).await.ls().await.unwrap_err().code(), Some(ErrorCode::Denied)) });
}

#[test]
fn an_endless_listing_is_cut_off() {
    let port = listen(|mut stream| {
        while let Some(command) = text(&stream) {
            match command.as_str() {
                "get /skiff/1" => send(&stream, HELLO),
                "ls" => {
                    _ = stream.write_all(b"9999999999");
                    while stream.write_all(&[b'a'; 10_000]).is_ok() {}
                }
                _ => {
                    send(&stream, "ok");
                    let lines = message("1 - - x\n".repeat(10_000));
                    while stream.write_all(&lines).is_ok() {}
                }
            }
        }
    });
    run(async {
        let options = Options { list_limit: 1_000_000, ..quick() };
        let mut client = Client::connect("127.0.0.1", port, options).await.unwrap();
        assert!(matches!(client.list(None).await, Err(Error::TooLong { what: "listing", limit: 1_000_000 })));
        assert!(matches!(client.ls().await, Err(Error::TooLong { .. })));
    });
}

#[test]
fn a_listing_that_is_wrong_at_the_end_is_an_error() {
    for (trailer, aborted) in [("crc32c 00000000", false), ("abort io the disk died", true), ("nonsense", false)] {
        let port = answering(body("ok", b"1 - - x\n", trailer));
        run(async {
            let mut client = client(port).await;
            let error = client.list(None).await.unwrap_err();
            assert_eq!(error.code(), aborted.then_some(ErrorCode::Io));
            // The connection is none the worse for it.
            assert!(client.list(None).await.is_err());
        });
    }
}

#[test]
fn bodies_that_are_not_what_was_announced_are_no_files() {
    let right = format!("crc32c {:08x}", crc32c(b"hello"));
    assert!(matches!(fetch(body("ok 5 5 t", b"hello", "crc32c 00000000")), Error::Mismatch { .. }));
    assert!(matches!(fetch(body("ok 6 6 t", b"hello", &right)), Error::Mismatch { .. }));
    assert!(matches!(fetch(body("ok 4 4 t", b"hello", &right)), Error::Mismatch { .. }));
    assert!(matches!(fetch(body("ok 5 5 t", b"hello", "crc32c")), Error::Mismatch { .. }));
    assert!(matches!(fetch(body("ok 5 5 t", b"hello", "CRC32C 9a71bb4c")), Error::Mismatch { .. }));
    assert!(matches!(fetch(body("ok 5 5 t", b"hello", "")), Error::Mismatch { .. }));
    // The beginning of a larger file is not the file.
    assert!(matches!(fetch(body("ok 5 9 t", b"hello", &right)), Error::Mismatch { .. }));
    let aborted = fetch(body("ok 5 5 t", b"hello", "abort changed it did"));
    assert_eq!(aborted.code(), Some(ErrorCode::Changed));
    let strange = fetch(body("ok 5 5 t", b"hello", "abort \u{1b}[2J \u{202e}x"));
    assert_eq!(strange.to_string(), "the server aborted the transfer: \\u{202e}x (\\u{1b}[2J)");
}

#[test]
fn replies_that_do_not_fit_end_the_connection() {
    for reply in ["ok", "ok 5 4 t", "ok 5 5 T", "ok -1 5 t", "ok 18446744073709551615 5 t", "yes", "ok 5 5", "-1", ""] {
        assert!(matches!(fetch(message(reply)), Error::Protocol { .. }), "{reply}");
    }
    assert!(matches!(fetch(b"00000000x5hello".to_vec()), Error::Protocol { .. }));
    assert!(matches!(fetch([message("ok 5 5 t"), b"SSH-2.0-x\r\n".to_vec()].concat()), Error::Protocol { .. }));
    assert!(matches!(fetch(message("error what-is-this \u{9b}31m")), Error::Refused { code: None, .. }));
}

#[test]
fn an_announcement_without_the_bytes_times_out_and_reserves_nothing() {
    let wire = [message("ok 9999999999999 9999999999999 t"), b"9999999999".to_vec()].concat();
    let port = answering(wire);
    run(async {
        let options = Options { retries: 0, ..quick() };
        let mut client = Client::connect("127.0.0.1", port, options).await.unwrap();
        // A server that is slow to answer the hello is another error.
        client.hello().await.unwrap();
        client.options.idle = Duration::from_millis(100);
        assert!(matches!(fetch_with(&mut client).await, Error::Timeout { .. }));
    });
}

#[test]
fn a_body_that_does_not_end_where_it_should_is_given_up() {
    let port = listen(|mut stream| {
        while let Some(command) = text(&stream) {
            if command == "get /skiff/1" {
                send(&stream, HELLO);
                continue;
            }
            send(&stream, "ok 5 5 t");
            while stream.write_all(&message([b'x'; 10_000])).is_ok() {}
        }
    });
    let (_guard, dir) = temp();
    run(async {
        let job = Download { mtime: Some(1), ..Download::new("x", dir.join("x")) };
        let result = client(port).await.download(vec![job], &DownloadOptions::default(), &mut ()).await.remove(0);
        assert!(matches!(result, Err(Error::Protocol { .. })), "{result:?}");
    });
    assert!(names(&dir).is_empty());
}

#[test]
fn something_that_is_no_skiff_server_at_all_is_told() {
    for greeting in [&b"SSH-2.0-OpenSSH_9.6\r\n"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", b"0000000005hello"] {
        let port = listen(move |mut stream| {
            _ = stream.write_all(greeting);
            receive(&stream);
            receive(&stream);
        });
        run(async {
            let result = client(port).await.ping().await;
            match result {
                Err(Error::NotSkiff { said, .. }) => assert!(greeting.starts_with(&said) && said.len() > 10),
                Err(Error::Protocol { .. }) => assert!(greeting.starts_with(b"00000"), "a length is no greeting"),
                _ => panic!("{result:?}"),
            }
        });
    }
    let port = listen(|stream| {
        receive(&stream);
        send(&stream, "error busy too many clients");
        receive(&stream);
    });
    run(async { assert_eq!(client(port).await.ping().await.unwrap_err().code(), Some(ErrorCode::Busy)) });
}

#[test]
fn a_server_may_close_at_any_byte() {
    let data = content(3000, 1);
    let read = body("ok 3000 3000 t", &data, &format!("crc32c {:08x}", crc32c(&data)));
    let wire = [message(HELLO), message("ok 3000 7 -"), read].concat();
    let cuts = (0..wire.len()).filter(|&at| at < 250 || at > wire.len() - 80 || at % 97 == 0).collect::<Vec<_>>();
    for cut in cuts.into_iter().chain([wire.len()]) {
        let part = wire[..cut].to_vec();
        let port = listen(move |mut stream| {
            for _ in 0..3 {
                receive(&stream);
            }
            _ = stream.write_all(&part);
        });
        let (_guard, dir) = temp();
        run(async {
            let mut client = Client::connect("127.0.0.1", port, Options { retries: 0, ..quick() }).await.unwrap();
            let jobs = vec![Download::new("x", dir.join("x"))];
            let result = client.download(jobs, &DownloadOptions::default(), &mut ()).await.remove(0);
            if cut == wire.len() {
                result.unwrap();
                assert!(fs::read(dir.join("x")).unwrap() == data);
            } else {
                assert!(matches!(result, Err(Error::Lost { .. })), "{cut}: {result:?}");
                let left = names(&dir);
                assert!(left.is_empty() || left == [".x.3000-t.skiff-part"], "{cut}: {left:?}");
            }
        });
    }
}

#[test]
fn a_server_may_send_byte_by_byte() {
    let data = content(3000, 1);
    let read = body("ok 3000 3000 t", &data, &format!("crc32c {:08x}", crc32c(&data)));
    let wire = [message(HELLO), message("ok 3000 7 -"), read].concat();
    let port = listen(move |mut stream| {
        stream.set_nodelay(true).unwrap();
        for byte in &wire {
            _ = stream.write_all(&[*byte]);
        }
        while receive(&stream).is_some() {}
    });
    let (_guard, dir) = temp();
    run(async {
        let jobs = vec![Download::new("x", dir.join("x"))];
        client(port).await.download(jobs, &DownloadOptions::default(), &mut ()).await.remove(0).unwrap();
    });
    assert!(fs::read(dir.join("x")).unwrap() == content(3000, 1));
}

#[test]
fn a_server_that_always_breaks_off_is_given_up_after_the_tries() {
    let port = listen(|stream| {
        receive(&stream);
        send(&stream, HELLO);
        receive(&stream);
        send(&stream, "ok 5 5 -");
        receive(&stream);
    });
    let (_guard, dir) = temp();
    run(async {
        let mut client = client(port).await;
        let mut seen = Seen::default();
        let jobs = vec![Download::new("x", dir.join("x")), Download::new("y", dir.join("y"))];
        let results = client.download(jobs, &DownloadOptions::default(), &mut seen).await;
        assert!(results.iter().all(|result| matches!(result, Err(Error::Lost { .. }))));
        assert_eq!((seen.retries, seen.finished), (3, 2));
        let jobs = vec![Upload::new("/dev/null/x", "x")];
        assert!(matches!(client.upload(jobs, &UploadOptions::default(), &mut ()).await[0], Err(Error::Local { .. })));
        fs::write(dir.join("big"), content(3_000_000, 1)).unwrap();
        let mut seen = Seen::default();
        let jobs = vec![Upload::new(dir.join("big"), "big")];
        let results = client.upload(jobs, &UploadOptions::default(), &mut seen).await;
        assert!(matches!(results[0], Err(Error::Protocol { .. } | Error::Lost { .. })), "{results:?}");
        assert!(seen.retries <= 3);
    });
}
