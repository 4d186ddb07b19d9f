//! Uploading files.
//!
//! | module | what is in it |
//! |---|---|
//! | `state` | the progress of each file, and how replies change it |
//! | `resume` | finding out where files can be resumed |
//! | `pipeline` | many `write`s on one connection |
//! | `classic` | `put` over data connections |
//! | `source` | the local files |

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
    /// Uploads files: pipelined to an extended server, one after the other to a classic one. The results are in the
    /// order of the jobs.
    ///
    /// After a lost connection the client reconnects and resumes the transfers ([`Options::retries`](super::Options::retries)).
    /// If it is cancelled in the middle of a file, the connection is closed, so that what the server has received stays
    /// for [`UploadOptions::resume`]; the next operation reconnects.
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
