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
    /// Download files from the server
    Get(Get),
    /// Upload files to the server
    Put(Put),
    /// Print files on the server to standard output
    Cat(Names),
    /// Show size, time and checksum of files on the server
    Stat(Names),
    /// Remove files on the server
    Rm(Names),
    /// Rename a file on the server, replacing TO if it exists
    Mv(Mv),
    /// Create directories on the server
    Mkdir(Mkdir),
    /// Remove empty directories on the server
    Rmdir(Names),
    /// Show disk space on the server
    Df(Df),
    /// Have the server compute checksums (CRC-32C) of files
    Sum(Names),
    /// Measure the round-trip time
    Ping(Ping),
    /// Show the server's version and what it supports
    Info,
    /// Change the local directory
    Lcd(Lcd),
    /// Print the local directory
    Lpwd,
    /// List the commands, or describe one
    Help(Help),
    /// Leave
    #[command(alias = "exit")]
    Quit,
}

/// Arguments of `ls`.
#[derive(Debug, Default, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Ls {
    /// Show sizes and times
    #[arg(short)]
    pub(crate) long: bool,
    /// Show sizes in KiB, MiB, GiB
    #[arg(short)]
    pub(crate) human: bool,
    /// List directories recursively
    #[arg(short = 'R')]
    pub(crate) recursive: bool,
    /// Directories, files or globs; default: the server's root
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
    /// Show sizes and times
    #[arg(short)]
    pub(crate) long: bool,
    /// Show sizes in KiB, MiB, GiB
    #[arg(short)]
    pub(crate) human: bool,
    /// Directory or file; default: the local directory
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub(crate) help: Option<bool>,
}

/// What the help of `get` says below the options.
pub(crate) const GET_EXAMPLES: &str = "\
If the local file exists, it is kept and the new one is saved as name(1).ext; -f replaces it.

Examples:
  get notes.txt
  get 'logs/*.txt' -o logs/
  get notes.txt -o -
  get firmware.log -j 4
  get -r logs";

/// The same for `put`, without the examples that read standard input: at a prompt and in a script they don't work.
pub(crate) const PUT_EXAMPLES: &str = "\
dir/x.txt is stored as x.txt; -r keeps the tree of a directory. An existing file on the server is replaced.

Examples:
  put notes.txt
  put dir/x.txt -o y.txt
  put *.bin -o data/
  put -r logs";

/// Arguments of `get`.
#[derive(Debug, Default, Args)]
#[command(after_help = GET_EXAMPLES)]
pub(crate) struct Get {
    /// Files or globs; with -r, directories too
    #[arg(value_name = "NAME", required = true, value_parser = remote_name)]
    pub(crate) names: Vec<String>,
    /// Save as LOCAL; into LOCAL if it ends in / or is a directory; - is standard output
    #[arg(short, value_name = "LOCAL")]
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
    #[arg(short = 'j', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) sessions: Option<u32>,
}

/// Arguments of `put`.
#[derive(Debug, Default, Args)]
#[command(after_help = format!("{PUT_EXAMPLES}\n  tar c . | host-cli localhost 50000 put - -o backup.tar"))]
pub(crate) struct Put {
    /// Files or globs, - for standard input; with -r, directories too
    #[arg(value_name = "LOCAL", required = true)]
    pub(crate) files: Vec<OsString>,
    /// Store as NAME; into the directory NAME if it ends in /
    #[arg(short, value_name = "NAME", value_parser = remote_name)]
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
    /// Send no checksum, if the server allows that
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
    /// Current name
    #[arg(value_name = "FROM", value_parser = remote_name)]
    pub(crate) from: String,
    /// New name, or a directory if it ends in /
    #[arg(value_name = "TO", value_parser = remote_name)]
    pub(crate) to: String,
}

/// Arguments of `mkdir`.
#[derive(Debug, Default, Args)]
pub(crate) struct Mkdir {
    /// Create parent directories too; no error if the directory exists
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
    /// Show sizes in KiB, MiB, GiB
    #[arg(short)]
    pub(crate) human: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub(crate) help: Option<bool>,
}

/// Arguments of `ping`.
#[derive(Debug, Args)]
pub(crate) struct Ping {
    /// Number of pings, one after the other
    #[arg(short = 'n', value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
}

/// Arguments of `lcd`.
#[derive(Debug, Default, Args)]
pub(crate) struct Lcd {
    /// Directory; default: the home directory
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

/// Normalizes a typed name on the server: `/f` and `./f` become `f`; a name of the root itself becomes `.` or `./`.
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

/// A typed name on the server without its leading `/` and `./`.
pub(crate) fn within_root(typed: &str) -> &str {
    let mut name = typed;
    while let Some(rest) = name.strip_prefix('/').or_else(|| name.strip_prefix("./")) {
        name = rest;
    }
    if name == "." { "" } else { name }
}

/// The parser of one command alone, for the most frequent commands.
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
