//! How often a server wakes up, and for how long, while it is idle or almost idle.

use core::cell::RefCell;
use core::net::SocketAddr;
use core::time::Duration;
use std::rc::Rc;
use std::time::Instant;

use anyhow::Result;

use super::{Bench, KIB, client};
use crate::device::running::Running;
use crate::job::{Contender, Job, Measure};
use crate::measure::run::{self, Timed as _};
use crate::measure::{Sample, stats};
use crate::results::{Extra, Role, Unit};

/// Messages per second.
const RATE: u64 = 50;

const CPU: &str = "ms of processor a second";
const SKIFF: &str = "skiff";
const BASELINE: &str = "smoltcp's own";

/// With one silent connection.
pub(super) fn idle(bench: &Bench) -> Result<Job<'_>> {
    let seconds = bench.scale.seconds;
    let mut job = Job::new(format!("wake-ups with one idle connection, over {seconds} s"), Unit::PerSecond);
    add(bench, &mut job, move |addr, ping, server| {
        let mut command = client(&["idle"], addr)?;
        command.args((!ping).then_some("--echo"));
        let client = Running::start("an idle client", &mut command)?;
        let woken = watch(server, || {
            std::thread::sleep(Duration::from_secs(seconds));
            Ok(())
        });
        drop(client);
        woken
    })?;
    job.goal(SKIFF, Measure::Value, 1.0);
    job.goal(SKIFF, Measure::Extra(CPU), 0.1);
    Ok(job)
}

/// With occasional small messages.
pub(super) fn messages(bench: &Bench) -> Result<Job<'_>> {
    let seconds = bench.scale.seconds;
    let mut job = Job::new(format!("wake-ups with {RATE} small messages a second, over {seconds} s"), Unit::PerSecond);
    add(bench, &mut job, move |addr, ping, server| {
        let mut command =
            client(&["latency", "--count", &(RATE * seconds).to_string(), "--rate", &RATE.to_string()], addr)?;
        command.args(ping.then_some("--ping"));
        watch(server, || run::output(&mut command, None).map(drop))
    })?;
    job.goal(SKIFF, Measure::Value, 110.0);
    Ok(job)
}

/// Wake-ups and milliseconds of processor time, per second.
struct Woken {
    times: f64,
    cpu: f64,
}

fn watch(server: &Running, mut meanwhile: impl FnMut() -> Result<()>) -> Result<Woken> {
    let (sleeps, cpu, begin) = (server.sleeps()?, server.cpu(), Instant::now());
    meanwhile()?;
    let seconds = begin.elapsed().as_secs_f64();
    let times = (server.sleeps()? - sleeps) as f64 / seconds;
    Ok(Woken { times, cpu: (server.cpu() - cpu).total() * 1e3 / seconds })
}

fn add<'a>(
    bench: &Bench,
    job: &mut Job<'a>,
    measure: impl Fn(SocketAddr, bool, &Running) -> Result<Woken> + Copy + 'a,
) -> Result<()> {
    let server = bench.device_serv(1, true, 64 * KIB)?;
    let baseline = bench.baseline(2, 64 * KIB)?;
    job.add(contender(SKIFF, Role::Skiff, move || measure(server.addr, true, &server.running)));
    job.add(contender(BASELINE, Role::Peer, move || measure(baseline.echo(), false, &baseline.running)));
    Ok(())
}

fn contender<'a>(name: &str, role: Role, measure: impl Fn() -> Result<Woken> + 'a) -> Contender<'a> {
    let all = Rc::new(RefCell::new(Vec::new()));
    let cpu = Rc::clone(&all);
    let contender = Contender::new(name, role, move || {
        let woken = measure()?;
        cpu.borrow_mut().push(woken.cpu);
        Ok(Sample { value: woken.times, ..Sample::default() })
    });
    contender.after(move || {
        Ok(stats::median(&all.borrow()).map(|value| Extra { what: CPU.to_owned(), value }).into_iter().collect())
    })
}
