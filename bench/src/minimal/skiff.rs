//! skiff, inline and classic.

use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, bail};
use skiff_proto::client::{ClientEvent, ClientSession};
use skiff_proto::command::{Command, Request, VERSION};
use skiff_proto::name::{MAX_NAME, Name};
use skiff_proto::transfer::Incoming;
use skiff_proto::{InvalidState, MinRate};

use super::fetch::{Fetch, dial};
use super::sink::{PIECE, Sink};

type Session = ClientSession<1024, 4>;

/// The inline commands. The question for them goes out together with the first `read`.
pub(super) struct Skiff {
    wire: Wire,
    verify: bool,
}

impl Skiff {
    pub(super) fn connect(port: u16, verify: bool) -> Result<Self> {
        let mut wire = Wire::connect(port)?;
        wire.request(&Command::Hello { version: VERSION })?;
        Ok(Self { wire, verify })
    }
}

impl Fetch for Skiff {
    fn fetch(&mut self, name: &str, sink: &mut Sink) -> Result<u64> {
        let Self { wire, verify } = self;
        let name = Name::parse(name.as_bytes(), MAX_NAME)?;
        wire.request(&Command::Request(Request::Read { offset: 0, length: None, name }))?;
        wire.flush()?;
        let mut announced = 0;
        loop {
            match wire.session.poll_event()? {
                Some(ClientEvent::Hello(Some(_))) => continue,
                Some(ClientEvent::Read { length, .. }) => {
                    announced = length;
                    continue;
                }
                Some(ClientEvent::BodyEnd(Ok(_))) => return Ok(announced),
                Some(event) => bail!("{event:?}"),
                None => {}
            }
            let input = &mut wire.buffer[wire.start..wire.end];
            if input.is_empty() {
                wire.read()?;
                continue;
            }
            if !*verify && let Some(mut opaque) = wire.session.opaque_in() {
                let n = usize::try_from(opaque.remaining()).map_or(input.len(), |left| left.min(input.len()));
                opaque.advance(n as u64).map_err(misused)?;
                sink.take(&input[..n])?;
                wire.start += n;
                continue;
            }
            let received = wire.session.receive(input)?;
            sink.take(received.payload)?;
            wire.start += received.taken;
        }
    }
}

/// Classic commands, a data connection for each file.
pub(super) struct Classic {
    wire: Wire,
}

impl Classic {
    pub(super) fn connect(port: u16) -> Result<Self> {
        Ok(Self { wire: Wire::connect(port)? })
    }
}

impl Fetch for Classic {
    fn fetch(&mut self, name: &str, sink: &mut Sink) -> Result<u64> {
        let Self { wire } = self;
        let name = Name::parse(name.as_bytes(), MAX_NAME)?;
        wire.request(&Command::Request(Request::Get { name }))?;
        wire.flush()?;
        let port = loop {
            match wire.session.poll_event()? {
                Some(ClientEvent::Port(port)) => break port,
                Some(event) => bail!("{event:?}"),
                None if wire.start == wire.end => wire.read()?,
                None => wire.start += wire.session.receive(&mut wire.buffer[wire.start..wire.end])?.taken,
            }
        };
        let mut data = dial(port)?;
        let mut incoming = Incoming::new(Duration::MAX, MinRate::NONE);
        loop {
            let n = data.read(&mut wire.buffer)?;
            if n == 0 {
                break;
            }
            let taken = incoming.handle_input(&wire.buffer[..n])?;
            incoming.advance(&wire.buffer[taken..n])?;
            sink.take(&wire.buffer[taken..n])?;
        }
        Ok(incoming.handle_eof()?)
    }
}

/// A connection and the session on it.
struct Wire {
    stream: TcpStream,
    session: Session,
    out: Vec<u8>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Wire {
    fn connect(port: u16) -> Result<Self> {
        let (stream, session) = (dial(port)?, Session::new(Duration::MAX));
        Ok(Self { stream, session, out: Vec::new(), buffer: vec![0; PIECE], start: 0, end: 0 })
    }

    /// Adds a command to what goes out.
    fn request(&mut self, command: &Command<'_>) -> Result<()> {
        self.session.request(command).map_err(misused)?;
        let mut room = [0; 1024];
        let n = self.session.poll_transmit(&mut room);
        self.out.extend_from_slice(&room[..n]);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        (self.start, self.end) = (0, self.stream.read(&mut self.buffer)?);
        (self.end > 0).then_some(()).context("the server closed the connection")
    }
}

fn misused(_: InvalidState) -> anyhow::Error {
    anyhow::anyhow!("unexpected event from the session")
}
