//! Short commands, connecting, and what an unusable connection does.

use super::fake::Fake;
use super::*;

#[test]
fn every_short_command_brings_its_answer() {
    let (fake, port) = Fake::start();
    let bytes = fake.put("a b.txt", 10, 1);
    run(async {
        let mut client = client(port).await;
        assert_eq!(client.peer(), Peer::Unknown);
        assert!(client.ping().await.unwrap() < Duration::from_secs(5));
        assert_eq!(client.peer(), Peer::Extended);
        let hello = client.hello().await.unwrap().unwrap();
        assert_eq!((hello.server.as_str(), hello.name_max, hello.idle, hello.nocrc), ("fake/1", 255, Some(60), true));
        let stat = client.stat("a b.txt").await.unwrap();
        assert_eq!((stat.size, stat.mtime, stat.crc), (10, Some(1_700_000_000), None));
        let crc = Some(skiff_proto::crc::crc32c(&bytes[2..5]));
        assert_eq!(client.sum("a b.txt", 2, Some(3)).await.unwrap(), Sum { length: 3, crc });
        assert_eq!(client.resume("a b.txt", 10).await.unwrap(), Staged { offset: 0, crc: Some(0) });
        assert_eq!(client.space().await.unwrap(), Space { total: 1000, free: 400 });
        client.mkdir("d").await.unwrap();
        client.rename("a b.txt", "d/c").await.unwrap();
        assert_eq!(client.stat("a b.txt").await.unwrap_err().code(), Some(ErrorCode::NotFound));
        client.remove("d/c").await.unwrap();
        client.rmdir("d").await.unwrap();
        assert!(matches!(client.stat("../x").await, Err(Error::BadName { .. })));
        client.quit().await;
    });
    assert_eq!(fake.0.lock().unwrap().connections, 1);
}

#[test]
fn the_question_and_the_first_command_leave_in_one_write() {
    let port = listen(|mut stream| {
        let mut both = [0; 22 + 14];
        let n = stream.read(&mut both).unwrap();
        assert_eq!(&both[..n], b"0000000012get /skiff/10000000004ping");
        send(&stream, HELLO);
        send(&stream, "ok");
        receive(&stream);
    });
    run(async { client(port).await.ping().await.unwrap() });
}

#[test]
fn batches_are_pipelined_and_answered_in_order() {
    let (fake, port) = Fake::start();
    for at in 0..700 {
        fake.put(&format!("f{at}"), at, at);
    }
    run(async {
        let mut client = client(port).await;
        let names: Vec<_> = (0..701).map(|at| if at == 300 { "../x".to_owned() } else { format!("f{at}") }).collect();
        let stats = client.stat_many(&names).await;
        for (at, stat) in stats.iter().enumerate() {
            match at {
                300 => assert!(matches!(stat, Err(Error::BadName { .. }))),
                700 => assert_eq!(stat.as_ref().unwrap_err().code(), Some(ErrorCode::NotFound)),
                _ => assert_eq!(stat.as_ref().unwrap().size, at as u64),
            }
        }
        assert!(client.remove_many(&names[..300]).await.iter().all(Result::is_ok));
        assert!(client.mkdir_many(&["a", "a/b"]).await.iter().all(Result::is_ok));
        assert_eq!(client.list(None).await.unwrap().entries.len(), 400);
    });
    assert_eq!(fake.0.lock().unwrap().connections, 1);
}

#[test]
fn an_idle_connection_that_was_closed_is_made_anew() {
    let (fake, port) = Fake::start();
    let (closes, mut closed) = tokio::sync::mpsc::unbounded_channel();
    // The first connection ends after one command.
    let inner = fake.clone();
    let outer = listen(move |stream| {
        let first = inner.0.lock().unwrap().connections == 0;
        inner.0.lock().unwrap().connections += 1;
        assert_eq!(text(&stream).unwrap(), "get /skiff/1");
        send(&stream, HELLO);
        while let Some(command) = text(&stream) {
            assert!(matches!(command.as_str(), "ping" | "remove x"));
            send(&stream, "ok");
            if first {
                drop(stream);
                return closes.send(()).unwrap();
            }
        }
    });
    run(async {
        let mut one = client(outer).await;
        one.ping().await.unwrap();
        one.ping().await.unwrap();
        closed.recv().await.unwrap();
        // What changes something is not sent twice, unless the loss is seen before.
        fake.0.lock().unwrap().connections = 0;
        let mut two = client(outer).await;
        two.ping().await.unwrap();
        closed.recv().await.unwrap();
        // The client looks only at a connection that has been idle for half a second.
        tokio::time::sleep(Duration::from_millis(500)).await;
        two.remove("x").await.unwrap();
    });
    _ = port;
}

#[test]
fn a_dropped_operation_leaves_a_usable_client() {
    let port = listen(|stream| {
        send(&stream, HELLO);
        text(&stream);
        let first = text(&stream).unwrap();
        if first == "space" {
            send(&stream, "ok 5 4");
        }
        while receive(&stream).is_some() {}
    });
    run(async {
        let mut client = client(port).await;
        assert!(tokio::time::timeout(Duration::from_millis(50), client.ping()).await.is_err());
        assert_eq!(client.space().await.unwrap(), Space { total: 5, free: 4 });
    });
}

#[test]
fn a_silent_server_is_given_up_and_a_cancelled_wait_ends() {
    let port = listen(|stream| while receive(&stream).is_some() {});
    run(async {
        let options = Options { idle: Duration::from_millis(50), retries: 1000, ..quick() };
        let mut client = Client::connect("localhost", port, options).await.unwrap();
        assert!(matches!(client.ping().await, Err(Error::Mute { .. })));
        // Nobody is asked again who has never answered.
        let uploads = vec![Upload::new(file!(), "x")];
        let sent = client.upload(uploads, &UploadOptions::default(), &mut Seen::default()).await.remove(0);
        assert!(matches!(sent, Err(Error::Mute { .. })), "{sent:?}");
        let token = client.cancel_token();
        let mut client =
            Client::connect("127.0.0.1", port, Options { cancel: token.clone(), ..quick() }).await.unwrap();
        let (result, ()) = tokio::join!(client.ping(), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            token.cancel();
        });
        assert!(matches!(result, Err(Error::Cancelled)));
        assert!(matches!(client.ping().await, Err(Error::Cancelled)));
        token.reset();
    });
}

#[test]
fn nobody_there_is_told_with_the_address() {
    let (_socket, address) = refusing();
    let port = address.port();
    run(async {
        let error = Client::connect("localhost", port, quick()).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("can't connect to localhost:{port}: ")), "{error}");
        let error = Client::connect("::1", port, quick()).await.unwrap_err();
        assert!(error.to_string().contains(&format!("[::1]:{port}")), "{error}");
    });
}

#[test]
fn a_classic_server_is_told_apart() {
    let port = listen(|stream| {
        while let Some(command) = text(&stream) {
            match command.as_str() {
                "get /skiff/1" => send(&stream, "-1"),
                "ls" => send(&stream, "a.txt\nb\n\n"),
                _ => {}
            }
        }
    });
    run(async {
        let mut client = client(port).await;
        let error = client.stat("x").await.unwrap_err();
        assert!(matches!(error, Error::NeedsExtended { what: "stat" }));
        assert!(client.hello().await.unwrap().is_none());
        assert!(matches!(client.ping().await, Err(Error::NeedsExtended { .. })));
        assert!(client.stat_many(&["x"; 600]).await.iter().all(Result::is_err));
        let listing = client.list(None).await.unwrap();
        assert_eq!(listing.entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["a.txt", "b"]);
        assert!(matches!(client.list(Some("d")).await, Err(Error::NeedsExtended { .. })));
    });
}

/// An address that takes no connection and does not refuse one either; the listener fills up.
#[cfg(target_os = "linux")]
fn dead() -> (SocketAddr, Vec<socket2::Socket>) {
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut sockets = vec![listener];
    // What is beyond the backlog gets no answer.
    for _ in 0..4 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        _ = socket.connect(&address);
        sockets.push(socket);
    }
    (address.as_socket().unwrap(), sockets)
}

#[cfg(target_os = "linux")]
#[test]
fn an_address_that_is_dead_does_not_make_the_others_wait() {
    use super::super::dial::connect_any;
    let (dead, _sockets) = dead();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let alive = listener.local_addr().unwrap();
    let (_socket, refused) = refusing();
    let token = CancelToken::new();
    let limit = Duration::from_secs(10);
    run(async {
        for peers in
            [&[dead, alive][..], &[dead, dead, alive], &[dead, refused, alive], &[alive, dead], &[refused, alive]]
        {
            let start = std::time::Instant::now();
            let (peer, _) = connect_any(peers, limit, &token).await.unwrap();
            assert_eq!(peer, alive);
            assert!(start.elapsed() < Duration::from_secs(5), "{peers:?} {:?}", start.elapsed());
        }
        let error = connect_any(&[dead, refused], Duration::from_millis(300), &token).await.unwrap_err().unwrap();
        // What one address says of the server counts for more than that another is out of reach.
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(connect_any(&[], limit, &token).await.is_err());
        let stop = token.clone();
        let both = [dead, dead];
        let (cancelled, ()) = tokio::join!(connect_any(&both, limit, &token), async { stop.cancel() });
        assert!(cancelled.is_err_and(|error| error.is_none()));
    });
}
