//! `put` over data connections (PROTOCOL §3), one file after the other. A classic server does not confirm, so a file is
//! reported as sent, not as stored.

use core::time::Duration;
use std::io;

use skiff_proto::MinRate;
use skiff_proto::command::Request;
use skiff_proto::crc::Crc32c;
use skiff_proto::message::MAX_LENGTH;
use skiff_proto::transfer::{Characters, Outgoing};
use tokio::task::yield_now;

use super::source::Input;
use super::state::Uploads;
use crate::client::Client;
use crate::client::cancel::CancelToken;
use crate::client::connection::BUFFER;
use crate::client::data::is_final;
use crate::client::data::{Data, classic, port};
use crate::client::error::Error;
use crate::client::job::Sent;
use crate::client::local::at;

/// Sends everything in the queue.
pub(super) async fn upload(client: &mut Client, run: &mut Uploads<'_>) {
    while let Some(index) = run.files.next() {
        let sent = put(client, run, index).await;
        let error = sent.as_ref().err().cloned();
        run.files.finish(index, sent);
        if let Some(error) = error.filter(is_final) {
            run.files.fail_all(&error);
        }
    }
}

async fn put(client: &mut Client, run: &mut Uploads<'_>, index: usize) -> Result<Sent, Error> {
    let name = classic(run.files.name(index))?;
    let mut input = Input::open(&run.files.tasks[index].source)?;
    let size = input.size();
    let mut buffer = vec![0; BUFFER];
    let announced = announced(&mut input, &mut buffer, run.options.force, &client.options.cancel).await?;
    let port = port(client, Request::Put { name }).await?;
    let mut data = Data::connect(client, port).await?;
    run.files.started(index, size, 0);
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
        run.files.moved(index, n);
    }
    if let Err(error) = input.confirm(crc, &client.options.cancel).await {
        return data.give_up(error);
    }
    data.finish(&mut buffer).await?;
    Ok(Sent { size, resumed: 0, crc: None, confirmed: false })
}

/// The length to announce: the number of characters, if the content is text, since the original programs count those.
async fn announced(input: &mut Input, buffer: &mut [u8], force: bool, cancel: &CancelToken) -> Result<u64, Error> {
    if input.size() > MAX_LENGTH {
        let error =
            io::Error::new(io::ErrorKind::FileTooLarge, "too large for a classic server (limit 9,999,999,999 bytes)");
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
