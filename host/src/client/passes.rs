//! Transfers the files of one call, over one or more connections.

use tokio::time::Instant;

use super::Client;
use super::error::Error;
use super::files::Files;

/// How a pass over one connection ended, if not with a connection error.
pub(super) enum End {
    /// Everything that was under way has its result.
    Done,
    /// The rest of a body was not worth reading.
    Reconnect,
    /// The server is a classic one.
    Classic,
}

/// What to do after a pass.
pub(super) enum Next {
    /// Another pass, if files wait.
    Pass,
    /// The rest, one after the other with a classic server.
    Classic,
}

/// Connections lost in a row, without progress in between.
#[derive(Default)]
pub(super) struct Losses {
    count: u32,
    first: Option<Instant>,
}

impl Client {
    /// The step after a pass that ended like this. After a lost connection it waits, and reports that.
    ///
    /// # Errors
    /// The files that wait fail with it.
    pub(super) async fn after<T, R>(
        &mut self,
        end: Result<End, Error>,
        losses: &mut Losses,
        files: &mut Files<'_, T, R>,
    ) -> Result<Next, Error> {
        let progress = core::mem::take(&mut files.progress);
        let error = match end {
            Ok(End::Done) => return Ok(Next::Pass),
            Ok(End::Reconnect) => {
                self.disconnect();
                return Ok(Next::Pass);
            }
            Ok(End::Classic) => return Ok(Next::Classic),
            Err(error) => error,
        };
        self.disconnect();
        if !self.may_try_again(&error, losses, progress) {
            return Err(error);
        }
        files.observer.retrying(losses.count, &error);
        if self.pause(losses).await { Ok(Next::Pass) } else { Err(Error::Cancelled) }
    }

    /// True if a transfer continues after `error`. `progress`: whether there was any since the last loss.
    fn may_try_again(&self, error: &Error, losses: &mut Losses, progress: bool) -> bool {
        if progress {
            *losses = Losses::default();
        }
        losses.count = losses.count.saturating_add(1);
        let time = losses.first.get_or_insert_with(Instant::now).elapsed();
        // If the server has never answered, a retry will not help.
        let mute = matches!(error, Error::Mute { .. }) && self.hello.is_none();
        error.is_connection() && !mute && losses.count <= self.options.retries && time < self.options.idle
    }

    /// Waits before reconnecting. False: cancelled.
    async fn pause(&self, losses: &Losses) -> bool {
        let delay = self.options.retry_delay.saturating_mul(1 << losses.count.saturating_sub(1).min(4));
        let time = losses.first.map(|first| first.elapsed()).unwrap_or_default();
        tokio::select! {
            () = self.options.cancel.cancelled() => false,
            () = tokio::time::sleep(delay.min(self.options.idle.saturating_sub(time))) => true,
        }
    }
}
