//! What the server needs from a store: one [`Backend`] that all connections share, and one [`Session`] for each.

use core::fmt;
use core::future::poll_fn;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::Arc;

use skiff_proto::Refusal;
use skiff_proto::identity::KeyId;
use skiff_proto::name::{MAX_NAME, Name};
use skiff_proto::store::{Result, Store, StoreError};
use skiff_proto::transfer::{NUMBERS, commit_numbered, numbered};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::pool::Pool;
use super::who::Who;
use super::work::KeptName;
use crate::store::File;

/// A store that all connections share. Cloning it is cheap.
pub trait Backend: Clone + fmt::Debug + Send + Sync + 'static {
    /// The store of one connection.
    type Session: Session;

    /// The store of the connection of `peer`. Blocking work runs on `pool`.
    fn session(&self, pool: &Arc<Pool>, peer: Who) -> Self::Session;

    /// Takes `name` from its writer if that has been silent for `patience`. True if it has no writer now.
    fn take_over(&self, name: Name<'_>, patience: Duration) -> bool;

    /// Bytes of uploads in progress.
    fn staged_bytes(&self) -> u64;

    /// Waits until nothing is left to save for connections that have ended.
    fn drain(&self) -> impl Future<Output = ()> + Send {
        core::future::ready(())
    }
}

pub(super) type FileOf<B> = <<B as Backend>::Session as Store>::File;
pub(super) type StageOf<B> = <<B as Backend>::Session as Store>::Stage;

/// The store of one connection: a [`Store`] that reports when a call that was answered "not yet" should be repeated.
/// The methods with a body are for stores that queue changes, or block on file systems.
pub trait Session:
    Store<File: fmt::Debug + Send + 'static, Stage: fmt::Debug + Send + 'static, Cursor: Send> + Send + Sized
{
    /// Ready when a call that was answered "not yet" should be repeated, or results of queued changes are available.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// True if nothing is in progress or pending.
    fn is_idle(&self) -> bool;

    /// True while something is in progress that the peer is waiting for.
    fn is_working(&self) -> bool;

    /// Makes everything in the queue durable: the client requested it, and it does not matter whether it is still
    /// connected.
    fn finish(&mut self) -> impl Future<Output = ()> + Send;

    /// Notified when another connection takes over the name that this one writes.
    fn evicted_by(&self) -> Option<Arc<Notify>>;

    /// True if another connection has taken over the name of `stage`.
    fn is_evicted(stage: &Self::Stage) -> bool;

    /// Records that the driver is about to check for bytes of `stage`.
    fn look(stage: &Self::Stage);

    /// The file of the system behind `file`, for sendfile.
    fn os_file(file: &Self::File) -> Option<&File> {
        _ = file;
        None
    }

    /// Puts the stage of a classic `put` in place under `name`, or the first free numbered name. Returns the name.
    fn commit_put(
        &mut self,
        mut stage: Self::Stage,
        name: KeptName,
    ) -> impl Future<Output = Result<String, Refusal>> + Send {
        async move {
            let (name, mut number) = (name.as_name(), 0);
            wait_for(self, |store| commit_numbered(store, &mut stage, name, &mut number, NUMBERS)).await?;
            Ok(numbered(name, number, &mut [0; MAX_NAME])?.as_str().to_owned())
        }
    }

    /// Records that the peer has shown this key.
    fn set_key(&mut self, key: KeyId) {
        _ = key;
    }

    /// Gives all work for the peer the lowest priority from now on, because the peer may be gone.
    fn doubt(&mut self) {}

    /// When [`Session::flush_if_due`] is due.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Starts to make queued changes durable after 100 ms at most (PROTOCOL §7).
    fn flush_if_due(&mut self) {}

    /// True once if the next call needs a thread that may wait for a file system mounted beneath the root.
    fn is_leaving(&mut self) -> bool {
        false
    }

    /// Records that no such thread is available.
    fn strand(&mut self) {}

    /// The number of changes that have failed since the last call.
    fn take_failures(&mut self) -> u64;

    /// Logs that a `write` was refused, if the answer to it is final.
    fn log_refused(&mut self) {}
}

/// Repeats `call` until its answer is not "not yet".
pub(super) async fn wait_for<S: Session, T>(
    store: &mut S,
    mut call: impl FnMut(&mut S) -> Result<T>,
) -> Result<T, Refusal> {
    loop {
        match call(store) {
            Err(StoreError::NotYet) => poll_fn(|context| store.poll_ready(context)).await,
            answer => return answer.map_err(StoreError::refusal),
        }
    }
}
