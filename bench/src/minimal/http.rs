//! HTTP/1.1, as much as a plain file server needs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, bail, ensure};

use super::fetch::{Fetch, dial};
use super::sink::{PIECE, Sink};

/// A persistent connection.
pub(super) struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Http {
    pub(super) fn connect(port: u16) -> Result<Self> {
        Ok(Self { stream: dial(port)?, buffer: vec![0; PIECE] })
    }
}

impl Fetch for Http {
    fn fetch(&mut self, name: &str, sink: &mut Sink) -> Result<u64> {
        let request = format!("GET /{name} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.stream.write_all(request.as_bytes())?;
        let mut have = 0;
        let head = loop {
            let n = self.stream.read(&mut self.buffer[have..])?;
            ensure!(n > 0, "the server closed the connection");
            have += n;
            if let Some(at) = self.buffer[..have].windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            ensure!(have < self.buffer.len(), "the response head is too long");
        };
        let size = length(&self.buffer[..head])?;
        let mut left = size;
        let mut piece = head..have;
        loop {
            let bytes = &self.buffer[piece];
            ensure!(bytes.len() as u64 <= left, "more data than announced");
            sink.take(bytes)?;
            left -= bytes.len() as u64;
            if left == 0 {
                return Ok(size);
            }
            let n = self.stream.read(&mut self.buffer)?;
            ensure!(n > 0, "the server closed the connection");
            piece = 0..n;
        }
    }
}

/// The length of the body that a head announces.
fn length(head: &[u8]) -> Result<u64> {
    let head = core::str::from_utf8(head)?;
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("{}", head.lines().next().unwrap_or_default());
    }
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    };
    head.lines().find_map(field).context("no length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_body_stands_in_its_head() {
        assert_eq!(length(b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-LENGTH: 42\r\n\r\n").unwrap(), 42);
        assert!(length(b"HTTP/1.1 404 Not Found\r\nContent-Length: 42\r\n\r\n").is_err());
        assert!(length(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
