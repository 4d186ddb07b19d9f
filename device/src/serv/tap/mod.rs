//! A TAP: an Ethernet card of this machine whose other end is a file descriptor. Linux only.
//!
//! Frames are read into one piece of memory and written from another; nothing is allocated for them.

mod ioctl;

use core::net::Ipv4Addr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context as _, anyhow, bail};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use super::link::FRAME;

const TUN: &str = "/dev/net/tun";

/// The far end of a TAP, as a network card of the embedded stack.
#[derive(Debug)]
pub struct Tap {
    file: File,
    name: String,
    made: bool,
    rx: Box<[u8; FRAME]>,
    tx: Box<[u8; FRAME]>,
    lost: u64,
}

impl Tap {
    /// Takes the far end of TAP `name`. One that is not there is made, if that is permitted; it goes with this value.
    ///
    /// # Errors
    /// There is none and it can't be made, another program has it, it belongs to somebody else, or `name` is that of
    /// something else. What to do about it is said as well.
    pub fn open(name: &str) -> anyhow::Result<Self> {
        let socket = socket()?;
        let made = name_to_index(&socket, name).is_err();
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).custom_flags(NONBLOCK).open(TUN).map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::PermissionDenied => "it is not open to you: try as root",
                _ => "this machine has no TAPs: try `modprobe tun` as root",
            };
            anyhow!("{TUN}: {error}: {why}, or --listen, which needs none")
        })?;
        if let Err(error) = ioctl::attach(&file, name) {
            let owner = "$(id -un)";
            match Errno::from_io_error(&error) {
                Some(Errno::PERM | Errno::ACCESS) if made => bail!(
                    "no TAP {name}, and making one is not permitted; once, as root:\n  \
                     ip tuntap add dev {name} mode tap user {owner}\n  \
                     ip addr add 192.168.69.254/24 dev {name} && ip link set {name} up"
                ),
                Some(Errno::PERM | Errno::ACCESS) => bail!(
                    "{name} belongs to somebody else; as root, to make it yours:\n  \
                     ip tuntap del dev {name} mode tap\n  \
                     ip tuntap add dev {name} mode tap user {owner}"
                ),
                Some(Errno::BUSY) => bail!("{name} is in use by another program"),
                Some(Errno::INVAL) if !made => bail!("{name} is no TAP"),
                _ => return Err(error).with_context(|| name.to_owned()),
            }
        }
        Ok(Self { file, name: name.to_owned(), made, rx: Box::new([0; FRAME]), tx: Box::new([0; FRAME]), lost: 0 })
    }

    /// True if it was not there before.
    #[must_use]
    pub const fn is_made(&self) -> bool {
        self.made
    }

    /// True if this machine's end is up; nothing goes through before.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn is_up(&self) -> io::Result<bool> {
        ioctl::is_up(socket()?, &self.name)
    }

    /// Sets this machine's end up, and gives it an address if there is one.
    ///
    /// # Errors
    /// Not permitted.
    pub fn set_up(&self, address: Option<(Ipv4Addr, u8)>) -> io::Result<()> {
        let socket = socket()?;
        if let Some((address, prefix)) = address {
            ioctl::set_address(&socket, &self.name, address, prefix)?;
        }
        ioctl::set_up(&socket, &self.name)
    }

    /// Frames that the kernel did not take.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[expect(clippy::cast_possible_wrap, reason = "a flag of fcntl.h is small")]
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;

/// Any socket will do to ask about interfaces.
fn socket() -> io::Result<std::os::fd::OwnedFd> {
    Ok(rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?)
}

impl Device for Tap {
    type RxToken<'a> = Frame<'a>;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Frame<'_>, Room<'_>)> {
        // Would block, or the interface is gone: whoever waits for the descriptor is told.
        let len = self.file.read(&mut self.rx[..]).ok()?;
        let room = Room { file: &self.file, buffer: &mut self.tx, lost: &mut self.lost };
        Some((Frame(&self.rx[..len]), room))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Room<'_>> {
        Some(Room { file: &self.file, buffer: &mut self.tx, lost: &mut self.lost })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }
}

/// A frame that has come.
#[derive(Debug)]
pub struct Frame<'a>(&'a [u8]);

impl RxToken for Frame<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for a frame.
#[derive(Debug)]
pub struct Room<'a> {
    file: &'a File,
    buffer: &'a mut [u8; FRAME],
    lost: &'a mut u64,
}

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, len: usize, f: F) -> R {
        let frame = &mut self.buffer[..len];
        let result = f(frame);
        // As on a wire, what is lost is sent again: the interface may be down, or the kernel short of memory.
        if self.file.write(frame).is_err() {
            *self.lost += 1;
        }
        result
    }
}
