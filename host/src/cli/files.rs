//! Commands on files of the server (`stat`, `sum`, `rm`, `mv`, `cp`, `mkdir`, `rmdir`) and on the server itself (`df`,
//! `ping`, `info`).

use core::time::Duration;
use std::collections::HashSet;

use clap::{ArgAction, Args};

use super::command::{Definition, NoArgs, Remote};
use super::context::Context;
use super::cwd::Cwd;
use super::failure::Failure;
use super::format::{Times, count, size};
use super::glob::{Wanted, expand_remote, is_glob};
use super::json::{Object, Protocol, hex_text};
use super::list::Row;
use super::names::{Names, ON_SERVER};
use super::output::Output;
use super::place::private_directory;
use super::remote::{Listings, directory_name, unlistable, walk};
use super::tree::empty_dirs;
use crate::client::{Error, ErrorCode, Peer, RemoteEntry, Verb, sanitize};

/// A name of a command, and what a listing has said about it.
struct Named {
    name: String,
    entry: Option<RemoteEntry>,
}

/// The names, globs expanded; failures have been reported.
async fn expand(context: &mut Context<'_>, names: &[String], wanted: Wanted) -> Vec<Named> {
    let mut found = Vec::new();
    let mut failures = Vec::new();
    let mut listings = Listings::new(context.client);
    for name in names {
        if !is_glob(name) {
            // A directory may be typed with a slash. If a file is, the server reports the error.
            let name = if wanted == Wanted::Any { name.trim_end_matches('/') } else { name };
            found.push(Named { name: name.to_owned(), entry: None });
            continue;
        }
        match expand_remote(&mut listings, context.verb, name, wanted).await {
            Ok(entries) => {
                found.extend(entries.into_iter().map(|entry| Named { name: entry.name.clone(), entry: Some(entry) }));
            }
            Err(failure) => {
                failures.push(failure);
                if failures.last().is_some_and(Failure::is_final) {
                    // The connection has failed: the others would fail the same way, each after a wait.
                    found.clear();
                    break;
                }
            }
        }
    }
    failures.extend(listings.take_failures());
    failures.iter().for_each(|failure| context.fail(failure));
    // `rm *.txt a.txt` is about a.txt once.
    let mut seen = HashSet::new();
    found.retain(|named| seen.insert(named.name.clone()));
    found
}

/// `stat`
pub(crate) struct Stat;

impl Definition for Stat {
    type Args = Names;

    const NAME: &'static str = "stat";
    const SUMMARY: &'static str = "Show size, time and checksum of files on the server";
}

impl Remote for Stat {
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        stat(context, &args).await
    }
}

async fn stat(context: &mut Context<'_>, args: &Names) -> Result<(), Failure> {
    let named = expand(context, &args.names, Wanted::Any).await;
    let unknown: Vec<_> = named.iter().filter(|named| named.entry.is_none()).map(|named| named.name.as_str()).collect();
    let mut stats = context.client.stat_many(&unknown).await.into_iter();
    let mut times = Times::default();
    for Named { name, entry } in named {
        let entry = match entry {
            Some(entry) => Ok(entry),
            None => match stats.next() {
                Some(Ok(stat)) => {
                    Ok(RemoteEntry { name, size: stat.size, mtime: stat.mtime, crc: stat.crc, is_dir: false })
                }
                Some(Err(error)) if error.code() == Some(ErrorCode::IsDirectory) => {
                    Ok(RemoteEntry { name, size: 0, mtime: None, crc: None, is_dir: true })
                }
                Some(Err(error)) => Err(Failure::client("stat", Some(&name), &error)),
                None => continue,
            },
        };
        match entry {
            Ok(entry) => show_stat(context.output, context.cwd, entry, &mut times),
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

fn show_stat(output: &mut Output, cwd: &Cwd, entry: RemoteEntry, times: &mut Times) {
    let name = cwd.shown(&entry.name);
    let line = if entry.is_dir {
        format!("{name}/: directory")
    } else {
        let crc = entry.crc.map_or_else(|| "-".to_owned(), hex_text);
        format!("{name}: {} bytes, {}, crc32c {crc}", entry.size, times.show(entry.mtime))
    };
    let row = Row::remote(entry, false);
    output.result(&row.object(), || line);
}

/// `sum`
pub(crate) struct Sum;

impl Definition for Sum {
    type Args = Names;

    const NAME: &'static str = "sum";
    const SUMMARY: &'static str = "Have the server compute checksums (CRC-32C) of files";
}

impl Remote for Sum {
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        sum(context, &args).await
    }
}

async fn sum(context: &mut Context<'_>, args: &Names) -> Result<(), Failure> {
    for Named { name, .. } in expand(context, &args.names, Wanted::Files).await {
        match context.client.sum(&name, 0, None).await {
            Ok(sum) => {
                let object = Object::Sum { name: &name, size: sum.length, crc32c: sum.crc };
                let crc = sum.crc.map_or_else(|| "-".to_owned(), hex_text);
                context.output.result(&object, || format!("{crc} {} {}", sum.length, context.cwd.shown(&name)));
            }
            Err(error) => {
                let failure = Failure::client("sum", Some(&name), &error);
                context.fail(&failure);
                if failure.is_final() {
                    break;
                }
            }
        }
        if context.output.is_broken() {
            break;
        }
    }
    Ok(())
}

/// `rm`
pub(crate) struct Rm;

impl Definition for Rm {
    type Args = RmArgs;

    const NAME: &'static str = "rm";
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
    /// Remove directories and all that is in them
    #[arg(short)]
    pub(crate) recursive: bool,
    /// Names on the server, or globs
    #[arg(value_name = "NAME", required = true, value_hint = ON_SERVER)]
    pub(crate) names: Vec<String>,
}

async fn rm(context: &mut Context<'_>, args: &RmArgs) -> Result<(), Failure> {
    let wanted = if args.recursive { Wanted::Any } else { Wanted::Files };
    if args.recursive && args.names.iter().any(|name| directory_name(name).is_none()) {
        return Err(Failure::usage("the root can't be removed; rm -r '*' removes what is in it"));
    }
    let named = expand(context, &args.names, wanted).await;
    let (mut files, mut dirs) = (Vec::new(), Vec::new());
    for (named, is_dir) in with_kinds(context, named, args.recursive).await? {
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
    let removed = context.client.remove_many(&files).await;
    if removed_all(context, &files, removed) {
        // Each after those in it.
        dirs.sort_by(|a, b| b.cmp(a));
        let removed = context.client.rmdir_many(&dirs).await;
        removed_all(context, &dirs, removed);
    }
    Ok(())
}

/// Finds which of `names` are directories. Asks the server about names that no listing has shown only if `ask` is set.
async fn with_kinds(context: &mut Context<'_>, named: Vec<Named>, ask: bool) -> Result<Vec<(Named, bool)>, Failure> {
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
                    context.fail(&failure);
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
fn removed_all(context: &mut Context<'_>, names: &[String], results: Vec<Result<(), Error>>) -> bool {
    for (name, result) in names.iter().zip(results) {
        match result {
            Ok(()) => done(context.output, context.verb, name, None, "removed"),
            Err(error) => {
                let mut failure = Failure::client(context.verb, Some(name), &error);
                if error.code() == Some(ErrorCode::NotEmpty) {
                    failure.message = format!("what the server lists was removed; {UNSEEN} is left in this directory");
                }
                context.fail(&failure);
                if failure.is_final() {
                    return false;
                }
            }
        }
    }
    true
}

/// What keeps a directory from being removed when all files of its listing are gone.
const UNSEEN: &str = "something that the server does not list";

/// `mv`
pub(crate) struct Mv;

impl Definition for Mv {
    type Args = MvArgs;

    const NAME: &'static str = "mv";
    const SUMMARY: &'static str = "Rename a file or directory on the server";
}

impl Remote for Mv {
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        mv(context, &args).await
    }
}

/// Arguments of `mv`.
#[derive(Debug, Default, Args)]
pub(crate) struct MvArgs {
    /// Current name
    #[arg(value_name = "FROM", value_hint = ON_SERVER)]
    pub(crate) from: String,
    /// New name, or a directory if it ends in /
    #[arg(value_name = "TO", value_hint = ON_SERVER)]
    pub(crate) to: String,
}

async fn mv(context: &mut Context<'_>, args: &MvArgs) -> Result<(), Failure> {
    let from = args.from.trim_end_matches('/');
    let to = rename_target(from, &args.to);
    match context.client.rename(from, &to).await {
        Ok(()) => {}
        // FROM is a directory and this server does not rename those, or TO is a directory.
        Err(error) if matches!(error.code(), Some(ErrorCode::IsDirectory | ErrorCode::Exists)) => {
            let is_dir = match context.client.stat(from).await {
                Err(stat) => stat.code() == Some(ErrorCode::IsDirectory),
                Ok(_) => false,
            };
            if !is_dir {
                return Err(Failure::client("mv", Some(from), &error));
            }
            mv_directory(context, from, &to).await?;
        }
        Err(error) => return Err(Failure::client("mv", Some(from), &error)),
    }
    done(context.output, "mv", from, Some(&to), &format!("renamed to {to}"));
    Ok(())
}

/// Moves a directory, one file after the other, on a server that does not rename directories. Interrupted, it leaves two
/// directories with all files between them.
async fn mv_directory(context: &mut Context<'_>, from: &str, to: &str) -> Result<(), Failure> {
    let fail = |name: &str, error: &Error| Failure::client("mv", Some(name), error);
    if to == from || to.strip_prefix(from).is_some_and(|rest| rest.starts_with('/')) {
        return Err(Failure::new(from, "bad-name", "a directory can't be moved into itself"));
    }
    match context.client.stat(to).await {
        Err(error) if error.code() == Some(ErrorCode::NotFound) => {}
        Err(error) if error.code() == Some(ErrorCode::IsDirectory) => {
            let message =
                format!("the directory {} exists on the server (mv {from} {to}/ moves it in there)", sanitize(to));
            return Err(Failure::new(from, "exists", message));
        }
        Err(error) => return Err(fail(to, &error)),
        Ok(_) => return Err(Failure::new(from, "exists", format!("a file on the server is called {}", sanitize(to)))),
    }
    let mut listings = Listings::new(context.client);
    let below = walk(&mut listings, "mv", Some(from)).await?;
    if let Some(failure) = listings.take_failures().into_iter().next() {
        // Half a directory is worse than none.
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
    type Args = MvArgs;

    const NAME: &'static str = "cp";
    const SUMMARY: &'static str = "Copy a file on the server, replacing TO if it exists";
}

impl Remote for Cp {
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        cp(context, &args).await
    }
}

/// The server copies; if it can't, the file is downloaded and uploaded.
async fn cp(context: &mut Context<'_>, args: &MvArgs) -> Result<(), Failure> {
    let from = args.from.as_str();
    let to = rename_target(from, &args.to);
    if to == from {
        return Err(Failure::new(from, "exists", "FROM and TO are the same file"));
    }
    match context.client.copy(from, &to).await {
        Ok(_) => {
            done(context.output, "cp", from, Some(&to), &format!("copied to {to}"));
            return Ok(());
        }
        Err(error) if matches!(error.code(), Some(ErrorCode::BadCommand | ErrorCode::Unsupported)) => {}
        Err(Error::NeedsExtended { .. }) => {}
        Err(error) => return Err(copy_failure(context, from, &to, &error).await),
    }
    let dir = private_directory()?;
    let path = dir.path().join("copy");
    context.client.get(from, &path).await.map_err(|error| match error.code() {
        Some(ErrorCode::IsDirectory) => no_directory(from),
        _ => Failure::client("cp", Some(from), &error),
    })?;
    context.client.put(&path, &to).await.map_err(|error| Failure::client("cp", Some(&to), &error))?;
    done(context.output, "cp", from, Some(&to), &format!("copied to {to}"));
    Ok(())
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
    Failure::client("cp", Some(if about_from { from } else { to }), error)
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
    #[arg(value_name = "DIR", required = true, value_hint = ON_SERVER)]
    pub(crate) names: Vec<String>,
}

async fn mkdir(context: &mut Context<'_>, args: &MkdirArgs) -> Result<(), Failure> {
    for name in &args.names {
        let name = name.trim_end_matches('/');
        let made = if args.parents {
            make_parents(context, name).await
        } else {
            context.client.mkdir(name).await.map_err(|error| Failure::client("mkdir", Some(name), &error))
        };
        match made {
            Ok(()) => done(context.output, "mkdir", name, None, "created"),
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

/// Creates a directory and its missing parents.
async fn make_parents(context: &mut Context<'_>, name: &str) -> Result<(), Failure> {
    let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
    let dirs: Vec<_> = ends.map(|end| &name[..end]).collect();
    let fail = |error| Failure::client("mkdir", Some(name), &error);
    for (dir, result) in dirs.iter().zip(context.client.mkdir_many(&dirs).await) {
        match result {
            Err(error) if error.code() == Some(ErrorCode::Exists) => {
                if *dir == name {
                    match context.client.stat(name).await {
                        Err(error) if error.code() == Some(ErrorCode::IsDirectory) => {}
                        Err(error) if error.code() == Some(ErrorCode::NotFound) => {
                            return Err(Failure::new(
                                name,
                                "exists",
                                "a parent directory of this name is a file on the server",
                            ));
                        }
                        Err(error) => return Err(fail(error)),
                        Ok(_) => return Err(Failure::new(name, "exists", "a file on the server has this name")),
                    }
                }
            }
            other => other.map_err(fail)?,
        }
    }
    Ok(())
}

/// `rmdir`
pub(crate) struct Rmdir;

impl Definition for Rmdir {
    type Args = Names;

    const NAME: &'static str = "rmdir";
    const SUMMARY: &'static str = "Remove empty directories on the server";
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
                let mut failure = Failure::client("rmdir", Some(name), &error);
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

/// `rm notes.txt: removed`
fn done(output: &mut Output, command: &str, name: &str, to: Option<&str>, word: &str) {
    output.confirm(&Object::Done { command, name, to }, || format!("{command} {name}: {word}"));
}

/// `df`
pub(crate) struct Df;

impl Definition for Df {
    type Args = DfArgs;

    const NAME: &'static str = "df";
    const SUMMARY: &'static str = "Show disk space on the server";
}

impl Remote for Df {
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        df(context, &args).await
    }
}

/// Arguments of `df`.
#[derive(Debug, Default, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct DfArgs {
    /// Show sizes in KiB, MiB, GiB
    #[arg(short)]
    pub(crate) human: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub(crate) help: Option<bool>,
}

async fn df(context: &mut Context<'_>, args: &DfArgs) -> Result<(), Failure> {
    let space = context.client.space().await.map_err(|error| Failure::client("df", None, &error))?;
    context.output.result(&Object::Space { total: space.total, free: space.free }, || {
        let unit = if args.human { "" } else { " bytes" };
        let percent = used_percent(space.total, space.free);
        let [total, free] = [space.total, space.free].map(|bytes| size(bytes, args.human));
        format!("{total}{unit} total, {free}{unit} free, {percent}% used")
    });
    Ok(())
}

/// How full a store is, in percent. Rounded up as df does, so that an almost full store is not shown as 99 % full.
fn used_percent(total: u64, free: u64) -> u128 {
    let used = u128::from(total.saturating_sub(free)) * 100;
    if total == 0 { 0 } else { used.div_ceil(total.into()) }
}

/// `ping`
pub(crate) struct Ping;

impl Definition for Ping {
    type Args = PingArgs;

    const NAME: &'static str = "ping";
    const SUMMARY: &'static str = "Measure the round-trip time";
}

impl Remote for Ping {
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        ping(context, &args).await
    }
}

/// Arguments of `ping`.
#[derive(Debug, Args)]
pub(crate) struct PingArgs {
    /// Number of pings, one after the other
    #[arg(short = 'n', value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
}

async fn ping(context: &mut Context<'_>, args: &PingArgs) -> Result<(), Failure> {
    let mut times = Vec::new();
    for number in 1..=args.count {
        let time = context.client.ping().await.map_err(|error| Failure::client("ping", None, &error))?;
        let address = context.client.address().to_owned();
        let object = Object::Ping { number, seconds: time.as_secs_f64() };
        context.output.result(&object, || format!("{address}: {}", milliseconds(time)));
        if context.output.is_broken() {
            return Ok(());
        }
        times.push(time);
    }
    if args.count > 1 && !context.output.is_json() {
        context.output.line(&ping_summary(&times));
    }
    Ok(())
}

fn ping_summary(times: &[Duration]) -> String {
    let sum: Duration = times.iter().sum();
    let mean = sum / u32::try_from(times.len()).unwrap_or(u32::MAX).max(1);
    let [least, most] = [times.iter().min(), times.iter().max()].map(|time| time.copied().unwrap_or_default());
    format!("min {}, mean {}, max {}", milliseconds(least), milliseconds(mean), milliseconds(most))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1000.0)
}

/// `info`
pub(crate) struct Info;

impl Definition for Info {
    type Args = NoArgs;

    const NAME: &'static str = "info";
    const SUMMARY: &'static str = "Show the server's version and what it supports";
}

impl Remote for Info {
    async fn run(context: &mut Context<'_>, _: Self::Args) -> Result<(), Failure> {
        info(context).await
    }
}

async fn info(context: &mut Context<'_>) -> Result<(), Failure> {
    let hello = context.client.hello().await.map_err(|error| Failure::client("info", None, &error))?.cloned();
    let address = context.client.address().to_owned();
    let ip = context.client.remote_addr().map(|addr| addr.to_string());
    let key = context.client.key_id().map(ToString::to_string);
    let protocol = if context.client.peer() == Peer::Extended { Protocol::Extended } else { Protocol::Classic };
    let commands: Vec<_> = match &hello {
        Some(hello) => ["get", "put", "ls"].into_iter().chain(hello.commands.iter().map(Verb::as_str)).collect(),
        None => vec!["get", "put", "ls", "quit"],
    };
    let object = Object::Info {
        address: &address,
        ip: ip.clone(),
        protocol,
        server: hello.as_ref().map(|hello| hello.server.as_str()),
        host: hello.as_ref().and_then(|hello| hello.host.as_deref()),
        commands: commands.clone(),
        name_max: hello.as_ref().map(|hello| hello.name_max),
        idle: hello.as_ref().and_then(|hello| hello.idle),
        nocrc: hello.as_ref().is_some_and(|hello| hello.nocrc),
        key: key.clone(),
    };
    if context.output.is_json() {
        context.output.object(&object);
        return Ok(());
    }
    let ip = ip.map(|ip| format!(" ({ip})")).unwrap_or_default();
    let mut lines = vec![format!("address: {address}{ip}")];
    match &hello {
        None => lines.push("protocol: classic".to_owned()),
        Some(hello) => {
            // No name that a program would want back as it is.
            lines.push(format!("protocol: extended (skiff/1), server {}", sanitize(&hello.server)));
            lines.extend(hello.host.as_deref().map(|host| format!("name: {}", sanitize(host))));
            lines.push(format!("longest name: {} bytes", hello.name_max));
            lines.extend(hello.idle.map(|idle| format!("idle timeout: {idle} s")));
            lines.push(format!("checksums: {}", if hello.nocrc { "optional" } else { "always" }));
        }
    }
    lines.push(match &key {
        Some(key) => format!("protection: encrypted, with the key {key}"),
        None => "protection: none".to_owned(),
    });
    lines.push(format!("commands: {}", commands.join(" ")));
    lines.iter().for_each(|line| context.output.line(line));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::testing::output;
    use crate::cli::settings::Settings;

    #[test]
    fn mv_into_a_directory_keeps_the_last_part() {
        for (from, to, target) in
            [("a", "b", "b"), ("d/a", "e/", "e/a"), ("d/a", "/", "a"), ("a", "./", "a"), ("a", "x//", "x/a")]
        {
            assert_eq!(rename_target(from, to), target);
        }
    }

    #[test]
    fn stat_is_a_line_or_an_object() {
        let entry = RemoteEntry { name: "n".to_owned(), size: 9, mtime: None, crc: Some(0xe306_9283), is_dir: false };
        let (mut to, out, _) = output(false);
        show_stat(&mut to, &Cwd::default(), entry.clone(), &mut Times::default());
        show_stat(&mut to, &Cwd::default(), RemoteEntry { is_dir: true, ..entry.clone() }, &mut Times::default());
        to.flush();
        assert_eq!(out.take(), "n: 9 bytes, -, crc32c e3069283\nn/: directory\n");
        to.set_form(&Settings { json: true, ..Settings::default() });
        show_stat(&mut to, &Cwd::default(), entry, &mut Times::default());
        to.flush();
        let line =
            "{\"type\":\"entry\",\"name\":\"n\",\"kind\":\"file\",\"size\":9,\"mtime\":null,\"crc32c\":\"e3069283\"}\n";
        assert_eq!(out.take(), line);
    }

    #[test]
    fn confirmations_are_left_out_when_quiet() {
        let (mut to, out, _) = output(false);
        done(&mut to, "rm", "a", None, "removed");
        to.set_form(&Settings { quiet: true, ..Settings::default() });
        done(&mut to, "rm", "b", None, "removed");
        to.flush();
        assert_eq!(out.take(), "rm a: removed\n");
    }

    #[test]
    fn the_percentage_is_rounded_as_df_does() {
        for (total, free, percent) in [(0, 0, 0), (10, 10, 0), (10, 4, 60), (1000, 999, 1), (1000, 1, 100), (10, 20, 0)]
        {
            assert_eq!(used_percent(total, free), percent, "{total} {free}");
        }
    }

    #[test]
    fn pings_are_summed_up() {
        let times = [1, 2, 6].map(Duration::from_millis);
        assert_eq!(ping_summary(&times), "min 1.000 ms, mean 3.000 ms, max 6.000 ms");
    }
}
