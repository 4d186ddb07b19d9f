//! What crosses the link, in a file that Wireshark and tcpdump read.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use smoltcp::phy::PcapSink;
use smoltcp::time::Instant;

use super::say::say;

/// A file that packets are written to. After the first error it takes no more.
#[derive(Debug)]
pub(super) struct Capture {
    file: Option<BufWriter<File>>,
}

impl Capture {
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        Ok(Self { file: Some(BufWriter::new(file)) })
    }

    fn check(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            say(format_args!("--pcap: {error}: no more is written"));
            self.file = None;
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
        let result = self.file.as_mut().map_or(Ok(()), |file| file.write_all(data));
        self.check(result);
    }

    /// After each packet: so that what led to a crash is in the file.
    fn flush(&mut self) {
        // Not `BufWriter::flush`: with its feature `std` smoltcp makes every writer a `PcapSink`, which has a `flush` too.
        let result = self.file.as_mut().map_or(Ok(()), io::Write::flush);
        self.check(result);
    }
}
