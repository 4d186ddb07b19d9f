//! Lists both trees, excluding entries that sync must not touch.

use std::collections::{BTreeMap, BTreeSet};

use super::super::exclude::Exclusions;
use super::super::failure::{Failure, needs_extended};
use super::super::place::ignores_case;
use super::super::refused::why_no_directory;
use super::super::remote::{Lister as _, Listings, OMITTED, walk_where};
use super::super::report::Repeated;
use super::super::tree::{self, BAD_NAME, parents};
use super::plan::{Content, Plan, Side, is_hidden};
use super::run::Run;
use crate::client::{Error, ErrorCode, Peer, RemoteEntry, checksums_of};

impl Run<'_, '_> {
    /// Lists the local tree.
    pub(super) fn look_here(&mut self, exclusions: &mut Exclusions) -> Result<Side, Failure> {
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
            unlisted: BTreeSet::new(),
        })
    }

    /// Lists the tree on the server.
    pub(super) async fn look_there(&mut self, exclusions: &Exclusions) -> Result<Side, Failure> {
        let base = self.base;
        let relative = |entry: &RemoteEntry| match base {
            Some(base) => entry.name[base.len()..].trim_start_matches('/').to_owned(),
            None => entry.name.clone(),
        };
        let mut listings = Listings::new(self.context.client);
        // With a new server, this is the only request, sent together with that for the hello.
        listings.prepare(base).await.map_err(|error| Failure::client("sync", None, &error))?;
        if listings.client().peer() == Peer::Classic {
            let message = needs_extended("sync");
            return Err(Failure { subject: None, ..Failure::new("", "needs-extended", message) });
        }
        let entries = match listings.entries(base).await {
            Err(error) => {
                let is_missing = error.code() == Some(ErrorCode::NotFound);
                let mut failure = Failure::client("sync", Some(base.unwrap_or("/")), &error);
                let cause = match base {
                    Some(dir) if is_missing => why_no_directory(listings.client(), dir).await,
                    _ => None,
                };
                match cause {
                    Some(cause) => failure.message = cause,
                    // A push creates it.
                    None if is_missing && !self.args.pull => return Ok(Side::default()),
                    None => {}
                }
                if is_missing && !self.args.local.exists() {
                    failure.message.push_str("; LOCAL_DIR comes first, even with --pull");
                }
                return Err(failure);
            }
            Ok(_) => walk_where(&mut listings, "sync", base, |dir| !exclusions.covers(&relative(dir), true)).await?,
        };
        let mut failures = listings.take_failures();
        let mut side = Side::default();
        if !self.args.pull {
            // An entry that can't be listed can't be deleted either, and has no local file as its source.
            for failure in failures.extract_if(.., |failure| failure.code == OMITTED) {
                let dir = failure.subject.unwrap_or_default();
                if self.args.delete {
                    self.context.output.left_out("sync", &dir, &failure.message);
                }
                let inner = dir.strip_prefix(base.unwrap_or_default()).unwrap_or(&dir);
                side.unlisted.insert(inner.trim_matches('/').to_owned());
            }
        }
        self.whole &= failures.is_empty();
        failures.iter().for_each(|failure| self.context.fail(failure));
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

    /// True if the target finds files by their names in another letter case. On a server, this asks for one name that
    /// the server lists only in another case.
    pub(super) async fn ignores_case(&mut self, source: &Side, target: &Side) -> bool {
        if self.args.pull {
            return ignores_case(&self.args.local);
        }
        let listed: BTreeSet<_> = target.files.keys().map(|name| name.to_lowercase()).collect();
        let is_other = |name: &&String| !target.files.contains_key(*name) && listed.contains(&name.to_lowercase());
        let Some(name) = source.files.keys().find(is_other) else { return false };
        self.context.client.stat(&self.there(name)).await.is_ok()
    }

    /// Leaves alone what the server does not list but may have, or can't have: hidden names, names that it refuses,
    /// directories if it has none.
    pub(super) async fn protect(&mut self, local: &mut Side, remote: &Side) -> Result<(), Failure> {
        let files = local.files.keys().filter(|name| !remote.files.contains_key(*name));
        let dirs = local.dirs.iter().filter(|name| !remote.dirs.contains(*name));
        let (hidden, mut superfluous): (Vec<_>, Vec<_>) = files.chain(dirs).cloned().partition(|name| is_hidden(name));
        // Where the server has an entry of the other kind, there is nothing to ask.
        let is_replaced = |name: &str| {
            let is_file = |name: &str| remote.files.contains_key(name);
            is_file(name) || remote.dirs.contains(name) || parents(name).any(is_file)
        };
        superfluous.retain(|name| !is_replaced(name));
        let hidden = hidden.into_iter().map(|name| (name, "the server may have hidden files".into()));
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
                _ if read.is_ok() => "it was created after the listing".to_owned(),
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
    pub(super) async fn leave_out_hidden(&mut self, plan: &mut Plan, repeated: &mut Repeated) -> Result<(), Failure> {
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
    pub(super) async fn settle(&mut self, plan: &mut Plan, local: &Side, remote: &Side) -> Result<(), Failure> {
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
}
