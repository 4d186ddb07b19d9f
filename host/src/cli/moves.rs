//! `mv` and `cp`.

use std::collections::{BTreeSet, HashSet};

use clap::Args;

use super::command::{Definition, Remote};
use super::context::Context;
use super::failure::Failure;
use super::files::{Named, UNSEEN, done, expand};
use super::format::count;
use super::glob::Wanted;
use super::links::probe;
use super::mode::Mode;
use super::names::ON_SERVER;
use super::place::private_directory;
use super::refused::{blocked, explained};
use super::remote::{Listings, walk};
use super::tree::{empty_dirs, parents};
use crate::client::{Error, ErrorCode, sanitize};

/// `mv`
pub(crate) struct Mv;

impl Definition for Mv {
    type Args = MvArgs;

    const NAME: &'static str = "mv";
    const NEEDLESS: &'static [&'static str] = &["f"];
    const SUMMARY: &'static str = "Rename a file or directory on the server";
}

impl Remote for Mv {
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        each(context, args, Wanted::Any, "renamed", rename).await
    }
}

/// Arguments of `mv`.
#[derive(Debug, Default, Args)]
#[command(after_help = "With several names or a glob: FROM... DIR")]
pub(crate) struct MvArgs {
    /// Current name, or a glob
    #[arg(value_name = "FROM", value_hint = ON_SERVER)]
    from: String,
    /// New name; if it ends in /, a directory for FROM
    #[arg(value_name = "TO", value_hint = ON_SERVER)]
    to: String,
    #[arg(value_name = "DIR", hide = true, value_hint = ON_SERVER)]
    more: Vec<String>,
}

impl MvArgs {
    /// Each name with its new name. Failures of single names have already been reported.
    ///
    /// # Errors
    /// There are several names, and TO is not a directory.
    async fn pairs(self, context: &mut Context<'_>, wanted: Wanted) -> Result<Vec<(String, String)>, Failure> {
        let mut names = vec![self.from, self.to];
        names.extend(self.more);
        let mut to = names.pop().unwrap_or_default();
        let found = expand(context, &names, wanted).await;
        if !found.is_empty() && names.len().max(found.len()) > 1 && !to.ends_with('/') {
            match context.client.stat(&to).await {
                Err(error) if error.code() == Some(ErrorCode::IsDirectory) => to.push('/'),
                Err(error) if error.code() != Some(ErrorCode::NotFound) => {
                    return Err(Failure::client(context.verb, Some(&to), &error));
                }
                _ => {
                    let message = "not a directory on the server; with several names, TO must be one (TO/ creates it)";
                    return Err(Failure::new(to, "not-found", message));
                }
            }
        }
        let pair = |found: Named| {
            let from = found.name.trim_end_matches('/').to_owned();
            let to = rename_target(&from, &to);
            (from, to)
        };
        Ok(found.into_iter().map(pair).collect())
    }
}

/// Moves or copies each name, and goes on after a failure. `did`: what was done, as results say it.
async fn each(
    context: &mut Context<'_>,
    args: MvArgs,
    wanted: Wanted,
    did: &str,
    act: impl AsyncFn(&mut Context<'_>, &str, &str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let pairs = args.pairs(context, wanted).await?;
    // The names that no file of one command may take from another: its sources, and later its destinations.
    let mut taken: HashSet<_> = pairs.iter().map(|(from, _)| from.clone()).collect();
    for (from, to) in pairs {
        let acted = match to == from || taken.insert(to.clone()) {
            true => act(context, &from, &to).await,
            false => Err(twice(&from, &to)),
        };
        match acted {
            Ok(()) => done(context.output, context.verb, &from, Some(&to), &format!("{did} to {to}")),
            Err(failure) if failure.is_final() => return Err(failure),
            Err(failure) => context.fail(&failure),
        }
    }
    Ok(())
}

async fn rename(context: &mut Context<'_>, from: &str, to: &str) -> Result<(), Failure> {
    if to == from {
        return Err(same(from));
    }
    match context.client.rename(from, to).await {
        Ok(()) => {}
        // FROM is a directory and this server does not rename those, or TO is a directory.
        Err(error) if matches!(error.code(), Some(ErrorCode::IsDirectory | ErrorCode::Exists)) => {
            let is_dir = match context.client.stat(from).await {
                Err(stat) => stat.code() == Some(ErrorCode::IsDirectory),
                Ok(_) => false,
            };
            if let Some(failure) = blocked(context.client, to).await {
                return Err(failure);
            }
            if !is_dir {
                return Err(Failure::client("mv", Some(from), &error));
            }
            mv_directory(context, from, to).await?;
        }
        Err(error) => {
            let failure = Failure::client("mv", Some(from), &error);
            return Err(explained(context.client, to, &error, failure).await);
        }
    }
    Ok(())
}

/// Moves a directory, one file after the other, on a server that does not rename directories. Interrupted, it leaves
/// two directories with all files between them.
async fn mv_directory(context: &mut Context<'_>, from: &str, to: &str) -> Result<(), Failure> {
    let fail = |name: &str, error: &Error| Failure::client("mv", Some(name), error);
    if to.strip_prefix(from).is_some_and(|rest| rest.starts_with('/')) {
        return Err(Failure::new(from, "bad-name", "a directory can't be moved into itself"));
    }
    match context.client.stat(to).await {
        Err(error) if error.code() == Some(ErrorCode::NotFound) => {}
        Err(error) if error.code() == Some(ErrorCode::IsDirectory) => {
            let message = format!(
                "the directory {} exists on the server (use mv {from} {to}/ to move it into that directory)",
                sanitize(to)
            );
            return Err(Failure::new(from, "exists", message));
        }
        Err(error) => return Err(fail(to, &error)),
        Ok(_) => {
            return Err(Failure::new(from, "exists", format!("{} exists on the server and is a file", sanitize(to))));
        }
    }
    let mut listings = Listings::new(context.client);
    let below = walk(&mut listings, "mv", Some(from)).await?;
    if let Some(failure) = listings.take_failures().into_iter().next() {
        // Half a directory is worse than none.
        return Err(failure);
    }
    // A link is not moved, and what it leads to even less.
    let filled: BTreeSet<_> =
        below.iter().flat_map(|entry| parents(&entry.name)).filter(|dir| dir.starts_with(from)).collect();
    let filled: Vec<_> = filled.into_iter().map(str::to_owned).collect();
    if let Some((_, failure)) = probe(context.client, "mv", filled).await?.closed.pop_first() {
        return Err(failure);
    }
    let target = |name: &str| format!("{to}{}", &name[from.len()..]);
    let (mut dirs, files): (Vec<_>, Vec<_>) = below.into_iter().partition(|entry| entry.is_dir);
    let pairs: Vec<_> =
        files.into_iter().map(|file| (target(&file.name), file.name)).map(|(to, from)| (from, to)).collect();
    let mut first = None;
    for ((name, _), result) in pairs.iter().zip(context.client.rename_many(&pairs).await) {
        if let Err(error) = result
            && first.is_none()
        {
            first = Some(fail(name, &error));
        }
    }
    if let Some(failure) = first {
        return Err(failure);
    }
    let made = pairs.iter().map(|(_, to)| to.as_str());
    let new_dirs: Vec<_> = core::iter::once(to.to_owned()).chain(dirs.iter().map(|dir| target(&dir.name))).collect();
    let missing = empty_dirs(made, new_dirs.iter().map(String::as_str));
    for (name, result) in missing.iter().zip(context.client.mkdir_many(&missing).await) {
        match result {
            Err(error) if error.code() != Some(ErrorCode::Exists) => return Err(fail(name, &error)),
            _ => {}
        }
    }
    dirs.reverse();
    let old: Vec<_> = dirs.into_iter().map(|dir| dir.name).chain([from.to_owned()]).collect();
    for (name, result) in old.iter().zip(context.client.rmdir_many(&old).await) {
        result.map_err(|error| {
            let mut failure = fail(name, &error);
            if error.code() == Some(ErrorCode::NotEmpty) {
                let moved = count(pairs.len(), "file");
                failure.message = format!("{moved} moved to {}; {UNSEEN} is left in this directory", sanitize(to));
            }
            failure
        })?;
    }
    Ok(())
}

/// `cp`
pub(crate) struct Cp;

impl Definition for Cp {
    type Args = CpArgs;

    const NAME: &'static str = "cp";
    const NEEDLESS: &'static [&'static str] = &["f"];
    const SUMMARY: &'static str = "Copy a file on the server, replacing TO if it exists";
}

/// Arguments of `cp`.
#[derive(Debug, Default, Args)]
pub(crate) struct CpArgs {
    #[command(flatten)]
    names: MvArgs,
    #[arg(short, short_aliases = ['R', 'a'], hide = true)]
    recursive: bool,
}

impl Remote for Cp {
    fn prepare(args: &mut Self::Args, _: Mode) -> Result<(), Failure> {
        match args.recursive {
            true => Err(Failure::usage("cp copies single files; get -r and put -r transfer directories")),
            false => Ok(()),
        }
    }

    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        each(context, args.names, Wanted::Files, "copied", copy).await
    }
}

/// The server copies; if it can't, the file is downloaded and uploaded.
async fn copy(context: &mut Context<'_>, from: &str, to: &str) -> Result<(), Failure> {
    if to == from {
        return Err(same(from));
    }
    match context.client.copy(from, to).await {
        Ok(_) => return Ok(()),
        Err(error) if matches!(error.code(), Some(ErrorCode::BadCommand | ErrorCode::Unsupported)) => {}
        Err(Error::NeedsExtended { .. }) => {}
        Err(error) => return Err(copy_failure(context, from, to, &error).await),
    }
    let dir = private_directory()?;
    let path = dir.path().join("copy");
    context.client.get(from, &path).await.map_err(|error| match error.code() {
        Some(ErrorCode::IsDirectory) => no_directory(from),
        _ => Failure::client("cp", Some(from), &error),
    })?;
    context.client.put(&path, to).await.map(drop).map_err(|error| Failure::client("cp", Some(to), &error))
}

fn same(name: &str) -> Failure {
    Failure::new(name, "exists", "FROM and TO are the same")
}

fn twice(from: &str, to: &str) -> Failure {
    Failure::new(from, "exists", format!("would replace {}, another file of this command", sanitize(to)))
}

fn no_directory(from: &str) -> Failure {
    Failure::new(from, "is-directory", "is a directory; cp copies single files")
}

/// The failure of a `copy`, about the name that caused it.
async fn copy_failure(context: &mut Context<'_>, from: &str, to: &str, error: &Error) -> Failure {
    let about_from = match error.code() {
        Some(ErrorCode::IsDirectory) => match context.client.stat(from).await {
            Err(stat) if stat.code() == Some(ErrorCode::IsDirectory) => return no_directory(from),
            _ => false,
        },
        code => !matches!(code, Some(ErrorCode::Exists | ErrorCode::Busy | ErrorCode::NoSpace)),
    };
    let failure = Failure::client("cp", Some(if about_from { from } else { to }), error);
    explained(context.client, to, error, failure).await
}

/// Where `mv FROM TO` leads: `TO/` is a directory that keeps the last part of FROM.
fn rename_target(from: &str, to: &str) -> String {
    match to.strip_suffix('/') {
        Some(dir) => {
            let last = from.rsplit('/').next().unwrap_or(from);
            let dir = dir.trim_end_matches('/');
            if dir.is_empty() || dir == "." { last.to_owned() } else { format!("{dir}/{last}") }
        }
        None => to.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mv_into_a_directory_keeps_the_last_part() {
        for (from, to, target) in
            [("a", "b", "b"), ("d/a", "e/", "e/a"), ("d/a", "/", "a"), ("a", "./", "a"), ("a", "x//", "x/a")]
        {
            assert_eq!(rename_target(from, to), target);
        }
    }
}
