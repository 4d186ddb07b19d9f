//! Data connections of the classic `get` and `put` (PROTOCOL §3).
//!
//! A data connection goes to the address of the control connection and the port that was announced, and nowhere else.

use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::sync::Arc;

use skiff_proto::Name;
use skiff_proto::command::Request;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Client;
use super::cancel::CancelToken;
use super::commands::{Again, refusal, request};
use super::dial::connect;
use super::error::Error;
use super::event::Event;
use super::name::parse;

/// True if the other files would fail the same way, each after the same timeout.
pub(super) const fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::Connect { .. }
            | Error::Mute { .. }
            | Error::Timeout { .. }
            | Error::NotSkiff { .. }
            | Error::Protocol { .. }
            | Error::Cancelled
    )
}

/// A name that can be sent to a classic server: ASCII without white space.
pub(super) fn classic(name: &str) -> Result<Name<'_>, Error> {
    let parsed = parse(name)?;
    if name.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(parsed)
    } else {
        Err(Error::ClassicName { name: name.to_owned() })
    }
}

/// Requests a data connection.
pub(super) async fn port(client: &mut Client, command: Request<'_>) -> Result<u16, Error> {
    if client.remote_addr().is_none() {
        return Err(Error::NeedsExtended { what: "a transfer over a serial line" });
    }
    match client.one(request(command), "this", Again::No).await? {
        Event::Port(port) => Ok(port),
        event => Err(refusal(event)),
    }
}

pub(super) fn transfer(source: skiff_proto::transfer::TransferError) -> Error {
    Error::Transfer { source }
}

/// One data connection.
pub(super) struct Data {
    stream: TcpStream,
    peer: SocketAddr,
    idle: Duration,
    cancel: CancelToken,
}

impl Data {
    pub(super) async fn connect(client: &Client, port: u16) -> Result<Self, Error> {
        let Some(mut peer) = client.remote_addr() else { return Err(Error::Cancelled) };
        peer.set_port(port);
        let (idle, cancel) = (client.options.idle, client.options.cancel.clone());
        match connect(peer, client.options.connect_timeout, &cancel).await {
            Ok(stream) => Ok(Self { stream, peer, idle, cancel }),
            Err(Some(source)) => Err(Error::Data { address: peer.to_string(), source: Arc::new(source) }),
            Err(None) => Err(Error::Cancelled),
        }
    }

    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let Self { stream, peer, idle, cancel } = self;
        watch(stream.read(buffer), *peer, *idle, cancel).await
    }

    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        let Self { stream, peer, idle, cancel } = self;
        while !bytes.is_empty() {
            match watch(stream.write(bytes), *peer, *idle, cancel).await {
                Ok(n) => bytes = &bytes[n..],
                Err(Error::Cancelled) => return self.give_up(Error::Cancelled),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends the stream and waits until the server closes: a reset instead says that it did not store the file.
    pub(super) async fn finish(mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let shut = self.stream.shutdown().await;
        shut.map_err(|source| Error::Data { address: self.peer.to_string(), source: Arc::new(source) })?;
        while self.read(buffer).await? > 0 {}
        Ok(())
    }

    /// Resets the connection, so that the server does not mistake what was sent for a complete file.
    pub(super) fn give_up<T>(&self, error: Error) -> Result<T, Error> {
        _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        Err(error)
    }
}

/// Waits for a data connection, with a timeout.
async fn watch(
    step: impl Future<Output = io::Result<usize>>,
    peer: SocketAddr,
    idle: Duration,
    cancel: &CancelToken,
) -> Result<usize, Error> {
    let step = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Error::Cancelled),
        step = timeout(idle, step) => step,
    };
    match step {
        Ok(step) => step.map_err(|source| Error::Data { address: peer.to_string(), source: Arc::new(source) }),
        Err(_) => Err(Error::Timeout { address: peer.to_string(), after: idle }),
    }
}
