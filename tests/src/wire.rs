//! A client that sends exactly what a test specifies, over TCP.

use core::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::{Shutdown as Half, TcpStream, UdpSocket};
use std::time::Instant;

use crate::sans_io::{body, message};
use crate::vector::{DataEnd, Link, Problem, Shutdown};

/// How long a test waits for anything before it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A control connection.
#[derive(Debug)]
pub struct Wire {
    addr: SocketAddr,
    /// The socket, for operations without a method.
    pub stream: TcpStream,
    data: Option<TcpStream>,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a FIN.
    Closed,
    /// With a reset.
    Reset,
}

impl Wire {
    /// Connects to a server.
    ///
    /// # Panics
    /// If that fails. All methods panic on failure, which ends the test.
    #[must_use]
    pub fn connect(addr: SocketAddr) -> Self {
        Self { addr, stream: connect(addr), data: None }
    }

    /// The same, if the server may refuse.
    #[must_use]
    pub fn try_connect(addr: SocketAddr) -> Option<Self> {
        Self::try_connect_within(addr, PATIENCE)
    }

    /// The same, if there may be no answer at all.
    #[must_use]
    pub fn try_connect_within(addr: SocketAddr, patience: Duration) -> Option<Self> {
        let stream = TcpStream::connect_timeout(&addr, patience).ok()?;
        set_up(&stream);
        Some(Self { addr, stream, data: None })
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("send");
    }

    /// Sends one message.
    pub fn say(&mut self, payload: impl AsRef<[u8]>) {
        self.send_bytes(&message(payload));
    }

    /// Receives one message.
    #[must_use]
    pub fn hear(&mut self) -> Vec<u8> {
        let length = self.hear_bytes(10);
        let length = String::from_utf8(length).expect("a length").parse().expect("a length");
        self.hear_bytes(length)
    }

    /// Receives one message as text.
    #[must_use]
    pub fn hear_text(&mut self) -> String {
        String::from_utf8(self.hear()).expect("text")
    }

    /// Receives this many bytes.
    #[must_use]
    pub fn hear_bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).expect("receive");
        bytes
    }

    /// Sends `command` and receives its reply.
    #[must_use]
    pub fn ask(&mut self, command: impl AsRef<[u8]>) -> String {
        self.say(command);
        self.hear_text()
    }

    /// `write`s a whole file and receives the reply.
    #[must_use]
    pub fn write(&mut self, name: &str, content: &[u8]) -> String {
        self.send_write(name, content);
        self.hear_text()
    }

    /// Sends a whole `write` without waiting for the reply.
    pub fn send_write(&mut self, name: &str, content: &[u8]) {
        let mut bytes = message(format!("write 0 {} - {name}", content.len()));
        bytes.extend(body(content, skiff_proto::crc::crc32c(content)));
        self.send_bytes(&bytes);
    }

    /// Receives a body; returns its content and the trailer.
    #[must_use]
    pub fn hear_body(&mut self) -> (Vec<u8>, String) {
        let mut content = Vec::new();
        loop {
            let data = self.hear();
            if data.is_empty() {
                return (content, self.hear_text());
            }
            content.extend(data);
        }
    }

    /// `read`s a whole file and verifies it. `Err`: the refusal.
    ///
    /// # Errors
    /// The server's error.
    pub fn read(&mut self, name: &str) -> Result<Vec<u8>, String> {
        let reply = self.ask(format!("read 0 * {name}"));
        if !reply.starts_with("ok ") {
            return Err(reply);
        }
        let (content, trailer) = self.hear_body();
        assert_eq!(trailer, format!("crc32c {:08x}", skiff_proto::crc::crc32c(&content)));
        Ok(content)
    }

    /// Opens the data connection to `port`.
    #[must_use]
    pub fn data(&self, port: &str) -> TcpStream {
        connect(self.at(port.parse().expect("a port")))
    }

    /// The same address, including the zone of a link-local one, with another port.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        let mut addr = self.addr;
        addr.set_port(port);
        addr
    }

    /// Waits for the end of the connection; returns what arrived before it.
    #[must_use]
    pub fn hear_end(&mut self) -> (Vec<u8>, End) {
        read_to_end(&mut self.stream)
    }

    /// Sends `command` on a connection that may be gone, and returns whether anything came back.
    #[must_use]
    pub fn try_ask(&mut self, command: &str) -> bool {
        let mut byte = [0];
        self.stream.write_all(&message(command)).is_ok() && matches!(self.stream.read(&mut byte), Ok(1))
    }

    /// True if the peer has acknowledged everything; always true where the system does not report it.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        is_sent(&self.stream)
    }

    /// Ends the sending side.
    pub fn finish(&self) {
        self.stream.shutdown(Half::Write).expect("shutdown");
    }
}

/// True if the peer has acknowledged everything; always true where the system does not report it.
#[must_use]
pub fn is_sent(stream: &TcpStream) -> bool {
    let Ok(addr) = stream.local_addr() else { return true };
    let port = addr.port();
    let tables = ["tcp", "tcp6"].map(|table| std::fs::read_to_string(format!("/proc/self/net/{table}")));
    // "sl local_address rem_address st tx_queue:rx_queue ..", in hexadecimal.
    let waiting = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1).is_some_and(|local| local.ends_with(&format!(":{port:04X}")))
            && words.get(4).is_some_and(|queues| !queues.starts_with("00000000:"))
    };
    !tables.into_iter().flatten().any(|table| table.lines().any(waiting))
}

/// A link-local address on an interface of this machine, once it can be reached: the kernel gives its own end an address
/// some time after the other end of a TAP was attached.
///
/// # Panics
/// If there is no such interface, or it gets no address.
#[must_use]
pub fn link_local(address: Ipv6Addr, port: u16, interface: &str) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("a socket");
    let index = rustix::net::netdevice::name_to_index(&socket, interface).expect("an interface");
    let address = SocketAddrV6::new(address, port, 0, index).into();
    assert!(eventually(|| socket.connect(address).is_ok()), "{address}: {:?}", socket.connect(address));
    address
}

/// Connects, with [`PATIENCE`] as the timeout of all operations.
#[must_use]
pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE).unwrap_or_else(|error| panic!("connect {addr}: {error}"));
    set_up(&stream);
    stream
}

fn set_up(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
    stream.set_nodelay(true).expect("nodelay");
}

/// Connects from a certain local address.
///
/// # Errors
/// The address does not belong to this machine, or nobody listens.
pub fn connect_from(local: IpAddr, addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(local, 0).into())?;
    socket.connect_timeout(&addr.into(), PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

/// True if a new connection is accepted and `command` is answered. A server that refuses may have reset the connection
/// before `connect` returns.
#[must_use]
pub fn answers(addr: SocketAddr, command: &str) -> bool {
    Wire::try_connect(addr).is_some_and(|mut wire| wire.try_ask(command))
}

/// Puts a file into the store of the server at `addr`, over a connection that has ended when this returns.
///
/// # Panics
/// If that fails.
#[track_caller]
pub fn put(addr: SocketAddr, name: &str, content: &[u8]) {
    let reply = visit(addr, |wire| wire.write(name, content));
    assert!(reply.starts_with("ok "), "{name}: {reply}");
}

/// The content of a file of the server at `addr`, in the same way; `None` if there is no such file.
#[must_use]
pub fn content(addr: SocketAddr, name: &str) -> Option<Vec<u8>> {
    visit(addr, |wire| wire.read(name).ok())
}

/// The names in the store of the server at `addr`, in the same way, sorted.
///
/// # Panics
/// If it can't be listed.
#[must_use]
pub fn names(addr: SocketAddr) -> Vec<String> {
    let (lines, _) = visit(addr, |wire| {
        assert_eq!(wire.ask("list"), "ok");
        wire.hear_body()
    });
    let lines = String::from_utf8(lines).expect("text");
    let mut names: Vec<_> =
        lines.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).map(ToOwned::to_owned).collect();
    names.sort();
    names
}

/// Quits and waits until the server closes: then its session is free.
fn visit<T>(addr: SocketAddr, ask: impl FnOnce(&mut Wire) -> T) -> T {
    let mut wire = Wire::connect(addr);
    let answer = ask(&mut wire);
    wire.say("quit");
    _ = read_to_end(&mut wire.stream);
    answer
}

/// Reads to the end of the stream; returns the bytes, and how it ended.
#[must_use]
pub fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => (bytes, End::Closed),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => (bytes, End::Reset),
        Err(error) => panic!("{error} after {} bytes", bytes.len()),
    }
}

/// Waits until `condition` holds; false if it does not within [`PATIENCE`].
#[must_use]
pub fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

fn problem(error: &dyn core::fmt::Display) -> Problem {
    Problem::new(error.to_string())
}

fn receive(stream: &mut TcpStream, len: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).map_err(|error| problem(&error))?;
    Ok(bytes)
}

impl Link for Wire {
    fn send(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.stream.write_all(bytes).map_err(|error| problem(&error))
    }

    fn receive(&mut self, len: usize) -> Result<Vec<u8>, Problem> {
        receive(&mut self.stream, len)
    }

    fn receive_end(&mut self) -> Result<(), Problem> {
        match read_to_end(&mut self.stream) {
            (bytes, End::Closed) if bytes.is_empty() => Ok(()),
            (bytes, end) => Err(Problem::new(format!("{end:?} after {} bytes", bytes.len()))),
        }
    }

    fn reconnect(&mut self) -> Result<(), Problem> {
        // The server has noticed the loss when it has closed as well.
        self.stream.shutdown(Half::Write).map_err(|error| problem(&error))?;
        let _ = read_to_end(&mut self.stream);
        self.stream = connect(self.addr);
        Ok(())
    }

    fn connect_data(&mut self, port: u16) -> Result<(), Problem> {
        self.data = Some(connect(self.at(port)));
        Ok(())
    }

    fn send_data(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let data = self.data.as_mut().ok_or_else(|| Problem::new("no data connection"))?;
        match data.write_all(bytes) {
            // The server may notice that it is too much before all of it has come.
            Err(error) if !matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
                Err(problem(&error))
            }
            _ => Ok(()),
        }
    }

    fn receive_data(&mut self, len: usize) -> Result<Vec<u8>, Problem> {
        receive(self.data.as_mut().ok_or_else(|| Problem::new("no data connection"))?, len)
    }

    fn end_data(&mut self, shutdown: Shutdown) -> Result<DataEnd, Problem> {
        let mut data = self.data.take().ok_or_else(|| Problem::new("no data connection"))?;
        if shutdown == Shutdown::First {
            // Fails if the server has reset it already.
            _ = data.shutdown(Half::Write);
        }
        match read_to_end(&mut data) {
            (bytes, _) if !bytes.is_empty() => Err(Problem::new(format!("{} bytes more", bytes.len()))),
            (_, End::Closed) => Ok(DataEnd::Closed),
            (_, End::Reset) => Ok(DataEnd::Reset),
        }
    }
}
