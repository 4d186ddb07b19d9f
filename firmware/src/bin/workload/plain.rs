//! The work without protection.

use core::time::Duration;

use skiff_firmware::files::NAME;
use skiff_proto::client::ClientEvent;
use skiff_proto::command::{Command, Request, VERSION, command_len};
use skiff_proto::drive::Client;
use skiff_proto::{Instant, Name};

use crate::{Both, ROUNDS, SIZE, Ticks, Wrong, each, expect, kib, ticks};

pub(crate) fn work(both: &'static mut Both, content: &mut [u8; SIZE]) -> Result<Ticks, Wrong> {
    let (now, served) = (both.now, both.served);
    let time = || Instant::from_millis(now.get());
    let mut client: Client<_, _, { command_len(NAME) }> = Client::new(both, Duration::from_secs(60), time);
    let hello = client.request(&Command::Hello { version: VERSION })?;
    if !matches!(hello, ClientEvent::Hello(Some(_))) {
        return Err(Wrong::Answer);
    }
    let name = Name::parse(b"measurements.csv", NAME).map_err(|_| Wrong::Answer)?;
    for round in 0..ROUNDS {
        content.iter_mut().zip(round..).for_each(|(byte, x)| *byte = x.to_le_bytes()[0]);
        put(&mut client, name, content)?;
        get(&mut client, name, content)?;
        let sum = Request::Sum { offset: 0, length: None, name };
        expect(matches!(client.request(&Command::Request(sum))?, ClientEvent::Sum { .. }))?;
        expect(matches!(client.request(&Command::Request(Request::List { dir: None }))?, ClientEvent::List { .. }))?;
        expect(matches!(client.reply()?, ClientEvent::BodyEnd(Ok(Some(_)))))?;
        expect(matches!(client.request(&Command::Request(Request::Remove { name }))?, ClientEvent::Done))?;
    }
    let all = ticks();

    // Of each thing as many, and of files those of nothing first: what a whole one takes more is what its bytes take.
    let ping = each(served, || expect(matches!(client.request(&Command::Ping)?, ClientEvent::Done)))?;
    let write = each(served, || put(&mut client, name, &mut []))?;
    let read = each(served, || get(&mut client, name, &[]))?;
    let whole = [each(served, || put(&mut client, name, content))?, each(served, || get(&mut client, name, content))?];
    let (put, get) = (kib(whole[0], write), kib(whole[1], read));
    Ok(Ticks { all, server: [("ping", ping), ("write", write), ("read", read), ("put", put), ("get", get)] })
}

type Peer<C> = Client<&'static mut Both, C, { command_len(NAME) }>;

/// Stores a file.
fn put<C: FnMut() -> Instant>(client: &mut Peer<C>, name: Name<'_>, content: &mut [u8]) -> Result<(), Wrong> {
    client.send(&Command::Request(Request::Write { offset: 0, size: content.len() as u64, mtime: None, name }))?;
    if !content.is_empty() {
        client.write(content)?;
    }
    expect(matches!(client.finish()?, ClientEvent::Stored { .. }))
}

/// Reads it back, and compares.
fn get<C: FnMut() -> Instant>(client: &mut Peer<C>, name: Name<'_>, content: &[u8]) -> Result<(), Wrong> {
    let read = Request::Read { offset: 0, length: None, name };
    expect(matches!(client.request(&Command::Request(read))?, ClientEvent::Read { .. }))?;
    let (mut piece, mut at) = ([0; 512], 0);
    loop {
        let n = client.read(&mut piece)?;
        if n == 0 {
            break;
        }
        if content.get(at..at + n) != Some(&piece[..n]) {
            return Err(Wrong::Content);
        }
        at += n;
    }
    expect(at == content.len() && matches!(client.reply()?, ClientEvent::BodyEnd(Ok(Some(_)))))
}
