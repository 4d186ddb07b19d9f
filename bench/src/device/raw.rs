//! The raw TAP, without a TCP stack: the upper bound for plain frames of 1,500 bytes, with one system call each.
//!
//! The server answers UDP datagrams:
//!
//! | frame | action |
//! |---|---|
//! | ARP request | replies |
//! | short datagram to port 19 | writes a window of full frames, which the kernel drops, then echoes the datagram |
//! | other short datagram | echoes it |
//! | long datagram | discards it |
//!
//! The client keeps two windows in flight, each as large as the smallest buffers of the compared TCP stacks.

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::relay::open;
use super::transfer::{Took, Way};

/// Frames in a window: 64 KiB.
const WINDOW: usize = 44;

/// File bytes in a full frame, as in a TCP segment.
const FULL: usize = 1460;

const HEADERS: usize = 14 + 20 + 8;

/// Serves a TAP forever.
pub(super) fn serve(tap: &str) -> Result<()> {
    let mut tap = open(tap)?;
    rustix::io::ioctl_fionbio(&tap, false)?;
    println!("ready");
    let mut frame = [0; 1514];
    // The kernel does not know this EtherType, so it drops the frame at little cost.
    let mut full = [0; 1514];
    full[..6].copy_from_slice(&[0xff; 6]);
    full[12..14].copy_from_slice(&[0x88, 0xb5]);
    loop {
        let n = tap.read(&mut frame)?;
        let frame = &mut frame[..n];
        match (frame.get(12..14), n) {
            (Some([8, 6]), 42..) => answer_arp(&mut tap, frame)?,
            (Some([8, 0]), HEADERS..200) if frame[23] == 17 => {
                if frame[36..38] == 19_u16.to_be_bytes() {
                    for _ in 1..WINDOW {
                        tap.write_all(&full)?;
                    }
                }
                // Swapping fields keeps the checksums valid.
                swap(frame, [0, 6], 6);
                swap(frame, [26, 30], 4);
                swap(frame, [34, 36], 2);
                tap.write_all(frame)?;
            }
            _ => {}
        }
    }
}

fn swap(frame: &mut [u8], [one, other]: [usize; 2], len: usize) {
    for at in 0..len {
        frame.swap(one + at, other + at);
    }
}

/// Answers every ARP request, whatever the address.
fn answer_arp(tap: &mut File, frame: &mut [u8]) -> io::Result<()> {
    const ADDRESS: [u8; 6] = [2, 0, 0, 0, 0, 1];
    frame[21] = 2;
    swap(frame, [22, 32], 10);
    frame[22..28].copy_from_slice(&ADDRESS);
    frame.copy_within(32..38, 0);
    frame[6..12].copy_from_slice(&ADDRESS);
    tap.write_all(frame)
}

/// Moves `bytes` in one direction. Only the server uses a system call for each frame.
pub(super) fn transfer(addr: SocketAddr, way: Way, bytes: u64) -> Result<Took> {
    let socket = connect(addr)?;
    let window = [0; (WINDOW - 1) * FULL];
    let request = || -> io::Result<()> {
        if way == Way::Put {
            socket.send(&window)?;
        }
        socket.send(&[0; 14]).map(drop)
    };
    let begin = Instant::now();
    let windows = bytes.div_ceil((WINDOW * FULL) as u64);
    request()?;
    for turn in 1..=windows {
        if turn < windows {
            request()?;
        }
        socket.recv(&mut [0; 64])?;
    }
    Ok(Took { seconds: begin.elapsed().as_secs_f64() })
}

/// A socket whose long writes the kernel splits into full frames, as it does for TCP.
pub(super) fn connect(addr: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(addr)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let size = libc::c_int::try_from(FULL)?;
    let len = libc::socklen_t::try_from(size_of_val(&size))?;
    // SAFETY: the pointer is to an int of this length that outlives the call.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, (&raw const size).cast(), len)
    };
    ensure!(set == 0, "UDP_SEGMENT: {}", io::Error::last_os_error());
    Ok(socket)
}
