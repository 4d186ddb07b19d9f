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
pub enum Order {
    /// Cut the line, or restore it.
    Cut(bool),
    /// In this many of a million large frames, two words are swapped, which TCP's checksum does not detect.
    Spoil(u32),
}

/// A host-serv at the other end of a bad line. Dropping it ends both.
#[derive(Debug)]
pub struct Line {
    /// The server.
    pub serv: Running,
    port: u16,
    orders: Option<mpsc::Sender<Order>>,
    carrier: Option<JoinHandle<Carried>>,
}

/// Counts of a line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Carried {
    /// Frames that arrived, in both directions.
    pub frames: u64,
    /// How many of them were corrupted.
    pub spoilt: u64,
}

impl Line {
    /// Serves `root` behind a line with these faults.
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
        // Each program in the chain becomes the next: the process stays the same.
        ip(&format!("link set far netns {}", serv.pid()));
        ip("addr add 10.77.0.1/24 dev near");
        ip("link set near up");
        serv.say("go\n");
        let end = serv.hear("\n", ready);
        let out = serv.out();
        let port = out[ready..end].trim().strip_prefix("port ").expect("a port").parse().expect("a port");
        let (orders, taken) = mpsc::channel();
        let carrier = std::thread::spawn(move || carry(near, far, faults, seed, &taken));
        Self { serv, port, orders: Some(orders), carrier: Some(carrier) }
    }

    /// The address of the server.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        SocketAddr::new(core::net::IpAddr::V4(THERE), self.port)
    }

    /// Changes the line.
    pub fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            _ = orders.send(order);
        }
    }

    /// Ends the server and the line; returns the counts.
    ///
    /// # Panics
    /// If the server does not end normally.
    pub fn stop(mut self) -> Carried {
        self.serv.signal(Signal::TERM);
        assert!(crate::wire::eventually(|| self.serv.has_ended()), "{}", self.serv.err());
        drop(self.orders.take());
        self.carrier.take().map_or_else(Carried::default, |carrier| carrier.join().expect("the line"))
    }
}

/// Forwards frames until the order channel is closed.
fn carry(near: Tap, mut far: Tap, faults: Faults, seed: u64, orders: &mpsc::Receiver<Order>) -> Carried {
    let fds: Vec<OwnedFd> =
        [&near, &far].map(|tap| tap.as_fd().try_clone_to_owned().expect("a descriptor")).into_iter().collect();
    let start = Instant::now();
    let now = || smoltcp::time::Instant::from_micros(i64::try_from(start.elapsed().as_micros()).unwrap_or(i64::MAX));
    let mut line = Faulty::new(near, faults, seed);
    let mut rng = Rng::with_seed(seed);
    let (mut carried, mut spoil_rate) = (Carried::default(), 0);
    loop {
        loop {
            match orders.try_recv() {
                Ok(Order::Cut(cut)) => line.set_cut(cut),
                Ok(Order::Spoil(rate)) => spoil_rate = rate,
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => return carried,
            }
        }
        let mut pass = |frame: &mut [u8]| {
            carried.frames += 1;
            if spoil_rate > 0 && rng.u32(..1_000_000) < spoil_rate {
                carried.spoilt += u64::from(spoil(frame, &mut rng));
            }
        };
        while let Some((frame, _)) = line.receive(now()) {
            frame.consume(|bytes| {
                let mut bytes = bytes.to_vec();
                pass(&mut bytes);
                if let Some(room) = far.transmit(now()) {
                    room.consume(bytes.len(), |room| room.copy_from_slice(&bytes));
                }
            });
        }
        // What is left waits in the TAP.
        for _ in 0..64 {
            let Some((frame, _)) = far.receive(now()) else { break };
            frame.consume(|bytes| {
                let mut bytes = bytes.to_vec();
                pass(&mut bytes);
                if let Some(room) = line.transmit(now()) {
                    room.consume(bytes.len(), |room| room.copy_from_slice(&bytes));
                }
            });
        }
        let due = line.advance(now());
        // Not longer than 20 ms: orders come without a descriptor.
        let wait = due.map_or(20_000, |due| (due - now()).total_micros().min(20_000));
        let wait = Duration::from_micros(wait);
        let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        let mut ready: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        _ = poll(&mut ready, Some(&wait));
    }
}

/// Swaps two 16-bit words of a TCP payload, in the middle of a full segment, which does not change a sum of words.
/// False if the frame has no such payload, or the words were equal.
fn spoil(frame: &mut [u8], rng: &mut Rng) -> bool {
    const ETHERNET: usize = 14;
    let Some(&[version, ..]) = frame.get(ETHERNET..) else { return false };
    let tcp = ETHERNET + usize::from(version & 15) * 4;
    let is_tcp = version >> 4 == 4 && frame.get(ETHERNET + 9) == Some(&6);
    let Some(offset) = frame.get(tcp + 12).filter(|_| is_tcp) else { return false };
    let payload = tcp + usize::from(offset >> 4) * 4;
    // Commands and replies have no checksum of their own (PROTOCOL §7): bodies are what is spoilt.
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
    fn what_is_spoilt_has_the_sum_that_it_had() {
        let mut rng = Rng::with_seed(1);
        let mut frame = vec![0; 14 + 20 + 20 + 1460];
        (frame[14], frame[14 + 9], frame[14 + 20 + 12]) = (0x45, 6, 0x50);
        frame[54..].iter_mut().for_each(|byte| *byte = rng.u8(..));
        let before = frame.clone();
        let sum = |bytes: &[u8]| -> u32 {
            bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum()
        };
        assert!(spoil(&mut frame, &mut rng));
        assert_ne!(frame, before);
        assert_eq!(frame[..54 + 400], before[..54 + 400]);
        assert_eq!(sum(&frame), sum(&before));
        // Too short, and no TCP.
        assert!(!spoil(&mut before[..500].to_vec(), &mut rng));
        let mut udp = before.clone();
        udp[14 + 9] = 17;
        assert!(!spoil(&mut udp, &mut rng));
    }
}
