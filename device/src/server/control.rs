//! Seats: the sockets of control connections.
//!
//! | phase | what it waits for | leaves it by |
//! |---|---|---|
//! | `Listening` | a connection that is up | a client, `Resetting` if there is no room for one |
//! | `Serving` | the end of the session | `Closing`, `Resetting` |
//! | `Closing` | the peer's end | `Listening`, `Resetting` |
//! | `Resetting` | the reset to go out | `Listening` |

use core::time::Duration;

use skiff_proto::Instant;
use skiff_proto::server::{Close, Limits};
use skiff_proto::store::Store;
use smoltcp::iface::SocketHandle;
use smoltcp::phy::Device;
use smoltcp::socket::tcp::{Socket, State};

use super::lines::Line;
use super::linger::{Ending, Linger, RESET, is_reset, silence};
use super::serve::Client;
use super::{DeviceServer, net};

/// How long a handshake may take.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(5);

/// The socket of a control connection.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) handle: SocketHandle,
    pub(super) phase: Phase,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Phase {
    /// Since when the handshake is under way.
    Listening(Option<Instant>),
    Serving,
    Closing(Linger),
    Resetting(Instant),
}

impl Seat {
    pub(super) const fn new(handle: SocketHandle) -> Self {
        Self { handle, phase: Phase::Listening(None) }
    }

    pub(super) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        match self.phase {
            Phase::Listening(since) => since.map(|since| since.after(HANDSHAKE)),
            Phase::Serving => None,
            Phase::Closing(linger) => Some(linger.deadline(limits)),
            Phase::Resetting(since) => Some(since.after(RESET)),
        }
    }

    fn reset(&mut self, socket: &mut Socket<'_>, now: Instant) {
        socket.abort();
        self.phase = Phase::Resetting(now);
    }
}

/// What a listening seat has got.
enum Arrival {
    Nobody,
    /// A handshake that has just begun.
    Begun,
    /// A connection that is up.
    Up,
    /// A handshake that came to nothing.
    Lost,
}

impl Arrival {
    fn of(socket: &Socket<'_>, since: Option<Instant>, now: Instant) -> Self {
        match (socket.state(), since) {
            (State::Listen, None) => Self::Nobody,
            (State::SynReceived, None) => Self::Begun,
            (State::SynReceived, Some(since)) if now.since(since) < HANDSHAKE => Self::Nobody,
            // The peer may have ended its side by now.
            (State::Established | State::CloseWait, _) => Self::Up,
            _ => Self::Lost,
        }
    }
}

impl<S: Store, const SESSIONS: usize, const DATA: usize, const NAME: usize, const BUF: usize>
    DeviceServer<'_, S, SESSIONS, DATA, NAME, BUF>
{
    /// Looks at who has come, after each packet: gives clients their session, refuses those who are too many, and strangers
    /// on data ports, before the next packet finds nobody listening.
    pub(super) fn screen<D: Device + ?Sized>(&mut self, now: Instant, device: &mut D) {
        let mut refused = false;
        for at in 0..=SESSIONS {
            refused |= self.screen_seat(at, now);
        }
        refused |= self.screen_lines();
        if refused || !self.is_listening() {
            // A reset has to go out before its socket can listen again, and so has the answer to a peer's end.
            self.end_seats(now);
            self.net.send(net::time(now), device, &mut self.sockets.set);
            self.end_seats(now);
            self.end_refusals();
        }
    }

    fn is_listening(&self) -> bool {
        self.seats.iter().chain([&self.spare]).any(|seat| self.socket(seat.handle).is_listening())
    }

    fn seat(&mut self, at: usize) -> &mut Seat {
        self.seats.get_mut(at).unwrap_or(&mut self.spare)
    }

    /// Lets a seat forget what it was doing, without a word to anybody.
    fn listen(&mut self, at: usize) {
        let port = self.rules.port;
        let handle = self.seat(at).handle;
        let socket = self.sockets.set.get_mut::<Socket<'_>>(handle);
        silence(socket, port);
        _ = socket.listen(port);
        // The stack remembers of a socket's place that its peer can't be found, and would keep the next one waiting for a second.
        let socket = self.sockets.set.remove(handle);
        let handle = self.sockets.set.add(socket);
        *self.seat(at) = Seat::new(handle);
    }

    /// True if the peer of a handshake that has just begun has this very connection already: its SYN has come twice, late or
    /// forged. Two sockets of one connection would take each other's packets and reset it. A peer that has started anew and
    /// uses the same port again is let in once its old connection has been asked whether it is still there.
    fn is_repeated(&self, at: usize) -> bool {
        let peer = |seat: &Seat| self.socket(seat.handle).remote_endpoint();
        let seats = || self.seats.iter().chain([&self.spare]);
        let new = seats().nth(at).and_then(peer);
        new.is_some()
            && seats().enumerate().any(|(other, seat)| {
                other != at && peer(seat) == new && self.socket(seat.handle).state() != State::Closed
            })
    }

    /// Gives up the handshake that has waited longest, so that those whom nobody finishes keep nobody out; false if there is
    /// none.
    fn drop_handshake(&mut self) -> bool {
        let seats = self.seats.iter().chain([&self.spare]).enumerate();
        let begun = seats.filter_map(|(at, seat)| match seat.phase {
            Phase::Listening(Some(since)) => Some((since, at)),
            _ => None,
        });
        let Some((_, oldest)) = begun.min() else { return false };
        self.listen(oldest);
        true
    }

    /// Sessions that are taken, or will be when a handshake is through.
    fn taken(&self) -> usize {
        let seats = self.seats.iter().chain([&self.spare]);
        let begun = seats.filter(|seat| matches!(seat.phase, Phase::Listening(Some(_)))).count();
        begun + self.clients.iter().flatten().count()
    }

    /// True if somebody was refused.
    fn screen_seat(&mut self, at: usize, now: Instant) -> bool {
        let Seat { handle, phase: Phase::Listening(since) } = *self.seat(at) else {
            return false;
        };
        match Arrival::of(self.socket(handle), since, now) {
            Arrival::Nobody => return false,
            Arrival::Begun if self.is_repeated(at) => {
                // Now, before it is answered.
                self.listen(at);
                return false;
            }
            Arrival::Begun if self.taken() < SESSIONS || self.drop_handshake() => {
                self.seat(at).phase = Phase::Listening(Some(now));
                return false;
            }
            Arrival::Lost => {
                // Also the first time.
                if !self.socket(handle).is_listening() {
                    self.listen(at);
                }
                self.seat(at).phase = Phase::Listening(None);
                return false;
            }
            Arrival::Up => {
                let free = self.clients.iter().position(Option::is_none);
                if let (Some(free), Some(peer)) = (free, self.socket(handle).remote_endpoint()) {
                    self.clients[free] = Some(Client::new(at, peer.addr, self.rules.limits, now));
                    self.seat(at).phase = Phase::Serving;
                    self.counts.accepted = self.counts.accepted.wrapping_add(1);
                    return false;
                }
            }
            Arrival::Begun => {}
        }
        // All sessions are taken.
        self.sockets.set.get_mut::<Socket<'_>>(handle).abort();
        self.seat(at).phase = Phase::Resetting(now);
        self.counts.refused = self.counts.refused.wrapping_add(1);
        true
    }

    /// The session of a seat has ended.
    pub(super) fn close_seat(&mut self, at: usize, close: Option<Close>, now: Instant) {
        let handle = self.seat(at).handle;
        let socket = self.sockets.set.get_mut::<Socket<'_>>(handle);
        let phase = match close {
            Some(Close::Gracefully) => Phase::Closing(Linger::begin(socket, now)),
            Some(Close::Reset) | None => {
                socket.abort();
                Phase::Resetting(now)
            }
        };
        self.seat(at).phase = phase;
    }

    /// True if there is a session or a transfer whose connection is gone, which is to be looked at.
    pub(super) fn has_lost(&self) -> bool {
        let seats = self.seats.iter().chain([&self.spare]).filter(|seat| matches!(seat.phase, Phase::Serving));
        let lines = self.lines.iter().filter(|line| line.is_busy());
        let mut handles = seats.map(|seat| seat.handle).chain(lines.map(Line::handle));
        handles.any(|handle| self.socket(handle).state() == State::Closed)
    }

    /// Brings connections to their end; what has ended listens again.
    pub(super) fn end_seats(&mut self, now: Instant) {
        let limits = self.rules.limits;
        let (mut ended, mut yielding) = (None, None);
        let mut listening = false;
        for at in 0..=SESSIONS {
            let seat = self.seats.get_mut(at).unwrap_or(&mut self.spare);
            let socket = self.sockets.set.get_mut::<Socket<'_>>(seat.handle);
            let over = match &mut seat.phase {
                Phase::Closing(linger) => match linger.step(socket, now, &limits) {
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
                        seat.reset(socket, now);
                        false
                    }
                },
                Phase::Resetting(since) => is_reset(socket, *since, now),
                Phase::Listening(_) | Phase::Serving => false,
            };
            let listens = socket.is_listening();
            if over {
                self.listen(at);
            }
            listening |= over || listens;
        }
        // Whoever comes next is worth more than a peer that has everything already.
        if let Some(at) = yielding.or(ended).filter(|_| !listening) {
            self.listen(at);
        }
    }
}
