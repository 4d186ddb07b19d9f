//! A server on a serial port, or on any other stream of bytes:
//!
//! ```text
//! stty -F /dev/ttyUSB0 115200 raw -echo
//! cargo run -p skiff-proto --features embedded-io --example serial_server -- /dev/ttyUSB0
//! ```
//!
//! At the other end, `socat TCP-LISTEN:50000,bind=127.0.0.1 /dev/ttyUSB0,b115200,raw,echo=0` lets host-cli use the
//! port. The line must not lose bytes: use hardware flow control, or a link layer that retransmits lost bytes.

use core::error::Error;
use core::time::Duration;
use std::fs::File;
use std::time::Instant;

use embedded_io_adapters::std::FromStd;
use skiff_device::ram::{RamMemory, RamStore};
use skiff_proto::command::command_len;
use skiff_proto::drive;
use skiff_proto::server::{Limits, ServerSession};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: serial_server DEVICE")?;
    let mut line = FromStd::new(File::options().read(true).write(true).open(path)?);

    let start = Instant::now();
    let clock = || skiff_proto::Instant::from_millis(0).after(start.elapsed());
    let mut memory = Box::new(RamMemory::<16, 64, 256, 1024>::new());
    let mut store = RamStore::new(&mut memory, 1);
    let mut scratch = [0; 1024];
    let mut limits = Limits::new(64);
    // Clients can't reconnect over a serial port: wait for them.
    limits.idle = Duration::from_secs(86_400);
    loop {
        // Until the client says `quit`.
        let mut session: ServerSession<{ command_len(64) }> = ServerSession::new(limits);
        drive::serve(&mut line, &mut session, &mut store, &mut scratch, clock)?;
    }
}
