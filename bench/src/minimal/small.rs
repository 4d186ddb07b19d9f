//! `skiff-bench-small`: the time that a small program needs to start, talk to its peer once and exit. It is a separate
//! program, linked and started like host-cli and host-serv, because the size of a program affects its start.
//!
//!     skiff-bench-small get PORT NAME TO      fetch a file, verify it, write and rename it
//!     skiff-bench-small echo PORT             bind, accept, answer

use core::error::Error;
use core::net::Ipv4Addr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;

use skiff_proto::crc::crc32c;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["get", port, name, to] => get(port, name, Path::new(to)),
        ["echo", port] => echo(port),
        _ => Err("usage: get PORT NAME TO, or echo PORT".into()),
    };
    done.map_or_else(
        |error| {
            eprintln!("skiff-bench-small: {error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

/// Fetches a small file, whose reply and body come in messages of less than 64 KiB.
fn get(port: &str, name: &str, to: &Path) -> Result<(), Box<dyn Error>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port.parse()?))?;
    let command = format!("read 0 * {name}");
    stream.write_all(format!("{:010}{command}", command.len()).as_bytes())?;
    let mut input = Input { stream, buffer: vec![0; 64 << 10], start: 0, end: 0 };
    let reply = input.message()?;
    if !reply.starts_with(b"ok ") {
        return Err(String::from_utf8_lossy(reply).into());
    }
    let mut content = Vec::new();
    loop {
        match input.message()? {
            [] => break,
            data => content.extend_from_slice(data),
        }
    }
    if input.message()? != format!("crc32c {:08x}", crc32c(&content)).as_bytes() {
        return Err("the checksum differs".into());
    }
    let partial = to.with_extension("partial");
    fs::write(&partial, content)?;
    Ok(fs::rename(&partial, to)?)
}

struct Input {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    /// The payload of the next message.
    fn message(&mut self) -> Result<&[u8], Box<dyn Error>> {
        const DIGITS: usize = 10;
        self.fill(DIGITS)?;
        let digits = core::str::from_utf8(&self.buffer[self.start..self.start + DIGITS])?;
        let len = digits.parse::<usize>()?;
        self.fill(DIGITS + len)?;
        let begin = self.start + DIGITS;
        self.start = begin + len;
        Ok(&self.buffer[begin..self.start])
    }

    /// Reads until `len` bytes have arrived.
    fn fill(&mut self, len: usize) -> Result<(), Box<dyn Error>> {
        while self.end - self.start < len {
            match self.stream.read(&mut self.buffer[self.end..])? {
                0 => return Err("the connection ended, or a message is too long".into()),
                n => self.end += n,
            }
        }
        Ok(())
    }
}

/// Echoes the bytes of each connection, forever.
fn echo(port: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse()?))?;
    loop {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..n])?;
        }
    }
}
