//! A lossy link between two networks: this one, and one with only the server in it.
//!
//! Two TAPs, one in each network, and a thread that forwards frames between them through [`Faulty`], instead of netem,
//! which not every kernel has. Use it only inside a namespace ([`crate::namespace`]).

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use fastrand::Rng;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use skiff_device::serv::faults::{Faults, Faulty};
use skiff_device::serv::tap::{Offload, Tap};
use smoltcp::phy::{Device as _, RxToken as _, TxToken as _};

use crate::namespace::ip;
use crate::programs::{Running, Signal, host_serv};

/// The server's address.
pub const THERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// A change of the line while it is in use.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// True: nothing goes through. False: frames go through again.
    Cut(bool),
    /// In this many of a million full frames, two words are swapped. TCP's checksum can't detect that.
    Corrupt(u32),
}

/// A host-serv at the other end of a lossy link. Dropping it ends both.
#[derive(Debug)]
pub struct LossyLink {
    /// The server.
    pub serv: Running,
    port: u16,
    faults: Option<mpsc::Sender<Fault>>,
    forwarder: Option<JoinHandle<Traffic>>,
}

/// Counts of a line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// All of them, in both directions.
    pub frames: u64,
    /// How many of them were corrupted.
    pub corrupted: u64,
}

impl LossyLink {
    /// Serves `root` behind a link with these faults.
    ///
    /// # Panics
    /// Outside of a namespace, or if TAPs are not available.
    #[must_use]
    pub fn start(root: &Path, options: &[&str], faults: Faults, seed: u64) -> Self {
        let near = Tap::open("near", Offload::Off).expect("a TAP");
        let far = Tap::open("far", Offload::Off).expect("a TAP");
        let script = format!(
            "echo ready; read -r go; ip link set lo up; ip addr add {THERE}/24 dev far; ip link set far up; exec \"$@\""
        );
        let serving = host_serv(root);
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", &script, "sh"]).arg(serving.get_program()).args(serving.get_args());
        command.args(["--bind", &THERE.to_string()]).args(options).env_remove("RUST_LOG").stdin(Stdio::piped());
        let mut serv = Running::start(&mut command);
        let ready = serv.hear("ready\n", 0);
        // Each program in the chain execs the next one: the process stays the same.
        ip(&format!("link set far netns {}", serv.pid()));
        ip("addr add 10.77.0.1/24 dev near");
        ip("link set near up");
        serv.say("go\n");
        let end = serv.hear("\n", ready);
        let out = serv.out();
        let port = out[ready..end].trim().strip_prefix("port ").expect("a port").parse().expect("a port");
        let (inject, injected) = mpsc::channel();
        let forwarder = std::thread::spawn(move || forward(near, far, faults, seed, &injected));
        Self { serv, port, faults: Some(inject), forwarder: Some(forwarder) }
    }

    /// The address of the server.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        SocketAddr::new(core::net::IpAddr::V4(THERE), self.port)
    }

    /// Injects a fault, or ends it.
    pub fn inject(&self, fault: Fault) {
        if let Some(faults) = &self.faults {
            _ = faults.send(fault);
        }
    }

    /// Ends the server and the line; returns the counts.
    ///
    /// # Panics
    /// If the server does not end in order.
    pub fn stop(mut self) -> Traffic {
        self.serv.signal(Signal::TERM);
        assert!(crate::wire::eventually(|| self.serv.has_ended()), "{}", self.serv.err());
        drop(self.faults.take());
        self.forwarder.take().map_or_else(Traffic::default, |forwarder| forwarder.join().expect("the link"))
    }
}

/// Forwards frames until the sender of faults is dropped.
fn forward(near: Tap, mut far: Tap, faults: Faults, seed: u64, injected: &mpsc::Receiver<Fault>) -> Traffic {
    let fds: Vec<OwnedFd> =
        [&near, &far].map(|tap| tap.as_fd().try_clone_to_owned().expect("a descriptor")).into_iter().collect();
    let start = Instant::now();
    let now = || smoltcp::time::Instant::from_micros(i64::try_from(start.elapsed().as_micros()).unwrap_or(i64::MAX));
    let mut link = Faulty::new(near, faults, seed);
    let mut rng = Rng::with_seed(seed);
    let (mut traffic, mut corrupt_rate) = (Traffic::default(), 0);
    loop {
        loop {
            match injected.try_recv() {
                Ok(Fault::Cut(cut)) => link.set_cut(cut),
                Ok(Fault::Corrupt(rate)) => corrupt_rate = rate,
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => return traffic,
            }
        }
        let mut pass = |frame: &mut [u8]| {
            traffic.frames += 1;
            if corrupt_rate > 0 && rng.u32(..1_000_000) < corrupt_rate {
                traffic.corrupted += u64::from(corrupt(frame, &mut rng));
            }
        };
        while let Some((frame, _)) = link.receive(now()) {
            frame.consume(|bytes| {
                let mut bytes = bytes.to_vec();
                pass(&mut bytes);
                if let Some(room) = far.transmit(now()) {
                    room.consume(bytes.len(), |room| room.copy_from_slice(&bytes));
                }
            });
        }
        // The rest waits in the TAP.
        for _ in 0..64 {
            let Some((frame, _)) = far.receive(now()) else { break };
            frame.consume(|bytes| {
                let mut bytes = bytes.to_vec();
                pass(&mut bytes);
                if let Some(room) = link.transmit(now()) {
                    room.consume(bytes.len(), |room| room.copy_from_slice(&bytes));
                }
            });
        }
        let due = link.advance(now());
        // At most 20 ms: the channel of faults has no descriptor.
        let wait = due.map_or(20_000, |due| (due - now()).total_micros().min(20_000));
        let wait = Duration::from_micros(wait);
        let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        let mut ready: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        _ = poll(&mut ready, Some(&wait));
    }
}

/// Swaps two 16-bit words of a TCP payload, deep in a full segment, which leaves the sum of all words the same. False
/// if the frame has no such payload, or the words were equal.
fn corrupt(frame: &mut [u8], rng: &mut Rng) -> bool {
    const ETHERNET: usize = 14;
    let Some(&[version, ..]) = frame.get(ETHERNET..) else { return false };
    let tcp = ETHERNET + usize::from(version & 15) * 4;
    let is_tcp = version >> 4 == 4 && frame.get(ETHERNET + 9) == Some(&6);
    let Some(offset) = frame.get(tcp + 12).filter(|_| is_tcp) else { return false };
    let payload = tcp + usize::from(offset >> 4) * 4;
    // Commands and replies have no checksum of their own (PROTOCOL §7): only bodies are corrupted.
    let (from, to) = (payload + 400, frame.len());
    if to < from + 500 {
        return false;
    }
    let words = (to - from) / 2;
    let (one, other) = (from + 2 * rng.usize(..words), from + 2 * rng.usize(..words));
    let (a, b) = ([frame[one], frame[one + 1]], [frame[other], frame[other + 1]]);
    frame[one..one + 2].copy_from_slice(&b);
    frame[other..other + 2].copy_from_slice(&a);
    a != b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corruption_keeps_the_sum_of_words() {
        let mut rng = Rng::with_seed(1);
        let mut frame = vec![0; 14 + 20 + 20 + 1460];
        (frame[14], frame[14 + 9], frame[14 + 20 + 12]) = (0x45, 6, 0x50);
        frame[54..].iter_mut().for_each(|byte| *byte = rng.u8(..));
        let before = frame.clone();
        let sum = |bytes: &[u8]| -> u32 {
            bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum()
        };
        assert!(corrupt(&mut frame, &mut rng));
        assert_ne!(frame, before);
        assert_eq!(frame[..54 + 400], before[..54 + 400]);
        assert_eq!(sum(&frame), sum(&before));
        // Too short, and not TCP.
        assert!(!corrupt(&mut before[..500].to_vec(), &mut rng));
        let mut udp = before.clone();
        udp[14 + 9] = 17;
        assert!(!corrupt(&mut udp, &mut rng));
    }
}
