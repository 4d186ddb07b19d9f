//! Small files: all commands pipelined, or each after the reply to the previous one.

use std::rc::Rc;

use anyhow::Result;

use super::{Bench, KIB, client};
use crate::job::{Contender, Job, Measure};
use crate::measure::{Sample, run};
use crate::results::{Role, Unit};

use crate::device::transfer::Took;

pub(super) fn job(bench: &Bench) -> Result<Job<'_>> {
    let (files, times) = (bench.scale.files, bench.scale.times);
    let mut job = Job::new(format!("{files} files of 1 KiB in one session"), Unit::Seconds);
    let server = bench.device_serv(1, true, 64 * KIB)?;
    // `get` needs the files of `put`: the first round begins with the first contender.
    for way in ["put", "get"] {
        for (how, option) in [("at once", None), ("one by one", Some("--one-by-one"))] {
            let server = Rc::clone(&server);
            job.add(Contender::new(format!("skiff, {way}, {how}"), Role::Skiff, move || {
                let words = ["many", "--way", way, "--count", &files.to_string(), "--times", &times.to_string()];
                let mut command = client(&words, server.addr)?;
                command.args(option);
                let (sample, said) = run::output(&mut command, Some(&server.running))?;
                let took: Took = serde_json::from_slice(&said)?;
                let server_cpu = sample.server_cpu.map(|cpu| cpu / f64::from(times));
                Ok(Sample { value: took.seconds / f64::from(times), server_cpu, ..Sample::default() })
            }));
        }
        job.goal(&format!("skiff, {way}, at once"), Measure::To(format!("skiff, {way}, one by one")), 0.2);
    }
    Ok(job)
}
