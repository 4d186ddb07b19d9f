//! The command line of `host-cli`: server, settings, and the words of a command.
//!
//! It is parsed in two steps. [`Program`] parses the server and the options before the command. The words of the
//! command are parsed by [`Line`](super::parse::Line), which also parses lines of the prompt and of scripts. So a
//! command means the same in all three places, and a host may be called `get` if a PORT follows.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, ValueHint};

use super::board::Named;
use super::commands::COMMANDS;
use super::cwd::Cwd;
use super::names::local_path;
use super::parse::{Line, find, list, usage_line};
use super::settings::Settings;
use crate::address::{Address, Server, parse_port};

/// The end of `--help`, below options and commands.
const EXAMPLES: &str = "\
Examples:
  host-cli localhost                              open a prompt
  host-cli localhost get notes.txt                download a file
  host-cli localhost:50001 put *.bin -o data/     upload files into a directory
  host-cli localhost get 'logs/*.txt'             download what the glob matches on the server
  tar c . | host-cli localhost put - -o backup.tar
  host-cli localhost get backup.tar -o - | tar t
  host-cli localhost ls --json
  host-cli localhost < commands.txt               run a script; stops at the first failure
  host-cli config add lab3 192.168.1.7            create an alias; config needs no server
  SKIFF_BOARD=lab3 host-cli ls                    take the server from the environment
  source <(host-cli completions bash)             complete host-cli in this shell; also zsh and fish
  host-cli man | man -l -                         read the manual page

Exit codes: 0 done, 1 refused or failed, 2 usage error, 130 stopped by Ctrl-C.";

/// How a server is named.
const SERVER: &str = "\
Server:
  HOST [PORT]     name, IP address or alias of the server; default PORT: 50000
  HOST:PORT       the same in one word; IPv6 addresses need brackets: [::1]:50000
  serial:DEVICE[:BAUD]  serial port, such as serial:/dev/ttyUSB0; default BAUD: 115200
  With --board or SKIFF_BOARD, HOST and PORT are left out.";

/// What stands before the command.
#[derive(Debug, Default, Parser)]
#[command(
    name = "host-cli",
    version,
    about = "Command-line client for skiff servers: transfers and manages files",
    after_help = format!("{SERVER}\n\n{}\n\n{EXAMPLES}", list(COMMANDS)),
    override_usage = "host-cli [OPTIONS] HOST [PORT] [COMMAND...]",
    disable_help_subcommand = true
)]
pub(crate) struct Leading {
    /// Address or alias of the server, in place of HOST and PORT; may be repeated [default: SKIFF_BOARD]
    #[arg(long = "board", value_name = "ADDRESS", value_hint = ValueHint::Hostname)]
    boards: Vec<String>,
    /// File that lists servers, one per line (HOST, HOST:PORT or HOST PORT): run the command on all of them
    #[arg(long = "boards", value_name = "FILE", value_parser = local_path())]
    list: Option<PathBuf>,
    /// Settings.
    #[command(flatten)]
    settings: Settings,
    /// Server and command
    #[arg(value_name = "WORD", hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

impl Leading {
    /// Takes the options that `words` begin with. Without any, clap is spared: it takes as long as the connect.
    fn take(words: &[OsString]) -> Result<Self, clap::Error> {
        if words.first().is_none_or(|word| !word.as_encoded_bytes().starts_with(b"-")) {
            return Ok(Self { words: words.to_vec(), ..Self::default() });
        }
        Self::try_parse_from([OsString::from("host-cli")].iter().chain(words))
    }

    /// The next word, if there is one.
    fn first(&self) -> Option<&str> {
        self.words.first().and_then(|word| word.to_str())
    }

    /// Drops the next word and takes the options behind it.
    fn advance(&mut self) -> Result<(), clap::Error> {
        let next = Self::take(self.words.get(1..).unwrap_or_default())?;
        if !next.boards.is_empty() || next.list.is_some() {
            return Err(usage("--board replaces HOST and PORT; give one or the other"));
        }
        self.settings = self.settings.with(&next.settings);
        self.words = next.words;
        Ok(())
    }

    /// The PORT that stands behind the next word.
    fn port_behind(&self) -> Option<u16> {
        let mut rest = Self { words: self.words.clone(), ..Self::default() };
        rest.advance().ok()?;
        rest.port().ok().flatten()
    }

    /// PORT, if the next word is a number.
    fn port(&self) -> Result<Option<u16>, clap::Error> {
        let is_number = |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit());
        self.first().filter(is_number).map(|word| parse_port(word).map_err(usage)).transpose()
    }

    /// True if the next words certainly name a server: HOST PORT, HOST:PORT or a serial port.
    fn names_server(&self) -> bool {
        let is_server =
            |word: &str| matches!(word.parse(), Ok(Server::Network(Address { port: Some(_), .. }) | Server::Serial(_)));
        self.first().is_some_and(is_server) || (!self.words.is_empty() && self.port_behind().is_some())
    }
}

/// The program for its manual page, which describes the commands itself.
pub(crate) fn program() -> clap::Command {
    Leading::command().after_help(format!("{SERVER}\n\n{EXAMPLES}"))
}

/// The server that SKIFF_BOARD names.
pub(crate) fn default_board() -> Option<String> {
    std::env::var("SKIFF_BOARD").ok().filter(|board| !board.is_empty())
}

/// Everything on the command line.
#[derive(Debug)]
pub(crate) struct Program {
    /// The servers; none if the command needs none.
    pub(crate) servers: Vec<Named>,
    /// File that lists further ones.
    pub(crate) list: Option<PathBuf>,
    /// Command to run, with its arguments; without one, a prompt, or a script on standard input.
    pub(crate) command: Vec<OsString>,
    /// Settings that stand before the command.
    pub(crate) settings: Settings,
}

impl Program {
    /// Parses the command line, the first word of which is the program's name. `default` is the server that SKIFF_BOARD
    /// names.
    ///
    /// # Errors
    /// What clap says; a request for help or the version is one, too.
    pub(crate) fn parse(words: &[OsString], default: Option<String>) -> Result<Self, clap::Error> {
        let mut leading = Leading::take(words.get(1..).unwrap_or_default())?;
        let command = leading.first().and_then(|word| find(COMMANDS, word));
        let named = |name: String| Named { name, port: None };
        let (boards, list) = (core::mem::take(&mut leading.boards), leading.list.take());
        let servers = match (command, default) {
            _ if !boards.is_empty() || list.is_some() => boards.into_iter().map(named).collect(),
            (Some(command), _) if command.standalone && leading.port_behind().is_none() => Vec::new(),
            (None, Some(_)) if !leading.words.is_empty() && !leading.names_server() => {
                return Err(no_command(&leading));
            }
            (_, Some(board)) if command.is_some() || leading.words.is_empty() => vec![named(board)],
            _ => vec![Self::server(&mut leading)?],
        };
        Ok(Self { servers, list, command: leading.words, settings: leading.settings })
    }

    /// Takes HOST and PORT.
    fn server(leading: &mut Leading) -> Result<Named, clap::Error> {
        const MISSING: &str = "no server given: use HOST, --board or SKIFF_BOARD";
        let Some(word) = leading.words.first() else { return Err(usage(MISSING)) };
        let name = word.to_str().ok_or_else(|| usage("HOST is not UTF-8"))?.to_owned();
        if name.starts_with('-') {
            return Err(usage(format!("no such option: {name}")));
        }
        let is_command = |word: Option<&str>| word.is_some_and(|word| find(COMMANDS, word).is_some());
        let forgotten = is_command(Some(&name));
        leading.advance()?;
        let port = leading.port()?;
        if port.is_some() {
            leading.advance()?;
        } else if forgotten && !is_command(leading.first()) {
            return Err(match leading.first().filter(|_| leading.names_server()) {
                Some(host) => {
                    let port = leading.port_behind().map(|port| format!(" {port}")).unwrap_or_default();
                    usage(format!("the server comes before the command: host-cli {host}{port} {name}"))
                }
                None => usage(MISSING),
            });
        }
        // An invalid address is reported before anything is sent, like other usage errors.
        name.parse::<Server>().map_err(|why| usage(format!("{name}: {why}")))?;
        Ok(Named { name, port })
    }
}

/// The next word should be a command, because SKIFF_BOARD names the server.
fn no_command(leading: &Leading) -> clap::Error {
    match Line::parse(COMMANDS, &Cwd::default(), &leading.words) {
        Err(error) if error.kind() == ErrorKind::InvalidSubcommand => {
            let hint =
                "SKIFF_BOARD is set, so HOST is left out (HOST:PORT, HOST PORT or --board HOST takes precedence)";
            usage(format!("{}; {hint}", usage_line(&error)))
        }
        Err(error) => error,
        Ok(_) => usage("which command?"),
    }
}

/// A command line that makes no sense.
fn usage(message: impl core::fmt::Display) -> clap::Error {
    Leading::command().error(ErrorKind::ValueValidation, message)
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn with_default(words: &[&str], default: Option<&str>) -> Result<Program, clap::Error> {
        let words: Vec<_> = [&["host-cli"], words].concat().into_iter().map(OsString::from).collect();
        Program::parse(&words, default.map(str::to_owned))
    }

    fn program(words: &[&str]) -> Result<Program, clap::Error> {
        with_default(words, None)
    }

    /// `SERVER PORT: COMMAND`
    fn shown(program: &Program) -> String {
        let server: Vec<_> = program.servers.iter().map(|server| server.name.as_str()).collect();
        let server = if server.is_empty() { "-".to_owned() } else { server.join("+") };
        let port = program.servers.first().and_then(|server| server.port).unwrap_or_default();
        let command: Vec<_> = program.command.iter().map(|word| word.to_str().unwrap()).collect();
        format!("{server} {port}: {}", command.join(" "))
    }

    fn line(words: &[&str]) -> Result<Line, clap::Error> {
        Line::parse(COMMANDS, &Cwd::default(), &words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn settings_stand_before_and_behind_the_command() {
        let program = program(&["-q", "h", "--json", "7", "--retries", "2", "get", "-v", "x", "--", "-y"]).unwrap();
        assert!(shown(&program).starts_with("h 7: get "));
        let line = Line::parse(COMMANDS, &Cwd::default(), &program.command).unwrap();
        let settings = program.settings.with(&line.settings);
        assert!(settings.quiet && settings.json);
        assert_eq!((settings.verbose, settings.link.retries), (1, Some(2)));
        let action = format!("{:?}", line.action);
        assert!(action.contains(r#"names: ["x", "-y"]"#), "{action}");
    }

    #[test]
    fn settings_of_a_line_win_over_those_of_the_program() {
        let program = program(&["h", "7", "--idle", "5", "ls", "--idle", "0.5"]).unwrap();
        let line = Line::parse(COMMANDS, &Cwd::default(), &program.command).unwrap();
        assert_eq!(program.settings.with(&line.settings).link.idle, Some(Duration::from_millis(500)));
    }

    #[test]
    fn the_list_of_servers_may_be_in_the_home_directory() {
        let home = std::env::home_dir().unwrap();
        assert_eq!(program(&["--boards", "~/lab", "ls"]).unwrap().list, Some(home.join("lab")));
    }

    #[test]
    fn the_server_stands_before_the_command() {
        for (words, expected) in [
            (&["h"][..], "h 0: "),
            (&["h", "7"], "h 7: "),
            (&["h", "ls"], "h 0: ls"),
            (&["h:7", "ls", "-l"], "h:7 0: ls -l"),
            (&["[::1]", "7", "get", "--", "-x"], "[::1] 7: get -- -x"),
            (&["fe80::1%eth0", "get", "--", "-x"], "fe80::1%eth0 0: get -- -x"),
            (&["h", "--json", "ls"], "h 0: ls"),
            (&["h", "-q", "7", "--json", "ls"], "h 7: ls"),
            (&["h", "get", "7"], "h 0: get 7"),
            (&["--board", "b", "get", "7"], "b 0: get 7"),
            (&["--board", "b", "--json", "get", "--", "-x"], "b 0: get -- -x"),
            (&["--board", "b:7"], "b:7 0: "),
            (&["--board", "b", "--board=c", "put", "x"], "b+c 0: put x"),
            // A host may have the name of a command.
            (&["get", "7", "ls"], "get 7: ls"),
            (&["get", "ls"], "get 0: ls"),
            (&["h", "x"], "h 0: x"),
            (&["serial:/dev/ttyACM0", "ls"], "serial:/dev/ttyACM0 0: ls"),
        ] {
            assert_eq!(shown(&program(words).unwrap()), expected, "{words:?}");
        }
    }

    #[test]
    fn the_environment_names_the_server_unless_the_command_line_does() {
        for (words, expected) in [
            (&["ls", "-l"][..], "lab 0: ls -l"),
            (&[], "lab 0: "),
            (&["--json", "get", "7"], "lab 0: get 7"),
            (&["h", "7", "ls"], "h 7: ls"),
            (&["h:7", "ls"], "h:7 0: ls"),
            (&["h", "-q", "7", "ls"], "h 7: ls"),
            (&["serial:/dev/ttyACM0:9600", "ls"], "serial:/dev/ttyACM0:9600 0: ls"),
            (&["--board", "b", "ls"], "b 0: ls"),
        ] {
            assert_eq!(shown(&with_default(words, Some("lab")).unwrap()), expected, "{words:?}");
        }
        // A mistyped command is not taken for a host, nor a host for a command without a hint.
        for word in ["lss", "localhost"] {
            let text = usage_line(&with_default(&[word, "x"], Some("lab")).unwrap_err());
            assert!(
                text.starts_with(&format!("no such command '{word}'")) && text.contains("HOST is left out"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_command_that_needs_no_server_stands_alone_unless_a_port_follows() {
        for (words, expected) in [
            (&["config", "list"][..], "- 0: config list"),
            (&["config"], "- 0: config"),
            (&["-q", "config", "add", "a", "b"], "- 0: config add a b"),
            (&["config", "7", "ls"], "config 7: ls"),
            (&["h", "7", "config"], "h 7: config"),
        ] {
            assert_eq!(shown(&program(words).unwrap()), expected, "{words:?}");
        }
        assert_eq!(shown(&with_default(&["config", "list"], Some("lab")).unwrap()), "- 0: config list");
    }

    #[test]
    fn wrong_usage_is_told_in_one_line() {
        for words in [
            &["h", "0"][..],
            &["h", "70000"],
            &["h:0"],
            &["::1:50000"],
            &["a b", "ls"],
            &[],
            &["ls"],
            &["get", "x"],
            &["--frob", "h", "1"],
            &["h", "--board", "b", "ls"],
            &["--board"],
        ] {
            let text = usage_line(&program(words).unwrap_err());
            assert!(!text.is_empty() && !text.contains('\n'), "{text}");
        }
        let text = usage_line(&program(&["get", "x"]).unwrap_err());
        assert!(text.starts_with("no server given: use HOST, --board or SKIFF_BOARD; usage: "), "{text}");
        let text = usage_line(&line(&["get"]).unwrap_err());
        assert!(text.contains("missing") && text.contains("NAME") && !text.contains('\n'), "{text}");
        assert_eq!(usage_line(&line(&["frob"]).unwrap_err()), "no such command 'frob'");
        assert!(line(&["frob"]).is_err() && line(&[]).is_err() && line(&["get", "--frob", "x"]).is_err());
    }
}
