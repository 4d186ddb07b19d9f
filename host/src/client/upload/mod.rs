//! Sending files.
//!
//! | module | what is in it |
//! |---|---|
//! | `state` | how far each file is, and what an answer means for it |
//! | `resume` | finding out where files can go on |
//! | `pipeline` | many `write`s on one connection |
//! | `classic` | `put` over data connections |
//! | `source` | the local files that they come from |

mod classic;
mod pipeline;
mod resume;
mod source;
mod state;

use tokio::time::sleep;

use super::Client;
use super::error::Error;
use super::job::{Observer, Sent, Upload, UploadOptions};
use super::passes::{End, Losses, Next};
use state::Uploads;

impl Client {
    /// Sends files, to an extended server pipelined on this connection, to a classic one one after the other. The
    /// results are in the order of the jobs.
    ///
    /// After a lost connection the client reconnects and resumes the transfers ([`Options::retries`](super::Options::retries)).
    /// When it is cancelled in the middle of a file, the connection is closed, so that what the server has of it stays for
    /// [`UploadOptions::resume`]; the next operation reconnects.
    pub async fn upload(
        &mut self,
        jobs: Vec<Upload>,
        options: &UploadOptions,
        observer: &mut dyn Observer,
    ) -> Vec<Result<Sent, Error>> {
        let mut run = Uploads::new(jobs, options, observer);
        let mut losses = Losses::default();
        while !run.files.queue.is_empty() {
            let end = self.upload_pass(&mut run).await;
            let later = core::mem::take(&mut run.later);
            let wait = matches!(end, Ok(End::Done)) && !later.is_empty();
            run.files.queue.extend(later);
            match self.after(end, &mut losses, &mut run.files).await {
                Ok(Next::Pass) if wait => tokio::select! {
                    () = self.options.cancel.cancelled() => run.files.fail_all(&Error::Cancelled),
                    () = sleep(self.options.retry_delay.saturating_mul(2)) => {}
                },
                Ok(Next::Pass) => {}
                Ok(Next::Classic) => classic::upload(self, &mut run).await,
                Err(error) => run.files.fail_all(&error),
            }
        }
        run.files.into_results()
    }
}
