//! `watch`: `sync` at each change.

use core::num::NonZeroU64;
use core::time::Duration;
use std::fs;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};

use super::command::{Definition, Remote};
use super::context::Context;
use super::failure::{Failure, for_one_board};
use super::mode::Mode;
use super::names::{DIRECTORY_ON_SERVER, local_path};
use super::sync::{SyncArgs, check_delete, sync};
use crate::arguments::bytes;
use crate::client::Error;

/// Changes that follow each other this closely are one.
const QUIET: Duration = Duration::from_millis(200);
/// But no change waits longer than this.
const LONGEST: Duration = Duration::from_secs(2);
/// The pause before another try when the server is not there.
const AGAIN: Duration = Duration::from_secs(1);

/// `watch`
pub(crate) struct Watch;

impl Definition for Watch {
    type Args = WatchArgs;

    const NAME: &'static str = "watch";
    const SUMMARY: &'static str = "Sync to the server after every change, until Ctrl-C";
}

impl Remote for Watch {
    fn prepare(args: &mut Self::Args, mode: Mode) -> Result<(), Failure> {
        for_one_board(mode)?;
        check_delete(args.delete, args.remote.as_deref())
    }

    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        watch(context, args).await
    }
}

/// Arguments of `watch`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Does what sync does, and continues if the server is unreachable for a while.")]
pub(crate) struct WatchArgs {
    /// Local directory
    #[arg(value_name = "LOCAL_DIR", value_parser = local_path(), value_hint = ValueHint::DirPath)]
    local: PathBuf,
    /// Directory on the server [default: the current one]
    #[arg(value_name = "REMOTE_DIR", value_hint = DIRECTORY_ON_SERVER)]
    remote: Option<String>,
    /// Delete what the local directory does not have; requires REMOTE_DIR (/ is the root)
    #[arg(long)]
    delete: bool,
    /// Delete even if the local directory has no files at all
    #[arg(long)]
    allow_empty: bool,
    /// Ignore names that match GLOB, which works as in .gitignore; may be repeated
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Send at most RATE bytes a second, such as 200K
    #[arg(long, value_name = "RATE", value_parser = bytes)]
    limit_rate: Option<NonZeroU64>,
}

async fn watch(context: &mut Context<'_>, args: WatchArgs) -> Result<(), Failure> {
    let WatchArgs { local, remote, delete, allow_empty, exclude, limit_rate } = args;
    let (changed, mut changes) = unbounded_channel();
    let notice = move |event: notify::Result<notify::Event>| {
        // `sync` itself reads the files.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            _ = changed.send(());
        }
    };
    let wrong = |error: &notify::Error| {
        Failure::new(local.to_string_lossy(), "local", crate::client::sanitize(&error.to_string()))
    };
    // If the directory can't be read, this error says why; that of the watching library does not.
    fs::read_dir(&local).map_err(|error| Failure::local(&local, &error))?;
    // Before the first sync, so that no change is missed.
    let mut watcher = notify::recommended_watcher(notice).map_err(|error| wrong(&error))?;
    watcher.watch(&local, RecursiveMode::Recursive).map_err(|error| wrong(&error))?;
    let remote = Some(remote.unwrap_or_else(|| context.cwd.here()));
    let mut args = SyncArgs { local, remote, delete, allow_empty, exclude, limit_rate, ..SyncArgs::default() };
    let cancel = context.client.cancel_token();
    let cancelled = || Failure::client("watch", None, &Error::Cancelled);
    let is_ours = |failure: &Failure| !failure.is_final() || failure.code == "usage";
    let mut reported = None;
    loop {
        let again = match sync(context, &args).await {
            Ok(whole) => {
                reported = None;
                !whole
            }
            Err(failure) if failure.code == "cancelled" => return Err(failure),
            // The first time, it is a mistake on the command line.
            Err(failure) if !args.changes_only && is_ours(&failure) => return Err(failure),
            Err(failure) => {
                if reported.as_ref() != Some(&failure.message) {
                    let waiting = if is_ours(&failure) { "" } else { "; waiting for the server" };
                    context.output.note(&format!("watch: {}{waiting}", failure.message));
                    reported = Some(failure.message);
                }
                true
            }
        };
        if cancel.is_cancelled() {
            return Err(cancelled());
        }
        context.output.flush();
        // Unchanged files are not reported each time.
        args.changes_only = true;
        let next = async {
            if again {
                sleep(AGAIN).await;
            } else {
                settled(&mut changes).await;
            }
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(cancelled()),
            () = next => {}
        }
        // The directory, or one in it, may have been replaced by another one of the same name.
        _ = watcher.unwatch(&args.local);
        _ = watcher.watch(&args.local, RecursiveMode::Recursive);
    }
}

/// Waits for a change, and until there are no further ones for a moment.
async fn settled(changes: &mut UnboundedReceiver<()>) {
    if changes.recv().await.is_none() {
        core::future::pending::<()>().await;
    }
    _ = timeout(LONGEST, async { while let Ok(Some(())) = timeout(QUIET, changes.recv()).await {} }).await;
    while changes.try_recv().is_ok() {}
}
