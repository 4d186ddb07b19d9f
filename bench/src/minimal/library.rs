//! skiff's client library as host-cli uses it, with one option that host-cli lacks: the cipher.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use skiff_host::client::{Access, Client, Download, DownloadOptions, Existing, Options, Target, Upload, UploadOptions};
use skiff_host::keys::read_key;
use skiff_proto::secure::Pattern;

use super::session::{Latency, WARM};
use crate::tools::Cipher;

/// What to do, and how.
#[derive(Debug, Clone, Args)]
pub(super) struct Library {
    #[arg(long)]
    port: u16,
    /// The file of a key: the connection is protected
    #[arg(long)]
    key: Option<PathBuf>,
    /// Use this cipher instead of the fastest that both sides have
    #[arg(long, requires = "key")]
    cipher: Option<Cipher>,
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, Clone, Subcommand)]
enum Work {
    /// Fetches one file.
    Get {
        name: String,
        /// A file; otherwise it is standard output
        #[arg(long)]
        to: Option<PathBuf>,
    },
    /// Sends one file.
    Put { from: PathBuf, name: String },
    /// Connects, pings and closes many times; prints how long that takes.
    Connect {
        #[arg(long)]
        count: u32,
    },
}

impl Library {
    pub(super) fn run(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.work())
    }

    async fn work(&self) -> Result<()> {
        let mut access = match &self.key {
            Some(key) => Access::with_key(read_key(key)?),
            None => Access::default(),
        };
        if let Some(cipher) = self.cipher {
            access = access.only(match cipher {
                Cipher::AesGcm => Pattern::AesGcm,
                Cipher::ChaChaPoly => Pattern::ChaChaPoly,
            });
        }
        let options = Options { access, ..Options::default() };
        let connect = || Client::connect("127.0.0.1", self.port, options.clone());
        match &self.work {
            Work::Get { name, to } => {
                let target = match to {
                    Some(path) => Target::File { path: path.clone(), existing: Existing::Keep },
                    None => Target::Writer(Box::new(File::from(io::stdout().as_fd().try_clone_to_owned()?))),
                };
                let jobs = vec![Download { name: name.clone(), target, mtime: None }];
                let options = DownloadOptions { mtime: to.is_some(), ..DownloadOptions::default() };
                let done = connect().await?.download(jobs, &options, &mut ()).await;
                done.into_iter().try_for_each(|result| result.map(drop))?;
            }
            Work::Put { from, name } => {
                let jobs = vec![Upload::new(from, name)];
                let done = connect().await?.upload(jobs, &UploadOptions::default(), &mut ()).await;
                done.into_iter().try_for_each(|result| result.map(drop))?;
            }
            Work::Connect { count } => {
                let (mut times, mut begun) = (Vec::new(), Instant::now());
                for turn in 0..WARM + count {
                    if turn == WARM {
                        begun = Instant::now();
                    }
                    let begin = Instant::now();
                    let mut client = connect().await?;
                    client.ping().await?;
                    if turn >= WARM {
                        times.push(begin.elapsed());
                    }
                }
                ensure!(*count > 0, "no connection");
                println!("{}", serde_json::to_string(&Latency::of(&times, begun.elapsed()))?);
            }
        }
        Ok(())
    }
}
