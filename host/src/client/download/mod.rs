//! Downloading files.
//!
//! | module | what is in it |
//! |---|---|
//! | `state` | the progress of each file, and how events change it |
//! | `resume` | finding out where files can be resumed |
//! | `pipeline` | many `read`s on one connection |
//! | `ranges` | one file over several sessions |
//! | `classic` | `get` over data connections |
//! | `sink`, `ahead` | the local files |

mod ahead;
mod classic;
mod pipeline;
mod ranges;
mod resume;
mod sink;
mod state;

use super::Client;
use super::error::Error;
use super::job::{Download, DownloadOptions, Observer, Received};
use super::passes::{End, Losses, Next};
use state::Downloads;

impl Client {
    /// Downloads files: pipelined from an extended server, one after the other from a classic one. The results are in
    /// the order of the jobs.
    ///
    /// After a lost connection the client reconnects and resumes the transfers ([`Options::retries`](super::Options::retries)).
    /// When it is cancelled, the current file keeps its partial file for [`DownloadOptions::resume`], and the next
    /// operation reconnects.
    pub async fn download(
        &mut self,
        jobs: Vec<Download>,
        options: &DownloadOptions,
        observer: &mut dyn Observer,
    ) -> Vec<Result<Received, Error>> {
        let mut run = Downloads::new(jobs, options, observer, &self.options);
        let mut more = self.further(options.sessions);
        let mut losses = Losses::default();
        while !run.files.queue.is_empty() {
            let end = match self.pass_ranges(&mut more, &mut run).await {
                // What is left over is small.
                Ok(End::Done) => self.pass(&mut run).await,
                end => end,
            };
            match self.after(end, &mut losses, &mut run.files).await {
                Ok(Next::Pass) => {}
                Ok(Next::Classic) => classic::download(self, &mut run).await,
                Err(error) => run.fail_all(&error),
            }
        }
        run.files.into_results()
    }
}
