//! The cases: each is one step of the protocol core.

use core::convert::Infallible;
use core::hint::black_box;
use core::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use skiff_proto::client::{ClientEvent, ClientSession};
use skiff_proto::command::{Command, Request, VERSION, command_len};
use skiff_proto::crc::crc32c;
use skiff_proto::message::HEADER_LEN;
use skiff_proto::name::{MAX_NAME, Name};
use skiff_proto::reply::Tag;
use skiff_proto::server::{Answer, Limits, ServerEvent, ServerSession};
use skiff_proto::store::Stat;
use skiff_proto::{Instant, InvalidState};

type Server = ServerSession<{ command_len(MAX_NAME) }>;
type Client = ClientSession<1024, 16>;

/// A case.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    run: fn(u64) -> Result<()>,
}

/// All of them.
pub(super) const ALL: &[Case] = &[
    Case { name: "crc-64b", what: "CRC-32C of 64 bytes", run: |turns| crc(turns, 64) },
    Case { name: "crc-1k", what: "CRC-32C of 1 KiB", run: |turns| crc(turns, 1024) },
    Case { name: "crc-64k", what: "CRC-32C of 64 KiB", run: |turns| crc(turns, 64 << 10) },
    Case { name: "name", what: "checking a name of 25 bytes", run: name },
    Case { name: "server-ping", what: "server: a ping and its reply", run: ping },
    Case { name: "server-stat", what: "server: a stat and its reply", run: stat },
    Case { name: "server-read", what: "server: a read of 1 KiB, all of it", run: |turns| read(turns, 1024) },
    Case { name: "server-write", what: "server: a write of 1 KiB, all of it", run: |turns| write(turns, 1024) },
    Case { name: "client-read", what: "client: a read of 1 KiB, all of it", run: |turns| client_read(turns, 1024) },
    Case { name: "client-write", what: "client: a write of 1 KiB, all of it", run: |turns| client_write(turns, 1024) },
];

/// Runs a case.
pub(super) fn run(name: &str, turns: u64) -> Result<()> {
    let case = ALL.iter().find(|case| case.name == name).with_context(|| format!("no case {name}"))?;
    (case.run)(turns)
}

const NAME: &str = "logs/2026-11-24/boot.text";

fn misused(_: InvalidState) -> anyhow::Error {
    anyhow!("unexpected event from the session")
}

fn crc(turns: u64, len: usize) -> Result<()> {
    let bytes = vec![0x5a; len];
    for _ in 0..turns {
        black_box(crc32c(black_box(&bytes)));
    }
    Ok(())
}

fn name(turns: u64) -> Result<()> {
    for _ in 0..turns {
        black_box(Name::parse(black_box(NAME.as_bytes()), MAX_NAME)?);
    }
    Ok(())
}

fn message(payload: &[u8]) -> Vec<u8> {
    [format!("{:010}", payload.len()).as_bytes(), payload].concat()
}

/// A server session and the memory for its output.
struct Serving {
    session: Server,
    out: [u8; 1024],
    now: u64,
}

impl Serving {
    fn new() -> Self {
        Self { session: Server::new(Limits::new(255)), out: [0; 1024], now: 1 }
    }

    /// The start of each iteration of a driver's loop.
    fn tick(&mut self) {
        self.now += 1;
        self.session.handle_timeout(Instant::from_millis(self.now));
    }

    /// Passes in framing and payload.
    fn take(&mut self, input: &mut [u8]) -> Result<()> {
        let len = input.len();
        let received = self.session.receive(black_box(input))?;
        ensure!(received.taken == len, "{} of {len} bytes", received.taken);
        Ok(())
    }

    fn flush(&mut self) {
        black_box(self.session.poll_transmit(&mut self.out));
    }
}

fn ping(turns: u64) -> Result<()> {
    let mut serving = Serving::new();
    let mut input = message(b"ping");
    for _ in 0..turns {
        serving.tick();
        serving.take(&mut input)?;
        serving.flush();
    }
    Ok(())
}

fn stat(turns: u64) -> Result<()> {
    let mut serving = Serving::new();
    let mut input = message(format!("stat {NAME}").as_bytes());
    for _ in 0..turns {
        serving.tick();
        serving.take(&mut input)?;
        ensure!(matches!(serving.session.poll_event(), Some(ServerEvent::Request(Request::Stat { .. }))), "no stat");
        let stat = Stat { size: 1024, mtime: Some(1_795_342_083), crc: Some(0xe306_9283) };
        serving.session.answer(Answer::Stat(stat)).map_err(misused)?;
        serving.flush();
    }
    Ok(())
}

fn read(turns: u64, len: usize) -> Result<()> {
    let mut serving = Serving::new();
    let mut input = message(format!("read 0 * {NAME}").as_bytes());
    let mut room = vec![0x5a; HEADER_LEN + len];
    for _ in 0..turns {
        serving.tick();
        serving.take(&mut input)?;
        let session = &mut serving.session;
        ensure!(matches!(session.poll_event(), Some(ServerEvent::Request(Request::Read { .. }))), "no read");
        let answer = Answer::Read { length: len as u64, size: len as u64, tag: Tag::from_number(7) };
        session.answer(answer).map_err(misused)?;
        serving.flush();
        let sent = serving.session.send(black_box(&mut room), |room| Ok::<_, Infallible>(room.len()));
        ensure!(sent == Ok(room.len()), "{sent:?}");
        serving.session.finish().map_err(misused)?;
        serving.flush();
    }
    Ok(())
}

fn write(turns: u64, len: usize) -> Result<()> {
    let mut serving = Serving::new();
    let mut bytes = vec![0x5a; len];
    let crc = crc32c(&bytes);
    let mut command = message(format!("write 0 {len} 1795342083 {NAME}").as_bytes());
    let mut length = format!("{len:010}").into_bytes();
    let mut end = [&b"0000000000"[..], &message(format!("crc32c {crc:08x}").as_bytes())].concat();
    for _ in 0..turns {
        serving.tick();
        serving.take(&mut command)?;
        let session = &mut serving.session;
        ensure!(matches!(session.poll_event(), Some(ServerEvent::Request(Request::Write { .. }))), "no write");
        session.answer(Answer::Write { crc: 0 }).map_err(misused)?;
        serving.take(&mut length)?;
        serving.take(&mut bytes)?;
        serving.take(&mut end)?;
        let session = &mut serving.session;
        let Some(ServerEvent::Commit { size, crc }) = session.poll_event() else { anyhow::bail!("no commit") };
        session.answer(Answer::Stored { size, crc }).map_err(misused)?;
        serving.flush();
    }
    Ok(())
}

/// A client session that knows its server.
fn client() -> Result<Client> {
    let mut session = Client::new(Duration::MAX);
    session.request(&Command::Hello { version: VERSION }).map_err(misused)?;
    session.poll_transmit(&mut [0; 64]);
    let hello = b"skiff/1 server=x/1 commands=list,stat,read,write name-max=255 idle=60";
    session.receive(&mut message(hello))?;
    ensure!(matches!(session.poll_event()?, Some(ClientEvent::Hello(Some(_)))), "no hello");
    Ok(session)
}

fn client_read(turns: u64, len: usize) -> Result<()> {
    let mut session = client()?;
    let mut out = [0; 1024];
    let mut bytes = vec![0x5a; len];
    let crc = crc32c(&bytes);
    let mut reply = message(format!("ok {len} {len} 5z").as_bytes());
    let mut length = format!("{len:010}").into_bytes();
    let mut end = [&b"0000000000"[..], &message(format!("crc32c {crc:08x}").as_bytes())].concat();
    for _ in 0..turns {
        let name = Name::parse(NAME.as_bytes(), MAX_NAME)?;
        let read = Request::Read { offset: 0, length: None, name };
        session.request(&Command::Request(read)).map_err(misused)?;
        black_box(session.poll_transmit(&mut out));
        session.receive(black_box(&mut reply))?;
        ensure!(matches!(session.poll_event()?, Some(ClientEvent::Read { .. })), "no reply");
        session.receive(black_box(&mut length))?;
        session.receive(black_box(&mut bytes))?;
        session.receive(black_box(&mut end))?;
        ensure!(matches!(session.poll_event()?, Some(ClientEvent::BodyEnd(Ok(Some(_))))), "no end");
    }
    Ok(())
}

fn client_write(turns: u64, len: usize) -> Result<()> {
    let mut session = client()?;
    let mut out = [0; 1024];
    let mut room = vec![0x5a; HEADER_LEN + len];
    let mut reply = message(format!("ok {len} {:08x}", crc32c(&room[HEADER_LEN..])).as_bytes());
    for _ in 0..turns {
        let name = Name::parse(NAME.as_bytes(), MAX_NAME)?;
        let write = Request::Write { offset: 0, size: len as u64, mtime: Some(1_795_342_083), name };
        session.request(&Command::Request(write)).map_err(misused)?;
        black_box(session.poll_transmit(&mut out));
        session.set_data_max(u32::MAX);
        let sent = session.send(black_box(&mut room), |room| Ok::<_, Infallible>(room.len()));
        ensure!(sent == Ok(room.len()), "{sent:?}");
        session.finish().map_err(misused)?;
        black_box(session.poll_transmit(&mut out));
        session.receive(black_box(&mut reply))?;
        ensure!(matches!(session.poll_event()?, Some(ClientEvent::Stored { .. })), "not stored");
    }
    Ok(())
}
