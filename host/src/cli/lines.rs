//! Commands read line by line, from a script or a prompt.
//!
//! A separate thread reads the lines, so that meanwhile the connection can be kept alive and completion can ask the
//! server. It reads the next line only after the last command is done.

use core::time::Duration;
use std::ffi::OsString;
use std::io::{self, BufRead};
use std::sync::mpsc;
use std::thread;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::failure::{Failure, io_text};
use super::mode::{Mode, Next};
use super::output::Outcome;
use super::prompt;
use super::reader::{Reader, Request, Turn};
use super::remote::directory_name;
use super::session::Session;
use crate::client::{Peer, is_dangerous};

/// Maximum number of names of a directory that completion offers.
const NAMES: usize = 10_000;
/// Timeout for completion and for a keep-alive.
const BRIEF: Duration = Duration::from_secs(2);

/// Runs commands until there are no more; a script stops at the first failure.
pub(crate) async fn run(session: &mut Session, mode: Mode) -> Outcome {
    if mode == Mode::Prompt
        && let Err(failure) = session.greet().await
    {
        session.output.failure(None, &failure);
        return session.take_outcome();
    }
    let (requests, mut incoming) = unbounded_channel();
    let (go, wait) = mpsc::channel();
    let reader = Reader { requests, go: wait };
    let read = move || {
        if mode == Mode::Prompt { prompt::read_lines(&reader) } else { read_lines(&reader, io::stdin().lock()) }
    };
    let thread = match thread::Builder::new().name("lines".to_owned()).spawn(read) {
        Ok(thread) => thread,
        Err(error) => {
            session.output.failure(None, &Failure::new("thread", "local", io_text(&error)));
            return session.take_outcome();
        }
    };
    let outcome = carry_out(session, mode, &go, &mut incoming).await;
    // The thread ends when it asks whether to go on; in the middle of a read from a pipe it is left behind.
    drop(go);
    if mode == Mode::Prompt {
        _ = thread.join();
    }
    outcome
}

async fn carry_out(
    session: &mut Session,
    mode: Mode,
    go: &mpsc::Sender<Turn>,
    incoming: &mut UnboundedReceiver<Request>,
) -> Outcome {
    let mut number = 0;
    let mut outcome = Outcome::Done;
    let mut forget = false;
    while go.send(Turn { prompt: session.cwd().prompt(), forget }).is_ok() {
        let Some(request) = next_line(session, incoming).await else { break };
        number += 1;
        if mode == Mode::Script {
            session.output.set_line(Some(number));
        }
        let unread = request.is_err();
        let next = match request {
            Ok(line) => match line.trim_start().strip_prefix('!') {
                Some(command) if mode == Mode::Prompt => run_shell(session, command),
                Some(_) => {
                    let failure = Failure::usage("!COMMAND works only at the prompt, not in a script");
                    session.output.failure(None, &failure);
                    Next::Command
                }
                None => run_line(session, &line).await,
            },
            Err(Unread { failure, next }) => {
                session.output.failure(None, &failure);
                next
            }
        };
        let ended = session.take_outcome();
        forget = session.output.take_asked() || ended == Outcome::Cancelled;
        if mode == Mode::Script {
            outcome = outcome.max(ended);
            if ended != Outcome::Done || session.output.is_broken() {
                break;
            }
        }
        if next == Next::Quit {
            // The exit code of a prompt does not depend on its commands, but it does on how the prompt itself ends.
            return if unread { outcome.max(ended) } else { outcome };
        }
    }
    outcome
}

async fn run_line(session: &mut Session, line: &str) -> Next {
    match split(line) {
        Ok(words) if words.is_empty() => Next::Command,
        Ok(words) => session.run_words(words).await,
        Err(message) => {
            session.output.failure(None, &Failure::usage(message));
            Next::Command
        }
    }
}

/// Runs a command of the local shell, `$SHELL` or `sh`.
fn run_shell(session: &mut Session, command: &str) -> Next {
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "sh".into());
    let ended = std::process::Command::new(&shell).arg("-c").arg(command).status();
    match ended {
        Ok(status) if status.success() => {}
        Ok(status) => session.output.note(&format!("!: {status}")),
        Err(error) => session.output.failure(Some("!"), &Failure::local(shell.as_ref(), &error)),
    }
    Next::Command
}

/// The words of a line, quoted as for a shell; a `#` where a word would begin begins a comment.
fn split(line: &str) -> Result<Vec<OsString>, String> {
    let words = shell_words::split(line.trim_end_matches('\r')).map_err(|_| "unmatched quote".to_owned())?;
    if let Some(operator) = shell_operator(line) {
        return Err(format!(
            "{operator} is not supported here: quote it if it is part of a name, or use a shell: host-cli HOST COMMAND"
        ));
    }
    Ok(words.into_iter().map(OsString::from).collect())
}

/// Finds an unquoted operator that a shell would take for a pipe, a redirection or the end of a command.
fn shell_operator(line: &str) -> Option<&'static str> {
    const OPERATORS: [&str; 5] = ["|", ">", "<", ";", "&&"];
    let mut quote = None;
    let mut between = true;
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (None, '#') if between => return None,
            (None, '&') if between && line[at + 1..].trim_end().is_empty() => return Some("&"),
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None | Some('"'), '\\') => _ = chars.next(),
            (None, _) => {
                let found = OPERATORS.into_iter().find(|operator| line[at..].starts_with(operator));
                if found.is_some() {
                    return found;
                }
            }
            (Some(_), _) => {}
        }
        between = quote.is_none() && c.is_ascii_whitespace();
    }
    None
}

/// A line that could not be read, and whether there are others.
struct Unread {
    failure: Failure,
    next: Next,
}

/// Waits for a line; meanwhile names are looked up and the connection is kept alive. `None` at the end.
async fn next_line(session: &mut Session, incoming: &mut UnboundedReceiver<Request>) -> Option<Result<String, Unread>> {
    let mut interval = tokio::time::timeout(BRIEF, session.keep_alive_interval()).await.ok().flatten();
    loop {
        let quiet = async {
            match interval {
                Some(interval) => tokio::time::sleep(interval).await,
                None => core::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            request = incoming.recv() => match request? {
                Request::Line(line) => return Some(Ok(line)),
                Request::Bad(failure) => return Some(Err(Unread { failure, next: Next::Command })),
                Request::Failed(failure) => return Some(Err(Unread { failure, next: Next::Quit })),
                Request::Names { dir, reply } => {
                    // Who asked may have lost patience.
                    _ = reply.send(names(session, &dir).await);
                }
            },
            () = quiet => if !keep_alive(session).await {
                // Whatever is wrong, the next command will say so.
                interval = None;
            },
        }
    }
}

async fn keep_alive(session: &mut Session) -> bool {
    let Some(client) = session.client() else { return false };
    matches!(tokio::time::timeout(BRIEF, client.ping()).await, Ok(Ok(_)))
}

/// The entries of a typed directory, for completion; none if the server does not answer. Entries that a terminal would
/// not show unchanged are left out.
pub(crate) async fn names(session: &mut Session, typed: &str) -> Vec<String> {
    let dir = session.cwd().resolve(if typed.is_empty() { "." } else { typed });
    let dir = directory_name(&dir);
    let Some(client) = session.client().filter(|client| dir.is_none() || client.peer() == Peer::Extended) else {
        return Vec::new();
    };
    let mut names = Vec::new();
    let mut show = |entry: crate::client::RemoteEntry| {
        if names.len() < NAMES && !entry.name.chars().any(is_dangerous) {
            let own = entry.name.rsplit('/').next().unwrap_or_default();
            names.push(if entry.is_dir { format!("{own}/") } else { own.to_owned() });
        }
    };
    match tokio::time::timeout(BRIEF, client.list_with(dir, &mut show)).await {
        Ok(Ok(_)) => names,
        _ => Vec::new(),
    }
}

/// Reads the lines of a script.
fn read_lines(reader: &Reader, mut input: impl BufRead) {
    let mut line = Vec::new();
    let mut first = true;
    while reader.go.recv().is_ok() {
        line.clear();
        let request = match input.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {
                let text = line.strip_suffix(b"\n").unwrap_or(&line);
                // Some editors write a byte order mark at the start of a text file.
                let text = text.strip_prefix("\u{feff}".as_bytes()).filter(|_| first).unwrap_or(text);
                first = false;
                match core::str::from_utf8(text) {
                    Ok(text) => Request::Line(text.to_owned()),
                    Err(_) => Request::Bad(Failure::usage("the line is not UTF-8")),
                }
            }
            Err(error) => Request::Failed(Failure::new("standard input", "local", io_text(&error))),
        };
        if reader.requests.send(request).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::board::Board;
    use crate::cli::output::testing::output;
    use crate::cli::settings::Settings;

    #[test]
    fn lines_are_quoted_as_for_a_shell() {
        for (line, words) in [
            ("get a b", &["get", "a", "b"][..]),
            ("get 'a b' \"c d\" e\\ f", &["get", "a b", "c d", "e f"]),
            ("  # a comment", &[]),
            ("", &[]),
            ("   ", &[]),
            ("ls # and a comment", &["ls"]),
            ("get '#x' a#b", &["get", "#x", "a#b"]),
            ("rm ''", &["rm", ""]),
            ("quit\r", &["quit"]),
        ] {
            assert_eq!(split(line).unwrap(), words.iter().map(OsString::from).collect::<Vec<_>>(), "{line}");
        }
        assert!(split("get 'x").is_err());
    }

    #[test]
    fn what_only_a_shell_understands_is_refused_unless_it_is_quoted() {
        for (line, operator) in [
            ("get x -o - | wc", Some("|")),
            ("get a|wc", Some("|")),
            ("get a && rm a", Some("&&")),
            ("get a &", Some("&")),
            ("cat x > y", Some(">")),
            ("put x 2>/dev/null", Some(">")),
            ("put - < x", Some("<")),
            ("rm a; rm b", Some(";")),
            ("get 'a' ;", Some(";")),
            ("get 'a|b' \"c>d\" e\\;f g\\&\\&h", None),
            ("get a&b", None),
            ("ls # a | comment; and more", None),
            ("get a#|", Some("|")),
            ("get '#' | x", Some("|")),
            ("get \"a\\\"|\" x", None),
        ] {
            assert_eq!(shell_operator(line), operator, "{line}");
            assert_eq!(split(line).is_err(), operator.is_some(), "{line}");
        }
    }

    async fn script(text: &'static [u8]) -> (Outcome, String, String) {
        let (to, out, err) = output(false);
        let mut session = Session::new(Some(Board::new("h.invalid", 1)), Mode::Script, Settings::default(), to);
        let (requests, mut incoming) = unbounded_channel();
        let (go, wait) = mpsc::channel();
        let thread = thread::spawn(move || read_lines(&Reader { requests, go: wait }, text));
        let outcome = carry_out(&mut session, Mode::Script, &go, &mut incoming).await;
        drop(go);
        thread.join().unwrap();
        session.output.flush();
        (outcome, out.take(), err.take())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_script_stops_at_the_first_failure() {
        let (outcome, out, err) = script(b"# comment\n\nlpwd\nlls /nowhere/x\nlpwd\n").await;
        assert_eq!(outcome, Outcome::Failed);
        assert_eq!(out.lines().count(), 1);
        assert_eq!(err, "host-cli: line 4: lls /nowhere/x: No such file or directory\n");
        let (outcome, _, err) = script(b"lpwd\nfrob\n").await;
        assert_eq!(outcome, Outcome::Usage);
        assert!(err.starts_with("host-cli: line 2: "), "{err}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_script_ends_with_its_input_or_with_quit() {
        let (outcome, out, err) = script(b"lpwd\nquit\nlpwd").await;
        assert_eq!((outcome, out.lines().count(), err.as_str()), (Outcome::Done, 1, ""));
        let (outcome, out, _) = script(b"lpwd\nlpwd").await;
        assert_eq!((outcome, out.lines().count()), (Outcome::Done, 2));
        assert_eq!(script(b"").await.0, Outcome::Done);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_script_may_begin_with_a_byte_order_mark() {
        let (outcome, out, err) = script("\u{feff}lpwd\nlpwd\n".as_bytes()).await;
        assert_eq!((outcome, out.lines().count(), err.as_str()), (Outcome::Done, 2, ""));
        assert_eq!(script("lpwd\n\u{feff}lpwd\n".as_bytes()).await.0, Outcome::Usage);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn lines_that_make_no_sense_are_usage_failures() {
        for text in [&b"get 'x\n"[..], b"\xff\n", b"put - -o x\n", b"ls --retries 3\n"] {
            let (outcome, _, err) = script(text).await;
            assert!(outcome != Outcome::Done && err.lines().count() == 1, "{err}");
        }
    }
}
