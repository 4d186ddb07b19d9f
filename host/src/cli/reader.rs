//! Messages between the thread that reads lines and the session.

use std::sync::mpsc;

use tokio::sync::mpsc::UnboundedSender;

use super::failure::Failure;

/// A request of the reading thread.
#[derive(Debug)]
pub(crate) enum Request {
    /// Run this line.
    Line(String),
    /// The entries of a directory of the server, directories with a `/`; for completion.
    Names {
        /// The directory as it was typed.
        dir: String,
        /// Where the answer goes.
        reply: mpsc::Sender<Vec<String>>,
    },
    /// A line that can't be run.
    Bad(Failure),
    /// Reading failed: there are no more lines.
    Failed(Failure),
}

/// The reading thread's side.
pub(crate) struct Reader {
    /// To the session.
    pub(crate) requests: UnboundedSender<Request>,
    /// From the session: read another line. Closed at the end.
    pub(crate) go: mpsc::Receiver<Turn>,
}

/// What the reading thread needs to know about the next line.
pub(crate) struct Turn {
    /// The prompt to show.
    pub(crate) prompt: String,
    /// Discard lines that were typed ahead: Ctrl-C has stopped the last command, or the command asked a question.
    pub(crate) forget: bool,
}
