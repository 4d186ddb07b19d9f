//! One classic transfer: from the store to a data socket, or from the socket to the store.

use core::time::Duration;

use skiff_proto::name::NameBuf;
use skiff_proto::store::{Result, Store, StoreError};
use skiff_proto::transfer::{Incoming, Outgoing, commit_numbered};
use skiff_proto::{ErrorCode, Instant, MinRate, Name};
use smoltcp::socket::tcp::{Socket, State};

/// Pieces that are moved in one turn.
const ROUNDS: usize = 8;
/// Numbered names that are tried in one turn.
const TRIES: u32 = 16;

/// The purpose of a data connection.
pub(super) enum TransferRequest<S: Store, const NAME: usize> {
    Get { file: S::File, size: u64 },
    Put { name: NameBuf<NAME> },
}

pub(super) enum Transfer<S: Store, const NAME: usize> {
    Get {
        file: S::File,
        offset: u64,
        outgoing: Outgoing,
    },
    Put {
        stage: Option<S::Stage>,
        name: NameBuf<NAME>,
        incoming: Incoming,
    },
    /// The whole file has arrived; `number` is that of the name to try next.
    Store {
        stage: S::Stage,
        name: NameBuf<NAME>,
        number: u32,
        patience: Instant,
    },
}

/// The result of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    Nothing,
    Some,
    /// There is more to do at once.
    More,
    /// The transfer has ended: close the connection.
    Done,
    /// The transfer has failed: reset the connection.
    Failed,
}

impl<S: Store, const NAME: usize> Transfer<S, NAME> {
    pub(super) fn new(request: TransferRequest<S, NAME>, idle: Duration, rate: MinRate) -> Self {
        match request {
            TransferRequest::Get { file, size } => {
                Self::Get { file, offset: 0, outgoing: Outgoing::new(size, size, idle, rate) }
            }
            TransferRequest::Put { name } => Self::Put { stage: None, name, incoming: Incoming::new(idle, rate) },
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        match self {
            Self::Get { outgoing, .. } => outgoing.poll_timeout(),
            Self::Put { incoming, .. } => incoming.poll_timeout(),
            Self::Store { patience, .. } => *patience,
        }
    }

    pub(super) fn step(&mut self, socket: &mut Socket<'_>, store: &mut S, now: Instant) -> Moved {
        let moved = match self {
            Self::Get { file, offset, outgoing } => {
                if outgoing.handle_timeout(now).is_err() || socket.state() == State::Closed {
                    return Moved::Failed;
                }
                send(socket, store, file, offset, outgoing)
            }
            Self::Put { stage, name, incoming } => {
                if incoming.handle_timeout(now).is_err() {
                    return Moved::Failed;
                }
                receive(socket, store, stage, name.as_name(), incoming)
            }
            Self::Store { stage, name, number, patience } => {
                *patience = now;
                return put_in_place(store, stage, name.as_name(), number);
            }
        };
        match (moved, &mut *self) {
            (Err(StoreError::NotYet), _) if S::WAITS => Moved::More,
            (Err(_), Self::Put { stage, .. }) => {
                if let Some(stage) = stage.take() {
                    store.discard(stage);
                }
                Moved::Failed
            }
            (Err(_), _) => Moved::Failed,
            (Ok(Moved::Done), Self::Put { stage, name, .. }) => match stage.take() {
                Some(stage) => {
                    let name = name.clone();
                    *self = Self::Store { stage, name, number: 0, patience: now };
                    Moved::More
                }
                None => Moved::Failed,
            },
            (Ok(moved), _) => moved,
        }
    }
}

/// The length and the first bytes of the file are sent together, because the send buffer of a new connection is empty.
fn send<S: Store>(
    socket: &mut Socket<'_>,
    store: &mut S,
    file: &mut S::File,
    offset: &mut u64,
    outgoing: &mut Outgoing,
) -> Result<Moved> {
    let mut moved = Moved::Nothing;
    for _ in 0..ROUNDS {
        let sent = socket.send(|room| {
            let head = outgoing.poll_transmit(room);
            let body = read(store, file, *offset, outgoing, &mut room[head..]);
            let n = head + *body.as_ref().unwrap_or(&0);
            (n, body.map(|body| (n, body)))
        });
        let (n, body) = sent.map_err(|_| ErrorCode::Io)??;
        *offset += body as u64;
        if outgoing.is_done() {
            return Ok(Moved::Done);
        }
        if n == 0 {
            return Ok(moved);
        }
        moved = Moved::Some;
    }
    Ok(Moved::More)
}

fn read<S: Store>(
    store: &mut S,
    file: &mut S::File,
    offset: u64,
    outgoing: &mut Outgoing,
    room: &mut [u8],
) -> Result<usize> {
    let Some(payload) = outgoing.payload().filter(|_| !room.is_empty()) else {
        return Ok(0);
    };
    let n = payload.clamp(room.len());
    let n = match store.read_at(file, offset, &mut room[..n])? {
        // The bytes were there when the file was opened.
        0 => return Err(ErrorCode::Changed.into()),
        read => read.min(n),
    };
    outgoing.advance(n as u64).map_err(|_| ErrorCode::Io)?;
    Ok(n)
}

/// `Moved::Done`: the whole file has arrived.
fn receive<S: Store>(
    socket: &mut Socket<'_>,
    store: &mut S,
    stage: &mut Option<S::Stage>,
    name: Name<'_>,
    incoming: &mut Incoming,
) -> Result<Moved> {
    let mut moved = Moved::Nothing;
    for _ in 0..ROUNDS {
        match (&mut *stage, incoming.announced()) {
            (Some(stage), _) => store.ready(stage)?,
            (None, Some(announced)) => *stage = Some(store.stage_new(name, announced)?),
            (None, None) => {}
        }
        let taken = socket.recv(|input| match take(store, stage, incoming, input) {
            Ok(n) => (n, Ok(n)),
            Err(error) => (input.len(), Err(error)),
        });
        match taken {
            Ok(Ok(1..)) => moved = Moved::Some,
            Ok(Ok(0)) | Err(_) => {
                if socket.can_recv() || matches!(socket.state(), State::Established | State::FinWait1 | State::FinWait2)
                {
                    return Ok(moved);
                }
                // A lost connection is not the end of the file.
                if socket.state() == State::Closed {
                    return Err(ErrorCode::Io.into());
                }
                incoming.handle_eof().map_err(|_| ErrorCode::Mismatch)?;
                return Ok(Moved::Done);
            }
            Ok(Err(error)) => return Err(error),
        }
    }
    Ok(Moved::More)
}

fn take<S: Store>(store: &mut S, stage: &mut Option<S::Stage>, incoming: &mut Incoming, input: &[u8]) -> Result<usize> {
    let head = incoming.handle_input(input).map_err(|_| ErrorCode::BadLength)?;
    let (Some(stage), Some(payload)) = (stage, incoming.payload()) else {
        return Ok(head);
    };
    let mut rest = &input[head..];
    rest = &rest[..payload.clamp(rest.len())];
    incoming.advance(rest).map_err(|_| ErrorCode::Mismatch)?;
    let taken = head + rest.len();
    while !rest.is_empty() {
        match store.append(stage, rest)? {
            0 => return Err(ErrorCode::Io.into()),
            n => rest = &rest[n.min(rest.len())..],
        }
    }
    Ok(taken)
}

/// Tries the name, then the numbered ones.
fn put_in_place<S: Store>(store: &mut S, stage: &mut S::Stage, name: Name<'_>, number: &mut u32) -> Moved {
    match commit_numbered(store, stage, name, number, TRIES) {
        Ok(()) => Moved::Done,
        Err(StoreError::NotYet) => Moved::More,
        Err(_) => Moved::Failed,
    }
}
