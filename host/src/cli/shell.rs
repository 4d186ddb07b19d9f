//! Answers the completion scripts of shells.
//!
//! A script runs `host-cli __complete LINE`, where LINE is the command line up to the cursor. This prints one word per
//! line ([`answer`]), or exits with [`FILES`] if the shell should offer local files.

use core::cell::RefCell;
use core::time::Duration;
use std::process::ExitCode;

use tokio::runtime::Runtime;

use super::args::Program;
use super::board::Board;
use super::complete::{NameSource, complete_shell};
use super::lines::names;
use super::mode::Mode;
use super::output::Output;
use super::session::Session;
use crate::client::is_dangerous;

/// Timeout for the server.
const PATIENCE: Duration = Duration::from_secs(2);
/// The exit code that makes the shell offer local files.
const FILES: u8 = 3;
/// The argument with which a script runs host-cli.
pub(crate) const COMPLETE: &str = "__complete";

/// Answers a completion script: prints the words that could stand at the end of `line`.
pub(crate) fn answer(line: &str, mut output: Output) -> ExitCode {
    let Some(candidates) = complete_shell(line, OneServer::new) else { return ExitCode::from(FILES) };
    for candidate in candidates.iter().filter(|candidate| !candidate.word.chars().any(is_dangerous)) {
        output.line(&candidate.word);
    }
    output.flush();
    ExitCode::SUCCESS
}

/// The server that the command line names.
struct OneServer(Option<(Runtime, RefCell<Session>)>);

impl OneServer {
    fn new(program: Program) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok();
        Self(runtime.map(|runtime| {
            // Nothing but the words may be printed.
            let silent = Output::new(Box::new(std::io::sink()), Box::new(std::io::sink()), false);
            let board = program.servers.first().and_then(|named| Board::find(named).ok());
            let session = Session::new(board, Mode::OneShot, program.settings, silent);
            (runtime, RefCell::new(session))
        }))
    }
}

impl NameSource for OneServer {
    fn names(&self, dir: &str) -> Vec<String> {
        let Some((runtime, session)) = &self.0 else { return Vec::new() };
        let mut session = session.borrow_mut();
        let listed = runtime.block_on(async {
            tokio::time::timeout(PATIENCE, async {
                session.connect().await.ok()?;
                if !dir.is_empty() {
                    // A classic server has no directories; the hello tells whether this is one.
                    session.client()?.hello().await.ok()?;
                }
                Some(names(&mut session, dir).await)
            })
            .await
        });
        listed.ok().flatten().unwrap_or_default()
    }
}

impl Drop for OneServer {
    fn drop(&mut self) {
        if let Some((runtime, session)) = self.0.take() {
            drop(session);
            // A name that is still being looked up must not keep the shell waiting.
            runtime.shutdown_background();
        }
    }
}
