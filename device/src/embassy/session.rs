//! One session: moves bytes between a socket of embassy-net, the protocol session and the store.

use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use embassy_net::tcp::{State, TcpSocket};
use skiff_proto::responder::{Responder, Services, Step};
use skiff_proto::server::{Close, Limits, ServerSession};
use skiff_proto::store::Store;
use skiff_proto::{Instant, Name};

use super::now;

/// Maximum number of events per turn.
const STEPS: usize = 8;

/// Free space to wait for before writing a length or a reply, so that it is sent in one piece: the original programs
/// misread a split one (PROTOCOL §3).
const HEADROOM: usize = 32;

/// A client's session, and everything that the session has open.
pub(super) struct Session<S: Store, const BUF: usize> {
    session: ServerSession<BUF>,
    responder: Responder<S>,
    /// When bytes last arrived from the client.
    received: Instant,
    /// True if the client has closed its side.
    has_ended: bool,
}

/// The result of a turn.
pub(super) enum Turn {
    /// There is nothing to do now.
    Idle,
    /// There is more to do, but other tasks should run first.
    Busy,
    /// The connection must be closed; `None` if it is lost.
    End(Option<Close>),
}

impl<S: Store, const BUF: usize> Session<S, BUF> {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        let (session, responder) = (ServerSession::new(limits), Responder::new());
        Self { session, responder, received: now, has_ended: false }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.session.poll_timeout()
    }

    pub(super) fn is_writing(&self, name: Name<'_>) -> bool {
        self.responder.is_writing(name)
    }

    pub(super) const fn received(&self) -> Instant {
        self.received
    }

    /// Closes everything that the session has open; staged bytes stay.
    pub(super) fn close(&mut self) {
        self.responder.close();
    }

    pub(super) fn turn(&mut self, socket: &mut TcpSocket<'_>, store: &mut S, services: &mut impl Services<S>) -> Turn {
        self.session.handle_timeout(now());
        let mut moved = false;
        for _ in 0..STEPS {
            if self.responder.step(&mut self.session, store, services) != Step::Progress {
                break;
            }
            moved = true;
        }
        let is_lost = socket.state() == State::Closed;
        moved |=
            if is_lost { self.responder.discard_output(&mut self.session, store) } else { self.send(socket, store) };
        moved |= self.receive(socket, store);
        store.settle();
        if let Some(close) = self.session.poll_close() {
            return Turn::End(Some(close).filter(|_| !is_lost));
        }
        if moved || self.responder.is_waiting(&self.session) {
            // More input may be waiting; that is not known here.
            store.flush();
            return Turn::Busy;
        }
        if is_lost {
            return Turn::End(None);
        }
        if !self.has_ended && !socket.may_recv() && !socket.can_recv() {
            self.has_ended = true;
            self.session.handle_eof();
            return Turn::Busy;
        }
        Turn::Idle
    }

    /// Writes all pending output; true if there was any.
    fn send(&mut self, socket: &mut TcpSocket<'_>, store: &mut S) -> bool {
        let mut moved = false;
        while socket.can_send() {
            let queued = socket.send_queue();
            let sent = at_once(socket.write_with(|room| {
                let is_short = room.len() < HEADROOM && queued > 0 && !self.session.is_in_data();
                let n = if is_short { 0 } else { self.responder.transmit(&mut self.session, store, room) };
                (n, n)
            }));
            if !matches!(sent, Some(Ok(1..))) {
                break;
            }
            moved = true;
        }
        moved
    }

    /// Handles input. True if there was any, or if there is a reply to send: input that breaks the protocol is not
    /// consumed but causes a reply.
    fn receive(&mut self, socket: &mut TcpSocket<'_>, store: &mut S) -> bool {
        let had_output = self.session.has_output();
        let mut moved = false;
        while socket.can_recv() {
            let taken = at_once(socket.read_with(|input| {
                let n = self.responder.receive(&mut self.session, store, input);
                (n, n)
            }));
            if !matches!(taken, Some(Ok(1..))) {
                break;
            }
            self.received = now();
            moved = true;
        }
        moved || (!had_output && self.session.has_output())
    }
}

/// The result of a future if it is ready at once.
fn at_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
