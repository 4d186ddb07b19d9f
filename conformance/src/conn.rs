//! A connection that sends exactly the bytes that a check specifies.

use core::cell::RefCell;
use core::fmt::Write as _;
use core::net::SocketAddr;
use core::time::Duration;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::time::Instant;

use skiff_kit::sans_io::{body, message};
use skiff_kit::tunnel::{HELLO, Tunnel};
use skiff_proto::crc::crc32c;
use skiff_proto::message::HEADER_LEN;
use skiff_proto::secure::Key;

/// Why a check ended without success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The server does not do what the protocol requires.
    Fail(String),
    /// The requirement could not be checked.
    Skip(String),
}

/// The result of a check or of a part of a check.
pub type Checked<T = ()> = Result<T, Verdict>;

/// A failure with this description.
pub fn fail<T>(why: impl Into<String>) -> Checked<T> {
    Err(Verdict::Fail(why.into()))
}

/// The log of the bytes in the current check, for its report.
pub type Log = Rc<RefCell<Vec<String>>>;

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a FIN.
    Closed,
    /// With a reset.
    Reset,
}

/// Lines of the log that a report shows.
const LOG_LINES: usize = 16;
/// Bytes of one line that a report shows.
const LOG_BYTES: usize = 100;
/// How long a connection is given to close before the next one is opened.
const CLOSING: Duration = Duration::from_millis(1500);

/// A control connection or a data connection. Dropping it closes it and waits until the server has closed as well.
pub struct Conn {
    stream: TcpStream,
    addr: SocketAddr,
    timeout: Duration,
    tunnel: Option<Box<Tunnel>>,
    received: Vec<u8>,
    label: &'static str,
    log: Log,
}

impl Conn {
    /// Connects.
    ///
    /// # Errors
    /// Nothing listens at the address.
    pub fn open(addr: SocketAddr, timeout: Duration, label: &'static str, log: &Log) -> Checked<Self> {
        match TcpStream::connect_timeout(&addr, timeout) {
            Ok(stream) => Ok(Self::over(stream, addr, timeout, label, log)),
            Err(error) => fail(format!("can't connect to {addr}: {error}")),
        }
    }

    /// Uses an open connection.
    #[must_use]
    pub fn over(stream: TcpStream, addr: SocketAddr, timeout: Duration, label: &'static str, log: &Log) -> Self {
        _ = stream.set_read_timeout(Some(timeout));
        _ = stream.set_write_timeout(Some(timeout));
        _ = stream.set_nodelay(true);
        Self { stream, addr, timeout, tunnel: None, received: Vec::new(), label, log: Rc::clone(log) }
    }

    /// Performs the handshake (PROTOCOL §8): from now on every message is sealed. Returns the hello.
    ///
    /// # Errors
    /// The server does not accept the key.
    pub fn protect(&mut self, key: &Key) -> Checked<String> {
        let mut tunnel = Tunnel::new(key.clone(), ephemeral());
        self.send(HELLO)?;
        let hello = self.hear()?;
        let command = tunnel.begin(&message(&hello)).map_err(|problem| Verdict::Fail(problem.to_string()))?;
        self.send(&command)?;
        let reply = self.hear()?;
        tunnel.finish(&message(reply)).map_err(|problem| Verdict::Fail(format!("the handshake failed: {problem}")))?;
        self.tunnel = Some(Box::new(tunnel));
        text(hello)
    }

    /// Sends bytes as they are, even on a sealed connection.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> Checked {
        self.note(if self.label == "D" { "D>" } else { "C:" }, bytes);
        match self.stream.write_all(bytes) {
            Ok(()) => Ok(()),
            Err(error) => fail(format!("the server stopped receiving: {error}")),
        }
    }

    /// Sends plain bytes: messages, which are sealed on a sealed connection.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send_plain(&mut self, bytes: &[u8]) -> Checked {
        match &mut self.tunnel {
            None => self.send(bytes),
            Some(tunnel) => {
                let wire = tunnel.seal(bytes);
                self.note("C:", bytes);
                match self.stream.write_all(&wire) {
                    Ok(()) => Ok(()),
                    Err(error) => fail(format!("the server stopped receiving: {error}")),
                }
            }
        }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn say(&mut self, payload: impl AsRef<[u8]>) -> Checked {
        self.send_plain(&message(payload))
    }

    /// The next message.
    ///
    /// # Errors
    /// No message arrives, or the bytes are not a message.
    pub fn hear(&mut self) -> Checked<Vec<u8>> {
        loop {
            if let Some(header) = self.received.get(..HEADER_LEN) {
                if !header.iter().all(u8::is_ascii_digit) {
                    return fail(format!("not a length: \"{}\"", header.escape_ascii()));
                }
                let len = core::str::from_utf8(header).ok().and_then(|digits| digits.parse::<usize>().ok());
                let end = HEADER_LEN + len.unwrap_or(usize::MAX - HEADER_LEN);
                if self.received.len() >= end {
                    let rest = self.received.split_off(end);
                    let whole = core::mem::replace(&mut self.received, rest);
                    self.note(if self.label == "D" { "D<" } else { "S:" }, &whole);
                    return Ok(whole[HEADER_LEN..].to_vec());
                }
            }
            if let Some(end) = self.fill()? {
                return fail(match self.received.len() {
                    0 => format!("the server {} instead of a reply", end.verb()),
                    _ => format!("the server {} inside the message \"{}\"", end.verb(), short(&self.received)),
                });
            }
        }
    }

    /// Receives more; returns the end of the stream.
    fn fill(&mut self) -> Checked<Option<End>> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Ok(Some(End::Closed)),
            Ok(n) => {
                match &mut self.tunnel {
                    None => self.received.extend_from_slice(&buffer[..n]),
                    Some(tunnel) => match tunnel.open(&buffer[..n]) {
                        Ok(plain) => self.received.extend(plain),
                        Err(problem) => {
                            return fail(format!("the server sent a record that does not verify: {problem}"));
                        }
                    },
                }
                Ok(None)
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => fail(match self.received.len() {
                    0 => format!("nothing arrived within {} s", self.timeout.as_secs()),
                    _ => format!("the message \"{}\" does not end", short(&self.received)),
                }),
                ErrorKind::Interrupted => Ok(None),
                ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => Ok(Some(End::Reset)),
                _ => fail(format!("the connection failed: {error}")),
            },
        }
    }

    /// The next message as text.
    ///
    /// # Errors
    /// As [`Self::hear`], or the message is not UTF-8.
    pub fn hear_text(&mut self) -> Checked<String> {
        self.hear().and_then(text)
    }

    /// Sends a command and returns its reply.
    ///
    /// # Errors
    /// As [`Self::hear`].
    pub fn ask(&mut self, command: impl AsRef<[u8]>) -> Checked<String> {
        self.say(command)?;
        self.hear_text()
    }

    /// Sends `command`. The reply must be `expected`, or begin with `expected` if that ends in a space.
    ///
    /// # Errors
    /// It is another one.
    pub fn expect(&mut self, command: impl AsRef<[u8]>, expected: &str) -> Checked<String> {
        let command = command.as_ref();
        self.say(command)?;
        self.expect_next(expected).map_err(|verdict| match verdict {
            Verdict::Fail(why) => Verdict::Fail(format!("\"{}\": {why}", short(command))),
            skip @ Verdict::Skip(_) => skip,
        })
    }

    /// The next reply must be `expected`, or begin with `expected` if that ends in a space. `error X ` also matches the
    /// code alone.
    ///
    /// # Errors
    /// It is another one.
    pub fn expect_next(&mut self, expected: &str) -> Checked<String> {
        let reply = self.hear_text()?;
        if matches(&reply, expected) {
            Ok(reply)
        } else {
            fail(format!("expected \"{expected}\", got \"{}\"", short(reply.as_bytes())))
        }
    }

    /// Receives a body; returns its content and its trailer.
    ///
    /// # Errors
    /// As [`Self::hear`].
    pub fn hear_body(&mut self) -> Checked<(Vec<u8>, String)> {
        let mut content = Vec::new();
        loop {
            let data = self.hear()?;
            if data.is_empty() {
                return Ok((content, self.hear_text()?));
            }
            content.extend(data);
        }
    }

    /// Receives a body whose trailer must have the right checksum; returns its content.
    ///
    /// # Errors
    /// As [`Self::hear`], or the trailer is wrong.
    pub fn hear_good_body(&mut self) -> Checked<Vec<u8>> {
        let (content, trailer) = self.hear_body()?;
        let right = format!("crc32c {:08x}", crc32c(&content));
        if trailer == right {
            Ok(content)
        } else {
            fail(format!("the trailer is \"{}\", not \"{right}\"", short(trailer.as_bytes())))
        }
    }

    /// Sends a complete `write`, without waiting for the reply.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send_write(&mut self, name: &str, content: &[u8]) -> Checked {
        let mut bytes = message(format!("write 0 {} - {name}", content.len()));
        bytes.extend(body(content, crc32c(content)));
        self.send_plain(&bytes)
    }

    /// Stores a file.
    ///
    /// # Errors
    /// The server does not store the file.
    pub fn write(&mut self, name: &str, content: &[u8]) -> Checked {
        self.send_write(name, content)?;
        self.expect_next(&format!("ok {} {:08x}", content.len(), crc32c(content))).map(|_| ())
    }

    /// Checks that the file has this content.
    ///
    /// # Errors
    /// The content differs.
    pub fn expect_content(&mut self, name: &str, content: &[u8]) -> Checked {
        self.expect(format!("read 0 * {name}"), &format!("ok {0} {0} ", content.len()))?;
        let received = self.hear_good_body()?;
        if received == content {
            Ok(())
        } else {
            fail(format!("{name} is \"{}\", not \"{}\"", short(&received), short(content)))
        }
    }

    /// Waits for the end of the stream. `FIN` only: nothing else may arrive.
    ///
    /// # Errors
    /// Data arrives, or the stream is reset or stays open.
    pub fn expect_close(&mut self) -> Checked {
        match self.hear_end()? {
            (rest, End::Closed) if rest.is_empty() => Ok(()),
            (rest, _) if !rest.is_empty() => fail(format!("expected the end, got \"{}\"", short(&rest))),
            _ => fail("the connection was reset, not closed"),
        }
    }

    /// Waits for the end of the stream; returns the bytes that arrived before the end.
    ///
    /// # Errors
    /// The stream stays open.
    pub fn hear_end(&mut self) -> Checked<(Vec<u8>, End)> {
        loop {
            if let Some(end) = self.fill()? {
                let rest = core::mem::take(&mut self.received);
                self.note(if self.label == "D" { "D<" } else { "S:" }, &rest);
                self.log.borrow_mut().push(format!("{} the server {}", self.label, end.verb()));
                return Ok((rest, end));
            }
        }
    }

    /// Checks that nothing arrives and the stream stays open for this time.
    ///
    /// # Errors
    /// Data arrives, or the stream ends.
    pub fn expect_silence(&mut self, time: Duration) -> Checked {
        _ = self.stream.set_read_timeout(Some(time));
        let begin = Instant::now();
        let outcome = self.fill();
        _ = self.stream.set_read_timeout(Some(self.timeout));
        match outcome {
            Err(_) if self.received.is_empty() && begin.elapsed() >= time / 2 => Ok(()),
            Err(verdict) => Err(verdict),
            Ok(Some(end)) => fail(format!("the server {}", end.verb())),
            Ok(None) => fail(format!("unexpected: \"{}\"", short(&self.received))),
        }
    }

    /// Closes the sending side.
    pub fn finish(&mut self) {
        self.log.borrow_mut().push(format!("{} the client ends its stream", self.label));
        _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Resets the connection.
    pub fn reset(self) {
        _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// The server's address with another port.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        let mut addr = self.addr;
        addr.set_port(port);
        addr
    }

    fn note(&self, who: &str, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.log.borrow_mut().push(format!("{who} \"{}\"", short(bytes)));
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        if socket2::SockRef::from(&self.stream).linger().is_ok_and(|linger| linger == Some(Duration::ZERO)) {
            return;
        }
        // A server with few sockets has one less until it has noticed the end.
        _ = self.stream.shutdown(Shutdown::Write);
        _ = self.stream.set_read_timeout(Some(CLOSING));
        let begin = Instant::now();
        let mut buffer = [0; 16 * 1024];
        while matches!(self.stream.read(&mut buffer), Ok(1..)) && begin.elapsed() < CLOSING {}
    }
}

impl End {
    const fn verb(self) -> &'static str {
        match self {
            Self::Closed => "closed the connection",
            Self::Reset => "reset the connection",
        }
    }
}

/// Random bytes for one handshake. The peer is a test subject: nothing secret is sent to it.
fn ephemeral() -> [u8; 32] {
    let mut bytes = [0; 32];
    fastrand::fill(&mut bytes);
    bytes
}

/// True if `reply` is `expected`, or begins with `expected` if that ends in a space. An `error` may have no TEXT.
#[must_use]
pub fn matches(reply: &str, expected: &str) -> bool {
    match expected.strip_suffix(' ') {
        Some(code) => reply.starts_with(expected) || expected.starts_with("error ") && reply == code,
        None => reply == expected,
    }
}

fn text(payload: Vec<u8>) -> Checked<String> {
    String::from_utf8(payload).or_else(|error| fail(format!("not UTF-8: \"{}\"", short(error.as_bytes()))))
}

/// The beginning of these bytes, escaped.
#[must_use]
pub fn short(bytes: &[u8]) -> String {
    let mut shown = bytes[..bytes.len().min(LOG_BYTES)].escape_ascii().to_string();
    if bytes.len() > LOG_BYTES {
        _ = write!(shown, "... ({} bytes)", bytes.len());
    }
    shown
}

/// The end of the log.
#[must_use]
pub fn last_lines(log: &Log) -> Vec<String> {
    let log = log.borrow();
    log[log.len().saturating_sub(LOG_LINES)..].to_vec()
}
