//! The server in an embassy application: a task for each session, on one store. The application is [`session`] and
//! [`start_server`]; on a board, the stack is that of its network interface.
//!
//! To show it without a board, the server's stack is connected to a second one by a cable in memory, with two clients.
//! The clock is simulated.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;

use embassy_executor::{Executor, Spawner};
use embassy_net::tcp::TcpSocket;
use embassy_net::{Ipv4Address, Runner, Stack};
use embassy_time::Timer;
use skiff_device::config::Config;
use skiff_device::embassy::{Buffers, Server};
use skiff_device::ram::{RamMemory, RamStore};
use skiff_proto::client::ClientEvent;
use skiff_proto::command::{Command, Request, VERSION};
use skiff_proto::drive::{self, AsyncClient};
use skiff_proto::{Instant, Name};
use static_cell::{ConstStaticCell, StaticCell};

mod cable;
mod clock;

const SESSIONS: usize = 2;
type Files = RamStore<'static, 64, 256>;

#[embassy_executor::task(pool_size = SESSIONS)]
async fn session(server: &'static Server<Files, SESSIONS>, stack: Stack<'static>, buffers: &'static mut Buffers) {
    server.serve(stack, buffers).await
}

fn start_server(spawner: Spawner, stack: Stack<'static>) {
    static FILES: ConstStaticCell<RamMemory<16, 64, 64, 256>> = ConstStaticCell::new(RamMemory::new());
    static SERVER: StaticCell<Server<Files, SESSIONS>> = StaticCell::new();
    static BUFFERS: ConstStaticCell<[Buffers; SESSIONS]> = ConstStaticCell::new([const { Buffers::new() }; SESSIONS]);
    let server = Server::new(RamStore::new(FILES.take(), 1), &Config::new(50_000, &[])).expect("a valid configuration");
    let server = &*SERVER.init(server);
    for buffers in BUFFERS.take() {
        spawner.spawn(session(server, stack, buffers).expect("a task for each session"));
    }
}

static DONE: AtomicUsize = AtomicUsize::new(0);

/// Stores a file under `own` and waits until the other client's file, `other`, is there.
#[embassy_executor::task(pool_size = 2)]
async fn client(stack: Stack<'static>, own: &'static str, other: &'static str) {
    let (mut rx, mut tx) = ([0; 2048], [0; 2048]);
    let mut socket = TcpSocket::new(stack, &mut rx, &mut tx);
    socket.connect((Ipv4Address::new(192, 168, 69, 1), 50_000)).await.expect("a connection");
    let mut client: AsyncClient<_, _, 300> = AsyncClient::new(socket, Duration::from_secs(10), Clock);
    let own = Name::parse(own.as_bytes(), 64).expect("a name");
    let other = Name::parse(other.as_bytes(), 64).expect("a name");
    let content = b"written by one client, read by the other\n";

    client.request(&Command::Hello { version: VERSION }).await.expect("an answer");
    let write = Request::Write { offset: 0, size: content.len() as u64, mtime: None, name: own };
    client.send(&Command::Request(write)).await.expect("sent");
    client.write(content).await.expect("sent");
    let stored = client.finish().await.expect("an answer");
    println!("{own}: {stored:?}");
    loop {
        let stat = client.request(&Command::Request(Request::Stat { name: other })).await.expect("an answer");
        if matches!(stat, ClientEvent::Stat { .. }) {
            println!("{own} sees {other}");
            break;
        }
        Timer::after_millis(10).await;
    }
    client.send(&Command::Quit).await.expect("sent");
    DONE.fetch_add(1, Ordering::Relaxed);
}

/// Embassy's clock, for the clients.
struct Clock;

impl drive::Timer for Clock {
    fn now(&mut self) -> Instant {
        Instant::from_millis(embassy_time::Instant::now().as_millis())
    }

    async fn wait_until(&mut self, at: Instant) {
        Timer::at(embassy_time::Instant::from_millis(at.as_millis())).await;
    }
}

#[embassy_executor::task(pool_size = 2)]
async fn network(mut runner: Runner<'static, cable::Nic>) {
    runner.run().await
}

#[embassy_executor::task]
async fn connect(cable: core::pin::Pin<Box<dyn Future<Output = ()>>>) {
    cable.await
}

fn start(spawner: Spawner) {
    let (hosts, cable) = cable::network();
    spawner.spawn(connect(Box::pin(cable)).expect("one cable"));
    let [server, clients] = hosts.map(|(stack, runner)| {
        spawner.spawn(network(runner).expect("two hosts"));
        stack
    });
    start_server(spawner, server);
    for (own, other) in [("a.txt", "b.txt"), ("b.txt", "a.txt")] {
        spawner.spawn(client(clients, own, other).expect("two clients"));
    }
}

fn main() {
    static EXECUTOR: StaticCell<Executor> = StaticCell::new();
    EXECUTOR.init(Executor::new()).run_until(start, || DONE.load(Ordering::Relaxed) == 2);
}
