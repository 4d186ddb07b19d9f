//! The three modes: one-shot, prompt, script.

/// Where commands come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The command line, which has one command.
    OneShot,
    /// The command line, with one command that runs on several servers.
    Many,
    /// Standard input that is not a terminal.
    Script,
    /// A person at a terminal.
    Prompt,
}

/// What to do after a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Read another command.
    Command,
    /// End the session.
    Quit,
}
