//! Classic servers: get, put, ls and quit over data connections.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;

use super::*;

pub(super) type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A server that keeps PROTOCOL §3 and nothing else; a length that it sends counts characters, if it can.
pub(super) fn serve(files: &Files) -> u16 {
    let files = Arc::clone(files);
    listen(move |stream| {
        while let Some(command) = text(&stream) {
            let words: Vec<_> = command.split_ascii_whitespace().collect();
            match words[..] {
                ["get", name] => match files.lock().unwrap().get(name).cloned() {
                    Some(file) => {
                        data(&stream, move |mut data| {
                            let length = str::from_utf8(&file).map_or(file.len(), |text| text.chars().count());
                            _ = data.write_all(&[format!("{length:010}").as_bytes(), &file].concat());
                        });
                    }
                    None => send(&stream, "-1"),
                },
                ["put", name] => {
                    let (files, name) = (Arc::clone(&files), name.to_owned());
                    data(&stream, move |mut data| {
                        let mut bytes = Vec::new();
                        data.read_to_end(&mut bytes).unwrap();
                        files.lock().unwrap().insert(name, bytes);
                    });
                }
                ["ls"] => send(&stream, files.lock().unwrap().keys().cloned().collect::<Vec<_>>().join("\n")),
                ["quit"] => return,
                _ => {}
            }
        }
    })
}

/// Announces a port and handles one connection there.
fn data(control: &TcpStream, handle: impl FnOnce(TcpStream) + Send + 'static) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    send(control, listener.local_addr().unwrap().port().to_string());
    thread::spawn(move || handle(listener.accept().unwrap().0));
}

#[test]
fn files_go_both_ways_and_nothing_is_confirmed_that_is_not() {
    let files = Files::default();
    let port = serve(&files);
    let (_guard, dir) = temp();
    let accents = "olá, ação, 日本".repeat(50_000);
    fs::write(dir.join("text"), &accents).unwrap();
    fs::write(dir.join("empty"), "").unwrap();
    fs::write(dir.join("binary"), [0xff, 0xfe, 0]).unwrap();
    run(async {
        let mut client = client(port).await;
        let jobs = |names: &[&str]| names.iter().map(|name| Upload::new(dir.join(name), *name)).collect::<Vec<_>>();
        let mut seen = Seen::default();
        let results = client.upload(jobs(&["text", "empty", "binary"]), &UploadOptions::default(), &mut seen).await;
        let sent = results[0].as_ref().unwrap();
        assert_eq!(*sent, Sent { size: accents.len() as u64, resumed: 0, crc: None, confirmed: false });
        results[1].as_ref().unwrap();
        assert!(matches!(&results[2], Err(Error::NotText { path }) if *path == dir.join("binary")));
        assert_eq!((seen.bytes, seen.finished), (accents.len() as u64, 3));
        let force = UploadOptions { force: true, ..UploadOptions::default() };
        client.upload(jobs(&["binary"]), &force, &mut ()).await.remove(0).unwrap();
        let spaced = Upload::new(dir.join("text"), "a b");
        let error = client.upload(vec![spaced], &force, &mut ()).await.remove(0).unwrap_err();
        assert!(matches!(error, Error::ClassicName { .. }));
        {
            let files = files.lock().unwrap();
            assert!(files["text"] == format!("{:010}{accents}", accents.chars().count()).as_bytes());
            assert_eq!(files["empty"], b"0000000000");
            assert_eq!(files["binary"], b"0000000003\xff\xfe\0");
        }
        let listing = client.ls().await.unwrap();
        assert_eq!(
            listing.entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(),
            ["binary", "empty", "text"]
        );

        files.lock().unwrap().insert("text".to_owned(), accents.clone().into_bytes());
        files.lock().unwrap().insert("empty".to_owned(), Vec::new());
        let jobs = ["text", "missing", "empty", "olá"].map(|name| Download::new(name, dir.join(format!("got-{name}"))));
        let mut seen = Seen::default();
        let results = client.download(jobs.into(), &DownloadOptions::default(), &mut seen).await;
        let received = results[0].as_ref().unwrap();
        assert_eq!((received.size, received.verified, received.crc), (accents.len() as u64, false, None));
        assert!(matches!(results[1], Err(Error::ClassicRefused)));
        results[2].as_ref().unwrap();
        assert!(matches!(results[3], Err(Error::ClassicName { .. })));
        assert_eq!(seen.bytes, accents.len() as u64);
        client.quit().await;
    });
    assert!(fs::read_to_string(dir.join("got-text")).unwrap() == accents);
    assert_eq!(names(&dir), ["binary", "empty", "got-empty", "got-text", "text"]);
}

/// A server whose data connections are each handled by the next script.
fn scripted(scripts: Vec<Box<dyn FnOnce(TcpStream) + Send>>) -> u16 {
    let scripts = Mutex::new(scripts);
    listen(move |stream| {
        while let Some(command) = text(&stream) {
            match command.as_str() {
                "get /skiff/1" => send(&stream, "-1"),
                command if command.starts_with("get ") || command.starts_with("put ") => {
                    let script = scripts.lock().unwrap().remove(0);
                    data(&stream, script);
                }
                _ => {}
            }
        }
    })
}

#[test]
fn a_data_connection_that_brings_no_whole_file_saves_nothing() {
    let (_guard, dir) = temp();
    let wires: [&[u8]; 9] = [
        b"",
        b"00000",
        b"0000000005",
        b"0000000005abcd",
        b"0000000003abcd",
        b"0000000003\xff\xff\xff\xff",
        b"+000000003abc",
        b"0000000002ol\xc3",
        b"9999999999x",
    ];
    let scripts = wires.map(|wire| {
        let script: Box<dyn FnOnce(TcpStream) + Send> = Box::new(move |mut data| _ = data.write_all(wire));
        script
    });
    let port = scripted(scripts.into());
    run(async {
        let mut client = client(port).await;
        for wire in wires {
            let jobs = vec![Download::new("x", dir.join("x"))];
            let result = client.download(jobs, &DownloadOptions::default(), &mut ()).await.remove(0);
            assert!(matches!(result, Err(Error::Transfer { .. } | Error::Data { .. })), "{wire:?}: {result:?}");
            assert!(names(&dir).is_empty(), "{wire:?}");
        }
    });
}

#[test]
fn a_refused_or_reset_data_connection_is_an_error() {
    let (_guard, dir) = temp();
    fs::write(dir.join("x"), content(1000, 1)).unwrap();
    fs::write(dir.join("t"), "text").unwrap();
    let reset: Box<dyn FnOnce(TcpStream) + Send> = Box::new(|mut data| {
        data.read_exact(&mut [0; 5]).unwrap();
        socket2::SockRef::from(&data).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let port = scripted(vec![reset]);
    let (_socket, closed) = refusing();
    let refusing = listen(move |stream| {
        while let Some(command) = text(&stream) {
            send(&stream, if command == "get /skiff/1" { "-1".to_owned() } else { closed.port().to_string() });
        }
    });
    run(async {
        let upload = |name: &str| vec![Upload::new(dir.join(name), name)];
        let mut one = client(port).await;
        let result = one.upload(upload("t"), &UploadOptions::default(), &mut ()).await.remove(0);
        assert!(matches!(result, Err(Error::Data { .. })), "{result:?}");
        let mut two = client(refusing).await;
        let result = two.upload(upload("t"), &UploadOptions::default(), &mut ()).await.remove(0);
        assert!(matches!(result, Err(Error::Data { .. })), "{result:?}");
        let jobs = vec![Download::new("x", dir.join("y"))];
        let result = two.download(jobs, &DownloadOptions::default(), &mut ()).await.remove(0);
        assert!(matches!(result, Err(Error::Data { .. })), "{result:?}");
    });
    assert_eq!(names(&dir), ["t", "x"]);
}

#[test]
fn nonsense_on_the_control_connection_ends_it() {
    for reply in ["0", "65536", "-2", "port", "99999999999999999999", "12 34", ""] {
        let port = listen(move |stream| {
            while let Some(command) = text(&stream) {
                send(&stream, if command == "get /skiff/1" { "-1" } else { reply });
            }
        });
        run(async {
            let (_guard, dir) = temp();
            let mut client = client(port).await;
            let jobs = vec![Download::new("x", dir.join("x"))];
            let result = client.download(jobs, &DownloadOptions::default(), &mut ()).await.remove(0);
            assert!(matches!(result, Err(Error::Protocol { .. })), "{reply}: {result:?}");
        });
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_is_not_taken_for_a_whole_one() {
    let (_guard, dir) = temp();
    fs::write(dir.join("x"), "x".repeat(3_000_000)).unwrap();
    let (report, received) = std::sync::mpsc::channel();
    let take: Box<dyn FnOnce(TcpStream) + Send> = Box::new(move |mut data| {
        report.send(data.read_to_end(&mut Vec::new()).is_err()).unwrap();
    });
    let port = scripted(vec![take]);
    struct Shrink(PathBuf);
    impl Observer for Shrink {
        fn progress(&mut self, _: usize, _: u64) {
            fs::File::options().write(true).open(&self.0).unwrap().set_len(1000).unwrap();
        }
    }
    run(async {
        let mut client = client(port).await;
        let jobs = vec![Upload::new(dir.join("x"), "x")];
        let mut shrink = Shrink(dir.join("x"));
        let result = client.upload(jobs, &UploadOptions::default(), &mut shrink).await.remove(0);
        assert!(matches!(result, Err(Error::Changed { .. })), "{result:?}");
    });
    assert!(received.recv().unwrap(), "the connection was not reset");
}

#[test]
fn of_a_file_that_grows_while_it_is_sent_the_announced_length_is_stored() {
    struct Grow(PathBuf);
    impl Observer for Grow {
        fn progress(&mut self, _: usize, _: u64) {
            fs::File::options().append(true).open(&self.0).unwrap().write_all("ção".as_bytes()).unwrap();
        }
    }
    let files = Files::default();
    let port = serve(&files);
    let (_guard, dir) = temp();
    let text = "olá".repeat(500_000);
    fs::write(dir.join("log"), &text).unwrap();
    run(async {
        let mut client = client(port).await;
        let jobs = vec![Upload::new(dir.join("log"), "log")];
        let sent = client.upload(jobs, &UploadOptions::default(), &mut Grow(dir.join("log"))).await.remove(0).unwrap();
        assert_eq!(sent.size, text.len() as u64);
    });
    assert!(files.lock().unwrap()["log"] == format!("{:010}{text}", text.chars().count()).as_bytes());
    assert!(fs::metadata(dir.join("log")).unwrap().len() > text.len() as u64);
}
