//! The store of one connection. Requests run in background tasks; until they finish, calls return `NotYet`.

use core::net::SocketAddr;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::Arc;

use skiff_proto::identity::KeyId;
use skiff_proto::name::Name;
use skiff_proto::store::{Result, StoreError, Sum};
use skiff_proto::{ErrorCode, Refusal};
use tokio::sync::Notify;

use super::file::Version;
use super::keys::is_hidden;
use super::list::Listing;
use super::pending::{Bell, Pending};
use super::queue::Queue;
use super::upload::Stage;
use super::{Objects, probe};
use crate::server::backend::{Backend, Session};
use crate::server::pool::Pool;
use crate::server::who::Who;

/// The refusal of a change to a hidden name.
const HIDDEN: Refusal = Refusal::new(ErrorCode::Denied, "names that begin with a dot are not served");

impl Backend for Objects {
    type Session = ObjectSession;

    fn session(&self, _: &Arc<Pool>, peer: Who) -> ObjectSession {
        ObjectSession { peer, ..self.connection(peer.addr) }
    }

    fn take_over(&self, name: Name<'_>, patience: Duration) -> bool {
        self.inner().writers.take_over(name.as_str(), patience)
    }

    fn staged_bytes(&self) -> u64 {
        self.inner().writers.bytes()
    }

    async fn drain(&self) {
        self.close().await;
    }
}

/// The store of one connection. See the module documentation.
#[derive(Debug)]
pub struct ObjectSession {
    pub(super) objects: Objects,
    pub(super) peer: Who,
    pub(super) bell: Bell,
    pub(super) job: Option<Pending<Outcome>>,
    pub(super) queue: Queue,
    /// Notified when another connection takes over the name that this connection is writing.
    pub(super) evicted: Option<Arc<Notify>>,
}

/// The result of the request behind a call that returned `NotYet`.
#[derive(Debug)]
pub(super) enum Outcome {
    Version(Result<Version, Refusal>),
    Sum(Result<Sum, Refusal>),
    Staged(Result<(u64, u32), Refusal>),
    Stage(Result<Box<Stage>, Refusal>),
    Omitted(Result<(u64, Box<Listing>), Refusal>),
    Page(Result<Box<Listing>, Refusal>),
    Names(Result<u64, Refusal>),
    Committed(Result<(), Refusal>),
    /// A name no longer has a writer that is finishing.
    Free,
}

impl Objects {
    /// Creates the store for the connection of `peer`.
    #[must_use]
    pub fn connection(&self, peer: SocketAddr) -> ObjectSession {
        ObjectSession {
            objects: self.clone(),
            peer: Who::new(peer),
            bell: Bell::default(),
            job: None,
            queue: Queue::default(),
            evicted: None,
        }
    }

    /// Waits until the interrupted uploads of closed connections are saved, then releases the claim to the store, if
    /// any.
    pub async fn close(&self) {
        self.inner().writers.drain().await;
        probe::release(self.inner()).await;
    }
}

impl ObjectSession {
    /// Waits until a call that returned `NotYet` should be repeated, or results of queued changes are available.
    pub async fn ready(&mut self) {
        core::future::poll_fn(|context| self.bell.poll(context)).await;
    }

    /// The outcome of the request that an earlier call started. Starts the request if there is none.
    pub(super) fn poll_job<F>(&mut self, begin: impl FnOnce(Objects) -> F) -> Result<Outcome>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        match &mut self.job {
            None => self.job = Some(Pending::spawn(&self.bell, begin(self.objects.clone()))),
            Some(job) => {
                if let Some(outcome) = job.take() {
                    self.job = None;
                    return outcome.map_err(|_| ErrorCode::Io.into());
                }
            }
        }
        Err(StoreError::NotYet)
    }

    /// Checks that a name may be read.
    pub(super) fn check_seen(&self, name: Name<'_>) -> Result<(), Refusal> {
        let hides = !self.objects.inner().options.hidden && is_hidden(name);
        if hides { Err(ErrorCode::NotFound.into()) } else { Ok(()) }
    }

    /// Checks that a name may be created, replaced or removed.
    pub(super) fn check_changed(&self, name: Name<'_>) -> Result<(), Refusal> {
        self.objects.inner().check_change()?;
        self.check_seen(name).map_err(|_| HIDDEN)
    }
}

/// For a result that does not belong to the call. This never happens.
pub(super) const fn mixed_up<T>() -> Result<T> {
    Err(StoreError::Refused(Refusal::new(ErrorCode::Io, "internal error: the server mixed up two requests")))
}

impl Session for ObjectSession {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.bell.poll(context)
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.job.is_none()
    }

    fn is_working(&self) -> bool {
        self.job.is_some() || !self.queue.is_empty()
    }

    async fn finish(&mut self) {
        while !self.queue.is_over() {
            self.ready().await;
        }
        while !self.queue.is_empty() {
            _ = self.queue.next_result(self.peer);
        }
    }

    fn evicted_by(&self) -> Option<Arc<Notify>> {
        self.evicted.clone()
    }

    fn is_evicted(stage: &Stage) -> bool {
        stage.writer.is_evicted()
    }

    fn look(stage: &Stage) {
        stage.writer.look();
    }

    fn take_failures(&mut self) -> u64 {
        self.queue.take_failures()
    }

    fn set_key(&mut self, key: KeyId) {
        self.peer.key = Some(key);
    }
}
