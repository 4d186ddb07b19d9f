//! The async drives over a serial line (PROTOCOL §9) that loses and alters bytes.

use core::cell::Cell;
use core::convert::Infallible;
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;

use embedded_io_async::{ErrorType, Read, Write};
use skiff_proto::drive::{AsyncClient, Timer as _, serve_async};
use skiff_proto::responder::list_room;
use skiff_proto::serial::{FRAME_MAX, Link, SerialError, Server, State};
use skiff_proto::server::{Close, Limits, ServerSession};

use crate::drive_support::{BUF, NAME_MAX, content, everything, store};
use crate::{End, World, pipes};

/// One in this many bytes is altered, each way.
const FAULT: usize = 401;

/// The client's end of a line, which keeps time.
struct Line<'a> {
    port: End,
    link: Box<Link<4096, 4096>>,
    world: World,
    moved: usize,
    faults: &'a Cell<usize>,
}

impl Line<'_> {
    /// Opens a session.
    async fn open(&mut self) {
        let now = self.world.now();
        self.link.open(0x1234, Duration::from_secs(1), now);
        while self.link.state() != State::Open {
            self.turn().await;
        }
    }

    /// Alters some of the bytes that are on the line.
    fn disturb(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.moved += 1;
            if self.moved.is_multiple_of(FAULT) {
                *byte ^= 0x10;
                self.faults.set(self.faults.get() + 1);
            }
        }
    }

    async fn transmit(&mut self) {
        let mut frame = [0; FRAME_MAX];
        loop {
            let n = self.link.poll_transmit(&mut frame);
            if n == 0 {
                return;
            }
            self.disturb(&mut frame[..n]);
            // An error is the end of the line, which `turn` sees too.
            _ = self.port.write_all(&frame[..n]).await;
        }
    }

    /// Sends what can be sent, and waits for bytes or for the time; false at the end of the line.
    async fn turn(&mut self) -> bool {
        self.transmit().await;
        let mut piece = [0; 64];
        let due = self.link.poll_timeout();
        let mut world = self.world.clone();
        let read = {
            let mut read = pin!(self.port.read(&mut piece));
            let mut alarm = pin!(async {
                match due {
                    Some(due) => world.wait_until(due).await,
                    None => core::future::pending().await,
                }
            });
            poll_fn(|context| match read.as_mut().poll(context) {
                Poll::Ready(read) => Poll::Ready(Some(read.unwrap())),
                Poll::Pending => alarm.as_mut().poll(context).map(|()| None),
            })
            .await
        };
        let now = self.world.now();
        match read {
            Some(n) => {
                self.disturb(&mut piece[..n]);
                self.link.handle_input(&piece[..n], now);
            }
            None => self.link.handle_timeout(now),
        }
        self.transmit().await;
        read != Some(0)
    }
}

impl ErrorType for Line<'_> {
    type Error = Infallible;
}

impl Read for Line<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        loop {
            let n = self.link.read(buffer);
            self.transmit().await;
            if n > 0 || self.link.state() != State::Open || !self.turn().await {
                return Ok(n);
            }
        }
    }
}

impl Write for Line<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        loop {
            let n = self.link.write(bytes);
            self.transmit().await;
            if n > 0 || self.link.state() != State::Open || !self.turn().await {
                return Ok(n);
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        self.link.flush();
        self.transmit().await;
        Ok(())
    }
}

#[test]
fn a_client_does_everything_over_a_serial_line_with_faults() {
    let (world, store, faults) = (World::default(), store(), Cell::new(0));
    let (near, far) = pipes(4096);
    let serving = async {
        let mut line: Server<_, 512, 512> = Server::new(far);
        line.accept_async().await.unwrap();
        let mut session: ServerSession<BUF> = ServerSession::new(Limits::new(NAME_MAX));
        let mut scratch = [0; list_room(NAME_MAX)];
        let closed = serve_async(&mut line, &mut session, &mut store.clone(), &mut scratch, world.clone()).await;
        line.close(Close::Gracefully);
        // The next client does not come.
        (closed.unwrap(), line.accept_async().await)
    };
    let script = async {
        let link = Box::new(Link::new());
        let mut line = Line { port: near, link, world: world.clone(), moved: 0, faults: &faults };
        line.open().await;
        let mut client: AsyncClient<_, _, 300> = AsyncClient::new(line, Duration::from_secs(60), world.clone());
        everything!(client, await);
    };
    let (served, ()) = world.join(serving, script);
    assert_eq!(served, (Close::Gracefully, Err(SerialError::Closed)));
    assert_eq!(store.content("kept").unwrap(), content(5000));
    assert!(faults.get() > 20, "{} faults", faults.get());
}
