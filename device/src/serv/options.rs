//! The options of a server on a computer.

use core::ops::RangeInclusive;
use core::str::FromStr;
use core::time::Duration;
use std::path::PathBuf;

use bytesize::ByteSize;
use skiff_keys::Secret;
use skiff_proto::MinRate;

/// The longest name of the server, in bytes.
pub const NAME: usize = 64;

/// The options that do not depend on the network.
#[derive(Debug, Clone)]
pub struct Options {
    /// Concurrent sessions: 1, 2, 4 or 8, with 1, 1, 2 or 4 classic data connections.
    pub sessions: usize,
    /// Bytes of each socket buffer.
    pub buffer: usize,
    /// The store.
    pub store: StoreChoice,
    /// A directory whose files are loaded at startup.
    pub preload: Option<PathBuf>,
    /// The ports of data connections; at least as many as there are data connections.
    pub data_ports: Option<PortRange>,
    /// A connection without progress ends after this time.
    pub idle: Duration,
    /// The minimum progress while a body is outstanding.
    pub min_rate: MinRate,
    /// The interval of keep-alives to a silent peer.
    pub keep_alive: Duration,
    /// A peer that has not answered for this time counts as dead.
    pub timeout: Duration,
    /// A writer that has been silent for this time yields to another.
    pub takeover: Duration,
    /// The server's name in the hello reply.
    pub name: Option<String>,
    /// Admit only clients with a key.
    pub security: Option<Security>,
    /// Log events to stderr.
    pub verbose: bool,
}

/// The keys that are accepted.
#[derive(Debug, Clone)]
pub struct Security {
    /// The device secret. Nonces and ephemeral secrets are random numbers from the system.
    pub secret: Secret,
    /// The lowest accepted GENERATION of a key.
    pub min_generation: u32,
}

impl Default for Options {
    /// Four sessions, socket buffers of 2 KiB, 1 MiB in memory, any data ports, and the timeouts of a device.
    fn default() -> Self {
        Self {
            sessions: 4,
            buffer: 2048,
            store: StoreChoice::default(),
            preload: None,
            data_ports: None,
            idle: Duration::from_secs(60),
            min_rate: MinRate::DEFAULT,
            keep_alive: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            takeover: Duration::from_secs(5),
            name: None,
            security: None,
            verbose: false,
        }
    }
}

impl Options {
    /// Bytes of each socket buffer of the spare listener. Small ones are halved: a device has little RAM.
    #[must_use]
    pub const fn spare_buffer(&self) -> usize {
        if self.buffer <= 2048 { self.buffer / 2 } else { self.buffer }
    }

    /// The number of classic data connections for this number of sessions; `None` if that is too large.
    #[must_use]
    pub const fn data_connections(&self) -> Option<usize> {
        match self.sessions {
            1 | 2 => Some(1),
            4 => Some(2),
            8 => Some(4),
            _ => None,
        }
    }
}

/// The store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreChoice {
    /// In memory; lost when the program ends.
    Ram {
        /// Bytes.
        size: u64,
    },
    /// In a file that is the image of a flash chip.
    Flash {
        /// The file, which is created if it is missing.
        image: PathBuf,
        /// Its size in bytes; by default, 1 MiB for a new file.
        size: Option<u64>,
    },
}

/// Parses a number of bytes, which may have a unit.
///
/// # Errors
/// It is not one.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let size = text.parse::<ByteSize>().map_err(|_| format!("`{text}` is not a size, such as 65536, 64KiB or 1MiB"))?;
    Ok(size.as_u64())
}

/// A parser of whole numbers from `least` to `most`. The error message omits `most` if it is [`u32::MAX`] or more.
pub fn number<T: TryFrom<u64> + 'static>(
    least: u64,
    most: u64,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |typed| {
        let number = typed.parse().ok().filter(|number| (least..=most).contains(number));
        number.and_then(|number: u64| T::try_from(number).ok()).ok_or_else(|| match most {
            most if most < u32::MAX.into() => format!("must be a whole number from {least} to {most}"),
            _ => format!("must be a whole number, at least {least}"),
        })
    }
}

/// The maximum size with 16-bit numbers of 1 KiB blocks.
pub(super) const RAM_MAX: u64 = 65_535 * 1024;

impl Default for StoreChoice {
    /// 1 MiB in memory.
    fn default() -> Self {
        Self::Ram { size: 1 << 20 }
    }
}

impl FromStr for StoreChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "ram" => Ok(Self::default()),
            Some(("ram", size)) => match parse_size(size)? {
                size @ 1..=RAM_MAX => Ok(Self::Ram { size }),
                _ => Err(format!("must be 1 byte to {}KiB in memory", RAM_MAX / 1024)),
            },
            // A colon may be part of the image's name.
            Some(("flash", text)) if !text.is_empty() => Ok(match text.rsplit_once(':') {
                Some((image, end)) if !image.is_empty() && end.parse::<ByteSize>().is_ok() => {
                    Self::Flash { image: image.into(), size: end.parse::<ByteSize>().ok().map(|size| size.as_u64()) }
                }
                _ => Self::Flash { image: text.into(), size: None },
            }),
            _ => Err("must be ram, ram:SIZE, flash:IMAGE or flash:IMAGE:SIZE".into()),
        }
    }
}

/// Ports: `LOW-HIGH`, or a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    low: u16,
    high: u16,
}

impl PortRange {
    /// `None` if the range is empty or begins with 0.
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
        ends.and_then(|(low, high)| Self::new(low, high)).ok_or_else(|| "must be two ports, such as 50001-50004".into())
    }
}
