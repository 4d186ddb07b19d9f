//! Slow clients: hundreds of connections that send or read a byte every few seconds, in every state of a connection,
//! while an ordinary client measures the remaining service.

use core::fmt;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use super::content::version;
use super::crowd::settled;
use super::{descriptors, hear_text, in_memory, resident, say, within};
use crate::programs::Serv;
use crate::wire::{Wire, connect};

/// Bytes of the file that is read.
const LARGE: usize = 32_000_000;
/// Bytes of the file that is written.
const WRITTEN: usize = 8_000_000;

/// The parameters.
#[derive(Debug, Clone, Copy)]
pub struct Slow {
    /// Slow connections.
    pub clients: usize,
    /// Each moves a byte this often.
    pub every: Duration,
    /// How long to measure: alone, with the slow clients, alone again.
    pub measure: Duration,
}

/// The counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Slowed {
    /// Slow connections at the same time.
    pub clients: usize,
    /// How many the server disconnected; they reconnected.
    pub cut_off: u64,
    /// The ordinary client's rate in megabytes (10^6 bytes) per second: alone, with the slow ones, alone again.
    pub rates: [f64; 3],
    /// The server's descriptors before, during and after.
    pub descriptors: [usize; 3],
    /// Its memory in KiB likewise.
    pub memory: [u64; 3],
}

impl Slowed {
    /// The remaining fraction of the ordinary client's rate.
    #[must_use]
    pub const fn left(&self) -> f64 {
        2.0 * self.rates[1] / (self.rates[0] + self.rates[2])
    }
}

impl fmt::Display for Slowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, cut_off, rates: [r0, r1, r2], descriptors: d, memory: m } = self;
        write!(
            f,
            "{clients} slow connections ({cut_off} disconnected and reopened); an ordinary client moves {r0:.0} MB/s before, \
             {r1:.0} beside them, {r2:.0} after: {:.0}%; descriptors {} -> {} -> {}, memory {} -> {} -> {} KiB",
            100.0 * self.left(),
            d[0],
            d[1],
            d[2],
            m[0],
            m[1],
            m[2]
        )
    }
}

impl Slow {
    /// Runs it. The caller decides whether enough is left for the ordinary client, because other work on the machine
    /// makes the rate vary.
    ///
    /// # Panics
    /// If the ordinary client is not served, or descriptors stay open.
    #[must_use]
    pub fn run(&self) -> Slowed {
        let root = in_memory();
        fs::write(root.path().join("large"), version(1, LARGE)).expect("write");
        let most = (self.clients + 2).to_string();
        let serv = Serv::start(root.path(), &["--max-clients", &most, "--reserve", "0"]);
        let pid = serv.running.pid();
        let mut done = Slowed { clients: self.clients, ..Slowed::default() };
        // What a first client leaves, and a warm page cache.
        _ = rate(&serv, Duration::from_millis(100));
        (done.descriptors[0], done.memory[0]) = settled(pid);
        done.rates[0] = rate(&serv, self.measure);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let mut held: Vec<_> = (0..self.clients).map(|number| Held::new(serv.addr(), number)).collect();
            let (every, over) = (self.every, &over);
            let slowly = scope.spawn(move || hold(&mut held, every, over));
            done.rates[1] = rate(&serv, self.measure);
            (done.descriptors[1], done.memory[1]) = (descriptors(pid), resident(pid));
            over.store(true, Ordering::Relaxed);
            done.cut_off = slowly.join().expect("the slow ones");
        });
        assert!(done.descriptors[1] >= done.descriptors[0] + self.clients / 2, "{done}");
        let back = within(Duration::from_secs(60), || descriptors(pid) <= done.descriptors[0]);
        done.rates[2] = rate(&serv, self.measure);
        let (open, memory) = settled(pid);
        (done.descriptors[2], done.memory[2]) = (open, memory);
        assert!(back, "descriptors stay open: {done}");
        assert_eq!(serv.stop().code, Some(0));
        done
    }
}

/// The rate of an ordinary client, in alternating directions, in megabytes per second.
fn rate(serv: &Serv, time: Duration) -> f64 {
    let content = version(2, WRITTEN);
    let mut wire = serv.connect();
    let (start, mut moved) = (Instant::now(), 0);
    while moved == 0 || start.elapsed() < time {
        wire.say("read 0 * large");
        assert!(wire.hear_text().starts_with(&format!("ok {LARGE} ")));
        // Not kept: what is measured is the server.
        let mut piece = vec![0; 256 * 1024];
        loop {
            let length: usize = String::from_utf8(wire.hear_bytes(10)).expect("digits").parse().expect("a length");
            let mut left = length;
            while left > 0 {
                let want = left.min(piece.len());
                let n = wire.stream.read(&mut piece[..want]).expect("receive");
                assert!(n > 0, "the end in a body");
                left -= n;
            }
            if length == 0 {
                break;
            }
        }
        assert!(wire.hear_text().starts_with("crc32c "));
        let reply = wire.write("written", &content);
        assert!(reply.starts_with(&format!("ok {WRITTEN} ")), "{reply}");
        moved += LARGE + WRITTEN;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate in three digits")]
    let megabytes = moved as f64 / 1e6;
    megabytes / start.elapsed().as_secs_f64()
}

/// The state in which a connection is held.
#[derive(Debug, Clone, Copy)]
enum Where {
    /// In the length of a command.
    Length,
    /// In a command.
    Command,
    /// In the body of a `write`.
    WriteBody,
    /// In the body of a `read`, which it reads byte by byte.
    ReadBody,
    /// In a classic `put`.
    PutData,
    /// In a classic `get`.
    GetData,
}

const WHERE: [Where; 6] =
    [Where::Length, Where::Command, Where::WriteBody, Where::ReadBody, Where::PutData, Where::GetData];

/// A connection that is held.
struct Held {
    addr: SocketAddr,
    number: usize,
    at: Where,
    control: TcpStream,
    data: Option<TcpStream>,
    sent: usize,
}

impl Held {
    fn new(addr: SocketAddr, number: usize) -> Self {
        let at = WHERE[number % WHERE.len()];
        let (control, data) = Self::begin(addr, number, at).expect("a connection");
        Self { addr, number, at, control, data, sent: 0 }
    }

    /// Connects and proceeds to the state in which it is held.
    fn begin(addr: SocketAddr, number: usize, at: Where) -> io::Result<(TcpStream, Option<TcpStream>)> {
        let mut control = connect(addr);
        let mut data = None;
        match at {
            Where::Length => {}
            Where::Command => control.write_all(b"0000000200stat ")?,
            Where::WriteBody => {
                say(&control, format!("write 0 1000000 - slow-{number}"))?;
                control.write_all(b"0001000000")?;
            }
            Where::ReadBody => say(&control, "read 0 * large")?,
            Where::PutData | Where::GetData => {
                let put = matches!(at, Where::PutData);
                say(&control, if put { format!("put slow-{number}") } else { "get large".into() })?;
                let port = hear_text(&control)?.parse().map_err(|_| ErrorKind::InvalidData)?;
                let mut stream =
                    Wire::try_connect(SocketAddr::new(addr.ip(), port)).ok_or(ErrorKind::NotConnected)?.stream;
                if put {
                    stream.write_all(b"0001000000")?;
                }
                stream.set_nonblocking(true)?;
                data = Some(stream);
            }
        }
        control.set_nonblocking(true)?;
        Ok((control, data))
    }

    /// Moves a byte.
    fn step(&mut self) -> io::Result<()> {
        let mut stream = self.data.as_ref().unwrap_or(&self.control);
        match self.at {
            Where::ReadBody | Where::GetData => match stream.read(&mut [0]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                _ => {}
            },
            _ => {
                // A length that comes slowly is one all the same: a message like others.
                let byte = if matches!(self.at, Where::Length) { b"0000000004ping"[self.sent % 14] } else { b'x' };
                stream.write_all(&[byte])?;
                // Whoever was closed hears of it here; `ok` comes from time to time.
                match stream.read(&mut [0; 64]) {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                    _ => {}
                }
            }
        }
        self.sent += 1;
        Ok(())
    }
}

/// Transfers a byte on each connection at intervals, until it is `over`; returns how many had to be reopened.
fn hold(held: &mut [Held], every: Duration, over: &AtomicBool) -> u64 {
    let mut cut_off = 0;
    while !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        for held in &mut *held {
            if held.step().is_err() {
                cut_off += 1;
                // Where it can't come again at once, it does in the next round.
                if let Ok((control, data)) = Held::begin(held.addr, held.number, held.at) {
                    (held.control, held.data, held.sent) = (control, data, 0);
                }
            }
        }
        // Slow on purpose.
        while start.elapsed() < every && !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    cut_off
}
