//! `help`, about all commands or one.

use clap::CommandFactory;

use super::args::{COMMANDS, Line, help_text};
use super::command::Help;
use super::failure::Failure;
use super::output::Output;

/// Carries out `help [COMMAND]`.
pub(crate) fn help(output: &mut Output, args: &Help) {
    match &args.command {
        None => output.text(&format!("{COMMANDS}\n\n`help COMMAND` or `COMMAND --help` says more of one.")),
        Some(verb) => match about(verb) {
            Some(text) => output.text(&text),
            None => {
                let failure = Failure::usage("no such command; `help` lists them");
                output.failure(Some("help"), &Failure { subject: Some(verb.clone()), ..failure });
            }
        },
    }
}

/// The help of one command, as `COMMAND --help` prints it.
pub(super) fn about(verb: &str) -> Option<String> {
    let mut root = Line::command();
    root.build();
    root.find_subcommand_mut(verb).map(|command| help_text(&command.render_help()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command::VERBS;
    use crate::cli::output::testing::output;

    #[test]
    fn every_command_has_help() {
        for verb in VERBS {
            let text = about(verb).unwrap();
            let called = if *verb == "exit" { "quit" } else { verb };
            assert!(text.contains(&format!("Usage: {called}")), "{text}");
            assert!(*verb == "exit" || COMMANDS.contains(verb), "{verb} is in the list");
        }
        assert!(about("frob").is_none());
    }

    #[test]
    fn help_without_a_command_lists_them() {
        let (mut to, out, err) = output(false);
        help(&mut to, &Help { command: None });
        assert!(out.take().contains("get NAME... [-o LOCAL]"));
        help(&mut to, &Help { command: Some("frob".to_owned()) });
        assert_eq!(err.take(), "host-cli: help frob: no such command; `help` lists them\n");
    }
}
