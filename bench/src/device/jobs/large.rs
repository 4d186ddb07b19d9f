//! Bulk data and a large file, one direction at a time.

use std::process::Command;
use std::rc::Rc;

use anyhow::Result;

use super::{Bench, KIB, MIB, client, rate};
use crate::device::network::{Far, Line, Place};
use crate::device::running::Running;
use crate::device::server::{Baseline, DeviceServ};
use crate::device::transfer::Way;
use crate::job::{Contender, Job, Measure};
use crate::results::{Role, Unit};

const BASELINE: &str = "smoltcp's own, 64 KiB";
const LWIP: &str = "lwIP, 64 KiB";
/// One frame of 1,500 bytes per system call, without TCP.
const RAW: &str = "limit: the raw TAP, plain";
const OFFLOAD_256: &str = "skiff, offload, 256 KiB";
const OFFLOAD_64: &str = "skiff, offload, 64 KiB";
const PLAIN_64: &str = "skiff, plain, 64 KiB";

pub(super) fn get(bench: &Bench) -> Result<Job<'_>> {
    let mut job = large(bench, Way::Get)?;
    job.at_least(OFFLOAD_256, Measure::To(BASELINE.into()), 10.0);
    job.at_least(OFFLOAD_64, Measure::To(BASELINE.into()), 4.0);
    job.at_least(PLAIN_64, Measure::To(BASELINE.into()), 1.1);
    Ok(job)
}

pub(super) fn put(bench: &Bench) -> Result<Job<'_>> {
    let mut job = large(bench, Way::Put)?;
    job.at_least(OFFLOAD_256, Measure::To(BASELINE.into()), 3.5);
    job.at_least(OFFLOAD_64, Measure::To(BASELINE.into()), 2.5);
    job.at_least(PLAIN_64, Measure::To(BASELINE.into()), 1.2);
    Ok(job)
}

fn large(bench: &Bench, way: Way) -> Result<Job<'_>> {
    let what = match way {
        Way::Get => "bytes from the server to this machine",
        Way::Put => "bytes from this machine to the server",
    };
    let mut job = Job::new(format!("{what}; skiff's are files, verified"), Unit::MbPerSecond);
    let baseline = bench.baseline(1, 64 * KIB)?;
    let limit = stored(&mut job, bench, BASELINE, Rc::clone(&baseline), way, 256 * MIB);
    let lwip = bench.lwip(6, &mut job).map(|lwip| (LWIP, lwip));
    for (name, server) in [(BASELINE, baseline)].into_iter().chain(lwip) {
        job.add(plain(bench, name, server, way, 256 * MIB));
    }
    for (number, name, offload, buffer, bytes) in [
        (2, OFFLOAD_256, true, 256, 2048),
        (3, OFFLOAD_64, true, 64, 1024),
        (4, "skiff, plain, 256 KiB", false, 256, 256),
        (5, PLAIN_64, false, 64, 256),
    ] {
        let server = bench.device_serv(number, offload, buffer * KIB)?;
        job.add(skiff(bench, name, server, way, bytes * MIB));
    }
    let raw = Baseline::raw(Place::near(7))?;
    let bytes = 256 * MIB / bench.scale.less;
    job.add(Contender::new(RAW, Role::Limit, move || {
        let words = ["raw-transfer", "--way", way.word(), "--bytes", &bytes.to_string()];
        rate(&mut client(&words, raw.chargen_or_discard(way))?, bytes, Some(&raw.running))
    }));
    for (one, to) in [(PLAIN_64, &*limit), (&limit, BASELINE), (PLAIN_64, RAW), (BASELINE, RAW)] {
        job.compare(one, Measure::To(to.to_owned()));
    }
    let (far, _) = Far::new(Line::Veth)?;
    let kernel = kernel(&far, way)?;
    let bytes = 2048 * MIB / bench.scale.less;
    job.add(Contender::new("limit: the kernel's TCP over veth", Role::Limit, move || {
        // Both live as long as this.
        let _ = &far;
        rate(&mut one_way(way, "10.78.0.1:19".parse()?, bytes)?, bytes, Some(&kernel))
    }));
    Ok(job)
}

pub(super) fn small_buffers_get(bench: &Bench) -> Result<Job<'_>> {
    small_buffers(bench, Way::Get)
}

pub(super) fn small_buffers_put(bench: &Bench) -> Result<Job<'_>> {
    small_buffers(bench, Way::Put)
}

fn small_buffers(bench: &Bench, way: Way) -> Result<Job<'_>> {
    let what = match way {
        Way::Get => "from the server",
        Way::Put => "to the server",
    };
    let mut job = Job::new(format!("bytes {what}, small buffers"), Unit::MbPerSecond);
    for (number, kib) in [(10, 2), (20, 4)] {
        let peer = format!("smoltcp's own, {kib} KiB");
        let baseline = bench.baseline(number, kib * KIB)?;
        let limit = stored(&mut job, bench, &peer, Rc::clone(&baseline), way, 32 * MIB);
        job.add(plain(bench, &peer, baseline, way, 32 * MIB));
        job.compare(&limit, Measure::To(peer.clone()));
        for (number, name, offload) in [(number + 1, "offload", true), (number + 2, "plain", false)] {
            let name = format!("skiff, {name}, {kib} KiB");
            let server = bench.device_serv(number, offload, kib * KIB)?;
            job.add(skiff(bench, &name, server, way, 32 * MIB));
            job.at_least(&name, Measure::To(peer.clone()), 0.95);
        }
    }
    Ok(job)
}

/// A stack without a protocol on it.
fn plain<'a>(bench: &Bench, name: &str, server: Rc<Baseline>, way: Way, bytes: u64) -> Contender<'a> {
    let bytes = bytes / bench.scale.less;
    Contender::new(name, Role::Peer, move || {
        rate(&mut one_way(way, server.chargen_or_discard(way), bytes)?, bytes, Some(&server.running))
    })
}

/// The same with a file in memory and its checksum: the limit of a server that keeps skiff's promises. Returns its name.
fn stored(job: &mut Job<'_>, bench: &Bench, of: &str, server: Rc<Baseline>, way: Way, bytes: u64) -> String {
    let (name, bytes) = (format!("limit: {of}, with file and checksum"), bytes / bench.scale.less);
    job.add(Contender::new(&name, Role::SkiffLimit, move || {
        rate(&mut one_way(way, server.fetch_or_store(way), bytes)?, bytes, Some(&server.running))
    }));
    name
}

fn skiff<'a>(bench: &Bench, name: &str, server: Rc<DeviceServ>, way: Way, bytes: u64) -> Contender<'a> {
    let size = bench.scale.size;
    let times = (bytes / bench.scale.less).div_ceil(size);
    Contender::new(name, Role::Skiff, move || {
        let words = [way.word(), "--size", &size.to_string(), "--times", &times.to_string()];
        rate(&mut client(&words, server.addr)?, size * times, Some(&server.running))
    })
}

/// Without a protocol.
fn one_way(way: Way, addr: core::net::SocketAddr, bytes: u64) -> Result<Command> {
    let word = match way {
        Way::Get => "source",
        Way::Put => "sink",
    };
    client(&[word, "--bytes", &bytes.to_string()], addr)
}

/// The kernel's TCP in the far network, at port 19.
fn kernel(far: &Far, way: Way) -> Result<Running> {
    let service = match way {
        Way::Get => "chargen",
        Way::Put => "discard",
    };
    let command = client(&["serve", "--service", service], "10.78.0.1:19".parse()?)?;
    Running::start("the kernel's TCP", &mut far.command(&command))
}
