//! `mkdir` and `rmdir`.

use clap::Args;

use super::command::{Definition, Remote};
use super::context::Context;
use super::failure::Failure;
use super::files::{Named, done, expand};
use super::glob::Wanted;
use super::mode::Mode;
use super::names::{DIRECTORY_ON_SERVER, Names};
use super::refused::{about_directory, blocked};
use super::remote::{directory_name, unlistable};
use crate::client::{Error, ErrorCode};

/// `mkdir`
pub(crate) struct Mkdir;

impl Definition for Mkdir {
    type Args = MkdirArgs;

    const NAME: &'static str = "mkdir";
    const SUMMARY: &'static str = "Create directories on the server";
}

impl Remote for Mkdir {
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        mkdir(context, &args).await
    }
}

/// Arguments of `mkdir`.
#[derive(Debug, Default, Args)]
pub(crate) struct MkdirArgs {
    /// Create parent directories too; no error if the directory exists
    #[arg(short)]
    pub(crate) parents: bool,
    /// Directories
    #[arg(value_name = "DIR", required = true, value_hint = DIRECTORY_ON_SERVER)]
    pub(crate) names: Vec<String>,
}

async fn mkdir(context: &mut Context<'_>, args: &MkdirArgs) -> Result<(), Failure> {
    for name in &args.names {
        let dir = directory_name(name);
        let name = dir.unwrap_or("/");
        let made = match dir {
            Some(_) if args.parents => make_parents(context, name).await,
            None if args.parents => Ok(false),
            _ => match context.client.mkdir(dir.unwrap_or(".")).await {
                Err(error) if error.code() == Some(ErrorCode::Exists) => Err(taken(context, name, &error).await),
                made => made.map(|()| true).map_err(|error| Failure::client("mkdir", Some(name), &error)),
            },
        };
        match made {
            Ok(new) => done(context.output, "mkdir", name, None, if new { "created" } else { "exists" }),
            Err(failure) => {
                context.fail(&failure);
                if failure.is_final() {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Why a directory can't be created.
async fn taken(context: &mut Context<'_>, name: &str, error: &Error) -> Failure {
    if let Some(failure) = blocked(context.client, name).await {
        return failure;
    }
    match context.client.stat(name).await {
        Ok(_) => Failure::new(name, "exists", "a file on the server has this name"),
        Err(_) => Failure::client("mkdir", Some(name), error),
    }
}

/// Creates a directory and its missing parents. False if the directory already exists.
async fn make_parents(context: &mut Context<'_>, name: &str) -> Result<bool, Failure> {
    let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
    let dirs: Vec<_> = ends.map(|end| &name[..end]).collect();
    let fail = |error| Failure::client("mkdir", Some(name), &error);
    for (dir, result) in dirs.iter().zip(context.client.mkdir_many(&dirs).await) {
        match result {
            Err(error) if error.code() == Some(ErrorCode::Exists) => {
                if *dir == name {
                    match context.client.stat(name).await {
                        Err(error) if error.code() == Some(ErrorCode::IsDirectory) => return Ok(false),
                        Err(stat) if stat.is_connection() => return Err(fail(stat)),
                        _ => return Err(taken(context, name, &error).await),
                    }
                }
            }
            other => other.map_err(fail)?,
        }
    }
    Ok(true)
}

/// `rmdir`
pub(crate) struct Rmdir;

impl Definition for Rmdir {
    type Args = Names;

    const NAME: &'static str = "rmdir";
    const SUMMARY: &'static str = "Remove empty directories on the server";

    fn describe(parser: clap::Command, _: Mode) -> clap::Command {
        let dir = |arg: clap::Arg| arg.value_name("DIR").help("Directories, or globs").value_hint(DIRECTORY_ON_SERVER);
        parser.mut_arg("names", dir)
    }
}

impl Remote for Rmdir {
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        rmdir(context, &args).await
    }
}

async fn rmdir(context: &mut Context<'_>, args: &Names) -> Result<(), Failure> {
    for Named { name, .. } in expand(context, &args.names, Wanted::Directories).await {
        let name = name.trim_end_matches('/');
        match context.client.rmdir(name).await {
            Ok(()) => done(context.output, "rmdir", name, None, "removed"),
            Err(error) => {
                let failure = Failure::client("rmdir", Some(name), &error);
                let mut failure = about_directory(context.client, name, failure).await;
                if error.code() == Some(ErrorCode::NotEmpty)
                    && let Ok(listing) = context.client.list_with(Some(name), &mut |_| {}).await
                    && let Some(left) = unlistable(listing.omitted)
                {
                    failure.message = format!("{}: it contains {left}", failure.message);
                }
                context.fail(&failure);
                if failure.is_final() {
                    break;
                }
            }
        }
    }
    Ok(())
}
