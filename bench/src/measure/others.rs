//! The load of other processes during a job: the busy time of all processors minus that of the bench and its children.
//!
//! Kernel threads are not counted, because they may work for the job, such as when they write to a disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Load above this share of a processor is reported.
const MUCH: f64 = 0.05;

/// The flag of kernel threads in /proc/PID/stat.
const PF_KTHREAD: u64 = 0x0020_0000;

/// The processor time that others took during a job; 1 is one whole processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Others {
    /// By other processes.
    pub(crate) processes: f64,
    /// The one of them that took the most, if it was visible, and its share.
    pub(crate) greatest: Option<(String, f64)>,
    /// By the hypervisor.
    pub(crate) steal: f64,
}

impl Others {
    /// A message about them, if they took much.
    pub(crate) fn word(&self) -> Option<String> {
        let percent = |part: f64| format!("{:.0}% of a processor", part * 100.0);
        let mut words = Vec::new();
        if self.processes > MUCH {
            let name = self.greatest.as_ref().map_or_else(
                || "none of them visible from here".to_owned(),
                |(name, part)| format!("the most by {name}: {}", percent(*part)),
            );
            words.push(format!("other processes took {} ({name})", percent(self.processes)));
        }
        if self.steal > MUCH {
            words.push(format!("the hypervisor took {}", percent(self.steal)));
        }
        (!words.is_empty()).then(|| words.join(", and "))
    }
}

/// A process as /proc/PID/stat shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    parent: u32,
    name: String,
    is_kernel: bool,
    /// Processor time, with that of ended children.
    ticks: u64,
}

impl Process {
    /// From a line of /proc/PID/stat. The name may contain anything.
    fn parse(stat: &str) -> Option<Self> {
        let (head, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            name: head.split_once('(')?.1.to_owned(),
            is_kernel: number(6)? & PF_KTHREAD != 0,
            ticks: number(11)? + number(12)? + number(13)? + number(14)?,
        })
    }
}

/// Processor time so far: of the whole machine, and of each process.
#[derive(Debug)]
struct Snapshot {
    /// Of all processors, in ticks: in use, and taken by the hypervisor.
    busy: u64,
    steal: u64,
    processes: BTreeMap<u32, Process>,
}

impl Snapshot {
    fn take(proc: &Path) -> Option<Self> {
        let (busy, steal) = busy(&fs::read_to_string(proc.join("stat")).ok()?)?;
        let entries = fs::read_dir(proc).ok()?.flatten();
        let processes = entries.filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read(entry.path().join("stat")).ok()?;
            Some((pid, Process::parse(&String::from_utf8_lossy(&stat))?))
        });
        Some(Self { busy, steal, processes: processes.collect() })
    }

    /// Splits the ticks of all processes: those of the tree below `root`, of kernel threads, and of each other process.
    fn sort(&self, root: u32) -> (u64, u64, BTreeMap<u32, (&str, u64)>) {
        let (mut own, mut kernel, mut others) = (0, 0, BTreeMap::new());
        for (&pid, process) in &self.processes {
            if self.is_below(pid, root) {
                own += process.ticks;
            } else if process.is_kernel {
                kernel += process.ticks;
            } else {
                others.insert(pid, (process.name.as_str(), process.ticks));
            }
        }
        (own, kernel, others)
    }

    fn is_below(&self, mut pid: u32, root: u32) -> bool {
        // Processes are read one by one, so in theory their parents may form a cycle.
        for _ in 0..self.processes.len() {
            if pid == root {
                return true;
            }
            let Some(process) = self.processes.get(&pid) else { return false };
            pid = process.parent;
        }
        false
    }

    /// What others took until `after`, which is `ticks` later. `root` is the first process of the bench.
    fn until(&self, after: &Self, root: u32, ticks: f64) -> Others {
        let (own, kernel, others) = self.sort(root);
        let (own_after, kernel_after, others_after) = after.sort(root);
        let ours = own_after.saturating_sub(own) + kernel_after.saturating_sub(kernel);
        let part = |ticks_taken: u64| ticks_taken as f64 / ticks;
        let processes = part(after.busy.saturating_sub(self.busy).saturating_sub(ours));
        let greatest = others_after.iter().map(|(pid, (name, now))| {
            let before = others.get(pid).map_or(0, |(_, ticks)| *ticks);
            (now.saturating_sub(before), name)
        });
        let greatest = greatest.max().filter(|(ticks, _)| *ticks > 0);
        let greatest = greatest.map(|(ticks, name)| ((*name).to_owned(), part(ticks).min(processes)));
        Others { processes, greatest, steal: part(after.steal.saturating_sub(self.steal)) }
    }
}

/// Ticks of all processors together from /proc/stat: in use, interrupts included, and taken by the hypervisor.
fn busy(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
    Some((user + nice + system + irq + softirq, steal))
}

/// Measures the load of others during a job.
#[derive(Debug)]
pub(crate) struct Watch {
    proc: PathBuf,
    root: u32,
    begin: Instant,
    before: Snapshot,
}

impl Watch {
    /// Starts. `proc` is the /proc of the whole machine; `own` is true if the bench is in its own PID namespace, where
    /// its parent is the first process.
    pub(crate) fn begin(proc: &Path, own: bool) -> Option<Self> {
        let before = Snapshot::take(proc)?;
        let me = fs::read_link(proc.join("self")).ok()?.to_str()?.parse().ok()?;
        let root = if own { before.processes.get(&me)?.parent } else { me };
        Some(Self { proc: proc.to_owned(), root, begin: Instant::now(), before })
    }

    pub(crate) fn end(&self) -> Option<Others> {
        let after = Snapshot::take(&self.proc)?;
        let ticks = self.begin.elapsed().as_secs_f64() * rustix::param::clock_ticks_per_second() as f64;
        Some(self.before.until(&after, self.root, ticks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(busy: u64, processes: &[(u32, u32, &str, u64)]) -> Snapshot {
        let one = |&(pid, parent, name, ticks): &(u32, u32, &str, u64)| {
            (pid, Process { parent, name: name.to_owned(), is_kernel: name == "kworker", ticks })
        };
        Snapshot { busy, steal: busy / 100, processes: processes.iter().map(one).collect() }
    }

    #[test]
    fn time_that_is_neither_ours_nor_the_kernels_counts_as_that_of_others() {
        let before = snapshot(
            10_000,
            &[(1, 0, "init", 50), (2, 0, "kworker", 10), (7, 1, "sh", 0), (8, 7, "bench", 100), (20, 1, "cargo", 500)],
        );
        // Within 10 s: 300 ticks of ours, 40 of the kernel, 160 of others, 60 of them by short-lived processes.
        let after = snapshot(
            10_500,
            &[
                (1, 0, "init", 55),
                (2, 0, "kworker", 50),
                (7, 1, "sh", 0),
                (8, 7, "bench", 150),
                (9, 8, "host-serv", 250),
                (20, 1, "cargo", 500),
                (21, 20, "rustc", 95),
            ],
        );
        let others = before.until(&after, 7, 1000.0);
        let expected = Others { processes: 0.16, greatest: Some(("rustc".to_owned(), 0.095)), steal: 0.005 };
        assert_eq!(others, expected);
        let word = others.word().unwrap();
        assert_eq!(word, "other processes took 16% of a processor (the most by rustc: 10% of a processor)");
        // No other process did anything.
        let quiet = before.until(&snapshot(10_040, &[(8, 7, "bench", 140)]), 8, 1000.0);
        assert_eq!((quiet.processes, &quiet.greatest, quiet.word()), (0.0, &None, None));
        assert!(Others { steal: 0.2, ..quiet }.word().unwrap().contains("the hypervisor took 20%"));
    }

    #[test]
    fn stat_files_are_parsed() {
        let stat = "7 (a) b) 1 2) S 1 7 7 0 -1 2129984 1 2 3 4 10 20 300 40 20 0 1 0 5";
        let parsed = Process::parse(stat).unwrap();
        assert_eq!(parsed, Process { parent: 1, name: "a) b) 1 2".to_owned(), is_kernel: true, ticks: 370 });
        assert_eq!(Process::parse("7 (x) S 1"), None);
        assert_eq!(busy("cpu  1 2 4 8 16 32 64 128 0 0\ncpu0 1"), Some((103, 128)));
        assert_eq!(busy("intr 5"), None);
    }

    #[test]
    fn a_watch_reads_the_proc_of_this_machine() {
        let watch = Watch::begin(Path::new("/proc"), false).unwrap();
        assert!(watch.before.processes.contains_key(&std::process::id()));
        let others = watch.end().unwrap();
        assert!(others.processes >= 0.0 && others.steal >= 0.0);
    }
}
