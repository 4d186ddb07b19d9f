//! The environment of a command.

use std::path::PathBuf;

use super::failure::Failure;
use super::output::Output;
use crate::client::Client;

/// Where commands come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The command line: one.
    OneShot,
    /// The same, for one of several servers.
    Many,
    /// Standard input that is not a terminal.
    Script,
    /// A person at a terminal.
    Prompt,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another command.
    Command,
    /// The end.
    Quit,
}

/// The environment of a command that uses the server.
pub(crate) struct Context<'a> {
    /// The connection.
    pub(crate) client: &'a mut Client,
    /// Where results and errors go.
    pub(crate) output: &'a mut Output,
    /// The name of the command.
    pub(crate) verb: &'static str,
    /// Progress bars may be drawn.
    pub(crate) bars: bool,
    /// The local directory for what comes from this board, if it is one of several.
    pub(crate) own_dir: Option<PathBuf>,
}

impl Context<'_> {
    /// Reports a failure of this command.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        self.output.failure(Some(self.verb), failure);
    }
}
