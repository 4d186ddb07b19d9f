//! The command line of `host-cli`: who to talk to, and settings that hold for every command.
//!
//! It is parsed in two steps. [`Program`] takes HOST, PORT and what stands before the command; the command's own words go
//! through [`Line`], which is what parses a line of the prompt and of a script too. So a command means the same in all
//! three places, and a host may be called `get`.

use core::time::Duration;
use std::ffi::OsString;

use clap::{ArgAction, Args, FromArgMatches, Parser};

use super::command::Command;
use crate::address::Host;

/// The commands, one or two lines each.
pub(crate) const COMMANDS: &str = "\
Commands:
  ls [-l] [-h] [-R] [DIR|GLOB]...    list files on the server
  get NAME... [-o LOCAL] [-f] [-c] [-r] [-j N]
                                     download files
  put LOCAL... [-o NAME] [-f] [-c] [-r] [--no-crc]
                                     upload files
  cat NAME...                        print files to standard output
  stat NAME...                       show size, time and checksum of files
  sum NAME...                        have the server compute checksums
  rm NAME...                         remove files
  mv FROM TO                         rename a file, replacing TO
  mkdir [-p] DIR...                  create directories
  rmdir DIR...                       remove empty directories
  df [-h]                            show disk space on the server
  ping [-n COUNT]                    measure the round-trip time
  info                               show what the server supports
  lls, lcd, lpwd                     list, change, print the local directory
  help [COMMAND]                     list the commands, or describe one
  quit, exit                         leave";

/// What `--help` says below the options and the commands.
const EXAMPLES: &str = "\
Examples:
  host-cli localhost 50000                        open a prompt
  host-cli localhost 50000 get notes.txt          download a file
  host-cli localhost 50000 put *.bin -o data/     upload files into a directory
  host-cli localhost 50000 get 'logs/*.txt'       download what the glob matches on the server
  tar c . | host-cli localhost 50000 put - -o backup.tar
  host-cli localhost 50000 get backup.tar -o - | tar t
  host-cli localhost 50000 ls --json
  host-cli localhost 50000 < commands.txt         run a script; stops at the first failure

Exit codes: 0 done, 1 refused or failed, 2 usage error, 130 stopped by Ctrl-C.";

/// Everything on the command line.
#[derive(Debug, Parser)]
#[command(
    name = "host-cli",
    version,
    about = "Command-line client for skiff servers: transfers and manages files",
    after_help = format!("{COMMANDS}\n\n{EXAMPLES}"),
    override_usage = "host-cli [OPTIONS] HOST PORT [COMMAND...]",
    disable_help_subcommand = true
)]
pub(crate) struct Program {
    /// Name or address of the server
    #[arg(value_name = "HOST", value_parser = host)]
    pub(crate) host: String,
    /// Port of the server
    #[arg(value_name = "PORT", value_parser = port)]
    pub(crate) port: u16,
    /// Command to run, with its arguments; without one, a prompt, or a script on standard input
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
    /// Settings that stand before the command.
    #[command(flatten)]
    pub(crate) settings: Settings,
}

impl Program {
    /// Parses the command line, the first word of which is the program's name.
    ///
    /// # Errors
    /// What clap says; a request for help or the version is one, too.
    pub(crate) fn parse(words: &[OsString]) -> Result<Self, clap::Error> {
        Self::parse_plain(words).map_or_else(|| Self::try_parse_from(words), Ok)
    }

    /// Parses `host-cli HOST PORT COMMAND...`, the usual form with no options before the command, without clap: clap
    /// would take as long as the connect.
    fn parse_plain(words: &[OsString]) -> Option<Self> {
        let [_, host, port, command @ ..] = words else { return None };
        let plain = |word: &OsString| word.to_str().filter(|word| !word.starts_with('-')).map(str::to_owned);
        let (host, port) = (plain(host)?, plain(port)?);
        plain(command.first()?)?;
        let host = self::host(&host).ok()?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        Some(Self { host, port, command: command.to_vec(), settings: Settings::default() })
    }
}

/// One command with its arguments: the rest of the command line, a line at the prompt, a line of a script.
#[derive(Debug, Parser)]
#[command(
    name = "skiff",
    no_binary_name = true,
    disable_help_subcommand = true,
    disable_version_flag = true,
    subcommand_value_name = "COMMAND"
)]
pub(crate) struct Line {
    /// Settings that stand before or behind the command.
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// The command.
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Line {
    /// Parses the words of a command.
    ///
    /// # Errors
    /// What clap says; a request for help is one, too.
    pub(crate) fn parse(words: &[OsString]) -> Result<Self, clap::Error> {
        // Building the parsers of all commands takes longer than fetching a small file. If the parser of this one
        // command fails, the full one parses again, for its error report.
        if let Some(only) = words.first().and_then(|word| word.to_str()).and_then(super::command::only)
            && let Ok(matches) = Settings::augment_args(clap::Command::new("skiff"))
                .no_binary_name(true)
                .subcommand(only)
                .try_get_matches_from(words)
        {
            return Self::from_arg_matches(&matches);
        }
        Self::try_parse_from(words)
    }
}

/// Settings that may stand before the command or anywhere behind it.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Settings {
    /// Print no progress, confirmations or transfer results
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Print results as JSON, one object per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log to standard error; -vv logs more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// How the connection is made and kept.
    #[command(flatten)]
    pub(crate) link: LinkSettings,
}

/// How the connection is made and kept: settings of the whole program, not of a line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct LinkSettings {
    /// Time out each attempt to connect after SECONDS [default: 10]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) connect_timeout: Option<Duration>,
    /// Time out after SECONDS without a response, or without success in reconnecting [default: 60]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) idle: Option<Duration>,
    /// Try to reconnect a lost transfer at most COUNT times in a row; 0 disables [default: until --idle expires]
    #[arg(long, global = true, value_name = "COUNT")]
    pub(crate) retries: Option<u32>,
}

impl Settings {
    /// These settings with those of a command's line laid over them.
    #[must_use]
    pub(crate) fn with(&self, line: &Self) -> Self {
        Self {
            quiet: self.quiet || line.quiet,
            json: self.json || line.json,
            verbose: self.verbose.max(line.verbose),
            link: LinkSettings {
                connect_timeout: line.link.connect_timeout.or(self.link.connect_timeout),
                idle: line.link.idle.or(self.link.idle),
                retries: line.link.retries.or(self.link.retries),
            },
        }
    }
}

/// Parses a number of seconds, fractions allowed.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if seconds <= 0.0 {
        return Err("must be more than 0".to_owned());
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| *duration <= Duration::from_secs(366 * 24 * 60 * 60))
        .ok_or_else(|| "must be at most 366 days".to_owned())
}

fn host(text: &str) -> Result<String, &'static str> {
    text.parse().map(|host: Host| host.to_string())
}

fn port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| "must be a number from 1 to 65535 (host-cli HOST PORT [COMMAND...])".to_owned())
}

/// Help as clap renders it, without the name that only [`Line`] has.
#[must_use]
pub(crate) fn help_text(rendered: &clap::builder::StyledStr) -> String {
    rendered.to_string().replace("Usage: skiff ", "Usage: ")
}

/// What is wrong with a command line, in one line: clap's own report has a paragraph of it.
#[must_use]
pub(crate) fn usage_line(error: &clap::Error) -> String {
    let report = help_text(&error.render());
    let mut parts = Vec::new();
    for line in report.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            // The generic usage line does not help a user who mistyped a command.
            if !usage.ends_with("<COMMAND>") {
                parts.push(format!("usage: {usage}"));
            }
        } else if !line.starts_with("For more information") {
            let text = line.strip_prefix("error: ").or(line.strip_prefix("tip: ")).unwrap_or(line);
            parts.push(text.replace("unrecognized subcommand", "no such command").replace("subcommand", "command"));
        }
    }
    // A heading such as "the following required arguments were not provided:" is followed by what it announces.
    let mut out = String::new();
    for part in parts {
        if !out.is_empty() {
            out.push_str(if out.ends_with(':') { " " } else { "; " });
        }
        out.push_str(&part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses in the short way and in the long one, which have to agree.
    fn program(words: &[&str]) -> Result<Program, clap::Error> {
        let words: Vec<_> = [&["host-cli"], words].concat().into_iter().map(OsString::from).collect();
        let (short, long) = (Program::parse(&words), Program::try_parse_from(&words));
        assert_eq!(short.as_ref().ok().map(|one| format!("{one:?}")), long.ok().map(|one| format!("{one:?}")));
        short
    }

    fn line(words: &[&str]) -> Result<Line, clap::Error> {
        Line::parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn settings_stand_before_and_behind_the_command() {
        let program = program(&["-q", "h", "--json", "7", "--retries", "2", "get", "-v", "x", "--", "-y"]).unwrap();
        assert_eq!((program.host.as_str(), program.port), ("h", 7));
        let line = Line::parse(&program.command).unwrap();
        let settings = program.settings.with(&line.settings);
        assert!(settings.quiet && settings.json);
        assert_eq!((settings.verbose, settings.link.retries), (1, Some(2)));
        let Command::Get(get) = line.command else { panic!("{:?}", line.command) };
        assert_eq!(get.names, ["x", "-y"]);
    }

    #[test]
    fn settings_of_a_line_win_over_those_of_the_program() {
        let program = program(&["h", "7", "--idle", "5", "ls", "--idle", "0.5"]).unwrap();
        let line = Line::parse(&program.command).unwrap();
        assert_eq!(program.settings.with(&line.settings).link.idle, Some(Duration::from_millis(500)));
    }

    #[test]
    fn a_host_may_have_the_name_of_a_command() {
        let program = program(&["get", "7", "ls"]).unwrap();
        assert_eq!((program.host.as_str(), program.command), ("get", vec![OsString::from("ls")]));
    }

    #[test]
    fn words_behind_the_command_are_left_to_it() {
        for words in [
            &["h", "7", "get", "x", "-q", "--json", "--", "-y"][..],
            &["h", "7", "get", "--help"],
            &["h", "7", "put", "-", "-o", "x"],
            &["h", "7", ""],
            &["::1", "65535", "ls"],
        ] {
            let program = program(words).unwrap();
            assert_eq!(program.command, words[2..].iter().map(OsString::from).collect::<Vec<_>>());
        }
        for words in [&["h", "+7", "ls"][..], &["h", "07", "ls"], &["", "7", "ls"], &["h", " 7", "ls"]] {
            _ = program(words);
        }
    }

    #[test]
    fn without_a_command_there_is_none() {
        assert!(program(&["h", "7"]).unwrap().command.is_empty());
    }

    #[test]
    fn wrong_usage_is_told_in_one_line() {
        for words in [&["h"][..], &["h", "0"], &["h", "x"], &["h", "70000"], &[], &["--frob", "h", "1"]] {
            let text = usage_line(&program(words).unwrap_err());
            assert!(!text.is_empty() && !text.contains('\n'), "{text}");
        }
        let text = usage_line(&line(&["get"]).unwrap_err());
        assert!(text.contains("required") && text.contains("NAME") && !text.contains('\n'), "{text}");
        assert_eq!(usage_line(&line(&["frob"]).unwrap_err()), "no such command 'frob'");
        assert!(line(&["frob"]).is_err() && line(&[]).is_err() && line(&["get", "--frob", "x"]).is_err());
    }

    #[test]
    fn seconds_are_positive_and_finite() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for bad in ["0", "-1", "x", "nan", "inf", "1e30", ""] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
