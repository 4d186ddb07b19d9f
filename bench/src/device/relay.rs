//! A lossy link: forwards frames between two TAPs, each after the same delay, and drops some of them.
//!
//! netem is not in every kernel, and a relay treats all servers behind it alike. It is not the lossy link of the tests:
//! the bench does not depend on skiff-device, which it measures.

use core::time::Duration;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// The longest frame.
const FRAME: usize = 1514;

/// Frames in flight in one direction; more are lost, as in any full queue.
const FRAMES: usize = 4096;

#[derive(Debug, Clone, Args)]
pub(crate) struct RelayArgs {
    /// An existing TAP
    #[arg(long)]
    one: String,
    /// Another existing TAP
    #[arg(long)]
    other: String,
    /// Lost IP packets in percent, each way
    #[arg(long, default_value_t = 0.0)]
    drop: f64,
    /// Delay of all packets in milliseconds, each way
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// Seed that selects the lost packets
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Relays forever.
pub(super) fn run(args: &RelayArgs) -> Result<()> {
    ensure!((0.0..100.0).contains(&args.drop), "--drop: 0 to 100");
    let (one, other) = (open(&args.one)?, open(&args.other)?);
    let delay = Duration::from_millis(args.delay);
    let mut there = Direction::new(args.drop, delay, args.seed);
    let mut back = Direction::new(args.drop, delay, !args.seed);
    println!("ready");
    loop {
        there.take(&one)?;
        back.take(&other)?;
        there.deliver(&other)?;
        back.deliver(&one)?;
        let due = there.due().into_iter().chain(back.due()).min();
        let wait = due.map(|due| due.saturating_duration_since(Instant::now())).map(|wait| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        });
        let mut ends = [&one, &other].map(|end| PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN));
        match poll(&mut ends, wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// One way.
struct Direction {
    /// The number of packets lost out of 2^32.
    lost: u64,
    delay: Duration,
    state: u64,
    frames: VecDeque<(Instant, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
}

impl Direction {
    fn new(percent: f64, delay: Duration, seed: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 2^32")]
        let lost = (percent / 100.0 * 4_294_967_296.0) as u64;
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { lost, delay, state, frames: VecDeque::new(), spare: Vec::new() }
    }

    /// Receives all waiting frames.
    fn take(&mut self, mut from: &File) -> Result<()> {
        loop {
            let mut frame = self.spare.pop().unwrap_or_default();
            frame.resize(FRAME, 0);
            let len = match from.read(&mut frame) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.spare.push(frame);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            frame.truncate(len);
            // ARP is not lost: a lost answer would cost a second of waiting.
            let is_ip = frame.get(12..14) == Some(&[8, 0]);
            if self.frames.len() >= FRAMES || is_ip && self.loses() {
                self.spare.push(frame);
            } else {
                self.frames.push_back((Instant::now() + self.delay, frame));
            }
        }
    }

    fn loses(&mut self) -> bool {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 32) < self.lost
    }

    fn due(&self) -> Option<Instant> {
        self.frames.front().map(|(due, _)| *due)
    }

    /// Delivers the frames whose delay has passed.
    fn deliver(&mut self, mut to: &File) -> Result<()> {
        let now = Instant::now();
        while self.due().is_some_and(|due| due <= now) {
            let Some((_, frame)) = self.frames.pop_front() else { break };
            match to.write(&frame) {
                Ok(_) => {}
                // The other end is not up yet, or has no room.
                Err(error)
                    if matches!(Errno::from_io_error(&error), Some(Errno::IO | Errno::NOBUFS | Errno::AGAIN)) => {}
                Err(error) => return Err(error.into()),
            }
            self.spare.push(frame);
        }
        Ok(())
    }
}

/// The far end of an existing TAP: frames as on a wire, not longer, with computed checksums.
pub(super) fn open(name: &str) -> Result<File> {
    #[expect(clippy::cast_possible_wrap, reason = "a flag of fcntl.h is small")]
    const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    const TUNSETIFF: Opcode = opcode::write::<core::ffi::c_int>(b'T', 202);
    const IFF_TAP_NO_PI: i16 = 0x1002;
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).custom_flags(NONBLOCK).open("/dev/net/tun").context("/dev/net/tun")?;
    // `struct ifreq`: a name of 16 bytes, and a union that begins with the flags.
    let mut request = [0; 40];
    ensure!(!name.is_empty() && name.len() < 16, "{name}: 1 to 15 bytes");
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&IFF_TAP_NO_PI.to_ne_bytes());
    // SAFETY: TUNSETIFF reads a `struct ifreq`, which is 40 bytes and laid out as filled in above.
    unsafe { ioctl(&file, Setter::<TUNSETIFF, [u8; 40]>::new(request)) }.with_context(|| name.to_owned())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_hundred_is_lost_and_the_same_ones_with_the_same_seed() {
        let losses = |seed| {
            let mut line = Direction::new(1.0, Duration::ZERO, seed);
            (0..100_000).filter(|_| line.loses()).collect::<Vec<_>>()
        };
        assert!((900..1100).contains(&losses(1).len()), "{}", losses(1).len());
        assert_eq!(losses(1), losses(1));
        assert_ne!(losses(1), losses(2));
        let mut clean = Direction::new(0.0, Duration::ZERO, 1);
        assert!(!(0..1000).any(|_| clean.loses()));
    }
}
