//! The client's side of classic data connections.

use core::future::poll_fn;
use core::task::Poll;
use core::time::Duration;

use skiff_proto::Instant;
use skiff_proto::time::MinRate;
use skiff_proto::transfer::{Incoming, Outgoing};

use crate::sim::{Lost, Options, Shared, Stream};

/// The client's timeout without progress.
const IDLE: Duration = Duration::from_secs(90);

/// Reads a file to the end of its connection.
pub async fn fetch(world: Shared, station: usize, port: u16, options: Options) -> Result<Vec<u8>, Lost> {
    let stream = Stream::connect_from(&world, station, port, options).await?;
    let mut incoming = Incoming::new(IDLE, MinRate::NONE);
    let mut content = Vec::new();
    let mut buffer = [0; 1500];
    loop {
        let n = poll_fn(|_| {
            if incoming.handle_timeout(now(&world)).is_err() {
                return Poll::Ready(Err(Lost));
            }
            world.borrow_mut().wake_at(incoming.poll_timeout());
            stream.poll_read(&mut buffer)
        })
        .await?;
        if n == 0 {
            break;
        }
        let mut bytes = &buffer[..n];
        while !bytes.is_empty() {
            let head = incoming.handle_input(bytes).map_err(|_| Lost)?;
            bytes = &bytes[head..];
            let payload = incoming.payload().map_or(0, |payload| payload.clamp(bytes.len()));
            incoming.advance(&bytes[..payload]).map_err(|_| Lost)?;
            content.extend_from_slice(&bytes[..payload]);
            bytes = &bytes[payload..];
            if head + payload == 0 {
                return Err(Lost);
            }
        }
    }
    incoming.handle_eof().map_err(|_| Lost)?;
    stream.close();
    Ok(content)
}

/// Sends a file with the announced length `announced`; waits until the server confirms that it is stored.
pub async fn send(
    world: Shared,
    station: usize,
    port: u16,
    options: Options,
    content: Vec<u8>,
    announced: u64,
) -> Result<(), Lost> {
    let stream = Stream::connect_from(&world, station, port, options).await?;
    let mut outgoing = Outgoing::new(content.len() as u64, announced, IDLE, MinRate::NONE);
    let mut head = [0; 10];
    let len = outgoing.poll_transmit(&mut head);
    let bytes = [&head[..len], &content].concat();
    let mut sent = 0;
    while sent < bytes.len() {
        let n = poll_fn(|_| {
            if outgoing.handle_timeout(now(&world)).is_err() {
                return Poll::Ready(Err(Lost));
            }
            world.borrow_mut().wake_at(outgoing.poll_timeout());
            stream.poll_write(&bytes[sent..])
        })
        .await?;
        let before = sent.max(len);
        sent += n;
        outgoing.advance(sent.max(len).saturating_sub(before) as u64).map_err(|_| Lost)?;
    }
    stream.finish();
    let mut buffer = [0; 1];
    let n = poll_fn(|_| {
        if outgoing.handle_timeout(now(&world)).is_err() {
            return Poll::Ready(Err(Lost));
        }
        world.borrow_mut().wake_at(outgoing.poll_timeout());
        stream.poll_read(&mut buffer)
    })
    .await?;
    if n == 0 { Ok(()) } else { Err(Lost) }
}

fn now(world: &Shared) -> Instant {
    world.borrow().now()
}
