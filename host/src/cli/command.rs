//! Commands. Each has one definition, next to the code that executes it; parser, help, completion, man page and session
//! use that definition.
//!
//! To add a command, implement [`Definition`] and [`Remote`] or [`Local`] for a type and add it to the table
//! [`COMMANDS`](super::commands::COMMANDS).

use core::fmt::Debug;
use core::future::Future;
use core::pin::Pin;
use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches as _};

use super::context::Context;
use super::failure::Failure;
use super::mode::{Mode, Next};
use super::output::{Outcome, Output};

/// What the help and the command line show.
pub(crate) trait Definition: 'static {
    /// Options and arguments, as clap parses them.
    type Args: Args + Debug;

    /// Its name, also in messages.
    const NAME: &'static str;

    /// Another name.
    const ALIAS: Option<&'static str> = None;

    /// Names that the command has in other programs. Help and completion don't show them.
    const HABITS: &'static [&'static str] = &[];

    /// Short options of other programs for what the command does anyway. Help and completion don't show them.
    const NEEDLESS: &'static [&'static str] = &[];

    /// The option that `-NUMBER` stands for: `-5` is `-n5`.
    const NUMBER: Option<char> = None;

    /// What it does, in one line.
    const SUMMARY: &'static str;

    /// True if `host-cli COMMAND ...` works without a server.
    const STANDALONE: bool = false;

    /// The outcome if something fails.
    const FAILED: Outcome = Outcome::Failed;

    /// Adapts its help to where it is used.
    fn describe(parser: clap::Command, _mode: Mode) -> clap::Command {
        parser
    }
}

/// A command that uses the server.
pub(crate) trait Remote: Definition {
    /// True if Ctrl-C must not end the program before the command has cleaned up.
    const CLEANS_UP: bool = false;

    /// Runs before the connection is made and before Ctrl-C is handled.
    ///
    /// # Errors
    /// The command is not possible here.
    fn prepare(_args: &mut Self::Args, _mode: Mode) -> Result<(), Failure> {
        Ok(())
    }

    /// Executes the command.
    ///
    /// # Errors
    /// Errors of the whole command; errors of single names have been reported.
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure>;
}

/// A command that does not use the server.
pub(crate) trait Local: Definition {
    /// Executes the command.
    ///
    /// # Errors
    /// What went wrong.
    fn run(here: &mut Here<'_>, args: Self::Args) -> Result<(), Failure>;
}

/// The environment of a [`Local`] command.
pub(crate) struct Here<'a> {
    /// Where results and errors go.
    pub(crate) output: &'a mut Output,
    /// Where it was entered.
    pub(crate) mode: Mode,
    /// All commands.
    pub(crate) commands: &'static [Command],
    /// The program, for its manual page.
    pub(crate) program: fn() -> clap::Command,
    /// What to do next.
    pub(crate) next: Next,
}

/// Arguments of a command that has none.
#[derive(Debug, Default, Args)]
pub(crate) struct NoArgs {}

/// A [`Definition`] as a value.
pub(crate) struct Command {
    /// [`Definition::NAME`]
    pub(crate) name: &'static str,
    /// [`Definition::ALIAS`]
    pub(crate) alias: Option<&'static str>,
    habits: &'static [&'static str],
    needless: &'static [&'static str],
    number: Option<char>,
    /// [`Definition::SUMMARY`]
    pub(crate) summary: &'static str,
    /// [`Definition::STANDALONE`]
    pub(crate) standalone: bool,
    /// [`Definition::FAILED`]
    pub(crate) failed: Outcome,
    augment: fn(clap::Command) -> clap::Command,
    describe: fn(clap::Command, Mode) -> clap::Command,
    read: fn(&ArgMatches) -> Result<Action, clap::Error>,
}

impl Command {
    /// A command that uses the server.
    pub(crate) const fn remote<C: Remote>() -> Self {
        Self::new::<C>(|matches| Ok(Action::Remote(Box::new(Parsed::<C>::read(matches)?))))
    }

    /// A command that does not use the server.
    pub(crate) const fn local<C: Local>() -> Self {
        Self::new::<C>(|matches| Ok(Action::Local(Box::new(Parsed::<C>::read(matches)?))))
    }

    const fn new<C: Definition>(read: fn(&ArgMatches) -> Result<Action, clap::Error>) -> Self {
        Self {
            name: C::NAME,
            alias: C::ALIAS,
            habits: C::HABITS,
            needless: C::NEEDLESS,
            number: C::NUMBER,
            summary: C::SUMMARY,
            standalone: C::STANDALONE,
            failed: C::FAILED,
            augment: C::Args::augment_args,
            describe: C::describe,
            read,
        }
    }

    /// Its names, as help shows them.
    pub(crate) fn words(&self) -> impl Iterator<Item = &'static str> + use<> {
        core::iter::once(self.name).chain(self.alias)
    }

    /// True if `word` is one of its names.
    pub(crate) fn is_called(&self, word: &str) -> bool {
        self.name == word || self.alias == Some(word) || self.habits.contains(&word)
    }

    /// Its parser.
    pub(crate) fn parser(&self, mode: Mode) -> clap::Command {
        let needless =
            |option: &'static str| Arg::new(option).short(option.chars().next()).action(ArgAction::SetTrue).hide(true);
        let parser = (self.augment)(clap::Command::new(self.name)).args(self.needless.iter().copied().map(needless));
        let parser = parser.about(self.summary).aliases(self.alias).aliases(self.habits);
        (self.describe)(repeatable(parser), mode)
    }

    /// `words` with each `-NUMBER` replaced by the option that it stands for; `None` if there is no `-NUMBER`.
    pub(crate) fn with_number(&self, words: &[OsString]) -> Option<Vec<OsString>> {
        let option = self.number?;
        let number = |word: &OsString| {
            let digits = word.to_str()?.strip_prefix('-')?;
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| format!("-{option}{digits}").into())
        };
        let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
        let replaced =
            words.iter().enumerate().map(|(at, word)| number(word).filter(|_| at < end).unwrap_or(word.clone()));
        words[..end].iter().any(|word| number(word).is_some()).then(|| replaced.collect())
    }

    /// The command with these arguments.
    pub(crate) fn action(&self, matches: &ArgMatches) -> Result<Action, clap::Error> {
        (self.read)(matches)
    }
}

/// Lets the flags of `parser` be repeated.
fn repeatable(parser: clap::Command) -> clap::Command {
    parser.mut_args(|arg| match arg.get_action() {
        ArgAction::SetTrue => {
            let id = arg.get_id().clone();
            arg.overrides_with(id)
        }
        _ => arg,
    })
}

impl Debug for Command {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name)
    }
}

/// A command with its arguments, ready to run.
#[derive(Debug)]
pub(crate) enum Action {
    /// With the server.
    Remote(Box<dyn RunRemote>),
    /// Without it.
    Local(Box<dyn RunLocal>),
}

impl Action {
    /// [`Remote::prepare`]
    pub(crate) fn prepare(&mut self, mode: Mode) -> Result<(), Failure> {
        match self {
            Self::Remote(action) => action.prepare(mode),
            Self::Local(_) => Ok(()),
        }
    }
}

/// A [`Remote`] command with its arguments.
pub(crate) trait RunRemote: Debug {
    /// [`Remote::prepare`]
    fn prepare(&mut self, mode: Mode) -> Result<(), Failure>;

    /// [`Remote::CLEANS_UP`]
    fn cleans_up(&self) -> bool;

    /// [`Remote::run`]
    fn run<'a>(self: Box<Self>, context: &'a mut Context<'_>) -> Running<'a>;
}

/// A running command.
type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

/// A [`Local`] command with its arguments.
pub(crate) trait RunLocal: Debug {
    /// [`Local::run`]
    fn run(self: Box<Self>, here: &mut Here<'_>) -> Result<(), Failure>;
}

struct Parsed<C: Definition>(C::Args);

impl<C: Definition> Parsed<C> {
    fn read(matches: &ArgMatches) -> Result<Self, clap::Error> {
        C::Args::from_arg_matches(matches).map(Self)
    }
}

impl<C: Definition> Debug for Parsed<C> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

impl<C: Remote> RunRemote for Parsed<C> {
    fn prepare(&mut self, mode: Mode) -> Result<(), Failure> {
        C::prepare(&mut self.0, mode)
    }

    fn cleans_up(&self) -> bool {
        C::CLEANS_UP
    }

    fn run<'a>(self: Box<Self>, context: &'a mut Context<'_>) -> Running<'a> {
        Box::pin(C::run(context, self.0))
    }
}

impl<C: Local> RunLocal for Parsed<C> {
    fn run(self: Box<Self>, here: &mut Here<'_>) -> Result<(), Failure> {
        C::run(here, self.0)
    }
}
