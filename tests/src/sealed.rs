//! A client with a key, over TCP: it makes the handshake, and everything after that is sealed (PROTOCOL §8).

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use skiff_proto::Name;
use skiff_proto::client::{ClientEvent, ClientSession};
use skiff_proto::command::{Command, Request, VERSION};
use skiff_proto::secure::{Key, KeyId, Login, Noise, Secret};

use crate::wire::connect;

/// A protected connection.
pub struct Sealed {
    /// The socket, for what the methods do not cover.
    pub stream: TcpStream,
    session: ClientSession<1024, 4, Noise>,
    input: Vec<u8>,
    body: Vec<u8>,
}

impl core::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sealed").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// What a request came to, or why the connection failed.
pub type Outcome<T> = Result<T, String>;

/// The secret that servers of tests have.
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
/// If `id` is no KEYID.
#[must_use]
pub fn key(id: &str) -> Key {
    secret().key(KeyId::parse(id.as_bytes()).expect("a KEYID"))
}

impl Sealed {
    /// Connects and makes the handshake.
    ///
    /// # Errors
    /// The server refuses the key, or does not know it.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn connect(addr: SocketAddr, key: Key) -> Outcome<Self> {
        Self::over(connect(addr), key)
    }

    /// The same over a connection that is there.
    ///
    /// # Errors
    /// See [`Self::connect`].
    ///
    /// # Panics
    /// Never: the session is new.
    pub fn over(stream: TcpStream, key: Key) -> Outcome<Self> {
        let mut ephemeral = [0; 32];
        fastrand::fill(&mut ephemeral);
        let mut session = ClientSession::new(Duration::from_secs(60));
        session.protect(Login { key, ephemeral }.start()).expect("a new session");
        let mut sealed = Self { stream, session, input: Vec::new(), body: Vec::new() };
        match sealed.ask(&Command::Hello { version: VERSION })? {
            reply if reply.starts_with("Hello(Some(") => Ok(sealed),
            reply => Err(reply),
        }
    }

    /// Says a command and waits for its reply: the event of the session, as `Debug` shows it.
    ///
    /// # Errors
    /// The connection has failed.
    pub fn ask(&mut self, command: &Command<'_>) -> Outcome<String> {
        self.session.request(command).map_err(|error| format!("{error:?}"))?;
        self.event()
    }

    /// `write`s a whole file, in records of `piece` bytes of payload.
    ///
    /// # Errors
    /// The connection has failed.
    pub fn write(&mut self, name: &str, content: &[u8], piece: usize) -> Outcome<String> {
        let name = parse(name);
        let write = Request::Write { offset: 0, size: content.len() as u64, mtime: None, name };
        self.session.request(&Command::Request(write)).map_err(|error| format!("{error:?}"))?;
        self.send()?;
        let mut rest = content;
        while !rest.is_empty() {
            let mut room = [0; 2048];
            let fill = |room: &mut [u8]| {
                let n = room.len().min(rest.len()).min(piece);
                room[..n].copy_from_slice(&rest[..n]);
                rest = &rest[n..];
                Ok::<_, ()>(n)
            };
            let n = self.session.send(&mut room, fill).map_err(|error| format!("{error:?}"))?;
            self.stream.write_all(&room[..n]).map_err(|error| error.to_string())?;
        }
        self.session.finish().map_err(|error| format!("{error:?}"))?;
        self.event()
    }

    /// Begins to `write` a file, in records of `piece` bytes of payload; in the second one, bit `bit` of the record is
    /// changed on the way.
    ///
    /// # Errors
    /// The connection has failed before.
    ///
    /// # Panics
    /// If the file is shorter.
    pub fn write_altered(&mut self, name: &str, content: &[u8], piece: usize, bit: usize) -> Outcome<()> {
        let write = Request::Write { offset: 0, size: content.len() as u64, mtime: None, name: parse(name) };
        self.session.request(&Command::Request(write)).map_err(|error| format!("{error:?}"))?;
        self.send()?;
        for (at, bytes) in content.chunks(piece).take(2).enumerate() {
            let mut room = vec![0; piece + 26];
            let fill = |room: &mut [u8]| {
                room.copy_from_slice(bytes);
                Ok::<_, ()>(bytes.len())
            };
            let n = self.session.send(&mut room, fill).map_err(|error| format!("{error:?}"))?;
            if at == 1 {
                let place = 10 + bit / 8 % (piece + 16);
                room[place] ^= 1 << (bit % 8);
            }
            self.stream.write_all(&room[..n]).map_err(|error| error.to_string())?;
        }
        Ok(())
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
        match self.event()? {
            end if end.starts_with("BodyEnd(Ok(") => Ok(core::mem::take(&mut self.body)),
            end => Err(end),
        }
    }

    fn send(&mut self) -> Outcome<()> {
        let mut room = [0; 2048];
        loop {
            let n = self.session.poll_transmit(&mut room);
            if n == 0 {
                return Ok(());
            }
            self.stream.write_all(&room[..n]).map_err(|error| error.to_string())?;
        }
    }

    fn event(&mut self) -> Outcome<String> {
        loop {
            self.send()?;
            let event = self.session.poll_event().map_err(|error| format!("{error:?}"))?;
            if let Some(event) = event {
                return Ok(shown(&event));
            }
            let received = self.session.receive(&mut self.input).map_err(|error| format!("{error:?}"))?;
            self.body.extend_from_slice(received.payload);
            let taken = received.taken;
            self.input.drain(..taken);
            if taken > 0 {
                continue;
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => {
                    self.session.handle_eof().map_err(|error| format!("{error:?}"))?;
                    return Err("the end".into());
                }
                Ok(n) => self.input.extend_from_slice(&piece[..n]),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

fn shown(event: &ClientEvent<'_>) -> String {
    format!("{event:?}")
}

fn parse(name: &str) -> Name<'_> {
    Name::parse(name.as_bytes(), 64).expect("a name")
}
