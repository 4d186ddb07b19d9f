//! A skiff session over a blocking socket.

use core::net::SocketAddr;

use anyhow::{Result, bail, ensure};
use skiff_proto::InvalidState;
use skiff_proto::client::ClientEvent;
use skiff_proto::command::{Command, VERSION};
use skiff_proto::message::HEADER_LEN;

use crate::wire::{PIECE, Wire, misused};

/// Commands that may wait for their replies.
const QUEUE: usize = 512;

/// An event from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// A short reply.
    Done,
    /// A `write` is stored, with this checksum.
    Stored { size: u64, crc: Option<u32> },
    /// The body of a `read` is complete, and its checksum is correct.
    Body { crc: Option<u32> },
}

/// A connection and the session on it.
pub(super) struct Session(Wire<QUEUE>);

impl Session {
    /// Connects and asks for the extended commands.
    pub(super) fn connect(addr: SocketAddr) -> Result<Self> {
        let mut session = Self(Wire::connect(addr)?);
        session.request(&Command::Hello { version: VERSION })?;
        session.flush()?;
        ensure!(session.next()? == Came::Done, "no reply to the hello");
        Ok(session)
    }

    /// Adds a command to the output.
    pub(super) fn request(&mut self, command: &Command<'_>) -> Result<()> {
        self.0.request(command)
    }

    /// Adds the body of a `write`, whose checksum is `crc`, and sends it with the preceding output.
    pub(super) fn body(&mut self, content: &[u8], crc: u32) -> Result<()> {
        let wire = &mut self.0;
        wire.session.supply_crc(Some(crc)).map_err(misused)?;
        if !content.is_empty() {
            wire.session.set_data_max(u32::try_from(content.len())?);
            let mut room = [0; HEADER_LEN + 1];
            let sent = wire.session.send(&mut room, |room| {
                room[0] = content[0];
                Ok::<_, InvalidState>(1)
            });
            sent.map_err(|_| misused(InvalidState))?;
            wire.out.extend_from_slice(&room);
            let rest = &content[1..];
            if let Some(mut opaque) = wire.session.opaque() {
                opaque.advance(rest.len() as u64).map_err(misused)?;
            }
            // The head and the first bytes of the body in one write.
            for piece in rest.chunks(PIECE) {
                wire.out.extend_from_slice(piece);
                if is_full(wire) {
                    wire.flush()?;
                }
            }
        }
        wire.session.finish().map_err(misused)?;
        wire.transmit();
        Ok(())
    }

    /// True if enough output is waiting that it should be sent.
    pub(super) const fn is_full(&self) -> bool {
        is_full(&self.0)
    }

    /// Sends the waiting output.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }

    /// Waits for the next event.
    pub(super) fn next(&mut self) -> Result<Came> {
        loop {
            match self.0.session.poll_event()? {
                Some(ClientEvent::Hello(Some(_)) | ClientEvent::Done) => return Ok(Came::Done),
                Some(ClientEvent::Stored { size, crc }) => return Ok(Came::Stored { size, crc }),
                Some(ClientEvent::BodyEnd(Ok(crc))) => return Ok(Came::Body { crc }),
                Some(ClientEvent::Read { .. }) => continue,
                Some(event) => bail!("{event:?}"),
                None => {}
            }
            self.0.receive(|session, input| Ok(session.receive(input)?.taken))?;
        }
    }
}

const fn is_full(wire: &Wire<QUEUE>) -> bool {
    wire.out.len() >= PIECE
}
