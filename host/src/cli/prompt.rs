//! The prompt: line editing, history, completion. All of it runs on the thread that reads lines.

use std::env;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use rustyline::completion::Pair;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Context, Editor, Helper, Highlighter, Hinter, Validator};

use super::complete::{Candidate, RemoteNames, complete};
use super::failure::Failure;
use super::reader::{Reader, Request, Turn};

/// The line editor.
type Prompt = Editor<Completion, DefaultHistory>;

/// Number of lines in the history.
const HISTORY: usize = 1000;

/// Reads lines from the terminal and hands them over, until the session wants no more or Ctrl-D.
pub(crate) fn read_lines(reader: &Reader) {
    if let Err(error) = try_read_lines(reader) {
        let failure = Failure::new("terminal", "local", crate::client::sanitize(&error.to_string()));
        _ = reader.requests.send(Request::Failed(failure));
    }
}

fn try_read_lines(reader: &Reader) -> rustyline::Result<()> {
    let config = Config::builder()
        .max_history_size(HISTORY)?
        .history_ignore_dups(true)?
        .history_ignore_space(true)
        .completion_type(CompletionType::List)
        .build();
    let mut editor = Prompt::with_history(config.clone(), DefaultHistory::with_config(&config))?;
    let helper = || Some(Completion { names: RemoteNames::new(reader.requests.clone()) });
    editor.set_helper(helper());
    let history = history_file();
    if let Some(path) = &history {
        // There is none the first time.
        _ = editor.load_history(path);
    }
    while let Ok(Turn { prompt, forget }) = reader.go.recv() {
        if forget {
            // A new editor, because the old one keeps what was typed ahead.
            let history = core::mem::replace(editor.history_mut(), DefaultHistory::new());
            editor = Prompt::with_history(config.clone(), history)?;
            editor.set_helper(helper());
        }
        if let Some(helper) = editor.helper_mut() {
            // The last command may have changed what is there.
            helper.names.forget();
        }
        let line = loop {
            match editor.readline(&prompt) {
                Ok(line) => break Some(line),
                // Ctrl-C: another line.
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => return Ok(()),
                Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => break None,
                Err(error) => return Err(error),
            }
        };
        let Some(line) = line else {
            // Otherwise the input that was typed or pasted after it would be run as a command.
            forget_input();
            if reader.requests.send(Request::Bad(Failure::usage("the line is not UTF-8"))).is_err() {
                break;
            }
            continue;
        };
        if !line.trim().is_empty()
            && editor.add_history_entry(&line)?
            && let Some(path) = &history
        {
            // A history that can't be kept is no reason to stop.
            _ = editor.append_history(path);
        }
        if reader.requests.send(Request::Line(line)).is_err() {
            break;
        }
    }
    Ok(())
}

/// The history file: `skiff/history` in the state directory, or the file named by `SKIFF_HISTORY`. `None` if that
/// variable is empty, there is no such directory, or something other than a file is there.
fn history_file() -> Option<PathBuf> {
    let path = match env::var_os("SKIFF_HISTORY") {
        Some(path) if path.is_empty() => return None,
        Some(path) => PathBuf::from(path),
        None => {
            let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
            state.or_else(|| env::home_dir().map(|home| home.join(".local/state")))?.join("skiff/history")
        }
    };
    fs::create_dir_all(path.parent()?).ok()?;
    // Opening anything else might block forever or have side effects.
    fs::metadata(&path).map_or(true, |meta| meta.is_file()).then_some(path)
}

/// Discards pending input of the terminal.
fn forget_input() {
    #[cfg(unix)]
    {
        use rustix::termios::{QueueSelector, tcflush};

        _ = tcflush(io::stdin(), QueueSelector::IFlush);
    }
}

/// Completion, as rustyline asks for it.
#[derive(Helper, Highlighter, Hinter, Validator)]
struct Completion {
    names: RemoteNames,
}

impl rustyline::completion::Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, candidates) = complete(&line[..pos], &self.names);
        let pair = |one: &Candidate| Pair { display: one.shown().to_owned(), replacement: one.inserted() };
        Ok((start, candidates.iter().map(pair).collect()))
    }
}
