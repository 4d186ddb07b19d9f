//! Classic services of a control connection: data connections for `get` and `put`, and the names of silent writers.

use core::net::SocketAddr;
use core::pin::Pin;
use core::sync::atomic::AtomicU64;
use core::task::Poll;
use std::sync::Arc;

use skiff_proto::name::Name;
use skiff_proto::responder::Services;
use skiff_proto::store::{Stat, Store};
use skiff_proto::{ErrorCode, Refusal};
use tokio::net::TcpStream;
use tracing::{info, warn};

use super::audit;
use super::backend::{Backend, FileOf, StageOf};
use super::data::{self, Purpose};
use super::ports::Claim;
use super::shared::Shared;
use super::work::keep;

/// The services for one control connection.
pub(super) struct Classic<'a, B: Backend> {
    pub(super) shared: &'a Arc<Shared<B>>,
    /// The control connection.
    pub(super) stream: &'a TcpStream,
    pub(super) peer: SocketAddr,
    /// When one of its data connections last made progress.
    pub(super) progress: &'a mut Option<Arc<AtomicU64>>,
    /// A `get` or `put` that has to wait for a port.
    pub(super) waiting: Option<Waiting<B::Session>>,
}

/// A transfer that is waiting for a port.
pub(super) struct Waiting<S: Store> {
    claim: Pin<Box<dyn Future<Output = Option<Claim>> + Send>>,
    purpose: Purpose<S>,
}

impl<B: Backend> Classic<'_, B> {
    /// Waits until the waiting `get` or `put` has its answer; forever if none is waiting.
    pub(super) async fn granted(&mut self) -> Result<u16, Refusal> {
        let Some(waiting) = &mut self.waiting else { return core::future::pending().await };
        let claim = waiting.claim.as_mut().await;
        match self.waiting.take() {
            Some(Waiting { purpose, .. }) => self.announce(claim, purpose),
            None => Err(ErrorCode::Io.into()),
        }
    }

    /// Answers a `get` or `put` with a port, now or when one is free.
    fn claim(&mut self, purpose: Purpose<B::Session>) -> Poll<Result<u16, Refusal>> {
        let Ok(at) = self.stream.local_addr() else { return Poll::Ready(Err(ErrorCode::Io.into())) };
        match self.shared.ports.claim(at) {
            Ok(Some(claim)) => Poll::Ready(self.announce(Some(claim), purpose)),
            Ok(None) => {
                let shared = Arc::clone(self.shared);
                let claim = Box::pin(async move { shared.ports.wait(at).await.unwrap_or(None) });
                self.waiting = Some(Waiting { claim, purpose });
                Poll::Pending
            }
            Err(error) => {
                warn!(%error, "no data port available");
                Poll::Ready(Err(ErrorCode::Io.into()))
            }
        }
    }

    fn announce(&mut self, claim: Option<Claim>, purpose: Purpose<B::Session>) -> Result<u16, Refusal> {
        let port = claim.as_ref().and_then(|claim| claim.port().ok());
        let (Some(claim), Some(port)) = (claim, port) else {
            if let Purpose::Put(_, name) = &purpose {
                audit::upload(self.peer, "put", name.as_name().as_str(), None, ErrorCode::Busy.as_str());
            }
            return Err(ErrorCode::Busy.into());
        };
        let progress = Arc::clone(self.progress.get_or_insert_default());
        data::start(self.shared, claim, self.peer, purpose, progress);
        Ok(port)
    }
}

impl<B: Backend> Services<B::Session> for Classic<'_, B> {
    fn get(&mut self, name: Name<'_>, file: FileOf<B>, stat: Stat) -> Poll<Result<u16, Refusal>> {
        info!(peer = %self.peer, name = ?name.as_str(), "get");
        self.claim(Purpose::Get(file, stat.size))
    }

    fn put(&mut self, _: &mut B::Session, name: Name<'_>, stage: StageOf<B>) -> Poll<Result<u16, Refusal>> {
        self.claim(Purpose::Put(stage, keep(name)?))
    }

    fn take_over(&mut self, name: Name<'_>) -> bool {
        self.shared.store.take_over(name, self.shared.options.takeover)
    }
}
