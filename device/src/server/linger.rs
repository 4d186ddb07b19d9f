//! The end of a connection: FIN, then discard what still arrives, for a bounded time (PROTOCOL §1).

use core::time::Duration;

use skiff_proto::Instant;
use skiff_proto::server::{LINGER_BYTES, LINGER_TIME, Limits};
use smoltcp::socket::tcp::{Socket, State};

/// How long a reset waits for the interface to take it.
pub(super) const RESET: Duration = Duration::from_secs(1);

/// A connection that is closing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Linger {
    /// The last progress.
    since: Instant,
    queued: usize,
    acknowledged: bool,
    /// Only our FIN was left to be acknowledged, before the last segments were sent.
    emptied: bool,
    /// The peer's FIN has been received; the next segment acknowledges it.
    answered: bool,
    discarded: usize,
}

/// The progress of a closing connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Not yet over.
    Open,
    /// Over once the pending acknowledgement has been sent: without it the peer would repeat its FIN.
    Answering,
    /// The peer has everything and our FIN has been sent: the socket may be reused if there is no other.
    Ended,
    /// The peer has everything and is only slow to close: the socket may be reused if it is needed.
    Yielding,
    /// Over.
    Over,
    /// Failed: the peer has not received everything in time.
    Failed,
}

impl Linger {
    /// Sends our FIN.
    pub(super) fn begin(socket: &mut Socket<'_>, now: Instant) -> Self {
        socket.close();
        Self {
            since: now,
            queued: socket.send_queue(),
            acknowledged: false,
            emptied: false,
            answered: false,
            discarded: 0,
        }
    }

    /// Discards input; returns the progress of the connection.
    pub(super) fn step(&mut self, socket: &mut Socket<'_>, now: Instant, limits: &Limits) -> Ending {
        while let Ok(n @ 1..) = socket.recv(|input| (input.len(), input.len())) {
            self.discarded = self.discarded.saturating_add(n);
        }
        match socket.state() {
            State::Closed => return Ending::Over,
            State::TimeWait if core::mem::replace(&mut self.answered, true) => return Ending::Over,
            State::TimeWait => return Ending::Answering,
            _ => {}
        }
        let acknowledged = socket.state() == State::FinWait2;
        // The peer has to take what is left of a body as fast as the rest of it: a byte now and then is no progress.
        let least = self.queued.clamp(1, (limits.min_rate.bytes as usize).max(1));
        if socket.send_queue() + least <= self.queued || acknowledged != self.acknowledged {
            (self.queued, self.acknowledged, self.since) = (socket.send_queue(), acknowledged, now);
        }
        let waited = now >= self.deadline(limits);
        let has_all = core::mem::replace(&mut self.emptied, socket.send_queue() == 0);
        match acknowledged {
            true if waited || self.discarded > LINGER_BYTES => Ending::Over,
            false if waited || self.discarded > LINGER_BYTES => Ending::Failed,
            true => Ending::Yielding,
            false if has_all => Ending::Ended,
            false => Ending::Open,
        }
    }

    pub(super) fn deadline(&self, limits: &Limits) -> Instant {
        let rate = limits.min_rate;
        let patience = if rate.bytes > 0 { limits.idle.min(rate.window) } else { limits.idle };
        self.since.after(if self.acknowledged { LINGER_TIME } else { patience })
    }
}

/// True once the reset of an aborted connection has been sent, or never will be.
pub(super) fn is_reset(socket: &Socket<'_>, since: Instant, now: Instant) -> bool {
    socket.remote_endpoint().is_none() || now.since(since) >= RESET
}

/// Drops the connection without sending anything and listens for another.
pub(super) fn listen(socket: &mut Socket<'_>, port: u16) {
    socket.abort();
    // This forgets the peer, so that no reset goes out.
    _ = socket.listen(port);
}
