//! Opens a session with a server of any protocol.

use std::path::Path;

use anyhow::Result;

use super::Word;
use super::fetch::Fetch;
use super::ftp::Ftp;
use super::http::Http;
use super::limit::Echo;
use super::sink::Sink;
use super::skiff::{Classic, Skiff};

/// Opens a session, up to the point where a file can be requested.
pub(crate) fn connect(word: Word, port: u16) -> Result<Box<dyn Fetch>> {
    Ok(match word {
        Word::Skiff => Box::new(Skiff::connect(port, true)?),
        Word::SkiffUnverified => Box::new(Skiff::connect(port, false)?),
        Word::Classic => Box::new(Classic::connect(port)?),
        Word::Http => Box::new(Http::connect(port)?),
        Word::Ftp => Box::new(Ftp::connect(port)?),
        Word::Echo => Box::new(Echo::connect(port)?),
    })
}

/// Fetches one file in its own session.
pub(super) fn get(word: Word, port: u16, name: &str, to: Option<&Path>, sum: bool) -> Result<()> {
    let mut sink = Sink::new(to, sum)?;
    let size = connect(word, port)?.fetch(name, &mut sink)?;
    if let Sink::Sum(crc) = sink {
        println!("{size} {:08x}", crc.value());
    }
    Ok(())
}
