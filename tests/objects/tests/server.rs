//! Servers on object storage, over TCP.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use skiff_host::client::{Client, Options as ClientOptions};
use skiff_host::objects::{Objects, Options, PART, Storage, connect};
use skiff_host::server::{self, Server};
use skiff_objects_tests::faults::{Clock, Faults, Plan};
use skiff_objects_tests::program::LIMIT;
use skiff_objects_tests::wire::{self, message, write};
use skiff_objects_tests::{S3, block_on};
use skiff_proto::command::command_len;
use skiff_proto::crc::crc32c;
use skiff_proto::responder::{NoServices, Responder, Step};
use skiff_proto::server::{Limits, ServerSession};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// One host-serv in this process. Dropping its runtime ends it like a kill.
struct Instance {
    runtime: Option<Runtime>,
    port: u16,
    metrics: SocketAddr,
}

impl Instance {
    fn start(storage: Storage) -> Self {
        Self::serve(storage, Options::default())
    }

    fn serve(storage: Storage, options: Options) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (send, receive) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let objects = Objects::open(storage, options).await.unwrap();
            let metrics = Some((Ipv4Addr::LOCALHOST, 0).into());
            let server = Server::bind(server::Options { metrics, ..server::Options::new(0) }, objects).unwrap();
            send.send((server.port(), server.metrics_addr().unwrap())).unwrap();
            server.run(core::future::pending()).await;
        });
        let (port, metrics) = receive.recv().unwrap();
        Self { runtime: Some(runtime), port, metrics }
    }

    async fn client(&self) -> Client {
        Client::connect("127.0.0.1", self.port, ClientOptions::default()).await.unwrap()
    }

    async fn stream(&self) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.unwrap()
    }

    fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn memory() -> Storage {
    connect("memory:", &[]).unwrap().0
}

async fn reply(stream: &mut (impl AsyncRead + Unpin)) -> String {
    wire::reply(stream).await.unwrap()
}

async fn ask(stream: &mut TcpStream, command: &str) -> String {
    wire::ask(stream, command).await.unwrap()
}

fn pattern(len: usize) -> Vec<u8> {
    skiff_objects_tests::pattern(len as u64, len)
}

#[test]
fn a_file_is_an_object_with_its_checksum_and_time_that_any_tool_reads() {
    block_on(async {
        let storage = memory();
        let instance = Instance::start(storage.clone());
        let mut stream = instance.stream().await;
        stream.write_all(&message(b"write 0 6 1700000000 d/a b.txt")).await.unwrap();
        stream.write_all(&[message(b"hello\n"), message(b""), message(b"crc32c 353dd8be")].concat()).await.unwrap();
        let stored = reply(&mut stream).await;
        let crc = format!("{:08x}", crc32c(b"hello\n"));
        assert_eq!(stored, format!("ok 6 {crc}"));
        let object = storage.objects.get(&Path::parse("d/a b.txt").unwrap()).await.unwrap();
        let attributes = format!("{:?}", object.attributes);
        assert!(attributes.contains("1700000000") && attributes.contains(&crc), "{attributes}");
        assert_eq!(object.bytes().await.unwrap(), "hello\n");
        assert_eq!(ask(&mut stream, "stat d/a b.txt").await, format!("ok 6 1700000000 {crc}"));
        let other = Path::parse("from-elsewhere").unwrap();
        storage.objects.put(&other, "x".into()).await.unwrap();
        assert_eq!(ask(&mut stream, "stat from-elsewhere").await, "ok 1 - -");
    });
}

const FILES: usize = 2000;

/// Memory that takes 20 ms for each request.
fn slow() -> Arc<Faults> {
    let plan = Plan { errors: 0, slow: Duration::ZERO, delay: Duration::from_millis(20), kill_at: 0 };
    Faults::new(&memory(), &Clock::new(), plan, 1)
}

/// The server without its sockets, on a clock that only requests advance: the speed of the computer does not count.
#[test]
fn two_thousand_small_files_go_up_in_four_seconds_at_20_ms_a_request() {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let faults = slow();
        let objects = Objects::open(faults.storage(), Options::default()).await.unwrap();
        let store = &mut objects.connection((Ipv4Addr::LOCALHOST, 1).into());
        let mut session = ServerSession::<{ command_len(64) }>::new(Limits::new(64));
        let mut responder = Responder::new();
        let mut input: Vec<u8> =
            (0..FILES).flat_map(|number| write(&format!("f{number}"), 0, &pattern(1024))).collect();
        let (mut output, mut room, mut at) = (Vec::new(), [0; 4096], 0);
        let begun = tokio::time::Instant::now();
        while at < input.len() || responder.is_waiting(&session) {
            let mut moved = responder.step(&mut session, store, &mut NoServices) == Step::Progress;
            let sent = responder.transmit(&mut session, store, &mut room);
            output.extend_from_slice(&room[..sent]);
            let taken = responder.receive(&mut session, store, &mut input[at..]);
            at += taken;
            moved |= sent + taken > 0;
            if !moved {
                store.ready().await;
            }
        }
        let time = begun.elapsed();
        let replies = String::from_utf8(output).unwrap();
        assert_eq!(replies.matches("ok 1024 ").count(), FILES, "{replies}");
        println!("{FILES} files in {time:?}");
        assert!(time <= Duration::from_secs(4), "{time:?}");
    });
}

#[test]
fn two_thousand_small_files_go_up_over_tcp_with_up_to_64_requests_at_the_same_time() {
    block_on(async {
        let faults = slow();
        let instance = Instance::start(faults.storage());
        let (mut input, mut output) = instance.stream().await.into_split();
        let sending = tokio::spawn(async move {
            for number in 0..FILES {
                output.write_all(&write(&format!("f{number}"), 0, &pattern(1024))).await.unwrap();
            }
            output
        });
        for _ in 0..FILES {
            let reply = reply(&mut input).await;
            assert!(reply.starts_with("ok 1024 "), "{reply}");
        }
        drop(sending.await.unwrap());
        let (requests, _, most) = faults.counts();
        println!("{FILES} files: {requests} requests, at most {most} at the same time");
        assert!((2..=64 + 2).contains(&most), "{most}");
    });
}

#[test]
fn an_upload_continues_through_another_instance() {
    block_on(async {
        let server = S3::start();
        let content = pattern(2 * PART + 3_000_000);
        let cut = PART + 4_000_000;
        let first = Instance::serve(server.storage(), server.serving());
        let mut stream = first.stream().await;
        stream.write_all(&message(format!("write 0 {} - big", content.len()).as_bytes())).await.unwrap();
        stream.write_all(&message(&content[..cut])).await.unwrap();
        drop(stream);
        let second = Instance::serve(server.storage(), server.serving());
        let mut stream = second.stream().await;
        let resume = format!("resume {} big", content.len());
        let begun = Instant::now();
        let expected = format!("ok {cut} {:08x}", crc32c(&content[..cut]));
        // Until the first instance has noticed the end of the connection and saved the bytes.
        loop {
            let reply = ask(&mut stream, &resume).await;
            if reply == expected {
                break;
            }
            assert!(begun.elapsed() < LIMIT, "{reply}, not {expected}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        first.kill();
        stream.write_all(&write("big", cut, &content)).await.unwrap();
        assert_eq!(reply(&mut stream).await, format!("ok {} {:08x}", content.len(), crc32c(&content)));
        // The checksum is kept, although it was not known when the upload began.
        let stat = ask(&mut stream, "stat big").await;
        assert_eq!(stat, format!("ok {} - {:08x}", content.len(), crc32c(&content)));
        let object = server.storage().objects.get(&server.path("big")).await.unwrap();
        assert!(object.bytes().await.unwrap() == content);
        assert!(second.client().await.get_bytes("big", 1 << 30).await.unwrap() == content);
    });
}

#[test]
fn an_instance_that_is_killed_loses_its_lease_after_five_seconds() {
    block_on(async {
        let storage = memory();
        let content = pattern(2 * PART + 1);
        let first = Instance::start(storage.clone());
        let mut stream = first.stream().await;
        // The lease is not older than this.
        let begun = Instant::now();
        stream.write_all(&message(format!("write 0 {} - big", content.len()).as_bytes())).await.unwrap();
        stream.write_all(&message(&content[..PART])).await.unwrap();
        let second = Instance::start(storage);
        let mut other = second.stream().await;
        let resume = format!("resume {} big", content.len());
        while !ask(&mut other, &resume).await.starts_with("error busy") {
            assert!(begun.elapsed() < LIMIT, "the lease was never taken");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        first.kill();
        let killed = Instant::now();
        let reply = loop {
            let reply = ask(&mut other, &resume).await;
            if !reply.starts_with("error busy") {
                break reply;
            }
            assert!(killed.elapsed() < Duration::from_secs(20), "still busy");
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        println!("taken over {:?} after the kill: {reply}", killed.elapsed());
        assert!(reply.starts_with("ok "), "{reply}");
        assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_classic_put_never_replaces_a_file() {
    block_on(async {
        let instance = Instance::start(memory());
        let mut stream = instance.stream().await;
        let large = pattern(PART + 5000);
        for (content, stored) in
            [(&b"one"[..], "a.txt"), (b"two", "a(1).txt"), (&large, "a(2).txt"), (&large, "a(3).txt")]
        {
            let port: u16 = ask(&mut stream, "put a.txt").await.parse().unwrap();
            let mut data = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            data.write_all(&message(content)).await.unwrap();
            data.shutdown().await.unwrap();
            assert_eq!(data.read(&mut [0; 1]).await.unwrap(), 0);
            let mut client = instance.client().await;
            assert!(client.get_bytes(stored, 1 << 30).await.unwrap() == content, "{stored}");
        }
        let port: u16 = ask(&mut stream, "get a(2).txt").await.parse().unwrap();
        let mut data = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).await.unwrap();
        assert!(bytes == message(&large));
        assert_eq!(ask(&mut stream, "ls").await.lines().count(), 4);
    });
}

#[test]
fn a_file_that_is_replaced_while_it_is_read_is_changed_and_never_a_mixture() {
    block_on(async {
        replaced_while_it_is_read(memory(), Options::default(), "f".into()).await;
        // s3s-fs ignores the condition of a GET.
        let server = S3::start();
        replaced_while_it_is_read(server.storage(), server.serving(), server.path("f")).await;
    });
}

async fn replaced_while_it_is_read(storage: Storage, options: Options, path: Path) {
    let instance = Instance::serve(storage.clone(), options);
    // More than fits in the server's memory and in the socket buffers.
    let (old, new) = (pattern(40_000_000), skiff_objects_tests::pattern(1, 40_000_000));
    storage.objects.put(&path, old.clone().into()).await.unwrap();
    let mut stream = instance.stream().await;
    assert!(ask(&mut stream, "read 0 * f").await.starts_with("ok 40000000 40000000 "));
    let mut body = Vec::new();
    let end = loop {
        let mut length = [0; 10];
        stream.read_exact(&mut length).await.unwrap();
        let mut payload = vec![0; String::from_utf8_lossy(&length).parse().unwrap()];
        if payload.is_empty() {
            break reply(&mut stream).await;
        }
        let first = payload.len().min(100_000);
        stream.read_exact(&mut payload[..first]).await.unwrap();
        if body.is_empty() {
            assert!(payload[..first] == old[..first]);
            storage.objects.put(&path, new.clone().into()).await.unwrap();
        }
        stream.read_exact(&mut payload[first..]).await.unwrap();
        body.extend(payload);
    };
    assert!(end.starts_with("abort changed"), "{end}");
    // The rest of a message that can't be completed is zeros.
    let same = body.iter().zip(&old).take_while(|(a, b)| a == b).count();
    assert!(same > 0 && body[same..].iter().all(|byte| *byte == 0), "a mixture from byte {same}");
}

#[test]
fn a_store_without_conditional_writes_is_served_by_one_instance() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}", dir.path().display());
        let first = Objects::open(connect(&url, &[]).unwrap().0, Options::default()).await.unwrap();
        assert!(!first.is_shared());
        let second = Objects::open(connect(&url, &[]).unwrap().0, Options::default()).await;
        let error = second.unwrap_err().to_string();
        assert!(error.starts_with("another host-serv serves this store"), "{error}");
        first.close().await;
        Objects::open(connect(&url, &[]).unwrap().0, Options::default()).await.unwrap();
        let shared = Objects::open(memory(), Options::default()).await.unwrap();
        let single = Objects::open(memory(), Options { single: true, ..Options::default() }).await.unwrap();
        assert!(shared.is_shared() && !single.is_shared());
    });
}

#[test]
fn metrics_and_health_are_served_over_http() {
    block_on(async {
        let instance = Instance::start(memory());
        let mut stream = instance.stream().await;
        stream.write_all(&write("a", 0, b"hello")).await.unwrap();
        assert!(reply(&mut stream).await.starts_with("ok 5 "));
        let get = async |path: &str| {
            let mut http = TcpStream::connect(instance.metrics).await.unwrap();
            http.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
            let mut text = String::new();
            http.read_to_string(&mut text).await.unwrap();
            text
        };
        let text = get("/metrics").await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        for line in
            ["skiff_sessions 1", "skiff_sessions_total 1", "skiff_changes_total 1", "skiff_change_seconds_count 1"]
        {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        assert!(get("/health").await.ends_with("\r\n\r\nok\n"));
        assert!(get("/").await.starts_with("HTTP/1.1 404 "));
    });
}
