//! A client's turn: from the socket's ring to the session and the store, and back.

use skiff_proto::Instant;
use skiff_proto::responder::{Responder, Step};
use skiff_proto::server::{Close, Limits, ServerSession};
use skiff_proto::store::Store;
use skiff_proto::transfer::PORT_WAIT;
use smoltcp::socket::tcp::{Socket, State};
use smoltcp::wire::IpAddress;

use super::DeviceServer;
use super::lines::Wanted;
use super::neighbors::Around;

/// How often a client may go through all its steps before others have their turn.
const ROUNDS: usize = 4;
/// Events that are carried out in one of them.
const STEPS: usize = 8;

/// Room that is waited for before a length or a reply is begun, so that it goes out in one piece: the original programs
/// misread one that does not (PROTOCOL §3).
const HEADROOM: usize = 32;

/// A session, and what it needs around it.
pub(super) struct Client<S: Store, const NAME: usize, const BUF: usize> {
    pub(super) session: ServerSession<BUF>,
    pub(super) responder: Responder<S>,
    pub(super) peer: IpAddress,
    pub(super) seat: usize,
    /// When something came from it last.
    pub(super) received: Instant,
    /// A `get` or `put` that has to wait for a data connection.
    pub(super) waiting: Option<(Instant, Wanted<S, NAME>)>,
    /// Another writer has taken its place.
    pub(super) evicted: bool,
}

impl<S: Store, const NAME: usize, const BUF: usize> Client<S, NAME, BUF> {
    pub(super) fn new(seat: usize, peer: IpAddress, limits: Limits, now: Instant) -> Self {
        Self {
            session: ServerSession::new(limits),
            responder: Responder::new(),
            peer,
            seat,
            received: now,
            waiting: None,
            evicted: false,
        }
    }

    pub(super) const fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.waiting {
            Some((since, _)) => Some(since.after(PORT_WAIT)),
            None => self.session.poll_timeout(),
        }
    }

    /// Sends what there is; true if something went into the ring.
    pub(super) fn fill(&mut self, socket: &mut Socket<'_>, store: &mut S) -> bool {
        let mut moved = false;
        loop {
            let queued = socket.send_queue();
            let filled = socket.send(|room| {
                let short = room.len() < HEADROOM && queued > 0 && !self.session.is_in_data();
                let n = if short { 0 } else { self.responder.transmit(&mut self.session, store, room) };
                (n, n)
            });
            if !matches!(filled, Ok(1..)) {
                return moved;
            }
            moved = true;
        }
    }

    /// Takes what has come; true if that was something, or if there is now something to be said of it: nothing is taken
    /// of input that breaks the protocol.
    fn drain(&mut self, socket: &mut Socket<'_>, store: &mut S, now: Instant) -> bool {
        let had_output = self.session.has_output();
        let mut moved = false;
        while let Ok(1..) = socket.recv(|input| {
            let n = self.responder.receive(&mut self.session, store, input);
            (n, n)
        }) {
            self.received = now;
            moved = true;
        }
        moved || (!had_output && self.session.has_output())
    }

    /// The connection is gone and nothing can be sent: what was asked for before is still carried out.
    fn discard_output(&mut self, store: &mut S) -> bool {
        let mut moved = false;
        let mut nowhere = [0; 64];
        while !self.session.is_sending() && self.responder.transmit(&mut self.session, store, &mut nowhere) > 0 {
            moved = true;
        }
        moved
    }
}

/// What came of a turn.
enum Turn {
    /// Nothing more to do now.
    Rest,
    /// There is more to do at once.
    Busy,
    /// The connection is to be closed, or is gone.
    End(Option<Close>),
}

impl<S: Store, const SESSIONS: usize, const DATA: usize, const NAME: usize, const BUF: usize>
    DeviceServer<'_, S, SESSIONS, DATA, NAME, BUF>
{
    /// One client's turn; true if there is more to do at once.
    pub(super) fn serve_client(&mut self, at: usize, now: Instant, store: &mut S) -> bool {
        match self.turn(at, now, store) {
            Turn::Rest => false,
            Turn::Busy => true,
            Turn::End(close) => {
                if let Some(mut client) = self.clients[at].take() {
                    // What is staged stays for `resume`.
                    client.responder.close();
                    self.close_seat(client.seat, close, now);
                }
                // Its transfers go on without it.
                self.lines.iter_mut().for_each(|line| line.disown(at));
                true
            }
        }
    }

    fn turn(&mut self, at: usize, now: Instant, store: &mut S) -> Turn {
        let (before, rest) = self.clients.split_at_mut(at);
        let Some((Some(client), after)) = rest.split_first_mut() else {
            return Turn::Rest;
        };
        if client.evicted {
            return Turn::End(Some(Close::Reset));
        }
        let handle = self.seats.get(client.seat).unwrap_or(&self.spare).handle;
        client.session.handle_timeout(now);
        for _ in 0..ROUNDS {
            let mut around = Around {
                client: at,
                owner: client.peer,
                others: [&mut *before, &mut *after],
                lines: &mut self.lines,
                sockets: &mut self.sockets.set,
                waiting: &mut client.waiting,
                takeover: self.rules.takeover,
                now,
            };
            let mut moved = false;
            for _ in 0..STEPS {
                match client.responder.step(&mut client.session, store, &mut around) {
                    Step::Idle | Step::Pending => break,
                    Step::Progress => moved = true,
                }
            }
            let socket = self.sockets.set.get_mut::<Socket<'_>>(handle);
            let gone = socket.state() == State::Closed;
            moved |= if gone { client.discard_output(store) } else { client.fill(socket, store) };
            moved |= client.drain(socket, store, now);
            if let Some(close) = client.session.poll_close() {
                return Turn::End(if gone { None } else { Some(close) });
            }
            if moved {
                continue;
            }
            if client.responder.is_waiting(&client.session) {
                return Turn::Busy;
            }
            if gone {
                return Turn::End(None);
            }
            let ended = matches!(socket.state(), State::CloseWait | State::LastAck | State::Closing | State::TimeWait);
            if ended && !socket.can_recv() {
                client.session.handle_eof();
                if let Some(close) = client.session.poll_close() {
                    return Turn::End(Some(close));
                }
            }
            return Turn::Rest;
        }
        Turn::Busy
    }
}
