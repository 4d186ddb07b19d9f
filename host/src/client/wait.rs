//! Waiting for the connection in functions that poll.

use core::pin::{Pin, pin};
use core::task::{Context, Poll};
use core::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::connection::Patience;
use super::error::Error;
use super::{CancelToken, Client};

/// Wakes the polling task at the deadline of a wait, and when it is cancelled.
pub(super) struct Alarm {
    time: Pin<Box<Sleep>>,
    cancelled: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl core::fmt::Debug for Alarm {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Alarm").finish_non_exhaustive()
    }
}

impl Alarm {
    pub(super) fn new(cancel: CancelToken) -> Self {
        let cancelled = Box::pin(async move { cancel.cancelled().await });
        Self { time: Box::pin(sleep_until(Instant::now())), cancelled }
    }
}

impl Client {
    /// As [`Connection::exchange`](super::connection::Connection::exchange): sends and receives until something has
    /// moved. `idle` is how long that may take.
    pub(super) fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        alarm: &mut Alarm,
        idle: Duration,
    ) -> Poll<Result<(), Error>> {
        let Some((connection, patience)) = self.parts() else { return Poll::Ready(Err(Error::Cancelled)) };
        let patience = Patience { idle, ..patience };
        // It is dropped after this poll, and its timer with it. The sockets remember who waits.
        let moved = pin!(connection.exchange(patience)).poll(cx);
        if moved.is_ready() {
            return moved;
        }
        if let Some(deadline) = connection.deadline(&patience)
            && alarm.time.deadline() != deadline
        {
            alarm.time.as_mut().reset(deadline);
        }
        if alarm.time.as_mut().poll(cx).is_ready() || alarm.cancelled.as_mut().poll(cx).is_ready() {
            // What is up is found out by the next poll.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
