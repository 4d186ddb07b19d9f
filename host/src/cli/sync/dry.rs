//! What `sync -n` shows.

use std::collections::BTreeSet;

use super::super::failure::Failure;
use super::super::format;
use super::super::json::Object;
use super::super::refused::{Refused, has_no_directories, leave_out};
use super::super::report::Repeated;
use super::super::tree::parents;
use super::act::Summary;
use super::plan::Plan;
use super::run::Run;
use crate::client::{Error, ErrorCode};

impl Run<'_, '_> {
    /// Shows what would be done, and what the server would refuse.
    ///
    /// # Errors
    /// The connection has failed.
    pub(super) async fn show(&mut self, mut plan: Plan, summary: &mut Summary) -> Result<(), Failure> {
        if !self.args.pull {
            self.leave_out_refused(&mut plan).await?;
        }
        let verb = if self.args.pull { "get" } else { "put" };
        let name = |run: &Self, name: &str| {
            if run.args.pull { run.here(name).to_string_lossy().into_owned() } else { run.there(name) }
        };
        let show = |run: &mut Self, command: &str, name: &str, size: Option<u64>| {
            let object = Object::Would { command, name, size };
            let bytes = size.map(|size| format!(": {}", format::bytes(size))).unwrap_or_default();
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
        Ok(())
    }

    /// Takes out of the plan what the server would refuse, and reports it as the transfer would. A `resume` is answered
    /// as the `write` would be, and changes nothing.
    async fn leave_out_refused(&mut self, plan: &mut Plan) -> Result<(), Failure> {
        let mut repeated = Repeated::default();
        let mut refused = Refused::default();
        let mut failed = false;
        // A file that blocks a name may be deleted before the transfer.
        let gone: BTreeSet<_> = plan.remove.iter().chain(&plan.remove_dirs).cloned().collect();
        let stays = |name: &str, error: &Error| {
            !matches!(error.code(), Some(ErrorCode::IsDirectory | ErrorCode::Exists))
                || !(gone.contains(name) || parents(name).any(|dir| gone.contains(dir)))
        };
        // The parents of a refused file are not created.
        let mut dirs = plan.empty_dirs();
        let names: Vec<_> = plan.send.keys().cloned().collect();
        for (name, why) in names.iter().zip(self.refusals(&names, "").await?) {
            let Some(error) = why.filter(|error| stays(name, error)) else { continue };
            failed = true;
            plan.send.remove(name);
            let failure = Failure::client("put", Some(&self.here(name).to_string_lossy()), &error);
            if refused.take(&self.there(name), &error, &failure) {
                continue;
            }
            if repeated.is_new(name, &failure) || self.context.output.is_json() {
                self.context.output.failure(Some("put"), &failure);
            }
        }
        if has_no_directories(self.context.client) {
            let dirs: Vec<_> = dirs.drain(..).map(|dir| self.there(&dir)).collect();
            leave_out(self.context.output, &dirs);
        }
        plan.make.clear();
        let refusals = self.refusals(&dirs, "/-").await?;
        for (dir, why) in dirs.into_iter().zip(refusals) {
            let Some(error) = why.filter(|error| stays(&dir, error)) else {
                plan.make.push(dir);
                continue;
            };
            failed = true;
            let dir = self.there(&dir);
            let failure = Failure::client("put", Some(&dir), &error);
            if refused.take(&format!("{dir}/-"), &error, &failure) {
                continue;
            }
            if repeated.is_new(&dir, &failure) || self.context.output.is_json() {
                self.context.fail(&failure);
            }
        }
        repeated.finish(self.context.output, "put");
        refused.report(self.context.client, self.context.output, "put", true).await;
        if !(plan.remove.is_empty() && plan.remove_dirs.is_empty()) && failed {
            self.nothing_deleted("transferred");
            plan.remove.clear();
            plan.remove_dirs.clear();
        }
        let (files, dirs) = (core::mem::take(&mut plan.remove), core::mem::take(&mut plan.remove_dirs));
        plan.remove = self.removable("rm", files, "").await?;
        plan.remove_dirs = self.removable("rmdir", dirs, "/-").await?;
        Ok(())
    }

    /// Those that may be removed; the others have been reported.
    async fn removable(&mut self, verb: &str, names: Vec<String>, end: &str) -> Result<Vec<String>, Failure> {
        let mut kept = Vec::new();
        let refusals = self.refusals(&names, end).await?;
        for (name, why) in names.into_iter().zip(refusals) {
            match why.filter(|error| matches!(error.code(), Some(ErrorCode::ReadOnly | ErrorCode::Denied))) {
                Some(error) => {
                    let name = self.there(&name);
                    self.context.output.failure(Some(verb), &Failure::client(verb, Some(&name), &error));
                }
                None => kept.push(name),
            }
        }
        Ok(kept)
    }

    /// Why the server would refuse to change each of `names`, with `end` behind it.
    async fn refusals(&mut self, names: &[String], end: &str) -> Result<Vec<Option<Error>>, Failure> {
        let asked: Vec<_> = names.iter().map(|name| format!("{}{end}", self.there(name))).collect();
        let answers = self.context.client.resume_many(&asked).await.into_iter();
        let refusal = |answer: Result<_, Error>| match answer.err() {
            Some(error) if error.is_connection() || matches!(error, Error::Cancelled) => {
                Err(Failure::client("sync", None, &error))
            }
            error => Ok(error),
        };
        answers.map(refusal).collect()
    }
}
