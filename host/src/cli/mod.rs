//! The commands of `host-cli`: on the command line, at a prompt and in scripts. docs/CLI.md is the reference.
//!
//! | module | what is in it |
//! |---|---|
//! | `command`, `commands`, `context` | what a command is, and the table of all commands |
//! | `parse`, `settings`, `args`, `names`, `help` | the command line, parsed by clap |
//! | `session`, `interrupt` | the connection, running commands in order, Ctrl-C |
//! | `lines`, `prompt`, `reader` | commands from a prompt or a script |
//! | `complete`, `completions`, `man` | completion at the prompt and in shells, the manual page |
//! | `fetch`, `send`, `list`, `files`, `local`, `key` | the commands |
//! | `glob`, `remote`, `tree`, `place` | which files a command concerns, remote and local, and where they go |
//! | `output`, `json`, `format`, `failure` | results and errors, as lines and as JSON |
//! | `report`, `progress`, `stream` | reports on transfers, data on standard output |
//!
//! A one-shot command should cost little more than its connection: history, time zone, Ctrl-C handling and progress bar
//! are set up when they are needed. Until Ctrl-C is handled there is one thread, plus one that writes to standard error
//! once there is something to write.

mod args;
mod command;
mod commands;
mod complete;
mod completions;
mod context;
mod failure;
mod fetch;
mod files;
mod format;
mod glob;
mod help;
mod interrupt;
mod json;
#[cfg(feature = "secure")]
mod key;
mod lines;
mod list;
mod local;
mod man;
mod names;
mod output;
mod parse;
mod place;
mod progress;
mod prompt;
mod reader;
mod remote;
mod report;
mod send;
mod session;
mod settings;
mod stream;
#[cfg(test)]
#[cfg(feature = "server")]
mod tests;
mod tree;

use core::time::Duration;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use args::Program;
use context::Mode;
use failure::{Failure, io_text};
use output::{Outcome, Output};
use parse::usage_line;
use session::Session;

use crate::diagnostics::Lines;

/// How long the program waits for standard error to accept a line.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs `host-cli` with the arguments of this process: 0 done, 1 refused or failed, 2 usage error, 130 stopped by
/// Ctrl-C.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    if let [_, verb, line] = words.as_slice()
        && verb == completions::COMPLETE
    {
        return completions::answer(&line.to_string_lossy(), Output::standard());
    }
    ExitCode::from(run(words, Output::standard()).exit_code())
}

/// Runs `host-cli` with these words; the first is the name of the program.
fn run(words: Vec<OsString>, mut output: Output) -> Outcome {
    // Needed before the words are understood: what is wrong with them is to be told in the right form.
    output.set_form(words.iter().any(|word| word == "--json"), false);
    if let Some(text) = help_without_a_server(&words) {
        output.text(&text);
        return output.take_outcome();
    }
    let program = match Program::parse(&words) {
        Ok(program) => program,
        Err(error) if !error.use_stderr() => {
            output.text(&error.render().to_string());
            return output.take_outcome();
        }
        Err(error) => {
            output.failure(None, &Failure::usage(usage_line(&error)));
            return output.take_outcome();
        }
    };
    let mode = match () {
        () if !program.command.is_empty() => Mode::OneShot,
        () if io::stdin().is_terminal() => Mode::Prompt,
        () => Mode::Script,
    };
    talk(program.settings.verbose + verbosity(&program.command));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.failure(None, &Failure::new("runtime", "local", io_text(&error)));
            return output.take_outcome();
        }
    };
    let outcome = runtime.block_on(async {
        let mut session = Session::new(program.host, program.port, mode, program.settings, output);
        let outcome = match mode {
            Mode::OneShot => {
                session.run_words(program.command).await;
                session.take_outcome()
            }
            Mode::Script | Mode::Prompt => lines::run(&mut session, mode).await,
        };
        session.close().await;
        outcome.max(session.take_outcome())
    });
    // A name that is still being looked up must not keep the program.
    runtime.shutdown_background();
    outcome
}

/// `host-cli help`: the help of the whole program, as there is no server.
fn help_without_a_server(words: &[OsString]) -> Option<String> {
    let is_help = words.len() == 2 && words[1] == "help";
    is_help.then(|| <Program as clap::CommandFactory>::command().render_help().to_string())
}

/// The number of `-v` options of a one-shot command, before it is parsed.
fn verbosity(words: &[OsString]) -> u8 {
    let words = words.iter().take_while(|word| *word != "--");
    let count = words.map(|word| match word.to_str() {
        Some("-v" | "--verbose") => 1,
        Some("-vv") => 2,
        _ => 0,
    });
    count.sum()
}

/// Logs to standard error, for `-v`.
fn talk(verbosity: u8) {
    let level = match verbosity {
        0 => return,
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    let ansi = io::stderr().is_terminal();
    let writer = Lines::stderr().writer(PATIENCE);
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_writer(writer).with_ansi(ansi);
    _ = subscriber.with_target(false).try_init();
}
