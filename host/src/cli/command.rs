//! What a command is. Its definition stands in one place, beside the code that carries it out; parser, help, completion
//! and session take what they need from there.
//!
//! To add a command, write a type that implements [`Definition`] and [`Remote`] or [`Local`], and put it into the table
//! [`COMMANDS`](super::commands::COMMANDS).

use core::fmt::Debug;
use core::future::Future;
use core::pin::Pin;

use clap::{ArgMatches, Args, FromArgMatches as _};

use super::context::{Context, Mode, Next};
use super::failure::Failure;
use super::output::Output;

/// What stands in the help and on the command line.
pub(crate) trait Definition: 'static {
    /// Options and arguments, as clap parses them.
    type Args: Args + Debug;

    /// The word it is called by: what stands in messages.
    const NAME: &'static str;

    /// Another word for it.
    const ALIAS: Option<&'static str> = None;

    /// What it does, in one line.
    const SUMMARY: &'static str;

    /// What its arguments name.
    const ARGUMENTS: Offer = Offer::Nothing;

    /// What follows its `-o`; `Nothing` if it has none.
    const OUTPUT: Offer = Offer::Nothing;

    /// True if `host-cli COMMAND ...` works without HOST PORT.
    const STANDALONE: bool = false;

    /// Adapts its help to where it is typed.
    fn describe(parser: clap::Command, _mode: Mode) -> clap::Command {
        parser
    }
}

/// A command that needs the server.
pub(crate) trait Remote: Definition {
    /// Runs before a server is made to wait, and before Ctrl-C is listened for.
    ///
    /// # Errors
    /// The command can't be carried out here.
    fn prepare(_args: &mut Self::Args, _mode: Mode) -> Result<(), Failure> {
        Ok(())
    }

    /// Carries it out.
    ///
    /// # Errors
    /// What concerns the whole command; what concerns one of its names has been reported.
    async fn run(context: &mut Context<'_>, args: Self::Args) -> Result<(), Failure>;
}

/// A command that does not.
pub(crate) trait Local: Definition {
    /// Carries it out.
    ///
    /// # Errors
    /// What went wrong.
    fn run(here: &mut Here<'_>, args: Self::Args) -> Result<(), Failure>;
}

/// What a [`Local`] command works with.
pub(crate) struct Here<'a> {
    /// Where results and errors go.
    pub(crate) output: &'a mut Output,
    /// Where it was typed.
    pub(crate) mode: Mode,
    /// All commands.
    pub(crate) commands: &'static [Command],
    /// What comes after it.
    pub(crate) next: Next,
}

/// What completion offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Names on the server.
    Remote,
    /// Local files.
    Local,
    /// Commands.
    Command,
    /// Nothing.
    Nothing,
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
    /// [`Definition::SUMMARY`]
    pub(crate) summary: &'static str,
    /// [`Definition::STANDALONE`]
    pub(crate) standalone: bool,
    arguments: Offer,
    output: Offer,
    augment: fn(clap::Command) -> clap::Command,
    describe: fn(clap::Command, Mode) -> clap::Command,
    read: fn(&ArgMatches) -> Result<Action, clap::Error>,
}

impl Command {
    /// A command that needs the server.
    pub(crate) const fn remote<C: Remote>() -> Self {
        Self::new::<C>(|matches| Ok(Action::Remote(Box::new(Parsed::<C>::read(matches)?))))
    }

    /// A command that does not.
    pub(crate) const fn local<C: Local>() -> Self {
        Self::new::<C>(|matches| Ok(Action::Local(Box::new(Parsed::<C>::read(matches)?))))
    }

    const fn new<C: Definition>(read: fn(&ArgMatches) -> Result<Action, clap::Error>) -> Self {
        Self {
            name: C::NAME,
            alias: C::ALIAS,
            summary: C::SUMMARY,
            standalone: C::STANDALONE,
            arguments: C::ARGUMENTS,
            output: C::OUTPUT,
            augment: C::Args::augment_args,
            describe: C::describe,
            read,
        }
    }

    /// The words it is called by.
    pub(crate) fn words(&self) -> impl Iterator<Item = &'static str> + use<> {
        core::iter::once(self.name).chain(self.alias)
    }

    /// What its arguments name; with `after_output`, what follows its `-o`.
    pub(crate) fn offer(&self, after_output: bool) -> Offer {
        if after_output && self.output != Offer::Nothing { self.output } else { self.arguments }
    }

    /// Its parser.
    pub(crate) fn parser(&self, mode: Mode) -> clap::Command {
        let parser = (self.augment)(clap::Command::new(self.name)).about(self.summary).aliases(self.alias);
        (self.describe)(parser, mode)
    }

    /// The command with these arguments.
    pub(crate) fn action(&self, matches: &ArgMatches) -> Result<Action, clap::Error> {
        (self.read)(matches)
    }
}

impl Debug for Command {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name)
    }
}

/// A command with its arguments, to be carried out.
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

    /// [`Remote::run`]
    fn run<'a>(self: Box<Self>, context: &'a mut Context<'_>) -> Running<'a>;
}

/// A command that is being carried out.
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

    fn run<'a>(self: Box<Self>, context: &'a mut Context<'_>) -> Running<'a> {
        Box::pin(C::run(context, self.0))
    }
}

impl<C: Local> RunLocal for Parsed<C> {
    fn run(self: Box<Self>, here: &mut Here<'_>) -> Result<(), Failure> {
        C::run(here, self.0)
    }
}
