//! Both ends of a serial line in virtual time, with faults.
#![cfg(feature = "serial")]

use core::time::Duration;
use std::collections::VecDeque;

use skiff_proto::Instant;
use skiff_proto::serial::{FRAME_MAX, Link, State};

/// Microseconds that a byte takes at 115,200 baud, rounded up.
const BYTE: u64 = 87;
/// What the device's UART buffers until it is read: the window and a quarter more.
const UART: usize = 640;

type Client = Link<4096, 4096>;
type Server = Link<512, 512>;

struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % below
    }

    fn byte(&mut self) -> u8 {
        self.next(256).to_le_bytes()[0]
    }
}

/// One direction: bytes that were sent and have not arrived.
#[derive(Default)]
struct Way {
    bytes: VecDeque<u8>,
    faults: u64,
}

impl Way {
    fn send(&mut self, frame: &[u8]) {
        self.bytes.extend(frame);
    }

    /// The bytes that arrive in the time of one byte. A fault hits one in `rate` bytes; none if that is 0.
    fn deliver(&mut self, random: &mut Random, rate: u64) -> Vec<u8> {
        let Some(byte) = self.bytes.pop_front() else { return Vec::new() };
        if rate == 0 || random.next(rate) > 0 {
            return vec![byte];
        }
        self.faults += 1;
        match random.next(6) {
            0 => Vec::new(),
            1 => vec![byte ^ (1 << random.next(8))],
            2 => vec![byte, random.byte()],
            3 => vec![byte, byte],
            4 => {
                // A longer loss, such as an overrun.
                let lost = usize::from(random.byte()).min(self.bytes.len());
                self.bytes.drain(..lost);
                Vec::new()
            }
            _ => [&[byte][..], b"\r\n[  12.5] adc: overrun\r\n"].concat(),
        }
    }
}

struct Bench {
    client: Box<Client>,
    server: Box<Server>,
    up: Way,
    down: Way,
    /// Bytes that the device's UART has buffered, and those that it had no room for.
    uart: VecDeque<u8>,
    overrun: u64,
    random: Random,
    rate: u64,
    micros: u64,
    /// Until when the device is busy with its storage.
    busy: u64,
}

impl Bench {
    fn new(seed: u64, rate: u64) -> Self {
        Self {
            client: Box::new(Client::new()),
            server: Box::new(Server::new()),
            up: Way::default(),
            down: Way::default(),
            uart: VecDeque::new(),
            overrun: 0,
            random: Random(seed),
            rate,
            micros: 0,
            busy: 0,
        }
    }

    fn now(&self) -> Instant {
        Instant::from_millis(self.micros / 1000)
    }

    fn open(&mut self, session: u16) {
        self.client.open(session, Duration::from_secs(1), self.now());
        for _ in 0..1_000_000 {
            self.step();
            if self.server.accept() {
                continue;
            }
            if self.client.state() == State::Open {
                return;
            }
        }
        panic!("not opened");
    }

    /// The time of one byte.
    fn step(&mut self) {
        self.micros += BYTE;
        let now = self.now();
        self.uart.extend(self.up.deliver(&mut self.random, self.rate));
        self.overrun += self.uart.len().saturating_sub(UART) as u64;
        self.uart.truncate(UART);
        let back = self.down.deliver(&mut self.random, self.rate);
        self.client.handle_input(&back, now);
        let mut frame = [0; FRAME_MAX];
        if self.client.poll_timeout().is_some_and(|at| now >= at) {
            self.client.handle_timeout(now);
        }
        // The line is busy: a frame is composed when it can be sent.
        if self.up.bytes.is_empty() {
            let n = self.client.poll_transmit(&mut frame);
            self.up.send(&frame[..n]);
        }
        if self.micros < self.busy {
            return;
        }
        let (first, second) = self.uart.as_slices();
        self.server.handle_input(first, Instant::ZERO);
        self.server.handle_input(second, Instant::ZERO);
        self.uart.clear();
        if self.down.bytes.is_empty() {
            let n = self.server.poll_transmit(&mut frame);
            self.down.send(&frame[..n]);
        }
    }

    /// Sends `up` and `down` at the same time, and checks what arrives. From time to time, the device is busy for up to
    /// `pause` microseconds. Returns the duration.
    fn exchange(&mut self, up: &[u8], down: &[u8], pause: u64) -> Duration {
        let (mut sent_up, mut sent_down, mut got_up, mut got_down) = (0, 0, Vec::new(), Vec::new());
        let start = self.micros;
        let mut buffer = [0; 97];
        while got_up.len() < up.len() || got_down.len() < down.len() {
            assert!(self.micros - start < 3_600_000_000, "no progress: {} {}", got_up.len(), got_down.len());
            sent_up += self.client.write(&up[sent_up..]);
            self.client.flush();
            let n = self.client.read(&mut buffer);
            got_down.extend_from_slice(&buffer[..n]);
            if self.micros >= self.busy {
                sent_down += self.server.write(&down[sent_down..]);
                self.server.flush();
                let n = self.server.read(&mut buffer);
                got_up.extend_from_slice(&buffer[..n]);
                if pause > 0 && self.random.next(20_000) == 0 {
                    self.busy = self.micros + self.random.next(pause);
                }
            }
            self.step();
            assert_eq!((self.client.state(), self.server.state()), (State::Open, State::Open));
            assert!(!self.server.is_called());
        }
        assert!(got_up == up && got_down == down, "altered");
        Duration::from_micros(self.micros - start)
    }
}

fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    (0..len).map(|_| if random.next(4) == 0 { 0 } else { random.byte() }).collect()
}

#[test]
fn ten_thousand_faults_alter_nothing_and_end_no_session() {
    let mut faults = 0;
    for (seed, rate) in (1..).zip([100_000, 3000, 1000, 300, 100].into_iter().cycle()) {
        let mut bench = Bench::new(seed, rate);
        bench.open(0x1234);
        bench.exchange(&content(100_000, seed), &content(60_000, seed + 1), 0);
        faults += bench.up.faults + bench.down.faults;
        if faults >= 10_000 {
            return;
        }
    }
}

#[test]
fn a_line_with_one_error_in_100_000_bytes_carries_nine_tenths_of_its_rate() {
    // Percent of the 11,494 bytes that the line carries per second.
    let percent = |bytes: usize, time: Duration| bytes as f64 * BYTE as f64 / time.as_secs_f64() / 1e4;
    for rate in [0, 100_000] {
        let mut bench = Bench::new(7, rate);
        bench.open(1);
        let bytes = content(1_000_000, 1);
        let (up, down) = (bench.exchange(&bytes, b"", 0), bench.exchange(b"", &bytes, 0));
        let (up, down) = (percent(bytes.len(), up), percent(bytes.len(), down));
        println!("1 error in {rate} bytes: {up:.1} % to the device, {down:.1} % from it");
        assert!(up > 90.0 && down > 90.0);
    }
}

#[test]
fn a_device_that_is_busy_for_seconds_loses_nothing() {
    let mut bench = Bench::new(3, 0);
    bench.open(1);
    bench.exchange(&content(200_000, 1), &content(100_000, 2), 3_000_000);
    assert_eq!(bench.overrun, 0, "bytes that the UART had no room for");
}

#[test]
fn a_session_begins_again_with_a_new_open_frame_and_ends_with_a_close_frame() {
    let mut bench = Bench::new(1, 0);
    bench.open(1);
    bench.client.write(b"lost");
    bench.client.flush();
    bench.step();
    // A new client: the session of the first one is dropped, with what it had sent.
    *bench.client = Client::new();
    bench.client.open(2, Duration::from_secs(1), bench.now());
    while !bench.server.is_called() {
        assert_eq!(bench.server.state(), State::Open);
        bench.step();
    }
    bench.open(3);
    bench.exchange(b"up", b"down", 0);
    // The device sends the end after everything that it has written.
    bench.server.write(b"bye");
    bench.server.end();
    while bench.client.state() == State::Open {
        bench.step();
    }
    let mut buffer = [0; 8];
    assert_eq!((bench.client.state(), bench.client.read(&mut buffer)), (State::Ended, 3));
    assert_eq!(bench.server.state(), State::Closed);
    bench.open(4);
    bench.client.end();
    while bench.server.state() == State::Open {
        bench.step();
    }
    assert_eq!((bench.client.state(), bench.server.state()), (State::Closed, State::Ended));
}

#[test]
fn a_device_that_restarts_ends_the_session_as_soon_as_the_client_asks() {
    let mut bench = Bench::new(1, 0);
    bench.open(1);
    bench.exchange(b"up", b"down", 0);
    *bench.server = Server::new();
    let start = bench.micros;
    while bench.client.state() == State::Open {
        bench.step();
    }
    assert!(bench.client.state() == State::Ended && bench.micros - start < 1_100_000);
}

/// Not from the other end of a session.
#[test]
fn any_bytes_are_harmless() {
    let mut random = Random(5);
    for round in 0..300 {
        let mut bench = Bench::new(round, 0);
        if round % 2 == 0 {
            bench.open(7);
        }
        for _ in 0..200 {
            let bytes: Vec<u8> = (0..random.next(300)).map(|_| random.byte() & random.byte()).collect();
            bench.client.handle_input(&bytes, bench.now());
            bench.server.handle_input(&bytes, Instant::ZERO);
            bench.step();
        }
        assert!(!bench.client.can_read() && !bench.server.can_read());
    }
}

#[test]
fn the_state_is_small() {
    println!("{} bytes beside its two buffers", size_of::<Link<512, 512>>() - 1024);
    assert!(size_of::<Link<512, 512>>() <= 1024 + 128);
}

/// The vector of PROTOCOL §9: both ends send exactly these frames.
#[test]
fn both_ends_follow_the_vector() {
    let text = include_str!("../../docs/vectors/serial/session.txt");
    let (mut client, mut server) = (Client::new(), Server::new());
    let (mut out, mut buffer) = ([0; FRAME_MAX], [0; 64]);
    client.open(4660, Duration::from_secs(1), Instant::ZERO);
    let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).peekable();
    while let Some(line) = lines.next() {
        println!("{line}");
        if line == "S restart" {
            server = Server::new();
            continue;
        }
        let (from, rest) = line.split_at(2);
        let mut wire = hex(rest);
        if !from.starts_with('~') {
            let (kind, payload) = rest.split_once(" \"").unwrap();
            let payload = payload.strip_suffix('"').unwrap().replace("\\x00", "\0");
            let n = if from == "C " {
                // Unacknowledged bytes are sent again.
                if kind.starts_with('D') && client.unacknowledged() == 0 {
                    client.write(payload.as_bytes());
                    client.flush();
                }
                client.poll_transmit(&mut out)
            } else {
                if kind.starts_with('D') {
                    server.write(payload.as_bytes());
                    server.flush();
                }
                server.poll_transmit(&mut out)
            };
            assert_eq!(fields(&out[..n]), (kind.to_owned(), payload.into_bytes()));
            wire = out[..n].to_vec();
            assert_eq!(lines.next(), Some(format!("= {}", shown(&wire)).as_str()));
            if let Some(altered) =
                lines.next_if(|line| line.strip_prefix('~').is_some_and(|line| line.starts_with(from)))
            {
                wire = hex(&altered[2..]);
            }
        }
        if from.contains('C') {
            server.handle_input(&wire, Instant::ZERO);
            server.accept();
            server.read(&mut buffer);
        } else {
            client.handle_input(&wire, Instant::ZERO);
            client.read(&mut buffer);
        }
    }
    assert_eq!(client.state(), State::Ended);
}

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map_while(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}

fn shown(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// The fields and the payload of a frame, according to PROTOCOL §9, without the code under test.
fn fields(frame: &[u8]) -> (String, Vec<u8>) {
    let [0, cobs @ .., 0] = frame else { panic!("no delimiters: {frame:?}") };
    let (mut decoded, mut rest) = (Vec::new(), cobs);
    while let [code, tail @ ..] = rest {
        let (part, tail) = tail.split_at(usize::from(*code) - 1);
        decoded.extend_from_slice(part);
        decoded.push(0);
        rest = tail;
    }
    decoded.pop();
    let (check, body) = decoded.split_at(4);
    assert_eq!(check, skiff_proto::crc::crc32c(body).to_be_bytes());
    let numbers: Vec<String> = body[1..9].chunks(2).map(|n| u16::from_be_bytes([n[0], n[1]]).to_string()).collect();
    (format!("{} {}", char::from(body[0]), numbers.join(" ")), body[9..].to_vec())
}
