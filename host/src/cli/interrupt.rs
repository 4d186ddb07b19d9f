//! Ctrl-C: stops what is running, not the program.

use core::future::Future;
use core::pin::pin;
use core::time::Duration;

use tokio::signal::ctrl_c;

use crate::client::CancelToken;

/// When Ctrl-C begins to be listened for. Until then it ends the program, as the system does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listen {
    /// At once: the program has to outlive it.
    Now,
    /// When the work turns out to take time: setting it up costs more than a small file does.
    Later,
}

/// Short work is not worth listening.
const SHORT: Duration = Duration::from_millis(50);
/// How long work may take to end in an orderly way once it is cancelled.
const GRACE: Duration = Duration::from_secs(5);

/// Does `work`; Ctrl-C cancels `token`, so that it ends in an orderly way. `None` if it did not within the grace time, or
/// Ctrl-C came again: then it was dropped.
pub(crate) async fn cancellable<T>(token: &CancelToken, listen: Listen, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return Some(done),
        () = interrupted(listen) => {}
    }
    token.cancel();
    tokio::select! {
        biased;
        done = &mut work => Some(done),
        () = interrupted(Listen::Now) => None,
        () = tokio::time::sleep(GRACE) => None,
    }
}

/// Waits for Ctrl-C; for ever where it can't be listened for.
async fn interrupted(listen: Listen) {
    if listen == Listen::Later {
        tokio::time::sleep(SHORT).await;
    }
    if ctrl_c().await.is_err() {
        core::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn work_that_ends_by_itself_is_not_disturbed() {
        let token = CancelToken::new();
        assert_eq!(cancellable(&token, Listen::Later, async { 7 }).await, Some(7));
        assert!(!token.is_cancelled());
    }
}
