//! A running `sync`.

use core::num::NonZeroU64;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};

use super::super::context::Context;
use super::super::failure::Failure;
use super::super::names::{DIRECTORY_ON_SERVER, local_path};
use crate::arguments::bytes;

/// What the help of `sync` says below the options.
const SYNC_EXAMPLES: &str = "\
Files are compared by size and checksum, never by time. LOCAL_DIR/x becomes REMOTE_DIR/x.
A .skiffignore file in LOCAL_DIR or below is read like a .gitignore. Excluded names are neither
transferred nor deleted.

Examples:
  sync site
  sync --delete site www
  sync -n --delete --exclude '*.log' site www
  sync --pull backup logs";

/// Arguments of `sync`.
#[derive(Debug, Default, Args)]
#[command(after_help = SYNC_EXAMPLES)]
pub(crate) struct SyncArgs {
    /// Local directory
    #[arg(value_name = "LOCAL_DIR", value_parser = local_path(), value_hint = ValueHint::DirPath)]
    pub(crate) local: PathBuf,
    /// Directory on the server [default: the current one]
    #[arg(value_name = "REMOTE_DIR", value_hint = DIRECTORY_ON_SERVER)]
    pub(crate) remote: Option<String>,
    /// Transfer from the server
    #[arg(long)]
    pub(crate) pull: bool,
    /// Delete what the source does not have; requires REMOTE_DIR (/ is the root)
    #[arg(long)]
    pub(crate) delete: bool,
    /// Delete even if the source has no files at all
    #[arg(long)]
    pub(crate) allow_empty: bool,
    /// Only show what would be done
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Ignore names that match GLOB, which works as in .gitignore; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// Transfer at most RATE bytes a second, such as 200K
    #[arg(long, value_name = "RATE", value_parser = bytes)]
    pub(crate) limit_rate: Option<NonZeroU64>,
    /// If nothing was to be done, nothing is said.
    #[arg(skip)]
    pub(crate) changes_only: bool,
}

/// A `sync` that is under way.
pub(super) struct Run<'a, 'c> {
    pub(super) context: &'a mut Context<'c>,
    pub(super) args: &'a SyncArgs,
    /// REMOTE_DIR, unless it is the root.
    pub(super) base: Option<&'a str>,
    /// Both trees were listed completely.
    pub(super) whole: bool,
}

impl Run<'_, '_> {
    /// The name of a file of the tree on the server.
    pub(super) fn there(&self, name: &str) -> String {
        self.base.map_or_else(|| name.to_owned(), |base| format!("{base}/{name}"))
    }

    /// The local path of a file of the tree.
    pub(super) fn here(&self, name: &str) -> PathBuf {
        if self.args.local == Path::new(".") { PathBuf::from(name) } else { self.args.local.join(name) }
    }

    /// Reports why nothing is deleted.
    pub(super) fn nothing_deleted(&mut self, what: &str) {
        let message = format!("nothing was deleted, since not everything could be {what}");
        self.context.fail(&Failure { subject: None, ..Failure::new("", "omitted", message) });
    }
}
