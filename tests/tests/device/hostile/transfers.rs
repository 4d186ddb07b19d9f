//! Classic transfers.

use core::time::Duration;

use skiff_proto::Instant;
use skiff_proto::crc::crc32c;
use skiff_tests::sans_io::message;
use smoltcp::wire::TcpControl;

use super::{PORT, Peer, STATION, Station, fixed};

/// A classic download by a client that reads slowly.
struct Download {
    station: Station,
    data: Peer,
    /// All clients with a session: the first is the one that downloads.
    clients: Vec<Peer>,
    begin: Instant,
    taken: usize,
}

impl Download {
    /// Of a file of `size` bytes; one of 2,000 fits in the socket buffer.
    fn begin(size: usize) -> Self {
        let mut station = fixed();
        let mut control = station.connect(40_001);
        let content = vec![b'x'; size];
        let crc = message(format!("crc32c {:08x}", crc32c(&content)));
        let body = [message(format!("write 0 {size} - f")), message(content), message(""), crc].concat();
        for piece in body.chunks(1400) {
            station.say(&control, TcpControl::Psh, piece);
            control.seq += piece.len();
        }
        let heard = station.heard();
        let stored = heard.iter().find(|segment| segment.payload.starts_with(b"00000000")).expect("stored");
        control.ack = Some(stored.seq + stored.payload.len());
        assert_eq!(station.ask(&mut control, "get f"), b"000000000550001");
        let data = station.shake(Peer { to: PORT + 1, window: 0, ..Peer::new(STATION, 40_002, 5) });
        station.say(&data, TcpControl::None, &[]);
        Self { begin: station.now, station, data, clients: vec![control], taken: 0 }
    }

    /// Reads up to `window` bytes, then waits for 10 s; true if the data connection has ended.
    fn read(&mut self, window: u16) -> bool {
        for window in [0, window, 0] {
            self.data.window = window;
            self.station.say(&self.data, TcpControl::None, &[]);
            let (bytes, ended) = self.station.take(&mut self.data);
            self.taken += bytes;
            if ended {
                return true;
            }
        }
        self.station.wait(Duration::from_secs(10));
        self.station.answer_keep_alives(&self.clients);
        false
    }

    /// Reads to the end; returns how long the data connection lasts, and how many bytes arrived.
    fn read_all(mut self, window: u16) -> (Duration, usize) {
        while !self.read(window) {
            assert!(self.station.now.since(self.begin) < Duration::from_secs(600), "{} bytes", self.taken);
        }
        // Without a command during all that time.
        self.station.ping(&mut self.clients[0]);
        (self.station.now.since(self.begin), self.taken)
    }
}

#[test]
fn the_end_of_a_file_has_to_be_taken_as_fast_as_the_rest() {
    for (size, window) in [(2000, 500), (10_000, 600)] {
        let (time, taken) = Download::begin(size).read_all(window);
        assert_eq!(taken, 10 + size);
        assert!(time >= Duration::from_secs(40), "{time:?}");
        let (time, taken) = Download::begin(size).read_all(1);
        assert!(taken < 20 && time <= Duration::from_secs(60), "{time:?}, {taken} bytes of {size}");
    }
}

#[test]
fn a_transfer_keeps_the_session_that_requested_it_and_no_other() {
    let mut download = Download::begin(12_000);
    // Another client comes and goes.
    let mut other = download.station.connect(40_003);
    download.station.ping(&mut other);
    download.station.say(&other, TcpControl::Rst, &[]);
    for _ in 0..8 {
        assert!(!download.read(500));
    }
    let mut client = download.clients.remove(0);
    download.station.ping(&mut client);
    // The next client gets its session. It is idle.
    download.station.say(&client, TcpControl::Rst, &[]);
    let mut next = download.station.connect(40_004);
    download.station.ping(&mut next);
    download.clients.push(next);
    let mut usage = || {
        assert!(!download.read(500));
        download.station.server.usage(&download.station.stack.sockets)
    };
    for _ in 0..5 {
        assert_eq!(usage().sessions, 1);
    }
    let usage = usage();
    assert_eq!((usage.sessions, usage.data), (0, 1));
}

#[test]
fn a_port_stays_open_for_30_seconds_or_for_5_if_another_client_waits() {
    for (is_wanted, seconds) in [(false, 30), (true, 5)] {
        let mut station = fixed();
        let mut clients = vec![station.connect(40_001)];
        assert_eq!(station.ask(&mut clients[0], "put a"), b"000000000550001");
        let begin = station.now;
        if is_wanted {
            let mut other = station.connect(40_003);
            station.ping(&mut other);
            let command = message("put b");
            station.say(&other, TcpControl::Psh, &command);
            other.seq += command.len();
            clients.push(other);
        }
        loop {
            let is_open = station.now.since(begin) < Duration::from_secs(seconds);
            let reply = station.heard().into_iter().find(|segment| segment.payload.len() > 10);
            assert_eq!(reply.is_some(), is_wanted && !is_open, "{:?}", station.now);
            assert_eq!(station.server.usage(&station.stack.sockets).data, usize::from(is_open || is_wanted));
            if !is_open {
                break;
            }
            station.wait(Duration::from_secs(1));
            station.answer_keep_alives(&clients);
        }
    }
}

#[test]
fn a_stalled_data_connection_goes_to_the_next_client_as_soon_as_it_is_closed() {
    let mut station = fixed();
    let mut owner = station.connect(40_001);
    assert_eq!(station.ask(&mut owner, "put a"), b"000000000550001");
    let mut data = station.shake(Peer { to: PORT + 1, ..Peer::new(STATION, 40_002, 5) });
    station.say(&data, TcpControl::Psh, b"0000");
    data.seq += 4;
    let begin = station.now;
    station.wait(Duration::from_secs(5));
    let mut other = station.connect(40_003);
    let command = message("put b");
    station.say(&other, TcpControl::Psh, &command);
    other.seq += command.len();
    let clients = [owner, other, data];
    while station.now.since(begin) < Duration::from_secs(29) {
        station.wait(Duration::from_secs(1));
        station.answer_keep_alives(&clients);
        assert!(station.heard().iter().all(|segment| segment.payload.len() < 10));
    }
    // Exactly then: nothing else is asked of the device.
    station.wait(Duration::from_secs(30) - station.now.since(begin));
    let heard = station.heard();
    let reply = heard.iter().find(|segment| segment.port == 40_003 && segment.payload.len() > 10).expect("a reply");
    assert_eq!(reply.payload, b"000000000550001");
}
