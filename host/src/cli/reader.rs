//! What the thread that reads lines and the session say to each other.

use std::sync::mpsc;

use tokio::sync::mpsc::UnboundedSender;

use super::failure::Failure;

/// What the thread that reads asks for.
#[derive(Debug)]
pub(crate) enum Request {
    /// Carry out this line.
    Line(String),
    /// What lies in this directory of the server, directories with a `/`? For completion.
    Names {
        /// The directory; `None` for the root.
        dir: Option<String>,
        /// Where the answer goes.
        reply: mpsc::Sender<Vec<String>>,
    },
    /// A line that can't be carried out.
    Bad(Failure),
    /// Reading failed: there are no more lines.
    Failed(Failure),
}

/// The reading thread's side.
pub(crate) struct Reader {
    /// To the session.
    pub(crate) requests: UnboundedSender<Request>,
    /// From the session: read another line. Closed at the end.
    pub(crate) go: mpsc::Receiver<()>,
}
