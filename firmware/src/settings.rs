//! The settings of a board: a line of text in the last KiB of flash, which is not part of the image.
//!
//! | word | meaning | default |
//! |---|---|---|
//! | `ip=dhcp`, `ip=192.168.7.2/24` | the IPv4 address | DHCP, if built in |
//! | `gateway=192.168.7.1` | the gateway | none, or from DHCP |
//! | `mac=02:00:00:00:00:01` | the hardware address | the board's own |
//! | `name=lab-3` | the name of this board in the server's hello; with `mdns` also its name on the network | none |
//! | `port=50000` | the port of control connections | 50000 |
//! | `data=50001,50002` | the ports of classic data connections | those after the control port |
//! | `seed=123` | a number that is different at each start | derived from the clock and the memory |
//! | `idle=60` | seconds until a connection without progress is closed, at most a day | 60 |
//! | `secret=AAEC...` | the device secret: the base64 of its text form | everybody is admitted |
//! | `min-generation=2` | the lowest accepted GENERATION of a client's key | 1 |
//!
//! A secret is never printed. If the image lacks the feature `secure`, or the secret is not valid, the board serves
//! nobody, because ignoring the secret would admit everybody.
//!
//! With the feature `faults`, for tests: `takeover=5000` and `rate=1024/30000`, milliseconds and bytes in milliseconds.
//!
//! Words are separated by white space; the text ends before the first byte that is 0 or erased flash. Words given in
//! the environment variable `SKIFF_SETTINGS` when the image is built come first, and those in flash override them.

use core::net::Ipv4Addr;
use core::ptr::addr_of;
use core::time::Duration;
use core::{slice, str};

use skiff_device::config::Ipv4;
use skiff_proto::MinRate;
#[cfg(feature = "secure")]
use skiff_proto::secure::{Secret, Zeroizing};

#[cfg(feature = "secure")]
use crate::board::Watchdog;
#[cfg(feature = "secure")]
use crate::board::{CONSOLE, write_settings};
#[cfg(feature = "secure")]
use crate::uart::Uart as _;
use crate::{fail, log};

/// Maximum length of the text in bytes.
const ROOM: usize = 1024;
/// The maximum of `idle`, in seconds.
const DAY: u64 = 86_400;
/// The prefix of a secret in its file, and in the settings.
#[cfg(feature = "secure")]
const SECRET: &[u8] = b"skiff-secret-1 ";
#[cfg(feature = "secure")]
const WORD: &[u8] = b"secret=";
const BUILT_IN: &str = match option_env!("SKIFF_SETTINGS") {
    Some(text) => text,
    None => "",
};

// SAFETY: the memory map defines it; there is flash from there on.
unsafe extern "C" {
    static _settings: [u8; ROOM];
}

/// The settings of a board with `DATA` data connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings<const DATA: usize> {
    /// The IPv4 address and the gateway.
    pub ipv4: Ipv4,
    /// The hardware address.
    pub mac: Option<[u8; 6]>,
    /// The name of the board.
    pub name: Option<&'static str>,
    /// The port of control connections.
    pub port: u16,
    /// The ports of data connections.
    pub data: [u16; DATA],
    /// A number that differs at each start.
    pub seed: u64,
    /// A connection without progress is closed after this time.
    pub idle: Option<Duration>,
    /// A writer that has been silent for this time yields to another.
    pub takeover: Option<Duration>,
    /// The minimum progress while a body is outstanding.
    pub rate: Option<MinRate>,
    /// The device secret.
    #[cfg(feature = "secure")]
    pub secret: Option<Secret>,
    /// The lowest accepted GENERATION of a client's key.
    #[cfg(feature = "secure")]
    pub min_generation: u32,
}

impl<const DATA: usize> Settings<DATA> {
    /// The built-in settings, overridden by those in flash.
    pub fn load() -> Self {
        Self::parse(&[BUILT_IN.as_bytes(), in_flash()])
    }

    fn parse(texts: &[&'static [u8]]) -> Self {
        let mut settings = Self {
            ipv4: Ipv4::Dhcp,
            mac: None,
            name: None,
            port: 50_000,
            data: [0; DATA],
            seed: 0,
            idle: None,
            takeover: None,
            rate: None,
            #[cfg(feature = "secure")]
            secret: None,
            #[cfg(feature = "secure")]
            min_generation: 1,
        };
        let mut gateway = None;
        let words = texts.iter().flat_map(|text| text.split(u8::is_ascii_whitespace)).filter(|word| !word.is_empty());
        for word in words {
            if settings.take(word, &mut gateway).is_none() {
                log!("settings: ", word, "?");
            }
        }
        if let Ipv4::Static { gateway: way, .. } = &mut settings.ipv4 {
            *way = gateway;
        }
        settings.number_ports();
        settings
    }

    /// Assigns the ports after the control port to data connections without a port; to all of them, if a port is used
    /// twice.
    fn number_ports(&mut self) {
        let free = |port: u16, at: usize, data: &[u16]| port != self.port && !data[..at].contains(&port);
        if !self.data.iter().enumerate().all(|(at, port)| *port == 0 || free(*port, at, &self.data)) {
            log!("settings: a port is used twice");
            self.data = [0; DATA];
        }
        for (port, next) in self.data.iter_mut().zip(self.port.wrapping_add(1).max(1)..) {
            if *port == 0 {
                *port = next;
            }
        }
    }

    /// Applies one word; `None` if it is not valid.
    fn take(&mut self, word: &'static [u8], gateway: &mut Option<Ipv4Addr>) -> Option<()> {
        let equals = word.iter().position(|byte| *byte == b'=')?;
        let value = &word[equals + 1..];
        match &word[..equals] {
            b"ip" if value == b"dhcp" => self.ipv4 = Ipv4::Dhcp,
            b"ip" => {
                let slash = value.iter().position(|byte| *byte == b'/')?;
                let (address, prefix) = (address(&value[..slash])?, number(&value[slash + 1..], 10)?);
                self.ipv4 = Ipv4::Static { address, prefix: u8::try_from(prefix).ok()?, gateway: None };
            }
            b"gateway" => *gateway = Some(address(value)?),
            b"mac" => self.mac = Some(bytes(value, b':', 16)?),
            b"name" if value.iter().all(u8::is_ascii_graphic) => self.name = str::from_utf8(value).ok(),
            b"port" => self.port = u16::try_from(number(value, 10)?).ok().filter(|port| *port != 0)?,
            b"data" => {
                let mut places = self.data.iter_mut();
                for part in value.split(|byte| *byte == b',') {
                    *places.next()? = u16::try_from(number(part, 10)?).ok()?;
                }
            }
            b"seed" => self.seed = number(value, 10)?,
            #[cfg(feature = "secure")]
            b"secret" => match secret(value) {
                Some(secret) => self.secret = Some(secret),
                None => fail!("settings: the secret is not valid"),
            },
            #[cfg(not(feature = "secure"))]
            b"secret" => fail!("settings: this image has no secrets"),
            #[cfg(feature = "secure")]
            b"min-generation" => match number(value, 10).and_then(|least| u32::try_from(least).ok()) {
                Some(least) if least > 0 => self.min_generation = least,
                // Revoked keys must not become valid again.
                _ => fail!("settings: min-generation is not valid"),
            },
            b"idle" => {
                let seconds = number(value, 10).filter(|seconds| (1..=DAY).contains(seconds))?;
                self.idle = Some(Duration::from_secs(seconds));
            }
            #[cfg(feature = "faults")]
            b"takeover" => self.takeover = Some(Duration::from_millis(number(value, 10)?)),
            #[cfg(feature = "faults")]
            b"rate" => {
                let slash = value.iter().position(|byte| *byte == b'/')?;
                let window = Duration::from_millis(number(&value[slash + 1..], 10)?);
                self.rate = Some(MinRate { bytes: u32::try_from(number(&value[..slash], 10)?).ok()?, window });
            }
            _ => return None,
        }
        Some(())
    }
}

/// The text in flash.
fn in_flash() -> &'static [u8] {
    // SAFETY: flash, which nothing writes while this is used.
    let flash: &'static [u8] = unsafe { slice::from_raw_parts(addr_of!(_settings).cast(), ROOM) };
    let end = flash.iter().position(|byte| matches!(byte, 0 | 0xff)).unwrap_or(ROOM);
    &flash[..end]
}

/// The secret with this base64 text.
#[cfg(feature = "secure")]
fn secret(base64: &[u8]) -> Option<Secret> {
    let mut text = Zeroizing::new([0; Secret::TEXT_LEN]);
    let (word, rest) = text.split_at_mut(SECRET.len());
    word.copy_from_slice(SECRET);
    rest.get_mut(..base64.len())?.copy_from_slice(base64);
    Secret::parse(str::from_utf8(&text[..SECRET.len() + base64.len()]).ok()?)
}

/// Replaces the secret in the settings with the typed one, and restarts. Nothing else runs meanwhile.
#[cfg(feature = "secure")]
#[inline(never)]
pub fn change_secret(watchdog: &mut Watchdog) {
    log!("secret: type or paste the line of the secret's file (not shown); Enter alone changes nothing");
    let mut typed = Zeroizing::new([0; Secret::TEXT_LEN + 1]);
    let mut len = 0;
    loop {
        watchdog.feed();
        match CONSOLE.read() {
            Some(b'\r' | b'\n') => break,
            Some(byte) => {
                // A longer line is not a secret.
                if let Some(place) = typed.get_mut(len) {
                    *place = byte;
                    len += 1;
                }
            }
            None => {}
        }
    }
    let typed = &typed[..len];
    let base64 = typed.strip_prefix(SECRET).unwrap_or(typed).trim_ascii();
    if secret(base64).is_none() {
        log!("secret: not valid, and not changed");
        return;
    }
    let mut page = Zeroizing::new([0xff; ROOM]);
    let mut end = 0;
    let old = in_flash().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty() && !word.starts_with(WORD));
    for piece in old.flat_map(|word| [word, b" "]).chain([WORD, base64]) {
        match page.get_mut(end..end + piece.len()) {
            Some(place) => place.copy_from_slice(piece),
            None => return log!("secret: no space to store it"),
        }
        end += piece.len();
    }
    let address = u32::try_from(addr_of!(_settings).addr()).unwrap_or(0);
    write_settings(address, page.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)));
    if in_flash() == &page[..end] {
        fail!("secret: changed");
    }
    log!("secret: could not be written");
}

fn address(text: &[u8]) -> Option<Ipv4Addr> {
    bytes(text, b'.', 10).map(Ipv4Addr::from_octets)
}

/// Parses `N` bytes, written as numbers with a separator.
fn bytes<const N: usize>(text: &[u8], separator: u8, radix: u32) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut parts = text.split(|byte| *byte == separator);
    for byte in &mut bytes {
        *byte = u8::try_from(number(parts.next()?, radix)?).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let all = digits.iter().try_fold(0_u64, |value, digit| {
        value.checked_mul(radix.into())?.checked_add(char::from(*digit).to_digit(radix)?.into())
    });
    all.filter(|_| !digits.is_empty())
}
