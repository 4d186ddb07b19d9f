//! `help`, about all commands or one.

use clap::CommandFactory;

use super::args::{COMMANDS, Line, help_text};
use super::command::{GET_EXAMPLES, Help, PUT_EXAMPLES};
use super::failure::Failure;
use super::output::Output;
use super::session::Mode;

/// Carries out `help [COMMAND]`.
pub(crate) fn help(output: &mut Output, mode: Mode, args: &Help) {
    match &args.command {
        None => output.text(&format!("{COMMANDS}\n\n`help COMMAND` or `COMMAND --help` describes one command.")),
        Some(verb) => match about(verb, mode) {
            Some(text) => output.text(&text),
            None => {
                let failure = Failure::usage("no such command; `help` lists them");
                output.failure(Some("help"), &Failure { subject: Some(verb.clone()), ..failure });
            }
        },
    }
}

/// The help of one command, as `COMMAND --help` prints it.
pub(super) fn about(verb: &str, mode: Mode) -> Option<String> {
    parser(mode).find_subcommand_mut(verb).map(|command| help_text(&command.render_help()))
}

/// The parser of commands; its help omits what this mode does not accept.
pub(super) fn parser(mode: Mode) -> clap::Command {
    let mut root = Line::command();
    if mode != Mode::OneShot {
        for setting in ["connect_timeout", "idle", "retries"] {
            root = root.mut_arg(setting, |arg| arg.hide(true));
        }
        root = root.mut_subcommand("put", |put| {
            let files = "Files or globs; with -r, directories too";
            put.after_help(PUT_EXAMPLES).mut_arg("files", |arg| arg.help(files))
        });
        root = root.mut_subcommand("get", |get| get.after_help(GET_EXAMPLES));
    }
    root.build();
    root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command::VERBS;
    use crate::cli::output::testing::output;

    #[test]
    fn every_command_has_help() {
        for verb in VERBS {
            let text = about(verb, Mode::OneShot).unwrap();
            let called = if *verb == "exit" { "quit" } else { verb };
            assert!(text.contains(&format!("Usage: {called}")), "{text}");
            assert!(*verb == "exit" || COMMANDS.contains(verb), "{verb} is in the list");
        }
        assert!(about("frob", Mode::OneShot).is_none());
    }

    #[test]
    fn help_at_the_prompt_offers_nothing_that_the_prompt_does_not_take() {
        for verb in VERBS {
            let text = about(verb, Mode::Prompt).unwrap();
            for refused in ["--idle", "--retries", "--connect-timeout", "|", "standard input", "put - "] {
                assert!(!text.replace("DIR|GLOB", "").contains(refused), "{verb}: {refused} in {text}");
            }
            assert!(text.contains("--json") && !text.contains("skiff "), "{text}");
        }
        assert!(about("get", Mode::OneShot).unwrap().contains("--retries"));
        for option in ["-j N", "--no-crc"] {
            assert!(COMMANDS.contains(option), "{option}");
        }
    }

    #[test]
    fn help_without_a_command_lists_them() {
        let (mut to, out, err) = output(false);
        help(&mut to, Mode::Prompt, &Help { command: None });
        assert!(out.take().contains("get NAME... [-o LOCAL]"));
        help(&mut to, Mode::Prompt, &Help { command: Some("frob".to_owned()) });
        assert_eq!(err.take(), "host-cli: help frob: no such command; `help` lists them\n");
    }
}
