//! What one session asks of the rest of the server: data connections, and the place of a writer who is silent.

use core::task::Poll;
use core::time::Duration;

use skiff_proto::responder::Services;
use skiff_proto::store::{Stat, Store};
use skiff_proto::transfer::PORT_WAIT;
use skiff_proto::{ErrorCode, Instant, Name, Refusal};
use smoltcp::iface::SocketSet;
use smoltcp::wire::IpAddress;

use super::DeviceServer;
use super::lines::{Line, Wanted};
use super::serve::Client;

pub(super) struct Around<'a, 'm, S: Store, const NAME: usize, const BUF: usize> {
    pub(super) client: usize,
    pub(super) owner: IpAddress,
    pub(super) others: [&'a mut [Option<Client<S, NAME, BUF>>]; 2],
    pub(super) lines: &'a mut [Line<S, NAME>],
    pub(super) sockets: &'a mut SocketSet<'m>,
    pub(super) waiting: &'a mut Option<(Instant, Wanted<S, NAME>)>,
    pub(super) takeover: Duration,
    pub(super) now: Instant,
}

impl<S: Store, const NAME: usize, const BUF: usize> Around<'_, '_, S, NAME, BUF> {
    fn line(&mut self, wanted: Wanted<S, NAME>) -> Poll<Result<u16, Refusal>> {
        if self.lines.is_empty() {
            return Poll::Ready(Err(ErrorCode::Unsupported.into()));
        }
        match self.lines.iter_mut().find(|line| line.is_free()) {
            Some(line) => Poll::Ready(Ok(line.offer(self.sockets, self.client, self.owner, wanted, self.now))),
            None => {
                *self.waiting = Some((self.now, wanted));
                Poll::Pending
            }
        }
    }
}

impl<S: Store, const NAME: usize, const BUF: usize> Services<S> for Around<'_, '_, S, NAME, BUF> {
    fn get(&mut self, _: Name<'_>, file: S::File, stat: Stat) -> Poll<Result<u16, Refusal>> {
        self.line(Wanted::Get { file, size: stat.size })
    }

    fn put(&mut self, store: &mut S, name: Name<'_>, stage: S::Stage) -> Poll<Result<u16, Refusal>> {
        // Another one is opened when it is known how much will come.
        store.discard(stage);
        match heapless::Vec::from_slice(name.as_str().as_bytes()) {
            Ok(name) => self.line(Wanted::Put { name }),
            Err(_) => Poll::Ready(Err(ErrorCode::BadName.into())),
        }
    }

    fn take_over(&mut self, name: Name<'_>) -> bool {
        let [before, after] = &mut self.others;
        let mut others = before.iter_mut().chain(after.iter_mut()).flatten();
        let Some(writer) = others.find(|client| client.responder.is_writing(name)) else {
            return false;
        };
        if self.now.since(writer.received) < self.takeover {
            return false;
        }
        writer.responder.close();
        writer.evicted = true;
        true
    }
}

impl<S: Store, const SESSIONS: usize, const DATA: usize, const NAME: usize, const BUF: usize>
    DeviceServer<'_, S, SESSIONS, DATA, NAME, BUF>
{
    /// Gives free data connections to those who have waited longest; refuses those who have waited too long.
    pub(super) fn grant_lines(&mut self, now: Instant, store: &mut S) {
        loop {
            let waiting = self.clients.iter().enumerate().filter_map(|(at, client)| {
                client.as_ref().and_then(|client| client.waiting.as_ref()).map(|(since, _)| (*since, at))
            });
            let Some((since, at)) = waiting.min() else { return };
            let Some(client) = &mut self.clients[at] else { return };
            let free = self.lines.iter_mut().find(|line| line.is_free());
            let overdue = now.since(since) >= PORT_WAIT;
            let answered = match (free, overdue) {
                (Some(line), _) => client.waiting.take().map(|(_, wanted)| {
                    let port = line.offer(&mut self.sockets.set, at, client.peer, wanted, now);
                    client.session.answer(skiff_proto::server::Answer::Port(port))
                }),
                (None, true) => client.waiting.take().map(|_| client.session.refuse(ErrorCode::Busy.into())),
                (None, false) => return,
            };
            debug_assert!(matches!(answered, Some(Ok(()))), "a session that waits has been asked");
            // The answer goes out in this poll.
            let handle = self.seats.get(client.seat).unwrap_or(&self.spare).handle;
            client.fill(self.sockets.set.get_mut(handle), store);
        }
    }
}
