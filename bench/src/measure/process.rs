//! The kernel's data on a process: processor time, memory, children.

use core::mem::MaybeUninit;
use core::ops::Add as _;
use core::time::Duration;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::Cpu;

/// The resources that an ended process has used, including its children.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    pub(crate) cpu: Cpu,
    /// Its peak memory, in KiB.
    pub(crate) memory: f64,
}

/// Asks a child to end, and kills it if it has not ended within `limit`.
pub(crate) fn end(child: &mut Child, limit: Duration) {
    _ = kill_process(Pid::from_child(child), Signal::TERM);
    let begin = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if begin.elapsed() > limit {
            _ = child.kill();
            _ = child.wait();
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits for a child and returns its resource usage.
///
/// The caller has started it, and nothing else waits for it.
pub(crate) fn wait(pid: u32) -> io::Result<(ExitStatus, Usage)> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to memory of the right type that outlives the call.
        let ended = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
        if ended == pid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: all bit patterns are valid for it, zeros too, and the call has filled it in.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let cpu = Cpu { user: seconds(usage.ru_utime), system: seconds(usage.ru_stime) };
    Ok((ExitStatus::from_raw(status), Usage { cpu, memory: usage.ru_maxrss as f64 }))
}

/// Processor time of a running process and all its descendants, including ended ones that a process of the tree has
/// waited for.
///
/// The total is exact for running processes; for ended children, and for the split into user and system, the
/// resolution is a hundredth of a second.
pub(crate) fn tree_cpu(pid: u32) -> Cpu {
    tree(pid).into_iter().filter_map(cpu).fold(Cpu::default(), Cpu::add)
}

/// A process and its running descendants.
pub(crate) fn tree(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() {
        let pid = found[at];
        at += 1;
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    found
}

/// Processor seconds of all threads of a process, including ended ones.
fn own_cpu(pid: u32) -> Option<f64> {
    let pid = libc::pid_t::try_from(pid).ok()?;
    let mut clock = 0;
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the pointer is to a clock's number that outlives the call.
    if unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) } != 0 {
        return None;
    }
    // SAFETY: the pointer is to memory of the right type that outlives the call.
    if unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: all bit patterns are valid for it, and the call has filled it in.
    let time = unsafe { time.assume_init() };
    Some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

/// Processor time of a process and of the children that it has waited for.
fn cpu(pid: u32) -> Option<Cpu> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let [user, system, children_user, children_system] = ticks(&stat)?;
    let seconds = |ticks: u64| ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    let own = own_cpu(pid).map_or_else(|| seconds(system), |all| all - seconds(user));
    Some(Cpu { user: seconds(user + children_user), system: own + seconds(children_system) })
}

/// `utime`, `stime`, `cutime` and `cstime` of a line of /proc/PID/stat. The name of the program may contain anything.
fn ticks(stat: &str) -> Option<[u64; 4]> {
    let fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let ticks: Vec<_> = fields.skip(11).take(4).map_while(|field| field.parse().ok()).collect();
    ticks.try_into().ok()
}

/// Memory of a process and its descendants in KiB; pages that several of them share count once.
pub(crate) fn tree_memory(pid: u32) -> f64 {
    tree_field(pid, "Pss:")
}

/// The same without pages of files, whose share changes when another process maps the same file.
pub(crate) fn tree_anonymous(pid: u32) -> f64 {
    tree_field(pid, "Pss_Anon:")
}

fn tree_field(pid: u32, name: &str) -> f64 {
    tree(pid).into_iter().filter_map(|pid| field(&format!("/proc/{pid}/smaps_rollup"), name)).sum()
}

/// Memory of a process now, in KiB, as `ps` and `top` show it.
pub(crate) fn resident(pid: u32) -> Option<f64> {
    field(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// The peak memory of a process, in KiB.
pub(crate) fn peak(pid: u32) -> Option<f64> {
    field(&format!("/proc/{pid}/status"), "VmHWM:")
}

fn field(path: &str, name: &str) -> Option<f64> {
    let text = fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::thread::yield_now;

    #[test]
    fn times_are_found_after_any_name() {
        let stat = "7 (a) b) 1 2) S 1 7 7 0 -1 4194560 1 2 3 4 10 20 300 40 20 0 1 0 5";
        assert_eq!(ticks(stat), Some([10, 20, 300, 40]));
        assert_eq!(ticks("7 (x) S 1"), None);
    }

    #[test]
    fn a_child_is_waited_for_with_what_it_used() {
        let mut command = Command::new("sh");
        command.args(["-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 3"]);
        #[expect(clippy::zombie_processes, reason = "waited for in its own way")]
        let child = command.spawn().unwrap();
        let (status, usage) = wait(child.id()).unwrap();
        assert_eq!(status.code(), Some(3));
        assert!(usage.cpu.total() > 0.0 && usage.memory > 100.0, "{usage:?}");
    }

    #[test]
    fn a_running_process_is_seen_with_its_children() {
        // Other tests start children of this process: a process of its own. It stays until its input ends.
        let mut command = Command::new("sh");
        command.args(["-c", "(i=0; while [ $i -lt 50000000 ]; do i=$((i+1)); done) & wait; read line"]);
        let mut parent = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        while tree_cpu(parent.id()).total() < 0.1 {
            yield_now();
        }
        let [first, child] = tree(parent.id())[..] else { panic!("a child") };
        assert_eq!(first, parent.id());
        let before = tree_cpu(parent.id()).total();
        kill_process(Pid::from_raw(child.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
        while tree(parent.id()).len() > 1 {
            yield_now();
        }
        assert!(tree_cpu(parent.id()).total() > before - 0.02, "an ended child counts in hundredths of a second");
        drop(parent.stdin.take());
        parent.wait().unwrap();

        let me = std::process::id();
        assert!(resident(me).unwrap() > 100.0 && peak(me).unwrap() >= resident(me).unwrap() / 2.0);
        assert!(tree_memory(me) > 100.0 && tree_anonymous(me) > 0.0);
    }
}
