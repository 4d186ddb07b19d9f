//! Captures the packets on the link in a file for Wireshark and tcpdump.

use core::mem;
use core::time::Duration;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use smoltcp::phy::PcapSink;
use smoltcp::time::Instant;

use super::background::Background;
use super::made::Made;
use super::say::say;

/// Maximum number of bytes of packets that wait to be written.
const QUEUE: usize = 4 << 20;

/// How long the program waits at its end for a capture file that accepts no data.
const PATIENCE: Duration = Duration::from_secs(2);

/// Writes packets to a file, or to a FIFO that Wireshark reads. Packets that it can't keep up with are dropped and
/// counted. After the first error it writes nothing more.
#[derive(Debug)]
pub(super) struct Capture {
    thread: Background,
    /// The header of the file, or a packet.
    block: Vec<u8>,
    left_out: u64,
}

impl Capture {
    pub(super) fn create(path: &Path, made: &mut Made) -> anyhow::Result<Self> {
        let mut create = || {
            // A FIFO opened for reading too does not block until a reader opens it, neither here nor at shutdown.
            let is_fifo = path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo());
            let mut file = Some(made.open(path, File::options().read(is_fifo).write(true).truncate(!is_fifo))?);
            Background::start(QUEUE, move |packet| {
                if let Some(Err(error)) = file.as_mut().map(|file| file.write_all(packet)) {
                    say(format_args!("--pcap: {error}; capture stopped"));
                    file = None;
                }
            })
        };
        let thread = create().with_context(|| format!("--pcap {}", path.display()))?;
        Ok(Self { thread, block: Vec::new(), left_out: 0 })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.thread.flush(PATIENCE);
        if self.left_out > 0 {
            say(format_args!(
                "--pcap: {} packets dropped: they arrived faster than they could be written",
                self.left_out
            ));
        }
    }
}

impl PcapSink for Capture {
    /// Uses the time of day, like other captures and logs.
    fn packet_header(&mut self, _since_start: Instant, length: usize) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.write_u32(u32::try_from(now.as_secs()).unwrap_or(u32::MAX));
        self.write_u32(now.subsec_micros());
        self.write_u32(self.max_packet_size().min(length));
        self.write_u32(length);
    }

    fn write(&mut self, data: &[u8]) {
        self.block.extend_from_slice(data);
    }

    /// After each packet.
    fn flush(&mut self) {
        let block = mem::take(&mut self.block);
        if !self.thread.put(block) {
            self.left_out += 1;
        }
    }
}
