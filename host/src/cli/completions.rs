//! `completions`: scripts that make a shell complete command lines of host-cli.
//!
//! A script contains no commands or options. It asks host-cli for the candidates ([`shell`](super::shell)).

use clap::{Args, ValueEnum};

use super::command::{Definition, Here, Local};
use super::failure::Failure;

/// `completions`
pub(crate) struct Completions;

impl Definition for Completions {
    type Args = CompletionsArgs;

    const NAME: &'static str = "completions";
    const SUMMARY: &'static str = "Print the completion script of a shell";
    const STANDALONE: bool = true;
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    /// source <(host-cli completions bash)
    Bash,
    /// source <(host-cli completions zsh), after compinit; or a file _host-cli in a directory of fpath
    Zsh,
    /// host-cli completions fish | source
    Fish,
}

impl Local for Completions {
    fn run(here: &mut Here<'_>, args: Self::Args) -> Result<(), Failure> {
        here.output.text(match args.shell {
            Shell::Bash => include_str!("completions/host-cli.bash"),
            Shell::Zsh => include_str!("completions/host-cli.zsh"),
            Shell::Fish => include_str!("completions/host-cli.fish"),
        });
        Ok(())
    }
}
