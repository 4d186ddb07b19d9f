//! Lines: the sockets of classic data connections (PROTOCOL §3).
//!
//! | phase | what it waits for | leaves it by |
//! |---|---|---|
//! | `Free` | a `get` or `put` | `Offered` |
//! | `Offered` | the owner's connection | `Busy`, `Free` if it does not come |
//! | `Busy` | the end of the transfer | `Closing`, `Resetting` |
//! | `Closing` | the peer's end | `Free`, `Resetting` |
//! | `Resetting` | the reset to go out | `Free` |

use heapless::Vec;
use skiff_proto::Instant;
use skiff_proto::server::Limits;
use skiff_proto::store::Store;
use skiff_proto::transfer::port_lifetime;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, State};
use smoltcp::wire::IpAddress;

use super::DeviceServer;
use super::linger::{Ending, Linger, RESET, is_reset, silence};
use super::serve::Client;
use super::transfer::{Moved, Transfer};

/// What a data connection is for.
pub(super) enum Wanted<S: Store, const NAME: usize> {
    Get { file: S::File, size: u64 },
    Put { name: Vec<u8, NAME, u8> },
}

/// The socket of a data connection.
pub(super) struct Line<S: Store, const NAME: usize> {
    handle: SocketHandle,
    port: u16,
    /// The client whose clock goes on with it, while there is one.
    client: Option<u8>,
    phase: Phase<S, NAME>,
}

enum Phase<S: Store, const NAME: usize> {
    Free,
    Offered { owner: IpAddress, since: Instant, wanted: Wanted<S, NAME> },
    Busy(Transfer<S, NAME>),
    Closing(Linger),
    Resetting(Instant),
}

impl<S: Store, const NAME: usize> Line<S, NAME> {
    pub(super) const fn new(handle: SocketHandle, port: u16) -> Self {
        Self { handle, port, client: None, phase: Phase::Free }
    }

    pub(super) const fn is_free(&self) -> bool {
        matches!(self.phase, Phase::Free)
    }

    pub(super) const fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Busy(_))
    }

    pub(super) const fn handle(&self) -> SocketHandle {
        self.handle
    }

    /// The control connection has ended.
    pub(super) fn disown(&mut self, client: usize) {
        if self.client.map(usize::from) == Some(client) {
            self.client = None;
        }
    }

    /// Listens for `owner`; the port to be announced.
    pub(super) fn offer(
        &mut self,
        sockets: &mut SocketSet<'_>,
        client: usize,
        owner: IpAddress,
        wanted: Wanted<S, NAME>,
        now: Instant,
    ) -> u16 {
        let socket = sockets.get_mut::<Socket<'_>>(self.handle);
        silence(socket, self.port);
        _ = socket.listen(self.port);
        self.client = u8::try_from(client).ok();
        self.phase = Phase::Offered { owner, since: now, wanted };
        self.port
    }

    pub(super) fn deadline(&self, wanted: bool, limits: &Limits) -> Option<Instant> {
        match &self.phase {
            Phase::Free => None,
            Phase::Offered { since, .. } => Some(since.after(port_lifetime(wanted))),
            Phase::Busy(transfer) => Some(transfer.deadline()),
            Phase::Closing(linger) => Some(linger.deadline(limits)),
            Phase::Resetting(since) => Some(since.after(RESET)),
        }
    }

    fn release(&mut self, socket: &mut Socket<'_>) {
        silence(socket, self.port);
        self.phase = Phase::Free;
        self.client = None;
    }

    fn reset(&mut self, socket: &mut Socket<'_>, now: Instant) {
        socket.abort();
        self.phase = Phase::Resetting(now);
    }
}

impl<S: Store, const SESSIONS: usize, const DATA: usize, const NAME: usize, const BUF: usize>
    DeviceServer<'_, S, SESSIONS, DATA, NAME, BUF>
{
    /// Looks at who has come, after each packet: the owner's connection is his even if he resets it with the next one, and strangers
    /// are thrown off; true if there was one. [`Self::end_refusals`] then lets the port listen again.
    pub(super) fn screen_lines(&mut self) -> bool {
        let limits = self.rules.limits;
        let mut refused = false;
        for line in &mut self.lines {
            let socket = self.sockets.set.get_mut::<Socket<'_>>(line.handle);
            let Phase::Offered { owner, .. } = &line.phase else { continue };
            let is_stranger =
                socket.remote_endpoint().is_some_and(|peer| peer.addr != *owner) && socket.state() != State::Closed;
            if is_stranger {
                socket.abort();
                self.counts.strangers = self.counts.strangers.wrapping_add(1);
                refused = true;
            } else if matches!(socket.state(), State::Established | State::CloseWait)
                && let Phase::Offered { wanted, .. } = core::mem::replace(&mut line.phase, Phase::Free)
            {
                line.phase = Phase::Busy(Transfer::new(wanted, limits.idle, limits.min_rate));
            }
        }
        refused
    }

    /// The resets of strangers have gone out, if they could: their ports listen for the owner again.
    pub(super) fn end_refusals(&mut self) {
        for line in &mut self.lines {
            let socket = self.sockets.set.get_mut::<Socket<'_>>(line.handle);
            if matches!(line.phase, Phase::Offered { .. }) && socket.state() == State::Closed {
                silence(socket, line.port);
                _ = socket.listen(line.port);
            }
        }
    }

    /// Moves all transfers on; true if there is more to do at once.
    pub(super) fn serve_lines(&mut self, now: Instant, store: &mut S) -> bool {
        let wanted = self.clients.iter().flatten().any(Client::is_waiting);
        let limits = self.rules.limits;
        let mut busy = false;
        for line in &mut self.lines {
            let socket = self.sockets.set.get_mut::<Socket<'_>>(line.handle);
            if let Phase::Offered { since, .. } = &line.phase {
                if now.since(*since) >= port_lifetime(wanted) {
                    line.release(socket);
                } else if socket.state() == State::Closed {
                    // The handshake came to nothing.
                    silence(socket, line.port);
                    _ = socket.listen(line.port);
                }
            }
            match &mut line.phase {
                Phase::Free | Phase::Offered { .. } => {}
                Phase::Busy(transfer) => {
                    let moved = transfer.step(socket, store, now);
                    if moved != Moved::Nothing
                        && let Some(Some(client)) = line.client.and_then(|at| self.clients.get_mut(usize::from(at)))
                    {
                        client.session.handle_progress(now);
                    }
                    match moved {
                        Moved::Nothing | Moved::Some => {}
                        Moved::More => busy = true,
                        Moved::Done => {
                            self.counts.transfers = self.counts.transfers.wrapping_add(1);
                            line.phase = Phase::Closing(Linger::begin(socket, now));
                        }
                        Moved::Failed => {
                            self.counts.failures = self.counts.failures.wrapping_add(1);
                            line.reset(socket, now);
                            // The reset goes out in this poll, so the line is free in the next.
                            busy = true;
                        }
                    }
                }
                Phase::Closing(linger) => match linger.step(socket, now, &limits) {
                    Ending::Over => line.release(socket),
                    Ending::Yielding if wanted => line.release(socket),
                    Ending::Open | Ending::Ended | Ending::Yielding => {}
                    // The line is free in the next poll.
                    Ending::Answering => busy = true,
                    Ending::Failed => {
                        line.reset(socket, now);
                        busy = true;
                    }
                },
                Phase::Resetting(since) => {
                    if is_reset(socket, *since, now) {
                        line.release(socket);
                    }
                }
            }
        }
        busy
    }
}
