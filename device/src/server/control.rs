//! Control sockets: they listen, carry one session, and listen again.
//!
//! | phase | what it waits for | leaves it by |
//! |---|---|---|
//! | `Listening` | an established connection | a session, `Resetting` if all sessions are taken |
//! | `Serving` | the end of the session | `Closing`, `Resetting` |
//! | `Closing` | the peer's FIN | `Listening`, `Resetting` |
//! | `Resetting` | the reset to be sent | `Listening` |

use core::time::Duration;

use skiff_proto::Instant;
use skiff_proto::server::{Close, Limits};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, State};
use smoltcp::wire::IpAddress;

use super::linger::{Ending, Linger, RESET, is_reset, listen};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// The server's state of one control socket.
#[derive(Debug)]
pub struct ControlSocket {
    handle: SocketHandle,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// When the handshake began, if one is in progress.
    Listening(Option<Instant>),
    Serving,
    Closing(Linger),
    Resetting(Instant),
}

impl Default for ControlSocket {
    /// Without a socket.
    fn default() -> Self {
        Self::new(SocketHandle::default())
    }
}

impl ControlSocket {
    const fn new(handle: SocketHandle) -> Self {
        Self { handle, phase: Phase::Listening(None) }
    }

    fn deadline(&self, limits: &Limits) -> Option<Instant> {
        match self.phase {
            Phase::Listening(since) => since.map(|since| since.after(HANDSHAKE)),
            Phase::Serving => None,
            Phase::Closing(linger) => Some(linger.deadline(limits)),
            Phase::Resetting(since) => Some(since.after(RESET)),
        }
    }

    /// Drops the connection without sending anything and listens.
    fn listen(&mut self, sockets: &mut SocketSet<'_>, port: u16) {
        listen(sockets.get_mut(self.handle), port);
        // The set remembers that the last peer could not be found, and would delay the next one by a second.
        let socket = sockets.remove(self.handle);
        *self = Self::new(sockets.add(socket));
    }
}

/// The event on a listening socket.
enum Arrival {
    Nothing,
    /// A handshake that has just begun.
    Begun,
    /// An established connection.
    Established,
    /// A handshake that failed.
    Failed,
}

impl Arrival {
    fn of(socket: &Socket<'_>, since: Option<Instant>, now: Instant) -> Self {
        match (socket.state(), since) {
            (State::Listen, None) => Self::Nothing,
            (State::SynReceived, None) => Self::Begun,
            (State::SynReceived, Some(since)) if now.since(since) < HANDSHAKE => Self::Nothing,
            // The peer may have sent its FIN by now.
            (State::Established | State::CloseWait, _) => Self::Established,
            _ => Self::Failed,
        }
    }
}

/// The result of [`ControlSockets::accept`].
pub(super) enum Accepted {
    Nothing,
    /// A client was refused with a reset, which has to be sent.
    Refused,
    /// A client that gets a session.
    Client(SocketHandle, IpAddress),
}

/// The control sockets of a server: one more than sessions, so that a client can connect while an old connection is
/// still closing.
pub(super) struct ControlSockets<'m> {
    sockets: &'m mut [ControlSocket],
    port: u16,
}

impl<'m> ControlSockets<'m> {
    pub(super) fn new(
        sockets: &'m mut [ControlSocket],
        port: u16,
        handles: impl Iterator<Item = SocketHandle>,
    ) -> Self {
        for (socket, handle) in sockets.iter_mut().zip(handles) {
            *socket = ControlSocket::new(handle);
        }
        Self { sockets, port }
    }

    pub(super) const fn len(&self) -> usize {
        self.sockets.len()
    }

    /// How many sockets listen.
    pub(super) fn listening(&self, set: &SocketSet<'_>) -> usize {
        self.sockets.iter().filter(|socket| set.get::<Socket<'_>>(socket.handle).is_listening()).count()
    }

    /// True if a socket listens.
    pub(super) fn is_listening(&self, set: &SocketSet<'_>) -> bool {
        self.sockets.iter().any(|socket| set.get::<Socket<'_>>(socket.handle).is_listening())
    }

    /// Checks a listening socket after each packet. `free` counts the free sessions, which most packets do not need.
    pub(super) fn accept(
        &mut self,
        at: usize,
        now: Instant,
        set: &mut SocketSet<'_>,
        free: &dyn Fn() -> usize,
    ) -> Accepted {
        let ControlSocket { handle, phase: Phase::Listening(since) } = self.sockets[at] else {
            return Accepted::Nothing;
        };
        match Arrival::of(set.get(handle), since, now) {
            Arrival::Nothing => return Accepted::Nothing,
            Arrival::Begun if self.is_repeated(at, set) => {
                // Now, before it is answered.
                self.sockets[at].listen(set, self.port);
                return Accepted::Nothing;
            }
            Arrival::Begun if self.handshakes() < free() || self.drop_handshake(set) => {
                self.sockets[at].phase = Phase::Listening(Some(now));
                return Accepted::Nothing;
            }
            Arrival::Failed => {
                // Also before the first poll.
                if set.get::<Socket<'_>>(handle).is_listening() {
                    self.sockets[at].phase = Phase::Listening(None);
                } else {
                    self.sockets[at].listen(set, self.port);
                }
                return Accepted::Nothing;
            }
            Arrival::Established => {
                let peer = set.get::<Socket<'_>>(handle).remote_endpoint();
                if let Some(peer) = peer.filter(|_| free() > 0) {
                    self.sockets[at].phase = Phase::Serving;
                    return Accepted::Client(handle, peer.addr);
                }
            }
            Arrival::Begun => {}
        }
        // All sessions are taken.
        set.get_mut::<Socket<'_>>(handle).abort();
        self.sockets[at].phase = Phase::Resetting(now);
        Accepted::Refused
    }

    /// True if the peer of a new handshake already has this very connection, because its SYN was repeated, late or
    /// forged. Two sockets for one connection would take each other's packets and reset it. If a peer has restarted and
    /// uses the same port again, it is accepted once keep-alive has found its old connection dead.
    fn is_repeated(&self, at: usize, set: &SocketSet<'_>) -> bool {
        let socket = |socket: &ControlSocket| set.get::<Socket<'_>>(socket.handle);
        let peer = socket(&self.sockets[at]).remote_endpoint();
        let mut others = self.sockets.iter().enumerate().filter(|(other, _)| *other != at);
        peer.is_some()
            && others
                .any(|(_, other)| socket(other).remote_endpoint() == peer && socket(other).state() != State::Closed)
    }

    /// The number of handshakes in progress.
    fn handshakes(&self) -> usize {
        self.sockets.iter().filter(|socket| matches!(socket.phase, Phase::Listening(Some(_)))).count()
    }

    /// Drops the oldest handshake, so that unfinished handshakes keep no client out; false if there is none.
    fn drop_handshake(&mut self, set: &mut SocketSet<'_>) -> bool {
        let begun = self.sockets.iter_mut().filter_map(|socket| match socket.phase {
            Phase::Listening(Some(since)) => Some((since, socket)),
            _ => None,
        });
        let Some((_, oldest)) = begun.min_by_key(|(since, _)| *since) else { return false };
        oldest.listen(set, self.port);
        true
    }

    /// The session over this socket has ended.
    pub(super) fn close(&mut self, handle: SocketHandle, close: Option<Close>, now: Instant, set: &mut SocketSet<'_>) {
        let socket = set.get_mut::<Socket<'_>>(handle);
        let phase = match close {
            Some(Close::Gracefully) => Phase::Closing(Linger::begin(socket, now)),
            Some(Close::Reset) | None => {
                socket.abort();
                Phase::Resetting(now)
            }
        };
        if let Some(socket) = self.sockets.iter_mut().find(|socket| socket.handle == handle) {
            socket.phase = phase;
        }
    }

    /// Ends closing connections; a socket whose connection is over listens again.
    pub(super) fn end(&mut self, now: Instant, set: &mut SocketSet<'_>, limits: &Limits) {
        let (mut ended, mut yielding) = (None, None);
        let mut is_listening = false;
        for (at, control) in self.sockets.iter_mut().enumerate() {
            let socket = set.get_mut::<Socket<'_>>(control.handle);
            let is_over = match &mut control.phase {
                Phase::Closing(linger) => match linger.step(socket, now, limits) {
                    Ending::Over => true,
                    Ending::Open | Ending::Answering => false,
                    Ending::Ended => {
                        ended = Some(at);
                        false
                    }
                    Ending::Yielding => {
                        yielding = Some(at);
                        false
                    }
                    Ending::Failed => {
                        socket.abort();
                        control.phase = Phase::Resetting(now);
                        false
                    }
                },
                Phase::Resetting(since) => is_reset(socket, *since, now),
                Phase::Listening(_) | Phase::Serving => false,
            };
            is_listening |= is_over || socket.is_listening();
            if is_over {
                control.listen(set, self.port);
            }
        }
        // A new client has priority over a peer that has received everything.
        if let Some(at) = yielding.or(ended).filter(|_| !is_listening) {
            self.sockets[at].listen(set, self.port);
        }
    }

    pub(super) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        self.sockets.iter().filter_map(|socket| socket.deadline(limits)).min()
    }
}
