//! A TAP: an Ethernet interface of this machine whose other end is a file descriptor. Linux only.
//!
//! Frames are read into one buffer and written from another; nothing is allocated for them. If the kernel permits it,
//! they may be up to 64 KiB long, without checksums: see [`Offload`].

mod ioctl;
mod offload;

use core::net::IpAddr;
use core::num::{NonZeroU16, NonZeroUsize};
use core::time::Duration;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Instant;

use anyhow::{Context as _, anyhow, bail};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};

use offload::{HEADER, describe, ends_message, is_intact};

const TUN: &str = "/dev/net/tun";

/// How long this machine may take until its new addresses are usable.
const SETTLED: Duration = Duration::from_secs(3);

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// The longest IP packet.
const PACKET: usize = 65_535;

/// The longest frame that may be answered before the next one is read.
const SHORT: usize = 1024;

/// Whether the TAP offers offload to the kernel, like a network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Offload {
    /// If available: TCP segments are split, and checksums computed, only when they leave the machine.
    #[default]
    Auto,
    /// Every frame is as on a wire.
    Off,
}

/// The far end of a TAP, as a network card of the embedded stack.
#[derive(Debug)]
pub struct Tap {
    file: File,
    name: String,
    made: bool,
    offload: bool,
    mtu: usize,
    rx: Box<[u8]>,
    tx: Box<[u8]>,
    lost: u64,
    moved: usize,
    /// The length of a frame that has been read but not yet delivered.
    fetched: Option<usize>,
    /// The last read found no frame.
    is_empty: bool,
    /// The last frame must be answered before the next one is delivered.
    answer_first: bool,
}

impl Tap {
    /// Opens the far end of TAP `name`. If it does not exist, creates it, if that is permitted; it is removed when this
    /// value is dropped.
    ///
    /// # Errors
    /// It does not exist and can't be created, another program uses it, it belongs to another user, or `name` is not a
    /// TAP. The error says what to do.
    pub fn open(name: &str, offload: Offload) -> anyhow::Result<Self> {
        let socket = socket()?;
        let made = name_to_index(&socket, name).is_err();
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).custom_flags(NONBLOCK).open(TUN).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::PermissionDenied => "try as root",
                _ => "without a TAP driver, try `modprobe tun` as root",
            };
            anyhow!("{TUN}: {error}; {hint}, or use --listen, which needs no TAP")
        })?;
        let mut with_header = offload == Offload::Auto;
        let attached = match ioctl::attach(&file, name, with_header) {
            // One that was made without this header has none.
            Err(_) if with_header => {
                with_header = false;
                ioctl::attach(&file, name, false)
            }
            attached => attached,
        };
        if let Err(error) = attached {
            let owner = "$(id -un)";
            match Errno::from_io_error(&error) {
                Some(Errno::PERM | Errno::ACCESS) if made => bail!(
                    "there is no TAP {name}, and you may not create one; run once as root:\n  \
                     ip tuntap add dev {name} mode tap user {owner}\n  \
                     ip addr add 192.168.69.254/24 dev {name} && ip link set {name} up"
                ),
                Some(Errno::PERM | Errno::ACCESS) => bail!(
                    "{name} belongs to another user; to make it yours, run as root:\n  \
                     ip tuntap del dev {name} mode tap\n  \
                     ip tuntap add dev {name} mode tap user {owner}"
                ),
                Some(Errno::BUSY) => bail!("{name} is in use by another program"),
                Some(Errno::INVAL) if !made => bail!("{name} is not a TAP"),
                _ => return Err(error).with_context(|| name.to_owned()),
            }
        }
        let mtu = ioctl::mtu(&socket, name).with_context(|| name.to_owned())?;
        let offload = with_header && ioctl::offload(&file).is_ok();
        Ok(Self::new(file, name, made, offload, mtu))
    }

    fn new(file: File, name: &str, made: bool, offload: bool, mtu: usize) -> Self {
        let mut tap = Self {
            file,
            name: name.to_owned(),
            made,
            offload,
            mtu,
            rx: Box::default(),
            tx: Box::default(),
            lost: 0,
            moved: 0,
            fetched: None,
            is_empty: false,
            answer_first: false,
        };
        tap.allocate();
        tap
    }

    fn allocate(&mut self) {
        let bytes = HEADER + ETHERNET + if self.offload { PACKET } else { self.mtu };
        (self.rx, self.tx) = (vec![0; bytes].into(), vec![0; bytes].into());
    }

    /// True if the kernel leaves segments and checksums to this end.
    #[must_use]
    pub const fn is_offloading(&self) -> bool {
        self.offload
    }

    /// The longest IP packet that fits, in bytes, except segments that are still to be split.
    #[must_use]
    pub const fn mtu(&self) -> usize {
        self.mtu
    }

    /// Sets the longest IP packet.
    ///
    /// # Errors
    /// Not permitted, or too long or too short for the kernel.
    pub fn set_mtu(&mut self, mtu: u16) -> io::Result<()> {
        ioctl::set_mtu(socket()?, &self.name, mtu)?;
        self.mtu = mtu.into();
        self.allocate();
        Ok(())
    }

    /// True if it was created by [`Tap::open`].
    #[must_use]
    pub const fn is_made(&self) -> bool {
        self.made
    }

    /// True if this machine's end is up; until then nothing gets through.
    ///
    /// # Errors
    /// The interface has been removed.
    pub fn is_up(&self) -> io::Result<bool> {
        ioctl::is_up(socket()?, &self.name)
    }

    /// Brings up this machine's end and gives it these addresses, each with its prefix length.
    ///
    /// # Errors
    /// Not permitted.
    pub fn set_up(&self, addresses: &[(IpAddr, u8)]) -> io::Result<()> {
        // The other end has no host whose address it could be, so IPv6 need not probe for seconds. Where that can't be
        // set, it does.
        _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{}/accept_dad", self.name), "0");
        let socket = socket()?;
        for (address, prefix) in addresses {
            match *address {
                IpAddr::V4(address) => ioctl::set_address(&socket, &self.name, address, *prefix)?,
                IpAddr::V6(address) => {
                    let socket = rustix::net::socket(AddressFamily::INET6, SocketType::DGRAM, None)?;
                    let index = name_to_index(&socket, &self.name)?;
                    ioctl::add_address_v6(&socket, index, address, *prefix)?;
                }
            }
        }
        ioctl::set_up(&socket, &self.name)?;
        // The kernel lets an IPv6 address be used a moment later, and sends from another one until then.
        let begin = Instant::now();
        for (address, _) in addresses.iter().filter(|(address, _)| address.is_ipv6()) {
            while UdpSocket::bind((*address, 0)).is_err() && begin.elapsed() < SETTLED {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// The number of frames that the kernel did not accept.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    const fn header(&self) -> usize {
        if self.offload { HEADER } else { 0 }
    }

    /// Reads the next frame, unless one is waiting to be delivered.
    fn fetch(&mut self) {
        let begin = self.header();
        self.is_empty = false;
        while self.fetched.is_none() {
            // Would block, or the interface has been removed: the wait for the descriptor reports that.
            let Some(len) = self.file.read(&mut self.rx).ok().filter(|len| *len >= begin) else {
                self.is_empty = true;
                return;
            };
            if !self.offload || is_intact(&self.rx[..begin], &self.rx[begin..len]) {
                self.fetched = Some(len);
            }
        }
    }

    /// True if there is a frame for [`Device::receive`], which then delivers it even if an answer was due first. Does
    /// not read if the last read has just found none.
    pub(super) fn has_frame(&mut self) -> bool {
        self.answer_first = false;
        if !core::mem::take(&mut self.is_empty) {
            self.fetch();
        }
        self.fetched.is_some()
    }

    /// Bytes of frames received and sent since the last call.
    pub(super) const fn take_moved(&mut self) -> usize {
        core::mem::replace(&mut self.moved, 0)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[expect(clippy::cast_possible_wrap, reason = "a flag of fcntl.h is small")]
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;

/// A socket for requests about interfaces; any kind works.
fn socket() -> io::Result<std::os::fd::OwnedFd> {
    Ok(rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?)
}

impl Device for Tap {
    type RxToken<'a> = Frame<'a>;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _now: smoltcp::time::Instant) -> Option<(Frame<'_>, Room<'_>)> {
        if core::mem::take(&mut self.answer_first) {
            return None;
        }
        self.fetch();
        let len = self.fetched.take()?;
        let begin = self.header();
        let frame = &self.rx[begin..len];
        // Probably a command. Acknowledgements and data are better received in one go.
        self.answer_first = frame.len() <= SHORT && ends_message(frame);
        let Self { file, tx, lost, moved, offload, rx, .. } = self;
        *moved += len;
        let room = Room { file, buffer: tx, lost, moved, offload: *offload, segment: None };
        Some((Frame(&rx[begin..len]), room))
    }

    fn transmit(&mut self, _now: smoltcp::time::Instant) -> Option<Room<'_>> {
        let Self { file, tx, lost, moved, offload, .. } = self;
        Some(Room { file, buffer: tx, lost, moved, offload: *offload, segment: None })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = ETHERNET + self.mtu;
        if self.offload {
            // Input is checked in `receive`, output is completed in `consume`.
            capabilities.checksum.tcp = Checksum::None;
            capabilities.checksum.udp = Checksum::Tx;
            capabilities.segmentation.tcpv4 = NonZeroUsize::new(ETHERNET + PACKET);
        }
        capabilities
    }
}

/// A frame that has arrived.
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
    buffer: &'a mut [u8],
    lost: &'a mut u64,
    moved: &'a mut usize,
    offload: bool,
    /// Bytes of each segment that the kernel splits off.
    segment: Option<NonZeroU16>,
}

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, len: usize, f: F) -> R {
        let header = if self.offload { HEADER } else { 0 };
        let bytes = &mut self.buffer[..header + len];
        let (before, frame) = bytes.split_at_mut(header);
        let result = f(frame);
        if self.offload {
            before.copy_from_slice(&describe(frame, self.segment));
        }
        *self.moved += bytes.len();
        // As on a wire, lost frames are sent again: the interface may be down, or the kernel short of memory.
        if self.file.write(bytes).is_err() {
            *self.lost += 1;
        }
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment = meta.segmentation_offload_size;
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;

    use smoltcp::time::Instant;

    use super::offload::tests::frame;
    use super::*;

    /// A TAP without offload whose other end is a socket.
    fn tap() -> (Tap, UnixDatagram) {
        let (near, far) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        (Tap::new(OwnedFd::from(near).into(), "", false, false, 1500), far)
    }

    fn receive(tap: &mut Tap) -> Option<usize> {
        tap.receive(Instant::ZERO).map(|(frame, _)| frame.consume(<[u8]>::len))
    }

    #[test]
    fn a_command_is_answered_before_the_next_frame_is_delivered() {
        let (mut tap, far) = tap();
        let command = frame(false);
        for _ in 0..3 {
            far.send(&command).unwrap();
        }
        assert_eq!(receive(&mut tap), Some(command.len()));
        assert_eq!(receive(&mut tap), None);
        assert!(tap.has_frame());
        assert_eq!(receive(&mut tap), Some(command.len()));
        // A caller that does not call `has_frame` simply receives again.
        assert_eq!(receive(&mut tap), None);
        assert_eq!(receive(&mut tap), Some(command.len()));
        assert!(!tap.has_frame());
    }

    #[test]
    fn data_is_delivered_without_a_pause() {
        let (mut tap, far) = tap();
        let mut data = frame(true);
        let flags = data.len() - 7 - 20 + 13;
        data[flags] = 0x10;
        for _ in 0..2 {
            far.send(&data).unwrap();
        }
        assert_eq!(receive(&mut tap), Some(data.len()));
        assert_eq!(receive(&mut tap), Some(data.len()));
        assert_eq!(receive(&mut tap), None);
        // The last receive has just found nothing.
        far.send(&data).unwrap();
        assert!(!tap.has_frame());
        assert!(tap.has_frame());
    }
}
