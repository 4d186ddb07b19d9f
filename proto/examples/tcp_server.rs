//! A server on a `std::net::TcpStream`, one client at a time:
//!
//! `cargo run -p skiff-proto --features embedded-io --example tcp_server -- 50000`

use core::error::Error;
use core::time::Duration;
use std::net::{Shutdown, TcpListener};
use std::time::Instant;

use embedded_io_adapters::std::FromStd;
use skiff_device::ram::{RamMemory, RamStore};
use skiff_proto::command::command_len;
use skiff_proto::drive;
use skiff_proto::server::{Close, Limits, ServerSession};

fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().nth(1).ok_or("usage: tcp_server PORT")?.parse::<u16>()?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("port {}", listener.local_addr()?.port());

    let start = Instant::now();
    let clock = || skiff_proto::Instant::from_millis(0).after(start.elapsed());
    // 16 files; 256 blocks of 4 KiB for what is in them.
    let mut memory = Box::new(RamMemory::<16, 64, 256, 4096>::new());
    let mut store = RamStore::new(&mut memory, 1);
    let mut scratch = [0; 4096];
    loop {
        let (stream, _) = listener.accept()?;
        // Ends the session of a dead peer, and makes room for the next one.
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        let mut session: ServerSession<{ command_len(64) }> = ServerSession::new(Limits::new(64));
        let mut line = FromStd::new(&stream);
        match drive::serve(&mut line, &mut session, &mut store, &mut scratch, clock) {
            Ok(Close::Gracefully) => stream.shutdown(Shutdown::Write)?,
            Ok(Close::Reset) => {}
            Err(error) => eprintln!("tcp_server: {error}"),
        }
    }
}
