//! `get` and `put` over data connections (PROTOCOL §3), one file after the other.
//!
//! A data connection goes to the address of the control connection and the port that was announced, and nowhere else. A
//! classic server says nothing about what became of a file, so a `put` is sent, not stored.

use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::sync::Arc;

use skiff_proto::command::Request;
use skiff_proto::crc::Crc32c;
use skiff_proto::message::MAX_LENGTH;
use skiff_proto::reply::Tag;
use skiff_proto::transfer::{Characters, Incoming, Outgoing};
use skiff_proto::{MinRate, Name};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::Client;
use super::cancel::CancelToken;
use super::commands::{Again, parse, refusal, request};
use super::connection::{BUFFER, Event, connect};
use super::error::Error;
use super::job::Sent;
use super::local::at;
use super::source::Input;
use super::{download, upload};

/// Fetches everything in the queue.
pub(super) async fn download(client: &mut Client, run: &mut download::Run<'_>) {
    while let Some(index) = run.queue.pop_front() {
        if !run.is_open(index) {
            continue;
        }
        if let Err(error) = get(client, run, index).await {
            run.fail(index, error.clone());
            if is_final(&error) {
                run.fail_all(&error);
            }
        }
    }
}

/// Sends everything in the queue.
pub(super) async fn upload(client: &mut Client, run: &mut upload::Run<'_>) {
    while let Some(index) = run.queue.pop_front() {
        if !run.is_open(index) {
            continue;
        }
        let sent = put(client, run, index).await;
        let error = sent.as_ref().err().cloned();
        run.finish(index, sent);
        if let Some(error) = error.filter(is_final) {
            run.fail_all(&error);
        }
    }
}

/// True if the other files would fail the same way, each after the same wait.
const fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::Connect { .. } | Error::Mute { .. } | Error::Timeout { .. } | Error::Protocol { .. } | Error::Cancelled
    )
}

async fn get(client: &mut Client, run: &mut download::Run<'_>, index: usize) -> Result<(), Error> {
    let name = run.tasks[index].name.clone();
    let port = port(client, Request::Get { name: classic(&name)? }).await?;
    let mut data = Data::connect(client, port).await?;
    let mut incoming = Incoming::new(Duration::MAX, MinRate::NONE);
    let mut buffer = vec![0; BUFFER];
    let mut announced = None;
    loop {
        let n = data.read(&mut buffer).await?;
        if n == 0 {
            break;
        }
        let taken = incoming.handle_input(&buffer[..n]).map_err(transfer)?;
        let task = &mut run.tasks[index];
        if announced.is_none()
            && let Some(length) = incoming.announced()
        {
            announced = Some(length);
            task.sink.reset();
            task.sink.set_version(length, Tag::UNKNOWN);
            run.observer.started(index, &task.name, length, 0);
        }
        let bytes = &buffer[taken..n];
        if !bytes.is_empty() {
            incoming.advance(bytes).map_err(transfer)?;
            task.sink.write(bytes, None, run.options)?;
            run.observer.progress(index, bytes.len() as u64);
        }
    }
    incoming.handle_eof().map_err(transfer)?;
    run.commit_unverified(index);
    Ok(())
}

async fn put(client: &mut Client, run: &mut upload::Run<'_>, index: usize) -> Result<Sent, Error> {
    let task = &run.tasks[index];
    let name = classic(&task.name)?;
    let mut input = Input::open(&task.source)?;
    let size = input.size();
    let mut buffer = vec![0; BUFFER];
    let announced = announced(&mut input, &mut buffer, run.options.force, &client.options.cancel).await?;
    let port = port(client, Request::Put { name }).await?;
    let mut data = Data::connect(client, port).await?;
    run.observer.started(index, &task.name, size, 0);
    let mut outgoing = Outgoing::new(size, announced, Duration::MAX, MinRate::NONE);
    let mut crc = Crc32c::new();
    while !outgoing.is_done() {
        // The length leaves in one write with the first bytes: the original programs misread one that is cut.
        let head = outgoing.poll_transmit(&mut buffer);
        let room = outgoing.payload().map_or(0, |payload| payload.clamp(buffer.len() - head));
        let n = match input.read(&mut buffer[head..head + room]) {
            Ok(n) if n > 0 || room == 0 => n,
            Ok(_) => return data.give_up(input.changed()),
            Err(error) => return data.give_up(error),
        };
        crc.update(&buffer[head..head + n]);
        data.write(&buffer[..head + n]).await?;
        if outgoing.advance(n as u64).is_err() {
            return data.give_up(input.changed());
        }
        run.observer.progress(index, n as u64);
    }
    if let Err(error) = input.confirm(crc, &client.options.cancel).await {
        return data.give_up(error);
    }
    data.finish(&mut buffer).await?;
    Ok(Sent { size, resumed: 0, crc: None, confirmed: false })
}

/// What the length of a file has to say: its characters, if it is text, which is what the original programs count.
async fn announced(input: &mut Input, buffer: &mut [u8], force: bool, cancel: &CancelToken) -> Result<u64, Error> {
    if input.size() > MAX_LENGTH {
        let error =
            io::Error::new(io::ErrorKind::FileTooLarge, "larger than a classic server takes (9,999,999,999 bytes)");
        return Err(at(input.path())(error));
    }
    let mut characters = Characters::new();
    let mut pieces = 0_u32;
    // No more than is sent: the file may grow.
    let mut left = input.size();
    loop {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let n = input.read(&mut buffer[..want])?;
        left -= n as u64;
        characters.update(&buffer[..n]);
        if n == 0 || characters.count().is_none() {
            break;
        }
        pieces += 1;
        if pieces.is_multiple_of(64) {
            yield_now().await;
        }
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
    }
    input.seek(0)?;
    match characters.whole() {
        Some(count) => Ok(count),
        None if force => Ok(input.size()),
        None => Err(Error::NotText { path: input.path().to_path_buf() }),
    }
}

/// A name that can be said to a classic server: ASCII without white space.
fn classic(name: &str) -> Result<Name<'_>, Error> {
    let parsed = parse(name)?;
    if name.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(parsed)
    } else {
        Err(Error::ClassicName { name: name.to_owned() })
    }
}

/// Asks for a data connection.
async fn port(client: &mut Client, command: Request<'_>) -> Result<u16, Error> {
    match client.one(request(command), "this", Again::No).await? {
        Event::Port(port) => Ok(port),
        event => Err(refusal(event)),
    }
}

fn transfer(source: skiff_proto::transfer::TransferError) -> Error {
    Error::Transfer { source }
}

/// One data connection.
struct Data {
    stream: TcpStream,
    peer: SocketAddr,
    idle: Duration,
    cancel: CancelToken,
}

impl Data {
    async fn connect(client: &Client, port: u16) -> Result<Self, Error> {
        let mut peer = client.peer;
        peer.set_port(port);
        let (idle, cancel) = (client.options.idle, client.options.cancel.clone());
        match connect(peer, client.options.connect_timeout, &cancel).await {
            Ok(stream) => Ok(Self { stream, peer, idle, cancel }),
            Err(Some(source)) => Err(Error::Data { address: peer.to_string(), source: Arc::new(source) }),
            Err(None) => Err(Error::Cancelled),
        }
    }

    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let Self { stream, peer, idle, cancel } = self;
        watch(stream.read(buffer), *peer, *idle, cancel).await
    }

    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
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
    async fn finish(mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let shut = self.stream.shutdown().await;
        shut.map_err(|source| Error::Data { address: self.peer.to_string(), source: Arc::new(source) })?;
        while self.read(buffer).await? > 0 {}
        Ok(())
    }

    /// Resets the connection, so that what was sent is not taken for a whole file.
    fn give_up<T>(&self, error: Error) -> Result<T, Error> {
        _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        Err(error)
    }
}

/// Waits for a data connection, but not for ever.
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
