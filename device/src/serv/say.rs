//! Output of device-serv: messages on stderr, and its port on stdout.
//!
//! Nothing here blocks the server. A thread for each stream writes the lines; if they are not read, lines that don't
//! fit into the queue are dropped and counted. If a stream fails (its reader has exited, the disk with the log is
//! full), lines are lost and the server continues.

use core::fmt::Arguments;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::LazyLock;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::background::Background;
use super::wait::wait;

/// Maximum number of bytes waiting to be written.
const QUEUE: usize = 64 * 1024;

/// How long the program waits at its end for a stream that accepts no data.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long a line on stdout may delay the start.
const MOMENT: Duration = Duration::from_millis(100);

/// `None`: the system can't start a thread.
static STDERR: LazyLock<Option<Background>> =
    LazyLock::new(|| Background::start(QUEUE, |line| _ = write(io::stderr().as_fd(), line)).ok());

static STDOUT: LazyLock<Option<Background>> = LazyLock::new(|| Background::start(QUEUE, write_out).ok());

/// Lines for stderr that were dropped since the last one that was written.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Prints `text` to stderr, as one line.
pub fn say(text: Arguments<'_>) {
    let dropped = DROPPED.swap(0, Ordering::Relaxed);
    let gap =
        if dropped > 0 { format!("device-serv: {dropped} lines dropped: stderr is not read\n") } else { String::new() };
    // In one piece, so that lines of several programs do not mix.
    let line = format!("{gap}device-serv: {text}\n").into_bytes();
    let taken = match &*STDERR {
        Some(thread) => thread.put(line),
        None => takes_more(io::stderr().as_fd()) && write(io::stderr().as_fd(), &line).is_ok(),
    };
    if !taken {
        DROPPED.fetch_add(dropped + 1, Ordering::Relaxed);
    }
}

/// `1 session`, `4 sessions`.
#[must_use]
pub fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// The text of an error without the number that Rust appends to the system's text: `(os error 98)`.
#[must_use]
pub fn without_number(text: &str) -> &str {
    text.rfind(" (os error ").filter(|_| text.ends_with(')')).map_or(text, |at| &text[..at])
}

/// Prints `text` to stdout, for programs that start this one. Waits a moment, so that on a terminal it appears
/// before later messages on stderr.
pub fn announce(text: Arguments<'_>) {
    let line = format!("{text}\n").into_bytes();
    match &*STDOUT {
        Some(thread) => {
            thread.put(line);
            thread.flush(MOMENT);
        }
        None if takes_more(io::stdout().as_fd()) => write_out(&line),
        None => {}
    }
}

/// Waits, for a limited time, until all output is written. Called before the program ends.
pub fn flush() {
    for thread in [&STDOUT, &STDERR].into_iter().filter_map(|thread| LazyLock::get(thread)?.as_ref()) {
        thread.flush(PATIENCE);
    }
}

/// Unbuffered: at exit, std would try again to write the rest of its buffer.
fn write(stream: BorrowedFd<'_>, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match rustix::io::write(stream, line) {
            Ok(n) => line = &line[n..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn write_out(line: &[u8]) {
    if let Err(error) = write(io::stdout().as_fd(), line) {
        say(format_args!("stdout: {error}"));
    }
}

/// True if a line can be written without waiting.
fn takes_more(stream: BorrowedFd<'_>) -> bool {
    let mut watched = [PollFd::from_borrowed_fd(stream, PollFlags::OUT)];
    wait(&mut watched, Some(Duration::ZERO)).is_ok() && watched[0].revents().contains(PollFlags::OUT)
}
