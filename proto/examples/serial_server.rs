//! A server on a serial port (PROTOCOL section 9):
//!
//! ```text
//! stty -F /dev/ttyUSB0 115200 raw -echo
//! cargo run -p skiff-proto --features embedded-io,serial --example serial_server -- /dev/ttyUSB0
//! ```
//!
//! At the other end of the line, `host-cli serial:/dev/ttyUSB1 ls`.

use core::error::Error;
use std::fs::File;
use std::time::Instant;

use embedded_io_adapters::std::FromStd;
use skiff_device::ram::{RamMemory, RamStore};
use skiff_proto::command::command_len;
use skiff_proto::server::{Limits, ServerSession};
use skiff_proto::{drive, serial};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: serial_server DEVICE")?;
    let port = FromStd::new(File::options().read(true).write(true).open(path)?);
    let mut line: serial::Server<_, 512, 512> = serial::Server::new(port);

    let start = Instant::now();
    let clock = || skiff_proto::Instant::from_millis(0).after(start.elapsed());
    let mut memory = Box::new(RamMemory::<16, 64, 256, 1024>::new());
    let mut store = RamStore::new(&mut memory, 1);
    let mut scratch = [0; 1024];
    loop {
        line.accept()?;
        let mut session: ServerSession<{ command_len(64) }> = ServerSession::new(Limits::new(64));
        // After a failure the client opens another session and resumes.
        if let Ok(how) = drive::serve(&mut line, &mut session, &mut store, &mut scratch, clock) {
            line.close(how);
        }
    }
}
