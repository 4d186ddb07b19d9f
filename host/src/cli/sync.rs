//! `sync`: makes one tree like another by content.
//!
//! | step | what happens |
//! |---|---|
//! | look | both trees are listed, that of the server with one `tree` if it supports that; excluded names are left alone |
//! | [`compare`] | sizes decide, then checksums; those that a listing lacks are asked for, all at once |
//! | settle | what the server would refuse, or may have without showing it, is left alone |
//! | act | files are transferred and empty directories made; if all of that went well, what is superfluous is deleted, and |
//! | | what takes the place of something deleted is transferred |

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use super::command::{Definition, Remote};
use super::context::{Context, Mode};
use super::exclude::Exclusions;
use super::failure::Failure;
use super::format::{decimal, seconds};
use super::json::Object;
use super::names::{ON_SERVER, local_path};
use super::place::Place;
use super::remote::{Lister as _, Listings, directory_name, walk_where};
use super::report::{Label, Repeated, Reporter, Rest};
use super::send::make_empty;
use super::tree::{self, BAD_NAME, empty_dirs, parents};
use crate::client::{
    Download, DownloadOptions, Error, ErrorCode, Existing, Observer, Peer, RemoteEntry, Target, Upload, UploadOptions,
    checksums_of,
};

/// Uploads of files of this size ask what an interrupted run has left on the server.
const WORTH_RESUMING: u64 = 64 << 10;

/// How an interrupted `sync` is resumed.
const AGAIN: &str = "run sync again to continue";

/// `sync`
pub(crate) struct Sync;

impl Definition for Sync {
    type Args = SyncArgs;

    const NAME: &'static str = "sync";
    const SUMMARY: &'static str = "Transfer what differs between two directories";
}

impl Remote for Sync {
    async fn run(context: &mut Context<'_>, mut args: Self::Args) -> Result<(), Failure> {
        if let Some(own) = context.own_dir.as_ref().filter(|_| args.pull) {
            args.local.push(own);
        }
        args.remote.get_or_insert_with(|| context.cwd.here());
        sync(context, &args).await.map(drop)
    }

    fn prepare(args: &mut Self::Args, _: Mode) -> Result<(), Failure> {
        check_delete(args.delete, args.remote.as_deref())
    }
}

/// What the help of `sync` says below the options.
const SYNC_EXAMPLES: &str = "\
Files are compared by size and checksum, never by time. LOCAL_DIR/x becomes REMOTE_DIR/x. A file .skiffignore in LOCAL_DIR
or below is read like a .gitignore. Excluded names are neither transferred nor deleted.

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
    #[arg(value_name = "LOCAL_DIR", value_parser = local_path())]
    pub(crate) local: PathBuf,
    /// Directory on the server [default: the current one]
    #[arg(value_name = "REMOTE_DIR", value_hint = ON_SERVER)]
    pub(crate) remote: Option<String>,
    /// Transfer from the server
    #[arg(long)]
    pub(crate) pull: bool,
    /// Delete what the source does not have; REMOTE_DIR is required then, / is the root
    #[arg(long)]
    pub(crate) delete: bool,
    /// Delete even if the source has no files at all
    #[arg(long)]
    pub(crate) allow_empty: bool,
    /// Only show what would be done
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Leave alone what GLOB matches, as a line of a .gitignore would; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// If nothing was to be done, nothing is said.
    #[arg(skip)]
    pub(crate) changes_only: bool,
}

/// # Errors
/// `--delete` without the name of what to make alike.
pub(crate) fn check_delete(delete: bool, remote: Option<&str>) -> Result<(), Failure> {
    match remote {
        None if delete => Err(Failure::usage("--delete needs REMOTE_DIR; / is the root of the server")),
        _ => Ok(()),
    }
}

/// One of the two trees. Names are relative to its root.
#[derive(Debug, Default, PartialEq, Eq)]
struct Side {
    files: BTreeMap<String, Content>,
    dirs: BTreeSet<String>,
    /// Existing entries that are left alone.
    kept: BTreeSet<String>,
}

/// The properties of a file that are known without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content {
    size: u64,
    crc: Option<u32>,
    mtime: Option<u64>,
}

/// What makes one tree like another.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Files to transfer, and their sizes.
    send: BTreeMap<String, u64>,
    /// Files of the same size, whose checksums decide.
    same_size: Vec<String>,
    /// Files to delete.
    remove: Vec<String>,
    /// Directories to delete, each after those in it.
    remove_dirs: Vec<String>,
    /// Directories that the target lacks.
    make: Vec<String>,
    /// Names that are a file in one tree and a directory in the other; what is below them is not transferred.
    conflicts: Vec<String>,
    unchanged: usize,
}

/// The steps that make `to` match `from`.
fn compare(from: &Side, to: &Side, delete: bool) -> Plan {
    let mut plan = Plan::default();
    let is_kept = |name: &str| from.kept.contains(name) || parents(name).any(|dir| from.kept.contains(dir));
    // A directory goes only if nothing stays in it.
    let mut staying: BTreeSet<&str> = to.kept.iter().flat_map(|name| parents(name)).collect();
    if delete {
        for name in to.files.keys().filter(|name| !from.files.contains_key(*name)) {
            if is_kept(name) {
                staying.extend(parents(name));
            } else {
                plan.remove.push(name.clone());
            }
        }
        for name in to.dirs.iter().rev().filter(|name| !from.dirs.contains(*name)) {
            if is_kept(name) || staying.contains(name.as_str()) {
                staying.extend(parents(name));
            } else {
                plan.remove_dirs.push(name.clone());
            }
        }
    }
    let removed: BTreeSet<&str> = plan.remove.iter().chain(&plan.remove_dirs).map(String::as_str).collect();
    // An entry with the name, but of the other kind, stays.
    let in_the_way = |name: &str, is_dir: bool| {
        let there = if is_dir { to.files.contains_key(name) } else { to.dirs.contains(name) };
        (there && !removed.contains(name)) || to.kept.contains(name)
    };
    let mut conflicts: Vec<String> = Vec::new();
    conflicts.extend(from.dirs.iter().filter(|name| in_the_way(name, true)).cloned());
    conflicts.extend(from.files.keys().filter(|name| in_the_way(name, false)).cloned());
    let blocking: BTreeSet<&str> = conflicts.iter().map(String::as_str).collect();
    let blocked = |name: &str| blocking.contains(name) || parents(name).any(|dir| blocking.contains(dir));
    for (name, content) in from.files.iter().filter(|(name, _)| !blocked(name)) {
        match to.files.get(name) {
            Some(there) if there.size == content.size && content.size == 0 => plan.unchanged += 1,
            Some(there) if there.size == content.size => plan.same_size.push(name.clone()),
            _ => _ = plan.send.insert(name.clone(), content.size),
        }
    }
    plan.make = from.dirs.iter().filter(|name| !to.dirs.contains(*name) && !blocked(name)).cloned().collect();
    plan.conflicts = conflicts;
    plan
}

impl Plan {
    /// The directories that have to be made because no file brings them into being.
    fn empty_dirs(&self) -> Vec<String> {
        let files = self.send.keys().map(String::as_str);
        let mut dirs = empty_dirs(files, self.make.iter().map(String::as_str));
        // `make` is in the order of names.
        dirs.retain(|dir| self.make.binary_search(dir).is_ok());
        dirs
    }

    /// The transfers before the deletions, and those that are possible only after them.
    fn around_deletion(&self, from: &Side) -> [Self; 2] {
        let gone: BTreeSet<_> = self.remove.iter().chain(&self.remove_dirs).map(String::as_str).collect();
        let is_replaced =
            |name: &str| gone.contains(name) && (from.files.contains_key(name) || from.dirs.contains(name));
        let waits = |name: &str| is_replaced(name) || parents(name).any(is_replaced);
        [false, true].map(|second| Self {
            send: self
                .send
                .iter()
                .filter(|(name, _)| waits(name) == second)
                .map(|(name, size)| (name.clone(), *size))
                .collect(),
            make: self.make.iter().filter(|name| waits(name) == second).cloned().collect(),
            ..Self::default()
        })
    }
}

/// True if it or a directory that it lies in is hidden.
fn is_hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with('.'))
}

/// The totals for the last line.
#[derive(Debug, Default)]
struct Summary {
    sent: usize,
    deleted: usize,
    unchanged: usize,
    bytes: u64,
}

/// False if the connection was lost on the way, which has been reported.
///
/// # Errors
/// What concerns the whole command.
pub(crate) async fn sync(context: &mut Context<'_>, args: &SyncArgs) -> Result<bool, Failure> {
    let start = Instant::now();
    let mut exclusions = Exclusions::new(&args.exclude)?;
    let mut run = Run { context, args, base: args.remote.as_deref().and_then(directory_name), whole: true };
    let mut local = run.look_here(&mut exclusions)?;
    let remote = run.look_there(&exclusions).await?;
    if args.pull && args.delete {
        run.protect(&mut local, &remote).await?;
    }
    let (from, to) = if args.pull { (&remote, &local) } else { (&local, &remote) };
    if args.delete {
        for glob in exclusions.unused().filter(|_| !args.changes_only) {
            run.context.output.note(&format!("--exclude '{glob}' matches nothing; patterns are relative to LOCAL_DIR"));
        }
        if !run.whole {
            run.nothing_deleted("listed");
        }
    }
    let mut plan = compare(from, to, args.delete && run.whole);
    if from.files.is_empty() && !args.allow_empty && !(plan.remove.is_empty() && plan.remove_dirs.is_empty()) {
        let [source, target] = if args.pull { ["REMOTE_DIR", "LOCAL_DIR"] } else { ["LOCAL_DIR", "REMOTE_DIR"] };
        let message = format!("{source} has no files; with --allow-empty, --delete empties {target}");
        return Err(Failure::usage(message));
    }
    run.settle(&mut plan, &local, &remote).await?;
    let mut repeated = Repeated::default();
    if !args.pull {
        run.leave_out_hidden(&mut plan, &mut repeated).await?;
    }
    for name in core::mem::take(&mut plan.conflicts) {
        let is_dir = from.dirs.contains(&name);
        let [here, there] = if is_dir { ["directory", "file"] } else { ["file", "directory"] };
        let hint = if args.delete { "" } else { " (--delete replaces it)" };
        let message = if to.kept.contains(&name) {
            "something that is left alone has this name in the target".to_owned()
        } else {
            format!("a {here} in the source and a {there} in the target{hint}")
        };
        run.context.fail(&Failure::new(name, "exists", message));
    }
    let mut went_on = true;
    let mut summary = Summary { unchanged: plan.unchanged, ..Summary::default() };
    if args.dry_run {
        run.show(&plan, &mut summary);
    } else {
        went_on = run.act(&plan, from, &mut summary).await;
    }
    repeated.finish(run.context.output, "sync");
    if !args.changes_only || summary.sent + summary.deleted > 0 {
        run.finish(&summary, start.elapsed());
    }
    Ok(went_on)
}

/// A `sync` that is under way.
struct Run<'a, 'c> {
    context: &'a mut Context<'c>,
    args: &'a SyncArgs,
    /// REMOTE_DIR, unless it is the root.
    base: Option<&'a str>,
    /// Both trees were listed completely.
    whole: bool,
}

impl Run<'_, '_> {
    /// The name of a file of the tree on the server.
    fn there(&self, name: &str) -> String {
        self.base.map_or_else(|| name.to_owned(), |base| format!("{base}/{name}"))
    }

    /// The local path of a file of the tree.
    fn here(&self, name: &str) -> PathBuf {
        if self.args.local == Path::new(".") { PathBuf::from(name) } else { self.args.local.join(name) }
    }

    /// Lists the local tree.
    fn look_here(&mut self, exclusions: &mut Exclusions) -> Result<Side, Failure> {
        let root = &self.args.local;
        let mut tree = match tree::walk_without(root, Some(exclusions)) {
            // It is made when something is put in it.
            Err(_) if self.args.pull && !root.exists() => return Ok(Side::default()),
            tree => tree?,
        };
        if self.args.pull {
            // No server can have such a file, so it is not in the way.
            for failure in tree.failures.extract_if(.., |failure| failure.code == BAD_NAME) {
                let path = failure.subject.unwrap_or_default();
                self.context.output.left_out("sync", &path, "no server can have a file of this name");
            }
        }
        self.whole &= tree.failures.is_empty();
        tree.failures.iter().for_each(|failure| self.context.fail(failure));
        for (path, why) in &tree.skipped {
            self.context.output.left_out("sync", &path.to_string_lossy(), why);
        }
        let content = |size| Content { size, crc: None, mtime: None };
        Ok(Side {
            files: tree.files.into_iter().map(|file| (file.name, content(file.size))).collect(),
            dirs: tree.dirs.into_iter().collect(),
            kept: tree.kept.into_iter().collect(),
        })
    }

    /// Lists the tree on the server.
    async fn look_there(&mut self, exclusions: &Exclusions) -> Result<Side, Failure> {
        let base = self.base;
        let relative = |entry: &RemoteEntry| match base {
            Some(base) => entry.name[base.len()..].trim_start_matches('/').to_owned(),
            None => entry.name.clone(),
        };
        let mut listings = Listings::new(self.context.client);
        // With a new server, this is the only request, sent together with that for the hello.
        listings.prepare(base).await.map_err(|error| Failure::client("sync", None, &error))?;
        if listings.client().peer() == Peer::Classic {
            let message = super::failure::needs_extended("sync");
            return Err(Failure { subject: None, ..Failure::new("", "needs-extended", message) });
        }
        let entries = match listings.entries(base).await {
            Err(error) if !self.args.pull && error.code() == Some(ErrorCode::NotFound) => Vec::new(),
            Err(error) => {
                let mut failure = Failure::client("sync", Some(base.unwrap_or("/")), &error);
                if error.code() == Some(ErrorCode::NotFound) && !self.args.local.exists() {
                    failure.message.push_str("; LOCAL_DIR comes first, with --pull too");
                }
                return Err(failure);
            }
            Ok(_) => walk_where(&mut listings, "sync", base, |dir| !exclusions.covers(&relative(dir), true)).await?,
        };
        let failures = listings.take_failures();
        self.whole &= failures.is_empty();
        failures.iter().for_each(|failure| self.context.fail(failure));
        let mut side = Side::default();
        for entry in entries {
            let name = relative(&entry);
            if exclusions.covers(&name, entry.is_dir) {
                side.kept.insert(name);
            } else if entry.is_dir {
                side.dirs.insert(name);
            } else {
                side.files.insert(name, Content { size: entry.size, crc: entry.crc, mtime: entry.mtime });
            }
        }
        Ok(side)
    }

    /// Reports why nothing is deleted.
    fn nothing_deleted(&mut self, what: &str) {
        let message = format!("nothing was deleted, since not everything could be {what}");
        self.context.fail(&Failure { subject: None, ..Failure::new("", "omitted", message) });
    }

    /// Leaves alone what the server does not list but may have, or can't have: hidden names, names that it refuses,
    /// directories if it has none.
    async fn protect(&mut self, local: &mut Side, remote: &Side) -> Result<(), Failure> {
        let files = local.files.keys().filter(|name| !remote.files.contains_key(*name));
        let dirs = local.dirs.iter().filter(|name| !remote.dirs.contains(*name));
        let (hidden, superfluous): (Vec<_>, Vec<_>) = files.chain(dirs).cloned().partition(|name| is_hidden(name));
        let hidden =
            hidden.into_iter().map(|name| (name, "the server may have hidden files that it does not show".into()));
        let mut protected: BTreeMap<String, String> = hidden.collect();
        // A directory is one to put something in.
        let asked =
            |name: &String| self.there(&if local.dirs.contains(name) { format!("{name}/-") } else { name.clone() });
        let asked: Vec<_> = superfluous.iter().map(asked).collect();
        let written = self.context.client.resume_many(&asked).await;
        // A dangling link can be written, but not read.
        let names: Vec<_> = superfluous.iter().map(|name| self.there(name)).collect();
        let read = self.context.client.stat_many(&names).await;
        // On a read-only server, only reading counts.
        let is_no_answer = |error: &Error| matches!(error.code(), Some(ErrorCode::NotFound | ErrorCode::ReadOnly));
        for ((name, written), read) in superfluous.into_iter().zip(written).zip(read) {
            let why = match [written.err(), read.as_ref().err().cloned()] {
                [Some(error), _] | [_, Some(error)] if error.is_connection() || matches!(error, Error::Cancelled) => {
                    return Err(Failure::client("sync", None, &error));
                }
                [Some(error), _] | [_, Some(error)] if !is_no_answer(&error) => {
                    Failure::client("sync", None, &error).message
                }
                _ if read.is_ok() => "it came after the listing".to_owned(),
                _ => continue,
            };
            protected.insert(name, format!("the server has no file of this name to compare with: {why}"));
        }
        for (name, why) in &protected {
            if !parents(name).any(|dir| protected.contains_key(dir)) {
                self.context.output.left_out("sync", &self.here(name).to_string_lossy(), why);
            }
        }
        let is_protected =
            |name: &str| protected.contains_key(name) || parents(name).any(|dir| protected.contains_key(dir));
        local.files.retain(|name, _| !is_protected(name));
        local.dirs.retain(|name| !is_protected(name));
        local.kept.extend(protected.into_keys());
        Ok(())
    }

    /// Leaves out the hidden files and directories that the server refuses.
    async fn leave_out_hidden(&mut self, plan: &mut Plan, repeated: &mut Repeated) -> Result<(), Failure> {
        let files = plan.send.keys().filter(|name| is_hidden(name)).map(|name| (name.clone(), self.there(name)));
        let dirs = plan.make.iter().filter(|name| is_hidden(name));
        let dirs = dirs.map(|name| (name.clone(), format!("{}/-", self.there(name))));
        let (names, asked): (Vec<_>, Vec<_>) = files.chain(dirs).unzip();
        for (name, answer) in names.iter().zip(self.context.client.resume_many(&asked).await) {
            let Err(error) = answer else { continue };
            if error.code() != Some(ErrorCode::Denied) {
                continue;
            }
            plan.send.remove(name);
            plan.make.retain(|dir| dir != name);
            let mut failure = Failure::client("sync", Some(&self.here(name).to_string_lossy()), &error);
            failure.message = format!("skipped: {} (--exclude '.*' leaves them out)", failure.message);
            let dir = format!("{name}/");
            let is_implied = names.iter().any(|other| other.starts_with(&dir));
            if !is_implied && (repeated.is_new(name, &failure) || self.context.output.is_json()) {
                self.context.fail(&failure);
            }
        }
        Ok(())
    }

    /// Compares the files of the same size by content.
    async fn settle(&mut self, plan: &mut Plan, local: &Side, remote: &Side) -> Result<(), Failure> {
        let names = core::mem::take(&mut plan.same_size);
        let known = |name: &String| remote.files.get(name).and_then(|file| file.crc);
        let unknown: Vec<_> = names.iter().filter(|name| known(name).is_none()).collect();
        let asked: Vec<_> = unknown.iter().map(|name| self.there(name)).collect();
        let mut sums = BTreeMap::new();
        for (name, sum) in unknown.iter().zip(self.context.client.sum_many(&asked).await) {
            match sum {
                Ok(sum) => _ = sums.insert(name.as_str(), sum.crc),
                // It has gone or can't be read: the transfer says what is wrong.
                Err(error) if error.code().is_some() => {}
                Err(error) => return Err(Failure::client("sync", None, &error)),
            }
        }
        let there: Vec<_> =
            names.iter().map(|name| known(name).or_else(|| sums.get(name.as_str()).copied().flatten())).collect();
        // A local file is not read if there is nothing to compare it with.
        let paths = names.iter().zip(&there).filter(|(_, there)| there.is_some()).map(|(name, _)| self.here(name));
        let cancel = self.context.client.cancel_token();
        let here = checksums_of(paths.collect(), &cancel).await;
        let mut here = here.map_err(|error| Failure::client("sync", None, &error))?.into_iter();
        for (name, there) in names.into_iter().zip(there) {
            let size = local.files.get(&name).map_or(0, |file| file.size);
            if there.is_some_and(|there| here.next() == Some(Some((size, there)))) {
                plan.unchanged += 1;
            } else {
                plan.send.insert(name, size);
            }
        }
        Ok(())
    }

    /// Shows what would be done.
    fn show(&mut self, plan: &Plan, summary: &mut Summary) {
        let verb = if self.args.pull { "get" } else { "put" };
        let name = |run: &Self, name: &str| {
            if run.args.pull { run.here(name).to_string_lossy().into_owned() } else { run.there(name) }
        };
        let show = |run: &mut Self, command: &str, name: &str, size: Option<u64>| {
            let object = Object::Would { command, name, size };
            let bytes = size.map(|size| format!(": {size} bytes")).unwrap_or_default();
            run.context.output.result(&object, || format!("would {command} {name}{bytes}"));
        };
        for (one, size) in &plan.send {
            show(self, verb, &if self.args.pull { self.there(one) } else { name(self, one) }, Some(*size));
        }
        for one in plan.empty_dirs() {
            show(self, "mkdir", &name(self, &one), None);
        }
        for (command, names) in [("rm", &plan.remove), ("rmdir", &plan.remove_dirs)] {
            for one in names {
                show(self, command, &name(self, one), None);
            }
        }
        summary.sent = plan.send.len();
        summary.bytes = plan.send.values().sum();
        summary.deleted = plan.remove.len() + plan.remove_dirs.len();
    }

    /// Carries the plan out. False if the connection has failed.
    async fn act(&mut self, plan: &Plan, from: &Side, summary: &mut Summary) -> bool {
        // What takes the place of something that is deleted has to wait.
        let [first, second] = plan.around_deletion(from);
        let mut rest = self.transfer(&first, from).await;
        let deletes = !(plan.remove.is_empty() && plan.remove_dirs.is_empty());
        let is_done = rest.files == first.send.len() && !rest.failed;
        if deletes && !rest.over {
            if is_done {
                rest.over = !(if self.args.pull {
                    self.remove_here(plan, summary)
                } else {
                    self.remove_there(plan, summary).await
                });
            } else {
                self.nothing_deleted("transferred");
            }
        }
        if is_done && !rest.over {
            rest.add(self.transfer(&second, from).await);
        }
        summary.sent = rest.files;
        summary.bytes = rest.bytes;
        rest.repeated.finish(self.context.output, if self.args.pull { "get" } else { "put" });
        !rest.over
    }

    async fn transfer(&mut self, plan: &Plan, from: &Side) -> Rest {
        if self.args.pull { self.fetch(plan, from).await } else { self.send(plan).await }
    }

    /// Deletes on the server. False if the connection has failed.
    async fn remove_there(&mut self, plan: &Plan, summary: &mut Summary) -> bool {
        let files: Vec<_> = plan.remove.iter().map(|name| self.there(name)).collect();
        let removed = self.context.client.remove_many(&files).await;
        if !self.removed("rm", &files, removed, summary) {
            return false;
        }
        let dirs: Vec<_> = plan.remove_dirs.iter().map(|name| self.there(name)).collect();
        let removed = self.context.client.rmdir_many(&dirs).await;
        self.removed("rmdir", &dirs, removed, summary)
    }

    fn removed(
        &mut self,
        command: &str,
        names: &[String],
        results: Vec<Result<(), Error>>,
        summary: &mut Summary,
    ) -> bool {
        for (name, result) in names.iter().zip(results) {
            match result {
                Ok(()) => self.deleted(command, name, summary),
                // Somebody else was faster.
                Err(error) if error.code() == Some(ErrorCode::NotFound) => {}
                Err(error) => {
                    let failure = Failure::client(command, Some(name), &error);
                    self.context.output.failure(Some(command), &failure);
                    if failure.is_final() {
                        return false;
                    }
                }
            }
        }
        true
    }

    fn deleted(&mut self, command: &str, name: &str, summary: &mut Summary) {
        summary.deleted += 1;
        let object = Object::Done { command, name, to: None };
        self.context.output.confirm(&object, || format!("{command} {name}: removed"));
    }

    /// Deletes here.
    fn remove_here(&mut self, plan: &Plan, summary: &mut Summary) -> bool {
        let files = plan.remove.iter().map(|name| ("rm", name));
        for (command, name) in files.chain(plan.remove_dirs.iter().map(|name| ("rmdir", name))) {
            let path = self.here(name);
            let removed = if command == "rm" { fs::remove_file(&path) } else { fs::remove_dir(&path) };
            match removed {
                Ok(()) => self.deleted(command, &path.to_string_lossy(), summary),
                Err(error) => self.context.output.failure(Some(command), &Failure::local(&path, &error)),
            }
        }
        true
    }

    /// Sends files, then makes the directories that are still missing.
    async fn send(&mut self, plan: &Plan) -> Rest {
        let mut all = Rest::default();
        // Small ones are not worth the question what an interrupted run has left of them.
        let (large, small): (Vec<_>, Vec<_>) = plan.send.iter().partition(|(_, size)| **size >= WORTH_RESUMING);
        for (files, resume) in [(small, false), (large, true)] {
            if files.is_empty() || all.over {
                continue;
            }
            let label = |name: &String| Label {
                name: self.there(name),
                local: Some(self.here(name).to_string_lossy().into_owned()),
            };
            let labels: Vec<_> = files.iter().map(|(name, _)| label(name)).collect();
            let jobs = files.iter().map(|(name, _)| Upload::new(self.here(name), self.there(name))).collect();
            let total = files.iter().map(|(_, size)| **size).sum();
            let options = UploadOptions { resume, ..UploadOptions::default() };
            let Context { client, output, bars, .. } = &mut *self.context;
            let mut reporter = Reporter::new(output, "put", labels, Some(total), *bars).resumed_by(AGAIN);
            client.upload(jobs, &options, &mut reporter as &mut dyn Observer).await;
            all.add(reporter.finish_some());
        }
        let missing: Vec<_> = plan.empty_dirs().iter().map(|dir| self.there(dir)).collect();
        if !missing.is_empty() && !all.over && self.context.client.peer() == Peer::Extended {
            all.failed |= !make_empty(self.context, &missing, &mut all.repeated).await;
        }
        all
    }

    /// Fetches files, and makes directories.
    async fn fetch(&mut self, plan: &Plan, from: &Side) -> Rest {
        let mut place = Place::new(&self.args.local);
        let mut failed = false;
        for dir in &plan.make {
            if let Err(failure) = place.directory(dir) {
                failed = true;
                self.context.fail(&failure);
            }
        }
        let (mut labels, mut jobs, mut total) = (Vec::new(), Vec::new(), 0_u64);
        for name in plan.send.keys() {
            let (path, file) = match (place.file(name), from.files.get(name)) {
                (Ok(_), Some(file)) => (self.here(name), file),
                (Err(failure), _) => {
                    self.context.fail(&Failure { subject: Some(self.there(name)), ..failure });
                    continue;
                }
                (Ok(_), None) => continue,
            };
            labels.push(Label { name: self.there(name), local: Some(path.to_string_lossy().into_owned()) });
            let target = Target::File { path, existing: Existing::Replace };
            jobs.push(Download { name: self.there(name), target, mtime: file.mtime });
            total = total.saturating_add(file.size);
        }
        if jobs.is_empty() {
            return Rest { failed, ..Rest::default() };
        }
        let options = DownloadOptions { resume: true, ..DownloadOptions::default() };
        let Context { client, output, bars, .. } = &mut *self.context;
        let mut reporter = Reporter::new(output, "get", labels, Some(total), *bars).resumed_by(AGAIN);
        client.download(jobs, &options, &mut reporter as &mut dyn Observer).await;
        Rest { failed, ..reporter.finish_some() }
    }

    /// The last line.
    fn finish(&mut self, summary: &Summary, time: Duration) {
        let &Summary { sent, deleted, unchanged, bytes } = summary;
        let (pull, dry_run) = (self.args.pull, self.args.dry_run);
        let object = Object::Summary { sent, deleted, unchanged, bytes, seconds: time.as_secs_f64(), pull, dry_run };
        let word = if pull { "fetched" } else { "sent" };
        let would = if dry_run { "would be done: " } else { "" };
        let line = || {
            format!(
                "{would}{sent} {word}, {deleted} deleted, {unchanged} unchanged, {} in {}",
                decimal(bytes),
                seconds(time)
            )
        };
        self.context.output.confirm(&object, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names with `/` at the end are directories, with `!` at the end are left alone; `=N` is a size.
    fn side(names: &[&str]) -> Side {
        let mut side = Side::default();
        for name in names {
            if let Some(dir) = name.strip_suffix('/') {
                side.dirs.insert(dir.to_owned());
            } else if let Some(kept) = name.strip_suffix('!') {
                side.kept.insert(kept.to_owned());
            } else {
                let (name, size) = name.split_once('=').unwrap_or((name, "1"));
                let content = Content { size: size.parse().unwrap(), crc: None, mtime: None };
                side.files.insert(name.to_owned(), content);
            }
        }
        side
    }

    #[test]
    fn sizes_decide_first() {
        let plan = compare(&side(&["a=1", "b=2", "c=0", "d"]), &side(&["a=1", "b=3", "c=0", "old"]), false);
        assert_eq!(plan.send.keys().collect::<Vec<_>>(), ["b", "d"]);
        assert_eq!((plan.same_size, plan.unchanged), (vec!["a".to_owned()], 1));
        assert!(plan.remove.is_empty() && plan.remove_dirs.is_empty() && plan.conflicts.is_empty());
    }

    #[test]
    fn only_what_neither_side_leaves_alone_is_deleted() {
        let from = side(&["a", "d/", "d/x", "link!", "sub!"]);
        let to =
            side(&["a", "old", "link", "sub/", "sub/x", "e/", "e/f/", "e/f/y", "g/", "g/keep!", "g/z", "d/", "d/w"]);
        let plan = compare(&from, &to, true);
        assert_eq!(plan.remove, ["d/w", "e/f/y", "g/z", "old"]);
        assert_eq!(plan.remove_dirs, ["e/f", "e"]);
        assert_eq!(plan.send.keys().collect::<Vec<_>>(), ["d/x"]);
    }

    #[test]
    fn a_file_and_a_directory_of_one_name_conflict_unless_the_old_one_is_deleted() {
        let from = side(&["a", "b/", "b/x", "b/c/", "ok"]);
        let to = side(&["a/", "a/y", "b"]);
        let plan = compare(&from, &to, false);
        assert_eq!(plan.conflicts, ["b", "a"]);
        assert_eq!(plan.send.keys().collect::<Vec<_>>(), ["ok"]);
        assert_eq!(plan.make, Vec::<String>::new());
        let plan = compare(&from, &to, true);
        assert!(plan.conflicts.is_empty());
        assert_eq!((plan.remove, plan.remove_dirs), (vec!["a/y".to_owned(), "b".to_owned()], vec!["a".to_owned()]));
        assert_eq!(plan.send.keys().collect::<Vec<_>>(), ["a", "b/x", "ok"]);
        let plan = compare(&from, &side(&["a/", "a/y!", "b!"]), true);
        assert_eq!(plan.conflicts, ["b", "a"]);
    }
}
