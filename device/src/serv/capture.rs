//! What crosses the link, in a file that Wireshark and tcpdump read.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::Context as _;
use smoltcp::phy::PcapSink;

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

    fn check(&mut self, result: std::io::Result<()>) {
        if let Err(error) = result {
            say(format_args!("--pcap: {error}: no more is written"));
            self.file = None;
        }
    }
}

impl PcapSink for Capture {
    fn write(&mut self, data: &[u8]) {
        let result = self.file.as_mut().map_or(Ok(()), |file| file.write_all(data));
        self.check(result);
    }

    /// After each packet: so that what led to a crash is in the file.
    fn flush(&mut self) {
        let result = self.file.as_mut().map_or(Ok(()), BufWriter::flush);
        self.check(result);
    }
}
