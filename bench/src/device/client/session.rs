//! A skiff session over a blocking socket.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, bail, ensure};
use skiff_proto::InvalidState;
use skiff_proto::client::{ClientEvent, ClientSession};
use skiff_proto::command::{Command, VERSION};
use skiff_proto::message::HEADER_LEN;

/// Bytes of one read from a socket: what a plain client takes, and more gains nothing.
pub(super) const PIECE: usize = 256 * 1024;

/// Commands that may wait for their replies.
const QUEUE: usize = 512;

/// A connection whose small writes leave at once.
pub(super) fn dial(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What has come from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// A short reply.
    Done,
    /// A `write` is stored, with this checksum.
    Stored { size: u64, crc: Option<u32> },
    /// The body of a `read` is whole, and its checksum is right.
    Body { crc: Option<u32> },
}

/// A connection and the session on it.
pub(super) struct Session {
    stream: TcpStream,
    session: Box<ClientSession<1024, QUEUE>>,
    out: Vec<u8>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Session {
    /// Connects and asks for the extended commands.
    pub(super) fn connect(addr: SocketAddr) -> Result<Self> {
        let (stream, session) = (dial(addr)?, Box::new(ClientSession::new(Duration::MAX)));
        let mut session = Self { stream, session, out: Vec::new(), buffer: vec![0; PIECE], start: 0, end: 0 };
        session.request(&Command::Hello { version: VERSION })?;
        session.flush()?;
        ensure!(session.next()? == Came::Done, "no reply to the hello");
        Ok(session)
    }

    /// Adds a command to what goes out.
    pub(super) fn request(&mut self, command: &Command<'_>) -> Result<()> {
        self.session.request(command).map_err(misused)?;
        self.transmit();
        Ok(())
    }

    /// Adds the body of a `write`, whose checksum is `crc`; what goes out before it leaves with it.
    pub(super) fn body(&mut self, content: &[u8], crc: u32) -> Result<()> {
        self.session.supply_crc(Some(crc)).map_err(misused)?;
        if !content.is_empty() {
            self.session.set_data_max(u32::try_from(content.len())?);
            let mut room = [0; HEADER_LEN + 1];
            let sent = self.session.send(&mut room, |room| {
                room[0] = content[0];
                Ok::<_, InvalidState>(1)
            });
            sent.map_err(|_| misused(InvalidState))?;
            self.out.extend_from_slice(&room);
            let rest = &content[1..];
            if let Some(mut opaque) = self.session.opaque() {
                opaque.advance(rest.len() as u64).map_err(misused)?;
            }
            // The head and the first bytes of the body in one write.
            for piece in rest.chunks(PIECE) {
                self.out.extend_from_slice(piece);
                if self.is_full() {
                    self.flush()?;
                }
            }
        }
        self.session.finish().map_err(misused)?;
        self.transmit();
        Ok(())
    }

    fn transmit(&mut self) {
        let mut room = [0; 2048];
        loop {
            let n = self.session.poll_transmit(&mut room);
            if n == 0 {
                return;
            }
            self.out.extend_from_slice(&room[..n]);
        }
    }

    /// True if so much waits to go out that it should.
    pub(super) const fn is_full(&self) -> bool {
        self.out.len() >= PIECE
    }

    /// Sends what waits to go out.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Waits for what comes next.
    pub(super) fn next(&mut self) -> Result<Came> {
        loop {
            match self.session.poll_event()? {
                Some(ClientEvent::Hello(Some(_)) | ClientEvent::Done) => return Ok(Came::Done),
                Some(ClientEvent::Stored { size, crc }) => return Ok(Came::Stored { size, crc }),
                Some(ClientEvent::BodyEnd(Ok(crc))) => return Ok(Came::Body { crc }),
                Some(ClientEvent::Read { .. }) => continue,
                Some(event) => bail!("{event:?}"),
                None => {}
            }
            let input = &mut self.buffer[self.start..self.end];
            if input.is_empty() {
                (self.start, self.end) = (0, self.stream.read(&mut self.buffer)?);
                (self.end > 0).then_some(()).context("the server closed the connection")?;
                continue;
            }
            self.start += self.session.receive(input)?.taken;
        }
    }
}

fn misused(_: InvalidState) -> anyhow::Error {
    anyhow::anyhow!("unexpected event from the session")
}
