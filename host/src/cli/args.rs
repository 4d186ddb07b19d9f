//! The command line of `host-cli`: server, settings, and the words of a command.
//!
//! It is parsed in two steps. [`Program`] parses HOST, PORT and the settings before the command. The words of the
//! command are parsed by [`Line`](super::parse::Line), which also parses lines of the prompt and of scripts. So a
//! command means the same in all three places, and a host may be called `get`.

use std::ffi::OsString;

use clap::Parser;

use super::commands::COMMANDS;
use super::parse::{find, list};
use super::settings::Settings;
use crate::address::Host;

/// The end of `--help`, below options and commands.
pub(crate) const EXAMPLES: &str = "\
Examples:
  host-cli localhost 50000                        open a prompt
  host-cli localhost 50000 get notes.txt          download a file
  host-cli localhost 50000 put *.bin -o data/     upload files into a directory
  host-cli localhost 50000 get 'logs/*.txt'       download what the glob matches on the server
  tar c . | host-cli localhost 50000 put - -o backup.tar
  host-cli localhost 50000 get backup.tar -o - | tar t
  host-cli localhost 50000 ls --json
  host-cli localhost 50000 < commands.txt         run a script; stops at the first failure
  host-cli key new device.secret                  make a device secret; key needs no server
  source <(host-cli completions bash)             complete host-cli in this shell; also zsh and fish
  host-cli man | man -l -                         read the manual page

Exit codes: 0 done, 1 refused or failed, 2 usage error, 130 stopped by Ctrl-C.";

/// Everything on the command line.
#[derive(Debug, Parser)]
#[command(
    name = "host-cli",
    version,
    about = "Command-line client for skiff servers: transfers and manages files",
    after_help = format!("{}\n\n{EXAMPLES}", list(COMMANDS)),
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
    /// Parses the command line; its first word is the name of the program.
    ///
    /// # Errors
    /// The error of clap; a request for help or the version is one too.
    pub(crate) fn parse(words: &[OsString]) -> Result<Self, clap::Error> {
        if let Some(command) = standalone(words) {
            return Ok(Self { host: String::new(), port: 0, command: command.to_vec(), settings: Settings::default() });
        }
        Self::parse_plain(words).map_or_else(|| Self::try_parse_from(words), Ok)
    }

    /// Parses `host-cli HOST PORT COMMAND...`, the usual form without options before the command, without clap, which
    /// would take as long as connecting.
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

/// The words of a command that needs no HOST PORT, such as `host-cli key show FILE`. `None` if there is no such
/// command, or if a PORT follows its word: a host may have its name.
fn standalone(words: &[OsString]) -> Option<&[OsString]> {
    let words = words.get(1..)?;
    let command = find(COMMANDS, words.first()?.to_str()?)?;
    let is_host = words.get(1).and_then(|word| word.to_str()).is_some_and(|word| word.parse::<u16>().is_ok());
    (command.standalone && !is_host).then_some(words)
}

fn host(text: &str) -> Result<String, &'static str> {
    text.parse().map(|host: Host| host.to_string())
}

fn port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| "must be a number from 1 to 65535 (host-cli HOST PORT [COMMAND...])".to_owned())
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::cli::parse::{Line, usage_line};

    /// Parses in the short way and in the long one, which have to agree.
    fn program(words: &[&str]) -> Result<Program, clap::Error> {
        let words: Vec<_> = [&["host-cli"], words].concat().into_iter().map(OsString::from).collect();
        let (short, long) = (Program::parse(&words), Program::try_parse_from(&words));
        assert_eq!(short.as_ref().ok().map(|one| format!("{one:?}")), long.ok().map(|one| format!("{one:?}")));
        short
    }

    fn line(words: &[&str]) -> Result<Line, clap::Error> {
        Line::parse(COMMANDS, &words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn settings_stand_before_and_behind_the_command() {
        let program = program(&["-q", "h", "--json", "7", "--retries", "2", "get", "-v", "x", "--", "-y"]).unwrap();
        assert_eq!((program.host.as_str(), program.port), ("h", 7));
        let line = Line::parse(COMMANDS, &program.command).unwrap();
        let settings = program.settings.with(&line.settings);
        assert!(settings.quiet && settings.json);
        assert_eq!((settings.verbose, settings.link.retries), (1, Some(2)));
        let action = format!("{:?}", line.action);
        assert!(action.contains(r#"names: ["x", "-y"]"#), "{action}");
    }

    #[test]
    fn settings_of_a_line_win_over_those_of_the_program() {
        let program = program(&["h", "7", "--idle", "5", "ls", "--idle", "0.5"]).unwrap();
        let line = Line::parse(COMMANDS, &program.command).unwrap();
        assert_eq!(program.settings.with(&line.settings).link.idle, Some(Duration::from_millis(500)));
    }

    #[test]
    fn a_host_may_have_the_name_of_a_command() {
        let program = program(&["get", "7", "ls"]).unwrap();
        assert_eq!((program.host.as_str(), program.command), ("get", vec![OsString::from("ls")]));
    }

    #[test]
    #[cfg(feature = "secure")]
    fn a_command_that_needs_no_server_stands_alone_unless_a_port_follows() {
        let alone = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(OsString::from).collect();
            standalone(&words).map(<[_]>::len)
        };
        assert_eq!(alone(&["host-cli", "key", "show", "f"]), Some(3));
        assert_eq!(alone(&["host-cli", "key"]), Some(1));
        assert_eq!(alone(&["host-cli", "key", "--help"]), Some(2));
        for words in [
            &["host-cli", "key", "7", "ls"][..],
            &["host-cli", "get", "x"],
            &["host-cli", "h", "7", "key"],
            &["host-cli"],
            &[],
        ] {
            assert_eq!(alone(words), None, "{words:?}");
        }
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
}
