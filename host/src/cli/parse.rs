//! Parses the words of a command, with one parser for all commands, and renders its help.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args as _, FromArgMatches as _};

use super::command::{Action, Command};
use super::cwd::Cwd;
use super::mode::Mode;
use super::settings::{LinkSettings, Settings};
use crate::client::sanitize;

/// One command with its arguments, from the command line, the prompt or a script.
#[derive(Debug)]
pub(crate) struct Line {
    /// Settings that stand before or behind the command.
    pub(crate) settings: Settings,
    /// The command.
    pub(crate) command: &'static Command,
    /// The command with its arguments.
    pub(crate) action: Action,
}

impl Line {
    /// Parses the words of a command; names on the server are relative to `cwd`.
    ///
    /// # Errors
    /// The error of clap; a request for help is one too.
    pub(crate) fn parse(commands: &'static [Command], cwd: &Cwd, words: &[OsString]) -> Result<Self, clap::Error> {
        // Building the parsers of all commands takes longer than fetching a small file. If the parser of this one
        // command fails, the full one parses again, for its error report.
        if let Some(command) = words.first().and_then(|word| find(commands, word.to_str()?)) {
            let parser = root().subcommand(cwd.applied_to(command.parser(Mode::OneShot)));
            if let Ok(matches) = parser.try_get_matches_from(words) {
                return Self::read(commands, &matches);
            }
            if let Some(words) = command.with_number(words) {
                return Self::parse_all(commands, cwd, &words);
            }
        }
        Self::parse_all(commands, cwd, words)
    }

    /// The same with the parser of all commands.
    fn parse_all(commands: &'static [Command], cwd: &Cwd, words: &[OsString]) -> Result<Self, clap::Error> {
        let parser = all(commands, Mode::OneShot).mut_subcommands(|command| cwd.applied_to(command));
        let matches = parser.try_get_matches_from(words).map_err(|mut error| {
            if let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) {
                let name =
                    similar(commands, word).map_or(ContextValue::None, |name| ContextValue::String(name.to_owned()));
                _ = error.insert(ContextKind::SuggestedSubcommand, name);
            }
            error
        })?;
        Self::read(commands, &matches)
    }

    fn read(commands: &'static [Command], matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let parsed = matches.subcommand().and_then(|(name, matches)| Some((find(commands, name)?, matches)));
        let (command, arguments) = parsed.ok_or_else(|| clap::Error::new(ErrorKind::InvalidSubcommand))?;
        Ok(Self { settings: Settings::from_arg_matches(matches)?, command, action: command.action(arguments)? })
    }
}

/// The command that is called by `word`.
pub(crate) fn find(commands: &'static [Command], word: &str) -> Option<&'static Command> {
    commands.iter().find(|command| command.is_called(word))
}

fn root() -> clap::Command {
    Settings::augment_args(clap::Command::new("skiff"))
        .no_binary_name(true)
        .disable_help_subcommand(true)
        .disable_version_flag(true)
        .subcommand_value_name("COMMAND")
        .subcommand_required(true)
        .arg_required_else_help(true)
}

fn all(commands: &'static [Command], mode: Mode) -> clap::Command {
    root().subcommands(commands.iter().map(|command| command.parser(mode)))
}

/// The parser of all commands; its help omits what this mode does not accept.
pub(crate) fn parser(commands: &'static [Command], mode: Mode) -> clap::Command {
    let mut root = all(commands, mode);
    if mode != Mode::OneShot {
        for option in LinkSettings::options() {
            root = root.mut_arg(option.get_id(), |arg| arg.hide(true));
        }
    }
    root.build();
    root
}

/// The help of the command that `words` begin with, or of its action: `COMMAND [ACTION] --help` prints it. `None` if
/// the first word is not a command.
pub(crate) fn about<'a>(
    commands: &'static [Command],
    words: impl IntoIterator<Item = &'a str>,
    mode: Mode,
) -> Option<String> {
    let mut parser = parser(commands, mode);
    let mut words = words.into_iter();
    let mut command = parser.find_subcommand_mut(words.next()?)?;
    for word in words.take_while(|word| !word.starts_with('-')) {
        if command.find_subcommand(word).is_none() {
            break;
        }
        command = command.find_subcommand_mut(word)?;
    }
    Some(help_text(&command.render_help()))
}

/// The list of all commands, one or two lines each.
pub(crate) fn list(commands: &'static [Command]) -> String {
    const INDENT: usize = 35;
    const WIDTH: usize = 100;
    let mut text = "Commands:".to_owned();
    for command in commands {
        let mut call = call(command);
        if call.len() + 2 > WIDTH
            && let Some(at) = call[..WIDTH].rfind(" [")
        {
            call.replace_range(at..at, "\n     ");
        }
        let gap =
            if call.len() < INDENT { " ".repeat(INDENT - call.len()) } else { format!("\n{:1$}", "", INDENT + 2) };
        text.push_str(&format!("\n  {call}{gap}{}", command.summary));
    }
    text
}

/// `get [-o LOCAL] [-f] NAME...`: how a command is called.
pub(crate) fn call(command: &Command) -> String {
    let parser = command.parser(Mode::OneShot);
    let arguments = parser.get_arguments().filter(|arg| arg.get_id() != "help" && !arg.is_hide_set());
    let (names, options): (Vec<_>, Vec<_>) = arguments.partition(|arg| arg.is_positional());
    let mut text = command.words().collect::<Vec<_>>().join(", ");
    if parser.has_subcommands() {
        let actions: Vec<_> = parser.get_subcommands().map(clap::Command::get_name).collect();
        text.push_str(&format!(" {} ...", actions.join("|")));
    }
    for arg in options.into_iter().chain(names) {
        text.push(' ');
        text.push_str(&argument(arg));
    }
    text
}

/// `NAME...`, `[DIR]`, `[-o LOCAL]`, `[--exclude GLOB]...` or `[--no-crc]`.
fn argument(arg: &clap::Arg) -> String {
    let value = arg.get_action().takes_values().then(|| arg.get_value_names()?.first()).flatten();
    let value = value.map(|value| value.as_str().to_owned()).unwrap_or_default();
    let many = if matches!(arg.get_action(), clap::ArgAction::Append) { "..." } else { "" };
    let option = match (arg.get_short(), arg.get_long()) {
        (Some(short), _) => format!("-{short}"),
        (None, Some(long)) => format!("--{long}"),
        (None, None) if arg.is_required_set() => return format!("{value}{many}"),
        (None, None) => return format!("[{value}]{many}"),
    };
    if value.is_empty() { format!("[{option}]") } else { format!("[{option} {value}]{many}") }
}

/// The command that a word was probably meant to be; clap itself does not suggest `get` for `gte`.
fn similar(commands: &'static [Command], word: &str) -> Option<&'static str> {
    let names = commands.iter().flat_map(Command::words);
    let (apart, name) =
        names.map(|name| (strsim::damerau_levenshtein(word, name), name)).min_by_key(|(apart, _)| *apart)?;
    (apart <= (name.len() / 3).max(1)).then_some(name)
}

/// Help as clap renders it, without the name that only the parser of all commands has.
#[must_use]
pub(crate) fn help_text(rendered: &clap::builder::StyledStr) -> String {
    rendered.to_string().replace("Usage: skiff ", "Usage: ")
}

/// A usage error in one line; clap prints a paragraph.
#[must_use]
pub(crate) fn usage_line(error: &clap::Error) -> String {
    let report = help_text(&error.render());
    let lines = || report.lines().map(str::trim).filter(|line| !line.is_empty());
    let said = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    let text = match error.kind() {
        ErrorKind::UnknownArgument => {
            let word = said(ContextKind::InvalidArg);
            let similar = match said(ContextKind::SuggestedArg) {
                option if option.is_empty() => option,
                option => format!("; a similar option is {option}"),
            };
            match word.starts_with('-') {
                // The usage line would be that of the similar option.
                true if !similar.is_empty() => return format!("no such option: {word}{similar}"),
                true => format!("no such option: {word} (write -- before a name that begins with -)"),
                false => format!("unexpected argument: {word}"),
            }
        }
        ErrorKind::MissingRequiredArgument => format!("{} is missing", said(ContextKind::InvalidArg)),
        ErrorKind::MissingSubcommand => format!("which action? {}", said(ContextKind::ValidSubcommand)),
        ErrorKind::InvalidValue if said(ContextKind::InvalidValue).is_empty() => {
            format!("{} needs a value", said(ContextKind::InvalidArg))
        }
        ErrorKind::InvalidValue => {
            let [value, arg] = [ContextKind::InvalidValue, ContextKind::InvalidArg].map(said);
            format!("invalid value '{value}' for '{arg}': must be one of {}", said(ContextKind::ValidValue))
        }
        ErrorKind::InvalidSubcommand => {
            let word = said(ContextKind::InvalidSubcommand);
            let similar = match said(ContextKind::SuggestedSubcommand) {
                name if name.is_empty() => name,
                name => format!("; did you mean {name}?"),
            };
            return sanitize(&format!("no such command '{word}'{similar}")).into_owned();
        }
        _ => {
            let text = lines().take_while(|line| !line.starts_with("Usage: ") && !line.starts_with("For more "));
            let text = text.map(|line| line.strip_prefix("error: ").or(line.strip_prefix("tip: ")).unwrap_or(line));
            let text = text.collect::<Vec<_>>().join("; ");
            text.replace("subcommand", "command")
        }
    };
    // The generic usage line does not help a user who mistyped a command.
    let usage = lines().find_map(|line| line.strip_prefix("Usage: ")).filter(|usage| !usage.ends_with("<COMMAND>"));
    let usage = usage.map(|usage| format!("; usage: {usage}")).unwrap_or_default();
    sanitize(&format!("{text}{usage}")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::COMMANDS;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    /// Parses in the short way and in the long one, which have to agree; the command's word and its arguments.
    fn parse(typed: &[&str]) -> (&'static str, String) {
        let words = words(typed);
        let parsed = |line: Line| (line.command.name, format!("{:?}", line.action));
        let command = parsed(Line::parse(COMMANDS, &Cwd::default(), &words).unwrap());
        assert_eq!(command, parsed(Line::parse_all(COMMANDS, &Cwd::default(), &words).unwrap()));
        command
    }

    /// True if the arguments have these fields.
    fn has(typed: &[&str], fields: &[&str]) -> bool {
        let (_, arguments) = parse(typed);
        fields.iter().all(|field| arguments.contains(field)) || panic!("{arguments} without {fields:?}")
    }

    #[test]
    fn the_parser_is_sound() {
        for mode in [Mode::OneShot, Mode::Script, Mode::Prompt] {
            all(COMMANDS, mode).debug_assert();
        }
        <crate::cli::args::Leading as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn every_word_parses_to_its_command() {
        for command in COMMANDS {
            for word in command.words() {
                let parser = command.parser(Mode::OneShot);
                let action = parser.get_subcommands().next();
                let required = action.unwrap_or(&parser).get_arguments().filter(|arg| arg.is_required_set());
                let value =
                    |arg: &clap::Arg| arg.get_possible_values().first().map(|value| value.get_name().to_owned());
                let values: Vec<_> = required.map(|arg| value(arg).unwrap_or_else(|| "x".to_owned())).collect();
                let words = core::iter::once(word).chain(action.map(clap::Command::get_name));
                let typed: Vec<_> = words.chain(values.iter().map(String::as_str)).collect();
                assert_eq!(parse(&typed).0, command.name);
                assert!(core::ptr::eq(find(COMMANDS, word).unwrap(), command), "{word} is a word of two commands");
            }
        }
    }

    #[test]
    fn options_stand_before_or_after_names() {
        for typed in [&["get", "-f", "-o", "out", "a", "b"][..], &["get", "a", "-fo", "out", "b"]] {
            let fields = [r#"names: ["a", "b"]"#, r#"output: Some("out")"#, "force: true", "recursive: false"];
            assert!(has(typed, &fields) && has(typed, &["continue: false"]));
        }
    }

    #[test]
    fn a_dash_is_a_name_and_two_dashes_end_the_options() {
        assert!(has(&["put", "-", "-o", "x"], &[r#"files: ["-"]"#]));
        assert!(has(&["get", "x", "-o", "-"], &[r#"output: Some("-")"#]));
        assert!(has(&["rm", "--", "-x", "--json"], &[r#"names: ["-x", "--json"]"#]));
    }

    #[test]
    fn names_on_the_server_are_normalized_and_local_ones_are_not() {
        assert!(has(&["mv", "/a", "./b/"], &[r#"from: "a""#, r#"to: "b/""#]));
        assert!(has(&["put", "./x", "-o", "/y"], &[r#"files: ["./x"]"#, r#"output: Some("y")"#]));
    }

    #[test]
    fn a_usage_error_names_the_argument_and_what_it_must_be() {
        for (typed, expected) in [
            (&["get", "-j", "99", "x"][..], "invalid value '99' for '-j <N>': must be a whole number from 1 to 16"),
            (&["ping", "-n", "x"], "invalid value 'x' for '-n <COUNT>': must be a whole number, at least 1"),
            (
                &["ls", "--retries", "-1"],
                "invalid value '-1' for '--retries <COUNT>': must be a whole number, at least 0",
            ),
            (
                &["ls", "-z"],
                "no such option: -z (write -- before a name that begins with -); usage: ls [OPTIONS] [DIR|GLOB]...",
            ),
            (
                &["tail", "-n", "x", "f"],
                "invalid value 'x' for '-n <COUNT>': must be a number of lines, such as 10, or +10",
            ),
            (&["ls", "--jso"], "no such option: --jso; a similar option is --json"),
            (&["pwd", "x"], "unexpected argument: x; usage: pwd [OPTIONS]"),
            (&["get"], "<NAME>... is missing; usage: get <NAME>..."),
            (&["get", "x", "-o"], "-o <LOCAL> needs a value"),
            (&["config"], "which action? add, list, remove"),
            (&["completions", "x"], "invalid value 'x' for '<SHELL>': must be one of bash, zsh, fish"),
        ] {
            let line = usage_line(&Line::parse(COMMANDS, &Cwd::default(), &words(typed)).unwrap_err());
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn the_command_that_was_probably_meant_is_named() {
        for (typed, meant) in [
            ("gte", Some("get")),
            ("lss", Some("ls")),
            ("mdkir", Some("mkdir")),
            ("dicover", Some("discover")),
            ("frob", None),
            ("x", None),
            ("find", None),
        ] {
            let line = usage_line(&Line::parse(COMMANDS, &Cwd::default(), &words(&[typed, "x"])).unwrap_err());
            let meant = meant.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
            assert_eq!(line, format!("no such command '{typed}'{meant}"));
        }
    }

    #[test]
    fn flags_may_be_repeated_and_options_with_values_may_not() {
        assert!(has(
            &["get", "-r", "x", "-rf", "-q", "--json", "--quiet", "--json"],
            &["recursive: true", "force: true"]
        ));
        assert!(Line::parse(COMMANDS, &Cwd::default(), &words(&["get", "x", "-o", "a", "-o", "b"])).is_err());
    }

    #[test]
    fn no_error_about_a_number_is_a_text_of_a_library() {
        let parser = all(COMMANDS, Mode::OneShot);
        let actions = |command: &clap::Command| command.get_subcommands().cloned().collect::<Vec<_>>();
        for command in parser.get_subcommands().flat_map(|one| actions(one).into_iter().chain([one.clone()])) {
            for arg in command.get_opts().filter(|arg| arg.get_action().takes_values()) {
                let option =
                    arg.get_long().map_or_else(|| format!("-{}", arg.get_short().unwrap()), |long| format!("--{long}"));
                let typed = words(&[command.get_name(), &option, "99999999999999999999999"]);
                let Err(error) = command.clone().try_get_matches_from(typed) else { continue };
                let line = usage_line(&error);
                for text in ["digit", "too large", "not in", "target type"] {
                    assert!(!line.contains(text), "{} {option}: {line}", command.get_name());
                }
            }
        }
    }

    #[test]
    fn ls_and_df_take_h_for_human_sizes() {
        assert!(has(&["ls", "-lh", "logs"], &["long: true", "human: true"]));
        assert!(has(&["df", "-h"], &["human: true"]));
    }

    #[test]
    #[cfg(unix)]
    fn local_files_need_not_be_text() {
        use std::os::unix::ffi::OsStrExt;
        let word = std::ffi::OsStr::from_bytes(b"\xff").to_owned();
        let line = Line::parse(COMMANDS, &Cwd::default(), &["put".into(), word.clone()]).unwrap();
        assert!(format!("{:?}", line.action).contains(&format!("files: [{word:?}]")));
        assert!(Line::parse(COMMANDS, &Cwd::default(), &["get".into(), word]).is_err());
    }

    #[test]
    fn the_list_shows_how_each_command_is_called() {
        let list = list(COMMANDS);
        for line in [
            "  ls [-l] [-h] [-R] [DIR|GLOB]...    List files on the server",
            "  get [-o LOCAL] [-f] [-c] [-r] [-j N] [--limit-rate RATE] NAME...\n                                     Download files",
            "  put [-o NAME] [-f] [-c] [-r] [-n] [--limit-rate RATE] [--no-crc] LOCAL...\n",
            "  mv FROM TO                         Rename",
            "  ping [-n COUNT] ",
            "  lcd [DIR] ",
            "  quit, exit                         End the session",
        ] {
            assert!(list.contains(line), "{line} in\n{list}");
        }
        assert_eq!(
            list.lines().map(|line| line.starts_with("   ")).filter(|continued| !continued).count(),
            1 + COMMANDS.len()
        );
        assert!(list.lines().all(|line| line.len() <= 100), "{list}");
    }

    #[test]
    fn every_command_has_help() {
        for command in COMMANDS {
            for word in command.words() {
                let text = about(COMMANDS, [word], Mode::OneShot).unwrap();
                assert!(text.contains(&format!("Usage: {}", command.name)), "{text}");
                assert!(text.contains(command.summary), "{text}");
            }
        }
        assert!(about(COMMANDS, ["frob"], Mode::OneShot).is_none());
    }

    #[test]
    fn help_at_the_prompt_offers_nothing_that_the_prompt_does_not_take() {
        for command in COMMANDS {
            let text = about(COMMANDS, [command.name], Mode::Prompt).unwrap();
            // What `cat` does has nothing to do with where its names come from.
            let text = text.replace("DIR|GLOB", "").replace(command.summary, "");
            for refused in ["--idle", "--retries", "--connect-timeout", "--key", "|", "standard input", "put - "] {
                assert!(!text.contains(refused), "{}: {refused} in {text}", command.name);
            }
            assert!(text.contains("--json") && !text.contains("skiff "), "{text}");
        }
        assert!(about(COMMANDS, ["get"], Mode::OneShot).unwrap().contains("--retries"));
        assert!(about(COMMANDS, ["put"], Mode::OneShot).unwrap().contains("standard input"));
    }
}
