//! Classic data connections: one file each, independent of the control connection, which they may outlive (PROTOCOL
//! §3).

use core::net::SocketAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::io;
use std::sync::Arc;

use skiff_proto::store::{Store, StoreError};
use skiff_proto::transfer::{Incoming, Outgoing, TransferError};
use skiff_proto::{ErrorCode, Payload, Refusal};
use tokio::net::TcpStream;
use tracing::{debug, info, warn};

use super::backend::{Backend, FileOf, Session as _, StageOf, wait_for};
use super::pool;
use super::ports::Claim;
use super::scratch::Scratch;
use super::shared::{Phase, Running, Shared};
use super::socket::{self, would_block};
use super::who::Who;
use super::work::KeptName;
use super::{audit, output};

/// Bytes of a file that are sent together with its length, in one write.
const HEAD: usize = 64 * 1024;

/// The purpose of a data connection.
#[derive(Debug)]
pub(super) enum Purpose<S: Store> {
    /// The file, and its size.
    Get(S::File, u64),
    Put(S::Stage, KeptName),
}

/// Why a data connection was reset.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error("{0}")]
    Refusal(#[from] Refusal),
}

impl Failure {
    /// The outcome of the `put` for the log.
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Io(_) => "interrupted",
            Self::Transfer(_) => "discarded",
            Self::Refusal(refusal) => refusal.code.as_str(),
        }
    }
}

/// Waits for the client of a port that is being announced, and serves it.
pub(super) fn start<B: Backend>(
    shared: &Arc<Shared<B>>,
    claim: Claim,
    owner: SocketAddr,
    purpose: Purpose<B::Session>,
    progress: Arc<AtomicU64>,
) {
    let running = Running::new(shared);
    let mut phase = shared.phase.subscribe();
    let serving = async move {
        let accepted = tokio::select! {
            accepted = claim.accept(owner) => accepted,
            _ = phase.wait_for(|phase| *phase == Phase::Closing) => return,
        };
        match accepted {
            Ok(Some((stream, lease))) => {
                let shared = &running.0;
                // Until all has gone well, whatever ends the connection resets it: the system closes the sockets of a
                // server that is killed, and in order that would mean that the file is stored, or has been sent whole.
                socket::reset(&stream);
                let mut store = shared.store.session(&shared.pool, Who::new(owner));
                let served = match purpose {
                    Purpose::Get(file, size) => send(shared, &mut store, &stream, (file, size), &progress).await,
                    Purpose::Put(stage, name) => {
                        let stored = receive(shared, &mut store, &stream, stage, name.clone(), &progress).await;
                        let (name, size, outcome) = match &stored {
                            Ok((name, size)) => (name.as_str(), Some(*size), "ok"),
                            Err(failure) => (name.as_name().as_str(), None, failure.outcome()),
                        };
                        audit::upload(owner, "put", name, size, outcome);
                        stored.and_then(|_| Ok(socket::end_in_order(&stream)?))
                    }
                };
                match served {
                    Ok(()) => {}
                    Err(failure) => warn!(%owner, %failure, "data connection reset"),
                }
                drop(stream);
                drop(lease);
            }
            Ok(None) => debug!(%owner, "data port withdrawn: no client connected"),
            Err(error) => warn!(%owner, %error, "data connection"),
        }
        drop(running);
    };
    // A file that was opened elsewhere stays there.
    let (shared, away) = (Arc::clone(shared), pool::is_elsewhere());
    tokio::spawn(async move { shared.pool.roam(owner.ip(), Box::pin(serving), away).await });
}

/// Records that a data connection has made progress, for its control connection's clock.
fn moved<B>(shared: &Shared<B>, progress: &AtomicU64) {
    progress.store(shared.now().as_millis(), Ordering::Relaxed);
}

/// Sends a file: its length and its first bytes in one write, then the rest.
async fn send<B: Backend>(
    shared: &Shared<B>,
    store: &mut B::Session,
    stream: &TcpStream,
    (mut file, size): (FileOf<B>, u64),
    progress: &AtomicU64,
) -> Result<(), Failure> {
    // No TCP_NODELAY: the client need not answer anything before the end of the stream.
    let mut outgoing = Outgoing::new(size, size, shared.options.idle, shared.options.min_rate);
    outgoing.handle_timeout(shared.now())?;
    let mut head = vec![0; 10 + usize::try_from(size).map_or(HEAD, |size| size.min(HEAD))];
    let framing = outgoing.poll_transmit(&mut head);
    let mut len = framing;
    while len < head.len() {
        match wait_for(store, |store| store.read_at(&mut file, (len - framing) as u64, &mut head[len..])).await? {
            0 => return Err(Refusal::from(ErrorCode::Changed).into()),
            n => len += n,
        }
    }
    let mut sent = 0;
    let mut offset = (len - framing) as u64;
    outgoing.advance(offset).map_err(|_| Refusal::from(ErrorCode::Io))?;
    loop {
        let written = if sent < len {
            let is_last = outgoing.payload().is_none() && !shared.options.portable;
            let write = if is_last { output::send_last } else { TcpStream::try_write };
            write(stream, &head[sent..len]).map(|n| {
                sent += n;
                n as u64
            })
        } else if let Some(Payload { remaining }) = outgoing.payload() {
            let Some(file) = B::Session::os_file(&file) else {
                head.resize(Payload { remaining }.clamp(HEAD), 0);
                len = wait_for(store, |store| store.read_at(&mut file, offset, &mut head)).await?;
                if len == 0 {
                    return Err(Refusal::from(ErrorCode::Changed).into());
                }
                sent = 0;
                offset += len as u64;
                outgoing.advance(len as u64).map_err(|_| Refusal::from(ErrorCode::Io))?;
                continue;
            };
            head = Vec::new();
            let written = if shared.options.portable {
                output::send_through_memory(stream, file, offset, remaining)
            } else {
                output::send_file(stream, file, offset, remaining)
            };
            if let Ok(n) = written {
                offset += n;
                outgoing.advance(n).map_err(|_| Refusal::from(ErrorCode::Io))?;
            }
            written
        } else {
            // Before the file is closed: the client waits for this, not for that.
            socket::end_in_order(stream)?;
            info!(size, "get: sent");
            return Ok(());
        };
        match written {
            Ok(0) => return Err(Refusal::from(ErrorCode::Changed).into()),
            Ok(n) => {
                shared.metrics.sent.add(n);
                moved(shared, progress);
            }
            Err(error) if would_block(&error) => {
                let deadline = shared.deadline(outgoing.poll_timeout());
                _ = tokio::time::timeout_at(deadline, stream.writable()).await;
                outgoing.handle_timeout(shared.now())?;
            }
            Err(error) => return Err(error.into()),
        }
        tokio::task::coop::consume_budget().await;
    }
}

/// Receives a file up to the end of the stream and puts it in place under the first free name. Returns the name and the
/// size.
async fn receive<B: Backend>(
    shared: &Shared<B>,
    store: &mut B::Session,
    stream: &TcpStream,
    mut stage: StageOf<B>,
    name: KeptName,
    progress: &AtomicU64,
) -> Result<(String, u64), Failure> {
    let mut incoming = Incoming::new(shared.options.idle, shared.options.min_rate);
    loop {
        incoming.handle_timeout(shared.now())?;
        wait_for(store, |store| store.ready(&mut stage)).await?;
        let mut scratch = Scratch::take();
        match stream.try_read(&mut scratch) {
            Ok(0) => break,
            Ok(n) => {
                shared.metrics.received.add(n as u64);
                let framing = incoming.handle_input(&scratch[..n])?;
                if let Some(announced) = incoming.announced().filter(|_| framing > 0) {
                    // Now that the length is known, so is the room that it needs.
                    stage = store.stage_new(name.as_name(), announced).map_err(StoreError::refusal)?;
                }
                if framing < n {
                    let before = incoming.received();
                    incoming.advance(&scratch[framing..n])?;
                    check_room(store, &incoming, before)?;
                    append(store, &mut stage, &scratch[framing..n])?;
                }
                moved(shared, progress);
                drop(scratch);
                tokio::task::coop::consume_budget().await;
            }
            Err(error) if would_block(&error) => {
                drop(scratch);
                let deadline = shared.deadline(incoming.poll_timeout());
                _ = tokio::time::timeout_at(deadline, stream.readable()).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let size = incoming.handle_eof()?;
    Ok((store.commit_put(stage, name).await?, size))
}

/// Checks for room for the bytes of a text beyond its announced length, which counts characters: no room was reserved
/// for them.
fn check_room<S: Store>(store: &mut S, incoming: &Incoming, before: u64) -> Result<(), Refusal> {
    let beyond = incoming.received() > incoming.announced().unwrap_or(0);
    if beyond && incoming.received() >> 20 != before >> 20 && store.space().is_ok_and(|space| space.free == 0) {
        return Err(ErrorCode::NoSpace.into());
    }
    Ok(())
}

/// Appends all of `bytes`.
fn append<S: Store>(store: &mut S, stage: &mut S::Stage, bytes: &[u8]) -> Result<(), Refusal> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let n = store.append(stage, rest).map_err(StoreError::refusal)?;
        rest = &rest[n..];
    }
    Ok(())
}
