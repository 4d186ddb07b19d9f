//! Hours of work over a bad link, in minutes: several clients, extended and classic, transfer, list, rename and remove
//! files over a link that drops, duplicates, delays and reorders frames and is cut occasionally.
//!
//! No fault may be visible: every command succeeds, every file is complete, and the server's memory does not grow.
//!
//! [`Corrupt`] is the same link with frames in which bytes are swapped, which TCP's checksum can't detect. The extended
//! commands then result in the old file, the new one or an error; classic transfers have no checksum and are not
//! tested.

use core::fmt;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::net::Shutdown;
use std::path::Path;
use std::time::Instant;

use fastrand::Rng;
use skiff_device::serv::faults::{Chance, Faults};
use skiff_host::client::{Client, Download, DownloadOptions, Options, Upload, UploadOptions};

use super::content::{version, which};
use super::crowd::settled;
use super::{descriptors, in_memory, resident, within};
use crate::lossy::{Fault, LossyLink, Traffic};
use crate::sans_io::message;
use crate::wire::{End, Wire, read_to_end};

/// The parameters.
#[derive(Debug, Clone, Copy)]
pub struct Soak {
    /// The duration.
    pub time: Duration,
    /// The faults of the line.
    pub faults: Faults,
    /// Length of the occasional outages; zero for none.
    pub outage: Duration,
    /// The interval of outages.
    pub outages_every: Duration,
    /// The seed of all random choices, except the system's timing.
    pub seed: u64,
}

/// A realistic line: 1% lost, 1% duplicated, 5% reordered, 5 ms each way.
#[must_use]
pub const fn bad_link() -> Faults {
    Faults {
        drop: Chance::percent(1),
        corrupt: Chance::percent(1),
        duplicate: Chance::percent(1),
        reorder: Chance::percent(5),
        delay: Duration::from_millis(5),
    }
}

/// The results.
#[derive(Debug, Clone, Default)]
pub struct Soaked {
    /// Files transferred to the server and back, extended and classic.
    pub files: [u64; 2],
    /// The bytes of these files.
    pub bytes: u64,
    /// Outages.
    pub outages: u64,
    /// The traffic of the link.
    pub traffic: Traffic,
    /// The server's memory in KiB: the median of the second eighth of the time, and of the last.
    pub memory: [u64; 2],
    /// Its descriptors before the first client, and after the last.
    pub descriptors: [usize; 2],
}

impl fmt::Display for Soaked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files: [extended, classic], bytes, outages, traffic, memory, descriptors } = self;
        write!(
            f,
            "{extended} files extended and {classic} classic, there and back, {bytes} bytes each way, no error; {} frames, \
             {outages} outages; memory of the server {} -> {} KiB, descriptors {} -> {}",
            traffic.frames, memory[0], memory[1], descriptors[0], descriptors[1]
        )
    }
}

/// Counts of all workers.
#[derive(Debug, Default)]
struct Counts {
    over: AtomicBool,
    files: [AtomicU64; 2],
    bytes: AtomicU64,
    errors: AtomicU64,
}

impl Counts {
    fn moved(&self, way: usize, bytes: usize) {
        self.files[way].fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

impl Soak {
    /// Runs it, inside a namespace.
    ///
    /// # Panics
    /// If a command fails, a file is incomplete, or the server grows.
    #[must_use]
    pub fn run(&self) -> Soaked {
        let root = in_memory();
        let link = LossyLink::start(root.path(), &[], self.faults, self.seed);
        let (pid, addr) = (link.serv.pid(), link.addr());
        let counts = Counts::default();
        let mut done = Soaked { descriptors: [settled(pid).0, 0], ..Soaked::default() };
        let mut memory = Vec::new();
        std::thread::scope(|scope| {
            let mut rng = Rng::with_seed(self.seed);
            let workers: Vec<_> = (0..4)
                .map(|number| (number, rng.fork()))
                .map(|(number, mut rng)| {
                    let counts = &counts;
                    scope.spawn(move || {
                        // Also ends the other threads when an assertion fails.
                        let _ends = Ends(counts);
                        if number == 0 {
                            classic(addr, &mut rng, counts)
                        } else {
                            extended(addr, number, &mut rng, counts)
                        }
                    })
                })
                .collect();
            let _ends = Ends(&counts);
            let (start, mut outage) = (Instant::now(), Instant::now());
            while start.elapsed() < self.time && !counts.is_over() {
                std::thread::sleep(self.time.min(Duration::from_millis(1000)) / 10);
                memory.push(resident(pid));
                if !self.outage.is_zero() && outage.elapsed() > self.outages_every {
                    link.inject(Fault::Cut(true));
                    std::thread::sleep(self.outage);
                    link.inject(Fault::Cut(false));
                    outage = Instant::now();
                    done.outages += 1;
                }
            }
            counts.over.store(true, Ordering::Relaxed);
            for worker in workers {
                worker.join().expect("a worker");
            }
        });
        done.files = counts.files.map(AtomicU64::into_inner);
        done.bytes = counts.bytes.into_inner();
        let eighth = memory.len() / 8;
        done.memory = [median(&memory[eighth..2 * eighth]), median(&memory[memory.len() - eighth..])];
        // The staging directory stays open. TCP sends the last FINs again if the link has lost them.
        let back = within(Duration::from_secs(60), || descriptors(pid) <= done.descriptors[0] + 1);
        done.descriptors[1] = descriptors(pid);
        done.traffic = link.stop();
        assert!(back, "descriptors stay open: {done}");
        // A tenth and 2 MiB: what an allocator keeps. In 20 minutes a leak of 100 bytes a file is more.
        assert!(done.memory[1] <= done.memory[0] + done.memory[0] / 10 + 2048, "the server grows: {done}");
        done
    }
}

fn median(samples: &[u64]) -> u64 {
    let mut samples = samples.to_vec();
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or(0)
}

struct Ends<'a>(&'a Counts);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn connect(addr: SocketAddr) -> Client {
    // An outage of some seconds is no reason for a client to give up.
    let options = Options { retries: 8, ..Options::default() };
    Client::connect(&addr.ip().to_string(), addr.port(), options).await.expect("a connection")
}

/// A length: mostly small, sometimes not.
fn len(rng: &mut Rng) -> usize {
    match rng.u32(0..10) {
        0 => 16,
        1..=6 => rng.usize(16..10_000),
        7..=8 => rng.usize(16..100_000),
        _ => rng.usize(16..1_000_000),
    }
}

/// A client that does everything, repeatedly.
fn extended(addr: SocketAddr, number: u64, rng: &mut Rng, counts: &Counts) {
    let here = in_memory();
    let (sources, back) = (here.path().join("sources"), here.path().join("back"));
    fs::create_dir(&sources).expect("mkdir");
    runtime().block_on(async {
        let mut versions = number << 32;
        while !counts.is_over() {
            let mut client = connect(addr).await;
            for _ in 0..5 {
                let dir = format!("w{number}");
                let files: Vec<_> = (0..rng.usize(1..6))
                    .map(|at| {
                        versions += 1;
                        let content = version(versions, len(rng));
                        fs::write(sources.join(at.to_string()), &content).expect("write");
                        (format!("{dir}/{at}"), versions, content.len())
                    })
                    .collect();
                let jobs =
                    files.iter().enumerate().map(|(at, (name, ..))| Upload::new(sources.join(at.to_string()), name));
                for sent in client.upload(jobs.collect(), &UploadOptions::default(), &mut ()).await {
                    assert!(sent.expect("no error").confirmed);
                }
                let listing = client.list(Some(&dir)).await.expect("no error");
                assert_eq!((listing.entries.len(), listing.refused.len()), (files.len(), 0));
                fs::create_dir(&back).expect("mkdir");
                let jobs =
                    files.iter().enumerate().map(|(at, (name, ..))| Download::new(name, back.join(at.to_string())));
                for received in client.download(jobs.collect(), &DownloadOptions::default(), &mut ()).await {
                    assert!(received.expect("no error").verified);
                }
                for (at, (name, version, len)) in files.iter().enumerate() {
                    let got = fs::read(back.join(at.to_string())).expect("a file");
                    assert_eq!(which(&got), Some(*version), "{name}");
                    counts.moved(0, *len);
                    let moved = format!("{dir}/moved");
                    client.rename(name, &moved).await.expect("no error");
                    assert_eq!(client.stat(&moved).await.expect("no error").size, *len as u64);
                    client.sum(&moved, 0, None).await.expect("no error");
                    client.remove(&moved).await.expect("no error");
                }
                fs::remove_dir_all(&back).expect("removed");
            }
            client.quit().await;
        }
    });
}

/// A classic client.
fn classic(addr: SocketAddr, rng: &mut Rng, counts: &Counts) {
    let mut number = 0;
    while !counts.is_over() {
        let mut wire = Wire::connect(addr);
        // An outage, and the time that the kernel waits after it.
        wire.stream.set_read_timeout(Some(Duration::from_secs(60))).expect("timeout");
        for _ in 0..5 {
            number += 1;
            let (name, content) = (format!("classic{number}"), version(number, len(rng)));
            let port = wire.ask(format!("put {name}"));
            let mut data = wire.data(&port);
            data.set_read_timeout(Some(Duration::from_secs(60))).expect("timeout");
            data.write_all(&message(&content)).expect("no error");
            data.shutdown(Shutdown::Write).expect("no error");
            assert_eq!(read_to_end(&mut data), (Vec::new(), End::Closed), "{name}");
            assert!(wire.ask("ls").split('\n').any(|line| line == name), "{name}");
            let port = wire.ask(format!("get {name}"));
            let mut data = wire.data(&port);
            data.set_read_timeout(Some(Duration::from_secs(60))).expect("timeout");
            let (got, end) = read_to_end(&mut data);
            assert_eq!((which(got.get(10..).unwrap_or_default()), end), (Some(number), End::Closed), "{name}");
            counts.moved(1, content.len());
            assert_eq!(wire.ask(format!("remove {name}")), "ok");
        }
        wire.say("quit");
        assert_eq!(wire.hear_end().1, End::Closed);
    }
}

/// Corruption of content in transit.
#[derive(Debug, Clone, Copy)]
pub struct Corrupt {
    /// The duration.
    pub time: Duration,
    /// This many of a million full frames are corrupted.
    pub rate: u32,
    /// The seed of all random choices, except the system's timing.
    pub seed: u64,
}

/// The results.
#[derive(Debug, Clone, Default)]
pub struct Corrupted {
    /// Files that arrived complete.
    pub arrived: u64,
    /// Transfers that ended in an error.
    pub errors: u64,
    /// The traffic of the link.
    pub traffic: Traffic,
}

impl fmt::Display for Corrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { arrived, errors, traffic } = self;
        write!(
            f,
            "{} frames, {} corrupted past TCP's checksum: {arrived} transfers whole, {errors} ended in an error, and never \
             anything but the old file or the new one",
            traffic.frames, traffic.corrupted
        )
    }
}

impl Corrupt {
    /// Runs it, inside a namespace.
    ///
    /// # Panics
    /// If an incomplete or wrong file is ever found.
    #[must_use]
    pub fn run(&self) -> Corrupted {
        let root = in_memory();
        let link = LossyLink::start(root.path(), &[], Faults::default(), self.seed);
        link.inject(Fault::Corrupt(self.rate));
        let addr = link.addr();
        let counts = Counts::default();
        std::thread::scope(|scope| {
            let mut rng = Rng::with_seed(self.seed);
            for number in 1..=3 {
                let (counts, mut rng, root) = (&counts, rng.fork(), root.path());
                scope.spawn(move || {
                    let _ends = Ends(counts);
                    corrupted(addr, number, root, &mut rng, counts);
                });
            }
            let _ends = Ends(&counts);
            let start = Instant::now();
            while start.elapsed() < self.time && !counts.is_over() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let [arrived, _] = counts.files.map(AtomicU64::into_inner);
        Corrupted { arrived, errors: counts.errors.into_inner(), traffic: link.stop() }
    }
}

/// A client that writes and reads whole files, and accepts errors.
fn corrupted(addr: SocketAddr, number: u64, root: &Path, rng: &mut Rng, counts: &Counts) {
    let here = in_memory();
    let (source, back) = (here.path().join("source"), here.path().join("back"));
    // What each name may hold.
    let mut names: HashMap<String, Vec<Option<u64>>> = HashMap::new();
    runtime().block_on(async {
        let mut versions = number << 32;
        while !counts.is_over() {
            let mut client = connect(addr).await;
            for _ in 0..10 {
                versions += 1;
                let content = version(versions, rng.usize(10_000..400_000));
                fs::write(&source, &content).expect("write");
                let name = format!("w{number}-{}", rng.u32(0..3));
                let states = names.entry(name.clone()).or_insert_with(|| vec![None]);
                states.push(Some(versions));
                let jobs = vec![Upload::new(&source, &name)];
                let sent = client.upload(jobs, &UploadOptions::default(), &mut ()).await.remove(0);
                if sent.is_ok_and(|sent| sent.confirmed) {
                    *states = vec![Some(versions)];
                    counts.moved(0, content.len());
                } else {
                    counts.errors.fetch_add(1, Ordering::Relaxed);
                }
                let found = fs::read(root.join(&name)).ok();
                let found = found.map(|bytes| which(&bytes).unwrap_or_else(|| panic!("{name}: not whole")));
                assert!(states.contains(&found), "{name}: {found:?}, not one of {states:?}");
                *states = vec![found];
                // And back: the complete file, or nothing.
                let jobs = vec![Download::new(&name, &back)];
                let got = client.download(jobs, &DownloadOptions::default(), &mut ()).await.remove(0);
                match fs::read(&back) {
                    Ok(bytes) => assert_eq!(which(&bytes), found, "{name}"),
                    Err(_) => assert!(got.is_err(), "{name}: {got:?}"),
                }
                if got.is_ok() {
                    counts.moved(0, content.len());
                } else {
                    counts.errors.fetch_add(1, Ordering::Relaxed);
                }
                _ = fs::remove_file(&back);
            }
            client.quit().await;
        }
    });
}
