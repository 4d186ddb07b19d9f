//! The async drives, both ends in one thread over pipes that hold a byte or a few, with a clock that advances only when
//! both wait.
#![cfg(feature = "embedded-io-async")]
#![expect(clippy::unwrap_used, reason = "also the helpers of tests are tests")]

mod drive_support;
#[cfg(feature = "serial")]
#[path = "drive_support/serial_line.rs"]
mod serial_line;

use core::cell::{Cell, RefCell};
use core::convert::Infallible;
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Wake;

use drive_support::{BUF, NAME_MAX, body, content, everything, message, messages, name, store};
use embedded_io_async::{ErrorType, Read, Write};
use skiff_device::ram::{RamMemory, RamStore};
use skiff_kit::memory::MemoryStore;
use skiff_proto::Instant;
use skiff_proto::client::ClientEvent;
use skiff_proto::command::{Command, Request, VERSION};
use skiff_proto::drive::{AsyncClient, DriveError, Timer, serve_async};
use skiff_proto::responder::list_room;
#[cfg(feature = "secure")]
use skiff_proto::secure::Noise;
use skiff_proto::server::{Close, Limits, ServerSession};

/// The time in milliseconds, and the wakers of the alarms.
#[derive(Clone, Default)]
struct World(Rc<RefCell<(u64, Alarms)>>);

type Alarms = Vec<(u64, Waker)>;

impl World {
    fn millis(&self) -> u64 {
        self.0.borrow().0
    }

    /// Advances to the next alarm; false if there is none.
    fn advance(&self) -> bool {
        let mut world = self.0.borrow_mut();
        let Some(next) = world.1.iter().map(|(at, _)| *at).min() else { return false };
        world.0 = next;
        for (_, waker) in world.1.extract_if(.., |(at, _)| *at <= next) {
            waker.wake();
        }
        true
    }

    /// Runs both to the end. If neither can continue, the time advances.
    fn join<A: Future, B: Future>(&self, a: A, b: B) -> (A::Output, B::Output) {
        struct Flag(AtomicBool);
        impl Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        fn poll<F: Future>(future: Pin<&mut F>, output: &mut Option<F::Output>, waker: &Waker) {
            if output.is_none()
                && let Poll::Ready(ready) = future.poll(&mut Context::from_waker(waker))
            {
                *output = Some(ready);
            }
        }
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(flag.clone());
        let (mut a, mut b) = (pin!(a), pin!(b));
        let (mut out_a, mut out_b) = (None, None);
        loop {
            if !flag.0.swap(false, Ordering::Relaxed) {
                assert!(self.advance(), "both wait, and nobody will wake them");
            }
            poll(a.as_mut(), &mut out_a, &waker);
            poll(b.as_mut(), &mut out_b, &waker);
            match (out_a, out_b) {
                (Some(a), Some(b)) => return (a, b),
                unfinished => (out_a, out_b) = unfinished,
            }
        }
    }
}

impl Timer for World {
    fn now(&mut self) -> Instant {
        Instant::from_millis(self.millis() + 1)
    }

    async fn wait_until(&mut self, at: Instant) {
        let at = at.as_millis() - 1;
        poll_fn(|context| {
            let mut world = self.0.borrow_mut();
            if world.0 >= at {
                return Poll::Ready(());
            }
            world.1.push((at, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    closed: bool,
    waiting: Vec<Waker>,
}

impl Pipe {
    fn changed(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

/// One end of two pipes.
struct End {
    rx: Rc<RefCell<Pipe>>,
    tx: Rc<RefCell<Pipe>>,
    room: usize,
}

impl ErrorType for End {
    type Error = Infallible;
}

impl Read for End {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        poll_fn(|context| {
            let mut pipe = self.rx.borrow_mut();
            if pipe.bytes.is_empty() && !pipe.closed {
                pipe.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
            let n = pipe.bytes.len().min(buffer.len());
            for (byte, from) in buffer.iter_mut().zip(pipe.bytes.drain(..n)) {
                *byte = from;
            }
            pipe.changed();
            Poll::Ready(Ok(n))
        })
        .await
    }
}

impl Write for End {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        poll_fn(|context| {
            let mut pipe = self.tx.borrow_mut();
            let n = bytes.len().min(self.room - pipe.bytes.len());
            if n == 0 && !pipe.closed {
                pipe.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
            // It will not be read; the other end reports that.
            pipe.bytes.extend(&bytes[..n]);
            pipe.changed();
            Poll::Ready(Ok(n))
        })
        .await
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        for pipe in [&self.rx, &self.tx] {
            let mut pipe = pipe.borrow_mut();
            pipe.closed = true;
            pipe.changed();
        }
    }
}

/// Client and server, over pipes that hold `room` bytes.
fn pipes(room: usize) -> (End, End) {
    let (a, b) = (Rc::new(RefCell::new(Pipe::default())), Rc::new(RefCell::new(Pipe::default())));
    (End { rx: b.clone(), tx: a.clone(), room }, End { rx: a, tx: b, room })
}

async fn server(mut end: End, store: &MemoryStore, world: &World) -> Result<Close, DriveError<Infallible>> {
    let mut session: ServerSession<BUF> = ServerSession::new(Limits::new(NAME_MAX));
    let mut scratch = [0; list_room(NAME_MAX)];
    serve_async(&mut end, &mut session, &mut store.clone(), &mut scratch, world.clone()).await
}

fn client(end: End, world: &World) -> AsyncClient<End, World, 300> {
    AsyncClient::new(end, Duration::from_secs(10), world.clone())
}

#[test]
fn a_client_does_everything_over_the_smallest_pipes() {
    for room in [1, 2, 7, 64, 4096] {
        let (world, store) = (World::default(), store());
        store.set_pending_commits(9);
        let (near, far) = pipes(room);
        let mut client = client(near, &world);
        let script = async move { everything!(client, await) };
        let (closed, ()) = world.join(server(far, &store, &world), script);
        assert_eq!(closed, Ok(Close::Gracefully));
        assert_eq!(store.content("kept").unwrap(), content(5000));
        assert_eq!(store.content("gone"), None);
        assert_eq!(world.millis(), 0, "nobody had to wait for a clock");
    }
}

#[cfg(feature = "secure")]
#[test]
fn a_protected_client_does_everything_over_the_smallest_pipes() {
    const RECORD_MAX: u16 = 600;
    const RECORD: usize = RECORD_MAX as usize;
    for room in [1, 2, 7, 64, 4096] {
        let (world, store) = (World::default(), store());
        let (near, mut far) = pipes(room);
        let (login, guard) = drive_support::ends(RECORD_MAX);
        let mut session: ServerSession<BUF, Noise> = ServerSession::new(Limits::new(NAME_MAX));
        session.protect(guard).unwrap();
        let (mut served, mut scratch) = (store.clone(), [0; RECORD]);
        let server = async {
            let closed = serve_async(&mut far, &mut session, &mut served, &mut scratch, world.clone()).await;
            drop(far);
            closed
        };
        let mut client: AsyncClient<_, _, 400, Noise, RECORD> =
            AsyncClient::new(near, Duration::from_secs(10), world.clone());
        client.session().protect(login).unwrap();
        let script = async move { everything!(client, await) };
        assert_eq!(world.join(server, script), (Ok(Close::Gracefully), ()));
        assert_eq!(store.content("kept").unwrap(), content(5000));
    }
}

#[test]
fn a_client_that_sends_ahead_and_reads_meanwhile_is_answered_in_order() {
    let wire = [
        message(b"write 0 1 - a"),
        body(b"1", 1),
        message(b"rename a\nb"),
        message(b"read 0 * b"),
        message(b"remove b"),
        message(b"stat b"),
        message(b"quit"),
    ]
    .concat();
    for room in [1, 7, 64] {
        let (world, store) = (World::default(), store());
        let (near, far) = pipes(room);
        let reader = End { rx: near.rx.clone(), tx: Rc::default(), room };
        let send = async {
            let mut near = near;
            near.write_all(&wire).await.unwrap();
            near
        };
        let receive = async {
            let (mut reader, mut all) = (reader, Vec::new());
            let mut piece = [0; 5];
            loop {
                match reader.read(&mut piece).await.unwrap() {
                    0 => break all,
                    n => all.extend_from_slice(&piece[..n]),
                }
            }
        };
        let both = async {
            let (mut send, mut receive) = (pin!(send), pin!(receive));
            let mut sent = None;
            poll_fn(|context| {
                if sent.is_none()
                    && let Poll::Ready(end) = send.as_mut().poll(context)
                {
                    sent = Some(end);
                }
                receive.as_mut().poll(context)
            })
            .await
        };
        let (closed, heard) = world.join(server(far, &store, &world), both);
        assert_eq!(closed, Ok(Close::Gracefully));
        let replies = messages(&heard);
        assert_eq!((replies.len(), &replies[0][..], &replies[1][..]), (8, "ok 1 90f599e3", "ok"));
        assert_eq!(replies[3..7], ["1", "", "crc32c 90f599e3", "ok"]);
        assert!(replies[7].starts_with("error not-found "));
    }
}

#[test]
fn a_future_that_is_dropped_in_a_body_keeps_what_came() {
    let (world, store) = (World::default(), store());
    let (near, far) = pipes(7);
    let mut client = client(near, &world);
    let begin = async {
        client.request(&Command::Hello { version: VERSION }).await.unwrap();
        let write = Request::Write { offset: 0, size: 1000, mtime: None, name: name("f") };
        client.send(&Command::Request(write)).await.unwrap();
        client.write(&content(300)).await.unwrap();
    };
    let mut served = Box::pin(server(far, &store, &world));
    let some = poll_fn(|context| {
        assert!(served.as_mut().poll(context).is_pending());
        if store.staged_len("f") == Some((300, true)) { Poll::Ready(()) } else { Poll::Pending }
    });
    world.join(some, begin);
    let settled = store.settled();
    drop(served);
    assert!(store.settled() > settled, "nobody told the store that its stage was dropped");
    assert_eq!(store.staged_len("f"), Some((300, false)));
    assert_eq!(store.content("f"), None);
}

/// Serves a peer that sends `wire` and then neither sends nor reads: returns how it ends, when, and the output.
fn silent(wire: &[u8], room: usize, store: &MemoryStore) -> (Close, u64, Vec<u8>) {
    let world = World::default();
    let (near, far) = pipes(4096);
    let far = End { room, rx: far.rx.clone(), tx: far.tx.clone() };
    near.tx.borrow_mut().bytes.extend(wire);
    let (closed, ()) = world.join(server(far, store, &world), async {});
    let told = near.rx.borrow().bytes.iter().copied().collect();
    (closed.unwrap(), world.millis() / 1000, told)
}

#[test]
fn a_silent_peer_is_closed_when_its_time_is_up() {
    let store = store();
    store.put_file("f", &content(4000));
    // Idle, inside a length, inside a command: without a message.
    for wire in [&b""[..], b"00000", b"0000000004pi"] {
        assert_eq!(silent(wire, 4096, &store), (Close::Gracefully, 60, vec![]));
    }
    // Inside a body: the reply is owed, and the minimum rate applies.
    let (close, seconds, told) = silent(&[message(b"write 0 9 - g"), message(b"1234")].concat(), 4096, &store);
    assert_eq!((close, seconds), (Close::Gracefully, 30));
    assert!(messages(&told)[0].starts_with("error timeout "));
    assert_eq!(store.staged_len("g"), Some((4, false)));
    // The body of a refused write.
    assert_eq!(silent(&message(b"write 0 9 - ../g"), 4096, &store).0, Close::Reset);
}

#[test]
fn a_peer_that_does_not_read_is_reset_when_its_time_is_up() {
    let store = store();
    store.put_file("f", &content(4000));
    for (wire, seconds) in [
        (message(b"read 0 * f"), 30),
        (message(b"list"), 30),
        (message(b"ping"), 60),
        // The last reply of a session that has ended with it.
        (b"GET / HTTP/1.1".to_vec(), 60),
        // A command that waits behind the reply is no work that would stop the clock.
        ([message(b"ping"), message(b"ping")].concat(), 60),
        ([message(b"ping"), message(b"read 0 * f")].concat(), 60),
        ([message(b"ping"), message(b"quit")].concat(), 60),
    ] {
        let (close, after, told) = silent(&wire, 9, &store);
        assert_eq!((close, after, told.len()), (Close::Reset, seconds, 9), "{wire:?}");
    }
}

#[test]
fn a_timer_that_never_fires_is_checked_when_bytes_move() {
    let (world, store) = (World::default(), store());
    let now = Cell::new(1000);
    let (near, mut far) = pipes(64);
    let mut session: ServerSession<BUF> = ServerSession::new(Limits::new(NAME_MAX));
    let (mut store, mut scratch) = (store.clone(), [0; 200]);
    let clock = || Instant::from_millis(now.get());
    let served = serve_async(&mut far, &mut session, &mut store, &mut scratch, clock);
    let late = async {
        let mut near = near;
        let mut piece = [0; 64];
        near.write_all(&message(b"ping")).await.unwrap();
        assert_eq!(near.read(&mut piece).await, Ok(12));
        now.set(62_000);
        near.write_all(&message(b"ping")).await.unwrap();
        near.read(&mut piece).await
    };
    let mut served = pin!(served);
    let mut closed = None;
    let run = poll_fn(|context| served.as_mut().poll(context).map(|result| closed = Some(result)));
    let (_, ()) = {
        let mut late = pin!(late);
        let mut run = pin!(run);
        world.join(
            poll_fn(|context| {
                // The server goes first, so that it waits in `read` when the time passes.
                let ended = run.as_mut().poll(context);
                _ = late.as_mut().poll(context);
                ended
            }),
            async {},
        )
    };
    assert_eq!(closed, Some(Ok(Close::Gracefully)));
}

#[test]
fn a_silent_server_is_given_up() {
    let world = World::default();
    let (near, far) = pipes(64);
    let mut client = client(near, &world);
    let (event, ()) = world.join(async { client.request(&Command::Ping).await.map(|_| ()) }, async {});
    assert_eq!((event, world.millis()), (Err(DriveError::Timeout), 10_000));
    drop(far);
}

#[test]
fn a_file_goes_through_a_sum_while_others_run() {
    let (world, store) = (World::default(), store());
    store.put_file("f", &content(8192));
    let (near, far) = pipes(4096);
    let client = client(near, &world);
    let turns = Cell::new(0);
    let script = async {
        let mut client = client;
        let sum = Request::Sum { offset: 0, length: None, name: name("f") };
        let event = client.request(&Command::Request(sum)).await.unwrap();
        assert!(matches!(event, ClientEvent::Sum { length: 8192, .. }));
        client.send(&Command::Quit).await.unwrap();
    };
    let mut script = pin!(script);
    let counted = poll_fn(|context| {
        turns.set(turns.get() + 1);
        script.as_mut().poll(context)
    });
    world.join(server(far, &store, &world), counted).0.unwrap();
    assert!(turns.get() > 3, "{}", turns.get());
}

#[test]
fn the_futures_are_small() {
    let world = World::default();
    let mut memory = RamMemory::<4, 64, 8, 256>::new();
    let mut store = RamStore::new(&mut memory, 7);
    let (near, mut far) = pipes(64);
    let mut session: ServerSession<BUF> = ServerSession::new(Limits::new(NAME_MAX));
    let mut scratch = [0; 200];
    let size = size_of_val(&serve_async(&mut far, &mut session, &mut store, &mut scratch, world.clone()));
    let mut client = client(near, &world);
    let request = size_of_val(&client.request(&Command::Ping));
    println!("serve_async: {size} bytes, session and scratch not counted; AsyncClient::request: {request} bytes");
    assert!(size <= 800, "{size}");
    assert!(request <= 800, "{request}");
}
