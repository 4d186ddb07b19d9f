//! `get` and `cat`.

use core::num::NonZeroU64;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::{Args, ValueHint};

use super::command::{Definition, Remote};
use super::context::Context;
use super::failure::{Failure, for_one_board, io_text, several};
use super::glob::{Wanted, expand_remote, is_glob};
use super::mode::Mode;
use super::names::{Names, ON_SERVER, expand_home, local_output};
use super::place::{Destination, Place, Taken, make_user_directory};
use super::remote::{Lister, Listings, directory_name, walk};
use super::report::{Label, Reporter};
use super::stream::DataOut;
use crate::arguments::{bytes, number};
use crate::client::{Download, DownloadOptions, Error, ErrorCode, Existing, RemoteEntry, Target};

/// `get`
pub(crate) struct Get;

impl Definition for Get {
    type Args = GetArgs;

    const NAME: &'static str = "get";
    const HABITS: &'static [&'static str] = &["mget"];
    const SUMMARY: &'static str = "Download files from the server";
}

impl Remote for Get {
    fn prepare(args: &mut Self::Args, mode: Mode) -> Result<(), Failure> {
        match Destination::parse(args.output.as_deref(), None) {
            Destination::Stdout | Destination::Stream(_) => for_one_board(mode),
            Destination::Directory(_) | Destination::Named(_) => Ok(()),
        }
    }

    async fn run(context: &mut Context<'_>, mut args: Self::Args) -> Result<(), Failure> {
        /// What is missing of LOCAL when the first board begins.
        static ABOVE: OnceLock<Vec<PathBuf>> = OnceLock::new();
        let Some(own) = &context.own_dir else { return get(context, args).await };
        // LOCAL/BOARD/: files of one name from several boards must not meet.
        let mut path = args.output.take().map_or_else(|| own.clone(), |output| Path::new(&output).join(own));
        let missing =
            || path.ancestors().skip(1).take_while(|dir| !dir.exists()).map(Path::to_owned).collect::<Vec<_>>();
        let above = ABOVE.get_or_init(missing);
        let own = (!path.exists()).then(|| path.clone());
        path.push("");
        args.output = Some(path.into_os_string());
        let done = get(context, args).await;
        // Directories in which nothing was put.
        _ = own.iter().chain(above).try_for_each(fs::remove_dir);
        done
    }
}

/// The end of the help of `get`.
const GET_EXAMPLES: &str = "\
If the local file exists, it is kept and the new one is saved as name(1).ext; -f replaces it.

Examples:
  get notes.txt
  get 'logs/*.txt' -o logs/
  get notes.txt -o -
  get firmware.log -j 4
  get -r logs";

/// Arguments of `get`.
#[derive(Debug, Default, Args)]
#[command(after_help = GET_EXAMPLES)]
pub(crate) struct GetArgs {
    /// Files or globs; with -r, directories too
    #[arg(value_name = "NAME", required = true, value_hint = ON_SERVER)]
    pub(crate) names: Vec<String>,
    /// Save as LOCAL; into LOCAL if it ends in / or is a directory; - is standard output
    #[arg(short, value_name = "LOCAL", value_parser = local_output(), value_hint = ValueHint::AnyPath)]
    pub(crate) output: Option<OsString>,
    /// Replace existing local files
    #[arg(short)]
    pub(crate) force: bool,
    /// Resume interrupted transfers
    #[arg(short)]
    pub(crate) r#continue: bool,
    /// Download directories recursively
    #[arg(short)]
    pub(crate) recursive: bool,
    /// Fetch each file over N parallel sessions, 1 to 16; helps with a device behind a lossy link
    #[arg(short = 'j', value_name = "N", allow_negative_numbers = true, value_parser = number::<u32>(1, 16))]
    pub(crate) sessions: Option<u32>,
    /// Fetch at most RATE bytes a second, such as 200K
    #[arg(long, value_name = "RATE", value_parser = bytes)]
    pub(crate) limit_rate: Option<NonZeroU64>,
}

async fn get(context: &mut Context<'_>, mut args: GetArgs) -> Result<(), Failure> {
    if let Some(failure) = forgotten_option(context, &args).await {
        if !context.is_output_forgotten(failure).await? {
            return Ok(());
        }
        let typed = args.names.pop().and_then(|last| Some(PathBuf::from(context.typed(&last)?)));
        args.output = typed.map(|path| expand_home(path).into_os_string());
    }
    let args = &args;
    let continued = match &args.names[..] {
        [name] if args.recursive && args.r#continue => Some(name.as_str()),
        _ => None,
    };
    let destination = Destination::parse(args.output.as_deref(), continued);
    let streamed = matches!(destination, Destination::Stdout | Destination::Stream(_));
    if streamed && args.sessions.is_some_and(|sessions| sessions > 1) {
        return Err(Failure::usage("-j can't write to standard output or a device"));
    }
    let each = |rate: NonZeroU64| NonZeroU64::new(rate.get() / u64::from(args.sessions.unwrap_or(1))).unwrap_or(rate);
    context.client.set_rate(args.limit_rate.map(each));
    let mut listings = Listings::new(context.client);
    let mut found = find(&mut listings, &args.names, args.recursive).await;
    found.failures.extend(listings.take_failures());
    match &destination {
        Destination::Stdout => {
            return to_stream(context, found, DataOut::standard(context.client.cancel_token())).await;
        }
        Destination::Stream(path) => {
            let out = DataOut::open(path.clone(), context.client.cancel_token())
                .await
                .map_err(|error| Failure::local(path, &error))?;
            return to_stream(context, found, out).await;
        }
        Destination::Directory(_) | Destination::Named(_) => {}
    }
    let plan = Plan::new(found, &destination, args.force)?;
    plan.failures.iter().for_each(|failure| context.fail(failure));
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    let labels = plan.files.iter().map(Planned::label).collect();
    let total = plan.files.iter().try_fold(0_u64, |total, file| Some(total.saturating_add(file.size?)));
    let jobs: Vec<_> = plan
        .files
        .into_iter()
        .map(|file| Download { name: file.name, target: Target::File { path: file.path, existing }, mtime: file.mtime })
        .collect();
    if jobs.is_empty() {
        return Ok(());
    }
    let sessions = args.sessions.unwrap_or(1);
    let options = DownloadOptions { resume: args.r#continue, sessions, ..DownloadOptions::default() };
    let mut reporter = Reporter::new(context.output, "get", labels, total, context.bars);
    context.client.download(jobs, &options, &mut reporter).await;
    reporter.finish().report(context, "get").await;
    Ok(())
}

/// Detects a `get NAME LOCAL` with a forgotten `-o` before anything is downloaded. Costs a round trip if the last of
/// several names could be a local one.
async fn forgotten_option(context: &mut Context<'_>, args: &GetArgs) -> Option<Failure> {
    let [_, others @ .., last] = args.names.as_slice() else { return None };
    let likely = others.is_empty() || last.ends_with('/') || Path::new(last).is_dir();
    if args.output.is_some() || is_glob(last) || !likely {
        return None;
    }
    let Some(name) = directory_name(last) else {
        let typed = context.typed(last).unwrap_or_default().to_string_lossy();
        let failure = Failure::new(typed, "is-directory", "the root of the server; did you mean -o?");
        return (!args.recursive).then_some(failure);
    };
    let error = context.client.stat(name).await.err()?;
    if error.is_connection() {
        // The next request would fail the same way, after another wait.
        return Some(Failure::client("get", None, &error));
    }
    let directory = error.code() == Some(ErrorCode::IsDirectory) && !args.recursive;
    let missing = directory || error.code() == Some(ErrorCode::NotFound) || matches!(error, Error::BadName { .. });
    let mut failure = Failure::client("get", Some(last), &error);
    failure.message.push_str("; did you mean -o?");
    missing.then_some(failure)
}

/// `cat`
pub(crate) struct Cat;

impl Definition for Cat {
    type Args = Names;

    const NAME: &'static str = "cat";
    const SUMMARY: &'static str = "Print files on the server to standard output";
}

impl Remote for Cat {
    fn prepare(_: &mut Self::Args, mode: Mode) -> Result<(), Failure> {
        for_one_board(mode)
    }

    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        cat(context, &args.names).await
    }
}

async fn cat(context: &mut Context<'_>, names: &[String]) -> Result<(), Failure> {
    let hello = context.client.hello().await.map_err(|error| Failure::client("cat", None, &error))?;
    if hello.is_none() {
        let message = super::failure::needs_extended("cat");
        return Err(Failure { subject: None, ..Failure::new("", "needs-extended", message) });
    }
    let mut listings = Listings::new(context.client);
    let mut found = find(&mut listings, names, false).await;
    found.failures.extend(listings.take_failures());
    to_stream(context, found, DataOut::standard(context.client.cancel_token())).await
}

/// Writes files to a stream, one after the other.
async fn to_stream(context: &mut Context<'_>, found: Found, out: DataOut) -> Result<(), Failure> {
    if found.items.iter().any(|item| matches!(item, Item::Tree { .. })) {
        return Err(Failure::usage("can't write a directory to standard output or a device"));
    }
    found.failures.iter().for_each(|failure| context.fail(failure));
    let mut jobs = Vec::new();
    let mut labels = Vec::new();
    for item in found.items {
        let Item::File(file) = item else { continue };
        let writer = out.writer().map_err(|error| Failure::new("-", "local", io_text(&error)))?;
        labels.push(Label { name: file.name.clone(), local: None });
        jobs.push(Download { name: file.name, target: Target::Writer(writer), mtime: None });
    }
    if jobs.is_empty() {
        return Ok(());
    }
    context.output.flush();
    let options = DownloadOptions { mtime: false, ..DownloadOptions::default() };
    // A bar between the lines of a file would be in the way.
    let bars = context.bars && !context.output.is_terminal();
    let mut reporter = Reporter::new(context.output, context.verb, labels, None, bars);
    if out.is_standard() {
        reporter = reporter.silent(out.clone());
    }
    context.client.download(jobs, &options, &mut reporter).await;
    reporter.finish().report(context, context.verb).await;
    if out.is_standard() {
        if out.is_broken() {
            context.output.set_broken();
        }
        context.end_line(&out);
    }
    Ok(())
}

/// A file on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FoundFile {
    name: String,
    /// If a listing has shown it.
    size: Option<u64>,
    mtime: Option<u64>,
}

impl From<RemoteEntry> for FoundFile {
    fn from(entry: RemoteEntry) -> Self {
        Self { name: entry.name, size: Some(entry.size), mtime: entry.mtime }
    }
}

/// What one of the names of a `get` refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    File(FoundFile),
    /// A directory, `None` for the root, with everything in it.
    Tree {
        dir: Option<String>,
        dirs: Vec<String>,
        files: Vec<FoundFile>,
    },
}

/// What the names of a `get` refer to, and failures.
#[derive(Debug, Default)]
struct Found {
    items: Vec<Item>,
    failures: Vec<Failure>,
}

/// Expands globs and, with `recursive`, walks directories.
async fn find(server: &mut impl Source, names: &[String], recursive: bool) -> Found {
    let mut found = Found::default();
    let wanted = if recursive { Wanted::Any } else { Wanted::Files };
    for name in names {
        let failed = match find_one(server, name, wanted).await {
            Ok(items) => {
                found.items.extend(items);
                false
            }
            Err(failure) => {
                let last = failure.is_final();
                found.failures.push(failure);
                last
            }
        };
        if failed {
            // The connection has failed: the files that were found would fail the same way, after another wait.
            found.items.clear();
            break;
        }
    }
    // `get *.txt a.txt` is about a.txt once.
    let mut seen = HashSet::new();
    found.items.retain(|item| match item {
        Item::File(file) => seen.insert((false, Some(file.name.clone()))),
        Item::Tree { dir, .. } => seen.insert((true, dir.clone())),
    });
    found
}

async fn find_one(server: &mut impl Source, name: &str, wanted: Wanted) -> Result<Vec<Item>, Failure> {
    if is_glob(name) {
        let mut items = Vec::new();
        for entry in expand_remote(server, "get", name, wanted).await? {
            items.push(if entry.is_dir { tree(server, Some(entry.name)).await? } else { Item::File(entry.into()) });
        }
        return Ok(items);
    }
    let plain = |name: &str| vec![Item::File(FoundFile { name: name.to_owned(), size: None, mtime: None })];
    if wanted == Wanted::Files {
        // The server says that it is a directory, if it is one.
        return Ok(plain(directory_name(name).unwrap_or(name)));
    }
    let Some(dir) = directory_name(name) else { return Ok(vec![tree(server, None).await?]) };
    Ok(if server.is_directory(dir).await? { vec![tree(server, Some(dir.to_owned())).await?] } else { plain(dir) })
}

async fn tree(server: &mut impl Source, dir: Option<String>) -> Result<Item, Failure> {
    let (dirs, files): (Vec<_>, Vec<_>) =
        walk(server, "get -r", dir.as_deref()).await?.into_iter().partition(|entry| entry.is_dir);
    Ok(Item::Tree {
        dir,
        dirs: dirs.into_iter().map(|entry| entry.name).collect(),
        files: files.into_iter().map(FoundFile::from).collect(),
    })
}

/// A server that can say whether a name is a directory.
trait Source: Lister {
    async fn is_directory(&mut self, name: &str) -> Result<bool, Failure>;
}

impl Source for Listings<'_> {
    async fn is_directory(&mut self, name: &str) -> Result<bool, Failure> {
        match self.client().stat(name).await {
            Ok(_) => Ok(false),
            Err(error) if error.code() == Some(ErrorCode::IsDirectory) => Ok(true),
            Err(error) => Err(Failure::client("get -r", Some(name), &error)),
        }
    }
}

/// A file to download.
#[derive(Debug, PartialEq, Eq)]
struct Planned {
    name: String,
    path: PathBuf,
    size: Option<u64>,
    mtime: Option<u64>,
}

impl Planned {
    fn label(&self) -> Label {
        Label { name: self.name.clone(), local: Some(self.path.to_string_lossy().into_owned()) }
    }
}

/// Which files to download, and where to.
#[derive(Debug, Default)]
struct Plan {
    files: Vec<Planned>,
    failures: Vec<Failure>,
    taken: Taken,
    /// Two files for one local path are refused: with `-f` the second would replace the first.
    unique: bool,
}

impl Plan {
    /// Creates the local directories that are needed.
    ///
    /// # Errors
    /// Several items would get one name.
    fn new(found: Found, destination: &Destination, unique: bool) -> Result<Self, Failure> {
        let mut plan = Self { failures: found.failures, unique, ..Self::default() };
        match destination {
            Destination::Named(path) => {
                let mut items = found.items.into_iter();
                match (items.next(), items.next()) {
                    (Some(Item::File(file)), None) => plan.add(file, Ok(path.clone())),
                    (Some(Item::Tree { dir, dirs, files }), None) => {
                        plan.tree(&mut Place::new(path), dir.as_deref(), "", &dirs, files);
                    }
                    (None, _) => {}
                    _ => {
                        return Err(Failure::usage(several(&shown(path))));
                    }
                }
            }
            Destination::Directory(path) => {
                let mut place = Place::new(path);
                if !found.items.is_empty() {
                    make_user_directory(path)?;
                }
                for item in found.items {
                    match item {
                        Item::File(file) => {
                            let last = file.name.rsplit('/').next().unwrap_or_default();
                            let path = place.file(last);
                            plan.add(file, path);
                        }
                        Item::Tree { dir, dirs, files } => {
                            let last = dir.as_deref().and_then(|dir| dir.rsplit('/').next()).unwrap_or_default();
                            plan.tree(&mut place, dir.as_deref(), last, &dirs, files);
                        }
                    }
                }
            }
            Destination::Stdout | Destination::Stream(_) => {}
        }
        Ok(plan)
    }

    /// Rebuilds the directory `dir` below `top` in `place`.
    fn tree(&mut self, place: &mut Place, dir: Option<&str>, top: &str, dirs: &[String], files: Vec<FoundFile>) {
        let relative = |name: &str| {
            let rest = dir.map_or(name, |dir| name.strip_prefix(dir).unwrap_or(name).trim_start_matches('/'));
            if top.is_empty() { rest.to_owned() } else { format!("{top}/{rest}") }
        };
        let tops = (!top.is_empty()).then(|| top.to_owned());
        let dirs: Vec<_> = tops.into_iter().chain(dirs.iter().map(|name| relative(name))).collect();
        // One failure, not one for each file.
        if !(dirs.is_empty() && files.is_empty())
            && let Err(failure) = place.make_base()
        {
            self.failures.push(failure);
            return;
        }
        for name in dirs {
            if let Err(failure) = place.directory(&name) {
                self.failures.push(failure);
            }
        }
        for file in files {
            let path = place.file(&relative(&file.name));
            self.add(file, path);
        }
    }

    fn add(&mut self, file: FoundFile, path: Result<PathBuf, Failure>) {
        match path {
            Ok(path) if self.unique && !self.taken.insert(&path) => {
                let message = format!("another file of this command is saved as {}", shown(&path));
                self.failures.push(Failure::new(file.name, "exists", message));
            }
            Ok(path) => self.files.push(Planned { name: file.name, path, size: file.size, mtime: file.mtime }),
            Err(failure) => self.failures.push(Failure { subject: Some(file.name), ..failure }),
        }
    }
}

fn shown(path: &Path) -> String {
    crate::client::sanitize(&path.to_string_lossy()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::remote::testing::Fake;

    impl Source for Fake {
        async fn is_directory(&mut self, name: &str) -> Result<bool, Failure> {
            Ok(self.names.iter().any(|other| other.starts_with(&format!("{name}/"))))
        }
    }

    async fn plan(names: &[&str], recursive: bool, destination: Destination, unique: bool) -> Result<Plan, Failure> {
        let mut fake = Fake::new(&["a.txt", "b.txt", "d/a.txt", "d/sub/c.txt", "d/empty/"]);
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        Plan::new(find(&mut fake, &names, recursive).await, &destination, unique)
    }

    fn paths(plan: &Plan, base: &Path) -> Vec<(String, String)> {
        let relative = |path: &Path| path.strip_prefix(base).unwrap().to_str().unwrap().to_owned();
        plan.files.iter().map(|file| (file.name.clone(), relative(&file.path))).collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn files_are_saved_under_the_last_part_of_their_name() {
        let dir = tempfile::tempdir().unwrap();
        let into = Destination::Directory(dir.path().join("new"));
        let plan = plan(&["d/a.txt", "*.txt", "a.txt"], false, into, false).await.unwrap();
        let expected = [("d/a.txt", "new/a.txt"), ("a.txt", "new/a.txt"), ("b.txt", "new/b.txt")];
        assert_eq!(paths(&plan, dir.path()), pairs(&expected));
        assert!(dir.path().join("new").is_dir());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn with_replacing_two_files_may_not_meet() {
        let dir = tempfile::tempdir().unwrap();
        let into = Destination::Directory(dir.path().into());
        let plan = plan(&["d/a.txt", "a.txt"], false, into, true).await.unwrap();
        assert_eq!(plan.files.len(), 1);
        assert_eq!(plan.failures[0].subject.as_deref(), Some("a.txt"));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn trees_keep_their_shape_and_their_empty_directories() {
        let dir = tempfile::tempdir().unwrap();
        let into = Destination::Directory(dir.path().into());
        let inside = plan(&["d"], true, into.clone(), false).await.unwrap();
        let expected = [("d/a.txt", "d/a.txt"), ("d/sub/c.txt", "d/sub/c.txt")];
        assert_eq!(paths(&inside, dir.path()), pairs(&expected));
        assert!(dir.path().join("d/empty").is_dir());
        let named = plan(&["d/"], true, Destination::Named(dir.path().join("copy")), false).await.unwrap();
        let expected = [("d/a.txt", "copy/a.txt"), ("d/sub/c.txt", "copy/sub/c.txt")];
        assert_eq!(paths(&named, dir.path()), pairs(&expected));
        let root = plan(&["."], true, into, false).await.unwrap();
        assert_eq!(root.files.len(), 4);
        assert_eq!(paths(&root, dir.path())[0].1, "a.txt");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn one_name_is_for_one_thing() {
        let dir = tempfile::tempdir().unwrap();
        let one = plan(&["b.txt"], false, Destination::Named(dir.path().join("x")), false).await.unwrap();
        assert_eq!(paths(&one, dir.path()), pairs(&[("b.txt", "x")]));
        let failure = plan(&["a.txt", "b.txt"], false, Destination::Named("x".into()), false).await.unwrap_err();
        assert_eq!(failure.code, "usage");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_fails_does_not_stop_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let into = Destination::Directory(dir.path().into());
        let plan = plan(&["*.zip", "b.txt", "d*"], false, into, false).await.unwrap();
        assert_eq!(plan.files.len(), 1);
        assert_eq!(plan.failures.len(), 2);
    }
}
