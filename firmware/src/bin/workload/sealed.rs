//! The same things over a protected connection, and the handshake by itself.

use core::convert::Infallible;
use core::time::Duration;

use embedded_io::{Read as _, Write as _};
use skiff_device::server::{Entropy, Nonces, Protection};
use skiff_firmware::files::NAME;
use skiff_proto::client::{ClientEvent, ClientSession};
use skiff_proto::command::{Command, Request, VERSION, command_len};
use skiff_proto::secure::{self, KeyId, Login, Noise, Secret, Security};
use skiff_proto::server::{Limits, ServerSession};
use skiff_proto::{Instant, Name};
use static_cell::StaticCell;

use crate::{Both, SIZE, Server, Ticks, Wrong, each, expect, kib, ticks};

/// As good as any, for counting.
struct Fixed;

impl Entropy for Fixed {
    fn next(&mut self) -> Option<[u8; 32]> {
        Some([1; 32])
    }
}

fn secret() -> Secret {
    Secret::new([7; 32])
}

/// Has the server admit clients with a key alone.
fn protect(server: &mut Server<'static, skiff_firmware::files::Files>) -> Result<(), Wrong> {
    static ENTROPY: StaticCell<Fixed> = StaticCell::new();
    let nonces = Nonces::Counted { start: 1 };
    let protection = Protection { secret: secret(), min_generation: 1, nonces, entropy: ENTROPY.init(Fixed) };
    server.protect(protection).map_err(|_| Wrong::Config)
}

type Session = ClientSession<400, 1, Noise>;

/// A client with a key.
fn session() -> Result<Session, Wrong> {
    let key = secret().key(KeyId::parse(b"rw.alice.1").ok_or(Wrong::Config)?);
    let mut session = Session::new(Duration::from_secs(60));
    session.protect(Login { key, ephemeral: [2; 32] }.start()).map_err(|_| Wrong::Config)?;
    Ok(session)
}

/// The client's end of a protected connection.
struct Peer {
    session: Session,
    stream: &'static mut Both,
    input: [u8; 1100],
    filled: usize,
}

impl Peer {
    fn transmit(&mut self) -> Result<(), Wrong> {
        let mut room = [0; 600];
        loop {
            let n = self.session.poll_transmit(&mut room);
            if n == 0 {
                return Ok(());
            }
            self.stream.write_all(&room[..n]).map_err(|_: Infallible| Wrong::Drive)?;
        }
    }

    /// Waits for the next event; `body` is called with payload.
    fn event<T>(&mut self, mut body: impl FnMut(&[u8]), is: impl FnOnce(ClientEvent<'_>) -> T) -> Result<T, Wrong> {
        self.transmit()?;
        loop {
            match self.session.poll_event().map_err(|_| Wrong::Drive)? {
                // The handshake's event comes later.
                Some(event) => return Ok(is(event)),
                None => self.transmit()?,
            }
            let received = self.session.receive(&mut self.input[..self.filled]).map_err(|_| Wrong::Drive)?;
            body(received.payload);
            let taken = received.taken;
            self.input.copy_within(taken..self.filled, 0);
            self.filled -= taken;
            if taken == 0 {
                self.filled +=
                    self.stream.read(&mut self.input[self.filled..]).map_err(|_: Infallible| Wrong::Drive)?;
            }
        }
    }

    fn ask(&mut self, command: &Command<'_>, is: impl FnOnce(ClientEvent<'_>) -> bool) -> Result<(), Wrong> {
        self.session.request(command).map_err(|_| Wrong::Drive)?;
        expect(self.event(|_| (), is)?)
    }

    fn put(&mut self, name: Name<'_>, content: &[u8]) -> Result<(), Wrong> {
        let write = Request::Write { offset: 0, size: content.len() as u64, mtime: None, name };
        self.session.request(&Command::Request(write)).map_err(|_| Wrong::Drive)?;
        self.transmit()?;
        let mut rest = content;
        while !rest.is_empty() {
            let mut room = [0; 1024];
            let fill = |room: &mut [u8]| {
                let n = room.len().min(rest.len());
                room[..n].copy_from_slice(&rest[..n]);
                rest = &rest[n..];
                Ok::<_, ()>(n)
            };
            let n = self.session.send(&mut room, fill).map_err(|_| Wrong::Drive)?;
            self.stream.write_all(&room[..n]).map_err(|_: Infallible| Wrong::Drive)?;
        }
        self.session.finish().map_err(|_| Wrong::Drive)?;
        expect(self.event(|_| (), |event| matches!(event, ClientEvent::Stored { .. }))?)
    }

    fn get(&mut self, name: Name<'_>, content: &[u8]) -> Result<(), Wrong> {
        let read = Request::Read { offset: 0, length: None, name };
        self.ask(&Command::Request(read), |event| matches!(event, ClientEvent::Read { .. }))?;
        let (mut at, mut same) = (0, true);
        let compare = |bytes: &[u8]| {
            same &= content.get(at..at + bytes.len()) == Some(bytes);
            at += bytes.len();
        };
        let whole = self.event(compare, |event| matches!(event, ClientEvent::BodyEnd(Ok(Some(_)))))?;
        expect(whole && same && at == content.len())
    }
}

pub(crate) fn work(stream: &'static mut Both, content: &mut [u8; SIZE]) -> Result<Ticks, Wrong> {
    let (handshake, stranger) = (handshake(false)?, handshake(true)?);
    protect(&mut stream.server)?;
    let served = stream.served;
    let mut peer = Peer { session: session()?, stream, input: [0; 1100], filled: 0 };
    peer.ask(&Command::Hello { version: VERSION }, |event| matches!(event, ClientEvent::Hello(Some(_))))?;
    let name = Name::parse(b"measurements.csv", NAME).map_err(|_| Wrong::Answer)?;
    content.iter_mut().zip(0_u32..).for_each(|(byte, x)| *byte = x.to_le_bytes()[0]);
    let ping = each(served, || peer.ask(&Command::Ping, |event| matches!(event, ClientEvent::Done)))?;
    let write = each(served, || peer.put(name, &[]))?;
    let read = each(served, || peer.get(name, &[]))?;
    let whole = [each(served, || peer.put(name, content))?, each(served, || peer.get(name, content))?];
    let (put, get) = (kib(whole[0], write), kib(whole[1], read));
    let things = ["ping", "write", "read", "put", "get", "handshake", "stranger"];
    let figures = [ping, write, read, put, get, handshake, stranger];
    let server = core::array::from_fn(|at| (things[at], figures[at]));
    Ok(Ticks { all: ticks(), server })
}

/// What `secure` costs a session alone, from the command to its reply. `wrong`: a bit of the tag is another one.
#[inline(never)]
fn handshake(wrong: bool) -> Result<u64, Wrong> {
    let security = Security {
        nonce: secret().nonce(1, 1),
        secret: secret(),
        min_generation: 1,
        entropy: secure::Entropy::Pool([1; 32]),
        record_max: 1014,
        accepted: Instant::ZERO,
    };
    let mut server: ServerSession<{ command_len(NAME) }, Noise> = ServerSession::new(Limits::new(64));
    server.protect(security.guard().map_err(|_| Wrong::Config)?).map_err(|_| Wrong::Config)?;
    let mut client = session()?;
    client.request(&Command::Hello { version: VERSION }).map_err(|_| Wrong::Drive)?;
    let mut wire = [0; 400];
    for is_secure in [false, true] {
        let n = client.poll_transmit(&mut wire);
        if is_secure && wrong {
            wire[n - 1] = if wire[n - 1] == b'0' { b'1' } else { b'0' };
        }
        let before = ticks();
        expect(server.receive(&mut wire[..n]).is_ok_and(|received| received.taken == n))?;
        let n = server.poll_transmit(&mut wire);
        let took = ticks() - before;
        if is_secure {
            expect(wire[10..].starts_with(if wrong { "error denied" } else { "ok " }.as_bytes()))?;
            return Ok(took);
        }
        expect(client.receive(&mut wire[..n]).is_ok_and(|received| received.taken == n))?;
        _ = client.poll_event().map_err(|_| Wrong::Drive)?;
    }
    Err(Wrong::Answer)
}
