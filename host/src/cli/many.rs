//! Runs one command on many boards in parallel.

use core::time::Duration;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write};
use std::rc::Rc;
use std::time::Instant;

use indicatif::MultiProgress;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use super::board::Board;
use super::format::seconds;
use super::json::Object;
use super::mode::Mode;
use super::output::{Outcome, Output};
use super::progress::{Canvas, shared_bars};
use super::session::Session;
use super::settings::Settings;
use crate::diagnostics::Lines;

/// Maximum number of boards at a time.
const AT_ONCE: usize = 64;

/// How a command ended on one board.
struct Done {
    board: usize,
    outcome: Outcome,
    time: Duration,
    /// The first error.
    error: Option<String>,
}

/// Runs `words` on all `boards`. The output of each is marked with its name; a summary of all comes last.
pub(crate) async fn run(boards: Vec<Board>, words: &[OsString], settings: &Settings, output: &mut Output) -> Outcome {
    let bars = io::stderr().is_terminal().then(shared_bars);
    let names: Vec<_> = boards.iter().map(|board| board.name.clone()).collect();
    let free = Rc::new(Semaphore::new(AT_ONCE));
    let local = LocalSet::new();
    let mut running = JoinSet::new();
    for (number, board) in boards.into_iter().enumerate() {
        let (free, words, settings, bars) = (Rc::clone(&free), words.to_vec(), settings.clone(), bars.clone());
        let task = async move {
            // It is never closed.
            let _place = free.acquire().await;
            let begun = Instant::now();
            let terminal = io::stdout().is_terminal();
            let marked = |inner| Box::new(Marked::new(&board.name, settings.json, bars.clone(), inner));
            let out = marked(Box::new(io::stdout()));
            let err = marked(Box::new(Lines::stderr().writer(super::PATIENCE)));
            let mut own = Output::new(out, err, terminal);
            if let Some(all) = &bars {
                own.set_canvas(Canvas::Shared { all: all.clone(), board: board.name.clone() });
            }
            let mut session = Session::new(Some(board), Mode::Many, settings, own);
            session.run_words(words).await;
            let error = session.output.take_first_error();
            let outcome = session.take_outcome();
            session.close().await;
            Done { board: number, outcome, time: begun.elapsed(), error }
        };
        running.spawn_local_on(task, &local);
    }
    let mut all = local.run_until(async { running.join_all().await }).await;
    all.sort_by_key(|done| done.board);
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for Done { board, outcome, time, error } in &all {
        let (name, result) = (&names[*board], outcome.word());
        let object = Object::Board { name, result, seconds: time.as_secs_f64(), error: error.as_deref() };
        let line = || {
            let why = error.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("{name:width$}  {result}, {}{why}", seconds(*time))
        };
        output.confirm(&object, line);
    }
    output.flush();
    all.iter().map(|done| done.outcome).max().unwrap_or(Outcome::Done)
}

/// Marks each line with the name of a board: `lab3: put a: ...`, or a key `board` at the end of an object.
struct Marked {
    plain: String,
    key: Option<String>,
    /// Suspended while lines are written.
    bars: Option<MultiProgress>,
    inner: Box<dyn Write + Send>,
    /// The beginning of an unfinished line.
    line: Vec<u8>,
}

impl Marked {
    fn new(name: &str, json: bool, bars: Option<MultiProgress>, inner: Box<dyn Write + Send>) -> Self {
        let key = json.then(|| serde_json::Value::from(name).to_string());
        Self { plain: format!("{}: ", crate::client::sanitize(name)), key, bars, inner, line: Vec::new() }
    }
}

impl Write for Marked {
    /// Writes only whole lines, each in one piece, so that those of several boards don't mix.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        let Some(end) = self.line.iter().rposition(|&byte| byte == b'\n') else { return Ok(bytes.len()) };
        let rest = self.line.split_off(end + 1);
        let lines = core::mem::replace(&mut self.line, rest);
        let mut marked = Vec::with_capacity(lines.len() * 2);
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            match (&self.key, line.strip_suffix(b"}\n")) {
                (Some(key), Some(object)) => {
                    marked.extend_from_slice(object);
                    marked.extend_from_slice(format!(",\"board\":{key}}}\n").as_bytes());
                }
                _ => {
                    marked.extend_from_slice(self.plain.as_bytes());
                    marked.extend_from_slice(line);
                }
            }
        }
        let inner = &mut self.inner;
        let mut write = || inner.write_all(&marked).and_then(|()| inner.flush());
        match &self.bars {
            Some(bars) => bars.suspend(write)?,
            None => write()?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::testing::Sink;

    #[test]
    fn every_line_says_which_board_it_is_from() {
        let sink = Sink::default();
        let mut marked = Marked::new("lab \"3\"", false, None, Box::new(sink.clone()));
        for piece in ["a", "b\nc\n", "d", "\n"] {
            marked.write_all(piece.as_bytes()).unwrap();
        }
        assert_eq!(sink.take(), "lab \"3\": ab\nlab \"3\": c\nlab \"3\": d\n");
        let mut marked = Marked::new("lab \"3\"", true, None, Box::new(sink.clone()));
        marked.write_all(b"{\"type\":\"x\"}\n{}").unwrap();
        assert_eq!(sink.take(), "{\"type\":\"x\",\"board\":\"lab \\\"3\\\"\"}\n");
    }
}
