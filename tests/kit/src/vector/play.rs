//! Playing the client's part of a vector.

use std::collections::VecDeque;

use skiff_proto::message::HEADER_LEN;

use super::pattern::parse_length;
use super::{Action, DataClose, DataEnd, Problem, Step, Vector};

/// A client's connection to a server. A server in memory answers at once; one behind a socket may take a while, and an
/// implementation waits for a bounded time.
pub trait Link {
    /// Sends on the control connection.
    ///
    /// # Errors
    /// The connection is gone.
    fn send(&mut self, bytes: &[u8]) -> Result<(), Problem>;

    /// Receives exactly `len` bytes.
    ///
    /// # Errors
    /// Fewer bytes arrived.
    fn receive(&mut self, len: usize) -> Result<Vec<u8>, Problem>;

    /// Waits until the server has closed; nothing more may arrive.
    ///
    /// # Errors
    /// Something arrived, or it did not close.
    fn receive_end(&mut self) -> Result<(), Problem>;

    /// Breaks the control connection and opens a new one, once the server has noticed.
    ///
    /// # Errors
    /// No new connection.
    fn reconnect(&mut self) -> Result<(), Problem>;

    /// Opens the data connection to `port`.
    ///
    /// # Errors
    /// Nobody listens there.
    fn connect_data(&mut self, port: u16) -> Result<(), Problem>;

    /// Sends on the data connection.
    ///
    /// # Errors
    /// The connection is gone.
    fn send_data(&mut self, bytes: &[u8]) -> Result<(), Problem>;

    /// Receives exactly `len` bytes on the data connection.
    ///
    /// # Errors
    /// Fewer bytes arrived.
    fn receive_data(&mut self, len: usize) -> Result<Vec<u8>, Problem>;

    /// Shuts down the sending side of the data connection if `shutdown`, then waits for the server to end it; nothing
    /// more may arrive.
    ///
    /// # Errors
    /// Something arrived, or it did not end.
    fn end_data(&mut self, shutdown: Shutdown) -> Result<DataEnd, Problem>;
}

/// Whether the client ends its sending side first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// The server ends the connection by itself.
    No,
    /// The client ends its stream first.
    First,
}

/// How far a client runs ahead of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pacing {
    /// By line: every `C` line is a separate stream.
    Lines,
    /// By group: consecutive `C` lines are one stream.
    Groups,
    /// Ahead: everything that is sent on a connection is one stream, before any reply is read.
    Ahead,
}

/// How streams are split into segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Not at all.
    Whole,
    /// Byte by byte.
    Bytes,
    /// Stream number `stream` (from 0) is split in two; the first part has `position` bytes.
    At {
        /// Which of the streams that the client sends.
        stream: usize,
        /// Bytes before the cut.
        position: usize,
    },
}

impl Vector {
    /// True if it contains nothing classic or malformed, so that it can be played on a sealed connection (PROTOCOL §8).
    #[must_use]
    pub fn can_be_sealed(&self) -> bool {
        self.steps.iter().all(|step| match &step.action {
            Action::Send(bytes) => {
                let classic = ["get", "put", "ls"];
                let payload = bytes.get(HEADER_LEN..).unwrap_or_default();
                bytes.iter().take(HEADER_LEN).all(u8::is_ascii_digit)
                    && !classic.iter().any(|verb| payload.starts_with(verb.as_bytes()))
            }
            Action::Receive(_) | Action::Close | Action::ReceiveEnd => true,
            Action::DataConnect | Action::DataSend(_) | Action::DataReceive(_) | Action::DataClose(_) => false,
        })
    }

    /// The steps in the order of a client with this pacing.
    #[must_use]
    pub fn paced(&self, pacing: Pacing) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        // The stream that a further `C` line may join.
        let mut open: Option<usize> = None;
        for step in &self.steps {
            match (&step.action, pacing) {
                (Action::Send(bytes), Pacing::Groups | Pacing::Ahead) => {
                    if let Some(at) = open
                        && let Action::Send(before) = &mut steps[at].action
                    {
                        before.extend(bytes);
                        continue;
                    }
                    open = Some(steps.len());
                }
                (Action::Close, _) => open = None,
                (_, Pacing::Groups) => open = None,
                _ => {}
            }
            steps.push(step.clone());
        }
        steps
    }

    /// Every way to split what the client sends at this pacing in two, including the ends.
    #[must_use]
    pub fn cuts(&self, pacing: Pacing) -> Vec<Cut> {
        let mut cuts = Vec::new();
        let mut stream = 0;
        for step in self.paced(pacing) {
            if let Action::Send(bytes) | Action::DataSend(bytes) = step.action {
                cuts.extend((0..=bytes.len()).map(|position| Cut::At { stream, position }));
                stream += 1;
            }
        }
        cuts
    }
}

impl Cut {
    fn segments(self, number: usize, bytes: &[u8]) -> VecDeque<&[u8]> {
        match self {
            Self::Bytes => bytes.chunks(1).collect(),
            Self::At { stream, position } if stream == number => {
                let (first, second) = bytes.split_at(position);
                VecDeque::from([first, second])
            }
            Self::Whole | Self::At { .. } => VecDeque::from([bytes]),
        }
    }
}

/// Plays the client's part of `vector` against `link` and compares the answers.
///
/// # Errors
/// The first step that differed.
pub fn play(vector: &Vector, pacing: Pacing, cut: Cut, link: &mut dyn Link) -> Result<(), Problem> {
    let mut stream = 0;
    let mut port = None;
    for step in vector.paced(pacing) {
        let outcome = match &step.action {
            Action::Send(bytes) => {
                stream += 1;
                cut.segments(stream - 1, bytes).into_iter().try_for_each(|segment| link.send(segment))
            }
            Action::DataSend(bytes) => {
                stream += 1;
                cut.segments(stream - 1, bytes).into_iter().try_for_each(|segment| link.send_data(segment))
            }
            Action::Receive(pattern) => receive_message(|len| link.receive(len)).and_then(|message| {
                port = core::str::from_utf8(&message[10..]).ok().and_then(|text| text.parse().ok());
                pattern.check(&message)
            }),
            Action::DataReceive(pattern) => {
                receive_message(|len| link.receive_data(len)).and_then(|message| pattern.check(&message))
            }
            Action::Close => link.reconnect(),
            Action::ReceiveEnd => link.receive_end(),
            Action::DataConnect => {
                port.ok_or(Problem::new("no port was announced")).and_then(|port| link.connect_data(port))
            }
            Action::DataClose(close) => {
                let shutdown = if *close == DataClose::ByServer { Shutdown::No } else { Shutdown::First };
                let expected = if *close == DataClose::Refused { DataEnd::Reset } else { DataEnd::Closed };
                link.end_data(shutdown).and_then(|end| {
                    if end == expected {
                        Ok(())
                    } else {
                        Err(Problem(format!("the data connection ended with {end:?}, not {expected:?}")))
                    }
                })
            }
        };
        outcome.map_err(|problem| Problem(format!("{}:{}, {pacing:?}, {cut:?}: {problem}", vector.file, step.line)))?;
    }
    Ok(())
}

/// Reads one message, including its length.
fn receive_message(mut receive: impl FnMut(usize) -> Result<Vec<u8>, Problem>) -> Result<Vec<u8>, Problem> {
    let mut message = receive(10)?;
    let length = parse_length(&message)
        .and_then(|length| usize::try_from(length).ok())
        .ok_or_else(|| Problem(format!("\"{}\" is no length", message.escape_ascii())))?;
    message.extend(receive(length)?);
    Ok(message)
}
