//! What can be chosen about a server on a computer.

use core::ops::RangeInclusive;
use core::str::FromStr;
use core::time::Duration;
use std::path::PathBuf;

/// The longest name of the server, in bytes.
pub const NAME: usize = 64;

/// What device-serv serves, wherever it is found.
#[derive(Debug, Clone)]
pub struct Options {
    /// Sessions at a time: 1, 2, 4 or 8. With them come 1, 1, 2 or 4 classic data connections.
    pub sessions: usize,
    /// Bytes of each socket ring.
    pub ring: Ring,
    /// Where files are kept.
    pub store: Place,
    /// A directory whose files are in the store when it starts.
    pub preload: Option<PathBuf>,
    /// The ports of data connections, as many as there are or more.
    pub data_ports: Option<PortRange>,
    /// A connection without progress ends after this time.
    pub idle: Duration,
    /// A writer who has been silent for so long loses its place to another.
    pub takeover: Duration,
    /// Say on stderr what happens.
    pub verbose: bool,
}

impl Default for Options {
    /// Four sessions, rings of 2 KiB, 1 MiB in memory, any data ports.
    fn default() -> Self {
        Self {
            sessions: 4,
            ring: Ring::Small,
            store: Place::Ram { size: 1 << 20 },
            preload: None,
            data_ports: None,
            idle: Duration::from_secs(60),
            takeover: Duration::from_secs(5),
            verbose: false,
        }
    }
}

impl Options {
    /// The classic data connections that come with so many sessions; `None` if there can't be so many.
    #[must_use]
    pub const fn lines(&self) -> Option<usize> {
        match self.sessions {
            1 | 2 => Some(1),
            4 => Some(2),
            8 => Some(4),
            _ => None,
        }
    }
}

/// Where files are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In memory: they go with the program.
    Ram {
        /// Bytes.
        size: u64,
    },
    /// On a file that stands for a flash chip.
    Flash {
        /// The file, which is made if it is not there.
        image: PathBuf,
        /// Its bytes, 1 MiB if it is new and nothing is said.
        size: Option<u64>,
    },
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = |text: &str| text.parse().map(|size: bytesize::ByteSize| size.as_u64());
        match text.split_once(':') {
            None if text == "ram" => Ok(Self::Ram { size: 1 << 20 }),
            Some(("ram", text)) => Ok(Self::Ram { size: size(text)? }),
            // A colon may be part of the image's name.
            Some(("flash", text)) if !text.is_empty() => Ok(match text.rsplit_once(':') {
                Some((image, end)) if !image.is_empty() && size(end).is_ok() => {
                    Self::Flash { image: image.into(), size: size(end).ok() }
                }
                _ => Self::Flash { image: text.into(), size: None },
            }),
            _ => Err("ram, ram:SIZE, flash:IMAGE or flash:IMAGE:SIZE".into()),
        }
    }
}

/// The size of each socket ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ring {
    /// 2 KiB, and 1 KiB for the spare connection: what a small device has.
    #[default]
    Small,
    /// 16 KiB.
    Medium,
    /// 64 KiB.
    Large,
}

impl FromStr for Ring {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "2K" => Ok(Self::Small),
            "16K" => Ok(Self::Medium),
            "64K" => Ok(Self::Large),
            _ => Err("2K, 16K or 64K".into()),
        }
    }
}

/// Ports, `LOW-HIGH` or one alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    low: u16,
    high: u16,
}

impl PortRange {
    /// `None` if it is empty or begins with 0.
    #[must_use]
    pub const fn new(low: u16, high: u16) -> Option<Self> {
        if low == 0 || low > high { None } else { Some(Self { low, high }) }
    }

    /// The ports, in order.
    #[must_use]
    pub const fn ports(self) -> RangeInclusive<u16> {
        self.low..=self.high
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let ends = low.parse().ok().zip(high.parse().ok());
        ends.and_then(|(low, high)| Self::new(low, high)).ok_or_else(|| "two ports, as 50001-50004".into())
    }
}
