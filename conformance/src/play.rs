//! Plays the server's part of the vectors: a client that sends the client's part gets the replies of the vector.

use core::fmt;
use core::net::Ipv4Addr;
use core::time::Duration;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Instant;

use skiff_kit::sans_io::message;
use skiff_kit::tunnel::HELLO;
use skiff_kit::vector::{Action, DataClose, Vector};
use skiff_proto::crc::crc32c;

use crate::conn::short;

/// The hello reply of this server, for a client that asks.
const REPLY: &str = "skiff/1 server=skiff-conformance/0.1 commands=ping,list,tree,stat,read,resume,write,sum,remove,rename,\
                     copy,mkdir,rmdir,space,quit name-max=64 idle=60";

/// A difference between a client and a vector.
#[derive(Debug)]
pub struct Difference {
    /// The file of the vector.
    pub file: String,
    /// The line.
    pub line: usize,
    /// What differs.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

impl core::error::Error for Difference {}

/// A server that plays one vector at a time.
#[derive(Debug)]
pub struct Player<'a> {
    listener: &'a TcpListener,
    timeout: Duration,
    control: Option<TcpStream>,
    ports: Option<TcpListener>,
    data: Option<TcpStream>,
    /// The payload of the last data message, for the checksum in a trailer.
    body: Vec<u8>,
}

impl<'a> Player<'a> {
    /// Creates a server for clients that connect to `listener`. Each step may take this long. Waiting for a client has
    /// no time limit.
    #[must_use]
    pub const fn new(listener: &'a TcpListener, timeout: Duration) -> Self {
        Self { listener, timeout, control: None, ports: None, data: None, body: Vec::new() }
    }

    /// Waits for a client and plays the vector with it. A hello that the vector does not contain is answered.
    ///
    /// # Errors
    /// Returns the first difference.
    pub fn play(mut self, vector: &Vector) -> Result<(), Difference> {
        for step in &vector.steps {
            let difference = |what| Difference { file: vector.file.clone(), line: step.line, what };
            self.step(&step.action).map_err(difference)?;
        }
        // A client that ends with `quit` or just closes has done what the vector says.
        Ok(())
    }

    fn step(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Send(bytes) => self.expect(bytes),
            Action::Receive(pattern) => {
                if pattern.announces_a_port() && self.ports.is_none() {
                    self.ports = Some(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(shown)?);
                }
                let port = self.ports.as_ref().and_then(|ports| ports.local_addr().ok()).map_or(0, |addr| addr.port());
                let payload = pattern.example(port, crc32c(&self.body));
                let bytes = message(&payload);
                self.body = payload;
                self.control()?.write_all(&bytes).map_err(shown)
            }
            Action::Close => {
                let Some(mut control) = self.control.take() else { return Ok(()) };
                expect_end(&mut control)
            }
            Action::ReceiveEnd => {
                let Some(control) = self.control.take() else { return Ok(()) };
                linger(&control);
                Ok(())
            }
            Action::DataConnect => {
                let ports = self.ports.take().ok_or("no port was announced")?;
                ports.set_nonblocking(true).map_err(shown)?;
                let begin = Instant::now();
                let data = loop {
                    match ports.accept() {
                        Ok((data, _)) => break data,
                        Err(error) if error.kind() == ErrorKind::WouldBlock && begin.elapsed() < self.timeout => {
                            std::thread::sleep(Duration::from_millis(5));
                        }
                        Err(_) => return Err("the client does not connect to PORT".into()),
                    }
                };
                data.set_nonblocking(false).map_err(shown)?;
                data.set_read_timeout(Some(self.timeout)).map_err(shown)?;
                self.data = Some(data);
                Ok(())
            }
            Action::DataSend(bytes) => expect(self.data()?, bytes, &[]).map(|_| ()),
            Action::DataReceive(pattern) => {
                let bytes = message(pattern.example(0, 0));
                self.data()?.write_all(&bytes).map_err(shown)
            }
            Action::DataClose(how) => {
                let mut data = self.data.take().ok_or("no data connection")?;
                match how {
                    DataClose::ByServer => linger(&data),
                    DataClose::ByClient => expect_end(&mut data)?,
                    DataClose::Refused => {
                        expect_end(&mut data)?;
                        _ = socket2::SockRef::from(&data).set_linger(Some(Duration::ZERO));
                    }
                }
                Ok(())
            }
        }
    }

    fn control(&mut self) -> Result<&mut TcpStream, String> {
        self.control.as_mut().ok_or_else(|| "there is no connection".into())
    }

    fn data(&mut self) -> Result<&mut TcpStream, String> {
        self.data.as_mut().ok_or_else(|| "there is no data connection".into())
    }

    /// Checks that the client sends these bytes. It may ask for the hello first.
    fn expect(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.control.is_none() {
            let (control, _) = self.listener.accept().map_err(shown)?;
            control.set_read_timeout(Some(self.timeout)).map_err(shown)?;
            control.set_nodelay(true).map_err(shown)?;
            self.control = Some(control);
        }
        let optional = if bytes == HELLO { &[][..] } else { HELLO };
        while expect(self.control()?, bytes, optional)? {
            self.control()?.write_all(&message(REPLY)).map_err(shown)?;
        }
        Ok(())
    }
}

/// Receives `bytes`, or else `optional`; true if it was the latter.
fn expect(stream: &mut TcpStream, bytes: &[u8], optional: &[u8]) -> Result<bool, String> {
    let mut received = Vec::new();
    loop {
        if received == bytes {
            return Ok(false);
        }
        if !optional.is_empty() && received == optional {
            return Ok(true);
        }
        if !bytes.starts_with(&received) && !optional.starts_with(&received) {
            return Err(format!("expected \"{}\", got \"{}\"", short(bytes), short(&received)));
        }
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(0) => return Err(format!("expected \"{}\", got \"{}\" and the end", short(bytes), short(&received))),
            Ok(_) => received.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("expected \"{}\", got \"{}\": {error}", short(bytes), short(&received))),
        }
    }
}

fn expect_end(stream: &mut TcpStream) -> Result<(), String> {
    match stream.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err("the client sends more than the vector".into()),
        Err(error) => Err(format!("the client does not close: {error}")),
    }
}

/// Closes the connection without losing data on its way to the client.
fn linger(mut stream: &TcpStream) {
    _ = stream.shutdown(Shutdown::Write);
    _ = stream.read(&mut [0; 1024]);
}

fn shown(error: io::Error) -> String {
    error.to_string()
}
