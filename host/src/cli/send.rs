//! `put`.

use core::num::NonZeroU64;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};

use super::command::{Definition, Remote};
use super::context::Context;
use super::failure::{Failure, io_text, several};
use super::glob::{Wanted, expand_local, is_glob};
use super::json::Object;
use super::mode::Mode;
use super::names::{ON_SERVER, local_word};
use super::refused::leave_out;
use super::remote::directory_name;
use super::report::{Label, Reporter, Rest};
use super::stream::stdin_for;
use super::tree;
use crate::arguments::bytes;
use crate::client::{Error, ErrorCode, Peer, Source, Upload, UploadOptions, sanitize};

/// `put`
pub(crate) struct Put;

impl Definition for Put {
    type Args = PutArgs;

    const NAME: &'static str = "put";
    const HABITS: &'static [&'static str] = &["mput"];
    const SUMMARY: &'static str = "Upload files to the server";

    fn describe(parser: clap::Command, mode: Mode) -> clap::Command {
        if mode == Mode::OneShot {
            return parser;
        }
        let files = "Files or globs; with -r, directories too";
        parser.after_help(PUT_EXAMPLES).mut_arg("files", |arg| arg.help(files))
    }
}

impl Remote for Put {
    /// Reads standard input.
    fn prepare(args: &mut PutArgs, mode: Mode) -> Result<(), Failure> {
        if args.files.iter().any(|file| file == "-") {
            args.stdin = Some(stdin_for(mode)?);
        }
        Ok(())
    }

    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure> {
        put(context, args).await
    }
}

/// The help of `put` below the options, without the examples that read standard input, which don't work at a prompt or
/// in a script.
const PUT_EXAMPLES: &str = "\
dir/x.txt is stored as x.txt; -r keeps the tree of a directory. An existing file on the server is replaced.

Examples:
  put notes.txt
  put dir/x.txt -o y.txt
  put *.bin -o data/
  put -r logs";

/// Arguments of `put`.
#[derive(Debug, Default, Args)]
#[command(after_help = format!("{PUT_EXAMPLES}\n  tar c . | host-cli localhost 50000 put - -o backup.tar"))]
pub(crate) struct PutArgs {
    /// Files or globs, - for standard input; with -r, directories too
    #[arg(value_name = "LOCAL", required = true, value_parser = local_word(), value_hint = ValueHint::AnyPath)]
    pub(crate) files: Vec<OsString>,
    /// Store as NAME; into the directory NAME if it ends in /
    #[arg(short, value_name = "NAME", value_hint = ON_SERVER)]
    pub(crate) output: Option<String>,
    /// Send non-text files to a classic server, which may corrupt them
    #[arg(short)]
    pub(crate) force: bool,
    /// Resume interrupted transfers
    #[arg(short)]
    pub(crate) r#continue: bool,
    /// Upload directories recursively
    #[arg(short)]
    pub(crate) recursive: bool,
    /// Skip files that exist on the server
    #[arg(short)]
    pub(crate) no_replace: bool,
    /// Send at most RATE bytes a second, such as 200K
    #[arg(long, value_name = "RATE", value_parser = bytes)]
    pub(crate) limit_rate: Option<NonZeroU64>,
    /// Send no checksum, if the server allows that
    #[arg(long)]
    pub(crate) no_crc: bool,
    /// Standard input, if one of the files is `-`.
    #[arg(skip)]
    stdin: Option<File>,
}

async fn put(context: &mut Context<'_>, mut args: PutArgs) -> Result<(), Failure> {
    let stdin = args.stdin.take();
    if let Some(failure) = forgotten_option(&args) {
        if !context.is_output_forgotten(failure).await? {
            return Ok(());
        }
        args.output = args.files.pop().and_then(|last| Some(context.cwd.resolve(last.to_str()?)));
    }
    let args = &args;
    if args.recursive && context.client.hello().await.map_err(whole)?.is_none() {
        let message = super::failure::needs_extended("put -r");
        return Err(Failure { subject: None, ..Failure::new("", "needs-extended", message) });
    }
    context.client.set_rate(args.limit_rate);
    let here = context.cwd.here();
    let naming = naming(context, args, args.output.as_deref().unwrap_or(&here)).await?;
    let mut plan = Plan::new(args, naming, stdin)?;
    if args.no_replace {
        plan.leave_out_existing(context).await?;
    }
    plan.failures.iter().for_each(|failure| context.fail(failure));
    for (path, why) in &plan.skipped {
        context.output.left_out("put", &path.to_string_lossy(), why);
    }
    let labels = plan.files.iter().map(Planned::label).collect();
    let total = plan.files.iter().fold(0_u64, |total, file| total.saturating_add(file.size));
    let missing =
        tree::empty_dirs(plan.files.iter().map(|file| file.name.as_str()), plan.dirs.iter().map(String::as_str));
    let jobs: Vec<_> = plan.files.into_iter().map(|file| Upload { source: file.source, name: file.name }).collect();
    let mut rest = Rest::default();
    if !jobs.is_empty() {
        let options = UploadOptions {
            resume: args.r#continue,
            force: args.force,
            no_crc: args.no_crc,
            ..UploadOptions::default()
        };
        let mut reporter = Reporter::new(context.output, "put", labels, Some(total), context.bars);
        context.client.upload(jobs, &options, &mut reporter).await;
        rest = reporter.finish();
    }
    if !missing.is_empty() && !rest.over && context.client.peer() == Peer::Extended {
        make_empty(context, &missing, &mut rest).await;
    }
    rest.report(context, "put").await;
    Ok(())
}

/// What the files are to be called. As with `get -r`, a directory that exists is one to put things in.
async fn naming<'a>(context: &mut Context<'_>, args: &PutArgs, output: &'a str) -> Result<Naming<'a>, Failure> {
    let naming = Naming::parse(output);
    let Naming::Named(name) = naming else { return Ok(naming) };
    if !args.recursive {
        return Ok(naming);
    }
    let own = match args.files.as_slice() {
        // What is continued went under this name, unless it went into it.
        [file] if args.r#continue => Path::new(file).file_name().and_then(OsStr::to_str),
        _ => None,
    };
    let asked = own.map_or_else(|| name.to_owned(), |own| format!("{name}/{own}"));
    match context.client.stat(&asked).await {
        Err(error) if error.code() == Some(ErrorCode::IsDirectory) => Ok(Naming::Directory(Some(name))),
        Err(error) if error.is_connection() => Err(whole(error)),
        _ => Ok(naming),
    }
}

/// Detects a `put LOCAL NAME` with a forgotten `-o` before anything is sent.
fn forgotten_option(args: &PutArgs) -> Option<Failure> {
    let [_, others @ .., last] = args.files.as_slice() else { return None };
    // Names on the server are UTF-8.
    let name = last.to_str()?;
    let slash = name.ends_with('/');
    if args.output.is_some() || name == "-" || is_glob(name) || !(others.is_empty() || slash) {
        return None;
    }
    let path = Path::new(last);
    let why = match fs::metadata(path) {
        Ok(meta) if meta.is_dir() && slash && !args.recursive => "is a directory (-r uploads it)".to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => io_text(&error),
        _ => return None,
    };
    Some(Failure::new(path.to_string_lossy(), "local", format!("{why}; did you mean -o?")))
}

fn whole(error: Error) -> Failure {
    Failure::client("put", None, &error)
}

/// Creates the directories that contain no files. Reports them as skipped if the server has no directories.
pub(crate) async fn make_empty(context: &mut Context<'_>, dirs: &[String], rest: &mut Rest) {
    let (mut taken, mut left_out) = (Vec::new(), Vec::new());
    for (dir, result) in dirs.iter().zip(context.client.mkdir_many(dirs).await) {
        match result {
            Ok(()) => {
                let object = Object::Done { command: "mkdir", name: dir, to: None };
                context.output.confirm(&object, || format!("put {dir}/: created"));
            }
            Err(error) => match error.code() {
                Some(ErrorCode::Exists) => taken.push((dir, error)),
                Some(ErrorCode::Unsupported) => left_out.push(dir.clone()),
                _ => {
                    rest.failed = true;
                    let failure = Failure::client("put", Some(dir), &error);
                    if rest.repeated.is_new(dir, &failure) || context.output.is_json() {
                        context.fail(&failure);
                    }
                    if failure.is_final() {
                        return;
                    }
                }
            },
        }
    }
    leave_out(context.output, &left_out);
    rest.failed |= rest.refused.take_blocked(context.client, "put", &taken).await;
}

/// A file to upload.
#[derive(Debug)]
struct Planned {
    source: Source,
    name: String,
    size: u64,
}

impl Planned {
    fn label(&self) -> Label {
        let local = match &self.source {
            Source::Path(path) => Some(path.to_string_lossy().into_owned()),
            Source::File(_) | Source::Bytes(_) | Source::Noise(_) => None,
        };
        Label { name: self.name.clone(), local }
    }
}

/// The name on the server: the `-o` of a `put`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming<'a> {
    /// The file's own name, in this directory; `None` for the root.
    Directory(Option<&'a str>),
    /// This name.
    Named(&'a str),
}

impl<'a> Naming<'a> {
    fn parse(output: &'a str) -> Self {
        if output.ends_with('/') { Self::Directory(directory_name(output)) } else { Self::Named(output) }
    }

    /// The name on the server of the local `own`.
    fn name(self, own: &str) -> String {
        match self {
            Self::Directory(Some(dir)) => format!("{dir}/{own}"),
            Self::Directory(None) => own.to_owned(),
            Self::Named(name) => name.to_owned(),
        }
    }
}

/// What one of the arguments of a `put` refers to.
enum Local {
    Stdin,
    Path(PathBuf),
}

/// Which files to upload, and their names on the server.
#[derive(Debug, Default)]
struct Plan {
    files: Vec<Planned>,
    /// Directories on the server, parents first.
    dirs: Vec<String>,
    skipped: Vec<(PathBuf, &'static str)>,
    failures: Vec<Failure>,
    taken: HashSet<String>,
}

impl Plan {
    /// Looks at the local files.
    ///
    /// # Errors
    /// Several files would get one name, or standard input has none.
    fn new(args: &PutArgs, naming: Naming<'_>, stdin: Option<File>) -> Result<Self, Failure> {
        let mut plan = Self::default();
        let mut found = Vec::new();
        let wanted = if args.recursive { Wanted::Any } else { Wanted::Files };
        for file in &args.files {
            if file == "-" {
                if !matches!(naming, Naming::Named(_)) {
                    return Err(Failure::usage("standard input has no name; give one with -o NAME"));
                }
                found.push(Local::Stdin);
                continue;
            }
            match expand_local(file, wanted) {
                Ok(paths) => found.extend(paths.into_iter().map(Local::Path)),
                Err(failure) => plan.failures.push(failure),
            }
        }
        if let (Naming::Named(name), 2..) = (naming, found.len()) {
            return Err(Failure::usage(several(&sanitize(name))));
        }
        let mut stdin = stdin;
        let mut seen = HashSet::new();
        for local in found {
            match local {
                Local::Stdin => {
                    if let Some(file) = stdin.take() {
                        let size = file.metadata().map_or(0, |meta| meta.len());
                        plan.add(Source::File(file), naming.name("-"), size);
                    }
                }
                Local::Path(path) => {
                    if seen.insert(path.clone()) {
                        plan.path(path, naming, args.recursive);
                    }
                }
            }
        }
        Ok(plan)
    }

    /// Leaves out the files that the server has.
    async fn leave_out_existing(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        let names: Vec<_> = self.files.iter().map(|file| file.name.as_str()).collect();
        let stats = context.client.stat_many(&names).await;
        for (file, stat) in core::mem::take(&mut self.files).into_iter().zip(stats) {
            match stat {
                Err(error) if error.is_connection() || matches!(error, Error::NeedsExtended { .. }) => {
                    return Err(whole(error));
                }
                Err(error) if error.code() == Some(ErrorCode::NotFound) => self.files.push(file),
                Err(error) if error.code() != Some(ErrorCode::IsDirectory) => {
                    self.failures.push(Failure::client("put", Some(&file.name), &error));
                }
                _ => context.output.left_out("put", &file.name, "exists on the server"),
            }
        }
        Ok(())
    }

    /// A file or a tree.
    fn path(&mut self, path: PathBuf, naming: Naming<'_>, recursive: bool) {
        let meta = match fs::metadata(&path) {
            Ok(meta) => meta,
            Err(error) => return self.failures.push(Failure::local(&path, &error)),
        };
        if meta.is_dir() && recursive {
            return self.tree(&path, naming);
        }
        let why = if meta.is_dir() {
            "is a directory (-r uploads it)"
        } else if !meta.is_file() {
            "not a regular file"
        } else {
            match own_name(&path, naming) {
                Ok(name) => self.add(Source::Path(path), name, meta.len()),
                Err(failure) => self.failures.push(failure),
            }
            return;
        };
        self.failures.push(Failure::new(path.to_string_lossy(), "local", why));
    }

    fn tree(&mut self, root: &Path, naming: Naming<'_>) {
        // `.` and `..` have no name of their own: what is in them goes where they would.
        let top = match (naming, root.file_name()) {
            (Naming::Directory(None), None) => Ok(None),
            (Naming::Directory(Some(dir)), None) => Ok(Some(dir.to_owned())),
            _ => own_name(root, naming).map(Some),
        };
        let (top, tree) = match (top, tree::walk(root)) {
            (Ok(top), Ok(tree)) => (top, tree),
            (Err(failure), _) => return self.failures.push(failure),
            (_, Err(failure)) => return self.failures.push(failure),
        };
        let name = |below: &str| match &top {
            Some(top) => format!("{top}/{below}"),
            None => below.to_owned(),
        };
        self.dirs.extend(top.clone());
        self.dirs.extend(tree.dirs.iter().map(|dir| name(dir)));
        self.skipped.extend(tree.skipped);
        self.failures.extend(tree.failures);
        for file in tree.files {
            self.add(Source::Path(file.path), name(&file.name), file.size);
        }
    }

    fn add(&mut self, source: Source, name: String, size: u64) {
        if self.taken.insert(name.clone()) {
            self.files.push(Planned { source, name, size });
        } else {
            let label = Planned { source, name, size }.label();
            let message = format!("another file of this command is stored as {}", sanitize(&label.name));
            self.failures.push(Failure::new(label.local.unwrap_or_else(|| "-".to_owned()), "exists", message));
        }
    }
}

/// The server's name of the local file `path`.
fn own_name(path: &Path, naming: Naming<'_>) -> Result<String, Failure> {
    if let Naming::Named(name) = naming {
        return Ok(name.to_owned());
    }
    let own = path.file_name().unwrap_or(OsStr::new(""));
    own.to_str().map(|own| naming.name(own)).ok_or_else(|| {
        Failure::new(path.to_string_lossy(), "bad-name", "the name is not UTF-8; give another with -o NAME")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(files: &[&Path], output: Option<&str>, recursive: bool) -> PutArgs {
        PutArgs {
            files: files.iter().map(|file| file.as_os_str().to_owned()).collect(),
            output: output.map(str::to_owned),
            recursive,
            ..PutArgs::default()
        }
    }

    fn plan_of(args: &PutArgs) -> Result<Plan, Failure> {
        Plan::new(args, Naming::parse(args.output.as_deref().unwrap_or("./")), None)
    }

    fn names(plan: &Plan) -> Vec<&str> {
        plan.files.iter().map(|file| file.name.as_str()).collect()
    }

    fn scene() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("t/sub/empty")).unwrap();
        for name in ["a.bin", "b.bin", "t/a.bin", "t/sub/c"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        dir
    }

    #[test]
    fn the_argument_of_o_is_a_name_or_a_directory() {
        for (output, naming) in
            [("x", Naming::Named("x")), ("x/y/", Naming::Directory(Some("x/y"))), ("./", Naming::Directory(None))]
        {
            assert_eq!(Naming::parse(output), naming, "{output:?}");
        }
    }

    #[test]
    fn files_are_stored_under_their_own_name() {
        let dir = scene();
        let glob = dir.path().join("*.bin");
        let plan = plan_of(&args(&[&glob], None, false)).unwrap();
        assert_eq!(names(&plan), ["a.bin", "b.bin"]);
        assert_eq!(plan.files[0].size, 5);
        let plan = plan_of(&args(&[&glob], Some("data/"), false)).unwrap();
        assert_eq!(names(&plan), ["data/a.bin", "data/b.bin"]);
        let plan = plan_of(&args(&[&dir.path().join("t/a.bin")], Some("x"), false)).unwrap();
        assert_eq!(names(&plan), ["x"]);
    }

    #[test]
    fn one_name_is_for_one_file() {
        let dir = scene();
        let (a, b, other) = (dir.path().join("a.bin"), dir.path().join("b.bin"), dir.path().join("t/a.bin"));
        assert_eq!(plan_of(&args(&[&a, &b], Some("x"), false)).unwrap_err().code, "usage");
        let plan = plan_of(&args(&[&a, &other, &a], None, false)).unwrap();
        assert_eq!(names(&plan), ["a.bin"]);
        assert!(plan.failures.len() == 1 && plan.failures[0].message.contains("stored as a.bin"), "{plan:?}");
    }

    #[test]
    fn trees_keep_their_shape() {
        let dir = scene();
        let tree = dir.path().join("t");
        let plan = plan_of(&args(&[&tree], None, true)).unwrap();
        assert_eq!(names(&plan), ["t/a.bin", "t/sub/c"]);
        assert_eq!(plan.dirs, ["t", "t/sub", "t/sub/empty"]);
        let plan = plan_of(&args(&[&tree], Some("copy"), true)).unwrap();
        assert_eq!(names(&plan), ["copy/a.bin", "copy/sub/c"]);
        let plan = plan_of(&args(&[&tree], Some("in/"), true)).unwrap();
        assert_eq!(names(&plan), ["in/t/a.bin", "in/t/sub/c"]);
        let plan = plan_of(&args(&[&tree.join("sub/..")], None, true)).unwrap();
        assert_eq!(names(&plan), ["a.bin", "sub/c"]);
    }

    #[test]
    fn what_is_no_file_is_a_failure_and_the_rest_goes_on() {
        let dir = scene();
        let missing = dir.path().join("none");
        let tree = dir.path().join("t");
        let a = dir.path().join("a.bin");
        let plan = plan_of(&args(&[&missing, &tree, &a], None, false)).unwrap();
        assert_eq!(names(&plan), ["a.bin"]);
        assert_eq!(plan.failures.len(), 2);
        assert_eq!(plan.failures[1].message, "is a directory (-r uploads it)");
    }

    #[test]
    #[cfg(unix)]
    fn a_name_that_is_not_utf8_needs_another() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join(OsStr::from_bytes(b"x\xff"));
        fs::write(&odd, "x").unwrap();
        let plan = plan_of(&args(&[&odd], None, false)).unwrap();
        assert!(plan.files.is_empty() && plan.failures[0].message.contains("-o NAME"), "{plan:?}");
        let plan = plan_of(&args(&[&odd], Some("good"), false)).unwrap();
        assert_eq!(names(&plan), ["good"]);
    }

    #[test]
    fn standard_input_needs_a_name() {
        let stdin = || {
            let file = tempfile::tempfile().unwrap();
            std::io::Write::write_all(&mut &file, b"12345").unwrap();
            Some(file)
        };
        assert_eq!(
            Plan::new(&args(&[Path::new("-")], None, false), Naming::Directory(None), stdin()).unwrap_err().code,
            "usage"
        );
        let plan = Plan::new(&args(&[Path::new("-")], Some("x"), false), Naming::Named("x"), stdin()).unwrap();
        assert_eq!((names(&plan), plan.files[0].size), (vec!["x"], 5));
    }
}
