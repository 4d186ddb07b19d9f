//! Two sessions on one store in one embassy executor, with embassy's clock: two servers and two clients, each a task,
//! over two in-memory lines. On a board, the lines are a UART, a USB port or TCP sockets of embassy-net, and the
//! clients are elsewhere; `server` stays the same.

use core::cell::RefCell;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;

use embassy_executor::{Executor, Spawner};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::pipe::Pipe;
use embassy_time::Timer;
use embedded_io_async::{ErrorType, Read, Write};
use skiff_device::ram::{RamMemory, RamStore};
use skiff_proto::client::ClientEvent;
use skiff_proto::command::{Command, Request, VERSION, command_len};
use skiff_proto::drive::{self, AsyncClient, serve_async};
use skiff_proto::server::{Limits, ServerSession};
use skiff_proto::{Instant, Name};
use static_cell::StaticCell;

/// Bytes of the longest name.
const NAME: usize = 64;

type Bytes = Pipe<CriticalSectionRawMutex, 256>;
type Store = RefCell<RamStore<'static, NAME, 256>>;

static DONE: AtomicUsize = AtomicUsize::new(0);

/// Serves one line forever. Both tasks use the same store.
#[embassy_executor::task(pool_size = 2)]
async fn server(mut line: Line, mut store: &'static Store) {
    let mut scratch = [0; 512];
    loop {
        let mut session: ServerSession<{ command_len(NAME) }> = ServerSession::new(Limits::new(64));
        if serve_async(&mut line, &mut session, &mut store, &mut scratch, Clock).await.is_err() {
            return;
        }
    }
}

/// Embassy's clock for skiff, with exact timeouts.
struct Clock;

impl drive::Timer for Clock {
    fn now(&mut self) -> Instant {
        Instant::from_millis(embassy_time::Instant::now().as_millis())
    }

    async fn wait_until(&mut self, at: Instant) {
        Timer::at(embassy_time::Instant::from_millis(at.as_millis())).await;
    }
}

/// Stores a file under `own` and waits until the other client's file, `other`, is there.
#[embassy_executor::task(pool_size = 2)]
async fn client(line: Line, own: &'static str, other: &'static str) {
    let mut client: AsyncClient<_, _, 300> = AsyncClient::new(line, Duration::from_secs(10), Clock);
    let own = Name::parse(own.as_bytes(), NAME).expect("a name");
    let other = Name::parse(other.as_bytes(), NAME).expect("a name");
    let content = b"written by one task, read by the other\n";

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

/// One end of a line in memory.
struct Line {
    rx: &'static Bytes,
    tx: &'static Bytes,
}

impl Line {
    fn pair() -> (Self, Self) {
        let (a, b): (&Bytes, &Bytes) = (Box::leak(Box::new(Pipe::new())), Box::leak(Box::new(Pipe::new())));
        (Self { rx: a, tx: b }, Self { rx: b, tx: a })
    }
}

impl ErrorType for Line {
    type Error = core::convert::Infallible;
}

impl Read for Line {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        Ok(self.rx.read(buffer).await)
    }
}

impl Write for Line {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        Ok(self.tx.write(bytes).await)
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

fn start(spawner: Spawner) {
    static MEMORY: StaticCell<RamMemory<16, NAME, 64, 256>> = StaticCell::new();
    static STORE: StaticCell<Store> = StaticCell::new();
    let store = STORE.init(RefCell::new(RamStore::new(MEMORY.init(RamMemory::new()), 1)));
    for (own, other) in [("a.txt", "b.txt"), ("b.txt", "a.txt")] {
        let (here, there) = Line::pair();
        spawner.spawn(server(there, store).expect("two at most"));
        spawner.spawn(client(here, own, other).expect("two at most"));
    }
}

fn main() {
    static EXECUTOR: StaticCell<Executor> = StaticCell::new();
    EXECUTOR.init(Executor::new()).run_until(start, || DONE.load(Ordering::Relaxed) == 2);
}
