//! Services that the server provides to a session: data connections and takeover.

use core::task::Poll;
use core::time::Duration;

use skiff_proto::name::NameBuf;
use skiff_proto::responder;
use skiff_proto::store::{Stat, Store};
use skiff_proto::{ErrorCode, Instant, Name, Refusal};
use smoltcp::iface::SocketSet;
use smoltcp::wire::IpAddress;

use super::data::DataSockets;
use super::session::Session;
use super::transfer::TransferRequest;

pub(super) struct Services<'a, 'm, 's, S: Store, const NAME: usize, const BUF: usize> {
    /// The requesting session, and its client.
    pub(super) session: usize,
    pub(super) client: IpAddress,
    pub(super) waiting: &'a mut Option<(Instant, TransferRequest<S, NAME>)>,
    /// The other sessions.
    pub(super) others: [&'a mut [Option<Session<S, NAME, BUF>>]; 2],
    pub(super) data: &'a mut DataSockets<'m, S, NAME>,
    pub(super) set: &'a mut SocketSet<'s>,
    pub(super) takeover: Duration,
    pub(super) now: Instant,
}

impl<S: Store, const NAME: usize, const BUF: usize> Services<'_, '_, '_, S, NAME, BUF> {
    fn offer(&mut self, request: TransferRequest<S, NAME>) -> Poll<Result<u16, Refusal>> {
        if self.data.is_empty() {
            return Poll::Ready(Err(ErrorCode::Unsupported.into()));
        }
        match self.data.free() {
            Some(socket) => Poll::Ready(Ok(socket.offer(self.set, self.session, self.client, request, self.now))),
            None => {
                *self.waiting = Some((self.now, request));
                Poll::Pending
            }
        }
    }
}

impl<S: Store, const NAME: usize, const BUF: usize> responder::Services<S> for Services<'_, '_, '_, S, NAME, BUF> {
    fn get(&mut self, _: Name<'_>, file: S::File, stat: Stat) -> Poll<Result<u16, Refusal>> {
        self.offer(TransferRequest::Get { file, size: stat.size })
    }

    fn put(&mut self, store: &mut S, name: Name<'_>, stage: S::Stage) -> Poll<Result<u16, Refusal>> {
        // The transfer opens another one when the size of the file is known.
        store.discard(stage);
        match NameBuf::try_from(name) {
            Ok(name) => self.offer(TransferRequest::Put { name }),
            Err(_) => Poll::Ready(Err(ErrorCode::BadName.into())),
        }
    }

    fn take_over(&mut self, name: Name<'_>) -> bool {
        let [before, after] = &mut self.others;
        let mut others = before.iter_mut().chain(after.iter_mut()).flatten();
        let Some(writer) = others.find(|session| session.stream.responder.is_writing(name)) else {
            return false;
        };
        if self.now.since(writer.stream.received) < self.takeover {
            return false;
        }
        writer.stream.responder.close();
        writer.is_evicted = true;
        true
    }
}
