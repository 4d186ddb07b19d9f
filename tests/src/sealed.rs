//! A client with a key, over TCP: it performs the handshake, and everything after that is sealed (PROTOCOL §8).

use core::cell::Cell;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::LazyLock;

use embedded_io_adapters::std::FromStd;
use skiff_proto::client::{ClientEvent, ClientSession};
use skiff_proto::command::{Command, Request, VERSION};
use skiff_proto::drive::Client;
use skiff_proto::message::HEADER_LEN;
use skiff_proto::secure::{Key, KeyId, Login, Noise, Secret};
use skiff_proto::{Instant, Name};

use crate::wire::connect;

/// The longest record of any server.
const RECORD: usize = u16::MAX as usize;

type Protected = Client<FromStd<Link>, fn() -> Instant, 1024, Noise, RECORD>;

/// A protected connection.
pub struct Sealed {
    /// The socket, for operations without a method.
    pub stream: TcpStream,
    client: Box<Protected>,
    flip: Rc<Cell<Option<usize>>>,
}

/// The socket, and the bit to flip in the next record.
struct Link {
    stream: TcpStream,
    flip: Rc<Cell<Option<usize>>>,
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(bit) = self.flip.take() else { return self.stream.write(bytes) };
        let mut record = bytes.to_vec();
        record[HEADER_LEN + bit / 8 % (bytes.len() - HEADER_LEN)] ^= 1 << (bit % 8);
        self.stream.write_all(&record)?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// The reply as `Debug` shows it, or why the connection failed.
pub type Outcome<T> = Result<T, String>;

/// The secret of the tests' servers.
#[must_use]
pub fn secret() -> Secret {
    Secret::new(core::array::from_fn(|at| at.to_le_bytes()[0]))
}

/// Its text form.
#[must_use]
pub fn secret_text() -> String {
    secret().encode(&mut [0; Secret::TEXT_LEN]).to_owned()
}

/// The key `id` under this secret.
///
/// # Panics
/// If `id` is not a KEYID.
#[must_use]
pub fn key(id: &str) -> Key {
    secret().key(KeyId::parse(id.as_bytes()).expect("a KEYID"))
}

impl Sealed {
    /// Connects and performs the handshake.
    ///
    /// # Errors
    /// The server refuses the key, or does not know it.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn connect(addr: SocketAddr, key: Key) -> Outcome<Self> {
        Self::over(connect(addr), key)
    }

    /// The same over an existing connection.
    ///
    /// # Errors
    /// See [`Self::connect`].
    ///
    /// # Panics
    /// Never: the session is new.
    pub fn over(stream: TcpStream, key: Key) -> Outcome<Self> {
        let mut ephemeral = [0; 32];
        fastrand::fill(&mut ephemeral);
        let flip = Rc::<Cell<_>>::default();
        let link = Link { stream: stream.try_clone().map_err(shown)?, flip: Rc::clone(&flip) };
        let client = Box::new(Client::new(FromStd::new(link), Duration::from_secs(60), clock as fn() -> Instant));
        let mut sealed = Self { stream, client, flip };
        let session: &mut ClientSession<1024, 1, Noise> = sealed.client.session();
        session.protect(Login { key, ephemeral }.start()).expect("a new session");
        match sealed.ask(&Command::Hello { version: VERSION })? {
            reply if reply.starts_with("Hello(Some(") => Ok(sealed),
            reply => Err(reply),
        }
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    /// The connection has failed.
    pub fn ask(&mut self, command: &Command<'_>) -> Outcome<String> {
        self.client.request(command).map(debug).map_err(shown)
    }

    /// `write`s a whole file, in records of at most `piece` bytes of payload.
    ///
    /// # Errors
    /// The connection has failed.
    pub fn write(&mut self, name: &str, content: &[u8], piece: usize) -> Outcome<String> {
        self.begin(name, content)?;
        content.chunks(piece).try_for_each(|piece| self.client.write(piece)).map_err(shown)?;
        self.client.finish().map(debug).map_err(shown)
    }

    /// Begins to `write` a file, in records of `piece` bytes of payload; in the second one, bit `bit` of the record is
    /// flipped on the way.
    ///
    /// # Errors
    /// The connection has failed before.
    ///
    /// # Panics
    /// If the file is shorter.
    pub fn write_altered(&mut self, name: &str, content: &[u8], piece: usize, bit: usize) -> Outcome<()> {
        self.begin(name, content)?;
        let (first, second) = content.split_at(piece);
        self.client.write(first).map_err(shown)?;
        self.flip.set(Some(bit));
        self.client.write(&second[..piece]).map_err(shown)
    }

    fn begin(&mut self, name: &str, content: &[u8]) -> Outcome<()> {
        let write = Request::Write { offset: 0, size: content.len() as u64, mtime: None, name: parse(name) };
        self.client.send(&Command::Request(write)).map_err(shown)
    }

    /// `read`s a whole file.
    ///
    /// # Errors
    /// The server refuses, or the connection has failed.
    pub fn read(&mut self, name: &str) -> Outcome<Vec<u8>> {
        let name = parse(name);
        let reply = self.ask(&Command::Request(Request::Read { offset: 0, length: None, name }))?;
        if !reply.starts_with("Read") {
            return Err(reply);
        }
        let (mut content, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            match self.client.read(&mut piece).map_err(shown)? {
                0 => break,
                n => content.extend_from_slice(&piece[..n]),
            }
        }
        match self.client.reply().map(debug).map_err(shown)? {
            end if end.starts_with("BodyEnd(Ok(") => Ok(content),
            end => Err(end),
        }
    }
}

fn clock() -> Instant {
    static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    Instant::from_millis(1).after(START.elapsed())
}

fn debug(event: ClientEvent<'_>) -> String {
    format!("{event:?}")
}

fn shown(error: impl fmt::Display) -> String {
    error.to_string()
}

fn parse(name: &str) -> Name<'_> {
    Name::parse(name.as_bytes(), 64).expect("a name")
}
