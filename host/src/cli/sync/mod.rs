//! `sync`: makes one tree match another, by content.
//!
//! | step | what happens |
//! |---|---|
//! | look | both trees are listed, that of the server with one `tree` if it supports that; excluded names are left alone |
//! | [`compare`] | sizes decide, then checksums; those that a listing lacks are asked for, all at once |
//! | settle | what the server would refuse, or may have without showing it, is left alone |
//! | act | files are transferred and empty directories made; if all of that went well, what is superfluous is deleted, and |
//! | | what takes the place of something deleted is transferred |

mod act;
mod dry;
mod look;
mod plan;
mod run;

use core::time::Duration;
use std::time::Instant;

use act::Summary;
use plan::compare;
use run::Run;

use super::command::{Definition, Remote};
use super::context::Context;
use super::exclude::Exclusions;
use super::failure::Failure;
use super::format::{human, seconds};
use super::json::Object;
use super::mode::Mode;
use super::remote::directory_name;
use super::report::Repeated;

pub(crate) use run::SyncArgs;

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

/// # Errors
/// `--delete` without the name of what to make alike.
pub(crate) fn check_delete(delete: bool, remote: Option<&str>) -> Result<(), Failure> {
    match remote {
        None if delete => Err(Failure::usage("--delete needs REMOTE_DIR; / is the root of the server")),
        _ => Ok(()),
    }
}

/// False if the connection was lost on the way, which has been reported.
///
/// # Errors
/// What concerns the whole command.
pub(crate) async fn sync(context: &mut Context<'_>, args: &SyncArgs) -> Result<bool, Failure> {
    let start = Instant::now();
    context.client.set_rate(args.limit_rate);
    let mut exclusions = Exclusions::new(&args.exclude)?;
    let mut run = Run { context, args, base: args.remote.as_deref().and_then(directory_name), whole: true };
    let mut local = run.look_here(&mut exclusions)?;
    let mut remote = run.look_there(&exclusions).await?;
    let (source, target) = if args.pull { (&mut remote, &mut local) } else { (&mut local, &mut remote) };
    if target.differs_in_case(source) && run.ignores_case(source, target).await {
        let place = if args.pull { "LOCAL_DIR" } else { "the server" };
        for (name, other) in target.adopt_spellings(source) {
            let message = format!("{place} ignores letter case, and this file would replace {}", run.there(&other));
            run.context.fail(&Failure::new(run.there(&name), "exists", message));
        }
    }
    if args.pull && args.delete {
        run.protect(&mut local, &remote).await?;
    }
    let (from, to) = if args.pull { (&remote, &local) } else { (&local, &remote) };
    if args.delete {
        for glob in exclusions.unused().filter(|_| !args.changes_only) {
            let verb = run.context.verb;
            let text = format!("{verb}: --exclude '{glob}' matches nothing; patterns are relative to LOCAL_DIR");
            run.context.output.note(&text);
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
            "the target already has an entry of this name, which sync leaves alone".to_owned()
        } else {
            format!("a {here} in the source, a {there} in the target{hint}")
        };
        run.context.fail(&Failure::new(name, "exists", message));
    }
    let mut went_on = true;
    let mut summary = Summary { unchanged: plan.unchanged, ..Summary::default() };
    if args.dry_run {
        run.show(plan, &mut summary).await?;
    } else {
        went_on = run.act(&plan, from, &mut summary).await;
    }
    repeated.finish(run.context.output, "sync");
    if !args.changes_only || summary.sent + summary.deleted > 0 {
        run.finish(&summary, start.elapsed());
    }
    Ok(went_on)
}

impl Run<'_, '_> {
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
                human(bytes),
                seconds(time)
            )
        };
        self.context.output.confirm(&object, line);
    }
}
