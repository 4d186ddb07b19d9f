//! Download of a file over a lossy link, in ranges over several sessions.

use std::rc::Rc;
use std::time::Instant;
use std::{fs, process::Command};

use anyhow::{Result, ensure};

use super::{Bench, KIB, client, rate};
use crate::device::client::{LARGE, content};
use crate::device::network::{Far, Line, Place};
use crate::device::running::Running;
use crate::device::server::{Baseline, DeviceServ, Setup};
use crate::job::{Contender, Job, Measure};
use crate::measure::{Sample, run};
use crate::results::{Extra, Role, Unit};

/// Lost packets in percent, and the delay in milliseconds, each way.
const LOSS: f64 = 1.0;
const DELAY: u64 = 10;

const KERNEL: &str = "the kernel's TCP, cubic";
const RAM: &str = "KiB of RAM for the server";

pub(super) fn job(bench: &Bench) -> Result<Job<'_>> {
    let what = format!("bytes from the server over a line with {LOSS}% loss and {} ms", 2 * DELAY);
    let mut job = Job::new(what, Unit::MbPerSecond);
    let (far, line) = Far::new(Line::Bad { drop: LOSS, delay: DELAY })?;
    let world = Rc::new((far, line));
    let far = &world.0;

    let unit = bench.scale.line;
    let addr = "10.78.0.1:19".parse()?;
    let kernel = client(&["serve", "--service", "chargen", "--congestion", "cubic"], addr)?;
    let kernel = Running::start("the kernel's TCP", &mut far.command(&kernel))?;
    let alive = Rc::clone(&world);
    job.add(Contender::new(KERNEL, Role::Peer, move || {
        let _ = &alive;
        let bytes = 12 * unit;
        rate(&mut client(&["source", "--bytes", &bytes.to_string()], addr)?, bytes, Some(&kernel))
    }));
    let baseline = Baseline::start(&bench.servers, Place::far(9), 64 * KIB, Some(far))?;
    let alive = Rc::clone(&world);
    job.add(Contender::new("smoltcp's own, 64 KiB", Role::Peer, move || {
        let _ = &alive;
        rate(&mut client(&["source", "--bytes", &unit.to_string()], baseline.chargen())?, unit, Some(&baseline.running))
    }));
    for (number, sessions) in [(1, 1), (2, 2), (4, 4), (8, 8)] {
        let size = unit * sessions as u64;
        let files = bench.dir.path().join(format!("line-{sessions}"));
        // It is there in later runs.
        fs::create_dir_all(&files)?;
        let bytes = content(size, 1)?;
        fs::write(files.join(LARGE), &bytes)?;
        let place = Place::far(number);
        // A board has no kernel that cuts its segments.
        let setup = Setup { place, offload: false, buffer: 64 * KIB, sessions, preload: Some(&files) };
        let server = Rc::new(DeviceServ::start(&bench.servers, setup, Some(far))?);
        let ram = server.ram_kib();
        let name = format!("skiff, get -j {sessions}");
        let to = bench.dir.path().join("got");
        let alive = Rc::clone(&world);
        let contender = Contender::new(&*name, Role::Skiff, move || {
            let _ = &alive;
            let mut command = Command::new(&bench.servers.host_cli);
            command.args(["-q", &server.addr.ip().to_string(), &server.addr.port().to_string(), "get", LARGE]);
            command.args(["-j", &sessions.to_string(), "-f", "-o"]).arg(&to);
            let begin = Instant::now();
            run::timed(&mut command, None)?;
            let value = size as f64 / 1e6 / begin.elapsed().as_secs_f64();
            ensure!(fs::read(&to)? == bytes, "the content differs");
            Ok(Sample { value, ..Sample::default() })
        });
        job.add(
            contender.after(move || Ok(ram.map(|value| Extra { what: RAM.to_owned(), value }).into_iter().collect())),
        );
    }
    job.at_least("skiff, get -j 8", Measure::To(KERNEL.into()), 0.4);
    Ok(job)
}
