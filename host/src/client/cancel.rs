//! A way to tell a running operation to stop.

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use tokio::sync::Notify;

/// Stops the operation of a [`Client`](super::Client) that is running, from a signal handler's task or another thread.
///
/// Clones are the same token. A token that has been cancelled stays so, and every further operation fails with
/// [`Error::Cancelled`](super::Error::Cancelled), until [`CancelToken::reset`].
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<State>);

#[derive(Debug, Default)]
struct State {
    cancelled: AtomicBool,
    notify: Notify,
}

impl CancelToken {
    /// A token that has not been cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops what is running.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
        self.0.notify.notify_waiters();
    }

    /// Makes the token fit for the next operation.
    pub fn reset(&self) {
        self.0.cancelled.store(false, Ordering::Release);
    }

    /// True from [`CancelToken::cancel`] to [`CancelToken::reset`].
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Waits until the token is cancelled.
    pub async fn cancelled(&self) {
        loop {
            let notified = self.0.notify.notified();
            if self.is_cancelled() {
                return;
            }
            notified.await;
        }
    }
}
