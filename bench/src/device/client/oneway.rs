//! Bytes in one direction only: the speed of a stack without a protocol on top. The other end is the kernel's TCP.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Instant;

use anyhow::{Result, ensure};
use rustix::net::sockopt::set_tcp_congestion;

use super::Service;
use crate::device::transfer::Took;
use crate::wire::{PIECE, dial};

/// Reads `bytes` and disconnects.
pub(super) fn source(addr: SocketAddr, bytes: u64) -> Result<Took> {
    let mut buffer = vec![0; PIECE];
    let mut stream = dial(addr)?;
    let begin = Instant::now();
    let mut left = bytes;
    while left > 0 {
        let n = stream.read(&mut buffer)? as u64;
        ensure!(n > 0, "connection closed with {left} bytes missing");
        left = left.saturating_sub(n);
    }
    Ok(Took { seconds: begin.elapsed().as_secs_f64() })
}

/// Writes `bytes`; done when the other end has closed after the last one.
pub(super) fn sink(addr: SocketAddr, bytes: u64) -> Result<Took> {
    let buffer = vec![0x55; PIECE];
    let mut stream = dial(addr)?;
    let begin = Instant::now();
    let mut left = bytes;
    while left > 0 {
        let n = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        stream.write_all(&buffer[..n])?;
        left -= n as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    ensure!(stream.read(&mut [0])? == 0, "unexpected data from the server");
    Ok(Took { seconds: begin.elapsed().as_secs_f64() })
}

/// Serves connections one after the other, forever.
pub(super) fn serve(addr: SocketAddr, service: Service, congestion: Option<&str>) -> Result<()> {
    let listener = TcpListener::bind(addr)?;
    println!("ready");
    let mut buffer = vec![0; PIECE];
    loop {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        if let Some(name) = congestion {
            set_tcp_congestion(&stream, name)?;
        }
        // A peer that goes away is no failure.
        _ = serve_one(&mut stream, service, &mut buffer);
    }
}

fn serve_one(stream: &mut TcpStream, service: Service, buffer: &mut [u8]) -> io::Result<()> {
    // So that a silent reader that has had enough does not block the next one.
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    loop {
        match service {
            Service::Chargen => stream.write_all(buffer)?,
            Service::Discard | Service::Echo => {
                let n = stream.read(buffer)?;
                if n == 0 {
                    return Ok(());
                }
                if service == Service::Echo {
                    stream.write_all(&buffer[..n])?;
                }
            }
        }
    }
}
