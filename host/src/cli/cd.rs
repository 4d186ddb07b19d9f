//! `cd` and `pwd`: the current directory on the server.

use clap::Args;

use super::command::{Definition, NoArgs, Remote};
use super::context::Context;
use super::failure::Failure;
use super::json::Object;
use super::names::DIRECTORY_ON_SERVER;
use super::refused::about_directory;
use super::remote::directory_name;
use crate::client::ErrorCode;

/// `cd`
pub(crate) struct Cd;

impl Definition for Cd {
    type Args = CdArgs;

    const NAME: &'static str = "cd";
    const SUMMARY: &'static str = "Change the directory on the server that names are relative to";
}

/// Arguments of `cd`.
#[derive(Debug, Args)]
pub(crate) struct CdArgs {
    /// Directory on the server; / is the root, - the previous directory
    #[arg(value_name = "DIR", default_value = "/", value_hint = DIRECTORY_ON_SERVER)]
    dir: String,
}

impl Remote for Cd {
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        let goes_back = context.typed(&args.dir).is_some_and(|typed| typed == "-");
        let dir = match context.cwd.previous() {
            Some(previous) if goes_back => previous.to_owned(),
            None if goes_back => return Err(Failure::usage("there is no previous directory")),
            // The parent of the root is the root, as in a shell.
            _ => directory_name(args.dir.trim_start_matches("../")).unwrap_or_default().to_owned(),
        };
        let dir = dir.as_str();
        if !dir.is_empty() {
            match context.client.stat(dir).await {
                Err(error) if error.code() == Some(ErrorCode::IsDirectory) => {}
                Err(error) => {
                    let failure = Failure::client("cd", Some(dir), &error);
                    return Err(about_directory(context.client, dir, failure).await);
                }
                Ok(_) => return Err(Failure::new(dir, "not-found", "is a file on the server, not a directory")),
            }
        }
        context.cwd.enter(dir);
        let object = Object::Done { command: "cd", name: dir, to: None };
        context.output.confirm(&object, || context.cwd.path());
        Ok(())
    }
}

/// `pwd`
pub(crate) struct Pwd;

impl Definition for Pwd {
    type Args = NoArgs;

    const NAME: &'static str = "pwd";
    const SUMMARY: &'static str = "Print the current directory on the server";
}

impl Remote for Pwd {
    async fn run(context: &mut Context<'_>, _: Self::Args) -> Result<(), Failure> {
        let object = Object::Done { command: "pwd", name: context.cwd.name(), to: None };
        context.output.result(&object, || context.cwd.path());
        Ok(())
    }
}
