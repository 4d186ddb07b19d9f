//! Sessions: move bytes between a control socket, the protocol session and the store.

use skiff_proto::Instant;
#[cfg(feature = "secure")]
use skiff_proto::cipher::Guard as _;
use skiff_proto::responder::{Responder, Services, Step};
use skiff_proto::server::{Close, Limits, ServerSession};
use skiff_proto::store::Store;
use skiff_proto::transfer::PORT_WAIT;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, State};
use smoltcp::wire::IpAddress;

use super::protect::Cipher;
use super::transfer::TransferRequest;

/// Events that are handled in one round.
const STEPS: usize = 8;

/// The room to wait for before a length or a reply is written, so that it is sent in one piece: the original programs
/// misread a split one (PROTOCOL §3).
const HEADROOM: usize = 32;

/// A client, its session, and everything that the session has open.
pub struct Session<S: Store, const NAME: usize, const BUF: usize> {
    pub(super) stream: Stream<S, BUF>,
    pub(super) peer: IpAddress,
    /// A `get` or `put` that is waiting for a data connection, and since when.
    pub(super) waiting: Option<(Instant, TransferRequest<S, NAME>)>,
    /// Another writer has taken over the name that this one was writing.
    pub(super) is_evicted: bool,
}

/// A protocol session over a control socket.
pub(super) struct Stream<S: Store, const BUF: usize> {
    pub(super) session: ServerSession<BUF, Cipher>,
    pub(super) responder: Responder<S>,
    pub(super) handle: SocketHandle,
    /// When bytes last arrived from the client.
    pub(super) received: Instant,
}

impl<S: Store, const NAME: usize, const BUF: usize> Session<S, NAME, BUF> {
    pub(super) fn new(handle: SocketHandle, peer: IpAddress, limits: Limits, now: Instant) -> Self {
        let (session, responder) = (ServerSession::new(limits), Responder::new());
        Self { stream: Stream { session, responder, handle, received: now }, peer, waiting: None, is_evicted: false }
    }

    /// True if the client still has to show a key. Such a session yields to the next client that needs one.
    pub(super) fn is_stranger(&self) -> bool {
        cfg!(feature = "secure") && self.stream.session.guard().is_some() && self.stream.session.client().is_none()
    }

    /// True if the client has shown an invalid key.
    #[cfg(feature = "secure")]
    pub(super) fn has_failed(&self) -> bool {
        self.is_stranger() && self.handshake_deadline().is_none()
    }

    /// The deadline of the handshake. `None`: it is complete, or has failed.
    #[cfg(feature = "secure")]
    pub(super) fn handshake_deadline(&self) -> Option<Instant> {
        self.stream.session.guard()?.deadline()
    }

    pub(super) const fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.waiting {
            Some((since, _)) => Some(since.after(PORT_WAIT)),
            None => self.stream.session.poll_timeout(),
        }
    }
}

/// The result of a turn.
pub(super) enum Turn {
    /// There is nothing more to do now.
    Idle,
    /// There is more to do at once.
    Busy,
    /// The connection is to be closed; `None` if it is lost.
    End(Option<Close>),
}

impl<S: Store, const BUF: usize> Stream<S, BUF> {
    /// Writes all pending output; true if there was any. `record`: memory for a record and its length.
    pub(super) fn send(&mut self, socket: &mut Socket<'_>, store: &mut S, record: &mut [u8]) -> bool {
        #[cfg(feature = "secure")]
        if self.session.client().is_some() {
            return self.send_records(socket, store, record);
        }
        _ = record;
        let mut moved = false;
        loop {
            let queued = socket.send_queue();
            let sent = socket.send(|room| {
                let is_short = room.len() < HEADROOM && queued > 0 && !self.session.is_in_data();
                let n = if is_short { 0 } else { self.responder.transmit(&mut self.session, store, room) };
                (n, n)
            });
            if !matches!(sent, Ok(1..)) {
                return moved;
            }
            moved = true;
        }
    }

    /// The same on a protected connection. Records are sealed in `record` and copied, because a record may wrap around
    /// the end of the socket buffer; otherwise the room before the end would cause small records.
    #[cfg(feature = "secure")]
    fn send_records(&mut self, socket: &mut Socket<'_>, store: &mut S, record: &mut [u8]) -> bool {
        let mut moved = false;
        loop {
            let queued = socket.send_queue();
            let room = record.len().min(socket.send_capacity() - queued);
            let n = if room == record.len() || queued == 0 {
                self.responder.transmit(&mut self.session, store, &mut record[..room])
            } else {
                // Payload waits for the room of a whole record.
                self.session.poll_transmit(&mut record[..room])
            };
            // It fits. A connection that no longer sends is lost.
            if n == 0 || socket.send_slice(&record[..n]).is_err() {
                return moved;
            }
            moved = true;
        }
    }

    /// Handles input; true if there was any, or if there is now a reply to send, because input that breaks the protocol
    /// is not consumed.
    fn receive(&mut self, socket: &mut Socket<'_>, store: &mut S, now: Instant, record: &mut [u8]) -> bool {
        let had_output = self.session.has_output();
        let mut moved = false;
        loop {
            let taken = socket.recv(|input| {
                let n = self.responder.receive(&mut self.session, store, input);
                (n, n)
            });
            if !matches!(taken, Ok(1..)) && !self.receive_record(socket, store, record) {
                break;
            }
            self.received = now;
            moved = true;
        }
        moved || (!had_output && self.session.has_output())
    }

    /// Handles a received record that wraps around the end of the socket buffer; true if there was one.
    fn receive_record(&mut self, socket: &mut Socket<'_>, store: &mut S, record: &mut [u8]) -> bool {
        if cfg!(not(feature = "secure")) || self.session.client().is_none() {
            return false;
        }
        let len = self.session.want_read();
        if len == 0 || len > socket.recv_queue() || len > record.len() {
            return false;
        }
        let len = socket.peek_slice(&mut record[..len]).unwrap_or(0);
        let mut taken = self.responder.receive(&mut self.session, store, &mut record[..len]);
        let has_taken = taken > 0;
        while taken > 0 {
            let dropped = socket.recv(|input| {
                let n = taken.min(input.len());
                (n, n)
            });
            match dropped {
                Ok(n @ 1..) => taken -= n,
                _ => break,
            }
        }
        has_taken
    }

    /// Handles some events; true if there were any.
    pub(super) fn step(&mut self, store: &mut S, services: &mut impl Services<S>) -> bool {
        let mut moved = false;
        for _ in 0..STEPS {
            if self.responder.step(&mut self.session, store, services) != Step::Progress {
                break;
            }
            moved = true;
        }
        moved
    }

    /// Sends and receives; `None` if events may follow. `stepped`: [`Self::step`] has handled events before.
    pub(super) fn exchange(
        &mut self,
        socket: &mut Socket<'_>,
        store: &mut S,
        now: Instant,
        stepped: bool,
        record: &mut [u8],
    ) -> Option<Turn> {
        let is_lost = socket.state() == State::Closed;
        let mut moved = if is_lost {
            self.responder.discard_output(&mut self.session, store)
        } else {
            self.send(socket, store, record)
        };
        moved |= self.receive(socket, store, now, record);
        if let Some(close) = self.session.poll_close() {
            return Some(Turn::End(Some(close).filter(|_| !is_lost)));
        }
        if moved || stepped {
            return None;
        }
        if self.responder.is_waiting(&self.session) {
            return Some(Turn::Busy);
        }
        if is_lost {
            return Some(Turn::End(None));
        }
        let has_ended = matches!(socket.state(), State::CloseWait | State::LastAck | State::Closing | State::TimeWait);
        if has_ended && !socket.can_recv() {
            self.session.handle_eof();
            if let Some(close) = self.session.poll_close() {
                return Some(Turn::End(Some(close)));
            }
        }
        Some(Turn::Idle)
    }
}
