//! `get` over data connections (PROTOCOL §3), one file after the other.

use core::time::Duration;

use skiff_proto::MinRate;
use skiff_proto::command::Request;
use skiff_proto::reply::Tag;
use skiff_proto::transfer::Incoming;

use super::state::Downloads;
use crate::client::Client;
use crate::client::connection::BUFFER;
use crate::client::data::{Data, classic, is_final, port, transfer};
use crate::client::error::Error;

/// Fetches everything in the queue.
pub(super) async fn download(client: &mut Client, run: &mut Downloads<'_>) {
    while let Some(index) = run.files.next() {
        if let Err(error) = get(client, run, index).await {
            // It can't be resumed.
            run.files.tasks[index].sink.reset();
            run.fail(index, error.clone());
            if is_final(&error) {
                run.fail_all(&error);
            }
        }
    }
}

async fn get(client: &mut Client, run: &mut Downloads<'_>, index: usize) -> Result<(), Error> {
    let name = run.files.name(index).to_owned();
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
        let sink = &mut run.files.tasks[index].sink;
        if announced.is_none()
            && let Some(length) = incoming.announced()
        {
            announced = Some(length);
            sink.reset();
            sink.set_version(length, Tag::UNKNOWN);
            run.files.started(index, length, 0);
        }
        let bytes = &buffer[taken..n];
        if !bytes.is_empty() {
            incoming.advance(bytes).map_err(transfer)?;
            run.files.tasks[index].sink.write(bytes, None, run.options)?;
            run.files.moved(index, bytes.len());
        }
    }
    incoming.handle_eof().map_err(transfer)?;
    run.commit_unverified(index);
    Ok(())
}
