//! The results, as text and as JSON.

use std::io::{self, Write};

use serde::Serialize;

/// The result of one check.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// The section of PROTOCOL.md.
    pub section: &'static str,
    /// The name of the check.
    pub id: &'static str,
    /// What the protocol requires.
    pub rule: &'static str,
    /// How it ended.
    pub result: Outcome,
    /// Why it failed or was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last bytes on the connections, after a failure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The server does what the protocol requires.
    Passed,
    /// The server does not do what the protocol requires.
    Failed,
    /// The requirement was not checked.
    Skipped,
}

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The server's address.
    pub address: String,
    /// The server's hello; `None` for a classic server.
    pub hello: Option<String>,
    /// The number of checks that passed.
    pub passed: usize,
    /// The number of checks that failed.
    pub failed: usize,
    /// The number of checks that were skipped.
    pub skipped: usize,
    /// Names that remain on the server.
    pub left: Vec<String>,
    /// The checks, in order.
    pub checks: Vec<Entry>,
}

impl Report {
    /// The checks with this result.
    pub fn with(&self, result: Outcome) -> impl Iterator<Item = &Entry> {
        self.checks.iter().filter(move |entry| entry.result == result)
    }

    /// Writes the report as one JSON object.
    ///
    /// # Errors
    /// The output can't be written.
    pub fn json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }

    /// Writes the summary that follows the lines of the checks.
    ///
    /// # Errors
    /// The output can't be written.
    pub fn summary(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)?;
        if !self.left.is_empty() {
            writeln!(out, "these remain on the server, which offers no way to remove them: {}", self.left.join(" "))?;
        }
        Ok(())
    }
}

impl Entry {
    /// Writes one line for the check, and after a failure also the log.
    ///
    /// # Errors
    /// The output can't be written.
    pub fn text(&self, out: &mut impl Write) -> io::Result<()> {
        let word = match self.result {
            Outcome::Passed => "ok",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "skipped",
        };
        write!(out, "{word:7} {:>2} {}: {}", self.section, self.id, self.rule)?;
        match &self.reason {
            Some(reason) if self.result == Outcome::Skipped => writeln!(out, " ({reason})")?,
            Some(reason) => writeln!(out, "\n           {reason}")?,
            None => writeln!(out)?,
        }
        self.log.iter().try_for_each(|line| writeln!(out, "             {line}"))
    }
}
