//! File uploads and downloads.

use core::net::SocketAddr;
use std::time::Instant;

use anyhow::{Result, ensure};
use skiff_proto::command::{Command, Request};
use skiff_proto::crc::crc32c;
use skiff_proto::name::{MAX_NAME, Name};

use super::session::{Came, Session};
use crate::device::transfer::{Took, Way};

/// Bytes of a small file.
const SMALL: u64 = 1024;

/// The name of the large file.
pub(crate) const LARGE: &str = "large";

/// Pseudorandom bytes, the same in every run.
pub(crate) fn content(size: u64, seed: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size)?];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for piece in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        piece.copy_from_slice(&state.to_le_bytes()[..piece.len()]);
    }
    Ok(bytes)
}

fn read(name: &str) -> Result<Command<'_>> {
    let name = Name::parse(name.as_bytes(), MAX_NAME)?;
    Ok(Command::Request(Request::Read { offset: 0, length: None, name }))
}

fn write(name: &str, size: u64) -> Result<Command<'_>> {
    let name = Name::parse(name.as_bytes(), MAX_NAME)?;
    Ok(Command::Request(Request::Write { offset: 0, size, mtime: None, name }))
}

/// Fetches the large file repeatedly.
pub(super) fn get(addr: SocketAddr, size: u64, times: u32) -> Result<Took> {
    let crc = crc32c(&content(size, 1)?);
    let mut session = Session::connect(addr)?;
    let begin = Instant::now();
    for _ in 0..times {
        session.request(&read(LARGE)?)?;
        session.flush()?;
        let came = session.next()?;
        ensure!(came == Came::Body { crc: Some(crc) }, "{came:?} instead of {crc:08x}");
    }
    Ok(Took { seconds: begin.elapsed().as_secs_f64() })
}

/// Stores the large file repeatedly. The checksum of the content is known beforehand, as it may be for a file.
pub(super) fn put(addr: SocketAddr, size: u64, times: u32) -> Result<Took> {
    let content = content(size, 1)?;
    let crc = crc32c(&content);
    let mut session = Session::connect(addr)?;
    let begin = Instant::now();
    for _ in 0..times {
        session.request(&write(LARGE, size)?)?;
        session.body(&content, crc)?;
        session.flush()?;
        stored(session.next()?, size, crc)?;
    }
    Ok(Took { seconds: begin.elapsed().as_secs_f64() })
}

fn stored(came: Came, size: u64, crc: u32) -> Result<()> {
    ensure!(came == Came::Stored { size, crc: Some(crc) }, "{came:?} instead of {size} bytes, {crc:08x}");
    Ok(())
}

/// Small files, with all commands pipelined or each after the reply to the previous one.
pub(super) fn many(addr: SocketAddr, way: Way, count: u32, times: u32, at_once: bool) -> Result<Took> {
    let files = (0..count).map(|number| {
        let content = content(SMALL, u64::from(number) + 2)?;
        Ok((format!("f{number:04}"), crc32c(&content), content))
    });
    let files = files.collect::<Result<Vec<_>>>()?;
    let mut session = Session::connect(addr)?;
    let check = |came: Came, crc: u32| match way {
        Way::Get => {
            ensure!(came == Came::Body { crc: Some(crc) }, "{came:?} instead of {crc:08x}");
            Ok(())
        }
        Way::Put => stored(came, SMALL, crc),
    };
    let begin = Instant::now();
    for _ in 0..times {
        for (name, crc, content) in &files {
            match way {
                Way::Get => session.request(&read(name)?)?,
                Way::Put => {
                    session.request(&write(name, SMALL)?)?;
                    session.body(content, *crc)?;
                }
            }
            if !at_once {
                session.flush()?;
                check(session.next()?, *crc)?;
            } else if session.is_full() {
                session.flush()?;
            }
        }
        if at_once {
            session.flush()?;
            for (_, crc, _) in &files {
                check(session.next()?, *crc)?;
            }
        }
    }
    Ok(Took { seconds: begin.elapsed().as_secs_f64() })
}
