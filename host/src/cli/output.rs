//! Output of results and errors: plain lines or JSON, safe for a terminal.

use core::ops::Range;
use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Write};

use clap::builder::styling::Style;

use super::color::{self, Colors, Highlight};
use super::failure::{Failure, FailureKind, shown};
use super::json::{Kind, Object};
use super::progress::Canvas;
use super::settings::Settings;
use crate::client::{CancelToken, sanitize};
use crate::diagnostics::Lines;

/// The prefix of lines on standard error.
const PREFIX: &str = "host-cli:";

/// Standard output and standard error, as the commands see them.
pub(crate) struct Output {
    out: BufWriter<Box<dyn Write + Send>>,
    err: Box<dyn Write + Send>,
    /// Results go to a terminal: they are sanitized and flushed line by line.
    terminal: bool,
    /// Results and errors are JSON.
    json: bool,
    /// True if transfers and notes are not reported.
    quiet: bool,
    colors: Colors,
    canvas: Canvas,
    /// The reader of the results has exited.
    broken: bool,
    /// Set by Ctrl-C: output that is only shown stops.
    cancel: CancelToken,
    /// Some output was suppressed for that reason.
    cut: bool,
    /// True if a question was asked.
    asked: bool,
    /// The current line of a script.
    line: Option<u64>,
    /// The worst outcome so far.
    outcome: Outcome,
    /// The outcome that a failure of the current command has.
    failed: Outcome,
    /// The first failure that was reported.
    first_error: Option<String>,
}

/// How a command ended, in order of severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Done.
    Done,
    /// Refused or failed, at least in part.
    Failed,
    /// A failure of a command for which [`Outcome::Failed`] is a normal result: of `diff`, for which it means that the
    /// files differ.
    Trouble,
    /// Usage error.
    Usage,
    /// Stopped by Ctrl-C.
    Cancelled,
}

impl Outcome {
    /// For tables.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed | Self::Trouble => "failed",
            Self::Usage => "usage error",
            Self::Cancelled => "cancelled",
        }
    }

    /// The exit code of a program that ends so.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Trouble | Self::Usage => 2,
            Self::Cancelled => 130,
        }
    }
}

impl Output {
    /// The process's own standard output and error.
    pub(crate) fn standard() -> Self {
        let terminal = io::stdout().is_terminal();
        Self::new(Box::new(io::stdout()), Box::new(Lines::stderr().writer(super::PATIENCE)), terminal)
    }

    /// Output to any two writers.
    pub(crate) fn new(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>, terminal: bool) -> Self {
        Self {
            out: BufWriter::with_capacity(16 * 1024, out),
            err,
            terminal,
            json: false,
            quiet: false,
            colors: Colors::default(),
            canvas: Canvas::default(),
            broken: false,
            cancel: CancelToken::new(),
            cut: false,
            asked: false,
            line: None,
            outcome: Outcome::Done,
            failed: Outcome::Failed,
            first_error: None,
        }
    }

    /// Sets the form of what follows.
    pub(crate) fn set_form(&mut self, settings: &Settings) {
        self.json = settings.json;
        self.quiet = settings.quiet;
        self.colors = if self.json { Colors::default() } else { Colors::of_process(settings.color) };
    }

    /// Sets the outcome of later failures.
    pub(crate) fn set_failed_outcome(&mut self, failed: Outcome) {
        self.failed = failed;
    }

    /// Sets where progress bars are drawn.
    pub(crate) fn set_canvas(&mut self, canvas: Canvas) {
        self.canvas = canvas;
    }

    /// Where progress bars are drawn.
    pub(crate) fn canvas(&self) -> Canvas {
        self.canvas.clone()
    }

    /// The token that Ctrl-C sets.
    pub(crate) fn set_cancel(&mut self, cancel: CancelToken) {
        self.cancel = cancel;
    }

    /// True if a question was asked since the last call.
    pub(crate) fn take_asked(&mut self) -> bool {
        core::mem::take(&mut self.asked)
    }

    /// True if Ctrl-C has suppressed some output.
    pub(crate) fn take_cut(&mut self) -> bool {
        core::mem::take(&mut self.cut)
    }

    /// True if a stopped command has been reported.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.outcome == Outcome::Cancelled
    }

    /// Errors name this line of the script.
    pub(crate) fn set_line(&mut self, line: Option<u64>) {
        self.line = line;
    }

    /// True if results are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// True if transfers and notes are not reported.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// True if results go to a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// True if the reader of the results is gone, or Ctrl-C was pressed: a command that only prints may stop.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken || self.cut
    }

    /// The reader of the results has exited.
    pub(crate) fn set_broken(&mut self) {
        self.broken = true;
    }

    /// Prints one line of results, sanitized if it goes to a terminal and unchanged otherwise, so that programs get
    /// names as the server has them. Prints nothing after Ctrl-C.
    pub(crate) fn line(&mut self, text: &str) {
        if !self.is_stopped() {
            self.print(text, None);
        }
    }

    /// True after Ctrl-C.
    fn is_stopped(&mut self) -> bool {
        self.cut |= self.cancel.is_cancelled();
        self.cancel.is_cancelled()
    }

    fn print(&mut self, text: &str, highlight: Option<Highlight>) {
        if self.broken {
            return;
        }
        let safe = |text| if self.terminal { sanitize(text) } else { Cow::from(text) };
        let done = match highlight.filter(|_| self.colors.out) {
            Some((Range { start, end }, style)) => {
                let [before, marked, after] = [&text[..start], &text[start..end], &text[end..]].map(safe);
                writeln!(self.out, "{before}{style}{marked}{style:#}{after}")
            }
            None => writeln!(self.out, "{}", safe(text)),
        };
        self.check(done);
        if self.terminal {
            self.flush();
        }
    }

    /// Prints text of our own, of several lines.
    pub(crate) fn text(&mut self, text: &str) {
        if !self.broken {
            let done = writeln!(self.out, "{}", text.trim_end());
            self.check(done);
            self.flush();
        }
    }

    /// Prints one object.
    pub(crate) fn object(&mut self, object: &Object<'_>) {
        self.line(&object.to_line());
    }

    /// Prints an object or a plain line, depending on `--json`.
    pub(crate) fn result(&mut self, object: &Object<'_>, plain: impl FnOnce() -> String) {
        if !self.is_stopped() {
            self.report(object, plain);
        }
    }

    /// Reports that something is done, unless `--quiet` is set; also after Ctrl-C.
    pub(crate) fn confirm(&mut self, object: &Object<'_>, plain: impl FnOnce() -> String) {
        if !self.quiet {
            self.report(object, plain);
        }
    }

    fn report(&mut self, object: &Object<'_>, plain: impl FnOnce() -> String) {
        if self.json {
            self.print(&object.to_line(), None);
        } else {
            let line = one_line(plain());
            self.print(&line, color::verb(object, &line));
        }
    }

    /// Prints an entry of a listing, with the columns before its name.
    pub(crate) fn entry(&mut self, columns: &str, name: &str, kind: Kind) {
        if !self.is_stopped() {
            let line = format!("{columns}{name}");
            let is_directory = matches!(kind, Kind::Directory);
            self.print(&line, is_directory.then_some((columns.len()..line.len(), color::DIRECTORY)));
        }
    }

    /// Prints a note on standard error, unless `--quiet` is set.
    pub(crate) fn note(&mut self, text: &str) {
        if !self.quiet {
            let plain = format!("{PREFIX} {}", sanitize(text));
            self.complain(None, &if self.json { Object::Note { message: text }.to_line() } else { plain });
        }
    }

    /// Reports on standard error that something was skipped on purpose. That is not a failure, but it is always
    /// reported: the user must not believe that it was transferred.
    pub(crate) fn left_out(&mut self, verb: &str, name: &str, why: &str) {
        let line = if self.json {
            Object::LeftOut { command: verb, name, message: why }.to_line()
        } else {
            format!("{PREFIX} {verb} {}: skipped: {}", sanitize(name), sanitize(why))
        };
        self.complain(Some(color::WARNING), &line);
    }

    /// Prints a question, safe for a terminal, on standard error; the answer is typed on the same line.
    pub(crate) fn question(&mut self, text: &str) {
        self.flush();
        self.asked = true;
        _ = self.err.write_all(format!("{text} [y/N] ").as_bytes());
    }

    /// Prints a line on standard error, its prefix in `style`.
    fn complain(&mut self, style: Option<Style>, line: &str) {
        self.flush();
        let line = match (style.filter(|_| self.colors.err), line.strip_prefix(PREFIX)) {
            (Some(style), Some(rest)) => format!("{style}{PREFIX}{style:#}{rest}\n"),
            _ => format!("{line}\n"),
        };
        _ = self.err.write_all(line.as_bytes());
    }

    /// Reports a failure: one line on standard error.
    pub(crate) fn failure(&mut self, verb: Option<&str>, failure: &Failure) {
        self.outcome = self.outcome.max(match failure.kind {
            FailureKind::Name | FailureKind::Whole => self.failed,
            FailureKind::Usage => Outcome::Usage,
            FailureKind::Cancelled => Outcome::Cancelled,
        });
        self.first_error.get_or_insert_with(|| failure.message.clone());
        self.complain(Some(color::ERROR), &self.failure_text(verb, failure));
    }

    /// The line that reports a failure.
    pub(crate) fn failure_text(&self, verb: Option<&str>, failure: &Failure) -> String {
        if self.json {
            let object = Object::Error {
                command: verb,
                name: failure.subject.as_deref(),
                line: self.line,
                code: &failure.code,
                message: &failure.message,
            };
            object.to_line()
        } else {
            plain_failure(self.line, verb, failure)
        }
    }

    /// Sets the outcome to that of a failure, without a message: files differ.
    pub(crate) fn set_failed(&mut self) {
        self.outcome = self.outcome.max(Outcome::Failed);
    }

    /// The message of the first failure.
    pub(crate) fn take_first_error(&mut self) -> Option<String> {
        self.first_error.take()
    }

    /// The outcome since the last call.
    pub(crate) fn take_outcome(&mut self) -> Outcome {
        core::mem::replace(&mut self.outcome, Outcome::Done)
    }

    /// Flushes the buffer.
    pub(crate) fn flush(&mut self) {
        if !self.broken {
            let done = self.out.flush();
            self.check(done);
        }
    }

    /// A reader that has exited is not a failure; a full disk is.
    fn check(&mut self, done: io::Result<()>) {
        let Err(error) = done else { return };
        self.broken = true;
        if error.kind() != io::ErrorKind::BrokenPipe {
            let failure = Failure {
                subject: None,
                code: "local".to_owned(),
                message: format!("standard output: {}", super::failure::io_text(&error)),
                kind: FailureKind::Name,
            };
            self.failure(None, &failure);
        }
    }
}

/// `text`, safe if a local name in it contains control characters. No name of the protocol does.
fn one_line(text: String) -> String {
    if text.contains(char::is_control) { sanitize(&text).into_owned() } else { text }
}

/// `host-cli: get notes.txt: no such file on the server`
fn plain_failure(line: Option<u64>, verb: Option<&str>, failure: &Failure) -> String {
    let mut text = format!("{PREFIX} ");
    if let Some(line) = line {
        text.push_str(&format!("line {line}: "));
    }
    let subject = failure.subject.as_deref().map(shown);
    match (verb, subject) {
        (Some(verb), Some(subject)) => text.push_str(&format!("{verb} {subject}: ")),
        (Some(one), None) => text.push_str(&format!("{one}: ")),
        (None, Some(one)) => text.push_str(&format!("{one}: ")),
        (None, None) => {}
    }
    text.push_str(&failure.message);
    text
}

#[cfg(test)]
pub(crate) mod testing {
    //! Output that can be inspected.

    use std::sync::{Arc, Mutex};

    use super::*;

    /// Bytes written by an [`Output`].
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Sink {
        pub(crate) fn take(&self) -> String {
            String::from_utf8(core::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output, and what goes to its standard output and standard error.
    pub(crate) fn output(terminal: bool) -> (Output, Sink, Sink) {
        let (out, err) = (Sink::default(), Sink::default());
        (Output::new(Box::new(out.clone()), Box::new(err.clone()), terminal), out, err)
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Sink, output};
    use super::*;

    #[test]
    fn failures_are_one_line_of_a_known_form() {
        let (mut output, _, err) = output(false);
        output.failure(Some("get"), &Failure::new("notes.txt", "not-found", "no such file on the server"));
        assert_eq!(err.take(), "host-cli: get notes.txt: no such file on the server\n");
        assert_eq!(output.take_outcome(), Outcome::Failed);
        output.set_line(Some(3));
        output.failure(Some("get"), &Failure::usage("no"));
        assert_eq!(err.take(), "host-cli: line 3: get: no\n");
        assert_eq!(output.take_outcome(), Outcome::Usage);
        assert_eq!(output.take_outcome(), Outcome::Done);
    }

    #[test]
    fn failures_are_objects_with_json() {
        let (mut output, out, err) = output(false);
        output.set_form(&Settings { json: true, ..Settings::default() });
        output.failure(Some("rm"), &Failure::new("a\u{202e}", "denied", "permission denied"));
        assert_eq!(
            err.take(),
            "{\"type\":\"error\",\"command\":\"rm\",\"name\":\"a\\u202e\",\"line\":null,\"code\":\"denied\",\
             \"message\":\"permission denied\"}\n"
        );
        output.note("an \u{1b}");
        assert_eq!(
            (out.take(), err.take()),
            (String::new(), "{\"type\":\"note\",\"message\":\"an \\u001b\"}\n".to_owned())
        );
    }

    #[test]
    fn names_are_safe_on_a_terminal_and_as_they_are_elsewhere() {
        let name = "a\u{202e}b\u{1b}c";
        let (mut to_terminal, out, err) = output(true);
        to_terminal.line(name);
        assert_eq!(out.take(), "a\\u{202e}b\\u{1b}c\n");
        to_terminal.failure(Some("rm"), &Failure::new(name, "x", "y"));
        assert_eq!(err.take(), "host-cli: rm a\\u{202e}b\\u{1b}c: y\n");
        let (mut to_pipe, out, err) = output(false);
        to_pipe.line(name);
        to_pipe.flush();
        assert_eq!(out.take(), format!("{name}\n"));
        to_pipe.failure(Some("rm"), &Failure::new(name, "x", "y"));
        assert!(!err.take().contains('\u{1b}'));
    }

    #[test]
    fn a_reader_that_goes_away_is_no_failure_and_a_full_disk_is() {
        struct Broken(io::ErrorKind);
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for (kind, outcome) in
            [(io::ErrorKind::BrokenPipe, Outcome::Done), (io::ErrorKind::StorageFull, Outcome::Failed)]
        {
            let err = Sink::default();
            let mut output = Output::new(Box::new(Broken(kind)), Box::new(err.clone()), false);
            output.line("x");
            output.flush();
            assert!(output.is_broken());
            output.line("y");
            assert_eq!(output.take_outcome(), outcome);
            assert_eq!(err.take().is_empty(), outcome == Outcome::Done);
        }
    }

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let all = [Outcome::Done, Outcome::Failed, Outcome::Trouble, Outcome::Usage, Outcome::Cancelled];
        assert_eq!(all.map(Outcome::exit_code), [0, 1, 2, 2, 130]);
    }
}
