//! `edit` and `diff`: a file on the server as text.

use std::env;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use similar::TextDiff;

use super::command::{Definition, Remote};
use super::context::Context;
use super::failure::{Failure, for_one_board, io_text};
use super::format::bytes;
use super::glob::is_glob;
use super::json::Object;
use super::mode::Mode;
use super::names::{ON_SERVER, local_path};
use super::output::Outcome;
use super::place::{make_private, private_directory};
use super::refused::explained;
use super::stream::stdin_for;
use crate::client::{CancelToken, Client, Error, ErrorCode, checksum_of, sanitize};

/// `edit`
pub(crate) struct Edit;

impl Definition for Edit {
    type Args = EditArgs;

    const NAME: &'static str = "edit";
    const SUMMARY: &'static str = "Edit a file on the server with $VISUAL or $EDITOR";
}

impl Remote for Edit {
    fn prepare(_: &mut Self::Args, mode: Mode) -> Result<(), Failure> {
        for_one_board(mode)
    }

    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        edit(context, &args).await
    }
}

/// Arguments of `edit`.
#[derive(Debug, Default, Args)]
#[command(after_help = "\
A file that does not exist is created. If the file on the server has changed meanwhile, nothing is
uploaded, and your version is kept in a local file.")]
pub(crate) struct EditArgs {
    /// File on the server
    #[arg(value_name = "NAME", value_hint = ON_SERVER)]
    name: String,
}

/// What a file on the server is: size and checksum; `None` if there is none.
type Version = Option<(u64, u32)>;

async fn edit(context: &mut Context<'_>, args: &EditArgs) -> Result<(), Failure> {
    let name = args.name.as_str();
    let fail = |error: &Error| Failure::client("edit", Some(name), error);
    let cancel = context.client.cancel_token();
    // Before the editor opens: users should not type what the server would refuse.
    match context.client.resume_many(&[name]).await.pop() {
        Some(Err(error)) if !matches!(error.code(), Some(ErrorCode::BadCommand | ErrorCode::Unsupported)) => {
            return Err(explained(context.client, name, &error, fail(&error)).await);
        }
        _ => {}
    }
    let dir = private_directory()?;
    // Editors choose what to do by the name.
    let path = dir.path().join(name.rsplit('/').next().filter(|own| !own.is_empty()).unwrap_or("file"));
    let before: Version = match context.client.get(name, &path).await {
        Ok(_) => {
            make_private(&path)?;
            Some(version_of(&path, &cancel).await?)
        }
        Err(error) if error.code() == Some(ErrorCode::NotFound) && is_glob(name) => {
            let message = "no such file on the server; edit does not expand globs";
            return Err(Failure::new(name, "not-found", message));
        }
        Err(error) if error.code() == Some(ErrorCode::NotFound) => None,
        Err(error) => return Err(fail(&error)),
    };
    context.output.flush();
    if let Err(mut failure) = run_editor(&path) {
        let saved = if path.exists() { Some(version_of(&path, &cancel).await?) } else { None };
        if saved.is_some() && saved != before {
            failure.message = format!("{}; your version is {}", failure.message, sanitize(&keep(dir, &path)));
        }
        return Err(failure);
    }
    if before.is_none() && !path.exists() {
        context.output.note(&format!("edit {name}: nothing was saved"));
        return Ok(());
    }
    let after = version_of(&path, &cancel).await?;
    if before == Some(after) {
        context
            .output
            .confirm(&Object::Edited { command: "edit", name, changed: false }, || format!("edit {name}: unchanged"));
        return Ok(());
    }
    let sent = match current(context.client, name).await {
        Ok(now) if now == before => context.client.put(&path, name).await,
        Ok(_) => {
            let kept = keep(dir, &path);
            let message = format!("the file on the server has changed; your version is {}", sanitize(&kept));
            return Err(Failure::new(name, "changed", message));
        }
        Err(error) => Err(error),
    };
    match sent {
        Ok(_) => {
            let object = Object::Edited { command: "edit", name, changed: true };
            context.output.confirm(&object, || format!("edit {name}: {}, stored", bytes(after.0)));
            Ok(())
        }
        Err(error) => {
            let mut failure = fail(&error);
            failure.message = format!("{}; your version is {}", failure.message, sanitize(&keep(dir, &path)));
            Err(failure)
        }
    }
}

/// Keeps the directory of the edited file, and says where it is.
fn keep(dir: tempfile::TempDir, path: &Path) -> String {
    let kept = path.to_string_lossy().into_owned();
    _ = dir.keep();
    kept
}

async fn version_of(path: &Path, cancel: &CancelToken) -> Result<(u64, u32), Failure> {
    checksum_of(path, cancel).await.map_err(|error| Failure::client("edit", None, &error))
}

/// What the server has now.
async fn current(client: &mut Client, name: &str) -> Result<Version, Error> {
    match client.sum(name, 0, None).await {
        Ok(sum) => Ok(sum.crc.map(|crc| (sum.length, crc))),
        Err(error) if error.code() == Some(ErrorCode::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Runs the user's editor and waits for its end.
fn run_editor(path: &Path) -> Result<(), Failure> {
    let set = |name| env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let wrong = |why: String| Failure::new(editor.clone(), "local", why);
    let words = shell_words::split(&editor).map_err(|_| wrong("unmatched quote in VISUAL or EDITOR".to_owned()))?;
    let Some((program, arguments)) = words.split_first() else { return Err(wrong("no editor".to_owned())) };
    let ended = Command::new(program).args(arguments).arg(path).status();
    let status = ended.map_err(|error| wrong(format!("{}; set EDITOR to your editor", io_text(&error))))?;
    if status.success() { Ok(()) } else { Err(wrong(format!("the editor failed: {status}; nothing was uploaded"))) }
}

/// `diff`
pub(crate) struct Diff;

impl Definition for Diff {
    type Args = DiffArgs;

    const NAME: &'static str = "diff";
    const NEEDLESS: &'static [&'static str] = &["u"];
    const SUMMARY: &'static str = "Show how a file on the server differs from a local one";
    const FAILED: Outcome = Outcome::Trouble;

    fn describe(parser: clap::Command, mode: Mode) -> clap::Command {
        if mode == Mode::OneShot { parser } else { parser.mut_arg("local", |arg| arg.help("Local file")) }
    }
}

impl Remote for Diff {
    /// Reads standard input.
    fn prepare(args: &mut Self::Args, mode: Mode) -> Result<(), Failure> {
        if args.local == Path::new("-") {
            args.stdin = Some(stdin_for(mode)?);
        }
        Ok(())
    }

    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        diff(context, args).await
    }
}

/// Arguments of `diff`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Exit codes: 0 the files are the same, 1 they differ, 2 error.")]
pub(crate) struct DiffArgs {
    /// Local file, - for standard input
    #[arg(value_name = "LOCAL", value_parser = local_path())]
    local: PathBuf,
    /// File on the server
    #[arg(value_name = "NAME", value_hint = ON_SERVER)]
    name: String,
    /// The content of standard input, if LOCAL is `-`.
    #[arg(skip)]
    stdin: Option<File>,
}

/// Longer files are not compared line by line.
const LIMIT: u64 = 64 << 20;

async fn diff(context: &mut Context<'_>, args: DiffArgs) -> Result<(), Failure> {
    let (name, path) = (args.name.as_str(), args.local.as_path());
    let here = match args.stdin {
        Some(mut stdin) => {
            let mut content = Vec::new();
            stdin.read_to_end(&mut content).map(|_| content)
        }
        None => fs::read(path),
    };
    let here = here.map_err(|error| Failure::local(path, &error))?;
    let there = context.client.get_bytes(name, LIMIT).await;
    let there = there.map_err(|error| Failure::client("diff", Some(name), &error))?;
    if here == there {
        return Ok(());
    }
    context.output.set_failed();
    let local = path.to_string_lossy();
    let unified = match (core::str::from_utf8(&here), core::str::from_utf8(&there)) {
        (Ok(here), Ok(there)) => {
            let text = TextDiff::from_lines(here, there);
            Some(text.unified_diff().header(&local, &format!("{name} (server)")).to_string())
        }
        _ => None,
    };
    match &unified {
        Some(unified) if !context.output.is_json() => unified.lines().for_each(|line| context.output.line(line)),
        diff => {
            let object = Object::Differ { local: &local, name, diff: diff.as_deref() };
            context.output.result(&object, || format!("{local} and {name} on the server differ"));
        }
    }
    Ok(())
}
