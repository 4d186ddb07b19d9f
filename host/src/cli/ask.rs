//! Questions at the terminal, answered with yes or no.

use std::io;

use super::output::Output;
use crate::client::{CancelToken, on_thread};

/// Asks a yes-or-no question; `false` if there is no answer.
pub(crate) async fn ask(output: &mut Output, cancel: CancelToken, question: &str) -> bool {
    output.question(question);
    let answer = on_thread("answer", move || read_answer(&cancel)).await.unwrap_or_default();
    matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Reads a line, unless Ctrl-C comes first. After that, no thread may keep reading: the next line belongs to the
/// prompt.
#[cfg(unix)]
fn read_answer(cancel: &CancelToken) -> io::Result<String> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    let mut answer = String::new();
    while !cancel.is_cancelled() {
        if poll(&mut [PollFd::new(&io::stdin(), PollFlags::IN)], Some(&INTERVAL))? > 0 {
            io::stdin().read_line(&mut answer)?;
            break;
        }
    }
    Ok(answer)
}

#[cfg(not(unix))]
fn read_answer(_: &CancelToken) -> io::Result<String> {
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer)
}
