//! Latency of a small request.

use core::net::SocketAddr;

use anyhow::{Result, ensure};

use super::{Bench, KIB, client};
use crate::device::client::Latency;
use crate::device::network::{Far, Line, Place};
use crate::device::running::Running;
use crate::device::server::Baseline;
use crate::job::{Contender, Job, Measure};
use crate::measure::{Sample, run};
use crate::results::{Role, Unit};

const BASELINE: &str = "smoltcp's own, 14 bytes there and back";
const LWIP: &str = "lwIP, 14 bytes there and back";
/// One read and one write of a frame, without TCP.
const RAW: &str = "limit: the raw TAP, a datagram";
const PING: &str = "skiff, ping";

pub(super) fn job(bench: &Bench) -> Result<Job<'_>> {
    let questions = bench.scale.questions;
    let mut job = Job::new(format!("{questions} round trips, median"), Unit::Microseconds);
    let baseline = bench.baseline(1, 64 * KIB)?;
    let lwip = bench.lwip(4, &mut job).map(|lwip| (LWIP, lwip));
    for (name, server) in [(BASELINE, baseline)].into_iter().chain(lwip) {
        job.add(Contender::new(name, Role::Peer, move || measure(server.echo(), None, questions, &server.running)));
    }
    for (number, name, offload) in [(2, PING, true), (3, "skiff, ping, plain", false)] {
        let server = bench.device_serv(number, offload, 64 * KIB)?;
        job.add(Contender::new(name, Role::Skiff, move || {
            measure(server.addr, Some("--ping"), questions, &server.running)
        }));
        job.goal(name, Measure::To(BASELINE.into()), 0.9);
        job.goal(name, Measure::To(LWIP.into()), 1.0);
    }
    let raw = Baseline::raw(Place::near(5))?;
    job.add(Contender::new(RAW, Role::Limit, move || measure(raw.echo(), Some("--datagram"), questions, &raw.running)));
    for one in [PING, BASELINE] {
        job.compare(one, Measure::To(RAW.into()));
    }
    let (far, _) = Far::new(Line::Veth)?;
    let addr = "10.78.0.1:7".parse()?;
    let kernel = client(&["serve", "--service", "echo"], addr)?;
    let kernel = Running::start("the kernel's TCP", &mut far.command(&kernel))?;
    job.add(Contender::new("the kernel's TCP over veth", Role::Limit, move || {
        let _ = &far;
        measure(addr, None, questions, &kernel)
    }));
    Ok(job)
}

fn measure(addr: SocketAddr, option: Option<&str>, count: u32, server: &Running) -> Result<Sample> {
    let mut command = client(&["latency", "--count", &count.to_string()], addr)?;
    let (sample, said) = run::output(command.args(option), Some(server))?;
    let latency: Latency = serde_json::from_slice(&said)?;
    ensure!(latency.p50 > 0.0, "measured 0 µs");
    Ok(Sample { value: latency.p50, ..sample })
}
