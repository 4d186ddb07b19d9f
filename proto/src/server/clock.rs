//! Timeouts: a peer that makes no progress, or too little.

use core::time::Duration;

use super::{Close, Limits, Parked, ServerSession, State};
use crate::cipher::{Cipher, Guard};
use crate::error::ErrorCode;
use crate::reply::Reply;
use crate::time::{Instant, MinRate};

impl<C: Cipher> Parked<C> {
    /// When the session, with these limits, has to be [resumed](ServerSession::resume) to check its timeouts, if no
    /// input arrives before.
    #[must_use]
    pub fn poll_timeout(&self, limits: &Limits) -> Instant {
        self.clock.next(limits.idle, None)
    }
}

impl<const BUF: usize, C: Cipher> ServerSession<BUF, C> {
    /// Sets the session's time. Call it first in every iteration of the driver's loop, so that progress is recorded at
    /// the right time.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clock.tick(now);
        if self.is_working() {
            self.clock.restart();
            return;
        }
        let late = self.deadline().is_some_and(|deadline| deadline <= now);
        let (idle, rate) = self.patience();
        // A session that closes gracefully continues to do so, however often this is called.
        if self.poll_close().is_some() || !(self.clock.is_expired(idle, rate) || late) {
            return;
        }
        self.state = match self.state {
            State::Receiving { .. } => {
                self.reply = Some(Reply::Error(ErrorCode::Timeout.into()));
                self.clock.restart();
                State::Closed(Close::Gracefully)
            }
            // A peer that does not read gets no more time for it.
            State::Length | State::Command | State::Excess | State::Draining(_)
                if self.out.is_none() && self.reply.is_none() =>
            {
                State::Closed(Close::Gracefully)
            }
            _ => State::Closed(Close::Reset),
        };
        self.settle();
    }

    /// When [`ServerSession::handle_timeout`] is due at the latest; `None` while the server itself works.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_working() || self.poll_close().is_some() {
            return None;
        }
        let (idle, rate) = self.patience();
        let next = self.clock.next(idle, rate);
        Some(self.deadline().map_or(next, |deadline| deadline.min(next)))
    }

    /// The deadline of the handshake.
    fn deadline(&self) -> Option<Instant> {
        self.messages.cipher()?.deadline()
    }

    /// Records that the peer has made progress on one of its data connections at `at`, possibly some time ago: that
    /// also counts for this connection (PROTOCOL §3).
    pub fn handle_progress(&mut self, at: Instant) {
        self.clock.tick(at);
        self.clock.restart();
    }

    /// True while the clock is stopped because the peer is waiting for the server.
    pub(super) const fn is_working(&self) -> bool {
        // With a reply queued, deferred ones wait for the peer to read.
        (self.deferred > 0 && self.out.is_none())
            || matches!(self.state, State::Asked(_) | State::Judged(_))
            || (matches!(self.state, State::Parsed) && self.out.is_none())
    }

    pub(super) fn patience(&self) -> (Duration, Option<MinRate>) {
        let body = matches!(
            self.state,
            State::Receiving { .. } | State::Draining(_) | State::Sending { .. } | State::Padding { .. }
        );
        (self.limits.idle, body.then_some(self.limits.min_rate))
    }
}
