//! Names that the server refuses because of a parent directory: one of the parents is a file, or the server has no
//! directories. The server's error does not say which.

use std::collections::{BTreeMap, BTreeSet};

use super::failure::{Failure, NO_DIRECTORIES};
use super::format::count;
use super::output::Output;
use super::tree::parents;
use crate::client::{Client, Error, ErrorCode, Verb, sanitize};

/// The refused names of one command. Each cause is reported once, after all names are known.
#[derive(Debug, Default)]
pub(crate) struct Refused(Vec<One>);

#[derive(Debug)]
struct One {
    name: String,
    failure: Failure,
    explained: bool,
}

impl Refused {
    /// Takes the failure for `name` on the server if a parent directory may be its cause. False if it does not take it.
    pub(crate) fn take(&mut self, name: &str, error: &Error, failure: &Failure) -> bool {
        let takes = is_unclear(name, error);
        if takes {
            self.0.push(One { name: name.to_owned(), failure: failure.clone(), explained: false });
        }
        takes
    }

    /// Takes those of `dirs` that could not be created because something else has their name or that of a parent. The
    /// others exist. False if it takes none.
    pub(crate) async fn take_blocked(&mut self, client: &mut Client, verb: &str, dirs: &[(&String, Error)]) -> bool {
        let refused = |(dir, error): &(&String, Error)| One {
            name: format!("{dir}/-"),
            failure: Failure::client(verb, Some(dir), error),
            explained: false,
        };
        let mut refused = Self(dirs.iter().map(refused).collect());
        refused.explain(client).await;
        refused.0.retain(|one| one.explained);
        let some = !refused.0.is_empty();
        self.add(refused);
        some
    }

    /// Adds the names of another transfer.
    pub(crate) fn add(&mut self, next: Self) {
        self.0.extend(next.0);
    }

    /// Reports each cause once, with the number of names; in JSON, reports each name. `asks`: the server can be asked.
    pub(crate) async fn report(mut self, client: &mut Client, output: &mut Output, verb: &str, asks: bool) {
        if asks {
            self.explain(client).await;
        }
        let mut causes: Vec<(One, usize)> = Vec::new();
        for one in self.0 {
            let same = |(first, _): &&mut (One, usize)| first.explained && first.failure.message == one.failure.message;
            match causes.iter_mut().find(same).filter(|_| !output.is_json()) {
                Some((_, more)) => *more += 1,
                None => causes.push((one, 0)),
            }
        }
        for (One { mut failure, .. }, more) in causes {
            if more > 0 {
                failure.message = format!("{} ({} for the same reason)", failure.message, count(more, "more file"));
            }
            output.failure(Some(verb), &failure);
        }
    }

    async fn explain(&mut self, client: &mut Client) {
        if self.0.is_empty() {
            return;
        }
        let is_flat = has_no_directories(client);
        let names = self.0.iter().map(|one| one.name.as_str()).filter(|_| !is_flat);
        let above = above(client, names).await;
        for One { name, failure, explained } in &mut self.0 {
            let in_the_way = parents(name).filter_map(|dir| Some((dir, above.get(dir)?))).last();
            let cause = match in_the_way {
                _ if is_flat => Some(NO_DIRECTORIES.to_owned()),
                Some((dir, Above::File)) => Some(is_a_file(dir)),
                Some((dir, Above::Unlisted)) if failure.code == ErrorCode::Exists.as_str() => {
                    Some(format!("{} is neither a file nor a directory on the server", sanitize(dir)))
                }
                _ => None,
            };
            if let Some(cause) = cause {
                failure.message = cause;
                *explained = true;
            }
        }
    }
}

/// True if the server may have refused `name` because of one of its parent directories.
fn is_unclear(name: &str, error: &Error) -> bool {
    matches!(error.code(), Some(ErrorCode::Exists | ErrorCode::BadName)) && name.contains('/')
}

fn is_a_file(name: &str) -> String {
    format!("{} is a file on the server, not a directory", sanitize(name))
}

/// What has the name of a parent directory instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Above {
    File,
    /// Nothing, or something that the server does not show, such as a FIFO.
    Unlisted,
}

/// The parents of `names` that are not directories.
async fn above<'a>(client: &mut Client, names: impl Iterator<Item = &'a str>) -> BTreeMap<String, Above> {
    let dirs: Vec<_> = names.flat_map(parents).collect::<BTreeSet<_>>().into_iter().collect();
    let stats = client.stat_many(&dirs).await;
    let found = dirs.iter().zip(stats).filter_map(|(dir, stat)| match stat {
        Ok(_) => Some(((*dir).to_owned(), Above::File)),
        Err(error) if error.code() == Some(ErrorCode::NotFound) => Some(((*dir).to_owned(), Above::Unlisted)),
        Err(_) => None,
    });
    found.collect()
}

/// A file that has the name of a parent directory of `name`.
async fn file_above(client: &mut Client, name: &str) -> Option<String> {
    above(client, [name].into_iter()).await.into_iter().find_map(|(dir, what)| (what == Above::File).then_some(dir))
}

/// The failure of a command that should have created `name`, if one of its parents is a file.
pub(crate) async fn blocked(client: &mut Client, name: &str) -> Option<Failure> {
    let file = file_above(client, name).await?;
    Some(Failure::new(name, "exists", is_a_file(&file)))
}

/// `failure` of a command that should have created `name`, with its cause if that can be found.
pub(crate) async fn explained(client: &mut Client, name: &str, error: &Error, failure: Failure) -> Failure {
    let mut refused = Refused::default();
    if !refused.take(name, error, &failure) {
        return failure;
    }
    refused.explain(client).await;
    refused.0.pop().map_or(failure, |one| one.failure)
}

/// `failure` of a command on a directory, with its cause if the server does not find the directory.
pub(crate) async fn about_directory(client: &mut Client, dir: &str, mut failure: Failure) -> Failure {
    if [ErrorCode::NotFound, ErrorCode::BadName].iter().any(|code| failure.code == code.as_str())
        && let Some(cause) = why_no_directory(client, dir).await
    {
        failure.message = cause;
    }
    failure
}

/// Why the directory `dir` can't exist; `None` if it can.
pub(crate) async fn why_no_directory(client: &mut Client, dir: &str) -> Option<String> {
    match file_above(client, &format!("{dir}/-")).await {
        Some(file) if file == dir => Some("is a file on the server, not a directory".to_owned()),
        Some(file) => Some(is_a_file(&file)),
        None => has_no_directories(client).then(|| NO_DIRECTORIES.to_owned()),
    }
}

/// `failure` of a command on a name, with its cause if it is known without asking the server.
pub(crate) fn plainly(client: &Client, mut failure: Failure) -> Failure {
    let below = failure.subject.as_ref().is_some_and(|name| name.contains('/'));
    if below && failure.code == ErrorCode::BadName.as_str() && has_no_directories(client) {
        failure.message = NO_DIRECTORIES.to_owned();
    }
    failure
}

/// Reports that empty directories are skipped because the server has no directories.
pub(crate) fn leave_out(output: &mut Output, dirs: &[String]) {
    let (shown, more) = dirs.split_at(if output.is_json() { dirs.len() } else { dirs.len().min(1) });
    let more = if more.is_empty() { String::new() } else { format!(" ({} more for the same reason)", more.len()) };
    for dir in shown {
        output.left_out("put", &format!("{dir}/"), &format!("{NO_DIRECTORIES}{more}"));
    }
}

/// True if the server is known to have no directories.
pub(crate) fn has_no_directories(client: &Client) -> bool {
    let commands = client.hello_info().map(|hello| hello.commands);
    commands.is_some_and(|commands| commands.contains(Verb::Write) && !commands.contains(Verb::Mkdir))
}
