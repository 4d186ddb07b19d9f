//! Ctrl-C: stops the running work in any state.
//!
//! A dedicated thread listens, since the working thread may never get to check: data may arrive faster than it is
//! used, a terminal may be stopped, a disk may hang. It escalates in steps:
//!
//! | when | what happens |
//! |---|---|
//! | Ctrl-C | the [`CancelToken`] is set: the work shuts down cleanly |
//! | [`GRACE`] later, or a second Ctrl-C | the work is dropped |
//! | [`LAST`] later | with one command or a script, the program exits; a prompt exits only after a second Ctrl-C |
//!
//! A program that exits this way leaves the same state as one that was killed: its transfers can be resumed.

use core::cell::Cell;
use core::future::Future;
use core::pin::pin;
use core::time::Duration;
use std::io::{self, Write};
use std::sync::mpsc;
use std::thread;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::mode::Mode;
use super::output::Outcome;
use crate::client::CancelToken;

/// A single command that has nothing to clean up handles Ctrl-C only after this time; until then, the system's default
/// action for Ctrl-C ends the program.
const SHORT: Duration = Duration::from_millis(50);
/// How long work may take to shut down cleanly.
const GRACE: Duration = Duration::from_millis(150);
/// How long it may take to drop the work and write the last line.
const LAST: Duration = Duration::from_millis(50);

/// The interface to Ctrl-C for commands.
pub(crate) struct Interrupt {
    mode: Mode,
    tokens: Tokens,
    work: watch::Sender<Work>,
    listening: Cell<bool>,
}

#[derive(Clone, Default)]
struct Tokens {
    cancel: CancelToken,
    abandon: CancelToken,
}

#[derive(Default)]
struct Work {
    /// Number of the running work, or of the last one that ran.
    number: u64,
    /// The line to print if the work has to be abandoned; `None` if nothing is running.
    farewell: Option<String>,
}

impl Interrupt {
    /// Nothing is running, and nothing waits for Ctrl-C.
    pub(crate) fn new(mode: Mode) -> Self {
        let (work, _) = watch::channel(Work::default());
        Self { mode, tokens: Tokens::default(), work, listening: Cell::new(false) }
    }

    /// The token that stops the running work.
    pub(crate) fn token(&self) -> CancelToken {
        self.tokens.cancel.clone()
    }

    /// Marks work as running until the returned value is dropped; `farewell` is the line to print if it has to be
    /// abandoned.
    pub(crate) fn begin(&self, farewell: String) -> Running<'_> {
        if self.mode != Mode::OneShot {
            self.listen();
        }
        self.work.send_modify(|work| {
            self.tokens.abandon.reset();
            *work = Work { number: work.number + 1, farewell: Some(farewell) };
        });
        Running(self)
    }

    /// Runs `work`. `None` if it had to be dropped.
    pub(crate) async fn stoppable<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        // The work is polled last: while data flows it uses up tokio's budget for a task, and a future polled after it
        // would never be ready.
        if !self.listening.get() {
            tokio::select! {
                biased;
                () = sleep(SHORT) => self.listen(),
                done = &mut work => return Some(done),
            }
        }
        tokio::select! {
            biased;
            () = self.tokens.abandon.cancelled() => None,
            done = work => Some(done),
        }
    }

    /// Starts to listen. If no thread can be started, Ctrl-C still ends the program.
    pub(crate) fn listen(&self) {
        if self.listening.replace(true) {
            return;
        }
        let (mode, tokens, work) = (self.mode, self.tokens.clone(), self.work.subscribe());
        let (ready, wait) = mpsc::channel::<()>();
        let listen = move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(async {
                let Ok(signals) = signals() else { return };
                drop(ready);
                watch(mode, &tokens, work, signals).await;
            });
        };
        if thread::Builder::new().name("interrupt".to_owned()).spawn(listen).is_ok() {
            // The prompt restores the handler that it found, so this one must be installed first.
            _ = wait.recv();
        }
    }
}

/// Work is running as long as this lives.
pub(crate) struct Running<'a>(&'a Interrupt);

impl Running<'_> {
    /// The work has ended. True if Ctrl-C came before.
    pub(crate) fn end(self) -> bool {
        self.finish()
    }

    fn finish(&self) -> bool {
        let cancel = &self.0.tokens.cancel;
        let mut stopped = false;
        self.0.work.send_modify(|work| {
            stopped = cancel.is_cancelled();
            // A Ctrl-C that stopped a command must not stop the completion and keep-alive between commands.
            cancel.reset();
            work.farewell = None;
        });
        stopped
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        _ = self.finish();
    }
}

/// Waits for Ctrl-C and does what the table says, until the [`Interrupt`] is gone.
async fn watch(mode: Mode, tokens: &Tokens, mut work: watch::Receiver<Work>, mut signals: Signals) {
    loop {
        tokio::select! {
            _ = work.wait_for(|_| false) => return,
            _ = signals.recv() => {}
        }
        let Some(number) = now(&work, &tokens.cancel) else {
            // A prompt that waits for a line handles Ctrl-C itself.
            if mode == Mode::Prompt {
                continue;
            }
            leave("host-cli: cancelled");
        };
        let mut again = tokio::select! {
            () = ended(&mut work, number) => continue,
            _ = signals.recv() => true,
            () = sleep(GRACE) => false,
        };
        if now(&work, &tokens.abandon) != Some(number) {
            continue;
        }
        // Signals may come faster than this: a held key repeats within 50 ms.
        let mut last = Instant::now() + LAST;
        loop {
            wake_terminals();
            tokio::select! {
                () = ended(&mut work, number) => break,
                _ = signals.recv() => again = true,
                () = sleep_until(last) => {
                    // A prompt survives one Ctrl-C, even if it has to wait for a slow disk.
                    if again || mode != Mode::Prompt {
                        let farewell = work.borrow().farewell.clone();
                        leave(&farewell.unwrap_or_default());
                    }
                    last = Instant::now() + LAST;
                }
            }
        }
    }
}

/// Sets `token` and returns which work is running; `None` if none is.
fn now(work: &watch::Receiver<Work>, token: &CancelToken) -> Option<u64> {
    // While this is borrowed, no work can begin or end.
    let work = work.borrow();
    work.farewell.as_ref()?;
    token.cancel();
    Some(work.number)
}

async fn ended(work: &mut watch::Receiver<Work>, number: u64) {
    _ = work.wait_for(|work| work.number != number || work.farewell.is_none()).await;
}

#[cfg(unix)]
type Signals = tokio::signal::unix::Signal;
#[cfg(windows)]
type Signals = tokio::signal::windows::CtrlC;

#[cfg(unix)]
fn signals() -> io::Result<Signals> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
}

#[cfg(windows)]
fn signals() -> io::Result<Signals> {
    tokio::signal::windows::ctrl_c()
}

/// Wakes a thread that waits to write to the terminal. At Ctrl-C a terminal discards its output queue, but Linux does
/// not wake such a thread; stopping and restarting the output does.
#[cfg(unix)]
fn wake_terminals() {
    use std::os::fd::AsFd;

    use rustix::process::getpgrp;
    use rustix::termios::{Action, tcflow, tcgetpgrp};

    let (stdout, stderr) = (io::stdout(), io::stderr());
    for terminal in [stdout.as_fd(), stderr.as_fd()] {
        // In the background, this call would stop the program.
        if tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()) {
            _ = tcflow(terminal, Action::OOff).and_then(|()| tcflow(terminal, Action::OOn));
        }
    }
}

#[cfg(not(unix))]
fn wake_terminals() {}

/// Ends the program, whatever its other threads are doing.
fn leave(farewell: &str) -> ! {
    let (said, wait) = mpsc::channel();
    let text = format!("{farewell}\n");
    let say = move || {
        // The other threads may be blocked on this.
        _ = io::stderr().write_all(text.as_bytes());
        _ = said.send(());
    };
    if thread::Builder::new().spawn(say).is_ok() {
        _ = wait.recv_timeout(LAST);
    }
    std::process::exit(Outcome::Cancelled.exit_code().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn work_that_ends_by_itself_is_not_disturbed() {
        let interrupt = Interrupt::new(Mode::OneShot);
        let running = interrupt.begin(String::new());
        assert_eq!(interrupt.stoppable(async { 7 }).await, Some(7));
        assert!(!interrupt.token().is_cancelled() && !interrupt.listening.get());
        assert!(!running.end());
        assert_eq!(now(&interrupt.work.subscribe(), &interrupt.token()), None);
        assert!(!interrupt.token().is_cancelled());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn work_that_is_always_ready_is_dropped() {
        let interrupt = Interrupt::new(Mode::Prompt);
        interrupt.listening.set(true);
        let _running = interrupt.begin(String::new());
        let abandon = interrupt.tokens.abandon.clone();
        thread::spawn(move || abandon.cancel());
        let busy = async {
            loop {
                tokio::task::coop::consume_budget().await;
            }
        };
        assert_eq!(interrupt.stoppable(busy).await, None::<()>);
    }
}
