//! The commands, as clap parses them. What they do is in [`super::session`] and the modules it names.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand};

/// One command with its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List files on the server
    Ls(Ls),
    /// List local files
    Lls(Lls),
    /// Fetch files from the server
    Get(Get),
    /// Send files to the server
    Put(Put),
    /// Write files of the server to standard output
    Cat(Names),
    /// Show size, time and checksum of files on the server
    Stat(Names),
    /// Remove files on the server
    Rm(Names),
    /// Rename a file on the server; TO is replaced if it exists
    Mv(Mv),
    /// Make directories on the server
    Mkdir(Mkdir),
    /// Remove empty directories on the server
    Rmdir(Names),
    /// Show the room on the server
    Df(Df),
    /// Show checksums (CRC-32C) that the server computes
    Sum(Names),
    /// Measure the round-trip time
    Ping(Ping),
    /// Show what the server is and offers
    Info,
    /// Change the local directory
    Lcd(Lcd),
    /// Show the local directory
    Lpwd,
    /// Show help, about one command too
    Help(Help),
    /// Leave
    #[command(alias = "exit")]
    Quit,
}

/// Arguments of `ls`.
#[derive(Debug, Default, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Ls {
    /// Sizes and times too
    #[arg(short)]
    pub(crate) long: bool,
    /// Sizes in KiB, MiB, GiB
    #[arg(short)]
    pub(crate) human: bool,
    /// Directories with everything in them
    #[arg(short = 'R')]
    pub(crate) recursive: bool,
    /// Directories, files or globs; the server's root if none is given
    #[arg(value_name = "DIR|GLOB", value_parser = remote_name)]
    pub(crate) names: Vec<String>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub(crate) help: Option<bool>,
}

/// Arguments of `lls`.
#[derive(Debug, Default, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Lls {
    /// Sizes and times too
    #[arg(short)]
    pub(crate) long: bool,
    /// Sizes in KiB, MiB, GiB
    #[arg(short)]
    pub(crate) human: bool,
    /// A directory or file; the local directory if none is given
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub(crate) help: Option<bool>,
}

/// What the help of `get` says below the options.
pub(crate) const GET_EXAMPLES: &str = "\
A local file that exists is kept, and the new one saved as name(1).ext, unless -f is given.

Examples:
  get notes.txt
  get 'logs/*.txt' -o logs/
  get notes.txt -o -
  get firmware.log -j 4
  get -r logs";

/// The same of `put`, where there is no standard input to be sent.
pub(crate) const PUT_EXAMPLES: &str = "\
dir/x.txt is stored as x.txt; with -r a directory keeps its tree. A file of that name on the server is replaced.

Examples:
  put notes.txt
  put dir/x.txt -o y.txt
  put *.bin -o data/
  put -r logs";

/// Arguments of `get`.
#[derive(Debug, Default, Args)]
#[command(after_help = GET_EXAMPLES)]
pub(crate) struct Get {
    /// Files or globs; directories with -r
    #[arg(value_name = "NAME", required = true, value_parser = remote_name)]
    pub(crate) names: Vec<String>,
    /// Where to: a file, a directory (if it ends in / or is one), or - for standard output
    #[arg(short, value_name = "LOCAL")]
    pub(crate) output: Option<OsString>,
    /// Replace local files that exist
    #[arg(short)]
    pub(crate) force: bool,
    /// Continue transfers that were interrupted
    #[arg(short)]
    pub(crate) r#continue: bool,
    /// Directories with everything in them
    #[arg(short)]
    pub(crate) recursive: bool,
    /// Fetch each file by N sessions at a time, 1 to 16: for a device behind a line that loses packets
    #[arg(short = 'j', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) sessions: Option<u32>,
}

/// Arguments of `put`.
#[derive(Debug, Default, Args)]
#[command(after_help = format!("{PUT_EXAMPLES}\n  tar c . | host-cli localhost 50000 put - -o backup.tar"))]
pub(crate) struct Put {
    /// Files or globs, - for standard input; directories with -r
    #[arg(value_name = "LOCAL", required = true)]
    pub(crate) files: Vec<OsString>,
    /// The name on the server, or a directory there if it ends in /
    #[arg(short, value_name = "NAME", value_parser = remote_name)]
    pub(crate) output: Option<String>,
    /// Send what a classic server will probably spoil: files that are not text
    #[arg(short)]
    pub(crate) force: bool,
    /// Continue transfers that were interrupted
    #[arg(short)]
    pub(crate) r#continue: bool,
    /// Directories with everything in them
    #[arg(short)]
    pub(crate) recursive: bool,
    /// Leave the checksum out, if the server takes that
    #[arg(long)]
    pub(crate) no_crc: bool,
}

/// Arguments of the commands that take names on the server.
#[derive(Debug, Default, Args)]
pub(crate) struct Names {
    /// Names on the server, or globs
    #[arg(value_name = "NAME", required = true, value_parser = remote_name)]
    pub(crate) names: Vec<String>,
}

/// Arguments of `mv`.
#[derive(Debug, Default, Args)]
pub(crate) struct Mv {
    /// The name now
    #[arg(value_name = "FROM", value_parser = remote_name)]
    pub(crate) from: String,
    /// The new name, or a directory if it ends in /
    #[arg(value_name = "TO", value_parser = remote_name)]
    pub(crate) to: String,
}

/// Arguments of `mkdir`.
#[derive(Debug, Default, Args)]
pub(crate) struct Mkdir {
    /// Parents too, and no error if the directory exists
    #[arg(short)]
    pub(crate) parents: bool,
    /// Directories
    #[arg(value_name = "DIR", required = true, value_parser = remote_name)]
    pub(crate) names: Vec<String>,
}

/// Arguments of `df`.
#[derive(Debug, Default, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Df {
    /// Sizes in KiB, MiB, GiB
    #[arg(short)]
    pub(crate) human: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub(crate) help: Option<bool>,
}

/// Arguments of `ping`.
#[derive(Debug, Args)]
pub(crate) struct Ping {
    /// How many times, one after the other
    #[arg(short = 'n', value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
}

/// Arguments of `lcd`.
#[derive(Debug, Default, Args)]
pub(crate) struct Lcd {
    /// The directory; the home directory if none is given
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// Arguments of `help`.
#[derive(Debug, Default, Args)]
pub(crate) struct Help {
    /// The command
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Option<String>,
}

/// A name on the server as it is typed: `/f` and `./f` are `f`, and what names nothing but the root is `.` or `./`.
#[expect(clippy::unnecessary_wraps, reason = "a value parser of clap")]
fn remote_name(typed: &str) -> Result<String, core::convert::Infallible> {
    let name = within_root(typed);
    Ok(if !name.is_empty() || typed.is_empty() {
        name.to_owned()
    } else if typed.ends_with('/') {
        "./".to_owned()
    } else {
        ".".to_owned()
    })
}

/// What follows the `/` and `./` that a name on the server may be typed with.
pub(crate) fn within_root(typed: &str) -> &str {
    let mut name = typed;
    while let Some(rest) = name.strip_prefix('/').or_else(|| name.strip_prefix("./")) {
        name = rest;
    }
    if name == "." { "" } else { name }
}

/// The parser of one command without those of the others, for the commands that are used most.
pub(crate) fn only(verb: &str) -> Option<clap::Command> {
    let verb: &'static str = VERBS.iter().find(|known| **known == verb)?;
    let augment = match verb {
        "get" => Get::augment_args,
        "put" => Put::augment_args,
        "ls" => Ls::augment_args,
        "cat" | "stat" | "sum" | "rm" | "rmdir" => Names::augment_args,
        "mv" => Mv::augment_args,
        "mkdir" => Mkdir::augment_args,
        "ping" => Ping::augment_args,
        _ => return None,
    };
    Some(augment(clap::Command::new(verb)))
}

/// What kind of thing an argument of a command names: what completion offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArgumentKind {
    /// Names on the server.
    Remote,
    /// Local files.
    Local,
    /// Commands.
    Command,
    /// Nothing that could be completed.
    None,
}

/// The words a command is called by, in the order of the help.
pub(crate) const VERBS: &[&str] = &[
    "ls", "get", "put", "cat", "stat", "sum", "rm", "mv", "mkdir", "rmdir", "df", "ping", "info", "lls", "lcd", "lpwd",
    "help", "quit", "exit",
];

/// What the arguments of `verb` name; with `after_output`, what follows its `-o`.
#[must_use]
pub(crate) fn argument_kind(verb: &str, after_output: bool) -> ArgumentKind {
    match verb {
        "get" if after_output => ArgumentKind::Local,
        "put" if after_output => ArgumentKind::Remote,
        "ls" | "get" | "cat" | "stat" | "sum" | "rm" | "mv" | "mkdir" | "rmdir" => ArgumentKind::Remote,
        "put" | "lls" | "lcd" => ArgumentKind::Local,
        "help" => ArgumentKind::Command,
        _ => ArgumentKind::None,
    }
}

impl Command {
    /// The word it is called by: what stands in messages.
    #[must_use]
    pub(crate) const fn verb(&self) -> &'static str {
        match self {
            Self::Ls(_) => "ls",
            Self::Lls(_) => "lls",
            Self::Get(_) => "get",
            Self::Put(_) => "put",
            Self::Cat(_) => "cat",
            Self::Stat(_) => "stat",
            Self::Rm(_) => "rm",
            Self::Mv(_) => "mv",
            Self::Mkdir(_) => "mkdir",
            Self::Rmdir(_) => "rmdir",
            Self::Df(_) => "df",
            Self::Sum(_) => "sum",
            Self::Ping(_) => "ping",
            Self::Info => "info",
            Self::Lcd(_) => "lcd",
            Self::Lpwd => "lpwd",
            Self::Help(_) => "help",
            Self::Quit => "quit",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::args::Line;

    /// Parses in the short way and in the long one, which have to agree.
    fn parse(words: &[&str]) -> Command {
        let all = Line::try_parse_from(words).unwrap().command;
        let words: Vec<_> = words.iter().map(OsString::from).collect();
        let command = Line::parse(&words).unwrap().command;
        assert_eq!(format!("{command:?}"), format!("{all:?}"));
        command
    }

    #[test]
    fn the_parser_is_sound() {
        Line::command().debug_assert();
        crate::cli::args::Program::command().debug_assert();
    }

    #[test]
    fn every_verb_parses_to_itself() {
        for verb in VERBS {
            let words: &[&str] = match *verb {
                "get" | "put" | "cat" | "stat" | "sum" | "rm" | "mkdir" | "rmdir" => &[verb, "x"],
                "mv" => &[verb, "x", "y"],
                _ => &[verb],
            };
            let expected = if *verb == "exit" { "quit" } else { verb };
            assert_eq!(parse(words).verb(), expected);
        }
        let names: Vec<_> = Line::command().get_subcommands().map(|c| c.get_name().to_owned()).collect();
        assert!(names.iter().all(|name| VERBS.contains(&name.as_str())), "{names:?}");
    }

    #[test]
    fn options_stand_before_or_after_names() {
        for words in [&["get", "-f", "-o", "out", "a", "b"][..], &["get", "a", "-fo", "out", "b"]] {
            let Command::Get(get) = parse(words) else { panic!() };
            assert_eq!(get.names, ["a", "b"]);
            assert_eq!(get.output.as_deref(), Some("out".as_ref()));
            assert!(get.force && !get.recursive && !get.r#continue);
        }
    }

    #[test]
    fn a_dash_is_a_name_and_two_dashes_end_the_options() {
        let Command::Put(put) = parse(&["put", "-", "-o", "x"]) else { panic!() };
        assert_eq!(put.files, ["-"]);
        let Command::Get(get) = parse(&["get", "x", "-o", "-"]) else { panic!() };
        assert_eq!(get.output.as_deref(), Some("-".as_ref()));
        let Command::Rm(rm) = parse(&["rm", "--", "-x", "--json"]) else { panic!() };
        assert_eq!(rm.names, ["-x", "--json"]);
    }

    #[test]
    fn names_on_the_server_may_begin_at_the_root() {
        for (typed, name) in [
            ("f", "f"),
            ("/f", "f"),
            ("./f", "f"),
            ("././/d/f/", "d/f/"),
            ("/*.txt", "*.txt"),
            ("./-x", "-x"),
            (".hid", ".hid"),
            ("../f", "../f"),
            ("a/./f", "a/./f"),
            ("/", "./"),
            ("./", "./"),
            (".", "."),
            ("", ""),
        ] {
            assert_eq!(remote_name(typed), Ok(name.to_owned()), "{typed}");
        }
        let Command::Mv(mv) = parse(&["mv", "/a", "./b/"]) else { panic!() };
        assert_eq!((mv.from.as_str(), mv.to.as_str()), ("a", "b/"));
        let Command::Put(put) = parse(&["put", "./x", "-o", "/y"]) else { panic!() };
        assert_eq!((put.files[0].to_str(), put.output.as_deref()), (Some("./x"), Some("y")));
    }

    #[test]
    fn ls_and_df_take_h_for_human_sizes() {
        let Command::Ls(ls) = parse(&["ls", "-lh", "logs"]) else { panic!() };
        assert!(ls.long && ls.human);
        let Command::Df(df) = parse(&["df", "-h"]) else { panic!() };
        assert!(df.human);
    }

    #[test]
    fn arguments_are_completed_by_what_they_name() {
        assert_eq!(argument_kind("get", false), ArgumentKind::Remote);
        assert_eq!(argument_kind("get", true), ArgumentKind::Local);
        assert_eq!(argument_kind("put", true), ArgumentKind::Remote);
        assert_eq!(argument_kind("ping", false), ArgumentKind::None);
    }

    #[test]
    #[cfg(unix)]
    fn local_files_need_not_be_text() {
        use std::os::unix::ffi::OsStrExt;
        let word = std::ffi::OsStr::from_bytes(b"\xff");
        let line = Line::try_parse_from(["put".as_ref(), word]).unwrap();
        let Command::Put(put) = line.command else { panic!() };
        assert_eq!(put.files, [word]);
        assert!(Line::try_parse_from(["get".as_ref(), word]).is_err());
    }
}
