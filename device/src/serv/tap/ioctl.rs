//! The few kernel requests that no library provides: all the `unsafe` code here.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{IntegerSetter, Opcode, Setter, Updater, ioctl, opcode};

/// Like `struct ifreq`: a name and a union. The kernel never reads or writes more than this, on any machine.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Request {
    name: [u8; NAME],
    data: [u8; 24],
}

const NAME: usize = 16;

const TUNSETIFF: Opcode = opcode::write::<core::ffi::c_int>(b'T', 202);
const TUNSETOFFLOAD: Opcode = opcode::write::<core::ffi::c_uint>(b'T', 208);
// Of linux/sockios.h: older than the scheme that opcodes are made by.
const SIOCGIFFLAGS: Opcode = 0x8913;
const SIOCSIFFLAGS: Opcode = 0x8914;
const SIOCSIFADDR: Opcode = 0x8916;
const SIOCSIFNETMASK: Opcode = 0x891c;
const SIOCGIFMTU: Opcode = 0x8921;
const SIOCSIFMTU: Opcode = 0x8922;

const IFF_TAP: i16 = 0x0002;
const IFF_NO_PI: i16 = 0x1000;
const IFF_VNET_HDR: i16 = 0x4000;
const IFF_UP: i16 = 0x0001;

impl Request {
    fn new(name: &str) -> io::Result<Self> {
        let mut request = Self { name: [0; NAME], data: [0; 24] };
        // The kernel wants a zero at the end.
        if name.is_empty() || name.len() >= NAME || name.bytes().any(|byte| byte == 0 || byte == b'/') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an interface name has 1 to 15 bytes and no `/`"));
        }
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(request)
    }

    fn with_flags(mut self, flags: i16) -> Self {
        self.data[..2].copy_from_slice(&flags.to_ne_bytes());
        self
    }

    /// `struct sockaddr_in`: the family, a port, the address.
    fn with_address(mut self, address: Ipv4Addr) -> Self {
        const AF_INET: u16 = 2;
        self.data[..2].copy_from_slice(&AF_INET.to_ne_bytes());
        self.data[4..8].copy_from_slice(&address.octets());
        self
    }
}

/// The work that the kernel may leave to this end: checksums (1), and TCP segmentation over IPv4 (2), over IPv6 (4),
/// and with ECN (8).
const OFFLOADS: usize = 0b1111;

/// Makes `fd`, an open `/dev/net/tun`, the far end of TAP `name`; if `header`, each frame is preceded by a virtio-net
/// header.
pub(super) fn attach(fd: impl AsFd, name: &str, header: bool) -> io::Result<()> {
    let request = Request::new(name)?.with_flags(IFF_TAP | IFF_NO_PI | if header { IFF_VNET_HDR } else { 0 });
    // SAFETY: TUNSETIFF reads a `struct ifreq` of at most the size of `Request`, laid out as that is, and `request` outlives the call.
    unsafe { ioctl(fd, Setter::<TUNSETIFF, _>::new(request)) }?;
    Ok(())
}

/// Lets the kernel pass frames as to a network card with offload: up to 64 KiB, without computed checksums.
pub(super) fn offload(fd: impl AsFd) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes a set of flags by value, and these are all known.
    unsafe { ioctl(fd, IntegerSetter::<TUNSETOFFLOAD>::new_usize(OFFLOADS)) }?;
    Ok(())
}

/// The longest IP packet of an interface, in bytes.
pub(super) fn mtu(socket: impl AsFd, name: &str) -> io::Result<usize> {
    let mut request = Request::new(name)?;
    // SAFETY: SIOCGIFMTU reads the name and writes a C int behind it, both within `request`, which outlives the call.
    unsafe { ioctl(socket, Updater::<SIOCGIFMTU, _>::new(&mut request)) }?;
    let [a, b, c, d, ..] = request.data;
    usize::try_from(i32::from_ne_bytes([a, b, c, d])).map_err(io::Error::other)
}

/// Sets the longest IP packet.
pub(super) fn set_mtu(socket: impl AsFd, name: &str, mtu: u16) -> io::Result<()> {
    let mut request = Request::new(name)?;
    request.data[..4].copy_from_slice(&i32::from(mtu).to_ne_bytes());
    // SAFETY: as in `attach`, for SIOCSIFMTU, which reads a C int behind the name.
    unsafe { ioctl(socket, Setter::<SIOCSIFMTU, _>::new(request)) }?;
    Ok(())
}

/// Sets an interface up.
pub(super) fn set_up(socket: impl AsFd, name: &str) -> io::Result<()> {
    let flags = flags(&socket, name)?;
    let request = Request::new(name)?.with_flags(flags | IFF_UP);
    // SAFETY: as in `attach`, for SIOCSIFFLAGS.
    unsafe { ioctl(socket, Setter::<SIOCSIFFLAGS, _>::new(request)) }?;
    Ok(())
}

/// True if an interface is up.
pub(super) fn is_up(socket: impl AsFd, name: &str) -> io::Result<bool> {
    Ok(flags(socket, name)? & IFF_UP != 0)
}

fn flags(socket: impl AsFd, name: &str) -> io::Result<i16> {
    let mut request = Request::new(name)?;
    // SAFETY: SIOCGIFFLAGS reads the name and writes two bytes behind it, both within `request`, which outlives the call.
    unsafe { ioctl(socket, Updater::<SIOCGIFFLAGS, _>::new(&mut request)) }?;
    Ok(i16::from_ne_bytes([request.data[0], request.data[1]]))
}

/// Gives an interface of this machine an address.
pub(super) fn set_address(socket: impl AsFd, name: &str, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let mask = Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0));
    let request = Request::new(name)?.with_address(address);
    // SAFETY: as in `attach`, for SIOCSIFADDR, which reads a `struct sockaddr_in` behind the name.
    unsafe { ioctl(&socket, Setter::<SIOCSIFADDR, _>::new(request)) }?;
    let request = Request::new(name)?.with_address(mask);
    // SAFETY: as above, for SIOCSIFNETMASK.
    unsafe { ioctl(&socket, Setter::<SIOCSIFNETMASK, _>::new(request)) }?;
    Ok(())
}

/// Like `struct in6_ifreq`.
#[repr(C)]
struct RequestV6 {
    address: [u8; 16],
    prefix: u32,
    index: i32,
}

/// Gives an interface of this machine an IPv6 address; `socket` is one of that family.
pub(super) fn add_address_v6(socket: impl AsFd, index: u32, address: Ipv6Addr, prefix: u8) -> io::Result<()> {
    let index = i32::try_from(index).map_err(io::Error::other)?;
    let request = RequestV6 { address: address.octets(), prefix: prefix.into(), index };
    // SAFETY: on an IPv6 socket SIOCSIFADDR reads a `struct in6_ifreq`, which `RequestV6` is laid out as, and `request` outlives
    // the call.
    unsafe { ioctl(socket, Setter::<SIOCSIFADDR, _>::new(request)) }?;
    Ok(())
}
