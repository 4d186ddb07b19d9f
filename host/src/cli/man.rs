//! `man`: the manual page, made from the table of commands.

use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::command::{Definition, Here, Local, NoArgs};
use super::failure::Failure;
use super::mode::Mode;
use super::parse::call;
use crate::manual::{page_with, rendered};

/// `man`
pub(crate) struct ManPage;

impl Definition for ManPage {
    type Args = NoArgs;

    const NAME: &'static str = "man";
    const SUMMARY: &'static str = "Print the manual page: host-cli man | man -l -";
    const STANDALONE: bool = true;
}

impl Local for ManPage {
    fn run(here: &mut Here<'_>, _: Self::Args) -> Result<(), Failure> {
        let mut sections = Roff::new().control("SH", ["COMMANDS"]).render();
        for command in here.commands {
            let parser = command.parser(Mode::OneShot);
            section(&mut sections, &call(command), &parser);
            for action in parser.get_subcommands() {
                section(&mut sections, &format!("{} {}", command.name, action.get_name()), action);
            }
        }
        here.output.text(&page_with((here.program)(), &sections));
        Ok(())
    }
}

/// Appends the part about one command: how it is called, what it does, its options and arguments.
fn section(page: &mut String, call: &str, command: &clap::Command) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    page.push_str(&Roff::new().control("SS", [call]).text([roman(about)]).render());
    let man = Man::new(command.clone().disable_help_flag(true).disable_help_subcommand(true));
    let options = rendered(|out| man.render_options_section(out));
    // Without its heading and what stands before it.
    let body = options.split_once("\n.SH").and_then(|(_, section)| section.split_once('\n'));
    page.push_str(body.map_or("", |(_, body)| body));
}
