//! The server as tasks of an embassy executor: several sessions, takeover, time-outs, the end of a connection.

#[path = "../src/cable.rs"]
mod cable;
#[path = "../src/clock.rs"]
mod clock;

use core::cell::Cell;
use core::pin::Pin;
use core::time::Duration;
use std::rc::Rc;

use embassy_executor::Executor;
use embassy_net::tcp::TcpSocket;
use embassy_net::{Ipv4Address, Stack};
use embassy_time::{Duration as Time, Instant, with_timeout};
use skiff_device::config::Config;
use skiff_device::embassy::{Buffers, Server};
use skiff_device::ram::{RamMemory, RamStore};
use skiff_proto::crc::crc32c;

const SESSIONS: usize = 2;
type Files = RamStore<'static, 64, 256>;
type Job = Pin<Box<dyn Future<Output = ()>>>;

/// Tests run at the same time, and each has some tasks.
#[embassy_executor::task(pool_size = 64)]
async fn run(job: Job) {
    job.await;
}

fn leak<T>(value: T) -> &'static mut T {
    Box::leak(Box::new(value))
}

/// Runs a test with a server and the stack of its clients.
fn scene<F: Future<Output = ()> + 'static>(
    config: Config<'static>,
    test: impl FnOnce(&'static Server<Files, SESSIONS>, Stack<'static>) -> F,
) {
    let done = Rc::new(Cell::new(false));
    let is_done = Rc::clone(&done);
    let ([server_host, client_host], cable) = cable::network();
    let files: &'static mut RamMemory<16, 64, 600, 256> = leak(RamMemory::new());
    let server = &*leak(Server::new(RamStore::new(files, 1), &config).unwrap());
    let body = test(server, client_host.0);
    let mut jobs: Vec<Job> = vec![Box::pin(cable)];
    let stack = server_host.0;
    for (_, mut runner) in [server_host, client_host] {
        jobs.push(Box::pin(async move { runner.run().await }));
    }
    for _ in 0..SESSIONS {
        jobs.push(Box::pin(async move { server.serve(stack, leak(Buffers::<2048>::new())).await }));
    }
    jobs.push(Box::pin(async move {
        with_timeout(Time::from_secs(30), body).await.expect("the test ends in time");
        done.set(true);
    }));
    leak(Executor::new()).run_until(
        |spawner| jobs.into_iter().for_each(|job| spawner.spawn(run(job).expect("room for the task"))),
        || is_done.get(),
    );
}

/// A client.
struct Wire(TcpSocket<'static>);

impl Wire {
    async fn connect(stack: Stack<'static>) -> Self {
        let mut wire = Self::new(stack);
        wire.dial().await.expect("a connection");
        wire
    }

    fn new(stack: Stack<'static>) -> Self {
        Self(TcpSocket::new(stack, leak([0; 4096]), leak([0; 4096])))
    }

    async fn dial(&mut self) -> Result<(), embassy_net::tcp::ConnectError> {
        self.0.connect((Ipv4Address::new(192, 168, 69, 1), 50_000)).await
    }

    async fn send_bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let n = self.0.write(bytes).await.expect("the connection is open");
            bytes = &bytes[n..];
        }
    }

    async fn send(&mut self, message: &[u8]) {
        self.send_bytes(format!("{:010}", message.len()).as_bytes()).await;
        self.send_bytes(message).await;
    }

    /// `None` at the end of the connection.
    async fn hear_bytes(&mut self, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        let mut at = 0;
        while at < len {
            match self.0.read(&mut bytes[at..]).await {
                Ok(n @ 1..) => at += n,
                _ => return None,
            }
        }
        Some(bytes)
    }

    async fn hear(&mut self) -> Option<Vec<u8>> {
        let len = String::from_utf8(self.hear_bytes(10).await?).unwrap().parse().unwrap();
        self.hear_bytes(len).await
    }

    async fn hear_text(&mut self) -> String {
        self.hear().await.map_or("closed".into(), |reply| String::from_utf8(reply).unwrap())
    }

    async fn ask(&mut self, command: &str) -> String {
        self.send(command.as_bytes()).await;
        self.hear_text().await
    }

    async fn write(&mut self, name: &str, content: &[u8]) -> String {
        self.send(format!("write 0 {} - {name}", content.len()).as_bytes()).await;
        self.send(content).await;
        self.send(b"").await;
        let crc = crc32c(content);
        self.ask(&format!("crc32c {crc:08x}")).await
    }
}

#[test]
fn two_sessions_share_a_store_and_a_third_client_is_refused() {
    scene(Config::new(50_000, &[]), |server, stack| async move {
        let mut a = Wire::connect(stack).await;
        let mut b = Wire::connect(stack).await;
        // Both are served, before the third one comes.
        assert_eq!((a.ask("ping").await, b.ask("ping").await), ("ok".into(), "ok".into()));
        assert_eq!(server.sessions(), 2);
        assert!(Wire::new(stack).dial().await.is_err());

        // One file in two pieces, and another one meanwhile.
        a.send(b"write 0 6000 - a").await;
        a.send(&[1; 3000]).await;
        assert!(b.write("b", &[2; 20_000]).await.starts_with("ok 20000 "));
        a.send(&[1; 3000]).await;
        a.send(b"").await;
        assert!(a.ask(&format!("crc32c {:08x}", crc32c(&[1; 6000]))).await.starts_with("ok 6000 "));
        assert!(b.ask("stat a").await.starts_with("ok 6000 "));
        a.send(b"read 0 * b").await;
        assert!(a.hear_text().await.starts_with("ok 20000 20000"));
        let mut content = Vec::new();
        while let Some(piece) = a.hear().await.filter(|piece| !piece.is_empty()) {
            content.extend(piece);
        }
        assert_eq!(content, [2; 20_000]);
        assert!(a.hear_text().await.starts_with("crc32c "));

        // A place that is left is free for the next client.
        assert_eq!(a.ask("quit").await, "closed");
        while server.sessions() > 1 {
            embassy_futures::yield_now().await;
        }
        while Wire::new(stack).dial().await.is_err() {}
    });
}

#[test]
fn a_silent_writer_yields_and_its_bytes_stay() {
    let config = Config { takeover: Duration::from_millis(300), ..Config::new(50_000, &[]) };
    scene(config, |_, stack| async move {
        let mut silent = Wire::connect(stack).await;
        let mut other = Wire::connect(stack).await;
        silent.send(b"write 0 1000 - a").await;
        silent.send(&[1; 400]).await;
        while !other.ask("resume 1000 a").await.starts_with("error busy") {}
        // It keeps its name for some time, and loses it then together with its connection.
        while other.ask("resume 1000 a").await.starts_with("error busy") {}
        let staged = other.ask("resume 1000 a").await;
        assert!(staged.starts_with("ok 400 "), "{staged}");
        assert_eq!(silent.hear_text().await, "closed");
        assert!(other.write("a", &[2; 1000]).await.starts_with("ok 1000 "));
        // Its place serves the next client.
        assert_eq!(Wire::connect(stack).await.ask("ping").await, "ok");
    });
}

#[test]
fn a_client_without_progress_is_disconnected() {
    let mut config = Config::new(50_000, &[]);
    config.limits.idle = Duration::from_millis(400);
    scene(config, |server, stack| async move {
        // As the server's clock, which counts whole milliseconds.
        let start = Instant::from_millis(Instant::now().as_millis());
        let mut wire = Wire::connect(stack).await;
        assert_eq!(wire.ask("ping").await, "ok");
        wire.send(b"write 0 1000 - a").await;
        assert_eq!(wire.hear_text().await, "error timeout no progress for too long");
        assert!(start.elapsed() >= Time::from_millis(400));
        assert_eq!(wire.hear_text().await, "closed");
        drop(wire);
        while server.sessions() > 0 {
            embassy_futures::yield_now().await;
        }
    });
}

#[test]
fn a_client_that_has_ended_its_side_still_gets_everything() {
    scene(Config::new(50_000, &[]), |_, stack| async move {
        let mut wire = Wire::connect(stack).await;
        assert!(wire.write("big", &[7; 100_000]).await.starts_with("ok "));
        wire.send(b"read 0 * big").await;
        wire.send(b"quit").await;
        wire.0.close();
        assert!(wire.hear_text().await.starts_with("ok 100000 "));
        let mut got = 0;
        while let Some(piece) = wire.hear().await.filter(|piece| !piece.is_empty()) {
            got += piece.len();
        }
        assert_eq!(got, 100_000);
        assert!(wire.hear_text().await.starts_with("crc32c "));
        assert_eq!(wire.hear_text().await, "closed");

        // A reply before the end, however much input follows.
        let mut wire = Wire::connect(stack).await;
        wire.send_bytes(b"nonsense!!").await;
        wire.send_bytes(&[b'x'; 20_000]).await;
        assert!(wire.hear_text().await.starts_with("error bad-length"));
    });
}
