//! `tree` and `du`: what lies below a directory on the server.

use std::collections::BTreeMap;

use clap::{ArgAction, Args};

use super::command::{Definition, Remote};
use super::context::Context;
use super::failure::Failure;
use super::files::expand;
use super::format::{count, size};
use super::glob::Wanted;
use super::json::{Kind, Object};
use super::list::Row;
use super::names::{DIRECTORY_ON_SERVER, ON_SERVER};
use super::refused::about_directory;
use super::remote::{Listings, directory_name, walk};
use crate::client::RemoteEntry;

/// Everything in a directory and below; what can't be listed has been reported.
async fn below(context: &mut Context<'_>, dir: Option<&str>) -> Result<Vec<RemoteEntry>, Failure> {
    let mut listings = Listings::new(context.client);
    let found = walk(&mut listings, context.verb, dir).await;
    let failures = listings.take_failures();
    failures.iter().for_each(|failure| context.fail(failure));
    match (found, dir) {
        (Err(failure), Some(dir)) => Err(about_directory(context.client, dir, failure).await),
        (found, _) => found,
    }
}

/// `tree`
pub(crate) struct Tree;

impl Definition for Tree {
    type Args = TreeArgs;

    const NAME: &'static str = "tree";
    const SUMMARY: &'static str = "Show a directory on the server as a tree";
}

impl Remote for Tree {
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        tree(context, &args).await
    }
}

/// Arguments of `tree`.
#[derive(Debug, Default, Args)]
pub(crate) struct TreeArgs {
    /// Directory
    #[arg(value_name = "DIR", default_value = ".", value_hint = DIRECTORY_ON_SERVER)]
    dir: String,
}

async fn tree(context: &mut Context<'_>, args: &TreeArgs) -> Result<(), Failure> {
    let dir = directory_name(&args.dir);
    let entries = below(context, dir).await?;
    if context.output.is_json() {
        entries.into_iter().for_each(|entry| context.output.object(&Row::remote(entry, false).object()));
        return Ok(());
    }
    context.output.line(&format!("{}/", dir.unwrap_or("")));
    let lines = drawn(dir, &entries);
    lines.iter().for_each(|line| context.output.line(line));
    let dirs = entries.iter().filter(|entry| entry.is_dir).count();
    let files = entries.len() - dirs;
    let directories = if dirs == 1 { "1 directory".to_owned() } else { format!("{dirs} directories") };
    context.output.line(&format!("{directories}, {}", count(files, "file")));
    Ok(())
}

/// The branches of a tree. `entries` are in the order of a walk.
fn drawn(dir: Option<&str>, entries: &[RemoteEntry]) -> Vec<String> {
    let parent = |entry: &RemoteEntry| entry.name.rsplit_once('/').map(|(parent, _)| parent.to_owned());
    // The last entry of each directory.
    let mut last = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        last.insert(parent(entry), at);
    }
    let mut stems = BTreeMap::from([(dir.map(str::to_owned), String::new())]);
    let mut lines = Vec::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        let above = parent(entry);
        let is_last = last.get(&above) == Some(&at);
        let stem = stems.get(&above).cloned().unwrap_or_default();
        let own = entry.name.rsplit('/').next().unwrap_or(&entry.name);
        let slash = if entry.is_dir { "/" } else { "" };
        lines.push(format!("{stem}{}{own}{slash}", if is_last { "└── " } else { "├── " }));
        if entry.is_dir {
            stems.insert(Some(entry.name.clone()), format!("{stem}{}", if is_last { "    " } else { "│   " }));
        }
    }
    lines
}

/// `du`
pub(crate) struct Du;

impl Definition for Du {
    type Args = DuArgs;

    const NAME: &'static str = "du";
    const SUMMARY: &'static str = "Show the total size of directories on the server";
}

impl Remote for Du {
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        du(context, &args).await
    }
}

/// Arguments of `du`.
#[derive(Debug, Default, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct DuArgs {
    /// Show sizes in KiB, MiB, GiB
    #[arg(short)]
    human: bool,
    /// Show only the total of each DIR
    #[arg(short)]
    summary: bool,
    /// Directories, files or globs
    #[arg(value_name = "DIR|GLOB", default_value = ".", value_hint = ON_SERVER)]
    dirs: Vec<String>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

async fn du(context: &mut Context<'_>, args: &DuArgs) -> Result<(), Failure> {
    for named in expand(context, &args.dirs, Wanted::Any).await {
        let dir = directory_name(&named.name);
        let entries = match below(context, dir).await {
            Ok(entries) => entries,
            Err(failure) if failure.is_final() => return Err(failure),
            Err(failure) => {
                match dir {
                    Some(name) if let Ok(file) = context.client.stat(name).await => {
                        let object = Object::Usage { name, kind: Kind::File, size: file.size, files: 1 };
                        let shown = context.cwd.shown(name);
                        context.output.result(&object, || format!("{}  {shown}", size(file.size, args.human)));
                    }
                    _ => context.fail(&failure),
                }
                continue;
            }
        };
        let mut usages = usages(dir, &entries);
        if args.summary {
            usages.drain(..usages.len() - 1);
        }
        for usage in usages {
            let Usage { name, bytes, files } = &usage;
            let shown = context.cwd.shown(name);
            let object = Object::Usage { name, kind: Kind::Directory, size: *bytes, files: *files };
            let slash = if shown.ends_with('/') { "" } else { "/" };
            context.output.result(&object, || format!("{}  {shown}{slash}", size(*bytes, args.human)));
        }
    }
    Ok(())
}

/// What a directory has in it, with all below.
#[derive(Debug, PartialEq, Eq)]
struct Usage {
    name: String,
    bytes: u64,
    files: u64,
}

/// For each directory, those in it first, sorted by name.
fn usages(dir: Option<&str>, entries: &[RemoteEntry]) -> Vec<Usage> {
    let usage = |name: &str| Usage { name: name.to_owned(), bytes: 0, files: 0 };
    let dirs = entries.iter().filter(|entry| entry.is_dir).map(|entry| entry.name.as_str());
    let mut all: BTreeMap<_, _> = dirs.chain([dir.unwrap_or("")]).map(|name| (name, usage(name))).collect();
    for file in entries.iter().filter(|entry| !entry.is_dir) {
        let mut name = file.name.as_str();
        while !name.is_empty() && Some(name) != dir {
            name = name.rsplit_once('/').map_or("", |(parent, _)| parent);
            if let Some(usage) = all.get_mut(name) {
                usage.bytes = usage.bytes.saturating_add(file.size);
                usage.files += 1;
            }
        }
    }
    let mut usages: Vec<_> = all.into_values().collect();
    // The end of a name comes after everything that can follow in it.
    let parts =
        |name: &str| name.split('/').filter(|part| !part.is_empty()).chain(["\u{10ffff}"]).map(str::to_owned).collect();
    usages.sort_by_cached_key(|usage| -> Vec<String> { parts(&usage.name) });
    usages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(names: &[(&str, u64)]) -> Vec<RemoteEntry> {
        let entry = |&(name, size): &(&str, u64)| {
            let (name, is_dir) = name.strip_suffix('/').map_or((name, false), |name| (name, true));
            RemoteEntry { name: name.to_owned(), size, mtime: None, crc: None, is_dir }
        };
        names.iter().map(entry).collect()
    }

    #[test]
    fn a_tree_has_a_branch_for_each_entry() {
        let entries = entries(&[("a/", 0), ("a/b/", 0), ("a/b/x", 1), ("a/y", 1), ("z", 1)]);
        let lines = ["├── a/", "│   ├── b/", "│   │   └── x", "│   └── y", "└── z"];
        assert_eq!(drawn(None, &entries), lines);
        assert_eq!(drawn(Some("a"), &entries[1..4]), ["├── b/", "│   └── x", "└── y"]);
    }

    #[test]
    fn a_directory_counts_all_that_is_below_it() {
        let entries = entries(&[("a/", 0), ("a/b/", 0), ("a/b/x", 1), ("a/y", 2), ("e/", 0), ("z", 4)]);
        let shown = |dir, entries| {
            let usages = usages(dir, entries);
            usages.iter().map(|one| format!("{}:{}:{}", one.name, one.bytes, one.files)).collect::<Vec<_>>()
        };
        assert_eq!(shown(None, &entries), ["a/b:1:1", "a:3:2", "e:0:0", ":7:3"]);
        assert_eq!(shown(Some("a"), &entries[1..4]), ["a/b:1:1", "a:3:2"]);
    }
}
