//! The commands of `host-cli`: on the command line, at a prompt and in scripts. docs/CLI.md is the reference.
//!
//! | module | what is in it |
//! |---|---|
//! | `command`, `commands`, `context` | what a command is, and the table of all commands |
//! | `parse`, `settings`, `args`, `names`, `help` | the command line, parsed by clap |
//! | `board`, `config`, `discover` | which server is meant; aliases of servers; servers on the network |
//! | `session`, `many`, `interrupt` | the connection, running commands in order or on many servers at once, Ctrl-C |
//! | `lines`, `prompt`, `reader` | commands from a prompt or a script |
//! | `complete`, `completions`, `man` | completion at the prompt and in shells, the manual page |
//! | `fetch`, `send`, `sync`, `watch`, `tail`, `edit`, `list`, `usage`, `bench`, `cwd`, `local`, `key` | the commands |
//! | `files`, `remove`, `moves`, `directories`, `server` | commands on names of the server, and on the server itself |
//! | `glob`, `exclude`, `remote`, `tree`, `place` | which files a command concerns, remote and local, and where they go |
//! | `output`, `json`, `format`, `color`, `failure` | results and errors, as lines and as JSON |
//! | `report`, `refused`, `progress`, `stream`, `ask` | reports on transfers, data on standard output, questions |
//!
//! A one-shot command should cost little more than its connection: history, time zone, Ctrl-C handling and progress bar
//! are set up when they are needed. Until Ctrl-C is handled there is one thread, plus one that writes to standard error
//! once there is something to write.

mod args;
mod ask;
mod bench;
mod board;
mod cd;
mod color;
mod command;
mod commands;
mod complete;
mod completions;
mod config;
mod context;
mod cwd;
mod directories;
mod discover;
mod edit;
mod exclude;
mod failure;
mod fetch;
mod files;
mod flash;
mod format;
mod glob;
mod help;
mod interrupt;
mod json;
#[cfg(feature = "secure")]
mod key;
mod lines;
mod links;
mod list;
mod local;
mod man;
mod many;
mod mode;
mod moves;
mod names;
mod output;
mod parse;
mod place;
mod progress;
mod prompt;
mod reader;
mod refused;
mod remote;
mod remove;
mod report;
mod send;
mod server;
mod session;
mod settings;
mod shell;
mod stream;
mod sync;
mod tail;
#[cfg(test)]
#[cfg(feature = "server")]
mod tests;
mod tree;
mod usage;
mod watch;

use core::time::Duration;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use args::{Leading, Program, default_board};
use board::{Board, read_list};
use color::Colors;
use command::Action;
use commands::COMMANDS;
use cwd::Cwd;
use failure::{Failure, io_text};
use mode::Mode;
use output::{Outcome, Output};
use parse::{Line, about, usage_line};
use session::Session;
use settings::Settings;

use crate::diagnostics::Lines;

/// How long the program waits for standard error to accept a line.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs `host-cli` with the arguments of this process: 0 done, 1 refused or failed, 2 usage error, 130 stopped by
/// Ctrl-C.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    if let [_, verb, line] = words.as_slice()
        && verb == shell::COMPLETE
    {
        return shell::answer(&line.to_string_lossy(), Output::standard());
    }
    ExitCode::from(run(words, Output::standard()).exit_code())
}

/// Runs `host-cli` with these words; the first is the name of the program.
fn run(words: Vec<OsString>, mut output: Output) -> Outcome {
    // Needed before the words are parsed, so that errors in them are reported in the right form.
    output.set_form(&Settings { json: words.iter().any(|word| word == "--json"), ..Settings::default() });
    if let Some(text) = help_without_a_server(&words) {
        output.text(&text);
        return output.take_outcome();
    }
    let program = match Program::parse(&words, default_board()) {
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
    let mut boards = match find_boards(&program) {
        Ok(boards) => boards,
        Err(failure) => {
            output.failure(None, &failure);
            return output.take_outcome();
        }
    };
    if boards.len() > 1 && program.command.is_empty() {
        output.failure(None, &Failure::usage("a command is required with several servers"));
        return output.take_outcome();
    }
    // What needs no server runs once, and so is a wrong command reported once.
    let many = Some(&program.command).filter(|_| boards.len() > 1).and_then(|words| settings_of_remote(words));
    let mode = match () {
        () if many.is_some() => Mode::Many,
        () if !program.command.is_empty() => Mode::OneShot,
        () if io::stdin().is_terminal() => Mode::Prompt,
        () => Mode::Script,
    };
    talk(program.settings.verbose + verbosity(&program.command), Colors::of_process(program.settings.color));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.failure(None, &Failure::new("runtime", "local", io_text(&error)));
            return output.take_outcome();
        }
    };
    let outcome = runtime.block_on(async {
        if let Some(own) = many {
            let settings = program.settings.with(&own);
            output.set_form(&settings);
            return many::run(boards, &program.command, &settings, &mut output).await;
        }
        let mut session = Session::new(boards.pop(), mode, program.settings, output);
        let outcome = match mode {
            Mode::OneShot | Mode::Many => {
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

/// The servers of the command line, each once.
fn find_boards(program: &Program) -> Result<Vec<Board>, Failure> {
    let mut all = program.servers.iter().map(Board::find).collect::<Result<Vec<_>, _>>()?;
    all.extend(program.list.as_deref().map(read_list).transpose()?.into_iter().flatten());
    let mut boards: Vec<Board> = Vec::new();
    for board in all {
        if !boards.contains(&board) {
            boards.push(board);
        }
    }
    Ok(boards)
}

/// `host-cli help` and `host-cli COMMAND --help`: there is no server.
fn help_without_a_server(words: &[OsString]) -> Option<String> {
    match words.iter().map(|word| word.to_str()).collect::<Option<Vec<_>>>()?.as_slice() {
        [_, "help"] => Some(<Leading as clap::CommandFactory>::command().render_help().to_string()),
        [_, verb, "--help"] => about(COMMANDS, [*verb], Mode::OneShot),
        _ => None,
    }
}

/// The settings of the command `words`, if it is one that uses the server.
fn settings_of_remote(words: &[OsString]) -> Option<Settings> {
    let line = Line::parse(COMMANDS, &Cwd::default(), words).ok()?;
    matches!(line.action, Action::Remote(_)).then_some(line.settings)
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
fn talk(verbosity: u8, colors: Colors) {
    let level = match verbosity {
        0 => return,
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    let writer = Lines::stderr().writer(PATIENCE);
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_writer(writer).with_ansi(colors.err);
    _ = subscriber.with_target(false).try_init();
}
