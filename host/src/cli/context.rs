//! The environment of a command.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::ask::ask;
use super::cwd::Cwd;
use super::failure::Failure;
use super::output::Output;
use super::refused::plainly;
use super::stream::DataOut;
use crate::client::{Client, Error};

/// The environment of a command that uses the server.
pub(crate) struct Context<'a> {
    /// The connection.
    pub(crate) client: &'a mut Client,
    /// Where results and errors go.
    pub(crate) output: &'a mut Output,
    /// The current directory on the server.
    pub(crate) cwd: &'a mut Cwd,
    /// The name of the command.
    pub(crate) verb: &'static str,
    /// The words of the command.
    pub(crate) words: &'a [OsString],
    /// True if a user at a terminal can answer questions.
    pub(crate) asks: bool,
    /// Progress bars may be drawn.
    pub(crate) bars: bool,
    /// True if a prompt is shown after the command.
    pub(crate) at_prompt: bool,
    /// The local directory for what comes from this board, if it is one of several.
    pub(crate) own_dir: Option<PathBuf>,
}

impl Context<'_> {
    /// The name on the server as it was typed.
    pub(crate) fn typed(&self, name: &str) -> Option<&OsStr> {
        let means = |word: &&OsString| word.to_str().is_some_and(|word| self.cwd.resolve(word) == name);
        self.words.iter().rev().find(means).map(OsString::as_os_str)
    }

    /// Whether `-o` was forgotten, as `failure` assumes: at a terminal, asks the user.
    ///
    /// # Errors
    /// `failure`, if there is no user to ask; Ctrl-C.
    pub(crate) async fn is_output_forgotten(&mut self, failure: Failure) -> Result<bool, Failure> {
        if !self.asks || failure.is_final() {
            return Err(failure);
        }
        let cancel = self.client.cancel_token();
        let question = self.output.failure_text(Some(self.verb), &failure);
        let forgotten = ask(self.output, cancel.clone(), &question).await;
        if cancel.is_cancelled() {
            return Err(Failure::client(self.verb, None, &Error::Cancelled));
        }
        if !forgotten {
            self.output.set_failed();
        }
        Ok(forgotten)
    }

    /// Ends an unfinished line of data, so that the prompt begins on a new line.
    pub(crate) fn end_line(&mut self, out: &DataOut) {
        if self.at_prompt && out.is_mid_line() {
            self.output.line("");
        }
    }

    /// Reports a failure of this command.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        self.output.failure(Some(self.verb), &plainly(self.client, failure.clone()));
    }
}
