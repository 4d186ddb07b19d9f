//! skiff, inline and classic.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::io::Read as _;

use anyhow::{Result, bail};
use skiff_proto::MinRate;
use skiff_proto::client::ClientEvent;
use skiff_proto::command::{Command, Request, VERSION};
use skiff_proto::name::{MAX_NAME, Name};
use skiff_proto::transfer::Incoming;

use super::fetch::{Fetch, dial};
use super::sink::Sink;
use crate::wire::misused;

type Wire = crate::wire::Wire<4>;

/// The extended commands. The hello request is sent together with the first `read`.
pub(super) struct Skiff {
    wire: Wire,
    verify: bool,
}

impl Skiff {
    pub(super) fn connect(port: u16, verify: bool) -> Result<Self> {
        let mut wire = Wire::connect((Ipv4Addr::LOCALHOST, port))?;
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
            wire.receive(|session, input| {
                if !*verify && let Some(mut opaque) = session.opaque_in() {
                    let n = usize::try_from(opaque.remaining()).map_or(input.len(), |left| left.min(input.len()));
                    opaque.advance(n as u64).map_err(misused)?;
                    sink.take(&input[..n])?;
                    return Ok(n);
                }
                let received = session.receive(input)?;
                sink.take(received.payload)?;
                Ok(received.taken)
            })?;
        }
    }
}

/// Classic commands, a data connection for each file.
pub(super) struct Classic {
    wire: Wire,
}

impl Classic {
    pub(super) fn connect(port: u16) -> Result<Self> {
        Ok(Self { wire: Wire::connect((Ipv4Addr::LOCALHOST, port))? })
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
                None => wire.receive(|session, input| Ok(session.receive(input)?.taken))?,
            }
        };
        let mut data = dial(port)?;
        let mut incoming = Incoming::new(Duration::MAX, MinRate::NONE);
        loop {
            let n = data.read(wire.buffer())?;
            if n == 0 {
                break;
            }
            let taken = incoming.handle_input(&wire.buffer()[..n])?;
            incoming.advance(&wire.buffer()[taken..n])?;
            sink.take(&wire.buffer()[taken..n])?;
        }
        Ok(incoming.handle_eof()?)
    }
}
