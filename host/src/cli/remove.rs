//! `rm`.

use std::collections::HashSet;

use clap::Args;

use super::command::{Definition, Remote};
use super::context::Context;
use super::failure::Failure;
use super::files::{Named, UNSEEN, done, find};
use super::glob::Wanted;
use super::links::probe;
use super::names::ON_SERVER;
use super::remote::{Listings, directory_name, walk};
use crate::client::{Error, ErrorCode};

/// `rm`
pub(crate) struct Rm;

impl Definition for Rm {
    type Args = RmArgs;

    const NAME: &'static str = "rm";
    const HABITS: &'static [&'static str] = &["del", "delete"];
    const SUMMARY: &'static str = "Remove files or whole directories on the server";
}

impl Remote for Rm {
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        rm(context, &args).await
    }
}

/// Arguments of `rm`.
#[derive(Debug, Default, Args)]
pub(crate) struct RmArgs {
    /// Remove directories and everything in them
    #[arg(short)]
    pub(crate) recursive: bool,
    /// Ignore names that do not exist
    #[arg(short)]
    pub(crate) force: bool,
    /// Names on the server, or globs
    #[arg(value_name = "NAME", required = true, value_hint = ON_SERVER)]
    pub(crate) names: Vec<String>,
}

async fn rm(context: &mut Context<'_>, args: &RmArgs) -> Result<(), Failure> {
    let wanted = if args.recursive { Wanted::Any } else { Wanted::Files };
    if args.recursive && args.names.iter().any(|name| directory_name(name).is_none()) {
        return Err(Failure::usage("the root can't be removed; rm -r '*' removes what is in it"));
    }
    let (named, failures) = find(context, &args.names, wanted).await;
    // Later commands would be in a directory that does not exist.
    if let Some(Named { name, .. }) =
        named.iter().filter(|_| args.recursive).find(|named| context.cwd.is_within(&named.name))
    {
        let message =
            "the current directory can't be removed; rm -r '*' removes what is in it, cd changes to another one";
        return Err(Failure { subject: Some(name.clone()), ..Failure::usage(message) });
    }
    failures.iter().for_each(|failure| args.fail(context, failure));
    let (mut files, mut dirs) = (Vec::new(), Vec::new());
    for (named, is_dir) in with_kinds(context, named, args).await? {
        if !is_dir {
            files.push(named.name);
            continue;
        }
        let mut listings = Listings::new(context.client);
        let dir = named.name.trim_end_matches('/').to_owned();
        let below = walk(&mut listings, "rm -r", Some(&dir)).await;
        let failures = listings.take_failures();
        failures.iter().for_each(|failure| context.fail(failure));
        match below {
            Ok(below) => {
                dirs.push(dir);
                for entry in below {
                    if entry.is_dir { dirs.push(entry.name) } else { files.push(entry.name) }
                }
            }
            Err(failure) if failure.is_final() => return Err(failure),
            Err(failure) => context.fail(&failure),
        }
    }
    // What several names lead to goes once.
    let mut seen = HashSet::new();
    files.retain(|name| seen.insert(name.clone()));
    dirs.retain(|name| seen.insert(name.clone()));
    let probed = probe(context.client, context.verb, dirs.iter().cloned()).await?;
    probed.closed.values().for_each(|failure| context.fail(failure));
    files.retain(|name| !probed.covers(name));
    dirs.retain(|dir| !probed.removed.contains(dir) && !probed.keeps(dir));
    let removed = context.client.remove_many(&files).await;
    let goes_on = removed_all(context, args, &files, removed);
    probed.removed.iter().for_each(|dir| done(context.output, context.verb, dir, None, "removed"));
    if goes_on {
        // Each after those in it.
        dirs.sort_by(|a, b| b.cmp(a));
        let removed = context.client.rmdir_many(&dirs).await;
        removed_all(context, args, &dirs, removed);
    }
    Ok(())
}

impl RmArgs {
    /// Reports a failure, unless it is one that -f ignores.
    fn fail(&self, context: &mut Context<'_>, failure: &Failure) {
        if !(self.force && matches!(failure.code.as_str(), "not-found" | "no-match")) {
            context.fail(failure);
        }
    }
}

/// Finds which of `names` are directories. Without -r, the server is not asked about names that no listing has shown.
async fn with_kinds(
    context: &mut Context<'_>,
    named: Vec<Named>,
    args: &RmArgs,
) -> Result<Vec<(Named, bool)>, Failure> {
    let ask = args.recursive;
    let is_unknown = |named: &&Named| ask && named.entry.is_none();
    let unknown: Vec<_> = named.iter().filter(is_unknown).map(|named| named.name.trim_end_matches('/')).collect();
    let mut stats = context.client.stat_many(&unknown).await.into_iter();
    let mut found = Vec::with_capacity(named.len());
    for named in named {
        let is_dir = match &named.entry {
            Some(entry) => entry.is_dir,
            None if !ask => false,
            None => match stats.next() {
                Some(Err(error)) if error.code() == Some(ErrorCode::IsDirectory) => true,
                Some(Err(error)) => {
                    let failure = Failure::client(context.verb, Some(&named.name), &error);
                    if failure.is_final() {
                        return Err(failure);
                    }
                    args.fail(context, &failure);
                    continue;
                }
                _ => false,
            },
        };
        found.push((named, is_dir));
    }
    Ok(found)
}

/// Reports what became of removed files or directories. False if the connection has failed.
fn removed_all(context: &mut Context<'_>, args: &RmArgs, names: &[String], results: Vec<Result<(), Error>>) -> bool {
    for (name, result) in names.iter().zip(results) {
        match result {
            Ok(()) => done(context.output, context.verb, name, None, "removed"),
            Err(error) => {
                let mut failure = Failure::client(context.verb, Some(name), &error);
                if error.code() == Some(ErrorCode::NotEmpty) {
                    failure.message = format!("all listed entries were removed; {UNSEEN} is left in this directory");
                }
                args.fail(context, &failure);
                if failure.is_final() {
                    return false;
                }
            }
        }
    }
    true
}
