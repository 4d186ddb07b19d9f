//! Reports on transfers: one line per file, errors, the progress bar.

use core::time::Duration;
use std::time::Instant;

use super::context::Context;
use super::failure::{Failure, FailureKind};
use super::format::{bytes, count, seconds};
use super::json::{Object, hex_text};
use super::output::Output;
use super::progress::Progress;
use super::refused::Refused;
use super::stream::DataOut;
use crate::client::{Error, Observer, Received, Sent};

/// A file of a transfer, as its report names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    /// The server's name of it.
    pub(crate) name: String,
    /// The local file asked for; `None` for standard input and output.
    pub(crate) local: Option<String>,
}

/// Failures that many names share: the first one is reported in full, the others are counted.
#[derive(Debug, Default)]
pub(crate) struct Repeated(Vec<(String, usize)>);

impl Repeated {
    /// True if `failure`, about the server's `name`, is to be reported in full.
    pub(crate) fn is_new(&mut self, name: &str, failure: &Failure) -> bool {
        let hidden = name.split('/').any(|part| part.starts_with('.'));
        if failure.code != "read-only" && !(failure.code == "denied" && hidden) {
            return true;
        }
        match self.0.iter_mut().find(|(message, _)| *message == failure.message) {
            Some((_, more)) => *more += 1,
            None => {
                self.0.push((failure.message.clone(), 0));
                return true;
            }
        }
        false
    }

    /// Reports how many there were. With JSON, each failure has its own object.
    pub(crate) fn finish(self, output: &mut Output, verb: &str) {
        if output.is_json() {
            return;
        }
        for (message, more) in self.0.into_iter().filter(|(_, more)| *more > 0) {
            output.failure(Some(verb), &plain("denied", format!("{more} more: {message}"), FailureKind::Name));
        }
    }
}

/// Watches transfers and reports on them.
pub(crate) struct Reporter<'a> {
    output: &'a mut Output,
    verb: &'static str,
    labels: Vec<Label>,
    progress: Progress,
    /// How the user resumes what was interrupted.
    again: &'static str,
    /// The bytes received or sent so far of the file that started last, and its size.
    reached: (u64, u64),
    /// The data goes to standard output: nothing else may.
    silent: Option<DataOut>,
    /// When the command started: some files are done without a transfer.
    made: Instant,
    begun: Vec<Option<Instant>>,
    succeeded: usize,
    bytes: u64,
    cancelled: usize,
    /// The connection has failed, and all remaining files with it: reported once.
    lost: usize,
    repeated: Repeated,
    refused: Refused,
}

/// How the command continues after a transfer.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Rest {
    /// The connection has failed, or the user has stopped the command: nothing more is done.
    pub(crate) over: bool,
    /// Something else than a file has failed.
    pub(crate) failed: bool,
    /// Files that were transferred.
    pub(crate) files: usize,
    /// Their bytes, without those that were there already.
    pub(crate) bytes: u64,
    /// Repeated messages that are not finished yet.
    pub(crate) repeated: Repeated,
    /// Refused names that are not reported yet.
    pub(crate) refused: Refused,
}

impl Rest {
    /// Adds what became of further files.
    pub(crate) fn add(&mut self, next: Self) {
        self.over |= next.over;
        self.failed |= next.failed;
        self.files += next.files;
        self.bytes += next.bytes;
        self.repeated.0.extend(next.repeated.0);
        self.refused.add(next.refused);
    }

    /// Reports what was not reported file by file.
    pub(crate) async fn report(self, context: &mut Context<'_>, verb: &str) {
        self.repeated.finish(context.output, verb);
        self.refused.report(context.client, context.output, verb, !self.over).await;
    }
}

impl<'a> Reporter<'a> {
    /// A reporter of the files `labels`, which have `total` bytes together if that is known.
    pub(crate) fn new(
        output: &'a mut Output,
        verb: &'static str,
        labels: Vec<Label>,
        total: Option<u64>,
        bar: bool,
    ) -> Self {
        let bar = bar && !output.is_quiet();
        let progress = Progress::new(bar, output.canvas(), labels.len(), total);
        let begun = vec![None; labels.len()];
        Self {
            output,
            verb,
            labels,
            progress,
            again: "use -c to resume",
            reached: (0, 0),
            silent: None,
            made: Instant::now(),
            begun,
            succeeded: 0,
            bytes: 0,
            cancelled: 0,
            lost: 0,
            repeated: Repeated::default(),
            refused: Refused::default(),
        }
    }

    /// Tells the user another way to resume than `-c`.
    #[must_use]
    pub(crate) fn resumed_by(mut self, again: &'static str) -> Self {
        self.again = again;
        self
    }

    /// Prints nothing to standard output, where the data goes, and no error if the reader has exited.
    #[must_use]
    pub(crate) fn silent(mut self, data: DataOut) -> Self {
        self.silent = Some(data);
        self
    }

    /// Ends the progress bar, and reports how much of the transfer was not done.
    pub(crate) fn finish(mut self) -> Rest {
        self.progress.clear();
        let total = self.labels.len();
        if self.lost > 1 && !self.output.is_json() {
            let message = format!("{} for the same reason", count(self.lost - 1, "more file"));
            self.output.failure(Some(self.verb), &plain("lost", message, FailureKind::Whole));
        }
        if self.cancelled > 0 && !self.output.is_json() {
            let mut message = "cancelled".to_owned();
            if total > 1 {
                message = format!("{message}, {} of {} done", self.succeeded, count(total, "file"));
            }
            if self.can_continue() {
                let (here, size) = self.reached;
                let kept = if self.verb == "get" && total == 1 && here > 0 {
                    format!("{here} of {} kept, ", bytes(size))
                } else {
                    String::new()
                };
                message = format!("{message}; {kept}{}", self.again);
            }
            let mut failure = plain("cancelled", message, FailureKind::Cancelled);
            if let [label] = self.labels.as_slice() {
                failure.subject = Some(self.subject(label));
            }
            self.output.failure(Some(self.verb), &failure);
        }
        let over = self.lost > 0 || self.cancelled > 0;
        let Self { succeeded: files, bytes, repeated, refused, .. } = self;
        Rest { over, failed: false, files, bytes, repeated, refused }
    }

    /// True if a later run can resume the transfer.
    fn can_continue(&self) -> bool {
        // A stream can't be continued, in neither direction.
        self.labels.iter().any(|label| label.local.is_some())
    }

    /// The file's name in output: as the user gave it.
    fn subject(&self, label: &Label) -> String {
        match &label.local {
            Some(local) if self.verb == "put" => local.clone(),
            None if self.verb == "put" => "-".to_owned(),
            _ => label.name.clone(),
        }
    }

    fn failed(&mut self, job: usize, error: &Error) {
        let Some(label) = self.labels.get(job) else { return };
        if self.silent.as_ref().is_some_and(DataOut::is_broken) {
            return;
        }
        let mut failure = Failure::client(self.verb, Some(&self.subject(label)), error);
        let stays = match error {
            error if error.is_local_space() => self.labels.len() == 1 && self.reached.0 > 0,
            error => error.is_connection() && self.begun.iter().any(Option::is_some),
        };
        if stays && self.can_continue() {
            failure.message = format!("{}; {}", failure.message, self.again);
        }
        if self.refused.take(&label.name, error, &failure) {
            return;
        }
        let told = match failure.kind {
            FailureKind::Cancelled => {
                self.cancelled += 1;
                false
            }
            FailureKind::Whole => {
                self.lost += 1;
                self.lost == 1
            }
            _ => self.repeated.is_new(&label.name, &failure),
        };
        if told || self.output.is_json() {
            let Self { progress, output, verb, .. } = self;
            progress.suspend(|| output.failure(Some(verb), &failure));
        }
    }

    fn succeeded(&mut self, object: &Object<'_>, line: impl FnOnce() -> String) {
        self.succeeded += 1;
        if self.silent.is_none() {
            let Self { progress, output, .. } = self;
            progress.suspend(|| output.confirm(object, line));
        }
    }

    fn time_of(&self, job: usize) -> Duration {
        self.begun.get(job).copied().flatten().unwrap_or(self.made).elapsed()
    }
}

fn plain(code: &str, message: String, kind: FailureKind) -> Failure {
    Failure { subject: None, code: code.to_owned(), message, kind }
}

impl Observer for Reporter<'_> {
    fn started(&mut self, job: usize, _name: &str, size: u64, offset: u64) {
        if let Some(begun) = self.begun.get_mut(job) {
            begun.get_or_insert_with(Instant::now);
        }
        if let Some(label) = self.labels.get(job) {
            self.progress.started(job, &label.name, size, offset);
        }
        self.reached = (offset, size);
    }

    fn progress(&mut self, job: usize, bytes: u64) {
        self.reached.0 += bytes;
        self.progress.moved(job, bytes);
    }

    fn received(&mut self, job: usize, result: &Result<Received, Error>) {
        self.progress.ended();
        let received = match result {
            // It came, but not all of it has gone out.
            Ok(_) if self.silent.as_ref().is_some_and(DataOut::is_cut) => return self.failed(job, &Error::Cancelled),
            Ok(received) => received,
            Err(error) => return self.failed(job, error),
        };
        let Some(label) = self.labels.get(job).cloned() else { return };
        self.bytes += received.size.saturating_sub(received.resumed);
        let time = self.time_of(job);
        let path = received.path.as_ref().map(|path| path.to_string_lossy().into_owned());
        let object = Object::Get {
            name: &label.name,
            local: path.as_deref(),
            size: received.size,
            resumed: received.resumed,
            seconds: time.as_secs_f64(),
            crc32c: received.crc,
            verified: received.verified,
            sessions: received.sessions,
        };
        self.succeeded(&object, || {
            let mut line = format!(
                "get {}{}",
                headline(&label.name, received.size, time),
                resumed(received.resumed, received.size)
            );
            line.push_str(&match received.crc {
                Some(crc) if received.verified => format!(", crc32c {}", hex_text(crc)),
                Some(crc) => format!(", crc32c {} (not verified: the server sent none)", hex_text(crc)),
                None => ", not verified (this server sends no checksum)".to_owned(),
            });
            if received.sessions > 1 {
                line.push_str(&format!(", over {} sessions", received.sessions));
            }
            if let Some(path) = &path {
                match &label.local {
                    Some(asked) if asked != path => {
                        line.push_str(&format!(", saved as {path} since {asked} exists (-f replaces it)"));
                    }
                    _ if *path != label.name => line.push_str(&format!(", saved as {path}")),
                    _ => {}
                }
            }
            line
        });
    }

    fn sent(&mut self, job: usize, result: &Result<Sent, Error>) {
        self.progress.ended();
        let sent = match result {
            Ok(sent) => sent,
            Err(error) => return self.failed(job, error),
        };
        let Some(label) = self.labels.get(job).cloned() else { return };
        self.bytes += sent.size.saturating_sub(sent.resumed);
        let time = self.time_of(job);
        let object = Object::Put {
            name: &label.name,
            local: label.local.as_deref(),
            size: sent.size,
            resumed: sent.resumed,
            seconds: time.as_secs_f64(),
            crc32c: sent.crc,
            confirmed: sent.confirmed,
        };
        let subject = self.subject(&label);
        self.succeeded(&object, || {
            let mut line = format!("put {}{}", headline(&subject, sent.size, time), resumed(sent.resumed, sent.size));
            if !sent.confirmed {
                line.push_str(", sent (this server does not confirm)");
            } else if let Some(crc) = sent.crc {
                line.push_str(&format!(", crc32c {}", hex_text(crc)));
            } else {
                line.push_str(", not verified (no checksum)");
            }
            if subject != label.name {
                line.push_str(&format!(", {} {}", if sent.confirmed { "stored as" } else { "as" }, label.name));
            }
            line
        });
    }

    fn retrying(&mut self, attempt: u32, error: &Error) {
        let text = format!("{error}; reconnecting (attempt {attempt})");
        let Self { progress, output, .. } = self;
        progress.suspend(|| output.note(&text));
    }
}

/// `notes.txt: 1234 bytes, 0.012 s`
fn headline(name: &str, size: u64, time: Duration) -> String {
    format!("{name}: {}, {}", bytes(size), seconds(time))
}

fn resumed(bytes: u64, size: u64) -> String {
    match bytes {
        0 => String::new(),
        _ if bytes == size => ", already complete".to_owned(),
        _ => format!(", resumed at {bytes}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;
    use crate::cli::output::Outcome;
    use crate::cli::output::testing::{Sink, output};
    use crate::cli::settings::Settings;
    use crate::client::{CancelToken, ErrorCode};

    fn label(name: &str, local: Option<&str>) -> Label {
        Label { name: name.to_owned(), local: local.map(str::to_owned) }
    }

    fn received(path: Option<&str>) -> Received {
        Received {
            path: path.map(Into::into),
            bytes: None,
            size: 9,
            resumed: 0,
            verified: true,
            crc: Some(0xe306_9283),
            mtime: None,
            sessions: 1,
        }
    }

    /// `line` without the time that it took.
    fn timeless(line: &str) -> String {
        line.split(", ").filter(|piece| !piece.ends_with(" s")).collect::<Vec<_>>().join(", ")
    }

    fn run(verb: &'static str, labels: &[Label], json: bool, act: impl FnOnce(&mut Reporter<'_>)) -> (String, String) {
        let (mut to, out, err): (_, Sink, Sink) = output(false);
        to.set_form(&Settings { json, ..Settings::default() });
        let mut reporter = Reporter::new(&mut to, verb, labels.to_vec(), None, false);
        act(&mut reporter);
        _ = reporter.finish();
        to.flush();
        (out.take(), err.take())
    }

    #[test]
    fn a_fetched_file_is_one_line() {
        let labels = [label("a/n.txt", Some("n.txt")), label("n.txt", Some("n.txt")), label("x", Some("x"))];
        let (out, err) = run("get", &labels, false, |reporter| {
            reporter.received(0, &Ok(received(Some("n.txt"))));
            reporter.received(1, &Ok(received(Some("n(1).txt"))));
            let resumed = Received { resumed: 4, verified: false, crc: None, ..received(Some("x")) };
            reporter.received(2, &Ok(resumed));
            reporter.received(2, &Ok(Received { sessions: 3, ..received(Some("x")) }));
        });
        let lines: Vec<_> = out.lines().map(timeless).collect();
        assert_eq!(lines[0], "get a/n.txt: 9 bytes, crc32c e3069283, saved as n.txt");
        assert_eq!(
            lines[1],
            "get n.txt: 9 bytes, crc32c e3069283, saved as n(1).txt since n.txt exists (-f replaces it)"
        );
        assert_eq!(lines[2], "get x: 9 bytes, resumed at 4, not verified (this server sends no checksum)");
        assert_eq!(lines[3], "get x: 9 bytes, crc32c e3069283, over 3 sessions");
        assert_eq!(err, "");
    }

    #[test]
    fn a_sent_file_is_one_line_and_a_classic_server_does_not_confirm() {
        let labels = [label("x.txt", Some("d/x.txt")), label("y", Some("y")), label("b.tar", None)];
        let (out, _) = run("put", &labels, false, |reporter| {
            let sent = Sent { size: 3, resumed: 0, crc: Some(1), confirmed: true };
            reporter.sent(0, &Ok(sent.clone()));
            reporter.sent(1, &Ok(Sent { crc: None, confirmed: false, ..sent.clone() }));
            reporter.sent(2, &Ok(sent));
        });
        let lines: Vec<_> = out.lines().map(timeless).collect();
        assert_eq!(lines[0], "put d/x.txt: 3 bytes, crc32c 00000001, stored as x.txt");
        assert_eq!(lines[1], "put y: 3 bytes, sent (this server does not confirm)");
        assert_eq!(lines[2], "put -: 3 bytes, crc32c 00000001, stored as b.tar");
    }

    #[test]
    fn transfers_are_objects_with_json() {
        let (out, _) = run("get", &[label("n", None)], true, |reporter| reporter.received(0, &Ok(received(None))));
        // It has taken time, though none of it was spent on a transfer.
        let seconds = out.split_once("\"seconds\":").unwrap().1.split_once(',').unwrap().0.to_owned();
        assert!(seconds.parse::<f64>().unwrap() > 0.0, "{out}");
        let out = out.replace(&seconds, "0.0");
        assert_eq!(
            out,
            "{\"type\":\"get\",\"name\":\"n\",\"local\":null,\"size\":9,\"resumed\":0,\"seconds\":0.0,\
             \"crc32c\":\"e3069283\",\"verified\":true,\"sessions\":1}\n"
        );
    }

    #[test]
    fn a_lost_connection_is_told_once() {
        let labels: Vec<_> = (0..5).map(|n| label(&format!("f{n}"), None)).collect();
        let lost = Error::Lost {
            address: "h:1".to_owned(),
            source: Arc::new(io::Error::new(io::ErrorKind::ConnectionReset, "reset")),
        };
        let gone =
            Error::Refused { code: Some(ErrorCode::NotFound), word: "not-found".to_owned(), text: String::new() };
        let (_, err) = run("get", &labels, false, |reporter| {
            reporter.received(0, &Err(gone.clone()));
            for job in 1..5 {
                reporter.received(job, &Err(lost.clone()));
            }
        });
        let lines: Vec<_> = err.lines().collect();
        assert_eq!(lines.len(), 3, "{err}");
        assert_eq!(lines[0], "host-cli: get f0: no such file on the server");
        assert_eq!(lines[1], "host-cli: get f1: connection to h:1 lost: reset");
        assert_eq!(lines[2], "host-cli: get: 3 more files for the same reason");
        let (_, err) = run("get", &labels, true, |reporter| {
            for job in 0..5 {
                reporter.received(job, &Err(lost.clone()));
            }
        });
        assert_eq!(err.lines().count(), 5, "in JSON every file has its object");
        let labels = [label("f", Some("f"))];
        let (_, err) = run("get", &labels, false, |reporter| {
            reporter.started(0, "f", 9, 0);
            reporter.received(0, &Err(lost.clone()));
        });
        assert_eq!(err, "host-cli: get f: connection to h:1 lost: reset; use -c to resume\n");
    }

    #[test]
    fn a_cancelled_transfer_says_how_far_it_came() {
        let labels: Vec<_> = (0..3).map(|n| label(&format!("f{n}"), Some("x"))).collect();
        let (mut to, _, err) = output(false);
        let mut reporter = Reporter::new(&mut to, "get", labels, None, false);
        reporter.received(0, &Ok(received(Some("x"))));
        reporter.received(1, &Err(Error::Cancelled));
        reporter.received(2, &Err(Error::Cancelled));
        _ = reporter.finish();
        assert_eq!(err.take(), "host-cli: get: cancelled, 1 of 3 files done; use -c to resume\n");
        assert_eq!(to.take_outcome(), Outcome::Cancelled);
    }

    #[test]
    fn nothing_is_said_where_the_data_goes() {
        let (mut to, out, _) = output(false);
        let mut reporter = Reporter::new(&mut to, "get", vec![label("n", None)], None, false)
            .silent(DataOut::standard(CancelToken::new()));
        reporter.received(0, &Ok(received(None)));
        _ = reporter.finish();
        to.flush();
        assert_eq!(out.take(), "");
    }
}
