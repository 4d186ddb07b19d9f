//! Data sockets: each carries one classic transfer at a time (PROTOCOL §3).
//!
//! | phase | what it waits for | leaves it by |
//! |---|---|---|
//! | `Free` | a `get` or `put` | `Offered` |
//! | `Offered` | a connection from the client | `Busy`, `Free` if none comes |
//! | `Busy` | the end of the transfer | `Closing`, `Resetting` |
//! | `Closing` | the peer's FIN | `Free`, `Resetting` |
//! | `Resetting` | the reset to be sent | `Free` |

use skiff_proto::Instant;
use skiff_proto::server::Limits;
use skiff_proto::store::Store;
use skiff_proto::transfer::port_lifetime;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, State};
use smoltcp::wire::IpAddress;

use super::linger::{Ending, Linger, RESET, is_reset, listen};
use super::transfer::{Moved, Transfer, TransferRequest};

/// The server's state of one data socket.
pub struct DataSocket<S: Store, const NAME: usize> {
    handle: SocketHandle,
    port: u16,
    /// The session that requested the transfer, while it exists: the transfer counts as its progress.
    session: Option<u8>,
    phase: Phase<S, NAME>,
}

enum Phase<S: Store, const NAME: usize> {
    Free,
    Offered { client: IpAddress, since: Instant, request: TransferRequest<S, NAME> },
    Busy(Transfer<S, NAME>),
    Closing(Linger),
    Resetting(Instant),
}

impl<S: Store, const NAME: usize> Default for DataSocket<S, NAME> {
    /// Without a socket.
    fn default() -> Self {
        Self { handle: SocketHandle::default(), port: 0, session: None, phase: Phase::Free }
    }
}

impl<S: Store, const NAME: usize> DataSocket<S, NAME> {
    const fn is_free(&self) -> bool {
        matches!(self.phase, Phase::Free)
    }

    /// Listens for `client`; returns the port.
    pub(super) fn offer(
        &mut self,
        set: &mut SocketSet<'_>,
        session: usize,
        client: IpAddress,
        request: TransferRequest<S, NAME>,
        now: Instant,
    ) -> u16 {
        listen(set.get_mut(self.handle), self.port);
        self.session = u8::try_from(session).ok();
        self.phase = Phase::Offered { client, since: now, request };
        self.port
    }

    fn deadline(&self, in_demand: bool, limits: &Limits) -> Option<Instant> {
        match &self.phase {
            Phase::Free => None,
            Phase::Offered { since, .. } => Some(since.after(port_lifetime(in_demand))),
            Phase::Busy(transfer) => Some(transfer.deadline()),
            Phase::Closing(linger) => Some(linger.deadline(limits)),
            Phase::Resetting(since) => Some(since.after(RESET)),
        }
    }

    fn release(&mut self, socket: &mut Socket<'_>) {
        listen(socket, self.port);
        socket.close();
        self.phase = Phase::Free;
        self.session = None;
    }

    fn reset(&mut self, socket: &mut Socket<'_>, now: Instant) {
        socket.abort();
        self.phase = Phase::Resetting(now);
    }
}

/// What the data sockets did in a turn.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// There is more to do at once.
    pub(super) is_busy: bool,
    pub(super) done: u32,
    pub(super) failed: u32,
}

/// The data sockets of a server.
pub(super) struct DataSockets<'m, S: Store, const NAME: usize>(&'m mut [DataSocket<S, NAME>]);

impl<'m, S: Store, const NAME: usize> DataSockets<'m, S, NAME> {
    /// One data socket for each of `ports`.
    pub(super) fn new(
        sockets: &'m mut [DataSocket<S, NAME>],
        ports: &[u16],
        handles: impl Iterator<Item = SocketHandle>,
    ) -> Self {
        for ((socket, port), handle) in sockets.iter_mut().zip(ports).zip(handles) {
            *socket = DataSocket { handle, port: *port, session: None, phase: Phase::Free };
        }
        Self(sockets)
    }

    /// The data sockets: without the feature `classic` there are none, and no code for them.
    const fn all(&self) -> &[DataSocket<S, NAME>] {
        if cfg!(feature = "classic") { self.0 } else { &[] }
    }

    const fn all_mut(&mut self) -> &mut [DataSocket<S, NAME>] {
        if cfg!(feature = "classic") { self.0 } else { &mut [] }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// Closes everything that transfers have open.
    pub(super) fn clear(&mut self) {
        self.all_mut().fill_with(DataSocket::default);
    }

    /// How many are announced or in use.
    pub(super) fn taken(&self) -> usize {
        self.all().iter().filter(|socket| !socket.is_free()).count()
    }

    pub(super) fn free(&mut self) -> Option<&mut DataSocket<S, NAME>> {
        self.all_mut().iter_mut().find(|socket| socket.is_free())
    }

    /// True if a transfer has lost its connection.
    pub(super) fn has_lost(&self, set: &SocketSet<'_>) -> bool {
        let mut busy = self.all().iter().filter(|socket| matches!(socket.phase, Phase::Busy(_)));
        busy.any(|socket| set.get::<Socket<'_>>(socket.handle).state() == State::Closed)
    }

    /// A session has ended: its transfers continue without it.
    pub(super) fn disown(&mut self, session: usize) {
        for socket in self.all_mut() {
            if socket.session.map(usize::from) == Some(session) {
                socket.session = None;
            }
        }
    }

    /// Checks who has connected, after each packet: a connection counts as the client's even if the next packet resets
    /// it. Returns how many others were refused with a reset; then [`Self::listen`] opens the port again.
    pub(super) fn accept(&mut self, set: &mut SocketSet<'_>, limits: &Limits) -> u32 {
        let mut refused = 0;
        for data in self.all_mut() {
            let Phase::Offered { client, .. } = &data.phase else { continue };
            let socket = set.get_mut::<Socket<'_>>(data.handle);
            if socket.state() != State::Closed && socket.remote_endpoint().is_some_and(|peer| peer.addr != *client) {
                socket.abort();
                refused += 1;
            } else if matches!(socket.state(), State::Established | State::CloseWait)
                && let Phase::Offered { request, .. } = core::mem::replace(&mut data.phase, Phase::Free)
            {
                data.phase = Phase::Busy(Transfer::new(request, limits.idle, limits.min_rate));
            }
        }
        refused
    }

    /// Reopens ports whose handshake failed or was refused, once the reset has been sent.
    pub(super) fn listen(&mut self, set: &mut SocketSet<'_>) {
        for data in self.all_mut() {
            let socket = set.get_mut::<Socket<'_>>(data.handle);
            if matches!(data.phase, Phase::Offered { .. }) && socket.state() == State::Closed {
                listen(socket, data.port);
            }
        }
    }

    /// Gives each transfer its turn. `progress` is called with each session whose transfer has moved bytes.
    pub(super) fn serve(
        &mut self,
        set: &mut SocketSet<'_>,
        now: Instant,
        store: &mut S,
        limits: &Limits,
        in_demand: bool,
        mut progress: impl FnMut(usize),
    ) -> Served {
        let mut served = Served::default();
        for data in self.all_mut() {
            let socket = set.get_mut::<Socket<'_>>(data.handle);
            match &mut data.phase {
                Phase::Free => {}
                Phase::Offered { since, .. } => {
                    if now.since(*since) >= port_lifetime(in_demand) {
                        data.release(socket);
                    }
                }
                Phase::Busy(transfer) => {
                    let moved = transfer.step(socket, store, now);
                    if moved != Moved::Nothing
                        && let Some(session) = data.session
                    {
                        progress(session.into());
                    }
                    match moved {
                        Moved::Nothing | Moved::Some => {}
                        Moved::More => served.is_busy = true,
                        Moved::Done => {
                            served.done += 1;
                            data.phase = Phase::Closing(Linger::begin(socket, now));
                        }
                        Moved::Failed => {
                            served.failed += 1;
                            data.reset(socket, now);
                            // The reset goes out in this poll, so the socket is free in the next.
                            served.is_busy = true;
                        }
                    }
                }
                Phase::Closing(linger) => match linger.step(socket, now, limits) {
                    Ending::Over => data.release(socket),
                    Ending::Yielding if in_demand => data.release(socket),
                    Ending::Open | Ending::Ended | Ending::Yielding => {}
                    // The socket is free in the next poll.
                    Ending::Answering => served.is_busy = true,
                    Ending::Failed => {
                        data.reset(socket, now);
                        served.is_busy = true;
                    }
                },
                Phase::Resetting(since) => {
                    if is_reset(socket, *since, now) {
                        data.release(socket);
                    }
                }
            }
        }
        served
    }

    pub(super) fn deadline(&self, in_demand: bool, limits: &Limits) -> Option<Instant> {
        self.all().iter().filter_map(|socket| socket.deadline(in_demand, limits)).min()
    }
}
