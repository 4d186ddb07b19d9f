//! What tells one board from another: a line of text in the last KiB of flash, which is not part of the image.
//!
//! | word | what it says | without it |
//! |---|---|---|
//! | `ip=dhcp`, `ip=192.168.7.2/24` | the IPv4 address | DHCP, if that is built in |
//! | `gateway=192.168.7.1` | the way to other networks | none, or what DHCP says |
//! | `mac=02:00:00:00:00:01` | the hardware address | the board's own |
//! | `port=50000` | the port of control connections | 50000 |
//! | `data=50001,50002` | the ports of classic data connections | those that follow |
//! | `seed=123` | a number that is different at each start | what can be had of the clock and the memory |
//!
//! Words are separated by white space; the text ends before the first byte that is 0 or erased flash. Words given in the
//! environment variable `SKIFF_SETTINGS` when the image is built come first, and those in flash override them.

use core::net::Ipv4Addr;
use core::ptr::addr_of;
use core::{slice, str};

use skiff_device::config::Ipv4;

use crate::log;

/// Bytes of the text at most.
const ROOM: usize = 1024;
const BUILT_IN: &str = match option_env!("SKIFF_SETTINGS") {
    Some(text) => text,
    None => "",
};

// SAFETY: the memory map defines it; there is flash from there on.
unsafe extern "C" {
    static _settings: [u8; ROOM];
}

/// The settings of a board with `LINES` data connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings<const LINES: usize> {
    /// The IPv4 address, and the way to other networks.
    pub ipv4: Ipv4,
    /// The hardware address.
    pub mac: Option<[u8; 6]>,
    /// The port of control connections.
    pub port: u16,
    /// The ports of data connections.
    pub data: [u16; LINES],
    /// A number that is different at each start.
    pub seed: u64,
}

impl<const LINES: usize> Settings<LINES> {
    /// The settings that were built in, and those in flash.
    pub fn load() -> Self {
        // SAFETY: flash, which nothing writes.
        let flash: &[u8] = unsafe { slice::from_raw_parts(addr_of!(_settings).cast(), ROOM) };
        let end = flash.iter().position(|byte| matches!(byte, 0 | 0xff)).unwrap_or(ROOM);
        let text = str::from_utf8(&flash[..end]).unwrap_or_else(|_| {
            log!("settings: not text");
            ""
        });
        Self::parse(BUILT_IN.split_ascii_whitespace().chain(text.split_ascii_whitespace()))
    }

    fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let mut settings = Self { ipv4: Ipv4::Dhcp, mac: None, port: 50_000, data: [0; LINES], seed: 0 };
        let mut way = None;
        for word in words {
            let known = word.split_once('=').and_then(|(key, value)| match key {
                "ip" => ipv4(value).map(|ipv4| settings.ipv4 = ipv4),
                "gateway" => value.parse().ok().map(|gateway| way = Some(gateway)),
                "mac" => mac(value).map(|mac| settings.mac = Some(mac)),
                "port" => value.parse().ok().map(|port| settings.port = port),
                "data" => ports(value).map(|ports| settings.data = ports),
                "seed" => value.parse().ok().map(|seed| settings.seed = seed),
                _ => None,
            });
            if known.is_none() {
                log!("settings: {word}?");
            }
        }
        if let Ipv4::Static { gateway, .. } = &mut settings.ipv4 {
            *gateway = way;
        }
        for (port, next) in settings.data.iter_mut().zip(settings.port.wrapping_add(1)..) {
            if *port == 0 {
                *port = next;
            }
        }
        settings
    }
}

fn ipv4(text: &str) -> Option<Ipv4> {
    if text == "dhcp" {
        return Some(Ipv4::Dhcp);
    }
    let (address, prefix) = text.split_once('/')?;
    Some(Ipv4::Static { address: address.parse::<Ipv4Addr>().ok()?, prefix: prefix.parse().ok()?, gateway: None })
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

fn ports<const LINES: usize>(text: &str) -> Option<[u16; LINES]> {
    let mut ports = [0; LINES];
    let mut parts = text.split(',');
    for (port, part) in ports.iter_mut().zip(&mut parts) {
        *port = part.parse().ok()?;
    }
    parts.next().is_none().then_some(ports)
}
