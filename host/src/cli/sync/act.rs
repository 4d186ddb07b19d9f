//! Transfers and deletes.

use std::collections::BTreeSet;
use std::fs;

use super::super::context::Context;
use super::super::failure::Failure;
use super::super::files::UNSEEN;
use super::super::json::Object;
use super::super::links::probe;
use super::super::place::Place;
use super::super::report::{Label, Reporter, Rest};
use super::super::send::make_empty;
use super::super::tree::parents;
use super::plan::{Plan, Side};
use super::run::Run;
use crate::client::{
    Download, DownloadOptions, Error, ErrorCode, Existing, Observer, Peer, Target, Upload, UploadOptions,
};

/// Uploads of files of this size ask what an interrupted run has left on the server.
const WORTH_RESUMING: u64 = 64 << 10;

/// How an interrupted `sync` is resumed.
const AGAIN: &str = "run sync again to continue";

/// The totals for the last line.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) sent: usize,
    pub(super) deleted: usize,
    pub(super) unchanged: usize,
    pub(super) bytes: u64,
}

impl Run<'_, '_> {
    /// Carries the plan out. False if the connection has failed.
    pub(super) async fn act(&mut self, plan: &Plan, from: &Side, summary: &mut Summary) -> bool {
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
        let goes_on = !rest.over;
        rest.report(self.context, if self.args.pull { "get" } else { "put" }).await;
        goes_on
    }

    async fn transfer(&mut self, plan: &Plan, from: &Side) -> Rest {
        if self.args.pull { self.fetch(plan, from).await } else { self.send(plan).await }
    }

    /// Deletes on the server. False if the connection has failed.
    async fn remove_there(&mut self, plan: &Plan, summary: &mut Summary) -> bool {
        let above = plan.remove.iter().chain(&plan.remove_dirs).flat_map(|name| parents(name));
        let dirs: BTreeSet<_> = above.chain(plan.remove_dirs.iter().map(String::as_str)).collect();
        let dirs: Vec<_> = dirs.into_iter().map(|dir| self.there(dir)).collect();
        let probed = match probe(self.context.client, "sync", dirs).await {
            Ok(probed) => probed,
            Err(failure) => {
                self.context.fail(&failure);
                return false;
            }
        };
        for (dir, failure) in &probed.closed {
            match failure.code.as_str() {
                "not-found" => self.context.output.left_out("sync", dir, &failure.message),
                _ => self.context.output.failure(Some("rmdir"), failure),
            }
        }
        let files: Vec<_> =
            plan.remove.iter().map(|name| self.there(name)).filter(|name| !probed.covers(name)).collect();
        let removed = self.context.client.remove_many(&files).await;
        let goes_on = self.removed("rm", &files, removed, summary);
        probed.removed.iter().for_each(|dir| self.deleted("rmdir", dir, summary));
        if !goes_on {
            return false;
        }
        let is_left = |dir: &String| !probed.removed.contains(dir) && !probed.keeps(dir);
        let dirs: Vec<_> = plan.remove_dirs.iter().map(|name| self.there(name)).filter(is_left).collect();
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
                // A hidden file, or one created after the listing. Not a failure: every run would find it again.
                Err(error) if error.code() == Some(ErrorCode::NotEmpty) => {
                    self.context.output.left_out("sync", name, &format!("contains {UNSEEN}"));
                }
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
            all.add(reporter.finish());
        }
        let missing: Vec<_> = plan.empty_dirs().iter().map(|dir| self.there(dir)).collect();
        if !missing.is_empty() && !all.over && self.context.client.peer() == Peer::Extended {
            make_empty(self.context, &missing, &mut all).await;
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
        Rest { failed, ..reporter.finish() }
    }
}
