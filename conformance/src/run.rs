//! Runs the checks against a server.

use crate::checks::{Check, all};
use crate::conn::{Checked, Verdict, last_lines};
use crate::report::{Entry, Outcome, Report};
use crate::scene::{Scene, Target};

/// Which checks run.
#[derive(Debug, Default)]
pub struct Choice {
    /// Skip the checks that take several seconds.
    pub quick: bool,
    /// Run only checks whose name contains one of these; if empty, run all.
    pub only: Vec<String>,
}

impl Choice {
    fn includes(&self, check: &Check) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| check.id.contains(part.as_str()))
    }
}

/// Runs the checks in order and passes each result to `done` at once. Removes the files that the checks have created.
///
/// # Errors
/// There is no skiff server, or it does not accept the key.
pub fn run(target: &Target, choice: &Choice, mut done: impl FnMut(&Entry)) -> Checked<Report> {
    let scene = Scene::new(target)?;
    let mut checks = Vec::new();
    for check in all().filter(|check| choice.includes(check)) {
        let missing = check.needs.iter().find_map(|need| need.missing(&scene, choice.quick));
        scene.log.borrow_mut().clear();
        let verdict = match missing {
            Some(reason) => Err(Verdict::Skip(reason)),
            None => (check.run)(&scene),
        };
        let log = if matches!(verdict, Err(Verdict::Fail(_))) { last_lines(&scene.log) } else { Vec::new() };
        let (result, reason) = match verdict {
            Ok(()) => (Outcome::Passed, None),
            Err(Verdict::Fail(reason)) => (Outcome::Failed, Some(reason)),
            Err(Verdict::Skip(reason)) => (Outcome::Skipped, Some(reason)),
        };
        let entry = Entry { section: check.section, id: check.id, rule: check.rule, result, reason, log };
        done(&entry);
        checks.push(entry);
    }
    let left = scene.clean_up();
    let count = |result| checks.iter().filter(|entry| entry.result == result).count();
    Ok(Report {
        address: target.addr.to_string(),
        hello: scene.hello.as_ref().map(|hello| hello.text.clone()),
        passed: count(Outcome::Passed),
        failed: count(Outcome::Failed),
        skipped: count(Outcome::Skipped),
        left,
        checks,
    })
}
