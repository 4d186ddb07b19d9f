//! `ls` and `lls`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use clap::{ArgAction, Args, ValueHint};

use super::command::{Definition, Here, Local, Remote};
use super::context::Context;
use super::cwd::Cwd;
use super::failure::{Failure, needs_extended};
use super::format::{Table, Times, size};
use super::glob::{Wanted, expand_remote, is_glob};
use super::json::{Kind, Object};
use super::names::{ON_SERVER, local_path};
use super::output::Output;
use super::refused::about_directory;
use super::remote::{Lister, Listings, directory_name, walk};
use crate::client::{Error, ErrorCode, Peer, RemoteEntry};

/// `ls`
pub(crate) struct Ls;

impl Definition for Ls {
    type Args = LsArgs;

    const NAME: &'static str = "ls";
    const HABITS: &'static [&'static str] = &["dir"];
    // `ls` always shows all that the server lists, one name per line.
    const NEEDLESS: &'static [&'static str] = &["a", "A", "1"];
    const SUMMARY: &'static str = "List files on the server";
}

impl Remote for Ls {
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        ls(context, &args).await
    }
}

/// Arguments of `ls`.
#[derive(Debug, Default, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct LsArgs {
    /// Show sizes and times
    #[arg(short)]
    pub(crate) long: bool,
    /// Show sizes in KiB, MiB, GiB
    #[arg(short)]
    pub(crate) human: bool,
    /// List directories recursively
    #[arg(short = 'R')]
    pub(crate) recursive: bool,
    /// Directories, files or globs
    #[arg(value_name = "DIR|GLOB", default_value = ".", value_hint = ON_SERVER)]
    pub(crate) names: Vec<String>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub(crate) help: Option<bool>,
}

async fn ls(context: &mut Context<'_>, args: &LsArgs) -> Result<(), Failure> {
    let mut shown = Vec::new();
    let mut failures = Vec::new();
    let mut listings = Listings::new(context.client);
    for name in &args.names {
        match entries(&mut listings, name, args.recursive).await {
            Ok(entries) => shown.extend(entries),
            Err(failure) => {
                failures.push(failure);
                if failures.last().is_some_and(Failure::is_final) {
                    break;
                }
            }
        }
    }
    failures.extend(listings.take_failures());
    let classic = context.client.peer() == Peer::Classic;
    if classic && failures.is_empty() && (args.long || args.recursive) {
        let message = needs_extended(if args.long { "ls -l" } else { "ls -R" });
        return Err(Failure { subject: None, ..Failure::new("", "needs-extended", message) });
    }
    let rows = shown.into_iter().map(|entry| Row::remote(entry, classic));
    show(context.output, context.cwd, rows, args.long, args.human);
    for failure in failures {
        context.fail(&failure);
    }
    Ok(())
}

/// What `ls NAME` shows: the entries of a directory, a file, what a glob matches.
async fn entries(listings: &mut Listings<'_>, name: &str, recursive: bool) -> Result<Vec<RemoteEntry>, Failure> {
    if !is_glob(name) {
        return directory(listings, name, recursive).await;
    }
    let mut shown = Vec::new();
    for entry in expand_remote(listings, "ls", name, Wanted::Any).await? {
        let below = if entry.is_dir && recursive { walk(listings, "ls", Some(&entry.name)).await? } else { Vec::new() };
        shown.push(entry);
        shown.extend(below);
    }
    Ok(shown)
}

async fn directory(listings: &mut Listings<'_>, name: &str, recursive: bool) -> Result<Vec<RemoteEntry>, Failure> {
    let dir = directory_name(name);
    let listed = if recursive {
        // The first listing, which is kept, shows whether it is a directory.
        match listings.entries(dir).await {
            Ok(_) => return walk(listings, "ls", dir).await,
            Err(error) => Err(error),
        }
    } else {
        listings.entries(dir).await
    };
    match (listed, dir) {
        (Ok(entries), _) => {
            let mut entries = entries.to_vec();
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(entries)
        }
        (Err(error), Some(dir)) if error.code() == Some(ErrorCode::NotFound) && !name.ends_with('/') => {
            file(listings, dir).await
        }
        (Err(Error::NeedsExtended { .. }), Some(_)) => {
            Err(Failure::new(name, "needs-extended", needs_extended("ls of a directory")))
        }
        (Err(error), Some(dir)) => {
            Err(about_directory(listings.client(), dir, Failure::client("ls", Some(dir), &error)).await)
        }
        (Err(error), None) => Err(Failure::client("ls", None, &error)),
    }
}

/// `ls` of a name that is not a directory; perhaps a file.
async fn file(listings: &mut Listings<'_>, name: &str) -> Result<Vec<RemoteEntry>, Failure> {
    match listings.client().stat(name).await {
        Ok(stat) => Ok(vec![RemoteEntry {
            name: name.to_owned(),
            size: stat.size,
            mtime: stat.mtime,
            crc: stat.crc,
            is_dir: false,
        }]),
        Err(error) if error.code() == Some(ErrorCode::NotFound) => {
            Err(Failure::new(name, "not-found", "no such file or directory on the server"))
        }
        Err(error) => Err(Failure::client("ls", Some(name), &error)),
    }
}

/// One line of a listing.
#[derive(Debug)]
pub(crate) struct Row {
    name: String,
    kind: Kind,
    size: Option<u64>,
    mtime: Option<u64>,
    crc: Option<u32>,
}

impl Row {
    /// An entry of the server. A classic one sends only names.
    pub(crate) fn remote(entry: RemoteEntry, classic: bool) -> Self {
        let known = !entry.is_dir && !classic;
        Self {
            name: entry.name,
            kind: if entry.is_dir { Kind::Directory } else { Kind::File },
            size: known.then_some(entry.size),
            mtime: entry.mtime,
            crc: entry.crc,
        }
    }

    /// The row as JSON.
    pub(crate) fn object(&self) -> Object<'_> {
        Object::Entry { name: &self.name, kind: self.kind, size: self.size, mtime: self.mtime, crc32c: self.crc }
    }

    /// The name, as a listing shows it.
    fn shown_name(&self, cwd: &Cwd) -> String {
        let name = cwd.shown(&self.name);
        match self.kind {
            Kind::Directory => format!("{name}/"),
            Kind::File | Kind::Other => name.into_owned(),
        }
    }
}

/// Prints rows, one a line.
fn show(output: &mut Output, cwd: &Cwd, rows: impl Iterator<Item = Row>, long: bool, human: bool) {
    if output.is_json() {
        rows.for_each(|row| output.object(&row.object()));
    } else if long {
        let mut times = Times::default();
        let mut table = Table::default();
        let rows: Vec<_> = rows.collect();
        for row in &rows {
            table.row(row.size.map_or_else(|| "-".to_owned(), |bytes| size(bytes, human)), times.show(row.mtime));
        }
        for (columns, row) in table.lines().zip(&rows) {
            output.entry(&columns, &row.shown_name(cwd), row.kind);
        }
    } else {
        rows.for_each(|row| output.entry("", &row.shown_name(cwd), row.kind));
    }
}

/// `lls`
pub(crate) struct Lls;

impl Definition for Lls {
    type Args = LlsArgs;

    const NAME: &'static str = "lls";
    const SUMMARY: &'static str = "List local files";
}

impl Local for Lls {
    fn run(here: &mut Here<'_>, args: Self::Args) -> Result<(), Failure> {
        let dir = args.dir.as_deref().unwrap_or_else(|| Path::new("."));
        let rows = local_rows(dir).map_err(|error| Failure::local(dir, &error))?;
        show(here.output, &Cwd::default(), rows.into_iter(), args.long, args.human);
        Ok(())
    }
}

/// Arguments of `lls`.
#[derive(Debug, Default, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct LlsArgs {
    /// Show sizes and times
    #[arg(short)]
    pub(crate) long: bool,
    /// Show sizes in KiB, MiB, GiB
    #[arg(short)]
    pub(crate) human: bool,
    /// Directory or file; default: the local directory
    #[arg(value_name = "DIR", value_parser = local_path(), value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub(crate) help: Option<bool>,
}

/// The entries of a local directory, or the one file; those that begin with `.` are left out.
fn local_rows(dir: &Path) -> io::Result<Vec<Row>> {
    if !fs::metadata(dir)?.is_dir() {
        return Ok(vec![local_row(dir, dir.to_string_lossy().into_owned())?]);
    }
    let mut rows = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            rows.push(local_row(&entry.path(), name)?);
        }
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rows)
}

fn local_row(path: &Path, name: String) -> io::Result<Row> {
    // A link is shown as what it leads to; one that leads nowhere as itself.
    let meta = fs::metadata(path).or_else(|_| fs::symlink_metadata(path))?;
    let kind = match () {
        () if meta.is_dir() => Kind::Directory,
        () if meta.is_file() => Kind::File,
        () => Kind::Other,
    };
    let mtime = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map(|time| time.as_secs());
    Ok(Row { name, kind, size: meta.is_file().then_some(meta.len()), mtime, crc: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::testing::output;

    fn entry(name: &str, size: u64, is_dir: bool) -> RemoteEntry {
        RemoteEntry { name: name.to_owned(), size, mtime: None, crc: None, is_dir }
    }

    #[test]
    fn a_short_listing_is_one_name_a_line() {
        let (mut to, out, _) = output(false);
        let entries = [entry("a b.txt", 1, false), entry("logs", 0, true)];
        show(&mut to, &Cwd::default(), entries.into_iter().map(|entry| Row::remote(entry, false)), false, false);
        to.flush();
        assert_eq!(out.take(), "a b.txt\nlogs/\n");
    }

    #[test]
    fn a_long_listing_lines_up() {
        let (mut to, out, _) = output(false);
        let entries = [entry("a", 12_345, false), entry("b", 1, false), entry("logs", 0, true)];
        show(&mut to, &Cwd::default(), entries.clone().into_iter().map(|entry| Row::remote(entry, false)), true, false);
        to.flush();
        assert_eq!(out.take(), "12345  -  a\n    1  -  b\n    -  -  logs/\n");
        show(&mut to, &Cwd::default(), entries.into_iter().map(|entry| Row::remote(entry, false)), true, true);
        to.flush();
        assert_eq!(out.take(), "12.0 KiB  -  a\n     1 B  -  b\n       -  -  logs/\n");
    }

    #[test]
    fn a_classic_server_tells_names_only() {
        let row = Row::remote(entry("a", 0, false), true);
        assert!(row.object().to_line().contains("\"size\":null"));
        let row = Row::remote(entry("a", 0, false), false);
        assert!(row.object().to_line().contains("\"size\":0"));
    }

    #[test]
    fn local_files_are_listed_without_hidden_ones() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("b"), "123").unwrap();
        fs::write(dir.path().join(".hid"), "").unwrap();
        let names: Vec<_> = local_rows(dir.path()).unwrap().iter().map(|row| row.shown_name(&Cwd::default())).collect();
        assert_eq!(names, ["b", "sub/"]);
        assert_eq!(local_rows(&dir.path().join("b")).unwrap()[0].size, Some(3));
        assert!(local_rows(&dir.path().join("none")).is_err());
    }
}
