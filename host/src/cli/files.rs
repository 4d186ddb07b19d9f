//! `stat` and `sum`, and what the commands on files of the server share.

use std::collections::HashSet;

use super::command::{Definition, Remote};
use super::context::Context;
use super::cwd::Cwd;
use super::failure::Failure;
use super::format::{Times, bytes};
use super::glob::{Wanted, expand_remote, is_glob};
use super::json::{Object, hex_text};
use super::list::Row;
use super::names::Names;
use super::output::Output;
use super::remote::Listings;
use crate::client::{ErrorCode, RemoteEntry};

/// A name of a command, and what a listing has said about it.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) entry: Option<RemoteEntry>,
}

/// The names, globs expanded; failures have been reported.
pub(super) async fn expand(context: &mut Context<'_>, names: &[String], wanted: Wanted) -> Vec<Named> {
    let (found, failures) = find(context, names, wanted).await;
    failures.iter().for_each(|failure| context.fail(failure));
    found
}

/// The same, but returns the failures.
pub(super) async fn find(context: &mut Context<'_>, names: &[String], wanted: Wanted) -> (Vec<Named>, Vec<Failure>) {
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
    // `rm *.txt a.txt` is about a.txt once.
    let mut seen = HashSet::new();
    found.retain(|named| seen.insert(named.name.clone()));
    (found, failures)
}

/// `rm notes.txt: removed`
pub(super) fn done(output: &mut Output, command: &str, name: &str, to: Option<&str>, word: &str) {
    output.confirm(&Object::Done { command, name, to }, || format!("{command} {name}: {word}"));
}

/// What keeps a directory from being removed when all files of its listing are gone.
pub(crate) const UNSEEN: &str = "something that the server does not list";

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
        format!("{name}: {}, {}, crc32c {crc}", bytes(entry.size), times.show(entry.mtime))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::testing::output;
    use crate::cli::settings::Settings;

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
}
