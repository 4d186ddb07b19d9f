//! `help`, about all commands or one.

use clap::{Args, ValueHint};

use super::command::{Definition, Here, Local};
use super::failure::Failure;
use super::parse::{about, list};

/// `help`
pub(crate) struct Help;

impl Definition for Help {
    type Args = HelpArgs;

    const NAME: &'static str = "help";
    const HABITS: &'static [&'static str] = &["?"];
    const SUMMARY: &'static str = "List the commands, or describe one";
    const STANDALONE: bool = true;
}

/// Arguments of `help`.
#[derive(Debug, Default, Args)]
pub(crate) struct HelpArgs {
    /// The command
    #[arg(value_name = "COMMAND", value_hint = ValueHint::CommandName)]
    pub(crate) command: Option<String>,
    /// One of its actions, such as `add` of `config`
    #[arg(value_name = "ACTION")]
    pub(crate) action: Option<String>,
}

impl Local for Help {
    fn run(here: &mut Here<'_>, args: Self::Args) -> Result<(), Failure> {
        let text = match &args.command {
            None => format!("{}\n\n`help COMMAND` or `COMMAND --help` describes one command.", list(here.commands)),
            Some(word) => about(here.commands, [word].into_iter().chain(&args.action).map(String::as_str), here.mode)
                .ok_or_else(|| {
                let failure = Failure::usage("no such command; `help` lists them");
                Failure { subject: Some(word.clone()), ..failure }
            })?,
        };
        here.output.text(&text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::COMMANDS;
    use crate::cli::mode::{Mode, Next};
    use crate::cli::output::testing::output;

    #[test]
    fn help_without_a_command_lists_them() {
        let (mut to, out, _) = output(false);
        let mut here = Here {
            output: &mut to,
            mode: Mode::Prompt,
            commands: COMMANDS,
            program: crate::cli::args::program,
            next: Next::Command,
        };
        Help::run(&mut here, HelpArgs::default()).unwrap();
        assert!(out.take().contains("get [-o LOCAL]"));
        let failure = Help::run(&mut here, HelpArgs { command: Some("frob".to_owned()), action: None }).unwrap_err();
        let text = here.output.failure_text(Some("help"), &failure);
        assert_eq!(text, "host-cli: help frob: no such command; `help` lists them");
    }
}
