//! Output to standard error: best effort, bounded, written by a dedicated thread.
//!
//! If the reader stops, the disk is full or the pipe is broken, lines are lost and the program continues. Lost lines
//! are counted, and the count is logged when lines can be written again.
//!
//! tracing-appender does not fit: it panics if its thread can't be started, prints to standard output when it can't be
//! flushed, and does not count what could not be written.

use core::time::Duration;
use core::{fmt, mem};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Instant;

use tracing::callsite::Identifier;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Maximum number of bytes that wait to be written.
const MOST: usize = 256 * 1024;

/// A repeated warning is written once in this interval.
const PAUSE: Duration = Duration::from_secs(10);

/// The target of `INFO` events that are logged at every verbosity.
pub const ALWAYS: &str = "always";

/// The text of an error without the number that Rust appends to the system's text: `(os error 98)`.
#[must_use]
pub fn without_number(text: &str) -> &str {
    text.rfind(" (os error ").filter(|_| text.ends_with(')')).map_or(text, |at| &text[..at])
}

/// A queue of lines for standard error.
#[derive(Clone)]
pub struct Lines(Arc<Shared>);

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines")
    }
}

struct Shared {
    state: Mutex<State>,
    /// Notified when there is something to write, and when something was written.
    changed: Condvar,
    sink: Mutex<Sink>,
    pause: Duration,
}

struct Sink {
    to: Box<dyn Write + Send>,
    /// The last line was written only in part.
    torn: bool,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The worker is writing a line.
    writing: bool,
    has_worker: bool,
    /// Lines lost since the count was last logged.
    dropped: usize,
    /// The last write has failed.
    broken: bool,
    /// A writer's wait has timed out; no writer waits again until the queue is empty.
    stuck: bool,
    warnings: Vec<Warning>,
}

/// A kind of warning: all those from one place in the code.
struct Warning {
    kind: Identifier,
    /// Until then, further ones are only counted.
    until: Instant,
    count: usize,
    last: Vec<u8>,
}

impl Lines {
    /// Standard error of this process.
    pub fn stderr() -> &'static Self {
        static STDERR: OnceLock<Lines> = OnceLock::new();
        STDERR.get_or_init(|| Self::new(Box::new(io::stderr()), PAUSE))
    }

    fn new(to: Box<dyn Write + Send>, pause: Duration) -> Self {
        let sink = Mutex::new(Sink { to, torn: false });
        Self(Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), sink, pause }))
    }

    /// A writer of whole lines that waits at most `patience` until each one is written. Use zero where waiting would
    /// block other work.
    #[must_use]
    pub fn writer(&self, patience: Duration) -> Writer {
        Writer { lines: self.clone(), patience, kind: None }
    }

    /// Waits until everything is written, at most for `patience`.
    pub fn finish(&self, patience: Duration) {
        let mut state = self.0.lock();
        state.repeat(Instant::now() + self.0.pause, self.0.pause);
        self.wait(state, patience);
    }

    fn push(&self, line: &[u8], kind: Option<&Identifier>, patience: Duration) {
        let mut state = self.0.lock();
        if let Some(count) = kind.and_then(|kind| state.repeated(kind, line, self.0.pause)) {
            // The worker sleeps until something is due, and learns only now what is.
            if count == 1 {
                self.0.changed.notify_all();
            }
            return;
        }
        state.add(line.to_vec());
        self.wait(state, patience);
    }

    /// Starts the worker if there is none, and waits for it.
    fn wait(&self, mut state: MutexGuard<'_, State>, patience: Duration) {
        if !state.has_worker && !state.waiting.is_empty() {
            let shared = Arc::clone(&self.0);
            let worker = thread::Builder::new().name("stderr".to_owned()).spawn(move || shared.work());
            state.has_worker = worker.is_ok();
            if worker.is_err() && !patience.is_zero() {
                // No thread can be started. The caller may wait, so it writes itself.
                while let Some(line) = state.next() {
                    let written = self.0.write(&line);
                    state.written(written);
                }
                return;
            }
        }
        self.0.changed.notify_all();
        if !patience.is_zero() && !state.stuck {
            let busy = |state: &mut State| state.writing || !state.waiting.is_empty();
            let waited = self.0.changed.wait_timeout_while(state, patience, busy);
            let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            state.stuck = waited.timed_out();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, line: &[u8]) -> io::Result<()> {
        let sink = &mut *self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        if sink.torn {
            sink.to.write_all(b"\n")?;
            sink.torn = false;
        }
        let mut rest = line;
        while !rest.is_empty() {
            match sink.to.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => rest = &rest[n..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    sink.torn = rest.len() < line.len();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The loop of the worker; never returns.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            let due = state.repeat(Instant::now(), self.pause);
            if let Some(line) = state.next() {
                drop(state);
                let written = self.write(&line);
                state = self.lock();
                state.written(written);
            } else if state.dropped > 0 && !state.broken {
                let dropped = mem::take(&mut state.dropped);
                drop(state);
                tracing::info!(target: ALWAYS, "{dropped} log lines dropped");
                state = self.lock();
            } else {
                state.stuck = false;
                self.changed.notify_all();
                let timeout = due.map_or(Duration::MAX, |due| due.saturating_duration_since(Instant::now()));
                state = self.changed.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

impl State {
    fn add(&mut self, line: Vec<u8>) {
        if self.bytes + line.len() <= MOST {
            self.bytes += line.len();
            self.waiting.push_back(line);
        } else {
            self.dropped += 1;
        }
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let line = self.waiting.pop_front()?;
        self.bytes -= line.len();
        self.writing = true;
        Some(line)
    }

    fn written(&mut self, written: io::Result<()>) {
        self.writing = false;
        self.broken = written.is_err();
        self.dropped += usize::from(self.broken);
    }

    /// If a line of this kind was written recently, this one is only counted. Returns the count.
    fn repeated(&mut self, kind: &Identifier, line: &[u8], pause: Duration) -> Option<usize> {
        let now = Instant::now();
        match self.warnings.iter_mut().find(|warning| warning.kind == *kind) {
            Some(warning) if warning.until > now || warning.count > 0 => {
                warning.count += 1;
                warning.last = line.to_vec();
                return Some(warning.count);
            }
            Some(warning) => warning.until = now + pause,
            None => {
                let until = now + pause;
                self.warnings.push(Warning { kind: kind.clone(), until, count: 0, last: Vec::new() });
            }
        }
        None
    }

    /// Queues the warnings whose counts are due at `now`; returns when the next one is due.
    fn repeat(&mut self, now: Instant, pause: Duration) -> Option<Instant> {
        let mut due = None;
        for mut warning in mem::take(&mut self.warnings) {
            if warning.count > 0 && warning.until <= now {
                self.add(with_count(&mem::take(&mut warning.last), mem::take(&mut warning.count)));
                warning.until = now + pause;
            } else if warning.count > 0 {
                due = Some(due.map_or(warning.until, |due: Instant| due.min(warning.until)));
            }
            self.warnings.push(warning);
        }
        due
    }
}

/// A line of the log with the number of further ones of its kind.
fn with_count(line: &[u8], count: usize) -> Vec<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    match line.strip_suffix(b"}").filter(|line| line.starts_with(b"{")) {
        Some(object) => [object, format!(",\"more_times\":{count}}}\n").as_bytes()].concat(),
        None => {
            let times = if count == 1 { "time" } else { "times" };
            [line, format!(" ({count} more {times})\n").as_bytes()].concat()
        }
    }
}

/// Writes whole lines, and never fails.
#[derive(Debug, Clone)]
pub struct Writer {
    lines: Lines,
    patience: Duration,
    kind: Option<Identifier>,
}

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.push(line, self.kind.as_ref(), self.patience);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A progress bar needs this to see the terminal that it draws on.
#[cfg(unix)]
impl std::os::fd::AsRawFd for Writer {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        io::stderr().as_raw_fd()
    }
}

/// Limits repeated warnings, from every source: a peer can cause as many as it likes.
impl<'a> MakeWriter<'a> for Writer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self {
        let kind = (*meta.level() <= Level::WARN).then(|| meta.callsite());
        Self { kind, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A disk with limited room that sends what was written to it.
    struct Disk(Sender<String>, Arc<Mutex<usize>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = &mut *self.1.lock().unwrap();
            let n = bytes.len().min(*room);
            *room -= n;
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.send(String::from_utf8(bytes[..n].to_vec()).unwrap()).unwrap();
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Writes lines to a disk with `room` bytes; the receiver gets what was written.
    fn lines(room: usize, pause: Duration) -> (Lines, Receiver<String>, Arc<Mutex<usize>>) {
        let (sender, receiver) = channel();
        let room = Arc::new(Mutex::new(room));
        (Lines::new(Box::new(Disk(sender, Arc::clone(&room))), pause), receiver, room)
    }

    /// Logs with `log` as host-serv does.
    fn logged(lines: &Lines, json: bool, log: impl FnOnce()) {
        let fmt = tracing_subscriber::fmt().with_writer(lines.writer(Duration::ZERO)).without_time().with_ansi(false);
        if json {
            tracing::subscriber::with_default(fmt.json().finish(), log);
        } else {
            tracing::subscriber::with_default(fmt.finish(), log);
        }
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn warnings_that_repeat_are_one_line_and_a_count_for_each_kind() {
        for (json, expected) in [
            (false, ["Too many open files (212 more times)\n", "another kind", "another kind (1 more time)\n"]),
            (true, ["\"more_times\":212}\n", "another kind", "\"more_times\":1}\n"]),
        ] {
            let (lines, receiver, _) = lines(usize::MAX, LONG);
            logged(&lines, json, || {
                for number in 0..213 {
                    tracing::warn!("{number}: Too many open files");
                }
                for _ in 0..2 {
                    tracing::error!("another kind");
                }
                for _ in 0..3 {
                    tracing::info!("no warning");
                }
            });
            lines.finish(LONG);
            let said: Vec<_> = receiver.try_iter().collect();
            assert_eq!(said.len(), 7, "{said:?}");
            assert!(said[0].contains("0: Too many open files"), "{said:?}");
            assert!(said[1].contains(expected[1]) && said[2..5].iter().all(|line| line.contains("no warning")));
            assert!(said[5].contains("212: Too many") && said[5].ends_with(expected[0]), "{said:?}");
            assert!(said[6].ends_with(expected[2]), "{said:?}");
            assert!(!json || said.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
        }
    }

    #[test]
    fn the_count_of_a_flood_is_logged_though_nothing_follows_it() {
        let (lines, receiver, _) = lines(usize::MAX, Duration::from_millis(20));
        logged(&lines, false, || (0..1000).for_each(|_| tracing::warn!("flood")));
        let mut told = 0;
        while told < 1000 {
            let line = receiver.recv_timeout(LONG).unwrap();
            let count = line.split_once('(').map(|(_, rest)| rest.split(' ').next().unwrap().parse().unwrap());
            told += count.unwrap_or(1);
        }
        assert_eq!(told, 1000);
    }

    #[test]
    fn a_warning_that_repeats_slowly_is_logged_when_it_is_due() {
        let pause = Duration::from_millis(500);
        let (lines, receiver, _) = lines(usize::MAX, pause);
        logged(&lines, false, || {
            let mut last: Option<Instant> = None;
            loop {
                let now = Instant::now();
                tracing::warn!("warning");
                let line = receiver.recv_timeout(LONG).unwrap();
                if line.ends_with("warning (1 more time)\n") {
                    break;
                }
                // In full: it is the first one, or came after the pause.
                assert!(last.replace(now).is_none_or(|last| last.elapsed() >= pause), "{line}");
                // By then the worker sleeps.
                lines.finish(LONG);
            }
        });
    }

    #[test]
    fn a_full_disk_costs_lines_and_the_next_ones_are_whole() {
        let (lines, receiver, room) = lines(10, LONG);
        let mut writer = lines.writer(LONG);
        writer.write_all(b"whole\n").unwrap();
        writer.write_all(b"torn apart\n").unwrap();
        writer.write_all(b"lost\n").unwrap();
        *room.lock().unwrap() = usize::MAX;
        writer.write_all(b"whole again\n").unwrap();
        assert_eq!(receiver.try_iter().collect::<String>(), "whole\ntorn\nwhole again\n");
    }
}
