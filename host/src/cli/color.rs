//! Colors: which output has them, and what is highlighted.

use core::ops::Range;
use std::env;
use std::io::{self, IsTerminal as _};

use clap::ColorChoice;
use clap::builder::styling::{AnsiColor, Style};

use super::json::Object;

/// The prefix of an error.
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
/// The prefix of a report of something left out.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// A directory in a listing.
pub(crate) const DIRECTORY: Style = AnsiColor::Blue.on_default().bold();
/// A command that stores or creates something.
const MAKES: Style = AnsiColor::Green.on_default();
/// A command that removes something.
const REMOVES: Style = AnsiColor::Red.on_default();

/// Which of standard output and standard error have colors.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Colors {
    pub(crate) out: bool,
    pub(crate) err: bool,
}

impl Colors {
    /// Those of the process. By default, a terminal has colors, unless NO_COLOR is set.
    pub(crate) fn of_process(choice: Option<ColorChoice>) -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let are_shown = |is_terminal| match choice.unwrap_or_default() {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                is_terminal && !is_set("NO_COLOR") && env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        };
        Self { out: are_shown(io::stdout().is_terminal()), err: are_shown(io::stderr().is_terminal()) }
    }
}

/// A part of a line, and how it is highlighted.
pub(crate) type Highlight = (Range<usize>, Style);

/// The command at the start of `line`, if it changes something: `put x: ...`, `would rm x`.
pub(crate) fn verb(object: &Object<'_>, line: &str) -> Option<Highlight> {
    let (verb, style) = match object {
        Object::Put { .. } => ("put", MAKES),
        Object::Get { .. } => ("get", MAKES),
        Object::Done { command, .. } | Object::Would { command, .. } => match *command {
            "rm" | "rmdir" => (*command, REMOVES),
            "put" | "get" | "mkdir" | "mv" | "cp" => (*command, MAKES),
            _ => return None,
        },
        _ => return None,
    };
    let start = if line.starts_with("would ") { "would ".len() } else { 0 };
    line.get(start..)?.starts_with(verb).then(|| (start..start + verb.len(), style))
}
