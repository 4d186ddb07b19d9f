//! What device-serv has to say: on stderr, and its port on stdout.
//!
//! Nothing here ever holds the server up. A thread for each stream writes the lines; if nobody reads them, the ones that the
//! queue has no room for are dropped and counted. A stream that fails (its reader has ended, the disk with the log is full)
//! loses lines, and the server continues.

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

/// Bytes of lines that wait to be written.
const QUEUE: usize = 64 * 1024;

/// For how long the end of the program waits for a stream that takes nothing.
const PATIENCE: Duration = Duration::from_millis(500);

/// `None`: the system has no thread to spare.
static STDERR: LazyLock<Option<Background>> =
    LazyLock::new(|| Background::start(QUEUE, |line| _ = write(io::stderr().as_fd(), line)).ok());

static STDOUT: LazyLock<Option<Background>> = LazyLock::new(|| Background::start(QUEUE, write_out).ok());

/// Lines of stderr that were dropped since the last one that was not.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Says it on stderr, as one line.
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

/// Says it on stdout, for programs that start this one.
pub fn announce(text: Arguments<'_>) {
    let line = format!("{text}\n").into_bytes();
    match &*STDOUT {
        Some(thread) => _ = thread.put(line),
        None if takes_more(io::stdout().as_fd()) => write_out(&line),
        None => {}
    }
}

/// Waits until what was said is written, but not for ever: before the program ends.
pub fn flush() {
    for thread in [&STDOUT, &STDERR].into_iter().filter_map(|thread| LazyLock::get(thread)?.as_ref()) {
        thread.flush(PATIENCE);
    }
}

/// Unbuffered: std would try again to write what is left in its buffer when the program ends.
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
