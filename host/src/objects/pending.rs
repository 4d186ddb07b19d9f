//! Results of background tasks, and the notification that wakes the connection waiting for them.

use core::task::{Context, Poll, Waker};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Notifies a connection that something it may be waiting for has happened.
#[derive(Debug, Clone, Default)]
pub(super) struct Bell(Arc<Mutex<(bool, Option<Waker>)>>);

impl Bell {
    fn state(&self) -> MutexGuard<'_, (bool, Option<Waker>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ring(&self) {
        let mut state = self.state();
        state.0 = true;
        let waker = state.1.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready once after each notification.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if core::mem::take(&mut state.0) {
            return Poll::Ready(());
        }
        state.1 = Some(context.waker().clone());
        Poll::Pending
    }
}

/// The result of a task that may still be running.
#[derive(Debug)]
pub(super) struct Pending<T>(Arc<Mutex<Result<Option<T>, Lost>>>);

/// The task has ended without a result.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lost;

impl<T: Send + 'static> Pending<T> {
    /// Runs `task`, and notifies `bell` when it ends.
    pub(super) fn spawn(bell: &Bell, task: impl Future<Output = T> + Send + 'static) -> Self {
        let slot = Arc::new(Mutex::new(Ok(None)));
        let end = End { bell: bell.clone(), slot: Arc::clone(&slot) };
        tokio::spawn(async move {
            let result = task.await;
            *end.slot.lock().unwrap_or_else(PoisonError::into_inner) = Ok(Some(result));
            drop(end);
        });
        Self(slot)
    }

    /// The result, once; `None` while the task is running.
    pub(super) fn take(&mut self) -> Option<Result<T, Lost>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *slot {
            Ok(result) => result.take().map(Ok),
            Err(lost) => Some(Err(*lost)),
        }
    }

    /// True if [`Pending::take`] returns something.
    pub(super) fn is_over(&self) -> bool {
        !matches!(*self.0.lock().unwrap_or_else(PoisonError::into_inner), Ok(None))
    }
}

/// Notifies the bell at the end of a task, even if the task panics.
struct End<T> {
    bell: Bell,
    slot: Arc<Mutex<Result<Option<T>, Lost>>>,
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, Ok(None)) {
            *slot = Err(Lost);
        }
        drop(slot);
        self.bell.ring();
    }
}
