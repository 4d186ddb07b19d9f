//! What crosses the link, in a file that Wireshark and tcpdump read.

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

/// Bytes of packets that wait to be written.
const QUEUE: usize = 4 << 20;

/// For how long the end waits for a file that takes nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// A file that packets are written to, or a FIFO with Wireshark at its other end. What it can't keep up with is left out and
/// counted. After the first error it takes no more.
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
            // One that is opened for reading as well does not wait for the reader, here and when the signal to end comes.
            let is_fifo = path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo());
            let mut file = Some(made.open(path, File::options().read(is_fifo).write(true).truncate(!is_fifo))?);
            Background::start(QUEUE, move |packet| {
                if let Some(Err(error)) = file.as_mut().map(|file| file.write_all(packet)) {
                    say(format_args!("--pcap: {error}: no more is written"));
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
                "--pcap: {} packets left out: they came faster than they could be written",
                self.left_out
            ));
        }
    }
}

impl PcapSink for Capture {
    /// With the time of day: it is what other captures and logs have.
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
